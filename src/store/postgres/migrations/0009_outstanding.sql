-- What a conversation begins with: memories that are protected or important, of which there are few.
CREATE INDEX memory_outstanding ON memory (project_id, protected DESC, importance DESC, seq DESC)
    WHERE deleted_at IS NULL AND superseded_by IS NULL AND (protected OR importance >= 0.7);
