//! SQL statements about vectors.

use sqlx::AssertSqlSafe;

use super::filter::conditions;
use super::sql::hit_columns;
use crate::domain::Filter;

/// Vectors of a model, for the copy in memory.
pub(super) const VECTORS: &str = "SELECT m.project_id, e.memory_seq, e.chunk, e.vector FROM embedding e \
    JOIN memory m ON m.seq = e.memory_seq WHERE e.model = $1 AND e.dimension = $2 ORDER BY e.memory_seq, e.chunk";

/// The newest waiting memories.
pub(super) const CLAIM: &str = "SELECT j.memory_seq, j.project_id, j.attempts, m.version, m.content, m.speaker, m.situation, \
    m.lesson, m.kind = 'dialogue' FROM index_job j JOIN memory m ON m.seq = j.memory_seq \
    WHERE j.not_before <= $1 AND m.deleted_at IS NULL ORDER BY j.memory_seq DESC LIMIT $2";
/// Whether a memory is unchanged.
pub(super) const UNCHANGED: &str =
    "SELECT EXISTS (SELECT 1 FROM memory WHERE seq = $1 AND version = $2 AND deleted_at IS NULL)";
/// Inserts a vector.
pub(super) const INSERT_EMBEDDING: &str = "INSERT INTO embedding (memory_seq, model, chunk, dimension, content_hash, vector, \
    created_at) SELECT seq, $2, $3, $4, content_hash, $5, $6 FROM memory WHERE seq = $1";
/// Postpones a memory.
pub(super) const POSTPONE: &str = "UPDATE index_job SET not_before = $2, attempts = attempts + ($3 IS NOT NULL), \
    last_error = $3 WHERE memory_seq IN (SELECT value FROM json_each($1))";
/// Queues memories without vectors of a model ($1, of $4 dimensions; all if it is null), and those longer than $5 bytes (turns
/// of conversations: $6) that have one vector for the whole text. Portion from $2 to $3.
pub(super) const QUEUE_MISSING: &str = "INSERT INTO index_job (memory_seq, project_id) \
    SELECT m.seq, m.project_id FROM memory m WHERE m.seq > $2 AND m.seq <= $3 AND m.deleted_at IS NULL \
    AND (NOT EXISTS (SELECT 1 FROM embedding e WHERE e.memory_seq = m.seq AND e.model = $1 AND e.dimension = $4) \
        OR length(CAST(m.content || coalesce(m.situation, '') || coalesce(m.lesson, '') AS BLOB)) > \
            CASE m.kind WHEN 'dialogue' THEN $6 ELSE $5 END \
        AND EXISTS (SELECT 1 FROM embedding e WHERE e.memory_seq = m.seq AND e.model = $1 AND e.chunk = 0)) \
    ON CONFLICT DO UPDATE SET not_before = 0, attempts = 0, last_error = NULL WHERE attempts > 0";
/// The end of a portion of memories.
pub(super) const PORTION: &str =
    "SELECT max(seq) FROM (SELECT seq FROM memory WHERE seq > $1 ORDER BY seq LIMIT 2000)";
/// The number of waiting memories.
pub(super) const BACKLOG: &str = "SELECT count(*) FROM index_job";

/// The passages of some memories.
pub(super) const PASSAGES: &str = "SELECT memory_seq, chunk FROM embedding \
    WHERE memory_seq IN (SELECT value FROM json_each($1)) AND model = $2";

const NEAREST: &str = concat!(
    "SELECT m.id, m.seq, e.vector, ",
    hit_columns!(),
    ", e.chunk AS passage FROM json_each($2) w CROSS JOIN memory m ON m.seq = json_extract(w.value, '$[0]') \
     CROSS JOIN embedding e ON e.memory_seq = m.seq AND e.chunk = json_extract(w.value, '$[1]') \
     WHERE e.model = $3 AND "
);

/// The vectors of some passages, pairs of memory and number in $2, as far as the memories pass the filter.
pub(super) fn nearest(filter: &Filter, projects: &[i64]) -> AssertSqlSafe<String> {
    AssertSqlSafe([NEAREST, &conditions(filter, projects)].concat())
}
