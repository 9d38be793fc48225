//! The line of a memory, which is the longest of [`super::line`], with its history.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::line::{check_time, is_default, micros};
use crate::domain::validate::{self, Invalid};
use crate::domain::{Change, Episode, History, Kind, Memory, Patch};
use crate::store::port::{MemoryRecord, Record};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemoryLine {
    project: String,
    id: Uuid,
    kind: Kind,
    content: String,
    #[serde(default, skip_serializing_if = "is_default")]
    tags: Vec<String>,
    importance: f64,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
    occurred_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "is_default")]
    valid_until: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "is_default")]
    superseded_by: Option<Uuid>,
    #[serde(default, skip_serializing_if = "is_default")]
    deleted_at: Option<DateTime<Utc>>,
    version: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    turn: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    speaker: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    situation: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    outcome: Option<f64>,
    #[serde(default, skip_serializing_if = "is_default")]
    lesson: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    sources: Vec<Uuid>,
    #[serde(default, skip_serializing_if = "is_default")]
    recall_count: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    last_recalled_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "is_default")]
    helpful: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    not_helpful: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    protected: bool,
    /// The last field: an export that reads it in parts appends to it.
    history: Vec<HistoryLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryLine {
    version: i64,
    change: Change,
    #[serde(default, skip_serializing_if = "is_default")]
    old: Option<Value>,
    actor: String,
    #[serde(default, skip_serializing_if = "is_default")]
    reason: Option<String>,
    at: DateTime<Utc>,
}

impl From<History> for HistoryLine {
    fn from(h: History) -> Self {
        Self {
            version: h.version,
            change: h.change,
            old: h.old,
            actor: h.actor,
            reason: h.reason,
            at: h.at,
        }
    }
}

/// An entry of the history as the line of its memory has it.
pub(super) fn entry(history: History) -> String {
    serde_json::to_string(&HistoryLine::from(history)).expect("plain data always serialises")
}

/// A memory as its line says it.
pub(super) fn line(MemoryRecord { memory: m, history }: MemoryRecord) -> MemoryLine {
    let (situation, outcome, lesson) = match m.episode {
        Some(episode) => (
            Some(episode.situation),
            Some(episode.outcome),
            Some(episode.lesson),
        ),
        None => (None, None, None),
    };
    let history = history.into_iter().map(HistoryLine::from).collect();
    MemoryLine {
        project: m.project,
        id: m.id,
        kind: m.kind,
        content: m.content,
        tags: m.tags,
        importance: m.importance,
        metadata: m.metadata,
        occurred_at: m.occurred_at,
        created_at: m.created_at,
        updated_at: m.updated_at,
        valid_until: m.valid_until,
        superseded_by: m.superseded_by,
        deleted_at: m.deleted_at,
        version: m.version,
        session: m.session,
        turn: m.turn,
        speaker: m.speaker,
        situation,
        outcome,
        lesson,
        sources: m.sources,
        recall_count: m.recall_count,
        last_recalled_at: m.last_recalled_at,
        helpful: m.helpful,
        not_helpful: m.not_helpful,
        protected: m.protected,
        history,
    }
}

/// Checks a memory as `remember` would, with what only a file can say.
///
/// # Errors
/// [`Invalid`] names the field.
pub(super) fn check(record: &mut MemoryRecord) -> Result<(), Invalid> {
    let memory = &mut record.memory;
    validate::text("content", &memory.content, validate::MAX_CONTENT_BYTES)?;
    validate::metadata("metadata", &memory.metadata)?;
    memory.tags = validate::tags("tags", &memory.tags)?;
    validate::number("importance", memory.importance, 0.0, 1.0)?;
    for (field, name) in [("session", &memory.session), ("speaker", &memory.speaker)] {
        if let Some(name) = name {
            validate::text(field, name, validate::MAX_NAME_BYTES)?;
        }
    }
    if memory.kind != Kind::Dialogue
        && let Some(turn) = memory.turn
    {
        return Err(Invalid::new(
            "turn",
            turn.to_string(),
            format!("no turn for kind {}", memory.kind),
        ));
    }
    if (memory.kind == Kind::Episode) != memory.episode.is_some() {
        let expected = "situation, outcome and lesson for kind episode, and for no other";
        return Err(Invalid::new("kind", memory.kind.as_str(), expected));
    }
    if let Some(episode) = &memory.episode {
        validate::text("situation", &episode.situation, validate::MAX_EPISODE_BYTES)?;
        validate::text("lesson", &episode.lesson, validate::MAX_EPISODE_BYTES)?;
        validate::number("outcome", episode.outcome, -1.0, 1.0)?;
    }
    validate::count("sources", memory.sources.len(), validate::MAX_IDS)?;
    let counts = [
        ("version", memory.version, 1),
        ("recall_count", memory.recall_count, 0),
        ("helpful", memory.helpful, 0),
        ("not_helpful", memory.not_helpful, 0),
    ];
    for (field, count, least) in counts {
        if count < least {
            return Err(Invalid::new(
                field,
                count.to_string(),
                format!("a number of at least {least}"),
            ));
        }
    }
    let times = [
        ("occurred_at", Some(memory.occurred_at)),
        ("created_at", Some(memory.created_at)),
        ("updated_at", Some(memory.updated_at)),
        ("valid_until", memory.valid_until),
        ("deleted_at", memory.deleted_at),
        ("last_recalled_at", memory.last_recalled_at),
    ];
    for (field, at) in times {
        if let Some(at) = at {
            check_time(field, at)?;
        }
    }
    check_history(record)
}

/// Every memory was created once, first, and has had no change that is not numbered.
fn check_history(record: &mut MemoryRecord) -> Result<(), Invalid> {
    let memory = &record.memory;
    let created = record
        .history
        .iter()
        .filter(|entry| entry.change == Change::Created)
        .count();
    if created != 1
        || record
            .history
            .first()
            .is_none_or(|entry| entry.change != Change::Created)
    {
        let expected = "one entry with change `created`, as the first";
        return Err(Invalid::new(
            "history",
            format!("{created} of {}", record.history.len()),
            expected,
        ));
    }
    for (index, entry) in record.history.iter().enumerate() {
        let field = |name: &str| format!("history[{index}].{name}");
        check_time(&field("at"), entry.at)?;
        if entry.actor.contains('\0')
            || entry
                .reason
                .as_ref()
                .is_some_and(|reason| reason.contains('\0'))
        {
            return Err(Invalid::new(
                field("actor"),
                &entry.actor,
                "text without NUL characters",
            ));
        }
        let old = entry.old.as_ref().map(Value::to_string).unwrap_or_default();
        if old.contains("\\u0000") || (index > 0) != entry.old.is_some() {
            return Err(Invalid::new(
                field("old"),
                old,
                "the fields before, for every change but the creation",
            ));
        }
        if entry.version < 1 || entry.version > memory.version {
            let expected = format!("a version from 1 to {}", memory.version);
            return Err(Invalid::new(
                field("version"),
                entry.version.to_string(),
                expected,
            ));
        }
    }
    let (id, at) = (memory.id, memory.created_at);
    let first = &mut record.history[0];
    *first = History {
        memory_id: id,
        version: 1,
        reason: None,
        at,
        ..first.clone()
    };
    Ok(())
}

fn accept(line: MemoryLine) -> Result<MemoryRecord, Invalid> {
    let episode = match (line.situation, line.outcome, line.lesson) {
        (Some(situation), Some(outcome), Some(lesson)) => Some(Episode {
            situation,
            outcome,
            lesson,
        }),
        (None, None, None) => None,
        _ => {
            return Err(Invalid::new(
                "situation",
                "",
                "situation, outcome and lesson together, or none of them",
            ));
        }
    };
    let history = line
        .history
        .into_iter()
        .map(|h| History {
            memory_id: line.id,
            version: h.version,
            change: h.change,
            old: h.old,
            actor: h.actor,
            reason: h.reason,
            at: micros(h.at),
        })
        .collect();
    let memory = Memory {
        id: line.id,
        seq: 0,
        project: line.project,
        kind: line.kind,
        content: line.content,
        tags: line.tags,
        importance: line.importance,
        metadata: line.metadata,
        occurred_at: micros(line.occurred_at),
        created_at: micros(line.created_at),
        updated_at: micros(line.updated_at),
        valid_until: line.valid_until.map(micros),
        superseded_by: line.superseded_by,
        deleted_at: line.deleted_at.map(micros),
        version: line.version,
        session: line.session,
        turn: line.turn,
        speaker: line.speaker,
        episode,
        sources: line.sources,
        recall_count: line.recall_count,
        last_recalled_at: line.last_recalled_at.map(micros),
        helpful: line.helpful,
        not_helpful: line.not_helpful,
        protected: line.protected,
    };
    let mut record = MemoryRecord { memory, history };
    check(&mut record)?;
    Ok(record)
}

/// Reads the fields of a line, and checks what they say.
pub(super) fn read(value: Value) -> Result<Record, String> {
    let record = accept(super::line::parse(value)?).map_err(|invalid| invalid.to_string())?;
    Ok(Record::Memory(Box::new(record)))
}

/// Checks what a review would change, as `update` does.
pub(super) fn check_patch(patch: &Patch) -> Result<(), Invalid> {
    let texts = [
        ("content", &patch.content, validate::MAX_CONTENT_BYTES),
        ("situation", &patch.situation, validate::MAX_EPISODE_BYTES),
        ("lesson", &patch.lesson, validate::MAX_EPISODE_BYTES),
    ];
    for (field, text, most) in texts {
        if let Some(text) = text {
            validate::text(field, text, most)?;
        }
    }
    for (field, number, least) in [
        ("importance", patch.importance, 0.0),
        ("outcome", patch.outcome, -1.0),
    ] {
        if let Some(number) = number {
            validate::number(field, number, least, 1.0)?;
        }
    }
    if let Some(tags) = &patch.tags {
        validate::tags("tags", tags)?;
    }
    if let Some(metadata) = &patch.metadata {
        validate::metadata("metadata", metadata)?;
    }
    for (field, at) in [
        ("occurred_at", patch.occurred_at),
        ("valid_until", patch.valid_until.flatten()),
    ] {
        if let Some(at) = at {
            check_time(field, at)?;
        }
    }
    Ok(())
}
