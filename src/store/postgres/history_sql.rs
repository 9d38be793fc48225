//! SQL statements of [`super::history`]. A test prepares each one.

use crate::store::statement::statements;

statements! {
    /// The newest entries of a memory's history ($2) from a position ($3): $4 entries, limited to $5 bytes beyond the
    /// first two. The creation, which has no row of its own, is the entry at position 0.
    HISTORY_PAGE = "SELECT e.* FROM (\
            SELECT e.*, row_number() OVER newest AS number, sum(e.size) OVER newest AS total FROM (\
                SELECT m.id, h.version, h.change, h.old, h.actor, h.reason, h.at, h.seq AS place, \
                    octet_length(h.old::text) AS size \
                FROM memory m JOIN project p ON p.id = m.project_id CROSS JOIN LATERAL (\
                    SELECT h.* FROM history h WHERE h.project_id = m.project_id AND h.memory_seq = m.seq \
                        AND h.seq <= $3 ORDER BY h.seq DESC LIMIT $4) h \
                WHERE p.name = ANY ($1) AND m.id = $2 \
                UNION ALL \
                SELECT m.id, 1, 'created', NULL, m.created_by, NULL, m.created_at, 0, 0 \
                FROM memory m JOIN project p ON p.id = m.project_id WHERE p.name = ANY ($1) AND m.id = $2\
            ) e WINDOW newest AS (ORDER BY e.place DESC)\
        ) e WHERE e.number <= 2 OR (e.number <= $4 AND e.total <= $5) ORDER BY e.place DESC";
    /// Deletes changes older than a time ($1), oldest first, at most $2.
    EXPIRE_HISTORY = "DELETE FROM history h USING (\
            SELECT x.project_id, x.memory_seq, x.seq FROM history x WHERE x.at < $1 ORDER BY x.at LIMIT $2) x \
        WHERE h.project_id = x.project_id AND h.memory_seq = x.memory_seq AND h.seq = x.seq";
    /// Deletes idempotency keys older than a time ($1), oldest first, at most $2.
    EXPIRE_KEYS = "DELETE FROM idempotency k USING (\
            SELECT x.project_id, x.key FROM idempotency x WHERE x.created_at < $1 ORDER BY x.created_at LIMIT $2) x \
        WHERE k.project_id = x.project_id AND k.key = x.key";
    /// Deletes old keys of a project to make room for one more ($4). The newest keys remain, fewer than a number ($2)
    /// and a total size of answers ($3).
    TRIM_KEYS = "DELETE FROM idempotency k USING (\
            SELECT x.project_id, x.key, row_number() OVER newest AS number, \
                sum(octet_length(x.key) + 16 * cardinality(x.answer)) OVER newest AS size \
            FROM project p JOIN idempotency x ON x.project_id = p.id WHERE p.name = $1 \
            WINDOW newest AS (ORDER BY x.created_at DESC, x.key ROWS UNBOUNDED PRECEDING)) x \
        WHERE k.project_id = x.project_id AND k.key = x.key AND k.key <> $4 AND (x.number >= $2 OR x.size > $3)";
}
