//! Every other statement of this backend, by name. A test prepares each one against a migrated database.
//!
//! Parameters are written `$1`: sqlx interprets the number as the index in the argument list, even if several
//! statements are sent at once.

use sqlx::AssertSqlSafe;

use super::filter::conditions;
use super::memory_sql::memory;
use crate::domain::Filter;
use crate::store::statement::statements;

/// Columns of `memory m` that ranking reads, see `fields::hit`. The text and the project's name are read for turns only.
macro_rules! hit_columns {
    () => {
        "m.importance, m.created_at, m.last_recalled_at, m.recall_count, m.helpful, m.not_helpful, \
         CASE WHEN m.turn IS NOT NULL THEN (SELECT p.name FROM project p WHERE p.id = m.project_id) END AS project, \
         m.session, m.turn, m.speaker, m.length, m.occurred_at, \
         m.turn IS NOT NULL AND substr(rtrim(m.content, char(32, 9, 13, 10)), -1) IN ('?', '\u{ff1f}', '\u{61f}') AS asks"
    };
}
pub(super) use hit_columns;

/// Items with the text of any version of the memory $1.
macro_rules! same_text {
    ($table:literal) => {
        concat!(
            "SELECT f.seq FROM (SELECT project_id, content FROM memory WHERE seq = $1 \
             UNION SELECT m.project_id, h.old ->> '$.content' FROM history h JOIN memory m ON m.seq = h.memory_seq \
                WHERE h.memory_seq = $1 AND h.old IS NOT NULL) v \
             CROSS JOIN ",
            $table,
            " f ON f.project_id = v.project_id AND length(f.content) = length(v.content) AND f.content = v.content"
        )
    };
}

statements! {
    /// Begins a durable write and excludes other writers. Each write sets its durability.
    BEGIN = "PRAGMA synchronous = FULL; BEGIN IMMEDIATE";
    /// Commits a write.
    COMMIT = "COMMIT";
    /// Rolls a write back.
    ROLLBACK = "ROLLBACK";
    /// Begins a write that need not be durable: its commit does not wait for the disk.
    BEGIN_RELAXED = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";
    /// Empties the write-ahead log, which may contain purged data.
    CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)";
    /// Rewrites the file without free pages.
    COMPACT = "VACUUM";

    /// Version of the engine, which also proves that the file is readable.
    INFO = "SELECT sqlite_version(), (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM meta)";
    /// Reads a property of the database.
    META = "SELECT value FROM meta WHERE key = $1";
    /// Sets a property.
    SET_META = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT DO UPDATE SET value = excluded.value";

    /// Number of a project.
    PROJECT = "SELECT id FROM project WHERE name = $1";
    /// Inserts a new project.
    INSERT_PROJECT = "INSERT INTO project (name) VALUES ($1) RETURNING id";
    /// Changes the stored size of a project's corpus.
    RESIZE = "UPDATE project SET documents = documents + $2, total_length = total_length + $3 WHERE id = $1";

    /// The stored memories and bytes of a project.
    USAGE = "SELECT memories, bytes + history_bytes FROM project WHERE id = $1";
    /// The number of entities of a project.
    COUNT_ENTITIES = "SELECT count(*) FROM entity WHERE project_id = $1";
    /// The number of its relations.
    COUNT_RELATIONS = "SELECT count(*) FROM relation WHERE project_id = $1";
    /// The number of its reviews.
    COUNT_REVIEWS = "SELECT count(*) FROM review WHERE project_id = $1";

    /// Inserts a token. Returns no row if a valid token has the name.
    CREATE_TOKEN = "INSERT INTO token (name, sha256, prefix, project, reads, created_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, \
        prefix = excluded.prefix, project = excluded.project, reads = excluded.reads, \
        created_at = excluded.created_at, expires_at = excluded.expires_at, revoked_at = NULL \
        WHERE token.revoked_at IS NOT NULL RETURNING *";
    /// Replaces the secret of a token.
    ROTATE_TOKEN = "UPDATE token SET sha256 = $2, prefix = $3, created_at = $4 \
        WHERE name = $1 AND revoked_at IS NULL RETURNING *";
    /// Revokes a token.
    REVOKE_TOKEN = "UPDATE token SET revoked_at = coalesce(revoked_at, $2) WHERE name = $1 RETURNING *";
    /// Deletes all tokens.
    DELETE_TOKENS = "DELETE FROM token";
    /// Inserts a token from another database unchanged.
    INSERT_TOKEN = "INSERT INTO token (name, sha256, prefix, project, reads, created_at, expires_at, revoked_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    /// All tokens.
    TOKENS = "SELECT * FROM token ORDER BY name";

    /// The stored answer to an idempotency key.
    IDEMPOTENT = "SELECT request_hash, answer FROM idempotency WHERE project_id = $1 AND key = $2";
    /// Stores that answer.
    INSERT_IDEMPOTENT = "INSERT INTO idempotency (project_id, key, request_hash, answer, created_at) \
        VALUES ($1, $2, $3, $4, $5)";
    /// Deletes old keys. The newest remain, up to a number ($2) and a total size of answers ($3).
    TRIM_IDEMPOTENT = "DELETE FROM idempotency WHERE project_id = $1 AND key IN (SELECT key FROM (\
        SELECT key, row_number() OVER newest AS number, sum(octet_length(answer)) OVER newest AS size \
        FROM idempotency WHERE project_id = $1 \
        WINDOW newest AS (ORDER BY created_at DESC, key ROWS UNBOUNDED PRECEDING)) WHERE number > $2 OR size > $3)";
    /// Deletes keys older than a time ($1), oldest first, at most $2.
    EXPIRE_IDEMPOTENT = "DELETE FROM idempotency WHERE (project_id, key) IN (SELECT project_id, key FROM idempotency \
        WHERE created_at < $1 ORDER BY created_at LIMIT $2)";
    /// Deletes changes older than a time ($1), oldest first, at most $2.
    EXPIRE_HISTORY = "DELETE FROM history WHERE seq IN (SELECT seq FROM history WHERE at < $1 AND old IS NOT NULL \
        ORDER BY at LIMIT $2)";
    /// Memories with the same text as new ones ($2: JSON of hashes in hexadecimal).
    EQUAL = "SELECT m.id, m.kind, m.content_hash, m.valid_until FROM json_each($2) h \
        CROSS JOIN memory m ON m.project_id = $1 AND m.content_hash = unhex(h.value) \
        WHERE m.kind <> 'dialogue' AND m.deleted_at IS NULL AND m.superseded_by IS NULL ORDER BY m.seq";
    /// The turn of a conversation.
    TURN = "SELECT id, content_hash FROM memory WHERE project_id = $1 AND session = $2 AND turn = $3 \
        AND deleted_at IS NULL AND superseded_by IS NULL";
    /// Those of the given IDs ($2: JSON of IDs in hexadecimal) that are live memories of these projects ($1).
    PRESENT = "SELECT m.id, m.seq FROM json_each($2) w CROSS JOIN memory m ON m.id = unhex(w.value) \
        WHERE m.deleted_at IS NULL AND m.project_id IN (SELECT value FROM json_each($1))";

    /// Inserts the tags of a memory in normalized form ($2: JSON).
    INSERT_TAGS = "INSERT OR IGNORE INTO memory_tag (memory_seq, tag) \
        SELECT m.seq, t.value FROM memory m JOIN json_each($2) t WHERE m.id = $1";
    /// The next tags ($3) after one of a memory ($1, $2).
    TAG_INDEX = "SELECT memory_seq, tag FROM memory_tag WHERE (memory_seq, tag) > ($1, $2) ORDER BY memory_seq, tag LIMIT $3";
    /// Inserts the normalized form ($3) of a tag ($2).
    FOLD_TAG = "INSERT OR IGNORE INTO memory_tag (memory_seq, tag) VALUES ($1, $3); \
        DELETE FROM memory_tag WHERE memory_seq = $1 AND tag = $2";
    /// Inserts the sources of a memory ($2: JSON of IDs in hexadecimal).
    INSERT_SOURCES = "INSERT INTO source (memory_seq, position, source_id) \
        SELECT (SELECT seq FROM memory WHERE id = $1), w.key, o.id FROM json_each($2) w JOIN memory o ON o.id = unhex(w.value)";
    /// Deletes the sources of a memory.
    DELETE_SOURCES = "DELETE FROM source WHERE memory_seq = $1";
    /// Inserts one entry of the history.
    INSERT_HISTORY = "INSERT INTO history (memory_seq, version, change, old, actor, reason, at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    /// Queues a memory for an embedding with no attempts.
    INSERT_JOB = "INSERT INTO index_job (memory_seq, project_id) VALUES ($1, $2) \
        ON CONFLICT DO UPDATE SET attempts = 0, not_before = 0, last_error = NULL";
    /// Removes a memory from the queue.
    DELETE_JOB = "DELETE FROM index_job WHERE memory_seq = $1";
    /// Deletes vectors of a former text.
    DELETE_EMBEDDING = "DELETE FROM embedding WHERE memory_seq = $1";
    /// Inserts the terms of a text into the index.
    INSERT_TERMS = "INSERT INTO memory_term (rowid, terms) VALUES ($1, $2)";
    /// Removes the terms of a text; they must be exactly the inserted ones.
    DELETE_TERMS = "INSERT INTO memory_term (memory_term, rowid, terms) VALUES ('delete', $1, $2)";
    /// Writes pending changes of the index to its segments.
    FLUSH_TERMS = "INSERT INTO memory_term (memory_term) VALUES ('flush')";
    /// The number of memories that a rebuild of the index reads.
    COUNT_LIVE = "SELECT count(*) FROM memory WHERE deleted_at IS NULL";
    /// Empties the index.
    CLEAR_TERMS = "INSERT INTO memory_term (memory_term) VALUES ('delete-all'); \
        UPDATE project SET documents = 0, total_length = 0";
    /// The memories of the index, page by page.
    LIVE = concat!(memory!(), "WHERE m.seq > $1 AND m.deleted_at IS NULL ORDER BY m.seq LIMIT $2");
    /// Sets the length of a memory under another analysis.
    SET_LENGTH = "UPDATE memory SET length = $2 WHERE seq = $1";

    /// Stores votes, which are not a new version.
    VOTE = "UPDATE memory SET helpful = $2, not_helpful = $3 WHERE seq = $1";
    /// Replaces the tags of a memory.
    REPLACE_TAGS = "DELETE FROM memory_tag WHERE memory_seq = $1; \
        INSERT OR IGNORE INTO memory_tag (memory_seq, tag) SELECT $1, t.value FROM json_each($2) t";
    /// Deletes a memory with all its data, and the items of the working memory that have the text of any of its
    /// versions.
    DELETE_MEMORY = concat!(
        "DELETE FROM focus WHERE seq IN (", same_text!("focus"), "); \
         DELETE FROM focus_archive WHERE seq IN (", same_text!("focus_archive"), "); \
         DELETE FROM memory WHERE seq = $1");
    /// Records that recall returned a memory.
    NOTE_RECALLED = "UPDATE memory SET recall_count = recall_count + 1, last_recalled_at = max(coalesce(last_recalled_at, $3), $3) \
        WHERE id IN (SELECT unhex(value) FROM json_each($2)) AND deleted_at IS NULL \
        AND project_id IN (SELECT value FROM json_each($1))";

    /// Memories by ID, in any state.
    GET = concat!(memory!(), "WHERE m.id IN (SELECT unhex(value) FROM json_each($2)) \
        AND m.project_id IN (SELECT value FROM json_each($1))");
    /// Memories of all states, in storage order.
    EXPORT = concat!(memory!(), "WHERE m.seq > $2 AND m.project_id IN (SELECT value FROM json_each($1)) \
        ORDER BY m.seq LIMIT $3");
    /// Positions and sizes of the newest entries ($4 of them) of a memory's history ($2), from a position on ($3).
    HISTORY_PLACES = "SELECT h.seq, coalesce(octet_length(h.old), 0) FROM memory m JOIN history h ON h.memory_seq = m.seq \
        WHERE m.id = $2 AND m.project_id IN (SELECT value FROM json_each($1)) AND ($3 IS NULL OR h.seq <= $3) \
        ORDER BY h.seq DESC LIMIT $4";
    /// The history entries at given positions ($1: JSON of numbers).
    HISTORY_ENTRIES = "SELECT m.id, h.version, h.change, h.old, h.actor, h.reason, h.at, h.seq \
        FROM json_each($1) w CROSS JOIN history h ON h.seq = w.value JOIN memory m ON m.seq = h.memory_seq \
        ORDER BY h.seq DESC";
    /// The history of given memories.
    HISTORY = "SELECT m.id, h.version, h.change, h.old, h.actor, h.reason, h.at FROM memory m \
        JOIN history h ON h.memory_seq = m.seq WHERE m.id IN (SELECT unhex(value) FROM json_each($2)) \
        AND m.project_id IN (SELECT value FROM json_each($1)) ORDER BY h.seq";
    /// Number of live memories by kind.
    COUNT_KINDS = "SELECT kind, count(*) FROM memory WHERE project_id IN (SELECT value FROM json_each($1)) \
        AND deleted_at IS NULL GROUP BY kind";
    /// Number of deleted, superseded and waiting memories.
    COUNT_REST = "SELECT \
        (SELECT count(*) FROM memory WHERE project_id IN (SELECT value FROM json_each($1)) AND deleted_at IS NOT NULL), \
        (SELECT count(*) FROM memory WHERE project_id IN (SELECT value FROM json_each($1)) \
         AND superseded_by IS NOT NULL AND deleted_at IS NULL), \
        (SELECT count(*) FROM index_job WHERE project_id IN (SELECT value FROM json_each($1)))";

    /// Tags among the newest memories ($2) of a project ($1), with their uses.
    COMPLETE_TAGS = "SELECT t.value, count(*) FROM (SELECT m.tags FROM memory m WHERE m.project_id = $1 \
        AND m.deleted_at IS NULL ORDER BY m.seq DESC LIMIT $2) n, json_each(n.tags) t \
        GROUP BY t.value";
    /// IDs among those memories whose digits begin with a text ($3).
    COMPLETE_IDS = "SELECT n.seq, n.id FROM (SELECT m.seq, m.id FROM memory m WHERE m.project_id = $1 \
        AND m.deleted_at IS NULL ORDER BY m.seq DESC LIMIT $2) n \
        WHERE substr(lower(hex(n.id)), 1, length($3)) = $3 ORDER BY n.seq DESC LIMIT $4";

    /// Corpus of the projects ($1), and the number of memories that contain each of the terms ($2: JSON of
    /// `project:term`).
    CORPUS_STATS = "SELECT NULL, sum(documents), sum(total_length), \
         EXISTS (SELECT 1 FROM entity WHERE project_id IN (SELECT value FROM json_each($1))), \
         EXISTS (SELECT 1 FROM memory WHERE project_id IN (SELECT value FROM json_each($1)) AND session IS NOT NULL) \
         FROM project \
         WHERE id IN (SELECT value FROM json_each($1)) \
        UNION ALL SELECT w.key, v.doc, 0, 0, 0 FROM json_each($2) w CROSS JOIN memory_term_row v ON v.term = w.value";
    /// The first terms ($3) of a part of the vocabulary ($1 to $2).
    VOCABULARY = "SELECT term FROM memory_term_row WHERE term >= $1 AND term < $2 LIMIT $3";
    /// The next terms ($2) after one ($1), separated by spaces, and the last of them.
    VOCABULARY_PORTION = "SELECT group_concat(term, ' '), max(term) \
        FROM (SELECT term FROM memory_term_row WHERE term > $1 LIMIT $2)";
    /// The number of memories that contain each of the terms ($1: JSON of `project:term`).
    COUNT_TERMS = "SELECT w.key, v.doc FROM json_each($1) w CROSS JOIN memory_term_row v ON v.term = w.value";
    /// The memories that contain each of the terms ($1: JSON of `project:term`), once per occurrence. Returns one row
    /// per term, because a row per posting costs more than reading it.
    POSTINGS = "SELECT w.key, (SELECT group_concat(v.doc) FROM memory_term_instance v WHERE v.term = w.value) \
        FROM json_each($1) w";
    /// The lengths of memories ($1: JSON of their numbers), as `number:length` in any order.
    LENGTHS = "SELECT group_concat(m.seq || ':' || m.length) FROM json_each($1) w CROSS JOIN memory m \
        INDEXED BY memory_length ON m.seq = w.value";
}

/// Memories whose text is the query, then the best scored ones that pass the filter. $1 projects, $2 JSON of memories,
/// best first, $3 exact hash, $4 limit; the filter begins at $10. The filter is evaluated only until the limit is
/// reached.
const CANDIDATES_HEAD: &str = concat!(
    "SELECT m.id, m.seq, 1 AS exact, ",
    hit_columns!(),
    " FROM memory m WHERE m.content_hash = $3 AND "
);
const CANDIDATES_MIDDLE: &str = concat!(
    " UNION ALL SELECT * FROM (SELECT m.id, m.seq, 0, ",
    hit_columns!(),
    " FROM json_each($2) w CROSS JOIN memory m ON m.seq = w.value WHERE "
);
const CANDIDATES_TAIL: &str = " LIMIT $4)";

/// Memories, newest first. $1 projects, $2 before, $3 limit; the filter begins at $10. The rows are selected by number
/// first, so that a necessary sort does not carry the texts.
const BROWSE_HEAD: &str = concat!(
    memory!(),
    "WHERE m.seq IN (SELECT m.seq FROM memory m WHERE ($2 IS NULL OR m.seq < $2) AND "
);
const BROWSE_TAIL: &str = " ORDER BY m.seq DESC LIMIT $3) ORDER BY m.seq DESC";

/// Returns the statement that selects scored memories under `filter`. It consists only of the constants above.
pub(super) fn candidates(filter: &Filter, projects: &[i64]) -> AssertSqlSafe<String> {
    let conditions = conditions(filter, projects);
    AssertSqlSafe(
        [
            CANDIDATES_HEAD,
            &conditions,
            CANDIDATES_MIDDLE,
            &conditions,
            CANDIDATES_TAIL,
        ]
        .concat(),
    )
}

/// Returns the statement that browses under `filter`. It consists only of the constants above.
pub(super) fn browse(filter: &Filter, projects: &[i64]) -> AssertSqlSafe<String> {
    AssertSqlSafe([BROWSE_HEAD, &conditions(filter, projects), BROWSE_TAIL].concat())
}
