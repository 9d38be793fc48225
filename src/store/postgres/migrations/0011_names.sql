-- Columns that nothing reads, and that SQLite does not have.

ALTER TABLE entity DROP COLUMN id;
ALTER TABLE relation DROP COLUMN id;
ALTER TABLE focus DROP COLUMN metadata;
ALTER TABLE focus_archive DROP COLUMN metadata;
ALTER TABLE index_job DROP COLUMN created_at;
