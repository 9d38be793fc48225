-- What a purge must find, and what it must leave.

-- An item that is a memory's text goes when that is purged, also while it is in mind.
CREATE INDEX focus_memory ON focus (memory_id) WHERE memory_id IS NOT NULL;
-- So do items with the same text that nobody linked. Texts are too long for another kind of index.
CREATE INDEX focus_text ON focus USING hash (content);
CREATE INDEX focus_archive_text ON focus_archive USING hash (content);

-- A review outlives the other memory: an approved one is the owner's word, and can still be undone. The purge itself
-- empties the column; a foreign key can set one column of two to null from PostgreSQL 15 on only.
ALTER TABLE review DROP CONSTRAINT review_project_id_other_seq_fkey;
-- Those that wait, without those that waited too long.
CREATE INDEX review_open ON review (project_id, expires_at) WHERE state = 'open';
