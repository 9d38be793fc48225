-- What a purge must find, and what it must leave.

-- An item that is a memory's text goes when that is purged, also while it is in mind.
ALTER TABLE focus ADD COLUMN memory INTEGER REFERENCES memory (seq) ON DELETE CASCADE;
CREATE INDEX focus_by_memory ON focus (memory) WHERE memory IS NOT NULL;
-- So do items with the same text that nobody linked.
CREATE INDEX focus_by_text ON focus (project, length(content));
CREATE INDEX focus_archive_by_text ON focus_archive (project, length(content));

-- A review outlives the other memory: an approved one is the owner's word, and can still be undone.
CREATE TABLE review_kept (
    seq INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    project INTEGER NOT NULL REFERENCES project (id),
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    -- What it is to be replaced by, or was compared with; null once that is purged.
    other INTEGER REFERENCES memory (seq) ON DELETE SET NULL,
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
INSERT INTO review_kept SELECT seq, id, project, memory, other, state, proposal, actor, reason, created_at, expires_at,
    decided_by, decided_at, decision_reason, applied_version FROM review;
DROP TABLE review;
ALTER TABLE review_kept RENAME TO review;
CREATE INDEX review_by_state ON review (project, state, seq);
CREATE INDEX review_by_memory ON review (memory);
CREATE INDEX review_by_other ON review (other) WHERE other IS NOT NULL;
-- Those that wait, without those that waited too long.
CREATE INDEX review_open ON review (project, expires_at) WHERE state = 'open';
