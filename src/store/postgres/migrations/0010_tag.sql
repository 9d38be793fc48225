-- Tags are compared without regard to case; the spelling of each memory stays as it is.

-- Where there is ICU, with its rules; the rules of a database with the locale C know no letters beyond ASCII.
DO $do$
DECLARE
    rules text := CASE WHEN EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu'
        AND collnamespace = 'pg_catalog'::regnamespace) THEN 'und-x-icu' ELSE 'default' END;
BEGIN
    EXECUTE format($body$
        CREATE FUNCTION fold_tags(tags text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
            SELECT coalesce(array_agg(lower(t.tag COLLATE %I) ORDER BY t.n), '{}')
            FROM unnest(tags) WITH ORDINALITY AS t(tag, n)
        $$
    $body$, rules);
END
$do$;

ALTER TABLE memory ADD COLUMN tag_keys text[] COLLATE "C" NOT NULL GENERATED ALWAYS AS (fold_tags(tags)) STORED;
CREATE INDEX memory_tag_keys ON memory USING gin (tag_keys) WHERE tag_keys <> '{}';
DROP INDEX memory_tags;

CREATE OR REPLACE FUNCTION memory_tagged(wanted text[]) RETURNS bigint[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT coalesce(array_agg(m.seq), '{}') FROM memory m
    WHERE m.tag_keys @> (SELECT fold_tags(wanted)) AND m.tag_keys <> '{}'
        AND m.project_id = ANY (ARRAY(SELECT p.id FROM project p
        WHERE p.name = ANY (nullif(current_setting('memory.projects', true), '')::text[])))
$$;
