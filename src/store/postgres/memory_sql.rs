//! The columns of a memory, in every form that statements need.

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::domain::Memory;
use crate::domain::memory::content_hash;
use crate::store::statement::statements;

/// The columns that `fields::memory` reads from `memory m` and `project p`.
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

/// The condition for a live memory that is not outdated at `$3`.
macro_rules! current {
    () => {
        "m.deleted_at IS NULL AND m.superseded_by IS NULL AND (m.valid_until IS NULL OR m.valid_until > $3)"
    };
}

/// Memories as [`memory_row`] writes them, one JSON list for all.
macro_rules! memory_row {
    () => {
        "seq bigint, id uuid, kind text, content text, content_hash bytea, length int, tags text[], importance float8, \
         metadata jsonb, occurred_at timestamptz, created_at timestamptz, updated_at timestamptz, \
         valid_until timestamptz, superseded_by uuid, deleted_at timestamptz, version bigint, session text, turn bigint, \
         speaker text, situation text, outcome float8, lesson text, helpful bigint, not_helpful bigint, \
         protected boolean"
    };
}

statements! {
    /// Stores items: rows, postings, corpus size, index jobs and the answer for an idempotency key. The single
    /// statement is a transaction of its own, so that the common `remember` needs one round trip.
    ///
    /// Returns one row per item. `old_id` is the ID of an equal memory that already exists. If two requests store equal
    /// memories at the same moment, the unique indexes over the claims admit one. The division by zero below rolls back
    /// the other one, which is then retried and finds the existing memory. If an existing item would get additions and
    /// `$6` is set, nothing is stored, and the caller merges in a transaction. Rows are inserted in the order of their
    /// hash, so that two such batches do not deadlock.
    REMEMBER = concat!(
        "WITH here AS MATERIALIZED (\
            SELECT p.id FROM project p JOIN meta a ON a.key = 'analyzer' AND a.value = $4 WHERE p.name = $1\
        ), previous AS MATERIALIZED (\
            SELECT k.request_hash, k.answer FROM idempotency k, here WHERE k.project_id = here.id AND k.key = $10::text\
        ), item AS MATERIALIZED (\
            SELECT i.*, nextval('memory_order') AS new_seq, coalesce(\
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
            FROM here, json_to_recordset($5::text::json) AS i(",
        memory_row!(),
        ", adds boolean, n bigint) \
            WHERE NOT EXISTS (SELECT FROM previous)\
        ), seen AS MATERIALIZED (\
            SELECT i.n, m.id, m.content_hash <> i.content_hash AS differs, \
                m.content_hash <> i.content_hash OR ($6::boolean AND i.adds AND m.id <> i.id) AS halts \
            FROM here, item i JOIN memory m ON m.seq = i.old_seq WHERE m.project_id = here.id\
        ), inserted AS (\
            INSERT INTO memory (project_id, seq, id, kind, content, content_hash, length, tags, importance, metadata, \
                occurred_at, created_at, created_by, updated_at, valid_until, session, turn, speaker, situation, outcome, \
                lesson, protected, content_claim, turn_claim) \
            SELECT here.id, i.new_seq, i.id, i.kind, i.content, i.content_hash, i.length, i.tags, i.importance, i.metadata, \
                i.occurred_at, $3, $2::text, $3, i.valid_until, i.session, i.turn, i.speaker, i.situation, i.outcome, i.lesson, \
                i.protected, CASE WHEN i.kind <> 'dialogue' AND (i.valid_until IS NULL OR i.valid_until > $3) THEN true END, \
                CASE WHEN i.kind = 'dialogue' AND i.session IS NOT NULL AND i.turn IS NOT NULL THEN true END \
            FROM here, item i WHERE i.old_seq IS NULL AND NOT EXISTS (SELECT FROM seen WHERE halts) \
            ORDER BY i.content_hash \
            ON CONFLICT DO NOTHING RETURNING seq, length\
        ), placed AS MATERIALIZED (\
            SELECT array_agg(coalesce(x.seq, 0) ORDER BY i.n) AS seqs, array_agg(i.length ORDER BY i.n) AS lengths, \
                count(*) FILTER (WHERE i.old_seq IS NULL AND x.seq IS NULL) AS lost \
            FROM item i LEFT JOIN inserted x ON x.seq = i.new_seq\
        ), posted AS (\
            INSERT INTO posting (project_id, term, memory_seq, frequency, length) \
            SELECT here.id, t.term, placed.seqs[t.n], t.frequency, placed.lengths[t.n] \
            FROM here, placed, unnest($7::int[], $8::text[], $9::int[]) AS t(n, term, frequency) \
            WHERE placed.seqs[t.n] > 0\
        ), queued AS (\
            INSERT INTO index_job (project_id, memory_seq) SELECT here.id, x.seq FROM here, inserted x\
        ), answered AS (\
            INSERT INTO idempotency (project_id, key, request_hash, answer, created_at) \
            SELECT here.id, $10::text, $11::bytea, ARRAY(SELECT coalesce(s.id, i.id) \
                FROM unnest($12::int[]) WITH ORDINALITY AS o(n, place) JOIN item i ON i.n = o.n \
                LEFT JOIN seen s ON s.n = i.n ORDER BY o.place), $3 \
            FROM here WHERE $10::text IS NOT NULL AND NOT EXISTS (SELECT FROM previous) \
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
    /// Writes changed memories, and the history of the change with the earlier state (`old`).
    WRITE = concat!(
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
    /// Inserts an imported memory. It claims no content hash; equal memories find it by an ordinary query.
    INSERT_MEMORY = concat!(
        "INSERT INTO memory (project_id, seq, id, kind, content, content_hash, length, tags, importance, metadata, \
            occurred_at, created_at, created_by, updated_at, valid_until, superseded_by, deleted_at, version, session, turn, \
            speaker, situation, outcome, lesson, helpful, not_helpful, protected, turn_claim) \
        SELECT p.id, nextval('memory_order'), i.id, i.kind, i.content, i.content_hash, i.length, i.tags, i.importance, \
            i.metadata, i.occurred_at, i.created_at, $3, i.updated_at, i.valid_until, i.superseded_by, i.deleted_at, \
            i.version, i.session, i.turn, i.speaker, i.situation, i.outcome, i.lesson, i.helpful, i.not_helpful, i.protected, \
            CASE WHEN i.deleted_at IS NULL AND i.superseded_by IS NULL AND i.kind = 'dialogue' AND i.session IS NOT NULL \
                AND i.turn IS NOT NULL THEN true END \
        FROM project p, json_to_recordset($2::text::json) AS i(",
        memory_row!(),
        ") WHERE p.name = $1 RETURNING seq"
    );
}

/// Converts a memory to an element of the JSON list that `memory_row!` in `sql` reads. Without a length, the stored
/// length is kept.
pub(super) fn memory_row(memory: &Memory, length: Option<u32>) -> Value {
    let episode = memory.episode.as_ref();
    json!({
        "seq": memory.seq,
        "id": memory.id,
        "kind": memory.kind.as_str(),
        "content": memory.content,
        "content_hash": hex_bytes(&content_hash(&memory.content)),
        "length": length,
        "tags": memory.tags,
        "importance": memory.importance,
        "metadata": memory.metadata,
        "occurred_at": time_text(memory.occurred_at),
        "created_at": time_text(memory.created_at),
        "updated_at": time_text(memory.updated_at),
        "valid_until": memory.valid_until.map(time_text),
        "superseded_by": memory.superseded_by,
        "deleted_at": memory.deleted_at.map(time_text),
        "version": memory.version,
        "session": memory.session,
        "turn": memory.turn,
        "speaker": memory.speaker,
        "situation": episode.map(|episode| &episode.situation),
        "outcome": episode.map(|episode| episode.outcome),
        "lesson": episode.map(|episode| &episode.lesson),
        "helpful": memory.helpful,
        "not_helpful": memory.not_helpful,
        "protected": memory.protected,
    })
}

fn hex_bytes(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Formats a time for PostgreSQL, which writes years before 1 as years BC.
pub(super) fn time_text(time: DateTime<Utc>) -> String {
    if time.year() > 0 {
        return time
            .to_rfc3339_opts(SecondsFormat::Micros, true)
            .trim_start_matches('+')
            .to_owned();
    }
    format!(
        "{:04}-{} BC",
        1 - time.year(),
        time.format("%m-%dT%H:%M:%S%.6fZ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_form_of_postgresql() {
        let text = |text: &str| time_text(text.parse().unwrap());
        assert_eq!(
            text("2026-01-02T03:04:05.000006Z"),
            "2026-01-02T03:04:05.000006Z"
        );
        assert_eq!(
            text("0000-01-02T03:04:05Z"),
            "0001-01-02T03:04:05.000000Z BC"
        );
        assert_eq!(
            text("+12026-01-02T03:04:05Z"),
            "12026-01-02T03:04:05.000000Z"
        );
    }
}
