-- Tokens, and what each project holds.

CREATE TABLE token (
    name TEXT NOT NULL PRIMARY KEY,
    -- Of the token itself, which is kept nowhere.
    sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    prefix TEXT NOT NULL,
    project TEXT NOT NULL,
    reads TEXT NOT NULL CHECK (json_valid(reads)),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

-- Counted by triggers, so that no way of writing can forget it. Deleted memories count until they are purged.
ALTER TABLE project ADD COLUMN memories INTEGER NOT NULL DEFAULT 0;
ALTER TABLE project ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE project SET memories = (SELECT count(*) FROM memory m WHERE m.project = project.id),
    bytes = (SELECT coalesce(sum(octet_length(m.content) + coalesce(octet_length(m.situation), 0)
        + coalesce(octet_length(m.lesson), 0) + octet_length(m.metadata)), 0) FROM memory m WHERE m.project = project.id);

CREATE TRIGGER memory_inserted AFTER INSERT ON memory BEGIN
    UPDATE project SET memories = memories + 1, bytes = bytes + octet_length(NEW.content)
        + coalesce(octet_length(NEW.situation), 0) + coalesce(octet_length(NEW.lesson), 0) + octet_length(NEW.metadata)
    WHERE id = NEW.project;
END;
CREATE TRIGGER memory_deleted AFTER DELETE ON memory BEGIN
    UPDATE project SET memories = memories - 1, bytes = bytes - octet_length(OLD.content)
        - coalesce(octet_length(OLD.situation), 0) - coalesce(octet_length(OLD.lesson), 0) - octet_length(OLD.metadata)
    WHERE id = OLD.project;
END;
CREATE TRIGGER memory_resized AFTER UPDATE OF content, situation, lesson, metadata ON memory
WHEN NEW.content <> OLD.content OR NEW.situation IS NOT OLD.situation OR NEW.lesson IS NOT OLD.lesson
    OR NEW.metadata <> OLD.metadata
BEGIN
    UPDATE project SET bytes = bytes + octet_length(NEW.content) - octet_length(OLD.content)
        + coalesce(octet_length(NEW.situation), 0) - coalesce(octet_length(OLD.situation), 0)
        + coalesce(octet_length(NEW.lesson), 0) - coalesce(octet_length(OLD.lesson), 0)
        + octet_length(NEW.metadata) - octet_length(OLD.metadata)
    WHERE id = NEW.project;
END;
