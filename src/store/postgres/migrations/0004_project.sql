-- Tokens, what each project holds, and what row-level security needs; the policies themselves are made by the program
-- (row_security.rs), for the tables of later migrations, too.

CREATE TABLE token (
    name text COLLATE "C" PRIMARY KEY,
    -- Of the token itself, which is kept nowhere.
    sha256 bytea NOT NULL CONSTRAINT token_sha256 UNIQUE CHECK (octet_length(sha256) = 32),
    prefix text COLLATE "C" NOT NULL,
    project text COLLATE "C" NOT NULL,
    reads text[] COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

-- Counted by triggers, so that no way of writing can forget it; in shards, as `corpus` is. Deleted memories count
-- until they are purged.
CREATE TABLE usage (
    project_id integer NOT NULL,
    shard integer NOT NULL,
    memories bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (project_id, shard)
) WITH (fillfactor = 50);

CREATE FUNCTION memory_bytes(content text, situation text, lesson text, metadata jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT (octet_length(content) + coalesce(octet_length(situation), 0) + coalesce(octet_length(lesson), 0)
        + octet_length(metadata::text))::bigint
$$;

INSERT INTO usage (project_id, shard, memories, bytes)
SELECT m.project_id, 0, count(*), sum(memory_bytes(m.content, m.situation, m.lesson, m.metadata))
FROM memory m GROUP BY m.project_id;

CREATE FUNCTION memory_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage AS u (project_id, shard, memories, bytes)
    SELECT n.project_id, pg_backend_pid() % 16, count(*),
        sum(memory_bytes(n.content, n.situation, n.lesson, n.metadata))
    FROM inserted n GROUP BY n.project_id
    ON CONFLICT (project_id, shard) DO UPDATE
        SET memories = u.memories + excluded.memories, bytes = u.bytes + excluded.bytes;
    RETURN NULL;
END
$$;
CREATE TRIGGER memory_inserted AFTER INSERT ON memory REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION memory_inserted();

-- With the rights of the owner: what rests on a purged memory may be of a project that the caller does not write.
CREATE FUNCTION memory_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO usage AS u (project_id, shard, memories, bytes)
    SELECT o.project_id, pg_backend_pid() % 16, -count(*),
        -sum(memory_bytes(o.content, o.situation, o.lesson, o.metadata))
    FROM deleted o GROUP BY o.project_id
    ON CONFLICT (project_id, shard) DO UPDATE
        SET memories = u.memories + excluded.memories, bytes = u.bytes + excluded.bytes;
    DELETE FROM source s USING deleted o WHERE s.source_id = o.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER memory_deleted AFTER DELETE ON memory REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION memory_deleted();

CREATE FUNCTION memory_resized() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage AS u (project_id, shard, memories, bytes)
    VALUES (NEW.project_id, pg_backend_pid() % 16, 0,
        memory_bytes(NEW.content, NEW.situation, NEW.lesson, NEW.metadata)
        - memory_bytes(OLD.content, OLD.situation, OLD.lesson, OLD.metadata))
    ON CONFLICT (project_id, shard) DO UPDATE SET bytes = u.bytes + excluded.bytes;
    RETURN NULL;
END
$$;
CREATE TRIGGER memory_resized AFTER UPDATE OF content, situation, lesson, metadata ON memory FOR EACH ROW
    WHEN (memory_bytes(OLD.content, OLD.situation, OLD.lesson, OLD.metadata)
        <> memory_bytes(NEW.content, NEW.situation, NEW.lesson, NEW.metadata))
    EXECUTE FUNCTION memory_resized();

-- Memories with all of these tags, in the projects that the session reads. Under row-level security the planner keeps
-- off the index over tags, since its operator is not declared leakproof; in here the owner's rights hold.
CREATE FUNCTION memory_tagged(wanted text[]) RETURNS bigint[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT coalesce(array_agg(m.seq), '{}') FROM memory m
    WHERE m.tags @> wanted AND m.tags <> '{}' AND m.project_id = ANY (ARRAY(SELECT p.id FROM project p
        WHERE p.name = ANY (nullif(current_setting('memory.projects', true), '')::text[])))
$$;
