//! SQL statements about vectors. Searches contain the dimension as a literal, because the planner uses an index over
//! vectors of one dimension only then.

use sqlx::AssertSqlSafe;

use super::filter::filter;
use super::sql::hit_columns;

/// Maximum dimension of an index.
const MAX_DIMENSION: usize = 4_000;

/// Claims the newest waiting memories. No other caller gets them before `$3`.
pub(super) const CLAIM: &str = "WITH picked AS (\
        SELECT j.project_id, j.memory_seq FROM index_job j WHERE j.not_before IS NULL OR j.not_before <= $1 \
        ORDER BY j.project_id DESC, j.memory_seq DESC LIMIT $2 FOR UPDATE SKIP LOCKED\
    ), claimed AS (\
        UPDATE index_job j SET not_before = $3 FROM picked p \
        WHERE j.project_id = p.project_id AND j.memory_seq = p.memory_seq \
        RETURNING j.project_id, j.memory_seq, j.attempts\
    ) \
    SELECT c.project_id::bigint AS project_id, c.memory_seq, c.attempts, m.version, m.content, m.speaker, m.situation, \
        m.lesson, m.kind = 'dialogue' AS is_turn \
    FROM claimed c JOIN memory m ON m.project_id = c.project_id AND m.seq = c.memory_seq WHERE m.deleted_at IS NULL \
    ORDER BY c.project_id DESC, c.memory_seq DESC";
/// Those of the given memories that have not changed. They remain locked until the end of the transaction.
pub(super) const UNCHANGED: &str = "SELECT i.n FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) \
    WITH ORDINALITY AS i(project_id, seq, version, n) \
    JOIN memory m ON m.project_id = i.project_id::int AND m.seq = i.seq \
    WHERE m.version = i.version AND m.deleted_at IS NULL ORDER BY m.project_id, m.seq FOR SHARE OF m";
/// Removes the vectors of memories.
pub(super) const DELETE_VECTORS: &str = "DELETE FROM embedding e USING unnest($1::bigint[], $2::bigint[]) AS i(project_id, seq) \
    WHERE e.project_id = i.project_id::int AND e.memory_seq = i.seq";
/// Inserts vectors. `$7` contains the components of all vectors, one vector after the other.
pub(super) const INSERT_VECTORS: &str = "INSERT INTO embedding (project_id, memory_seq, model, chunk, dimension, content_hash, \
        vector, created_at) \
    SELECT m.project_id, m.seq, $4, i.chunk, $5::int, m.content_hash, \
        ($7::real[])[(i.n - 1) * $5::int + 1 : i.n * $5::int]::halfvec, $6::timestamptz \
    FROM unnest($1::bigint[], $2::bigint[], $3::int[]) WITH ORDINALITY AS i(project_id, seq, chunk, n) \
    JOIN memory m ON m.project_id = i.project_id::int AND m.seq = i.seq";
/// Removes memories from the queue.
pub(super) const DONE: &str = "DELETE FROM index_job j USING unnest($1::bigint[], $2::bigint[]) AS i(project_id, seq) \
    WHERE j.project_id = i.project_id::int AND j.memory_seq = i.seq";
/// Postpones memories.
pub(super) const POSTPONE: &str = "UPDATE index_job j SET not_before = $4::timestamptz, last_error = $3::text, \
        attempts = j.attempts + ($3::text IS NOT NULL)::int \
    FROM unnest($1::bigint[], $2::bigint[]) AS i(project_id, seq) \
    WHERE j.project_id = i.project_id::int AND j.memory_seq = i.seq";
/// Queues memories without vectors of a model ($1, of $4 dimensions; all if it is null), and those longer than $5 bytes (turns
/// of conversations: $6) that have one vector for the whole text. Portions of 2,000 memories.
pub(super) const QUEUE_MISSING: &str = "WITH part AS (\
        SELECT m.project_id, m.seq, m.deleted_at, m.kind, \
            octet_length(m.content) + coalesce(octet_length(m.situation), 0) + coalesce(octet_length(m.lesson), 0) AS bytes \
        FROM memory m WHERE (m.project_id, m.seq) > ($2::int, $3::bigint) \
        ORDER BY m.project_id, m.seq LIMIT 2000\
    ), queued AS (\
        INSERT INTO index_job (project_id, memory_seq) \
        SELECT p.project_id, p.seq FROM part p WHERE p.deleted_at IS NULL AND (NOT EXISTS (\
            SELECT 1 FROM embedding e WHERE e.project_id = p.project_id AND e.memory_seq = p.seq AND e.model = $1::text \
            AND e.dimension = $4::int) \
            OR p.bytes > CASE p.kind WHEN 'dialogue' THEN $6::int ELSE $5::int END AND EXISTS (\
            SELECT 1 FROM embedding e WHERE e.project_id = p.project_id AND e.memory_seq = p.seq AND e.model = $1::text \
            AND e.chunk = 0)) \
        ON CONFLICT (project_id, memory_seq) DO UPDATE SET not_before = NULL, attempts = 0, last_error = NULL \
            WHERE index_job.attempts > 0\
    ) \
    SELECT p.project_id::bigint AS project_id, p.seq FROM part p ORDER BY p.project_id DESC, p.seq DESC LIMIT 1";
/// The number of waiting memories.
pub(super) const WAITING: &str = "SELECT count(*) FROM index_job";
/// Whether an index exists and is valid.
pub(super) const INDEX_STATE: &str = "SELECT i.indisvalid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid \
    WHERE c.oid = to_regclass($1)";
/// The number of all vectors, as the server last estimated it.
pub(super) const TOTAL: &str = "SELECT greatest(c.reltuples, 0)::bigint FROM pg_class c WHERE c.oid = to_regclass('embedding')";
/// The number of memories of the readable projects.
pub(super) const DOCUMENTS: &str = "SELECT coalesce(sum(c.documents), 0)::bigint FROM project p \
    JOIN corpus c ON c.project_id = p.id WHERE p.name = ANY ($1)";
/// Raises the memory for building the index: if all vectors fit, the build is many times faster. Never less than the
/// server's own setting, and at most 1 GiB more.
pub(super) const BUILD_MEMORY: &str = "SELECT set_config('maintenance_work_mem', \
    greatest(pg_size_bytes(current_setting('maintenance_work_mem')), \
        least(2 * pg_table_size('embedding'), 1073741824)) / 1024 || 'kB', false)";
/// Disables parallel workers, which need shared memory; containers have little of it.
pub(super) const BUILD_ALONE: &str =
    "SELECT set_config('max_parallel_maintenance_workers', '0', false)";

/// The statements with their names, for the test that prepares each one.
pub(super) const ALL: &[(&str, &str)] = &[
    ("CLAIM", CLAIM),
    ("UNCHANGED", UNCHANGED),
    ("DELETE_VECTORS", DELETE_VECTORS),
    ("INSERT_VECTORS", INSERT_VECTORS),
    ("DONE", DONE),
    ("POSTPONE", POSTPONE),
    ("QUEUE_MISSING", QUEUE_MISSING),
    ("WAITING", WAITING),
    ("INDEX_STATE", INDEX_STATE),
    ("TOTAL", TOTAL),
    ("DOCUMENTS", DOCUMENTS),
    ("BUILD_MEMORY", BUILD_MEMORY),
    ("BUILD_ALONE", BUILD_ALONE),
];

/// Returns the name of the index over vectors of a dimension; `None` if the dimension cannot have one.
pub(super) fn index_name(dimension: usize) -> Option<String> {
    (dimension <= MAX_DIMENSION).then(|| format!("embedding_nearest_{dimension}"))
}

/// Creates the index without blocking reads and writes.
pub(super) fn create_index(dimension: usize) -> Option<AssertSqlSafe<String>> {
    let name = index_name(dimension)?;
    Some(AssertSqlSafe(format!(
        "CREATE INDEX CONCURRENTLY {name} ON embedding USING hnsw ((vector::halfvec({dimension})) halfvec_cosine_ops) \
         WHERE dimension = {dimension}"
    )))
}

/// Removes the remains of an interrupted build.
pub(super) fn drop_index(dimension: usize) -> Option<AssertSqlSafe<String>> {
    Some(AssertSqlSafe(format!(
        "DROP INDEX CONCURRENTLY IF EXISTS {}",
        index_name(dimension)?
    )))
}

/// Maximum number of memories that are compared because they pass a filter; the newest are used.
const MOST_FILTERED: u32 = 50_000;

/// The set of vectors that a search reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// All vectors in scope.
    All,
    /// The index, read further until enough pass the filter; if it ends early, the vectors of memories that pass the
    /// filter.
    Index,
    /// The vectors of memories that pass the filter, in conversation `$4`.
    Session,
}

/// The search: `$21` the vector, `$22` the model. `limit` is one of few numbers and stands in the text, since the planner
/// takes a parameter for a tenth of the table. Each OFFSET 0 keeps the planner to the order in which things are written:
/// memories are looked up from the nearest on, until enough pass the filter.
pub(super) fn nearest(dimension: usize, limit: usize, way: Way) -> AssertSqlSafe<String> {
    // As a subquery the vector is computed once, as an expression for every row.
    let distance = format!(
        "((e.vector::halfvec({dimension})) <=> (SELECT $21::real[]::halfvec({dimension})))"
    );
    let (filter, columns) = (filter!(), hit_columns!());
    let in_scope = "ANY (ARRAY(SELECT p.id FROM project p WHERE p.name = ANY ($1)))";
    let of_model = format!("e.dimension = {dimension} AND e.model = $22");
    let memory_of = format!(
        "LATERAL (SELECT m.project_id, m.seq, m.id, {columns} FROM memory m \
         WHERE m.project_id = e.project_id AND m.seq = e.memory_seq AND {filter} OFFSET 0) m"
    );
    let passing = |found_by: &str| {
        format!(
            "SELECT m.*, e.chunk, e.distance FROM (\
                SELECT m.project_id, m.seq AS memory_seq, e.chunk, e.distance FROM (\
                    SELECT m.project_id, m.seq FROM memory m \
                    WHERE m.project_id = {in_scope} AND {found_by}{filter} \
                    ORDER BY m.seq DESC LIMIT {MOST_FILTERED}\
                ) m CROSS JOIN LATERAL (\
                    SELECT e.chunk, {distance} AS distance FROM embedding e \
                    WHERE e.project_id = m.project_id AND e.memory_seq = m.seq AND {of_model} OFFSET 0\
                ) e ORDER BY e.distance LIMIT {limit}\
             ) e CROSS JOIN {memory_of}"
        )
    };
    let near = format!(
        "SELECT m.*, e.chunk, {distance} AS distance FROM embedding e CROSS JOIN {memory_of} \
         WHERE {of_model} AND e.project_id = {in_scope} ORDER BY {distance} LIMIT {limit}"
    );
    let found = match way {
        Way::All => format!(
            "SELECT m.*, e.chunk, e.distance FROM (\
                SELECT * FROM (\
                    SELECT e.project_id, e.memory_seq, e.chunk, {distance} AS distance FROM embedding e \
                    WHERE {of_model} AND e.project_id = {in_scope} OFFSET 0\
                ) e ORDER BY e.distance OFFSET 0\
             ) e CROSS JOIN {memory_of} ORDER BY e.distance LIMIT {limit}"
        ),
        Way::Index => {
            let full = |found: &str| format!("(SELECT count(*) FROM {found}) = {limit}");
            let (near_full, passing_full) = (full("near"), full("passing"));
            // If few memories pass, the second part finds all of them; of many old ones the index may have found some.
            // Behind the LIMIT of the first part, the second part costs nothing if it is not needed, not even the start
            // of parallel workers.
            format!(
                "WITH near AS MATERIALIZED ({near}), \
                 passing AS MATERIALIZED (SELECT * FROM ({} LIMIT {limit}) p WHERE NOT {near_full}) \
                 SELECT * FROM passing UNION ALL SELECT * FROM near WHERE {near_full} OR {passing_full}",
                passing("")
            )
        }
        Way::Session => passing("m.session = $4 AND "),
    };
    AssertSqlSafe(format!(
        "SELECT n.*, 1 - n.distance AS cosine, coalesce(r.recall_count, 0) AS recall_count, r.last_recalled_at \
         FROM ({found}) n \
         LEFT JOIN LATERAL (SELECT r.recall_count, r.last_recalled_at FROM recall_stat r \
             WHERE r.project_id = n.project_id AND r.memory_seq = n.seq OFFSET 0) r ON true"
    ))
}
