//! What goes out of a database and into another one, whole: the boundary of export, import, backup and restore.
//!
//! Unlike the use cases of [`Store`](super::Store) this is for the owner of the machine: a scope names the projects,
//! but ids, times, versions and history are taken as they are. A backend implements [`PortStore`]; what it reads
//! from one database must be what it reads again after an import into another one of any kind.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Finding, Result};
use crate::domain::memory::is_default;
use crate::domain::{History, Memory, Review, Scope};

/// One thing that a file holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Record {
    /// A memory with all that is its own.
    Memory(Box<MemoryRecord>),
    /// A node of the graph.
    Entity(EntityRecord),
    /// An edge of the graph.
    Relation(Box<RelationRecord>),
    /// A memory names an entity.
    Mention(MentionRecord),
    /// An item of the working memory, present or archived.
    Focus(FocusRecord),
    /// A change that waits for a person, or did.
    Review(Box<ReviewRecord>),
}

impl Record {
    /// The project that it belongs to.
    #[must_use]
    pub fn project(&self) -> &str {
        match self {
            Self::Memory(record) => &record.memory.project,
            Self::Entity(record) => &record.project,
            Self::Relation(record) => &record.project,
            Self::Mention(record) => &record.project,
            Self::Focus(record) => &record.project,
            Self::Review(record) => &record.project,
        }
    }
}

/// A memory and its history, oldest first and beginning with its creation. The place in the storage
/// order is that of the record among the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryRecord {
    /// The memory.
    #[serde(flatten)]
    pub memory: Memory,
    /// What happened to it. Empty in a page of a [`Snapshot`] when it is too long for one: then it is read by
    /// [`Snapshot::history`].
    pub history: Vec<History>,
}

/// Bytes of earlier states that a page of memories loads, and one of [`Snapshot::history`] about.
pub const PAGE_HISTORY_BYTES: i64 = 8 << 20;
/// Entries that a page of [`Snapshot::history`] has.
pub const PAGE_HISTORY_ENTRIES: i64 = 20;

/// How many of the memories of a page, given as their sizes of history, are loaded with their history. None: that of the
/// first one alone is too long.
pub(super) fn loaded_with_history(sizes: impl IntoIterator<Item = i64>) -> usize {
    let mut left = PAGE_HISTORY_BYTES;
    let fits = |size: &i64| {
        left = left.saturating_sub(*size);
        left >= 0
    };
    sizes.into_iter().take_while(fits).count()
}

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityRecord {
    /// Project it belongs to.
    pub project: String,
    /// As it is written.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Free-form.
    #[serde(default, skip_serializing_if = "is_default")]
    pub properties: Map<String, Value>,
    /// How often it was linked or mentioned.
    #[serde(default, skip_serializing_if = "is_default")]
    pub use_count: i64,
    /// When it last was.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was first named.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// How an entity is named from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityName {
    /// As it is written.
    pub name: String,
    /// What it is.
    pub kind: String,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationRecord {
    /// Project it belongs to.
    pub project: String,
    /// Where it begins.
    pub source: EntityName,
    /// Where it ends.
    pub target: EntityName,
    /// What it says.
    pub kind: String,
    /// How strong it is.
    pub weight: f64,
    /// Free-form.
    #[serde(default, skip_serializing_if = "is_default")]
    pub properties: Map<String, Value>,
    /// How often it was followed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub use_count: i64,
    /// When it was last followed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_used_at: Option<DateTime<Utc>>,
    /// From when on it holds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub valid_from: Option<DateTime<Utc>>,
    /// Until when it holds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub valid_to: Option<DateTime<Utc>>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A memory names an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MentionRecord {
    /// Project of both.
    pub project: String,
    /// The memory.
    pub memory: Uuid,
    /// The entity.
    pub entity: EntityName,
}

/// An item of the working memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FocusRecord {
    /// Project it belongs to.
    pub project: String,
    /// Identity, kept in the archive.
    pub id: Uuid,
    /// Conversation it belongs to; empty for all.
    pub session: String,
    /// The text.
    pub content: String,
    /// From 0 to 1.
    pub importance: f64,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub touched_at: DateTime<Utc>,
    /// Whether it is still held, or what became of it.
    #[serde(flatten, with = "focus_state")]
    pub state: FocusState,
    /// The memory whose text it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory: Option<Uuid>,
}

/// Whether an item is in the working memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FocusState {
    /// It is.
    Held,
    /// It was.
    Archived {
        /// When it left.
        archived_at: DateTime<Utc>,
        /// Why.
        reason: String,
    },
}

/// The fields of a state beside those of its item: both, or none.
mod focus_state {
    use chrono::{DateTime, Utc};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::FocusState;

    #[derive(Serialize, Deserialize)]
    struct Fields {
        #[serde(skip_serializing_if = "Option::is_none")]
        archived_at: Option<DateTime<Utc>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    pub(super) fn serialize<S: Serializer>(
        state: &FocusState,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let (archived_at, reason) = match state.clone() {
            FocusState::Held => (None, None),
            FocusState::Archived {
                archived_at,
                reason,
            } => (Some(archived_at), Some(reason)),
        };
        Fields {
            archived_at,
            reason,
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<FocusState, D::Error> {
        let fields = Fields::deserialize(deserializer)
            .map_err(|error| Error::custom(format!("archived_at or reason: {error}")))?;
        match (fields.archived_at, fields.reason) {
            (None, None) => Ok(FocusState::Held),
            (Some(archived_at), Some(reason)) => Ok(FocusState::Archived {
                archived_at,
                reason,
            }),
            _ => Err(Error::custom(
                "expected archived_at and reason together, or neither",
            )),
        }
    }
}

/// A review and whose it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReviewRecord {
    /// Project it belongs to.
    pub project: String,
    /// The review, in the state that the table has.
    #[serde(flatten)]
    pub review: Review,
}

/// The kinds of records, in the order in which they are read: what is referred to comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Nodes of the graph.
    Entity,
    /// Edges of the graph.
    Relation,
    /// Memories, in storage order.
    Memory,
    /// Who names whom.
    Mention,
    /// Working memory.
    Focus,
    /// What left it.
    Archive,
    /// Changes that wait for a person, or did.
    Review,
}

impl Section {
    /// Every section, in order.
    pub const ALL: [Self; 7] = [
        Self::Entity,
        Self::Relation,
        Self::Memory,
        Self::Mention,
        Self::Focus,
        Self::Archive,
        Self::Review,
    ];
}

/// Where a page ended; the next one begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place(pub i64, pub i64);

/// What became of a record that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// It is there now.
    Created,
    /// It was there already, and was left as it is.
    Present,
    /// It cannot be there: the reason, for a person. The others of its batch are stored.
    Refused(String),
}

/// Memories of a page, in its order, with what was loaded of their history.
pub(super) fn memory_records(memories: Vec<Memory>, mut history: Vec<History>) -> Vec<Record> {
    history.sort_by_key(|entry| entry.version);
    let places: HashMap<Uuid, usize> = memories.iter().map(|memory| memory.id).zip(0..).collect();
    let mut records: Vec<MemoryRecord> = memories
        .into_iter()
        .map(|memory| MemoryRecord {
            memory,
            history: Vec::new(),
        })
        .collect();
    for entry in history {
        if let Some(place) = places.get(&entry.memory_id) {
            records[*place].history.push(entry);
        }
    }
    records
        .into_iter()
        .map(|record| Record::Memory(Box::new(record)))
        .collect()
}

/// A database at one moment, whatever is written meanwhile.
#[async_trait]
pub trait Snapshot: Send {
    /// How many records there are, about.
    async fn size(&mut self) -> Result<u64>;

    /// The next records of a section behind `after`, at most `limit`, with the place of the last.
    /// A page has fewer memories when their history is long.
    async fn page(
        &mut self,
        section: Section,
        after: Place,
        limit: i64,
    ) -> Result<(Vec<Record>, Place)>;

    /// The next entries of a memory's history behind `after`, oldest first, with the place of the last; none at its
    /// end. It begins behind [`Place::default`].
    async fn history(&mut self, memory: &Memory, after: Place) -> Result<(Vec<History>, Place)>;
}

/// A database as a source and a target of whole records.
#[async_trait]
pub trait PortStore: Send + Sync {
    /// Names of all projects, sorted. The embedded file can be asked while another process has it open.
    async fn projects(&self) -> Result<Vec<String>>;

    /// The readable projects of the scope as they are now. Likewise beside another process.
    async fn snapshot(&self, scope: &Scope) -> Result<Box<dyn Snapshot>>;

    /// Stores records in the scope's own project, whatever project they name: one transaction, one answer a record.
    /// Sources that do not exist here are left out.
    async fn import(&self, scope: &Scope, records: &[Record]) -> Result<Vec<Imported>>;

    /// Whether the database, of which nothing has to exist yet, holds no record of any project.
    async fn is_empty(&self) -> Result<bool>;

    /// Removes the records of all projects.
    async fn clear(&self) -> Result<()>;

    /// What is wrong inside of the database, as far as a quick look shows; nothing when it is sound.
    async fn inspect(&self) -> Result<Vec<Finding>>;
}
