-- The names that PostgreSQL has: `project_id`, `seq` and `..._seq` for numbers, `..._id` for UUIDs. Renaming a column also
-- rewrites the indexes, triggers and foreign keys that name it.

ALTER TABLE memory RENAME COLUMN project TO project_id;
ALTER TABLE memory_tag RENAME COLUMN memory TO memory_seq;
ALTER TABLE history RENAME COLUMN memory TO memory_seq;
ALTER TABLE embedding RENAME COLUMN memory TO memory_seq;
ALTER TABLE idempotency RENAME COLUMN project TO project_id;
ALTER TABLE entity RENAME COLUMN id TO seq;
ALTER TABLE entity RENAME COLUMN project TO project_id;
ALTER TABLE relation RENAME COLUMN id TO seq;
ALTER TABLE relation RENAME COLUMN project TO project_id;
ALTER TABLE relation RENAME COLUMN source TO from_seq;
ALTER TABLE relation RENAME COLUMN target TO to_seq;
ALTER TABLE mention RENAME COLUMN memory TO memory_seq;
ALTER TABLE mention RENAME COLUMN entity TO entity_seq;
ALTER TABLE review RENAME COLUMN project TO project_id;
ALTER TABLE review RENAME COLUMN memory TO memory_seq;
ALTER TABLE review RENAME COLUMN other TO other_seq;
ALTER TABLE focus RENAME COLUMN project TO project_id;
ALTER TABLE focus_archive RENAME COLUMN project TO project_id;

-- Items of the working memory name their memory by its ID. The sequence numbers of the archive, by which it is read page by
-- page, stay as they are.
DROP INDEX focus_by_memory;
ALTER TABLE focus ADD COLUMN memory_id BLOB REFERENCES memory (id) ON DELETE CASCADE;
UPDATE focus SET memory_id = (SELECT m.id FROM memory m WHERE m.seq = focus.memory);
ALTER TABLE focus DROP COLUMN memory;
CREATE INDEX focus_by_memory ON focus (memory_id) WHERE memory_id IS NOT NULL;
DROP INDEX focus_archive_by_memory;
ALTER TABLE focus_archive ADD COLUMN memory_id BLOB REFERENCES memory (id) ON DELETE CASCADE;
UPDATE focus_archive SET memory_id = (SELECT m.id FROM memory m WHERE m.seq = focus_archive.memory);
ALTER TABLE focus_archive DROP COLUMN memory;
CREATE INDEX focus_archive_by_memory ON focus_archive (memory_id) WHERE memory_id IS NOT NULL;

-- So do the sources of a memory.
CREATE TABLE source_by_id (
    memory_seq INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    source_id BLOB NOT NULL REFERENCES memory (id) ON DELETE CASCADE,
    PRIMARY KEY (memory_seq, position)
) STRICT, WITHOUT ROWID;
INSERT INTO source_by_id SELECT s.memory, s.position, m.id FROM source s JOIN memory m ON m.seq = s.source;
DROP TABLE source;
ALTER TABLE source_by_id RENAME TO source;
CREATE INDEX source_by_source ON source (source_id);

-- There is one kind of job, and one process that does it.
CREATE TABLE index_job_of_memory (
    memory_seq INTEGER NOT NULL PRIMARY KEY REFERENCES memory (seq) ON DELETE CASCADE,
    project_id INTEGER NOT NULL REFERENCES project (id),
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    last_error TEXT
) STRICT;
INSERT INTO index_job_of_memory SELECT memory, project, attempts, not_before, last_error FROM index_job;
DROP TABLE index_job;
ALTER TABLE index_job_of_memory RENAME TO index_job;
CREATE INDEX index_job_by_project ON index_job (project_id);
