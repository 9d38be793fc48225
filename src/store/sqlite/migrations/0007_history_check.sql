-- Before 3.45 SQLite's json_valid(NULL) is 0, so `PRAGMA integrity_check` of an older sqlite3 reported every history
-- entry without an old state as damage. The condition alone changes, no row does, so the table need not be copied.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'old TEXT CHECK (json_valid(old))', 'old TEXT CHECK (old IS NULL OR json_valid(old))')
WHERE type = 'table' AND name = 'history';
PRAGMA writable_schema = RESET;
