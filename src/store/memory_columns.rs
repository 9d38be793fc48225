//! The columns of a memory: their names in statements, their values, and how they are read.
//!
//! Both databases use the same names. A new column is a line in each of the lists below.

use chrono::{DateTime, Utc};
use sqlx::Result;
use uuid::Uuid;

use super::row_reader::Fields;
use crate::domain::memory::content_hash;
use crate::domain::{Episode, Memory, ObjectText};

/// The columns of `memory m` that [`read_memory`] reads. Each database adds `project`, `sources`, `recall_count` and
/// `last_recalled_at`.
macro_rules! read_columns {
    () => {
        "m.seq, m.id, m.kind, m.content, m.tags, m.importance, m.metadata, m.occurred_at, m.created_at, m.updated_at, \
         m.valid_until, m.superseded_by, m.deleted_at, m.version, m.session, m.turn, m.speaker, m.situation, m.outcome, \
         m.lesson, m.helpful, m.not_helpful, m.protected"
    };
}
pub(super) use read_columns;

/// The columns of a new row, in the order of [`memory_values`].
macro_rules! written_columns {
    () => {
        "id, kind, content, content_hash, length, tags, importance, metadata, occurred_at, created_at, updated_at, \
         valid_until, superseded_by, deleted_at, version, session, turn, speaker, situation, outcome, lesson, helpful, \
         not_helpful, protected"
    };
}
pub(super) use written_columns;

/// The parameters of these columns in SQLite; the other parameters of its statements come first.
macro_rules! written_parameters {
    () => {
        "$6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29"
    };
}
pub(super) use written_parameters;

/// The columns that a change may set in SQLite; without a length, the stored one stays.
macro_rules! changed_parameters {
    () => {
        "content = $8, content_hash = $9, length = coalesce($10, length), tags = $11, importance = $12, metadata = $13, \
         occurred_at = $14, updated_at = $16, valid_until = $17, superseded_by = $18, deleted_at = $19, version = $20, \
         situation = $24, outcome = $25, lesson = $26, helpful = $27, not_helpful = $28, protected = $29"
    };
}
pub(super) use changed_parameters;

/// These columns as fields of a JSON row in PostgreSQL.
macro_rules! row_types {
    () => {
        "id uuid, kind text, content text, content_hash bytea, length int, tags text[], importance float8, metadata jsonb, \
         occurred_at timestamptz, created_at timestamptz, updated_at timestamptz, valid_until timestamptz, \
         superseded_by uuid, deleted_at timestamptz, version bigint, session text, turn bigint, speaker text, \
         situation text, outcome float8, lesson text, helpful bigint, not_helpful bigint, protected boolean"
    };
}
pub(super) use row_types;

/// The written columns of a JSON row `i`.
macro_rules! row_columns {
    () => {
        "i.id, i.kind, i.content, i.content_hash, i.length, i.tags, i.importance, i.metadata, i.occurred_at, i.created_at, \
         i.updated_at, i.valid_until, i.superseded_by, i.deleted_at, i.version, i.session, i.turn, i.speaker, i.situation, \
         i.outcome, i.lesson, i.helpful, i.not_helpful, i.protected"
    };
}
pub(super) use row_columns;

/// The columns of `memory m` that a change may set, from a JSON row `i`; without a length, the stored one stays.
macro_rules! changed_columns {
    () => {
        "content = i.content, content_hash = i.content_hash, length = coalesce(i.length, m.length), tags = i.tags, \
         importance = i.importance, metadata = i.metadata, occurred_at = i.occurred_at, updated_at = i.updated_at, \
         valid_until = i.valid_until, superseded_by = i.superseded_by, deleted_at = i.deleted_at, version = i.version, \
         situation = i.situation, outcome = i.outcome, lesson = i.lesson, helpful = i.helpful, \
         not_helpful = i.not_helpful, protected = i.protected"
    };
}
pub(super) use changed_columns;

/// The value of a column, which each database writes in its own form.
pub(super) enum ColumnValue<'a> {
    Text(Option<&'a str>),
    Integer(Option<i64>),
    Real(Option<f64>),
    Flag(bool),
    Uuid(Option<Uuid>),
    Bytes([u8; 32]),
    Time(Option<DateTime<Utc>>),
    Texts(&'a [String]),
    Object(&'a ObjectText),
}

/// The values of a memory by column. Without a length, the stored one stays.
pub(super) fn memory_values(
    memory: &Memory,
    length: Option<u32>,
) -> Vec<(&'static str, ColumnValue<'_>)> {
    use ColumnValue::{Bytes, Flag, Integer, Object, Real, Text, Texts, Time, Uuid};
    let episode = memory.episode.as_ref();
    vec![
        ("id", Uuid(Some(memory.id))),
        ("kind", Text(Some(memory.kind.as_str()))),
        ("content", Text(Some(&memory.content))),
        ("content_hash", Bytes(content_hash(&memory.content))),
        ("length", Integer(length.map(i64::from))),
        ("tags", Texts(&memory.tags)),
        ("importance", Real(Some(memory.importance))),
        ("metadata", Object(&memory.metadata)),
        ("occurred_at", Time(Some(memory.occurred_at))),
        ("created_at", Time(Some(memory.created_at))),
        ("updated_at", Time(Some(memory.updated_at))),
        ("valid_until", Time(memory.valid_until)),
        ("superseded_by", Uuid(memory.superseded_by)),
        ("deleted_at", Time(memory.deleted_at)),
        ("version", Integer(Some(memory.version))),
        ("session", Text(memory.session.as_deref())),
        ("turn", Integer(memory.turn)),
        ("speaker", Text(memory.speaker.as_deref())),
        (
            "situation",
            Text(episode.map(|episode| episode.situation.as_str())),
        ),
        ("outcome", Real(episode.map(|episode| episode.outcome))),
        (
            "lesson",
            Text(episode.map(|episode| episode.lesson.as_str())),
        ),
        ("helpful", Integer(Some(memory.helpful))),
        ("not_helpful", Integer(Some(memory.not_helpful))),
        ("protected", Flag(memory.protected)),
    ]
}

/// Reads a memory from the columns of [`read_columns`] and those that each database adds.
pub(super) fn read_memory(row: &impl Fields) -> Result<Memory> {
    Ok(Memory {
        id: row.uuid("id")?,
        seq: row.integer("seq")?,
        project: row.text("project")?,
        kind: row.word("kind")?,
        content: row.text("content")?,
        tags: row.texts("tags")?,
        importance: row.real("importance")?,
        metadata: row.object("metadata")?,
        occurred_at: row.time("occurred_at")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        valid_until: row.optional_time("valid_until")?,
        superseded_by: row.optional_uuid("superseded_by")?,
        deleted_at: row.optional_time("deleted_at")?,
        version: row.integer("version")?,
        session: row.optional_text("session")?,
        turn: row.optional_integer("turn")?,
        speaker: row.optional_text("speaker")?,
        episode: read_episode(row)?,
        sources: row.uuids("sources")?,
        recall_count: row.integer("recall_count")?,
        last_recalled_at: row.optional_time("last_recalled_at")?,
        helpful: row.integer("helpful")?,
        not_helpful: row.integer("not_helpful")?,
        protected: row.flag("protected")?,
    })
}

pub(super) fn read_episode(row: &impl Fields) -> Result<Option<Episode>> {
    let Some(situation) = row.optional_text("situation")? else {
        return Ok(None);
    };
    Ok(Some(Episode {
        situation,
        outcome: row.real("outcome")?,
        lesson: row.text("lesson")?,
    }))
}
