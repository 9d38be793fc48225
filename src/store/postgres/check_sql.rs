//! SQL statements of the checks.

use crate::store::statement::statements;

statements! {
    /// The next live memories after a position ($1 project, $2 number).
    MEMORIES = "SELECT m.project_id, m.seq, m.content, m.speaker, m.tags, m.situation, m.outcome, \
        m.lesson, true AS live, m.version::bigint AS version FROM memory m \
        WHERE (m.project_id, m.seq) > ($1, $2) AND m.deleted_at IS NULL ORDER BY m.project_id, m.seq LIMIT 500";
    /// The next entries of the word index after a position ($1 project, $2 term, $3 memory).
    POSTINGS = "SELECT x.project_id, x.term, x.memory_seq, x.frequency FROM posting x \
        WHERE (x.project_id, x.term, x.memory_seq) > ($1, $2, $3) \
        ORDER BY x.project_id, x.term, x.memory_seq LIMIT 20000";
    /// Versions of those of the given memories ($1 projects, $2 numbers) that are live.
    VERSIONS = "SELECT m.project_id, m.seq, m.version::bigint \
        FROM unnest($1::bigint[], $2::bigint[]) AS w(project_id, seq) \
        JOIN memory m ON m.project_id = w.project_id AND m.seq = w.seq WHERE m.deleted_at IS NULL";
    /// The number of the last memory.
    LAST = "SELECT coalesce(max(seq), 0) FROM memory";
    /// Live memories from $1 (exclusive) to $2 that have no vector and are not queued, and vectors of another text.
    VECTORS = "SELECT \
        (SELECT count(*) FROM memory m WHERE m.seq > $1 AND m.seq <= $2 AND m.deleted_at IS NULL AND m.length > 0 \
            AND NOT EXISTS (SELECT FROM embedding e WHERE e.project_id = m.project_id AND e.memory_seq = m.seq) \
            AND NOT EXISTS (SELECT FROM index_job j WHERE j.project_id = m.project_id AND j.memory_seq = m.seq)), \
        (SELECT count(*) FROM embedding e LEFT JOIN memory m ON m.project_id = e.project_id AND m.seq = e.memory_seq \
            WHERE e.memory_seq > $1 AND e.memory_seq <= $2 AND (m.seq IS NULL OR m.content_hash <> e.content_hash))";
    /// The index check function of the extension amcheck, as a qualified name, and whether this role may execute it.
    AMCHECK = "SELECT p.oid::regproc::text, has_function_privilege(p.oid, 'EXECUTE') \
        FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid \
        AND d.classid = 'pg_proc'::regclass JOIN pg_proc p ON p.oid = d.objid \
        WHERE e.extname = 'amcheck' AND p.proname = 'bt_index_check' AND p.pronargs = 1";
    /// The B-tree indexes of tables in the schema and with the owner of `memory`: in a shared schema, other tables are
    /// not ours.
    BTREE_INDEXES = "SELECT x.oid::bigint, x.oid::regclass::text FROM pg_class m \
        JOIN pg_class t ON t.relnamespace = m.relnamespace AND t.relowner = m.relowner \
        JOIN pg_index i ON i.indrelid = t.oid AND i.indisvalid AND i.indisready \
        JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i' AND x.relpersistence = 'p' \
        JOIN pg_am a ON a.oid = x.relam AND a.amname = 'btree' \
        WHERE m.oid = 'memory'::regclass ORDER BY x.relname";
    /// A write without a visible effect.
    PROBE_WRITE = "INSERT INTO meta (key, value) VALUES ('write_probe', now()::text) \
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
}
