-- Vectors in 16-bit numbers: half of the pages to read, and as good, since all have the length 1. Their indexes are over
-- the wide form; each model's is made anew when the service starts.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.oid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = 'embedding'::regclass AND c.relname LIKE 'embedding\_nearest\_%'
    LOOP
        EXECUTE 'DROP INDEX ' || name;
    END LOOP;
END
$$;
ALTER TABLE embedding ALTER COLUMN vector TYPE halfvec USING vector::halfvec;
ANALYZE embedding;
