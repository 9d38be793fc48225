-- Reviews as they turned out to be needed; the table of the first migration was never written to.
DROP TABLE review;
CREATE TABLE review (
    seq INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    project INTEGER NOT NULL REFERENCES project (id),
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    -- What it is to be replaced by, or was compared with.
    other INTEGER REFERENCES memory (seq) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('open', 'approved', 'rejected', 'dismissed', 'undone')),
    proposal TEXT NOT NULL CHECK (json_valid(proposal)),
    actor TEXT NOT NULL,
    reason TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    decided_by TEXT,
    decided_at INTEGER,
    decision_reason TEXT,
    -- The version of the memory that the approval made.
    applied_version INTEGER
) STRICT;
CREATE INDEX review_by_state ON review (project, state, seq);
CREATE INDEX review_by_memory ON review (memory);
CREATE INDEX review_by_other ON review (other) WHERE other IS NOT NULL;

-- A look back reads what changed since; most memories never change.
CREATE INDEX memory_changed ON memory (project, updated_at) WHERE updated_at > created_at;
-- What a memory replaced.
CREATE INDEX memory_successor ON memory (superseded_by) WHERE superseded_by IS NOT NULL;
