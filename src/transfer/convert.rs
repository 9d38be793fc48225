//! Converts data that the readers of other programs' data pass to it, and writes records in the export format. Record
//! IDs are derived from the IDs of the other program, so that importing the same data twice stores it once. Long texts
//! are split, names and metadata that exceed a limit are shortened with a warning, and all data that cannot be kept is
//! reported.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::check::{accept_name, accept_type, check_memory, truncate_time};
use super::fit::{fit_metadata, replace_nul, truncate_text};
use super::foreign_time::parse_time;
use super::format::{self, End};
use super::{Problems, TransferError};
use crate::domain::graph::DEFAULT_WEIGHT;
use crate::domain::name::{name_key, type_key};
use crate::domain::validate;
use crate::domain::{Change, Episode, History, Kind, Memory};
use crate::store::port::{
    EntityName, EntityRecord, MemoryRecord, MentionRecord, Record, RelationRecord,
};

/// Maximum size of the parts of a split text.
const PART_BYTES: usize = 60_000;
/// Maximum size of a title that is kept as metadata.
const MAX_TITLE_BYTES: usize = 4096;

/// A memory of another program.
#[derive(Debug, Clone, Default)]
pub struct ForeignMemory {
    /// Key of the memory in the other program, unique within its data.
    pub key: String,
    /// Kind of the memory.
    pub kind: Kind,
    /// The text.
    pub content: String,
    /// Tags in their form in the other program.
    pub tags: Vec<String>,
    /// From 0 to 1.
    pub importance: Option<f64>,
    /// All other data about the memory.
    pub metadata: Map<String, Value>,
    /// Time of the event, if it differs from the time of storing.
    pub occurred_at: Option<DateTime<Utc>>,
    /// When the memory was stored.
    pub created_at: Option<DateTime<Utc>>,
    /// When the memory last changed.
    pub updated_at: Option<DateTime<Utc>>,
    /// Conversation ID.
    pub session: Option<String>,
    /// Number of the turn in the conversation.
    pub turn: Option<i64>,
    /// Name of the speaker.
    pub speaker: Option<String>,
    /// Fields of an episode.
    pub episode: Option<Episode>,
    /// Number of recalls so far.
    pub recall_count: i64,
}

/// The result of reading another program's data.
#[derive(Debug, Default)]
pub struct Converted {
    /// Data that could not be imported.
    pub problems: Problems,
    /// Data that was imported in a changed form.
    pub warnings: Problems,
    /// Data that is omitted on purpose, with counts.
    pub omitted: BTreeMap<&'static str, u64>,
    /// Notes for the person who imports the data.
    pub notes: Vec<String>,
}

/// Receives records and writes them as lines of an export.
pub struct Sink<'a> {
    out: &'a mut dyn Write,
    failed: &'a dyn Fn(std::io::Error) -> TransferError,
    system: &'static str,
    project: String,
    now: DateTime<Utc>,
    hash: Sha256,
    records: u64,
    /// Key of the name, and the type.
    entities: HashMap<String, String>,
    /// ID of each memory, and the first bytes of the hash of its text.
    memories: HashMap<Uuid, [u8; 8]>,
    /// Data that could not be imported.
    pub problems: Problems,
    /// Data that was imported in a changed form.
    pub warnings: Problems,
    omitted: BTreeMap<&'static str, u64>,
    notes: Vec<String>,
}

impl std::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink")
            .field("system", &self.system)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

impl<'a> Sink<'a> {
    /// Creates a sink for data of the program `system`, to be imported into `project`.
    ///
    /// # Errors
    /// Fails if the header cannot be written.
    pub fn new(
        out: &'a mut dyn Write,
        failed: &'a dyn Fn(std::io::Error) -> TransferError,
        system: &'static str,
        project: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, TransferError> {
        writeln!(out, "{}", format::write_header()).map_err(failed)?;
        Ok(Self {
            out,
            failed,
            system,
            project: project.to_owned(),
            now,
            hash: Sha256::new(),
            records: 0,
            entities: HashMap::new(),
            memories: HashMap::new(),
            problems: Problems::default(),
            warnings: Problems::default(),
            omitted: BTreeMap::new(),
            notes: Vec::new(),
        })
    }

    /// Adds a note for the person who imports the data.
    pub fn add_note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Counts data that is left out on purpose, for example `messages of tools`.
    pub fn count_omitted(&mut self, what: &'static str) {
        *self.omitted.entry(what).or_default() += 1;
    }

    /// Writes the end line.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn write_end(self) -> Result<Converted, TransferError> {
        let end = End {
            records: self.records,
            sha256: super::export::to_hex(&self.hash.finalize()),
        };
        writeln!(self.out, "{}", format::write_line(&end))
            .and_then(|()| self.out.flush())
            .map_err(self.failed)?;
        Ok(Converted {
            problems: self.problems,
            warnings: self.warnings,
            omitted: self.omitted,
            notes: self.notes,
        })
    }

    fn write_record(&mut self, record: Record) -> Result<(), TransferError> {
        let mut text = format::write_line(&record);
        text.push('\n');
        self.hash.update(text.as_bytes());
        self.records += 1;
        self.out.write_all(text.as_bytes()).map_err(self.failed)
    }

    /// Returns a time if it can be stored.
    fn accept_time(&self, at: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        use chrono::Datelike;
        at.filter(|at| {
            (1970..2200).contains(&at.year()) && *at <= self.now + chrono::TimeDelta::days(1)
        })
        .map(truncate_time)
    }

    /// Parses a time in the formats of other programs; warns about any other value.
    pub fn read_time(&mut self, place: &str, field: &str, value: &Value) -> Option<DateTime<Utc>> {
        let at = self.accept_time(parse_time(value));
        let is_absent =
            value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        if at.is_none() && !is_absent {
            self.warnings.add(
                place,
                format!(
                    "{field} {} is not a time between 1970 and now: ignored",
                    shorten_value(value)
                ),
            );
        }
        at
    }

    /// Adds a memory; a long one becomes several. Returns the ID of the first, or `None` if it has no text or cannot be
    /// stored, which is then among the problems.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn add_memory(
        &mut self,
        place: &str,
        mut foreign: ForeignMemory,
    ) -> Result<Option<Uuid>, TransferError> {
        let content = self.clean_text(place, &std::mem::take(&mut foreign.content));
        if content.trim().is_empty() {
            return Ok(None);
        }
        let (tags, further) = fit_tags(&foreign.tags);
        foreign.tags = tags;
        let mut metadata = std::mem::take(&mut foreign.metadata);
        if !further.is_empty() {
            metadata.insert("further_tags".to_owned(), further.into());
        }
        let (metadata, warnings) = fit_metadata(metadata);
        foreign.metadata = metadata;
        for warning in warnings {
            self.warnings.add(place, warning);
        }
        foreign.session = self.fit_name(place, "session", foreign.session.take());
        foreign.speaker = self.fit_name(place, "speaker", foreign.speaker.take());
        // The key may be as long as the text, so it is neither copied nor hashed again for each part.
        let key = Key::new(self.system, &self.project, std::mem::take(&mut foreign.key));
        let parts = split_text(&content);
        let count = parts.len();
        let mut first = None;
        for (index, part) in parts.into_iter().enumerate() {
            let mut piece = ForeignMemory {
                content: part.to_owned(),
                ..foreign.clone()
            };
            let mut suffix = String::new();
            if count > 1 {
                suffix = format!("#{index}");
                piece.metadata.insert(
                    "part".to_owned(),
                    format!("{} of {count}", index + 1).into(),
                );
                if index > 0 {
                    // One turn has one row; the other parts follow it without a number.
                    piece.turn = None;
                }
            }
            let id = self.put_memory(place, piece, (&key, &suffix))?;
            first = first.or(id);
        }
        Ok(first)
    }

    /// Replaces characters that no database stores.
    fn clean_text(&mut self, place: &str, text: &str) -> String {
        if text.contains('\0') {
            self.warnings
                .add(place, "NUL characters were replaced by U+FFFD");
        }
        replace_nul(text)
    }

    /// Shortens a title that the memories of a conversation share, once for all of them.
    pub fn fit_title(&mut self, place: &str, title: &str) -> Option<String> {
        let fitting = truncate_text(title, MAX_TITLE_BYTES);
        if fitting.len() < title.len() {
            self.warnings.add(
                place,
                format!("title {fitting:.40?}… was cut to {MAX_TITLE_BYTES} bytes"),
            );
        }
        Some(fitting.to_owned()).filter(|title| !title.is_empty())
    }

    /// Shortens a name that memories share, once for all of them.
    pub fn fit_name(&mut self, place: &str, field: &str, name: Option<String>) -> Option<String> {
        let name = replace_nul(&name?);
        let fitting = truncate_text(name.trim(), validate::MAX_NAME_BYTES);
        if fitting.len() < name.trim().len() {
            let warning = format!(
                "{field} {fitting:.40?}… was cut to {} bytes",
                validate::MAX_NAME_BYTES
            );
            self.warnings.add(place, warning);
        }
        Some(fitting.to_owned()).filter(|name| !name.is_empty())
    }

    /// Returns the ID of a key, or an ID that includes the text if the key already has another text.
    fn unique_id(
        &mut self,
        place: &str,
        foreign: &ForeignMemory,
        (key, suffix): (&Key, &str),
    ) -> Uuid {
        let digest = Sha256::digest(foreign.content.as_bytes());
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        let at = self.accept_time(foreign.created_at);
        let id = key.id(suffix, at);
        if *self.memories.entry(id).or_insert(hash) == hash {
            return id;
        }
        self.warnings.add(
            place,
            format!(
                "its ID \"{}{suffix}\" was used before for another text: both texts are kept",
                key.brief
            ),
        );
        let own = key.id(&format!("{suffix}\n{}", super::export::to_hex(&digest)), at);
        self.memories.insert(own, hash);
        own
    }

    fn put_memory(
        &mut self,
        place: &str,
        foreign: ForeignMemory,
        key: (&Key, &str),
    ) -> Result<Option<Uuid>, TransferError> {
        let created_at = self
            .accept_time(foreign.created_at)
            .or_else(|| self.accept_time(foreign.occurred_at))
            .unwrap_or(self.now);
        let updated_at = self
            .accept_time(foreign.updated_at)
            .unwrap_or(created_at)
            .max(created_at);
        let id = self.unique_id(place, &foreign, key);
        let mut metadata = foreign.metadata;
        metadata.insert("imported_from".to_owned(), self.system.into());
        let session = foreign.session;
        let memory = Memory {
            id,
            project: self.project.clone(),
            kind: foreign.kind,
            content: foreign.content,
            tags: foreign.tags,
            importance: foreign
                .importance
                .filter(|i| i.is_finite())
                .unwrap_or(0.5)
                .clamp(0.0, 1.0),
            metadata: metadata.into(),
            occurred_at: self.accept_time(foreign.occurred_at).unwrap_or(created_at),
            created_at,
            updated_at,
            version: 1,
            turn: foreign
                .turn
                .filter(|_| foreign.kind == Kind::Dialogue && session.is_some()),
            session,
            speaker: foreign.speaker,
            episode: foreign.episode,
            recall_count: foreign.recall_count.max(0),
            ..Memory::default()
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
        if let Err(invalid) = check_memory(&mut record) {
            self.problems.add(place, invalid.to_string());
            return Ok(None);
        }
        self.write_record(Record::Memory(Box::new(record)))?;
        Ok(Some(id))
    }

    /// Returns a name and type that can be stored; warns if they had to be shortened. `None` if no name is left.
    pub fn entity_name(&mut self, place: &str, name: &str, kind: &str) -> Option<EntityName> {
        let fitting = self
            .fit_name(place, "name", Some(name.to_owned()))
            .filter(|name| !name_key(name).is_empty())?;
        let kind = replace_nul(kind);
        let fitting_kind = truncate_text(kind.trim(), validate::MAX_TAG_BYTES);
        let fitting_kind = if name_key(fitting_kind).is_empty() {
            "entity"
        } else {
            fitting_kind
        };
        Some(EntityName {
            name: fitting,
            kind: fitting_kind.to_owned(),
        })
    }

    /// Returns whether an entity of this name was added.
    #[must_use]
    pub fn has_entity(&self, name: &EntityName) -> bool {
        self.entities.contains_key(&name_key(&name.name))
    }

    /// Adds an entity. A second one of the same name has no effect.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn add_entity(
        &mut self,
        place: &str,
        name: &EntityName,
        properties: Map<String, Value>,
        at: Option<DateTime<Utc>>,
    ) -> Result<(), TransferError> {
        if let Err(invalid) = accept_name("name", &name.name).and_then(|_| accept_type(&name.kind))
        {
            self.problems.add(place, invalid.to_string());
            return Ok(());
        }
        let kind = type_key(&name.kind);
        if let Some(known) = self.entities.get(&name_key(&name.name)) {
            if *known != kind {
                let warning = format!(
                    "{:?} is known as {known:?}: its second type {kind:?} is ignored",
                    name.name
                );
                self.warnings.add(place, warning);
            }
            return Ok(());
        }
        self.entities.insert(name_key(&name.name), kind.clone());
        let (properties, warnings) = fit_metadata(properties);
        for warning in warnings {
            self.warnings.add(place, warning);
        }
        let at = self.accept_time(at).unwrap_or(self.now);
        self.write_record(Record::Entity(EntityRecord {
            project: self.project.clone(),
            name: name.name.clone(),
            kind,
            properties,
            use_count: 0,
            last_used_at: None,
            created_at: at,
            updated_at: at,
        }))
    }

    /// Adds a relation. An entity that it names but that was not added is created with a warning.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn add_relation(
        &mut self,
        place: &str,
        (source, kind, target): (&EntityName, &str, &EntityName),
        weight: f64,
    ) -> Result<(), TransferError> {
        if name_key(&source.name) == name_key(&target.name) {
            self.problems.add(
                place,
                format!(
                    "{:?} has a relation to itself, which cannot be stored",
                    source.name
                ),
            );
            return Ok(());
        }
        for name in [source, target] {
            if !self.has_entity(name) {
                let warning = format!(
                    "the relation {kind:?} names {:?}, which has no entity of its own: created",
                    name.name
                );
                self.warnings.add(place, warning);
                self.add_entity(place, name, Map::new(), None)?;
                if !self.has_entity(name) {
                    return Ok(());
                }
            }
        }
        let kind = type_key(truncate_text(
            replace_nul(kind).trim(),
            validate::MAX_TAG_BYTES,
        ));
        let kind = if kind.is_empty() {
            "related_to".to_owned()
        } else {
            kind
        };
        self.write_record(Record::Relation(Box::new(RelationRecord {
            project: self.project.clone(),
            source: source.clone(),
            target: target.clone(),
            kind,
            weight: if weight.is_finite() {
                weight.clamp(0.0, 1.0)
            } else {
                DEFAULT_WEIGHT
            },
            properties: Map::new(),
            use_count: 0,
            last_used_at: None,
            valid_from: None,
            valid_to: None,
            created_at: self.now,
            updated_at: self.now,
        })))
    }

    /// Adds a mention of an entity by a memory, both of which were added before.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn add_mention(&mut self, memory: Uuid, entity: &EntityName) -> Result<(), TransferError> {
        if !self.has_entity(entity) {
            return Ok(());
        }
        self.write_record(Record::Mention(MentionRecord {
            project: self.project.clone(),
            memory,
            entity: entity.clone(),
        }))
    }
}

/// The other program's key of a memory, hashed once.
struct Key {
    hash: Sha256,
    /// The beginning of the key, for messages.
    brief: String,
}

impl Key {
    fn new(system: &str, project: &str, key: String) -> Self {
        let mut hash = Sha256::new();
        for part in [system, "\n", project, "\n", &key] {
            hash.update(part);
        }
        Self {
            hash,
            brief: shorten_text(&key),
        }
    }

    /// Returns the ID of the key with `suffix`: the time of its creation, if the other program knows one, followed by
    /// bytes of the hash.
    fn id(&self, suffix: &str, created_at: Option<DateTime<Utc>>) -> Uuid {
        let digest = self.hash.clone().chain_update(suffix).finalize();
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        let millis = created_at
            .and_then(|at| u64::try_from(at.timestamp_millis()).ok())
            .unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

/// Separates the tags that a memory may have from the others.
fn fit_tags(tags: &[String]) -> (Vec<String>, Vec<String>) {
    let mut fitting: Vec<String> = Vec::new();
    let mut known = HashSet::new();
    for tag in tags {
        let tag = truncate_text(replace_nul(tag).trim(), validate::MAX_TAG_BYTES).to_owned();
        if !tag.is_empty() && known.insert(tag.clone()) {
            fitting.push(tag);
        }
    }
    let further = if fitting.len() > validate::MAX_TAGS {
        fitting.split_off(validate::MAX_TAGS)
    } else {
        Vec::new()
    };
    (fitting, further)
}

/// Formats a value for an error message.
fn shorten_value(value: &Value) -> String {
    shorten_text(&value.to_string())
}

fn shorten_text(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{short}{dots}")
}

/// Splits a text into parts that fit, between paragraphs, lines or words if possible.
fn split_text(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > validate::MAX_CONTENT_BYTES {
        let piece = truncate_text(rest, PART_BYTES);
        let end = ["\n\n", "\n", " "]
            .iter()
            .find_map(|gap| {
                piece
                    .rfind(gap)
                    .filter(|at| *at > PART_BYTES / 2)
                    .map(|at| at + gap.len())
            })
            .unwrap_or(piece.len());
        parts.push(&rest[..end]);
        rest = &rest[end..];
    }
    parts.push(rest);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_earlier_versions() {
        let at = DateTime::from_timestamp(1_700_000_000, 0);
        let digest = Sha256::digest("claude\nwork\nthe key#3");
        let id = Key::new("claude", "work", "the key".to_owned()).id("#3", at);
        assert_eq!(id.as_bytes()[0], 0x01);
        assert_eq!(
            id.as_bytes()[9..16],
            digest[3..10],
            "behind the time, the version and the variant"
        );
    }
}
