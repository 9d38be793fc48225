-- Reviews as they turned out to be needed; the table of the first migration was never written to.
DROP TABLE review;
CREATE TABLE review (
    project_id integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id uuid NOT NULL CONSTRAINT review_id UNIQUE,
    memory_seq bigint NOT NULL,
    -- What it is to be replaced by, or was compared with.
    other_seq bigint,
    state text COLLATE "C" NOT NULL CHECK (state IN ('open', 'approved', 'rejected', 'dismissed', 'undone')),
    proposal jsonb NOT NULL,
    actor text NOT NULL,
    reason text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    decided_by text,
    decided_at timestamptz,
    decision_reason text,
    -- The version of the memory that the approval made.
    applied_version bigint,
    PRIMARY KEY (project_id, seq),
    FOREIGN KEY (project_id, memory_seq) REFERENCES memory ON DELETE CASCADE,
    FOREIGN KEY (project_id, other_seq) REFERENCES memory (project_id, seq) ON DELETE CASCADE
);
CREATE INDEX review_state ON review (project_id, state, seq);
CREATE INDEX review_memory ON review (project_id, memory_seq);
CREATE INDEX review_other ON review (project_id, other_seq) WHERE other_seq IS NOT NULL;

-- A look back reads what changed since; most memories never change.
CREATE INDEX memory_changed ON memory (project_id, updated_at) WHERE updated_at > created_at;
-- What a memory replaced.
CREATE INDEX memory_successor ON memory (superseded_by) WHERE superseded_by IS NOT NULL;
