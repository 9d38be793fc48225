//! SQL statements of the checks.

use crate::store::statement::statements;

statements! {
    /// `ok`, or the faults of the file.
    QUICK_CHECK = "SELECT quick_check FROM pragma_quick_check LIMIT 20";
    /// Tables with their own pages.
    TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
    /// `ok`, or the faults of a table ($1): its rows, conditions and indexes.
    CHECK_TABLE = "SELECT integrity_check FROM pragma_integrity_check($1) LIMIT 20";
    /// The number of rows with a missing referenced row.
    FOREIGN_KEYS = "SELECT count(*) FROM pragma_foreign_key_check";
    /// The numbers of live memories without an index entry, and of entries without a live memory.
    UNINDEXED = "WITH d AS MATERIALIZED (SELECT DISTINCT doc FROM memory_term_instance) SELECT \
        (SELECT count(*) FROM memory m WHERE m.deleted_at IS NULL AND m.length > 0 AND m.seq NOT IN (SELECT doc FROM d)), \
        (SELECT count(*) FROM d WHERE d.doc NOT IN (SELECT seq FROM memory WHERE deleted_at IS NULL))";
    /// The number of projects whose totals disagree with the memories.
    CORPUS = "SELECT count(*) FROM project p WHERE p.documents <> \
            (SELECT count(*) FROM memory m WHERE m.project_id = p.id AND m.deleted_at IS NULL) \
        OR p.total_length <> (SELECT coalesce(sum(m.length), 0) FROM memory m WHERE m.project_id = p.id \
            AND m.deleted_at IS NULL)";
    /// The next terms ($2) after one ($1), each with its memories, once per occurrence.
    POSTINGS = "SELECT w.term, \
        (SELECT group_concat(v.doc) FROM memory_term_instance v WHERE v.term = w.term) \
        FROM (SELECT term FROM memory_term_row WHERE term > $1 LIMIT $2) w ORDER BY w.term";
    /// The versions of those of the given memories ($1: JSON of their numbers) that are live.
    VERSIONS = "SELECT m.seq, m.version FROM json_each($1) w CROSS JOIN memory m ON m.seq = w.value \
        WHERE m.deleted_at IS NULL";
    /// The number of the last memory.
    LAST = "SELECT max(coalesce((SELECT max(seq) FROM memory), 0), \
        coalesce((SELECT max(memory_seq) FROM embedding), 0))";
    /// Live memories from $1 (exclusive) to $2 that have no vector and are not queued, and vectors of another text or
    /// of no memory.
    VECTORS = "SELECT \
        (SELECT count(*) FROM memory m WHERE m.seq > $1 AND m.seq <= $2 AND m.deleted_at IS NULL AND m.length > 0 \
            AND NOT EXISTS (SELECT 1 FROM embedding e WHERE e.memory_seq = m.seq) \
            AND NOT EXISTS (SELECT 1 FROM index_job j WHERE j.memory_seq = m.seq)), \
        (SELECT count(*) FROM embedding e LEFT JOIN memory m ON m.seq = e.memory_seq WHERE e.memory_seq > $1 AND e.memory_seq <= $2 \
            AND (m.seq IS NULL OR m.content_hash <> e.content_hash))";
    /// A write without a visible effect.
    PROBE_WRITE = "INSERT INTO meta (key, value) VALUES ('write_probe', '1') \
        ON CONFLICT DO UPDATE SET value = CAST(value AS INTEGER) % 1000 + 1";
}
