//! The file format: one JSON object a line. A header names format and version, then come records, each after what it
//! refers to, then an end line with their number and the SHA-256 of their lines, so that a file which was cut is known
//! as such wherever the cut is. Fields that are absent have their neutral value; unknown fields are refused, because
//! leaving them out would lose something in silence.

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::memory_line;
use crate::domain::name::{name_key, type_key};
use crate::domain::validate::{self, Invalid};
use crate::domain::{Proposal, Review, ReviewState};
use crate::store::port::{
    EntityName, EntityRecord, FocusRecord, FocusState, MentionRecord, Record, RelationRecord,
    ReviewRecord,
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

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntityLine {
    project: String,
    name: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    properties: Map<String, Value>,
    #[serde(default, skip_serializing_if = "is_default")]
    use_count: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    last_used_at: Option<DateTime<Utc>>,
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
    id: Uuid,
    session: String,
    content: String,
    importance: f64,
    created_at: DateTime<Utc>,
    touched_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "is_default")]
    archived_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "is_default")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    memory: Option<Uuid>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReviewLine {
    project: String,
    id: Uuid,
    memory: Uuid,
    state: ReviewState,
    proposal: Proposal,
    actor: String,
    #[serde(default, skip_serializing_if = "is_default")]
    reason: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "is_default")]
    decided_by: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    decided_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "is_default")]
    decision_reason: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    applied_version: Option<i64>,
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
        Record::Memory(record) => tagged("memory", &memory_line::line(*record)),
        Record::Entity(r) => tagged(
            "entity",
            &EntityLine {
                project: r.project,
                name: r.name,
                kind: r.kind,
                properties: r.properties,
                use_count: r.use_count,
                last_used_at: r.last_used_at,
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
        Record::Mention(r) => tagged(
            "mention",
            &MentionLine {
                project: r.project,
                memory: r.memory,
                entity: r.entity.into(),
            },
        ),
        Record::Focus(r) => {
            let (archived_at, reason) = match r.state {
                FocusState::Held => (None, None),
                FocusState::Archived {
                    archived_at,
                    reason,
                } => (Some(archived_at), Some(reason)),
            };
            tagged(
                "focus",
                &FocusLine {
                    project: r.project,
                    id: r.id,
                    session: r.session,
                    content: r.content,
                    importance: r.importance,
                    created_at: r.created_at,
                    touched_at: r.touched_at,
                    archived_at,
                    reason,
                    memory: r.memory,
                },
            )
        }
        Record::Review(record) => {
            let ReviewRecord { project, review: r } = *record;
            tagged(
                "review",
                &ReviewLine {
                    project,
                    id: r.id,
                    memory: r.memory,
                    state: r.state,
                    proposal: r.proposal,
                    actor: r.actor,
                    reason: r.reason,
                    created_at: r.created_at,
                    expires_at: r.expires_at,
                    decided_by: r.decided_by,
                    decided_at: r.decided_at,
                    decision_reason: r.decision_reason,
                    applied_version: r.applied_version,
                },
            )
        }
    }
}

/// The first line.
#[must_use]
pub fn header() -> String {
    plain(&Header {
        format: FORMAT.to_owned(),
        version: VERSION,
    })
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
        return Err(format!(
            "the format is {:?}, {FORMAT:?} is expected",
            header.format
        ));
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
    let value: Value =
        serde_json::from_str(line).map_err(|error| format!("this is not JSON ({error})"))?;
    let Value::Object(mut object) = value else {
        return Err("a JSON object is expected".to_owned());
    };
    let Some(Value::String(kind)) = object.remove("type") else {
        return Err("the field `type` is missing".to_owned());
    };
    let value = Value::Object(object);
    let record = match kind.as_str() {
        "memory" => memory_line::read(value)?,
        "entity" => read_entity(parse(value)?).map_err(|invalid| invalid.to_string())?,
        "relation" => read_relation(parse(value)?).map_err(|invalid| invalid.to_string())?,
        "mention" => {
            let m: MentionLine = parse(value)?;
            Record::Mention(MentionRecord {
                project: m.project,
                memory: m.memory,
                entity: m.entity.into(),
            })
        }
        "focus" => read_focus(parse(value)?).map_err(|invalid| invalid.to_string())?,
        "review" => read_review(parse(value)?).map_err(|invalid| invalid.to_string())?,
        "end" => return Ok(Line::End(parse(value)?)),
        other => {
            return Err(format!(
                "the type {other:?} is unknown; memory, entity, relation, mention, focus, review or end is expected"
            ));
        }
    };
    validate::text("project", record.project(), validate::MAX_NAME_BYTES)
        .map_err(|invalid| invalid.to_string())?;
    Ok(Line::Record(record))
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        if path == "." {
            error.inner().to_string()
        } else {
            format!("{path}: {}", error.inner())
        }
    })
}

/// Takes every time that RFC 3339 can express since 1970: a clock that was wrong when a memory was stored must not keep
/// its export from being imported.
pub(super) fn check_time(field: &str, at: DateTime<Utc>) -> Result<(), Invalid> {
    if (1970..10_000).contains(&at.year()) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        at.to_rfc3339(),
        "a time between 1970 and 9999",
    ))
}

fn check_times<const N: usize>(times: [(&str, Option<DateTime<Utc>>); N]) -> Result<(), Invalid> {
    times
        .into_iter()
        .filter_map(|(field, at)| at.map(|at| (field, at)))
        .try_for_each(|(field, at)| check_time(field, at))
}

fn check_count(field: &str, count: i64) -> Result<(), Invalid> {
    if count >= 0 {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        count.to_string(),
        "a number of at least 0",
    ))
}

/// A name as `link` stores it.
pub(super) fn name(field: &str, name: &str) -> Result<String, Invalid> {
    validate::text(field, name, validate::MAX_NAME_BYTES)?;
    if name_key(name).is_empty() {
        return Err(Invalid::new(
            field,
            name,
            "a name with at least one visible character",
        ));
    }
    Ok(name.trim().to_owned())
}

/// A type as `link` stores it.
pub(super) fn kind(kind: &str) -> Result<String, Invalid> {
    validate::text("kind", kind, validate::MAX_TAG_BYTES)?;
    Ok(type_key(kind))
}

fn no_nul(field: &str, text: Option<&String>) -> Result<(), Invalid> {
    match text {
        Some(text) if text.contains('\0') => {
            Err(Invalid::new(field, text, "text without NUL characters"))
        }
        _ => Ok(()),
    }
}

/// What both databases keep of a time.
#[must_use]
pub fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    chrono::SubsecRound::trunc_subsecs(at, 6)
}

fn read_entity(line: EntityLine) -> Result<Record, Invalid> {
    let (name, kind) = (name("name", &line.name)?, kind(&line.kind)?);
    validate::metadata("properties", &line.properties)?;
    check_count("use_count", line.use_count)?;
    check_times([
        ("last_used_at", line.last_used_at),
        ("created_at", Some(line.created_at)),
        ("updated_at", Some(line.updated_at)),
    ])?;
    Ok(Record::Entity(EntityRecord {
        project: line.project,
        name,
        kind,
        properties: line.properties,
        use_count: line.use_count,
        last_used_at: line.last_used_at.map(micros),
        created_at: micros(line.created_at),
        updated_at: micros(line.updated_at),
    }))
}

fn read_relation(line: RelationLine) -> Result<Record, Invalid> {
    let kind = kind(&line.kind)?;
    if name_key(&line.source.name) == name_key(&line.target.name) {
        let expected = "another entity than source: nothing is related to itself";
        return Err(Invalid::new("target", &line.target.name, expected));
    }
    validate::metadata("properties", &line.properties)?;
    validate::number("weight", line.weight, 0.0, 1.0)?;
    check_count("use_count", line.use_count)?;
    check_times([
        ("last_used_at", line.last_used_at),
        ("valid_from", line.valid_from),
        ("valid_to", line.valid_to),
        ("created_at", Some(line.created_at)),
        ("updated_at", Some(line.updated_at)),
    ])?;
    let (valid_from, valid_to) = (line.valid_from.map(micros), line.valid_to.map(micros));
    if let (Some(begin), Some(end)) = (valid_from, valid_to)
        && begin >= end
    {
        let expected = format!("a time after valid_from, which is {}", begin.to_rfc3339());
        return Err(Invalid::new("valid_to", end.to_rfc3339(), expected));
    }
    Ok(Record::Relation(Box::new(RelationRecord {
        project: line.project,
        source: line.source.into(),
        target: line.target.into(),
        kind,
        weight: line.weight,
        properties: line.properties,
        use_count: line.use_count,
        last_used_at: line.last_used_at.map(micros),
        valid_from,
        valid_to,
        created_at: micros(line.created_at),
        updated_at: micros(line.updated_at),
    })))
}

fn read_focus(line: FocusLine) -> Result<Record, Invalid> {
    validate::text("content", &line.content, validate::MAX_CONTENT_BYTES)?;
    validate::number("importance", line.importance, 0.0, 1.0)?;
    no_nul("session", Some(&line.session))?;
    no_nul("reason", line.reason.as_ref())?;
    check_times([
        ("created_at", Some(line.created_at)),
        ("touched_at", Some(line.touched_at)),
        ("archived_at", line.archived_at),
    ])?;
    let state = match (line.archived_at, line.reason) {
        (None, None) => FocusState::Held,
        (Some(at), Some(reason)) => FocusState::Archived {
            archived_at: micros(at),
            reason,
        },
        _ => {
            return Err(Invalid::new(
                "archived_at",
                "",
                "archived_at with a reason, or neither",
            ));
        }
    };
    Ok(Record::Focus(FocusRecord {
        project: line.project,
        id: line.id,
        session: line.session,
        content: line.content,
        importance: line.importance,
        created_at: micros(line.created_at),
        touched_at: micros(line.touched_at),
        memory: line.memory,
        state,
    }))
}

fn read_review(line: ReviewLine) -> Result<Record, Invalid> {
    if line.state == ReviewState::Expired {
        return Err(Invalid::new(
            "state",
            line.state.as_str(),
            "open: expires_at says whether it has expired",
        ));
    }
    for (field, text) in [
        ("actor", Some(&line.actor)),
        ("reason", line.reason.as_ref()),
        ("decided_by", line.decided_by.as_ref()),
        ("decision_reason", line.decision_reason.as_ref()),
    ] {
        no_nul(field, text)?;
    }
    check_times([
        ("created_at", Some(line.created_at)),
        ("expires_at", Some(line.expires_at)),
        ("decided_at", line.decided_at),
    ])?;
    if let Proposal::Update { patch } = &line.proposal {
        memory_line::check_patch(patch).map_err(|invalid| invalid.within("proposal.patch"))?;
    }
    Ok(Record::Review(Box::new(ReviewRecord {
        project: line.project,
        review: Review {
            id: line.id,
            memory: line.memory,
            proposal: line.proposal,
            state: line.state,
            actor: line.actor,
            reason: line.reason,
            created_at: micros(line.created_at),
            expires_at: micros(line.expires_at),
            decided_by: line.decided_by,
            decided_at: line.decided_at.map(micros),
            decision_reason: line.decision_reason,
            applied_version: line.applied_version,
        },
    })))
}
