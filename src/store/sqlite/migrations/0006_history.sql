-- The history counts towards a project's limit of bytes, and it and idempotency keys can expire.

ALTER TABLE project ADD COLUMN history_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE project SET history_bytes = (SELECT coalesce(sum(octet_length(h.old) + coalesce(octet_length(h.reason), 0)), 0)
    FROM history h JOIN memory m ON m.seq = h.memory WHERE m.project = project.id AND h.old IS NOT NULL);

-- Counted by triggers, as the memories are. A memory that is purged takes its history along: when the rows of the
-- history go, the memory is gone already, so its trigger subtracts for all of them.
CREATE TRIGGER history_inserted AFTER INSERT ON history WHEN NEW.old IS NOT NULL BEGIN
    UPDATE project SET history_bytes = history_bytes + octet_length(NEW.old) + coalesce(octet_length(NEW.reason), 0)
    WHERE id = (SELECT m.project FROM memory m WHERE m.seq = NEW.memory);
END;
CREATE TRIGGER history_deleted AFTER DELETE ON history WHEN OLD.old IS NOT NULL BEGIN
    UPDATE project SET history_bytes = history_bytes - octet_length(OLD.old) - coalesce(octet_length(OLD.reason), 0)
    WHERE id = (SELECT m.project FROM memory m WHERE m.seq = OLD.memory);
END;
CREATE TRIGGER memory_with_history_deleted BEFORE DELETE ON memory BEGIN
    UPDATE project SET history_bytes = history_bytes - (SELECT coalesce(sum(octet_length(h.old)
        + coalesce(octet_length(h.reason), 0)), 0) FROM history h WHERE h.memory = OLD.seq AND h.old IS NOT NULL)
    WHERE id = OLD.project;
END;

CREATE INDEX history_by_time ON history (at) WHERE old IS NOT NULL;
CREATE INDEX idempotency_by_time ON idempotency (created_at);
CREATE INDEX idempotency_by_project ON idempotency (project, created_at);
