-- IDs are found by their first digits and by their last ones. The last are random, the first are a timestamp.

CREATE INDEX memory_by_id ON memory (project_id, id);
CREATE INDEX memory_by_tail ON memory (project_id, "right"(id::text, 8));
CREATE INDEX focus_by_tail ON focus (project_id, "right"(id::text, 8));
CREATE INDEX focus_archive_by_tail ON focus_archive (project_id, "right"(id::text, 8));
CREATE INDEX review_by_tail ON review (project_id, "right"(id::text, 8));

-- IDs of one sort with these last digits, in the projects that the session reads. Under row-level security the planner
-- keeps off these indexes, since their expression is not leakproof; in here the owner's rights hold.
CREATE FUNCTION ids_with_tail(sort text, tails text[]) RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    WITH readable AS MATERIALIZED (
        SELECT p.id FROM project p
        WHERE p.name = ANY (nullif(current_setting('memory.projects', true), '')::text[])
    )
    SELECT coalesce(array_agg(found.id), '{}') FROM (
        SELECT x.id FROM readable r JOIN memory x ON x.project_id = r.id
        WHERE sort = 'memory' AND "right"(x.id::text, 8) = ANY (tails)
        UNION ALL
        SELECT x.id FROM readable r JOIN focus x ON x.project_id = r.id
        WHERE sort = 'focus' AND "right"(x.id::text, 8) = ANY (tails)
        UNION ALL
        SELECT x.id FROM readable r JOIN focus_archive x ON x.project_id = r.id
        WHERE sort = 'focus' AND "right"(x.id::text, 8) = ANY (tails)
        UNION ALL
        SELECT x.id FROM readable r JOIN review x ON x.project_id = r.id
        WHERE sort = 'review' AND "right"(x.id::text, 8) = ANY (tails)
        LIMIT 10000
    ) found
$$;
