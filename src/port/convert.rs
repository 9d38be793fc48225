//! What the readers of other programs' data write into: records in the format of an export. Their ids come from the
//! ids which the other program used, so that the same data imported twice is stored once. Limits of this program are
//! met by splitting long texts, and by telling what cannot be kept; nothing is dropped in silence.

use std::collections::HashSet;
use std::io::Write;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::line::{self, End};
use super::memory_line;
use super::{PortError, Problems};
use crate::domain::graph::DEFAULT_WEIGHT;
use crate::domain::name::{name_key, type_key};
use crate::domain::validate;
use crate::domain::{Change, Episode, History, Kind, Memory};
use crate::store::port::{EntityName, EntityRecord, MemoryRecord, MentionRecord, Record, RelationRecord};

/// Longest part of a text that is split.
const PART_BYTES: usize = 60_000;

/// A memory of another program.
#[derive(Debug, Clone, Default)]
pub struct Foreign {
    /// How the other program identifies it, unique within its data.
    pub key: String,
    /// What it is for.
    pub kind: Kind,
    /// The text.
    pub content: String,
    /// As they were.
    pub tags: Vec<String>,
    /// From 0 to 1.
    pub importance: Option<f64>,
    /// Whatever else is known.
    pub metadata: Map<String, Value>,
    /// When it happened, if that is not when it was stored.
    pub occurred_at: Option<DateTime<Utc>>,
    /// When it was stored.
    pub created_at: Option<DateTime<Utc>>,
    /// When it last changed.
    pub updated_at: Option<DateTime<Utc>>,
    /// Conversation.
    pub session: Option<String>,
    /// Place in it.
    pub turn: Option<i64>,
    /// Who said it.
    pub speaker: Option<String>,
    /// For episodes.
    pub episode: Option<Episode>,
    /// Recalls so far.
    pub recall_count: i64,
}

/// Takes records and writes them down as lines of an export.
pub struct Sink<'a> {
    out: &'a mut dyn Write,
    failed: &'a dyn Fn(std::io::Error) -> PortError,
    system: &'static str,
    project: String,
    now: DateTime<Utc>,
    hash: Sha256,
    records: u64,
    entities: HashSet<String>,
    /// What could not be taken.
    pub problems: Problems,
}

impl std::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("system", &self.system).field("records", &self.records).finish_non_exhaustive()
    }
}

impl<'a> Sink<'a> {
    /// A sink for data of `system`, which goes into `project`.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn new(
        out: &'a mut dyn Write,
        failed: &'a dyn Fn(std::io::Error) -> PortError,
        system: &'static str,
        project: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, PortError> {
        writeln!(out, "{}", line::header()).map_err(failed)?;
        Ok(Self {
            out,
            failed,
            system,
            project: project.to_owned(),
            now,
            hash: Sha256::new(),
            records: 0,
            entities: HashSet::new(),
            problems: Problems::default(),
        })
    }

    /// Writes the end line; how many records there are.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<(u64, Problems), PortError> {
        let end = End { records: self.records, sha256: super::export::hex(&self.hash.finalize()) };
        writeln!(self.out, "{}", line::end(&end)).and_then(|()| self.out.flush()).map_err(self.failed)?;
        Ok((self.records, self.problems))
    }

    fn put(&mut self, record: Record) -> Result<(), PortError> {
        let mut text = line::write(record);
        text.push('\n');
        self.hash.update(text.as_bytes());
        self.records += 1;
        self.out.write_all(text.as_bytes()).map_err(self.failed)
    }

    /// A time that can be, or none.
    fn time(&self, at: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        use chrono::Datelike;
        at.filter(|at| (1970..2200).contains(&at.year()) && *at <= self.now + chrono::TimeDelta::days(1))
            .map(line::micros)
    }

    /// A memory; a long one becomes several. Returns the id of the first, or nothing where it cannot be taken, which
    /// is then among the problems.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn memory(&mut self, place: &str, foreign: Foreign) -> Result<Option<Uuid>, PortError> {
        let content = clean(&foreign.content);
        if content.trim().is_empty() {
            return Ok(None);
        }
        let parts = split(&content);
        let count = parts.len();
        let mut first = None;
        for (index, part) in parts.into_iter().enumerate() {
            let mut piece = Foreign { content: part.to_owned(), ..foreign.clone() };
            if count > 1 {
                piece.key = format!("{}#{index}", foreign.key);
                piece.metadata.insert("part".to_owned(), format!("{} of {count}", index + 1).into());
                if index > 0 {
                    // One turn has one row; the rest follows it without a number.
                    piece.turn = None;
                }
            }
            let id = self.one(place, piece)?;
            first = first.or(id);
        }
        Ok(first)
    }

    fn one(&mut self, place: &str, foreign: Foreign) -> Result<Option<Uuid>, PortError> {
        let created_at = self.time(foreign.created_at).or_else(|| self.time(foreign.occurred_at)).unwrap_or(self.now);
        let updated_at = self.time(foreign.updated_at).unwrap_or(created_at).max(created_at);
        let id = self.id(&foreign.key, self.time(foreign.created_at));
        let mut metadata = foreign.metadata;
        metadata.insert("imported_from".to_owned(), self.system.into());
        let mut tags: Vec<String> = Vec::new();
        for tag in &foreign.tags {
            let tag = cut(clean(tag).trim(), validate::MAX_TAG_BYTES).to_owned();
            if !tag.is_empty() && !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        if tags.len() > validate::MAX_TAGS {
            metadata.insert("further_tags".to_owned(), tags.split_off(validate::MAX_TAGS).into());
        }
        let name = |text: Option<String>| {
            text.map(|text| cut(clean(&text).trim(), validate::MAX_NAME_BYTES).to_owned()).filter(|t| !t.is_empty())
        };
        let session = name(foreign.session);
        let memory = Memory {
            id,
            seq: 0,
            project: self.project.clone(),
            kind: foreign.kind,
            content: foreign.content,
            tags,
            importance: foreign.importance.filter(|i| i.is_finite()).unwrap_or(0.5).clamp(0.0, 1.0),
            metadata,
            occurred_at: self.time(foreign.occurred_at).unwrap_or(created_at),
            created_at,
            updated_at,
            valid_until: None,
            superseded_by: None,
            deleted_at: None,
            version: 1,
            turn: foreign.turn.filter(|_| foreign.kind == Kind::Dialogue && session.is_some()),
            session,
            speaker: name(foreign.speaker),
            episode: foreign.episode,
            sources: Vec::new(),
            recall_count: foreign.recall_count.max(0),
            last_recalled_at: None,
            helpful: 0,
            not_helpful: 0,
            protected: false,
        };
        let actor = format!("import:{}", self.system);
        let history = vec![History {
            memory_id: id,
            version: 1,
            change: Change::Created,
            old: None,
            actor,
            reason: None,
            at: created_at,
        }];
        let mut record = MemoryRecord { memory, history };
        if record.memory.recall_count > 0 {
            record.memory.last_recalled_at = Some(updated_at);
        }
        if let Err(invalid) = memory_line::check(&mut record) {
            self.problems.add(place, invalid.to_string());
            return Ok(None);
        }
        self.put(Record::Memory(Box::new(record)))?;
        Ok(Some(id))
    }

    /// The id that this program's id has here: the time of its creation, where the other program knows one, then what
    /// a hash of the key gives.
    fn id(&self, key: &str, created_at: Option<DateTime<Utc>>) -> Uuid {
        let digest = Sha256::digest(format!("{}\n{}\n{key}", self.system, self.project));
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        let millis = created_at.and_then(|at| u64::try_from(at.timestamp_millis()).ok()).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// An entity; the first one of a name counts.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn entity(
        &mut self,
        place: &str,
        name: &EntityName,
        properties: Map<String, Value>,
        at: Option<DateTime<Utc>>,
    ) -> Result<(), PortError> {
        if let Err(invalid) = line::name("name", &name.name).and_then(|_| line::kind(&name.kind)) {
            self.problems.add(place, invalid.to_string());
            return Ok(());
        }
        if !self.entities.insert(name_key(&name.name)) {
            return Ok(());
        }
        let at = self.time(at).unwrap_or(self.now);
        self.put(Record::Entity(EntityRecord {
            project: self.project.clone(),
            name: name.name.clone(),
            kind: type_key(&name.kind),
            properties,
            use_count: 0,
            last_used_at: None,
            created_at: at,
            updated_at: at,
        }))
    }

    /// A relation between entities that were given before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn relation(
        &mut self,
        place: &str,
        (source, kind, target): (&EntityName, &str, &EntityName),
        weight: f64,
    ) -> Result<(), PortError> {
        for name in [source, target] {
            if !self.entities.contains(&name_key(&name.name)) {
                self.problems.add(place, format!("the relation {kind:?} names {:?}, which is no entity", name.name));
                return Ok(());
            }
        }
        if name_key(&source.name) == name_key(&target.name) {
            self.problems.add(place, format!("{:?} has a relation to itself, which is not kept", source.name));
            return Ok(());
        }
        let kind = type_key(cut(clean(kind).trim(), validate::MAX_TAG_BYTES));
        let kind = if kind.is_empty() { "related_to".to_owned() } else { kind };
        self.put(Record::Relation(Box::new(RelationRecord {
            project: self.project.clone(),
            source: source.clone(),
            target: target.clone(),
            kind,
            weight: if weight.is_finite() { weight.clamp(0.0, 1.0) } else { DEFAULT_WEIGHT },
            properties: Map::new(),
            use_count: 0,
            last_used_at: None,
            valid_from: None,
            valid_to: None,
            created_at: self.now,
            updated_at: self.now,
        })))
    }

    /// A memory speaks of an entity; both were given before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mention(&mut self, memory: Uuid, entity: &EntityName) -> Result<(), PortError> {
        if !self.entities.contains(&name_key(&entity.name)) {
            return Ok(());
        }
        self.put(Record::Mention(MentionRecord { project: self.project.clone(), memory, entity: entity.clone() }))
    }
}

/// NUL characters cannot be stored anywhere.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Parts that fit, cut between paragraphs or lines or words where there are any.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > validate::MAX_CONTENT_BYTES {
        let piece = cut(rest, PART_BYTES);
        let end = ["\n\n", "\n", " "]
            .iter()
            .find_map(|gap| piece.rfind(gap).filter(|at| *at > PART_BYTES / 2).map(|at| at + gap.len()))
            .unwrap_or(piece.len());
        parts.push(&rest[..end]);
        rest = &rest[end..];
    }
    parts.push(rest);
    parts.retain(|part| !part.trim().is_empty());
    parts
}
