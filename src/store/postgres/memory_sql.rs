//! Statements that read and write whole memories.

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde_json::{Map, Value};

use crate::domain::Memory;
use crate::store::memory_columns::{
    ColumnValue, changed_columns, memory_values, row_columns, row_types, written_columns,
};
use crate::store::statement::statements;

/// The columns that `read_memory` reads, of `memory m` and `project p`.
macro_rules! memory_columns {
    () => {
        concat!(
            crate::store::memory_columns::read_columns!(),
            ", p.name AS project, \
             ARRAY(SELECT s.source_id FROM source s WHERE s.project_id = m.project_id AND s.memory_seq = m.seq \
                   ORDER BY s.position) AS sources, \
             coalesce((SELECT r.recall_count FROM recall_stat r WHERE r.project_id = m.project_id \
                   AND r.memory_seq = m.seq), 0) AS recall_count, \
             (SELECT r.last_recalled_at FROM recall_stat r WHERE r.project_id = m.project_id AND r.memory_seq = m.seq) \
                   AS last_recalled_at"
        )
    };
}

pub(super) use memory_columns;

/// The condition for a live memory that is not outdated at `$3`.
macro_rules! current {
    () => {
        "m.deleted_at IS NULL AND m.superseded_by IS NULL AND (m.valid_until IS NULL OR m.valid_until > $3)"
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
            SELECT k.request_hash, k.answer FROM idempotency k, here WHERE k.project_id = here.id AND k.key = $9::text\
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
        row_types!(),
        ", adds boolean, n bigint) \
            WHERE NOT EXISTS (SELECT FROM previous)\
        ), seen AS MATERIALIZED (\
            SELECT i.n, m.id, m.content_hash <> i.content_hash AS differs, \
                m.content_hash <> i.content_hash OR ($6::boolean AND i.adds AND m.id <> i.id) AS halts \
            FROM here, item i JOIN memory m ON m.seq = i.old_seq WHERE m.project_id = here.id\
        ), inserted AS (\
            INSERT INTO memory (project_id, seq, ",
        written_columns!(),
        ", created_by, content_claim, turn_claim) SELECT here.id, i.new_seq, ",
        row_columns!(),
        ", $2::text, CASE WHEN i.kind <> 'dialogue' AND (i.valid_until IS NULL OR i.valid_until > $3) THEN true END, \
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
            SELECT here.id, t.term, placed.seqs[o.n], t.frequency, placed.lengths[o.n] \
            FROM here, placed, unnest($7::text[], $8::text[]) WITH ORDINALITY AS o(terms, frequencies, n), \
                unnest(string_to_array(o.terms, ' '), string_to_array(o.frequencies, ' ')::int[]) AS t(term, frequency) \
            WHERE placed.seqs[o.n] > 0\
        ), queued AS (\
            INSERT INTO index_job (project_id, memory_seq) SELECT here.id, x.seq FROM here, inserted x\
        ), answered AS (\
            INSERT INTO idempotency (project_id, key, request_hash, answer, created_at) \
            SELECT here.id, $9::text, $10::bytea, ARRAY(SELECT coalesce(s.id, i.id) \
                FROM unnest($11::int[]) WITH ORDINALITY AS o(n, place) JOIN item i ON i.n = o.n \
                LEFT JOIN seen s ON s.n = i.n ORDER BY o.place), $3 \
            FROM here WHERE $9::text IS NOT NULL AND NOT EXISTS (SELECT FROM previous) \
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
            SELECT * FROM json_to_recordset($2::text::json) AS i(seq bigint, ",
        row_types!(),
        ", old jsonb)\
        ), changed AS (\
            UPDATE memory m SET ",
        changed_columns!(),
        ", content_claim = NULL, turn_claim = CASE WHEN i.deleted_at IS NULL AND i.superseded_by IS NULL \
                    AND m.kind = 'dialogue' AND m.session IS NOT NULL AND m.turn IS NOT NULL THEN true END \
            FROM project p, item i WHERE p.name = $1 AND m.project_id = p.id AND m.seq = i.seq \
            RETURNING m.project_id, m.seq, m.version\
        ) \
        INSERT INTO history (project_id, memory_seq, version, change, old, actor, reason, at) \
        SELECT c.project_id, c.seq, c.version, $3, i.old, $4, $5, $6 FROM changed c JOIN item i ON i.seq = c.seq"
    );
    /// Inserts an imported memory. It claims no content hash; equal memories find it by an ordinary query.
    INSERT_MEMORY = concat!(
        "INSERT INTO memory (project_id, seq, ",
        written_columns!(),
        ", created_by, turn_claim) SELECT p.id, nextval('memory_order'), ",
        row_columns!(),
        ", $3, CASE WHEN i.deleted_at IS NULL AND i.superseded_by IS NULL AND i.kind = 'dialogue' AND i.session IS NOT NULL \
                AND i.turn IS NOT NULL THEN true END \
        FROM project p, json_to_recordset($2::text::json) AS i(",
        row_types!(),
        ") WHERE p.name = $1 RETURNING seq"
    );
}

/// A memory as an element of a JSON list of rows. Without a length, the stored one stays.
pub(super) fn memory_row(memory: &Memory, length: Option<u32>) -> Value {
    let columns = memory_values(memory, length).into_iter();
    let mut row: Map<String, Value> = columns
        .map(|(name, value)| (name.to_owned(), json_value(value)))
        .collect();
    row.insert("seq".to_owned(), memory.seq.into());
    row.into()
}

fn json_value(value: ColumnValue<'_>) -> Value {
    match value {
        ColumnValue::Text(text) => text.into(),
        ColumnValue::Integer(number) => number.into(),
        ColumnValue::Real(number) => number.into(),
        ColumnValue::Flag(flag) => flag.into(),
        ColumnValue::Uuid(id) => id.map(|id| id.to_string()).into(),
        ColumnValue::Bytes(bytes) => hex_bytes(&bytes).into(),
        ColumnValue::Time(time) => time.map(time_text).into(),
        ColumnValue::Texts(texts) => texts.into(),
        ColumnValue::Object(object) => object.to_map().into(),
    }
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
