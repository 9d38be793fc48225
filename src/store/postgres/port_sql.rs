//! SQL statements of [`super::port`]. A test prepares each one.

use crate::store::statement::statements;

statements! {
    /// Begins a transaction in which every later statement sees the same moment.
    BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    /// Removes the time limits, because the reader of the file may be slow.
    PATIENT = "SELECT set_config('idle_in_transaction_session_timeout', '0', true), \
        set_config('statement_timeout', '60s', true)";
    /// All projects.
    PROJECTS = "SELECT name FROM project ORDER BY name";
    /// The number of records of the projects.
    SIZE = "WITH here AS (SELECT id FROM project WHERE name = ANY ($1)) SELECT \
        (SELECT count(*) FROM memory WHERE project_id IN (SELECT id FROM here)) \
        + (SELECT count(*) FROM entity WHERE project_id IN (SELECT id FROM here)) \
        + (SELECT count(*) FROM relation WHERE project_id IN (SELECT id FROM here)) \
        + (SELECT count(*) FROM mention WHERE project_id IN (SELECT id FROM here)) \
        + (SELECT count(*) FROM focus WHERE project_id IN (SELECT id FROM here)) \
        + (SELECT count(*) FROM focus_archive WHERE project_id IN (SELECT id FROM here)) \
        + (SELECT count(*) FROM review WHERE project_id IN (SELECT id FROM here))";
    ENTITIES = "SELECT e.seq AS place, 0::bigint AS place2, e.seq, p.name AS project, e.name, e.type, \
        e.properties, e.use_count, e.last_used_at, e.created_at, e.updated_at FROM project p JOIN entity e ON e.project_id = p.id \
        WHERE p.name = ANY ($1) AND e.seq > $2 ORDER BY e.seq LIMIT $3";
    RELATIONS = "SELECT r.seq AS place, 0::bigint AS place2, r.seq, r.from_seq, r.to_seq, p.name AS project, \
        s.name AS source, s.type AS source_type, t.name AS target, t.type AS target_type, r.type, r.weight, r.properties, \
        r.use_count, r.last_used_at, r.valid_from, r.valid_to, r.created_at, r.updated_at \
        FROM project p JOIN relation r ON r.project_id = p.id \
        JOIN entity s ON s.project_id = p.id AND s.seq = r.from_seq JOIN entity t ON t.project_id = p.id AND t.seq = r.to_seq \
        WHERE p.name = ANY ($1) AND r.seq > $2 ORDER BY r.seq LIMIT $3";
    MENTIONS = "SELECT n.memory_seq AS place, n.entity_seq AS place2, p.name AS project, \
        m.id AS memory, e.name, e.type FROM project p JOIN mention n ON n.project_id = p.id \
        JOIN memory m ON m.project_id = p.id AND m.seq = n.memory_seq \
        JOIN entity e ON e.project_id = p.id AND e.seq = n.entity_seq \
        WHERE p.name = ANY ($1) AND (n.memory_seq, n.entity_seq) > ($2, $4) ORDER BY n.memory_seq, n.entity_seq LIMIT $3";
    FOCUS = "SELECT f.seq AS place, 0::bigint AS place2, f.seq, p.name AS project, f.id, f.session, \
        f.content, f.importance, f.created_at, f.touched_at, NULL::timestamptz AS archived_at, NULL::text AS reason, \
        f.memory_id \
        FROM project p JOIN focus f ON f.project_id = p.id WHERE p.name = ANY ($1) AND f.seq > $2 ORDER BY f.seq LIMIT $3";
    ARCHIVE = "SELECT f.seq AS place, 0::bigint AS place2, f.seq, p.name AS project, f.id, f.session, \
        f.content, f.importance, f.created_at, f.touched_at, f.archived_at, f.reason, f.memory_id \
        FROM project p JOIN focus_archive f ON f.project_id = p.id \
        WHERE p.name = ANY ($1) AND f.seq > $2 ORDER BY f.seq LIMIT $3";
    REVIEWS = "SELECT r.seq AS place, 0::bigint AS place2, p.name AS project, r.id, \
        m.id AS memory, r.state, r.proposal, r.actor, r.reason, r.created_at, r.expires_at, r.decided_by, r.decided_at, \
        r.decision_reason, r.applied_version FROM project p JOIN review r ON r.project_id = p.id \
        JOIN memory m ON m.project_id = r.project_id AND m.seq = r.memory_seq \
        WHERE p.name = ANY ($1) AND r.seq > $2 ORDER BY r.seq LIMIT $3";
    /// Bytes of the history of memories, except those that have only their creation.
    HISTORY_SIZES = "SELECT m.id, sum(octet_length(h.old::text))::bigint FROM memory m \
        JOIN history h ON h.project_id = m.project_id AND h.memory_seq = m.seq WHERE m.id = ANY ($1) GROUP BY m.id";
    /// The next entries ($3) of the history of a memory ($1) after a position ($2). The creation, which has no row of
    /// its own, is at position 1, and each change at its number plus one.
    HISTORY_AFTER = "SELECT * FROM (\
            SELECT m.id, 1::bigint AS version, 'created' AS change, NULL::jsonb AS old, m.created_by AS actor, \
                NULL::text AS reason, m.created_at AS at, 1::bigint AS place \
            FROM memory m WHERE m.id = $1 AND $2 < 1 \
            UNION ALL \
            SELECT m.id, h.version, h.change, h.old, h.actor, h.reason, h.at, h.seq + 1 \
            FROM memory m CROSS JOIN LATERAL (SELECT h.* FROM history h WHERE h.project_id = m.project_id \
                AND h.memory_seq = m.seq AND h.seq > $2 - 1 ORDER BY h.seq LIMIT $3) h WHERE m.id = $1\
        ) h ORDER BY h.place LIMIT $3";
    /// The creation of memories, then their changes.
    HISTORY = "SELECT * FROM (\
            SELECT m.id, 1::bigint AS version, 'created' AS change, NULL::jsonb AS old, m.created_by AS actor, \
                NULL::text AS reason, m.created_at AS at, 0::bigint AS seq \
            FROM memory m JOIN project p ON p.id = m.project_id WHERE p.name = ANY ($1) AND m.id = ANY ($2) \
            UNION ALL \
            SELECT m.id, h.version, h.change, h.old, h.actor, h.reason, h.at, h.seq \
            FROM memory m JOIN project p ON p.id = m.project_id \
            JOIN history h ON h.project_id = m.project_id AND h.memory_seq = m.seq \
            WHERE p.name = ANY ($1) AND m.id = ANY ($2)\
        ) h ORDER BY h.at, h.seq, h.id";
    /// The project and number of a memory.
    FIND_MEMORY = "SELECT p.name, m.seq FROM memory m JOIN project p ON p.id = m.project_id WHERE m.id = $1";
    INSERT_STATISTIC = "INSERT INTO recall_stat (project_id, memory_seq, recall_count, \
        last_recalled_at) SELECT p.id, $2, $3, $4 FROM project p WHERE p.name = $1";
    /// Inserts the sources that exist, in their order.
    INSERT_SOURCES = "INSERT INTO source (project_id, memory_seq, position, source_id) \
        SELECT p.id, $2, (row_number() OVER (ORDER BY i.n) - 1)::int, i.id \
        FROM project p, unnest($3::uuid[]) WITH ORDINALITY AS i(id, n) \
        WHERE p.name = $1 AND EXISTS (SELECT FROM memory m WHERE m.id = i.id)";
    INSERT_HISTORY = "INSERT INTO history (project_id, memory_seq, version, change, old, actor, \
        reason, at) SELECT p.id, $2, i.version, i.change, i.old, i.actor, i.reason, i.at FROM project p, \
        ROWS FROM (json_to_recordset($3::text::json) AS (version bigint, change text, old jsonb, actor text, reason text, \
            at timestamptz)) WITH ORDINALITY AS i(version, change, old, actor, reason, at, n) \
        WHERE p.name = $1 ORDER BY i.n";
    /// An entity by its normalized name.
    FIND_ENTITY = "SELECT e.seq FROM project p JOIN entity e ON e.project_id = p.id \
        WHERE p.name = $1 AND e.name_key = $2";
    INSERT_ENTITY = "INSERT INTO entity (project_id, name, name_key, words, type, properties, \
        use_count, last_used_at, created_at, updated_at) SELECT p.id, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9, $10 \
        FROM project p WHERE p.name = $1";
    /// Inserts a relation and returns a row, unless an equal relation of the same time exists.
    INSERT_RELATION = "INSERT INTO relation (project_id, from_seq, to_seq, type, weight, \
        properties, use_count, last_used_at, valid_from, valid_to, created_at, updated_at) \
        SELECT p.id, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9::timestamptz, $10, $11, $12 FROM project p WHERE p.name = $1 \
        AND NOT EXISTS (SELECT FROM relation r WHERE r.project_id = p.id AND r.from_seq = $2 AND r.to_seq = $3 \
            AND r.type = $4 AND r.valid_from IS NOT DISTINCT FROM $9::timestamptz)";
    INSERT_MENTION = "INSERT INTO mention (project_id, memory_seq, entity_seq) \
        SELECT p.id, $2, $3 FROM project p WHERE p.name = $1 ON CONFLICT DO NOTHING";
    /// Inserts an item and returns a row, unless it exists in the working memory or the archive.
    INSERT_FOCUS = "INSERT INTO focus (project_id, id, session, content, importance, \
        created_at, touched_at, memory_id) SELECT p.id, $2::uuid, $3, $4, $5::float8, $6::timestamptz, \
            $7::timestamptz, (SELECT m.id FROM memory m WHERE m.id = $8 AND m.project_id = p.id) \
        FROM project p WHERE p.name = $1 AND NOT EXISTS (SELECT FROM focus f WHERE f.id = $2::uuid) \
        AND NOT EXISTS (SELECT FROM focus_archive f WHERE f.id = $2::uuid)";
    /// Inserts an archived item. A memory that does not exist here is left out.
    INSERT_ARCHIVE = "INSERT INTO focus_archive (project_id, id, session, content, importance, \
        created_at, touched_at, memory_id, archived_at, reason) \
        SELECT p.id, $2::uuid, $3, $4, $5::float8, $6::timestamptz, $7::timestamptz, \
            (SELECT m.id FROM memory m WHERE m.id = $8 AND m.project_id = p.id), $9::timestamptz, $10 \
        FROM project p WHERE p.name = $1 AND NOT EXISTS (SELECT FROM focus f WHERE f.id = $2::uuid) \
        AND NOT EXISTS (SELECT FROM focus_archive f WHERE f.id = $2::uuid)";
    /// Inserts a review and returns a row if it is new. $3 is the number of the memory, $4 the ID of the other one.
    INSERT_REVIEW = "INSERT INTO review (project_id, id, memory_seq, other_seq, state, proposal, \
        actor, reason, created_at, expires_at, decided_by, decided_at, decision_reason, applied_version) \
        SELECT p.id, $2::uuid, $3, (SELECT o.seq FROM memory o WHERE o.id = $4 AND o.project_id = p.id), $5, \
            $6::text::jsonb, $7, $8, $9::timestamptz, $10::timestamptz, $11, $12::timestamptz, $13, $14 \
        FROM project p WHERE p.name = $1 AND NOT EXISTS (SELECT FROM review r WHERE r.id = $2::uuid)";
    /// Empties everything except the schema and the projects.
    CLEAR = "TRUNCATE memory, recall_stat, source, history, idempotency, posting, corpus, \
        embedding, index_job, entity, relation, mention, focus, focus_archive, review, usage";
    /// Live memories without postings, postings without a live memory, and projects with wrong counts.
    UNINDEXED = "SELECT \
        (SELECT count(*) FROM memory m WHERE m.deleted_at IS NULL AND m.length > 0 AND NOT EXISTS (\
            SELECT FROM (SELECT DISTINCT project_id, memory_seq FROM posting) x \
            WHERE x.project_id = m.project_id AND x.memory_seq = m.seq)) AS missing, \
        (SELECT count(*) FROM (SELECT DISTINCT project_id, memory_seq FROM posting) x WHERE NOT EXISTS (\
            SELECT FROM memory m WHERE m.project_id = x.project_id AND m.seq = x.memory_seq AND m.deleted_at IS NULL)) \
            AS stray, \
        (SELECT count(*) FROM project p WHERE \
            (SELECT coalesce(sum(c.documents), 0) FROM corpus c WHERE c.project_id = p.id) \
                <> (SELECT count(*) FROM memory m WHERE m.project_id = p.id AND m.deleted_at IS NULL) \
            OR (SELECT coalesce(sum(c.total_length), 0) FROM corpus c WHERE c.project_id = p.id) \
                <> (SELECT coalesce(sum(m.length), 0) FROM memory m WHERE m.project_id = p.id AND m.deleted_at IS NULL)) \
            AS corpus";
}
