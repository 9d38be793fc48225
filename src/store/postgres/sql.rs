//! Every statement, as a named constant. A test prepares each of them against a migrated database.
//!
//! Projects are looked up by name inside of each statement: no process keeps an id that a restored database might
//! give to another project. `$1` is the project or the readable projects throughout.

/// Columns of a [`super::row::MemoryRow`], of `memory m` and `project p`.
macro_rules! memory_columns {
    () => {
        "m.seq, m.id, p.name AS project, m.kind, m.content, m.tags, m.importance, m.metadata, m.occurred_at, \
         m.created_at, m.updated_at, m.valid_until, m.superseded_by, m.deleted_at, m.version, m.session, m.turn, \
         m.speaker, m.situation, m.outcome, m.lesson, m.helpful, m.not_helpful, m.protected, \
         ARRAY(SELECT s.source_id FROM source s WHERE s.project_id = m.project_id AND s.memory_seq = m.seq \
               ORDER BY s.position) AS sources, \
         coalesce((SELECT r.recall_count FROM recall_stat r WHERE r.project_id = m.project_id \
               AND r.memory_seq = m.seq), 0) AS recall_count, \
         (SELECT r.last_recalled_at FROM recall_stat r WHERE r.project_id = m.project_id AND r.memory_seq = m.seq) \
               AS last_recalled_at"
    };
}

pub(super) use memory_columns;

/// `domain::Filter` with its parameters at $2 to $10 and the given one, on `memory m`.
macro_rules! filter {
    ($as_of:literal) => {
        concat!(
            "(",
            $as_of,
            "::int <> 1 OR m.updated_at <= $10) AND (",
            $as_of,
            "::int <> 2 OR m.occurred_at <= $10) AND m.deleted_at IS NULL \
         AND ($2::text[] IS NULL OR m.kind = ANY ($2)) \
         AND ($3::text[] IS NULL OR m.tag_keys @> (SELECT fold_tags($3))) \
         AND ($4::text IS NULL OR m.session = $4) \
         AND ($5::text IS NULL OR m.speaker = $5) \
         AND ($6::timestamptz IS NULL OR m.occurred_at >= $6) \
         AND ($7::timestamptz IS NULL OR m.occurred_at < $7) \
         AND ($8::float8 IS NULL OR m.importance >= $8) \
         AND ($9::boolean OR ((m.superseded_by IS NULL OR (",
            $as_of,
            "::int = 2 AND EXISTS (SELECT FROM memory s WHERE s.id = m.superseded_by AND s.occurred_at > $10))) \
             AND (m.valid_until IS NULL OR m.valid_until > $10)))"
        )
    };
}

pub(super) use filter;

/// What ranking wants to know of `memory m`, but for the columns of `recall_stat`. The text is read only of turns.
macro_rules! hit_columns {
    () => {
        "m.importance, m.created_at, m.helpful, m.not_helpful, m.session, m.turn, m.speaker, m.length, m.occurred_at, \
         m.turn IS NOT NULL AND right(rtrim(m.content, E' \\t\\r\\n'), 1) = ANY ('{?,\u{ff1f},\u{61f}}') AS asks"
    };
}

pub(super) use hit_columns;

/// A live memory that is not outdated at `$3`.
macro_rules! current {
    () => {
        "m.deleted_at IS NULL AND m.superseded_by IS NULL AND (m.valid_until IS NULL OR m.valid_until > $3)"
    };
}

/// `browse` with `$extra`, which leads the planner to an index: ordered, with a constant limit, to the primary key (a
/// parameter as limit it takes for a tenth of the table; see [`BROWSE_PAGE`]), or by OFFSET 0 to the index of a further
/// condition. The CASE hides the filter: the planner takes that for half of the rows, but each condition on a parameter
/// for a fraction, until it would sort all memories to find one. `$11` is compared as it comes: coalesce() would be an
/// expression that row-level security keeps from the index, and each page would read all those before it.
macro_rules! browse {
    ($extra:literal) => {
        concat!(
            "SELECT ",
            memory_columns!(),
            " FROM (\
                SELECT m.* FROM project p CROSS JOIN LATERAL (\
                    SELECT * FROM (SELECT m.* FROM memory m WHERE m.project_id = p.id AND \
                        m.seq < $11 AND CASE WHEN ",
            filter!("$13"),
            " THEN true ELSE false END",
            $extra,
            ") m ORDER BY m.seq DESC LIMIT $12) m \
                WHERE p.name = ANY ($1) ORDER BY m.seq DESC LIMIT $12) m \
             JOIN project p ON p.id = m.project_id \
             ORDER BY m.seq DESC"
        )
    };
}

// --------------------------------------------------------------------------------------------------------- set-up

/// Settings of every session: no wait without a bound, and plans that are made once, by way of the indexes, since all
/// statements are written for that. What the statistics of a young table say would make other plans, for a while.
/// Cheap random pages prefer an index that has the order to a bitmap of all rows and a sort. What array_agg collects is
/// taken for 8 kB a group: with the usual 4 MB some 500 memories that share a word with the query went through files.
/// What is looked up is looked up once, so that nothing is gained by memoizing it. The index of vectors may go on in an
/// order that is about right, since what it gives is sorted: in the strict order it leaves out what it finds late. Where
/// a filter leaves too little of its nearest, comparing all that pass is soon the better way.
pub(super) const SESSION: &str = "SELECT set_config('statement_timeout', $1, false), \
    set_config('lock_timeout', $2, false), set_config('idle_in_transaction_session_timeout', $3, false), \
    set_config('plan_cache_mode', 'force_generic_plan', false), \
    set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false), \
    (SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'enable_memoize'), \
    set_config('random_page_cost', '1.1', false), set_config('TimeZone', 'UTC', false), \
    set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')) / 1024, 65536) || 'kB', false), \
    (SELECT set_config('search_path', concat_ws(', ', current_setting('search_path'), quote_ident(n.nspname)), false) \
     FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
     WHERE e.extname = 'vector' AND n.nspname <> ALL (current_schemas(true))), \
    (SELECT set_config('hnsw.ef_search', '400', false) FROM pg_extension WHERE extname = 'vector'), \
    (SELECT concat(set_config('hnsw.iterative_scan', 'relaxed_order', false), \
            set_config('hnsw.max_scan_tuples', '5000', false)) \
     FROM pg_extension WHERE extname = 'vector' AND string_to_array(extversion, '.')::int[] >= '{0,8}')";

/// Which role a session works as, and for which projects: what the policies of row-level security ask.
pub(super) const VIEW: &str = "SELECT set_config('role', $1, false), \
    set_config('memory.projects', $2::text[]::text, false), set_config('memory.project', $3, false)";
/// Whether the session may work as a role. Superusers may, where there is one.
pub(super) const ROLE_USABLE: &str = "SELECT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1 AND pg_has_role(session_user, r.oid, 'MEMBER'))";
/// The same, and whether the role has its rights in this database: a dump may have been restored without them.
pub(super) const ROLE_READY: &str = "SELECT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1 \
    AND pg_has_role(session_user, r.oid, 'MEMBER') \
    AND NOT EXISTS (SELECT FROM pg_extension e \
        WHERE e.extname = 'vector' AND NOT has_schema_privilege(r.oid, e.extnamespace, 'USAGE')) \
    AND NOT EXISTS (SELECT FROM pg_class c \
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id' AND NOT a.attisdropped \
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' \
            AND NOT (c.relrowsecurity AND has_table_privilege(r.oid, c.oid, 'SELECT') \
                AND has_table_privilege(r.oid, c.oid, 'INSERT'))))";
/// Schema of the extension, where a role may not use it yet.
pub(super) const VECTOR_SCHEMA: &str = "SELECT n.nspname::text FROM pg_extension e \
    JOIN pg_namespace n ON n.oid = e.extnamespace CROSS JOIN pg_roles r \
    WHERE e.extname = 'vector' AND r.rolname = $1 AND NOT has_schema_privilege(r.oid, n.oid, 'USAGE')";
/// Whether there is a role.
pub(super) const ROLE_EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1)";
/// Tables whose rows belong to projects.
pub(super) const PROJECT_TABLES: &str = "SELECT c.relname::text AS name FROM pg_class c \
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id' AND NOT a.attisdropped \
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' ORDER BY c.relname";

/// What the server can do.
pub(super) const SERVER: &str = "SELECT current_setting('server_version_num')::int AS version, \
    current_setting('server_encoding') AS encoding, \
    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only, \
    (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS vector, \
    (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS vector_available, \
    coalesce((SELECT v.trusted FROM pg_available_extensions a \
        JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version \
        WHERE a.name = 'vector'), false) AS vector_trusted, \
    current_database()::text AS database, current_user::text AS role, current_schema()::text AS schema, \
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create, \
    to_regclass('schema_migration') IS NOT NULL AS migrated";

/// One server at a time migrates or rebuilds.
pub(super) const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1)";
/// The opposite.
pub(super) const UNLOCK: &str = "SELECT pg_advisory_unlock($1)";
/// Limits suit requests, not migrations.
pub(super) const UNLIMITED: &str =
    "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '10s', false)";
/// The extension's types may be in a schema off the search path.
pub(super) const REACH_VECTOR: &str = "SELECT set_config('search_path', concat_ws(', ', \
    current_setting('search_path'), quote_ident(n.nspname)), true) \
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'";
/// Needs a superuser, except where the extension is marked as trusted.
pub(super) const CREATE_VECTOR: &str = "CREATE EXTENSION IF NOT EXISTS vector";
/// Which migrations were applied.
pub(super) const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS schema_migration (version bigint PRIMARY KEY, \
    name text NOT NULL, checksum bytea NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
/// The applied migrations.
pub(super) const MIGRATIONS: &str =
    "SELECT version, checksum FROM schema_migration ORDER BY version";
/// One more.
pub(super) const ADD_MIGRATION: &str =
    "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)";

/// A fact about the database.
pub(super) const META: &str = "SELECT value FROM meta WHERE key = $1";
/// Sets a fact.
pub(super) const SET_META: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
/// Removes a fact.
pub(super) const UNSET_META: &str = "DELETE FROM meta WHERE key = $1";
/// The lexical index, emptied for a rebuild.
pub(super) const EMPTY_INDEX: &str = "TRUNCATE posting, corpus";
/// The next memories to be indexed, deleted ones included, so that their length is that of the new analysis.
pub(super) const REBUILD_READ: &str = "SELECT m.project_id, m.seq, m.content, m.speaker, m.tags, m.situation, \
    m.outcome, m.lesson, m.deleted_at IS NULL AS live FROM memory m \
    WHERE (m.project_id, m.seq) > ($1, $2) ORDER BY m.project_id, m.seq LIMIT 200";
/// New lengths.
pub(super) const REBUILD_LENGTHS: &str = "UPDATE memory m SET length = i.length \
    FROM unnest($1::int[], $2::bigint[], $3::int[]) AS i(project_id, seq, length) \
    WHERE m.project_id = i.project_id AND m.seq = i.seq AND m.length <> i.length";
/// Whether a project is there.
pub(super) const PROJECT: &str = "SELECT id FROM project WHERE name = $1";
/// For projects that have no memory yet.
pub(super) const CREATE_PROJECT: &str =
    "INSERT INTO project (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";

// --------------------------------------------------------------------------------------------------------- writing

/// Stores items: rows, postings, corpus size, index jobs and the answer for an idempotency key. One statement is one
/// transaction, so that the common `remember` is one round trip.
///
/// A row an item. `old_id` names the equal memory that is there already. Where two requests store equal memories at
/// the same moment, the unique indexes over the claims let one of them through, and the division below by zero undoes
/// the other as a whole, which is then repeated and finds what it collided with. Where an item that adds something (`$28`)
/// is there already, nothing is stored: the caller merges in a transaction. Rows go in in the order of their
/// hash, so that two such batches do not wait for each other.
pub(super) const REMEMBER: &str = concat!(
    "WITH here AS MATERIALIZED (\
        SELECT p.id FROM project p JOIN meta a ON a.key = 'analyzer' AND a.value = $4 WHERE p.name = $1\
    ), previous AS MATERIALIZED (\
        SELECT k.request_hash, k.answer FROM idempotency k, here WHERE k.project_id = here.id AND k.key = $24::text\
    ), item AS MATERIALIZED (\
        SELECT i.*, nextval('memory_order') AS seq, coalesce(\
            (SELECT m.seq FROM memory m WHERE m.id = i.id AND m.project_id = here.id),\
            CASE WHEN i.kind <> 'dialogue' THEN \
                (SELECT m.seq FROM memory m WHERE m.project_id = here.id AND m.content_hash = i.content_hash \
                    AND m.kind = i.kind AND ",
    current!(),
    " ORDER BY m.seq LIMIT 1) \
            WHEN i.session IS NOT NULL AND i.turn IS NOT NULL THEN \
                (SELECT m.seq FROM memory m WHERE m.project_id = here.id AND m.session = i.session \
                    AND m.turn = i.turn AND m.turn_claim) \
            END) AS old_seq \
        FROM here, unnest($5::uuid[], $6::text[], $7::text[], $8::bytea[], $9::text[], $10::float8[], $11::text[], \
            $12::timestamptz[], $13::timestamptz[], $14::text[], $15::bigint[], $16::text[], $17::text[], \
            $18::float8[], $19::text[], $20::int[], $27::boolean[], $28::boolean[]) WITH ORDINALITY AS i(id, kind, content, \
            content_hash, tags, importance, metadata, occurred_at, valid_until, session, turn, speaker, situation, \
            outcome, lesson, length, protected, adds, n) \
        WHERE NOT EXISTS (SELECT FROM previous)\
    ), seen AS MATERIALIZED (\
        SELECT i.n, m.id, m.content_hash <> i.content_hash AS differs, \
            m.content_hash <> i.content_hash OR (i.adds AND m.id <> i.id) AS halts \
        FROM here, item i JOIN memory m ON m.seq = i.old_seq WHERE m.project_id = here.id\
    ), inserted AS (\
        INSERT INTO memory (project_id, seq, id, kind, content, content_hash, length, tags, importance, metadata, \
            occurred_at, created_at, created_by, updated_at, valid_until, session, turn, speaker, situation, outcome, \
            lesson, protected, content_claim, turn_claim) \
        SELECT here.id, i.seq, i.id, i.kind, i.content, i.content_hash, i.length, \
            ARRAY(SELECT jsonb_array_elements_text(i.tags::jsonb)), i.importance, i.metadata::jsonb, \
            i.occurred_at, $3, $2::text, $3, i.valid_until, i.session, i.turn, i.speaker, i.situation, i.outcome, i.lesson, \
            i.protected, CASE WHEN i.kind <> 'dialogue' AND (i.valid_until IS NULL OR i.valid_until > $3) THEN true END, \
            CASE WHEN i.kind = 'dialogue' AND i.session IS NOT NULL AND i.turn IS NOT NULL THEN true END \
        FROM here, item i WHERE i.old_seq IS NULL AND NOT EXISTS (SELECT FROM seen WHERE halts) \
        ORDER BY i.content_hash \
        ON CONFLICT DO NOTHING RETURNING seq, length\
    ), placed AS MATERIALIZED (\
        SELECT array_agg(coalesce(x.seq, 0) ORDER BY i.n) AS seqs, \
            count(*) FILTER (WHERE i.old_seq IS NULL AND x.seq IS NULL) AS lost \
        FROM item i LEFT JOIN inserted x ON x.seq = i.seq\
    ), posted AS (\
        INSERT INTO posting (project_id, term, memory_seq, frequency, length) \
        SELECT here.id, t.term, placed.seqs[t.n], t.frequency, ($20::int[])[t.n] \
        FROM here, placed, unnest($21::int[], $22::text[], $23::int[]) AS t(n, term, frequency) \
        WHERE placed.seqs[t.n] > 0\
    ), queued AS (\
        INSERT INTO index_job (project_id, memory_seq) SELECT here.id, x.seq FROM here, inserted x\
    ), answered AS (\
        INSERT INTO idempotency (project_id, key, request_hash, answer, created_at) \
        SELECT here.id, $24::text, $25::bytea, ARRAY(SELECT coalesce(s.id, i.id) \
            FROM unnest($26::int[]) WITH ORDINALITY AS o(n, place) JOIN item i ON i.n = o.n \
            LEFT JOIN seen s ON s.n = i.n ORDER BY o.place), $3 \
        FROM here WHERE $24::text IS NOT NULL AND NOT EXISTS (SELECT FROM previous) \
            AND NOT EXISTS (SELECT FROM seen WHERE halts)\
    ), counted AS (\
        INSERT INTO corpus AS c (project_id, shard, documents, total_length) \
        SELECT here.id, pg_backend_pid() % 16, count(*), sum(x.length) FROM here, inserted x \
        GROUP BY here.id \
        ON CONFLICT (project_id, shard) DO UPDATE SET documents = c.documents + excluded.documents, \
            total_length = c.total_length + excluded.total_length\
    ) \
    SELECT i.n, s.id AS old_id, coalesce(s.differs, false) AS differs, NULL::bytea AS request_hash, \
        NULL::uuid[] AS answer, \
        1 / CASE WHEN placed.lost = 0 OR EXISTS (SELECT FROM seen WHERE halts) THEN 1 ELSE 0 END AS unbroken \
    FROM placed, item i LEFT JOIN seen s ON s.n = i.n \
    UNION ALL \
    SELECT NULL, NULL, NULL, previous.request_hash, previous.answer, 1 FROM previous"
);

/// Memories past their end give up their claims, so that equal ones can be stored again.
pub(super) const RELEASE_CLAIMS: &str = "UPDATE memory m SET content_claim = NULL FROM project p \
    WHERE p.name = $1 AND m.project_id = p.id AND m.valid_until <= $2 AND m.content_claim \
        AND m.content_hash = ANY ($3)";

/// Requests with the same idempotency key take turns.
pub(super) const LOCK_KEY: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended($1 || chr(1) || $2, 7))";
/// What a request was answered.
pub(super) const PREVIOUS_ANSWER: &str = "SELECT k.request_hash, k.answer FROM idempotency k \
    JOIN project p ON p.id = k.project_id WHERE p.name = $1 AND k.key = $2";
/// Which of the ids are readable and live.
pub(super) const KNOWN: &str = "SELECT m.id FROM memory m JOIN project p ON p.id = m.project_id \
    WHERE p.name = ANY ($1) AND m.id = ANY ($2) AND m.deleted_at IS NULL";
/// Larger batches may take longer than the session's limit.
pub(super) const ALLOW_TIME: &str = "SELECT set_config('statement_timeout', $1, true)";
/// What a memory rests on.
pub(super) const ADD_SOURCES: &str = "INSERT INTO source (project_id, memory_seq, position, source_id) \
    SELECT m.project_id, m.seq, i.position, i.source_id \
    FROM unnest($2::uuid[], $3::int[], $4::uuid[]) AS i(id, position, source_id) \
    JOIN memory m ON m.id = i.id JOIN project p ON p.id = m.project_id AND p.name = $1 ON CONFLICT DO NOTHING";

/// Removes the sources of a memory.
pub(super) const REMOVE_SOURCES: &str = "DELETE FROM source s USING project p \
    WHERE p.name = $1 AND s.project_id = p.id AND s.memory_seq = $2";
/// Stores those of the sources that were not purged.
pub(super) const RESTORE_SOURCES: &str = "INSERT INTO source (project_id, memory_seq, position, source_id) \
    SELECT p.id, $2, i.position::int - 1, i.source_id FROM project p \
    CROSS JOIN unnest($3::uuid[]) WITH ORDINALITY AS i(source_id, position) \
    WHERE p.name = $1 AND EXISTS (SELECT FROM memory m WHERE m.id = i.source_id) ON CONFLICT DO NOTHING";

/// A batch that superseded something turned out to be equal to what was there: that is the successor.
pub(super) const REDIRECT: &str = "UPDATE memory m SET superseded_by = i.existing \
    FROM project p, unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS i(id, planned, existing) \
    WHERE p.name = $1 AND m.project_id = p.id AND m.id = i.id AND m.superseded_by = i.planned";

/// Memories of the own project, to be changed. In the order of storage, so that two changes never wait for each other
/// in a circle.
pub(super) const LOCK: &str = concat!(
    "SELECT ",
    memory_columns!(),
    " FROM project p JOIN memory m ON m.project_id = p.id \
     WHERE p.name = $1 AND m.id = ANY ($2) ORDER BY m.seq FOR UPDATE OF m"
);

/// Memories as `change::memory_row` writes them, one JSON list for all.
macro_rules! memory_row {
    () => {
        "seq bigint, id uuid, kind text, content text, content_hash bytea, length int, tags text[], importance float8, \
         metadata jsonb, occurred_at timestamptz, created_at timestamptz, updated_at timestamptz, \
         valid_until timestamptz, superseded_by uuid, deleted_at timestamptz, version bigint, session text, turn bigint, \
         speaker text, situation text, outcome float8, lesson text, helpful bigint, not_helpful bigint, \
         protected boolean"
    };
}
pub(super) use memory_row;

/// Writes changed memories, and the history of the change with the state before it (`old`).
pub(super) const WRITE: &str = concat!(
    "WITH item AS MATERIALIZED (\
        SELECT * FROM json_to_recordset($2::text::json) AS i(",
    memory_row!(),
    ", old jsonb)\
    ), changed AS (\
        UPDATE memory m SET content = i.content, content_hash = i.content_hash, length = coalesce(i.length, m.length), \
            tags = i.tags, importance = i.importance, metadata = i.metadata, occurred_at = i.occurred_at, \
            updated_at = i.updated_at, valid_until = i.valid_until, superseded_by = i.superseded_by, \
            deleted_at = i.deleted_at, version = i.version, situation = i.situation, outcome = i.outcome, \
            lesson = i.lesson, helpful = i.helpful, not_helpful = i.not_helpful, protected = i.protected, \
            content_claim = NULL, turn_claim = CASE WHEN i.deleted_at IS NULL AND i.superseded_by IS NULL \
                AND m.kind = 'dialogue' AND m.session IS NOT NULL AND m.turn IS NOT NULL THEN true END \
        FROM project p, item i WHERE p.name = $1 AND m.project_id = p.id AND m.seq = i.seq \
        RETURNING m.project_id, m.seq, m.version\
    ) \
    INSERT INTO history (project_id, memory_seq, version, change, old, actor, reason, at) \
    SELECT c.project_id, c.seq, c.version, $3, i.old, $4, $5, $6 FROM changed c JOIN item i ON i.seq = c.seq"
);

/// Memories that have the turns of some which are to be restored.
pub(super) const TAKEN_TURNS: &str = "SELECT m.session, m.turn, m.id FROM project p \
    CROSS JOIN unnest($2::text[], $3::bigint[]) AS i(session, turn) \
    JOIN memory m ON m.project_id = p.id AND m.session = i.session AND m.turn = i.turn AND m.turn_claim \
    WHERE p.name = $1";

/// Vectors of a text that is no more.
pub(super) const FORGET_VECTORS: &str = "DELETE FROM embedding e USING project p \
    WHERE p.name = $1 AND e.project_id = p.id AND e.memory_seq = ANY ($2)";

/// A vote is no new version.
pub(super) const VOTE: &str = "UPDATE memory m SET helpful = $3, not_helpful = $4 FROM project p \
    WHERE p.name = $1 AND m.project_id = p.id AND m.seq = $2";

/// Postings and index jobs of memories that enter the index again, or anew.
pub(super) const INDEX: &str = "WITH posted AS (\
        INSERT INTO posting (project_id, term, memory_seq, frequency, length) \
        SELECT p.id, t.term, t.seq, t.frequency, t.length \
        FROM project p, unnest($2::bigint[], $3::text[], $4::int[], $5::int[]) AS t(seq, term, frequency, length) \
        WHERE p.name = $1\
    ) \
    INSERT INTO index_job (project_id, memory_seq) \
    SELECT p.id, j.seq FROM project p, unnest($6::bigint[]) AS j(seq) WHERE p.name = $1 \
    ON CONFLICT (project_id, memory_seq) DO UPDATE SET attempts = 0, not_before = NULL, last_error = NULL";

/// The same for a rebuild, which knows the project by its id and queues nothing.
pub(super) const REBUILD_INDEX: &str = "WITH counted AS (\
        INSERT INTO corpus AS c (project_id, shard, documents, total_length) \
        SELECT d.project_id, 0, count(*), sum(d.length) FROM unnest($1::int[], $2::int[]) AS d(project_id, length) \
        GROUP BY d.project_id \
        ON CONFLICT (project_id, shard) DO UPDATE SET documents = c.documents + excluded.documents, \
            total_length = c.total_length + excluded.total_length\
    ) \
    INSERT INTO posting (project_id, term, memory_seq, frequency, length) \
    SELECT * FROM unnest($3::int[], $4::text[], $5::bigint[], $6::int[], $7::int[]) \
    ON CONFLICT (project_id, term, memory_seq) DO UPDATE \
        SET frequency = excluded.frequency, length = excluded.length";

/// Takes postings out of the index.
pub(super) const UNINDEX: &str = "DELETE FROM posting x USING project p, unnest($2::bigint[], $3::text[]) AS t(seq, term) \
    WHERE p.name = $1 AND x.project_id = p.id AND x.term = t.term AND x.memory_seq = t.seq";
/// Takes index jobs off the queue.
pub(super) const UNQUEUE: &str = "DELETE FROM index_job j USING project p \
    WHERE p.name = $1 AND j.project_id = p.id AND j.memory_seq = ANY ($2)";
/// Adds to the size of the corpus, or takes from it.
pub(super) const COUNT_CORPUS: &str = "INSERT INTO corpus AS c (project_id, shard, documents, total_length) \
    SELECT p.id, pg_backend_pid() % 16, $2::bigint, $3::bigint FROM project p WHERE p.name = $1 \
    ON CONFLICT (project_id, shard) DO UPDATE SET documents = c.documents + excluded.documents, \
        total_length = c.total_length + excluded.total_length";
/// Removes memories and, by foreign keys, their history, sources, vectors, mentions and reviews; also the items of the
/// working memory that are linked to them or have the text of any of their versions.
pub(super) const PURGE: &str = "WITH gone AS (\
        DELETE FROM memory m USING project p WHERE p.name = $1 AND m.project_id = p.id AND m.seq = ANY ($2) \
        RETURNING m.project_id, m.seq, m.id, m.content\
    ), spoken AS MATERIALIZED (\
        SELECT g.project_id, g.content FROM gone g \
        UNION SELECT g.project_id, h.old ->> 'content' FROM gone g \
            JOIN history h ON h.project_id = g.project_id AND h.memory_seq = g.seq\
    ), unranked AS (\
        DELETE FROM recall_stat r USING gone g WHERE r.project_id = g.project_id AND r.memory_seq = g.seq\
    ), unsourced AS (\
        DELETE FROM source s USING gone g WHERE s.source_id = g.id\
    ), unlinked AS (\
        UPDATE review r SET other_seq = NULL FROM gone g WHERE r.project_id = g.project_id AND r.other_seq = g.seq\
    ), unfocused AS (\
        DELETE FROM focus f USING (SELECT f.project_id, f.seq FROM gone g JOIN focus f ON f.memory_id = g.id \
            UNION SELECT f.project_id, f.seq FROM spoken s JOIN focus f ON f.project_id = s.project_id \
                AND f.content = s.content) x WHERE f.project_id = x.project_id AND f.seq = x.seq\
    ), unarchived AS (\
        DELETE FROM focus_archive f USING (\
            SELECT f.project_id, f.seq FROM gone g JOIN focus_archive f ON f.memory_id = g.id \
            UNION SELECT f.project_id, f.seq FROM spoken s JOIN focus_archive f ON f.project_id = s.project_id \
                AND f.content = s.content) x WHERE f.project_id = x.project_id AND f.seq = x.seq\
    ) \
    SELECT count(*) FROM gone";

/// Counts recalls. Not worth a wait for the disk: losing a note is no loss of memory.
pub(super) const NOTE_RECALLED: &str = "WITH quick AS MATERIALIZED (\
        SELECT set_config('synchronous_commit', 'off', true)\
    ) \
    INSERT INTO recall_stat AS r (project_id, memory_seq, recall_count, last_recalled_at) \
    SELECT m.project_id, m.seq, 1, $3::timestamptz FROM quick, memory m JOIN project p ON p.id = m.project_id \
    WHERE p.name = ANY ($1) AND m.id = ANY ($2) AND m.deleted_at IS NULL ORDER BY m.seq \
    ON CONFLICT (project_id, memory_seq) DO UPDATE SET recall_count = r.recall_count + 1, \
        last_recalled_at = greatest(r.last_recalled_at, excluded.last_recalled_at)";

// --------------------------------------------------------------------------------------------------------- reading

/// BM25 by index-only scans of the postings: `$12 / (1 + ($15 + $16 * length) / frequency)` is what a term gives. The
/// best are checked against the filter one after the other until there are enough. Exact hits come first whatever their
/// score. Everything of the first part is done for thousands of postings, and an operator more is felt: what each term
/// gave is computed again for the few that are returned, from how often it occurs. `$one` makes of a posting and of the
/// term's number in `$14` what `$all` collects for a memory; `$numbers` are those as an array.
macro_rules! search_lexical {
    ($all:literal, $one:literal, $numbers:literal) => {
        concat!(
            "WITH hit AS MATERIALIZED (\
                SELECT min(p.id) AS project_id, x.memory_seq AS seq, ",
            $all,
            "(",
            $one,
            ") AS terms, max(x.length) AS indexed_length, \
                    sum(q.weight / (1 + ($15::float8 + $16::float8 * x.length) / x.frequency)) AS score \
                FROM unnest($11::text[], $12::float8[], $14::int[]) AS q(term, weight, number) \
                CROSS JOIN project p CROSS JOIN LATERAL (\
                    SELECT x.memory_seq, x.frequency, x.length FROM posting x \
                    WHERE x.project_id = p.id AND x.term = q.term ORDER BY x.memory_seq DESC LIMIT 4001\
                ) x WHERE p.name = ANY ($1) GROUP BY x.memory_seq\
            ), exact AS MATERIALIZED (\
                SELECT m.* FROM project p CROSS JOIN LATERAL (\
                    SELECT m.project_id, m.seq, m.id, ",
            hit_columns!(),
            " FROM memory m WHERE m.project_id = p.id AND m.content_hash = $13 AND ",
            filter!("$18"),
            "\
                    ORDER BY m.seq DESC LIMIT $17\
                ) m WHERE p.name = ANY ($1)\
            ) \
            SELECT c.*, ",
            $numbers,
            " AS numbers, coalesce(r.recall_count, 0) AS recall_count, r.last_recalled_at FROM (SELECT c.* FROM (\
                (SELECT e.*, coalesce(h.score, 0) AS score, h.terms, coalesce(h.indexed_length, 0) AS indexed_length, \
                    true AS exact \
                 FROM exact e LEFT JOIN hit h ON h.project_id = e.project_id AND h.seq = e.seq) \
                UNION ALL \
                (SELECT m.*, h.score, h.terms, h.indexed_length, false \
                 FROM (SELECT * FROM hit ORDER BY score DESC, seq DESC) h \
                 CROSS JOIN LATERAL (\
                    SELECT m.project_id, m.seq, m.id, ",
            hit_columns!(),
            " FROM memory m WHERE m.project_id = h.project_id AND m.seq = h.seq AND ",
            filter!("$18"),
            "\
                 ) m \
                 WHERE h.seq <> ALL (ARRAY(SELECT e.seq FROM exact e)) \
                 ORDER BY h.score DESC, h.seq DESC LIMIT $17)\
            ) c ORDER BY c.exact DESC, c.score DESC, c.seq DESC LIMIT $17) c \
            LEFT JOIN LATERAL (SELECT r.recall_count, r.last_recalled_at FROM recall_stat r \
                WHERE r.project_id = c.project_id AND r.memory_seq = c.seq OFFSET 0) r ON true \
            ORDER BY c.exact DESC, c.score DESC, c.seq DESC"
        )
    };
}

/// For a few terms, whose frequencies, up to `$19`, fit into one number: `$14` says where.
pub(super) const SEARCH_LEXICAL: &str = search_lexical!(
    "bit_or",
    "least(x.frequency, $19::int)::bigint << q.number",
    "ARRAY[coalesce(c.terms, 0)]"
);

/// For more: a number for each, of which `$14` is the upper part.
pub(super) const SEARCH_LEXICAL_MANY: &str = search_lexical!(
    "array_agg",
    "q.number::bigint << 32 | x.frequency",
    "coalesce(c.terms, '{}')"
);

/// Most rows that a `browse` statement returns.
pub(super) const BROWSE_PAGE: usize = 1_000;
/// The newest memories.
pub(super) const BROWSE: &str = browse!(" ORDER BY m.seq DESC LIMIT 1000");
/// The newest of a session: few, and found by its index.
pub(super) const BROWSE_SESSION: &str =
    browse!(" AND m.session = $4 AND m.session IS NOT NULL OFFSET 0");
/// The newest with tags, found by theirs.
pub(super) const BROWSE_TAGS: &str = browse!(" AND m.seq = ANY (memory_tagged($3)) OFFSET 0");

/// Memories by id.
pub(super) const GET: &str = concat!(
    "SELECT ",
    memory_columns!(),
    " FROM memory m JOIN project p ON p.id = m.project_id \
     WHERE m.id = ANY ($2) AND p.name = ANY ($1) AND ($3::boolean OR m.deleted_at IS NULL)"
);

/// Memories of all states, in storage order.
pub(super) const EXPORT: &str = concat!(
    "SELECT ",
    memory_columns!(),
    " FROM (\
        SELECT m.* FROM project p CROSS JOIN LATERAL (\
            SELECT m.* FROM memory m WHERE m.project_id = p.id AND m.seq > $2 ORDER BY m.seq LIMIT $3) m \
        WHERE p.name = ANY ($1) ORDER BY m.seq LIMIT $3) m \
     JOIN project p ON p.id = m.project_id ORDER BY m.seq"
);

/// Figures of `status`.
pub(super) const COUNTS: &str = "SELECT m.kind, count(*) FILTER (WHERE m.deleted_at IS NULL) AS live, \
        count(*) FILTER (WHERE m.deleted_at IS NOT NULL) AS deleted, \
        count(*) FILTER (WHERE m.deleted_at IS NULL AND m.superseded_by IS NOT NULL) AS superseded \
    FROM memory m WHERE m.project_id = ANY (ARRAY(SELECT id FROM project WHERE name = ANY ($1))) GROUP BY m.kind";
/// Memories that wait for an embedding.
pub(super) const BACKLOG: &str = "SELECT count(*) FROM index_job j \
    WHERE j.project_id = ANY (ARRAY(SELECT id FROM project WHERE name = ANY ($1)))";
/// Tags among the newest memories ($2) of each project that begin with a text ($3), the most used first, each in the
/// spelling that most memories have.
pub(super) const COMPLETE_TAGS: &str = "SELECT mode() WITHIN GROUP (ORDER BY t.tag) FROM project p CROSS JOIN LATERAL (\
        SELECT m.tags, m.tag_keys FROM memory m WHERE m.project_id = p.id AND m.deleted_at IS NULL \
        ORDER BY m.seq DESC LIMIT $2\
    ) n CROSS JOIN LATERAL unnest(n.tags, n.tag_keys) AS t (tag, key) \
    WHERE p.name = ANY ($1) AND starts_with(t.key, (SELECT (fold_tags(ARRAY[$3]))[1])) \
    GROUP BY t.key ORDER BY count(*) DESC, t.key LIMIT $4";
/// Ids among them whose digits begin with a text ($3), the newest first.
pub(super) const COMPLETE_IDS: &str = "SELECT n.id FROM project p CROSS JOIN LATERAL (\
        SELECT m.seq, m.id FROM memory m WHERE m.project_id = p.id AND m.deleted_at IS NULL \
        ORDER BY m.seq DESC LIMIT $2\
    ) n WHERE p.name = ANY ($1) AND starts_with(replace(n.id::text, '-', ''), $3) ORDER BY n.seq DESC LIMIT $4";
/// What the database is.
pub(super) const INFO: &str = "SELECT current_setting('server_version') AS version, \
    current_database()::text AS database, (SELECT max(version) FROM schema_migration) AS schema_version, \
    (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS vector, \
    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only";

/// Makes a token; none comes back where one of the name holds.
pub(super) const CREATE_TOKEN: &str = "INSERT INTO token AS t (name, sha256, prefix, project, reads, created_at, \
        expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
    ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, prefix = excluded.prefix, project = excluded.project, \
        reads = excluded.reads, created_at = excluded.created_at, expires_at = excluded.expires_at, revoked_at = NULL \
        WHERE t.revoked_at IS NOT NULL RETURNING *";
/// Another secret.
pub(super) const ROTATE_TOKEN: &str = "UPDATE token SET sha256 = $2, prefix = $3, created_at = $4 \
    WHERE name = $1 AND revoked_at IS NULL RETURNING *";
/// The end of a token.
pub(super) const REVOKE_TOKEN: &str =
    "UPDATE token SET revoked_at = coalesce(revoked_at, $2) WHERE name = $1 RETURNING *";
/// All tokens.
pub(super) const TOKENS: &str = "SELECT * FROM token ORDER BY name";

/// Writes of a project that is limited take turns.
pub(super) const LOCK_USAGE: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 17))";
/// What a project holds.
pub(super) const USAGE: &str = "SELECT coalesce(sum(u.memories), 0)::bigint AS memories, \
    coalesce(sum(u.bytes + u.history_bytes), 0)::bigint AS bytes FROM usage u JOIN project p ON p.id = u.project_id WHERE p.name = $1";

/// How many entities, relations and reviews a project has.
pub(super) const COUNT_ENTITIES: &str =
    "SELECT count(*) FROM entity e JOIN project p ON p.id = e.project_id WHERE p.name = $1";
/// Relations.
pub(super) const COUNT_RELATIONS: &str =
    "SELECT count(*) FROM relation r JOIN project p ON p.id = r.project_id WHERE p.name = $1";
/// Reviews.
pub(super) const COUNT_REVIEWS: &str =
    "SELECT count(*) FROM review r JOIN project p ON p.id = r.project_id WHERE p.name = $1";

/// All of the above, with a name each.
pub(super) const ALL: &[(&str, &str)] = &[
    ("COUNT_ENTITIES", COUNT_ENTITIES),
    ("COUNT_RELATIONS", COUNT_RELATIONS),
    ("COUNT_REVIEWS", COUNT_REVIEWS),
    ("SESSION", SESSION),
    ("COMPLETE_TAGS", COMPLETE_TAGS),
    ("COMPLETE_IDS", COMPLETE_IDS),
    ("VIEW", VIEW),
    ("ROLE_USABLE", ROLE_USABLE),
    ("ROLE_READY", ROLE_READY),
    ("ROLE_EXISTS", ROLE_EXISTS),
    ("VECTOR_SCHEMA", VECTOR_SCHEMA),
    ("PROJECT_TABLES", PROJECT_TABLES),
    ("CREATE_TOKEN", CREATE_TOKEN),
    ("ROTATE_TOKEN", ROTATE_TOKEN),
    ("REVOKE_TOKEN", REVOKE_TOKEN),
    ("TOKENS", TOKENS),
    ("LOCK_USAGE", LOCK_USAGE),
    ("USAGE", USAGE),
    ("SERVER", SERVER),
    ("TRY_LOCK", TRY_LOCK),
    ("UNLOCK", UNLOCK),
    ("UNLIMITED", UNLIMITED),
    ("REACH_VECTOR", REACH_VECTOR),
    ("CREATE_VECTOR", CREATE_VECTOR),
    ("CREATE_MIGRATIONS", CREATE_MIGRATIONS),
    ("MIGRATIONS", MIGRATIONS),
    ("ADD_MIGRATION", ADD_MIGRATION),
    ("META", META),
    ("SET_META", SET_META),
    ("UNSET_META", UNSET_META),
    ("EMPTY_INDEX", EMPTY_INDEX),
    ("REBUILD_READ", REBUILD_READ),
    ("REBUILD_LENGTHS", REBUILD_LENGTHS),
    ("REBUILD_INDEX", REBUILD_INDEX),
    ("PROJECT", PROJECT),
    ("CREATE_PROJECT", CREATE_PROJECT),
    ("REMEMBER", REMEMBER),
    ("RELEASE_CLAIMS", RELEASE_CLAIMS),
    ("LOCK_KEY", LOCK_KEY),
    ("PREVIOUS_ANSWER", PREVIOUS_ANSWER),
    ("KNOWN", KNOWN),
    ("ALLOW_TIME", ALLOW_TIME),
    ("ADD_SOURCES", ADD_SOURCES),
    ("REMOVE_SOURCES", REMOVE_SOURCES),
    ("RESTORE_SOURCES", RESTORE_SOURCES),
    ("REDIRECT", REDIRECT),
    ("LOCK", LOCK),
    ("WRITE", WRITE),
    ("TAKEN_TURNS", TAKEN_TURNS),
    ("FORGET_VECTORS", FORGET_VECTORS),
    ("VOTE", VOTE),
    ("INDEX", INDEX),
    ("UNINDEX", UNINDEX),
    ("UNQUEUE", UNQUEUE),
    ("COUNT_CORPUS", COUNT_CORPUS),
    ("PURGE", PURGE),
    ("NOTE_RECALLED", NOTE_RECALLED),
    ("CORPUS_STATS", super::corpus_sql::CORPUS_STATS),
    ("SEARCH_LEXICAL", SEARCH_LEXICAL),
    ("SEARCH_LEXICAL_MANY", SEARCH_LEXICAL_MANY),
    ("BROWSE", BROWSE),
    ("BROWSE_SESSION", BROWSE_SESSION),
    ("BROWSE_TAGS", BROWSE_TAGS),
    ("GET", GET),
    ("EXPORT", EXPORT),
    ("COUNTS", COUNTS),
    ("BACKLOG", BACKLOG),
    ("INFO", INFO),
];
