-- The history counts towards a project's limit of bytes, and it and idempotency keys can expire.

ALTER TABLE usage ADD COLUMN history_bytes bigint NOT NULL DEFAULT 0;

CREATE FUNCTION history_bytes(old jsonb, reason text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (octet_length(old::text) + coalesce(octet_length(reason), 0))::bigint
$$;

INSERT INTO usage AS u (project_id, shard, memories, bytes, history_bytes)
SELECT h.project_id, 0, 0, 0, sum(history_bytes(h.old, h.reason)) FROM history h GROUP BY h.project_id
ON CONFLICT (project_id, shard) DO UPDATE SET history_bytes = excluded.history_bytes;

CREATE FUNCTION history_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage AS u (project_id, shard, memories, bytes, history_bytes)
    SELECT n.project_id, pg_backend_pid() % 16, 0, 0, sum(history_bytes(n.old, n.reason))
    FROM inserted n GROUP BY n.project_id
    ON CONFLICT (project_id, shard) DO UPDATE SET history_bytes = u.history_bytes + excluded.history_bytes;
    RETURN NULL;
END
$$;
CREATE TRIGGER history_inserted AFTER INSERT ON history REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION history_inserted();

-- With the rights of the owner, as memory_deleted: a purge reaches the history by its foreign key.
CREATE FUNCTION history_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO usage AS u (project_id, shard, memories, bytes, history_bytes)
    SELECT o.project_id, pg_backend_pid() % 16, 0, 0, -sum(history_bytes(o.old, o.reason))
    FROM deleted o GROUP BY o.project_id
    ON CONFLICT (project_id, shard) DO UPDATE SET history_bytes = u.history_bytes + excluded.history_bytes;
    RETURN NULL;
END
$$;
CREATE TRIGGER history_deleted AFTER DELETE ON history REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION history_deleted();

CREATE INDEX history_time ON history (at);
CREATE INDEX idempotency_time ON idempotency (created_at);
CREATE INDEX idempotency_project_time ON idempotency (project_id, created_at);
