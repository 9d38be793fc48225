//! The file format: one JSON object a line. A header names format and version, then come records, each after what it
//! refers to, then an end line with their number and the SHA-256 of their lines, so that a file which was cut is known
//! as such wherever the cut is. Fields that are absent have their neutral value; unknown fields are refused, because
//! leaving them out would lose something in silence.

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::validate::{self, Invalid};
use crate::domain::{Change, Episode, History, Kind, Memory};
use crate::store::port::{
    EntityName, EntityRecord, FocusRecord, FocusState, MemoryRecord, MentionRecord, Record, RelationRecord,
};

/// What the header calls the format.
pub const FORMAT: &str = "cognitive-memory";
/// The version that this program writes and reads.
pub const VERSION: u64 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How many records came before.
    pub records: u64,
    /// Hash of their lines, line ends included.
    pub sha256: String,
}

/// A line behind the header.
#[derive(Debug)]
pub enum Line {
    /// Something to be stored.
    Record(Record),
    /// The end.
    End(End),
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryLine {
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntityLine {
    project: String,
    name: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    properties: Map<String, Value>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NameLine {
    name: String,
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RelationLine {
    project: String,
    source: NameLine,
    target: NameLine,
    kind: String,
    weight: f64,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    properties: Map<String, Value>,
    #[serde(default, skip_serializing_if = "is_default")]
    use_count: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    last_used_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "is_default")]
    valid_from: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "is_default")]
    valid_to: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MentionLine {
    project: String,
    memory: Uuid,
    entity: NameLine,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FocusLine {
    project: String,
    session: String,
    content: String,
    importance: f64,
    #[serde(default, skip_serializing_if = "is_default")]
    memory: Option<Uuid>,
    created_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "is_default")]
    touched_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "is_default")]
    archived_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "is_default")]
    reason: Option<String>,
}

impl From<EntityName> for NameLine {
    fn from(EntityName { name, kind }: EntityName) -> Self {
        Self { name, kind }
    }
}

impl From<NameLine> for EntityName {
    fn from(NameLine { name, kind }: NameLine) -> Self {
        Self { name, kind }
    }
}

/// A record as its line, without the line end.
#[must_use]
pub fn write(record: Record) -> String {
    match record {
        Record::Memory(record) => tagged("memory", &memory_line(*record)),
        Record::Entity(r) => tagged(
            "entity",
            &EntityLine {
                project: r.project,
                name: r.name,
                kind: r.kind,
                properties: r.properties,
                created_at: r.created_at,
                updated_at: r.updated_at,
            },
        ),
        Record::Relation(r) => tagged(
            "relation",
            &RelationLine {
                project: r.project,
                source: r.source.into(),
                target: r.target.into(),
                kind: r.kind,
                weight: r.weight,
                properties: r.properties,
                use_count: r.use_count,
                last_used_at: r.last_used_at,
                valid_from: r.valid_from,
                valid_to: r.valid_to,
                created_at: r.created_at,
                updated_at: r.updated_at,
            },
        ),
        Record::Mention(r) => {
            tagged("mention", &MentionLine { project: r.project, memory: r.memory, entity: r.entity.into() })
        }
        Record::Focus(r) => {
            let (touched_at, archived_at, reason) = match r.state {
                FocusState::Held { touched_at } => (Some(touched_at), None, None),
                FocusState::Archived { archived_at, reason } => (None, Some(archived_at), Some(reason)),
            };
            tagged(
                "focus",
                &FocusLine {
                    project: r.project,
                    session: r.session,
                    content: r.content,
                    importance: r.importance,
                    memory: r.memory,
                    created_at: r.created_at,
                    touched_at,
                    archived_at,
                    reason,
                },
            )
        }
    }
}

/// The first line.
#[must_use]
pub fn header() -> String {
    plain(&Header { format: FORMAT.to_owned(), version: VERSION })
}

/// The last line.
#[must_use]
pub fn end(end: &End) -> String {
    tagged("end", end)
}

fn plain(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}

/// The line with its type in front, where people look first.
fn tagged(kind: &str, value: &impl Serialize) -> String {
    let object = plain(value);
    format!("{{\"type\":\"{kind}\",{}", &object[1..])
}

fn memory_line(MemoryRecord { memory: m, protected, history }: MemoryRecord) -> MemoryLine {
    let (situation, outcome, lesson) = match m.episode {
        Some(episode) => (Some(episode.situation), Some(episode.outcome), Some(episode.lesson)),
        None => (None, None, None),
    };
    let history = history
        .into_iter()
        .map(|h| HistoryLine {
            version: h.version,
            change: h.change,
            old: h.old,
            actor: h.actor,
            reason: h.reason,
            at: h.at,
        })
        .collect();
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
        protected,
        history,
    }
}

/// Reads the first line.
///
/// # Errors
/// Says what the line is instead.
pub fn read_header(line: &str) -> Result<(), String> {
    let header: Result<Header, _> = serde_json::from_str(line);
    let Ok(header) = header else {
        return Err(format!(
            "this is no export of cognitive-memory-mcp: its first line would be {}; data of other programs needs \
             `import --from PROGRAM`",
            self::header()
        ));
    };
    if header.format != FORMAT {
        return Err(format!("the format is {:?}, {FORMAT:?} is expected", header.format));
    }
    if header.version != VERSION {
        return Err(format!(
            "the format has version {}, this program reads version {VERSION}: import the file with the release that \
             wrote it, or a newer one",
            header.version
        ));
    }
    Ok(())
}

/// Reads a line behind the header, and checks what it says.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn read(line: &str) -> Result<Line, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("this is not JSON ({error})"))?;
    let Value::Object(mut object) = value else { return Err("a JSON object is expected".to_owned()) };
    let Some(Value::String(kind)) = object.remove("type") else {
        return Err("the field `type` is missing".to_owned());
    };
    let value = Value::Object(object);
    let record = match kind.as_str() {
        "memory" => Record::Memory(Box::new(read_memory(parse(value)?).map_err(|invalid| invalid.to_string())?)),
        "entity" => read_entity(parse(value)?).map_err(|invalid| invalid.to_string())?,
        "relation" => read_relation(parse(value)?).map_err(|invalid| invalid.to_string())?,
        "mention" => {
            let m: MentionLine = parse(value)?;
            Record::Mention(MentionRecord { project: m.project, memory: m.memory, entity: m.entity.into() })
        }
        "focus" => read_focus(parse(value)?).map_err(|invalid| invalid.to_string())?,
        "end" => return Ok(Line::End(parse(value)?)),
        other => {
            return Err(format!(
                "the type {other:?} is unknown; memory, entity, relation, mention, focus or end is expected"
            ));
        }
    };
    validate::text("project", record.project(), validate::MAX_NAME_BYTES).map_err(|invalid| invalid.to_string())?;
    Ok(Line::Record(record))
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        if path == "." { error.inner().to_string() } else { format!("{path}: {}", error.inner()) }
    })
}

/// Checks a memory as `remember` would, with what only a file can say.
///
/// # Errors
/// [`Invalid`] names the field.
pub fn check_memory(record: &mut MemoryRecord) -> Result<(), Invalid> {
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
        return Err(Invalid::new("turn", turn.to_string(), format!("no turn for kind {}", memory.kind)));
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
            return Err(Invalid::new(field, count.to_string(), format!("a number of at least {least}")));
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

fn check_time(field: &str, at: DateTime<Utc>) -> Result<(), Invalid> {
    if (1900..2200).contains(&at.year()) {
        return Ok(());
    }
    Err(Invalid::new(field, at.to_rfc3339(), "a time between 1900 and 2200"))
}

/// Every memory was created once, first, and has had no change that is not numbered.
fn check_history(record: &mut MemoryRecord) -> Result<(), Invalid> {
    let memory = &record.memory;
    let created = record.history.iter().filter(|entry| entry.change == Change::Created).count();
    if created != 1 || record.history.first().is_none_or(|entry| entry.change != Change::Created) {
        let expected = "one entry with change `created`, as the first";
        return Err(Invalid::new("history", format!("{created} of {}", record.history.len()), expected));
    }
    for (index, entry) in record.history.iter().enumerate() {
        let field = |name: &str| format!("history[{index}].{name}");
        check_time(&field("at"), entry.at)?;
        if entry.actor.contains('\0') || entry.reason.as_ref().is_some_and(|reason| reason.contains('\0')) {
            return Err(Invalid::new(field("actor"), &entry.actor, "text without NUL characters"));
        }
        let old = entry.old.as_ref().map(Value::to_string).unwrap_or_default();
        if old.contains("\\u0000") || (index > 0) != entry.old.is_some() {
            return Err(Invalid::new(field("old"), old, "the fields before, for every change but the creation"));
        }
        if entry.version < 1 || entry.version > memory.version {
            let expected = format!("a version from 1 to {}", memory.version);
            return Err(Invalid::new(field("version"), entry.version.to_string(), expected));
        }
    }
    let (id, at) = (memory.id, memory.created_at);
    let first = &mut record.history[0];
    *first = History { memory_id: id, version: 1, reason: None, at, ..first.clone() };
    Ok(())
}

fn read_memory(line: MemoryLine) -> Result<MemoryRecord, Invalid> {
    let episode = match (line.situation, line.outcome, line.lesson) {
        (Some(situation), Some(outcome), Some(lesson)) => Some(Episode { situation, outcome, lesson }),
        (None, None, None) => None,
        _ => return Err(Invalid::new("situation", "", "situation, outcome and lesson together, or none of them")),
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
    };
    let mut record = MemoryRecord { memory, protected: line.protected, history };
    check_memory(&mut record)?;
    Ok(record)
}

/// What both databases keep of a time.
#[must_use]
pub fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    chrono::SubsecRound::trunc_subsecs(at, 6)
}

fn read_entity(line: EntityLine) -> Result<Record, Invalid> {
    validate::text("name", &line.name, validate::MAX_NAME_BYTES)?;
    validate::text("kind", &line.kind, validate::MAX_NAME_BYTES)?;
    validate::metadata("properties", &line.properties)?;
    check_time("created_at", line.created_at)?;
    check_time("updated_at", line.updated_at)?;
    Ok(Record::Entity(EntityRecord {
        project: line.project,
        name: line.name,
        kind: line.kind,
        properties: line.properties,
        created_at: micros(line.created_at),
        updated_at: micros(line.updated_at),
    }))
}

fn read_relation(line: RelationLine) -> Result<Record, Invalid> {
    validate::text("kind", &line.kind, validate::MAX_NAME_BYTES)?;
    validate::metadata("properties", &line.properties)?;
    if !line.weight.is_finite() {
        return Err(Invalid::new("weight", line.weight.to_string(), "a number"));
    }
    Ok(Record::Relation(Box::new(RelationRecord {
        project: line.project,
        source: line.source.into(),
        target: line.target.into(),
        kind: line.kind,
        weight: line.weight,
        properties: line.properties,
        use_count: line.use_count,
        last_used_at: line.last_used_at.map(micros),
        valid_from: line.valid_from.map(micros),
        valid_to: line.valid_to.map(micros),
        created_at: micros(line.created_at),
        updated_at: micros(line.updated_at),
    })))
}

fn read_focus(line: FocusLine) -> Result<Record, Invalid> {
    validate::text("content", &line.content, validate::MAX_CONTENT_BYTES)?;
    validate::number("importance", line.importance, 0.0, 1.0)?;
    if line.session.contains('\0') || line.reason.as_ref().is_some_and(|reason| reason.contains('\0')) {
        return Err(Invalid::new("session", &line.session, "text without NUL characters"));
    }
    let state = match (line.touched_at, line.archived_at, line.reason) {
        (Some(at), None, None) => FocusState::Held { touched_at: micros(at) },
        (None, Some(at), Some(reason)) => FocusState::Archived { archived_at: micros(at), reason },
        _ => return Err(Invalid::new("touched_at", "", "touched_at alone, or archived_at with a reason")),
    };
    Ok(Record::Focus(FocusRecord {
        project: line.project,
        session: line.session,
        content: line.content,
        importance: line.importance,
        memory: line.memory,
        created_at: micros(line.created_at),
        state,
    }))
}
