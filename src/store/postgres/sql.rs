//! All other statements, as named constants. A test prepares each one against a migrated database.
//!
//! Each statement looks up projects by name, because a restored database might assign the number of a project to
//! another one. `$1` is the project or the readable projects throughout.

use super::filter::filter;
use super::memory_sql::memory_columns;
use crate::store::statement::statements;

/// The columns of `memory m` that ranking needs, except those of `recall_stat`. The text and the project's name are
/// read only for turns.
macro_rules! hit_columns {
    () => {
        "m.importance, m.created_at, m.helpful, m.not_helpful, m.session, m.turn, m.speaker, m.length::bigint AS length, m.occurred_at, \
         CASE WHEN m.turn IS NOT NULL THEN (SELECT p.name FROM project p WHERE p.id = m.project_id) END AS project, \
         m.turn IS NOT NULL AND right(rtrim(m.content, E' \\t\\r\\n'), 1) = ANY ('{?,\u{ff1f},\u{61f}}') AS asks"
    };
}

pub(super) use hit_columns;

/// `browse` with `$extra`, which leads the planner to an index: ordered, with a constant limit, to the primary key (a
/// parameter as limit it takes for a tenth of the table; see [`BROWSE_PAGE`]), or by OFFSET 0 to the index of a further
/// condition. The CASE hides the filter: the planner takes that for half of the rows, but each condition on a parameter
/// for a fraction, until it would sort all memories to find one. `$21` is compared as it comes: coalesce() would be an
/// expression that row-level security keeps from the index, and each page would read all those before it.
macro_rules! browse {
    ($extra:literal) => {
        concat!(
            "SELECT ",
            memory_columns!(),
            " FROM (\
                SELECT m.* FROM project p CROSS JOIN LATERAL (\
                    SELECT * FROM (SELECT m.* FROM memory m WHERE m.project_id = p.id AND \
                        m.seq < $21 AND CASE WHEN ",
            filter!(),
            " THEN true ELSE false END",
            $extra,
            ") m ORDER BY m.seq DESC LIMIT $22) m \
                WHERE p.name = ANY ($1) ORDER BY m.seq DESC LIMIT $22) m \
             JOIN project p ON p.id = m.project_id \
             ORDER BY m.seq DESC"
        )
    };
}

/// BM25 by index-only scans of the postings: `$22 / (1 + ($25 + $26 * length) / frequency)` is what a term gives. The
/// best are checked against the filter one after the other until there are enough. Exact hits come first whatever their
/// score. Everything of the first part is done for thousands of postings, and an operator more is felt: what each term
/// gave is computed again for the few that are returned, from how often it occurs. `$one` makes of a posting and of the
/// term's number in `$24` what `$all` collects for a memory; `$numbers` are those as an array.
macro_rules! search_lexical {
    ($all:literal, $one:literal, $numbers:literal) => {
        concat!(
            "WITH hit AS MATERIALIZED (\
                SELECT min(p.id) AS project_id, x.memory_seq AS seq, ",
            $all,
            "(",
            $one,
            ") AS terms, max(x.length) AS indexed_length, \
                    sum(q.weight / (1 + ($25::float8 + $26::float8 * x.length) / x.frequency)) AS score \
                FROM unnest($21::text[], $22::float8[], $24::int[]) AS q(term, weight, number) \
                CROSS JOIN project p CROSS JOIN LATERAL (\
                    SELECT x.memory_seq, x.frequency, x.length FROM posting x \
                    WHERE x.project_id = p.id AND x.term = q.term ORDER BY x.memory_seq DESC LIMIT 4001\
                ) x WHERE p.name = ANY ($1) GROUP BY x.memory_seq\
            ), exact AS MATERIALIZED (\
                SELECT m.* FROM project p CROSS JOIN LATERAL (\
                    SELECT m.project_id, m.seq, m.id, ",
            hit_columns!(),
            " FROM memory m WHERE m.project_id = p.id AND m.content_hash = $23 AND ",
            filter!(),
            "\
                    ORDER BY m.seq DESC LIMIT $27\
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
            filter!(),
            "\
                 ) m \
                 WHERE h.seq <> ALL (ARRAY(SELECT e.seq FROM exact e)) \
                 ORDER BY h.score DESC, h.seq DESC LIMIT $27)\
            ) c ORDER BY c.exact DESC, c.score DESC, c.seq DESC LIMIT $27) c \
            LEFT JOIN LATERAL (SELECT r.recall_count, r.last_recalled_at FROM recall_stat r \
                WHERE r.project_id = c.project_id AND r.memory_seq = c.seq OFFSET 0) r ON true \
            ORDER BY c.exact DESC, c.score DESC, c.seq DESC"
        )
    };
}

/// Maximum number of rows of a `browse` statement.
pub(super) const BROWSE_PAGE: usize = 1_000;

statements! {
    /// Settings of every session: bounded waits, and cached generic plans that use the indexes for which all statements
    /// are written. Statistics of a young table would temporarily lead to other plans. Cheap random pages make the
    /// planner prefer an index in the right order to a bitmap of all rows and a sort. The planner estimates 8 kB per
    /// group for array_agg: with the default of 4 MB, some 500 memories that share a word with the query were spilled
    /// to disk. Rows are looked up once, so memoizing them is useless. The vector index may use relaxed order because
    /// its results are sorted afterwards; strict order drops results that it finds late. If a filter leaves too few of
    /// the nearest vectors, comparing all that pass soon becomes the better way.
    SESSION = "SELECT set_config('statement_timeout', $1, false), \
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
    /// Sets the role of a session and its projects, which the policies of row-level security read.
    VIEW = "SELECT set_config('role', $1, false), \
        set_config('memory.projects', $2::text[]::text, false), set_config('memory.project', $3, false)";
    /// Whether the session may use a role. A superuser may use every existing role.
    ROLE_USABLE = "SELECT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1 AND pg_has_role(session_user, r.oid, 'MEMBER'))";
    /// Whether the session may use a role that also has its rights in this database. A dump may have been restored
    /// without them.
    ROLE_READY = "SELECT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1 \
        AND pg_has_role(session_user, r.oid, 'MEMBER') \
        AND NOT EXISTS (SELECT FROM pg_extension e \
            WHERE e.extname = 'vector' AND NOT has_schema_privilege(r.oid, e.extnamespace, 'USAGE')) \
        AND NOT EXISTS (SELECT FROM pg_class c \
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id' AND NOT a.attisdropped \
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' \
                AND NOT (c.relrowsecurity AND has_table_privilege(r.oid, c.oid, 'SELECT') \
                    AND has_table_privilege(r.oid, c.oid, 'INSERT'))))";
    /// Schema of the extension if a role may not use it yet.
    VECTOR_SCHEMA = "SELECT n.nspname::text FROM pg_extension e \
        JOIN pg_namespace n ON n.oid = e.extnamespace CROSS JOIN pg_roles r \
        WHERE e.extname = 'vector' AND r.rolname = $1 AND NOT has_schema_privilege(r.oid, n.oid, 'USAGE')";
    /// Whether a role exists.
    ROLE_EXISTS = "SELECT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1)";
    /// Tables whose rows belong to projects.
    PROJECT_TABLES = "SELECT c.relname::text AS name FROM pg_class c \
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id' AND NOT a.attisdropped \
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' ORDER BY c.relname";
    /// The capabilities of the server.
    SERVER = "SELECT current_setting('server_version_num')::int AS version, \
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
    /// Takes the lock for migrations and rebuilds.
    TRY_LOCK = "SELECT pg_try_advisory_lock($1)";
    /// Releases that lock.
    UNLOCK = "SELECT pg_advisory_unlock($1)";
    /// Removes the time limits, which are meant for requests rather than migrations.
    UNLIMITED = "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '10s', false)";
    /// Adds the schema of the extension's types to the search path.
    REACH_VECTOR = "SELECT set_config('search_path', concat_ws(', ', \
        current_setting('search_path'), quote_ident(n.nspname)), true) \
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'";
    /// Needs a superuser, except where the extension is marked as trusted.
    CREATE_VECTOR = "CREATE EXTENSION IF NOT EXISTS vector";
    /// Creates the table of applied migrations.
    CREATE_MIGRATIONS = "CREATE TABLE IF NOT EXISTS schema_migration (version bigint PRIMARY KEY, \
        name text NOT NULL, checksum bytea NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
    /// The applied migrations.
    MIGRATIONS = "SELECT version, checksum FROM schema_migration ORDER BY version";
    /// Records an applied migration.
    ADD_MIGRATION = "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)";
    /// Reads a property of the database.
    META = "SELECT value FROM meta WHERE key = $1";
    /// Sets a property.
    SET_META = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    /// Removes a property.
    UNSET_META = "DELETE FROM meta WHERE key = $1";
    /// Empties the lexical index for a rebuild.
    EMPTY_INDEX = "TRUNCATE posting, corpus";
    /// The next memories to be indexed, including deleted ones, so that all lengths come from the new analysis.
    REBUILD_READ = "SELECT m.project_id, m.seq, m.content, m.speaker, m.tags, m.situation, \
        m.outcome, m.lesson, m.deleted_at IS NULL AS live FROM memory m \
        WHERE (m.project_id, m.seq) > ($1, $2) ORDER BY m.project_id, m.seq LIMIT 200";
    /// Updates the lengths of memories.
    REBUILD_LENGTHS = "UPDATE memory m SET length = i.length \
        FROM json_to_recordset($1::json) AS i(project_id int, seq bigint, length int) \
        WHERE m.project_id = i.project_id AND m.seq = i.seq AND m.length <> i.length";
    /// The number of a project, if it exists.
    PROJECT = "SELECT id FROM project WHERE name = $1";
    /// Creates a project that has no memory yet.
    CREATE_PROJECT = "INSERT INTO project (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
    /// Releases the claims of memories whose validity ended, so that equal ones can be stored again.
    RELEASE_CLAIMS = "UPDATE memory m SET content_claim = NULL FROM project p \
        WHERE p.name = $1 AND m.project_id = p.id AND m.valid_until <= $2 AND m.content_claim \
            AND m.content_hash = ANY ($3)";
    /// Serializes requests with the same idempotency key.
    LOCK_KEY = "SELECT pg_advisory_xact_lock(hashtextextended($1 || chr(1) || $2, 7))";
    /// The stored answer to a request.
    PREVIOUS_ANSWER = "SELECT k.request_hash, k.answer FROM idempotency k \
        JOIN project p ON p.id = k.project_id WHERE p.name = $1 AND k.key = $2";
    /// Those of the given IDs that are readable and live.
    KNOWN = "SELECT m.id FROM memory m JOIN project p ON p.id = m.project_id \
        WHERE p.name = ANY ($1) AND m.id = ANY ($2) AND m.deleted_at IS NULL";
    /// Raises the time limit of the transaction for a large batch.
    ALLOW_TIME = "SELECT set_config('statement_timeout', $1, true)";
    /// Inserts the sources of a memory.
    ADD_SOURCES = "INSERT INTO source (project_id, memory_seq, position, source_id) \
        SELECT m.project_id, m.seq, i.position, i.source_id \
        FROM unnest($2::uuid[], $3::int[], $4::uuid[]) AS i(id, position, source_id) \
        JOIN memory m ON m.id = i.id JOIN project p ON p.id = m.project_id AND p.name = $1 ON CONFLICT DO NOTHING";
    /// Removes the sources of a memory.
    REMOVE_SOURCES = "DELETE FROM source s USING project p \
        WHERE p.name = $1 AND s.project_id = p.id AND s.memory_seq = $2";
    /// Inserts those of the sources that were not purged.
    RESTORE_SOURCES = "INSERT INTO source (project_id, memory_seq, position, source_id) \
        SELECT p.id, $2, i.position::int - 1, i.source_id FROM project p \
        CROSS JOIN unnest($3::uuid[]) WITH ORDINALITY AS i(source_id, position) \
        WHERE p.name = $1 AND EXISTS (SELECT FROM memory m WHERE m.id = i.source_id) ON CONFLICT DO NOTHING";
    /// Sets the existing memory as the successor if the item that supersedes others turned out to be equal to it.
    REDIRECT = "UPDATE memory m SET superseded_by = i.existing \
        FROM project p, unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS i(id, planned, existing) \
        WHERE p.name = $1 AND m.project_id = p.id AND m.id = i.id AND m.superseded_by = i.planned";
    /// Locks memories of the project to be changed, in storage order, so that two changes never deadlock.
    LOCK = concat!(
        "SELECT ",
        memory_columns!(),
        " FROM project p JOIN memory m ON m.project_id = p.id \
         WHERE p.name = $1 AND m.id = ANY ($2) ORDER BY m.seq FOR UPDATE OF m"
    );
    /// Memories that have the turns of memories to be restored.
    TAKEN_TURNS = "SELECT m.session, m.turn, m.id FROM project p \
        CROSS JOIN unnest($2::text[], $3::bigint[]) AS i(session, turn) \
        JOIN memory m ON m.project_id = p.id AND m.session = i.session AND m.turn = i.turn AND m.turn_claim \
        WHERE p.name = $1";
    /// Deletes vectors of a former text.
    FORGET_VECTORS = "DELETE FROM embedding e USING project p \
        WHERE p.name = $1 AND e.project_id = p.id AND e.memory_seq = ANY ($2)";
    /// Stores a vote, which is not a new version.
    VOTE = "UPDATE memory m SET helpful = $3, not_helpful = $4 FROM project p \
        WHERE p.name = $1 AND m.project_id = p.id AND m.seq = $2";
    /// Inserts postings and index jobs of memories that enter the index or are indexed again.
    INDEX = "WITH posted AS (\
            INSERT INTO posting (project_id, term, memory_seq, frequency, length) \
            SELECT p.id, t.term, t.seq, t.frequency, t.length \
            FROM project p, unnest($2::bigint[], $3::text[], $4::int[], $5::int[]) AS t(seq, term, frequency, length) \
            WHERE p.name = $1\
        ) \
        INSERT INTO index_job (project_id, memory_seq) \
        SELECT p.id, j.seq FROM project p, unnest($6::bigint[]) AS j(seq) WHERE p.name = $1 \
        ON CONFLICT (project_id, memory_seq) DO UPDATE SET attempts = 0, not_before = NULL, last_error = NULL";
    /// Inserts postings for a rebuild, which knows the project's number and queues nothing.
    REBUILD_INDEX = "WITH counted AS (\
            INSERT INTO corpus AS c (project_id, shard, documents, total_length) \
            SELECT d.project_id, 0, count(*), sum(d.length) \
            FROM json_to_recordset($1::json) AS d(project_id int, length int, live bool) \
            WHERE d.live GROUP BY d.project_id \
            ON CONFLICT (project_id, shard) DO UPDATE SET documents = c.documents + excluded.documents, \
                total_length = c.total_length + excluded.total_length\
        ) \
        INSERT INTO posting (project_id, term, memory_seq, frequency, length) \
        SELECT i.project_id, t.key, i.seq, t.value::int, i.length \
        FROM json_to_recordset($1::json) AS i(project_id int, seq bigint, length int, live bool, terms json), \
            json_each_text(i.terms) t WHERE i.live \
        ON CONFLICT (project_id, term, memory_seq) DO UPDATE \
            SET frequency = excluded.frequency, length = excluded.length";
    /// Removes postings from the index.
    UNINDEX = "DELETE FROM posting x USING project p, unnest($2::bigint[], $3::text[]) AS t(seq, term) \
        WHERE p.name = $1 AND x.project_id = p.id AND x.term = t.term AND x.memory_seq = t.seq";
    /// Removes index jobs from the queue.
    UNQUEUE = "DELETE FROM index_job j USING project p \
        WHERE p.name = $1 AND j.project_id = p.id AND j.memory_seq = ANY ($2)";
    /// Changes the stored size of the corpus.
    COUNT_CORPUS = "INSERT INTO corpus AS c (project_id, shard, documents, total_length) \
        SELECT p.id, pg_backend_pid() % 16, $2::bigint, $3::bigint FROM project p WHERE p.name = $1 \
        ON CONFLICT (project_id, shard) DO UPDATE SET documents = c.documents + excluded.documents, \
            total_length = c.total_length + excluded.total_length";
    /// Removes memories and, by foreign keys, their history, sources, vectors, mentions and reviews; also the items of
    /// the working memory that are linked to them or have the text of any of their versions.
    PURGE = "WITH gone AS (\
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
    /// Counts recalls. The commit does not wait for the disk, because losing a count loses no memory.
    NOTE_RECALLED = "WITH quick AS MATERIALIZED (\
            SELECT set_config('synchronous_commit', 'off', true)\
        ) \
        INSERT INTO recall_stat AS r (project_id, memory_seq, recall_count, last_recalled_at) \
        SELECT m.project_id, m.seq, 1, $3::timestamptz FROM quick, memory m JOIN project p ON p.id = m.project_id \
        WHERE p.name = ANY ($1) AND m.id = ANY ($2) AND m.deleted_at IS NULL ORDER BY m.seq \
        ON CONFLICT (project_id, memory_seq) DO UPDATE SET recall_count = r.recall_count + 1, \
            last_recalled_at = greatest(r.last_recalled_at, excluded.last_recalled_at)";
    /// For few terms, whose frequencies, up to `$19`, fit into one number; `$14` is the position of each.
    SEARCH_LEXICAL = search_lexical!(
        "bit_or",
        "least(x.frequency, $28::int)::bigint << q.number",
        "ARRAY[coalesce(c.terms, 0)]"
    );
    /// For more terms: one number each, with `$14` as the upper part.
    SEARCH_LEXICAL_MANY = search_lexical!(
        "array_agg",
        "q.number::bigint << 32 | x.frequency",
        "coalesce(c.terms, '{}')"
    );
    /// The newest memories.
    BROWSE = browse!(" ORDER BY m.seq DESC LIMIT 1000");
    /// The newest memories of a session; there are few, found by its index.
    BROWSE_SESSION = browse!(" AND m.session = $4 AND m.session IS NOT NULL OFFSET 0");
    /// The newest memories with given tags, found by their index.
    BROWSE_TAGS = browse!(" AND m.seq = ANY (memory_tagged($3)) OFFSET 0");
    /// Memories by id.
    GET = concat!(
        "SELECT ",
        memory_columns!(),
        " FROM memory m JOIN project p ON p.id = m.project_id \
         WHERE m.id = ANY ($2) AND p.name = ANY ($1) AND ($3::boolean OR m.deleted_at IS NULL)"
    );
    /// Memories of all states, in storage order.
    EXPORT = concat!(
        "SELECT ",
        memory_columns!(),
        " FROM (\
            SELECT m.* FROM project p CROSS JOIN LATERAL (\
                SELECT m.* FROM memory m WHERE m.project_id = p.id AND m.seq > $2 ORDER BY m.seq LIMIT $3) m \
            WHERE p.name = ANY ($1) ORDER BY m.seq LIMIT $3) m \
         JOIN project p ON p.id = m.project_id ORDER BY m.seq"
    );
    /// The counts of `status`.
    COUNTS = "SELECT m.kind, count(*) FILTER (WHERE m.deleted_at IS NULL) AS live, \
            count(*) FILTER (WHERE m.deleted_at IS NOT NULL) AS deleted, \
            count(*) FILTER (WHERE m.deleted_at IS NULL AND m.superseded_by IS NOT NULL) AS superseded \
        FROM memory m WHERE m.project_id = ANY (ARRAY(SELECT id FROM project WHERE name = ANY ($1))) GROUP BY m.kind";
    /// Memories that wait for an embedding.
    BACKLOG = "SELECT count(*) FROM index_job j \
        WHERE j.project_id = ANY (ARRAY(SELECT id FROM project WHERE name = ANY ($1)))";
    /// Tags among the newest memories ($2) of each project that begin with a text ($3), most used first, each in its
    /// most frequent spelling.
    COMPLETE_TAGS = "SELECT mode() WITHIN GROUP (ORDER BY t.tag) FROM project p CROSS JOIN LATERAL (\
            SELECT m.tags, m.tag_keys FROM memory m WHERE m.project_id = p.id AND m.deleted_at IS NULL \
            ORDER BY m.seq DESC LIMIT $2\
        ) n CROSS JOIN LATERAL unnest(n.tags, n.tag_keys) AS t (tag, key) \
        WHERE p.name = ANY ($1) AND starts_with(t.key, (SELECT (fold_tags(ARRAY[$3]))[1])) \
        GROUP BY t.key ORDER BY count(*) DESC, t.key LIMIT $4";
    /// IDs among those memories whose digits begin with a text ($3), newest first.
    COMPLETE_IDS = "SELECT n.id FROM project p CROSS JOIN LATERAL (\
            SELECT m.seq, m.id FROM memory m WHERE m.project_id = p.id AND m.deleted_at IS NULL \
            ORDER BY m.seq DESC LIMIT $2\
        ) n WHERE p.name = ANY ($1) AND starts_with(replace(n.id::text, '-', ''), $3) ORDER BY n.seq DESC LIMIT $4";
    /// A description of the database.
    INFO = "SELECT current_setting('server_version') AS version, \
        current_database()::text AS database, (SELECT max(version) FROM schema_migration) AS schema_version, \
        (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS vector, \
        pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only";
    /// Inserts a token. Returns no row if a valid token has the name.
    CREATE_TOKEN = "INSERT INTO token AS t (name, sha256, prefix, project, reads, created_at, \
            expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
        ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, prefix = excluded.prefix, project = excluded.project, \
            reads = excluded.reads, created_at = excluded.created_at, expires_at = excluded.expires_at, revoked_at = NULL \
            WHERE t.revoked_at IS NOT NULL RETURNING *";
    /// Replaces the secret of a token.
    ROTATE_TOKEN = "UPDATE token SET sha256 = $2, prefix = $3, created_at = $4 \
        WHERE name = $1 AND revoked_at IS NULL RETURNING *";
    /// Revokes a token.
    REVOKE_TOKEN = "UPDATE token SET revoked_at = coalesce(revoked_at, $2) WHERE name = $1 RETURNING *";
    /// All tokens.
    TOKENS = "SELECT * FROM token ORDER BY name";
    /// Serializes writers of a project with quotas.
    LOCK_USAGE = "SELECT pg_advisory_xact_lock(hashtextextended($1, 17))";
    /// The stored memories and bytes of a project.
    USAGE = "SELECT coalesce(sum(u.memories), 0)::bigint AS memories, \
        coalesce(sum(u.bytes + u.history_bytes), 0)::bigint AS bytes FROM usage u JOIN project p ON p.id = u.project_id WHERE p.name = $1";
    /// The number of entities of a project.
    COUNT_ENTITIES = "SELECT count(*) FROM entity e JOIN project p ON p.id = e.project_id WHERE p.name = $1";
    /// The number of its relations.
    COUNT_RELATIONS = "SELECT count(*) FROM relation r JOIN project p ON p.id = r.project_id WHERE p.name = $1";
    /// The number of its reviews.
    COUNT_REVIEWS = "SELECT count(*) FROM review r JOIN project p ON p.id = r.project_id WHERE p.name = $1";
}
