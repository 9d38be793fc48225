//! Transfer of complete data between databases: the interface of export, import, backup and restore.
//!
//! Unlike the use cases of [`Store`](super::Store), this interface is for the owner of the machine: a scope selects the
//! projects, but IDs, times, versions and history are copied unchanged. A backend implements [`PortStore`]. Records
//! that are read from one database and imported into another must be read from it unchanged, whichever backends are
//! used.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Finding, Result};
use crate::domain::memory::is_default;
use crate::domain::{History, Memory, Review, Scope};

/// One record of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Record {
    /// A memory with all its own data.
    Memory(Box<MemoryRecord>),
    /// A node of the graph.
    Entity(EntityRecord),
    /// An edge of the graph.
    Relation(Box<RelationRecord>),
    /// A link between a memory and an entity that it names.
    Mention(MentionRecord),
    /// An item of the working memory or of its archive.
    Focus(FocusRecord),
    /// A change that needs or needed the approval of a person.
    Review(Box<ReviewRecord>),
}

impl Record {
    /// Returns the project of the record.
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

/// A memory and its history, oldest entry first, beginning with its creation. The order of the records is the storage
/// order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryRecord {
    /// The memory.
    #[serde(flatten)]
    pub memory: Memory,
    /// The history. Empty in a page of a [`Snapshot`] if it is too long for a page; [`Snapshot::history`] returns it
    /// then.
    pub history: Vec<History>,
}

/// Bytes of earlier states that a page of memories loads. A page of [`Snapshot::history`] loads about as many.
pub const PAGE_HISTORY_BYTES: i64 = 8 << 20;
/// Maximum number of entries in a page of [`Snapshot::history`].
pub const PAGE_HISTORY_ENTRIES: i64 = 20;

/// Returns how many memories of a page are loaded with their history, given the sizes of their histories. Zero means
/// that the history of the first memory alone is too long.
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
    /// Project of the entity.
    pub project: String,
    /// Name as written.
    pub name: String,
    /// Type of the entity.
    pub kind: String,
    /// Free-form properties.
    #[serde(default, skip_serializing_if = "is_default")]
    pub properties: Map<String, Value>,
    /// How often the entity was linked or mentioned.
    #[serde(default, skip_serializing_if = "is_default")]
    pub use_count: i64,
    /// When the entity was last linked or mentioned.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_used_at: Option<DateTime<Utc>>,
    /// When the entity was first named.
    pub created_at: DateTime<Utc>,
    /// When the entity last changed.
    pub updated_at: DateTime<Utc>,
}

/// The name and type by which records refer to an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityName {
    /// Name as written.
    pub name: String,
    /// Type of the entity.
    pub kind: String,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationRecord {
    /// Project of the relation.
    pub project: String,
    /// Entity at its start.
    pub source: EntityName,
    /// Entity at its end.
    pub target: EntityName,
    /// Type of the relation.
    pub kind: String,
    /// Strength of the relation.
    pub weight: f64,
    /// Free-form properties.
    #[serde(default, skip_serializing_if = "is_default")]
    pub properties: Map<String, Value>,
    /// How often the relation was followed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub use_count: i64,
    /// When the relation was last followed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_used_at: Option<DateTime<Utc>>,
    /// Start of the validity.
    #[serde(default, skip_serializing_if = "is_default")]
    pub valid_from: Option<DateTime<Utc>>,
    /// End of the validity.
    #[serde(default, skip_serializing_if = "is_default")]
    pub valid_to: Option<DateTime<Utc>>,
    /// When the relation was stored.
    pub created_at: DateTime<Utc>,
    /// When the relation last changed.
    pub updated_at: DateTime<Utc>,
}

/// A link between a memory and an entity that it names.
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

/// An item of the working memory or of its archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FocusRecord {
    /// Project of the item.
    pub project: String,
    /// ID, unchanged in the archive.
    pub id: Uuid,
    /// Conversation of the item; empty for the whole project.
    pub session: String,
    /// The text.
    pub content: String,
    /// From 0 to 1.
    pub importance: f64,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When the item was last used.
    pub touched_at: DateTime<Utc>,
    /// Whether the item is in the working memory or archived.
    #[serde(flatten, with = "focus_state")]
    pub state: FocusState,
    /// The memory with the same text.
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory: Option<Uuid>,
}

/// Location of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FocusState {
    /// In the working memory.
    Held,
    /// In the archive.
    Archived {
        /// When the item was archived.
        archived_at: DateTime<Utc>,
        /// Why the item was archived.
        reason: String,
    },
}

/// Serializes the fields of a state next to those of its item: both or none.
mod focus_state {
    use chrono::{DateTime, Utc};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::FocusState;

    #[derive(Serialize, Deserialize)]
    struct RecordFields {
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
        RecordFields {
            archived_at,
            reason,
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<FocusState, D::Error> {
        let fields = RecordFields::deserialize(deserializer)
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

/// A review with its project.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReviewRecord {
    /// Project of the review.
    pub project: String,
    /// The review, in its stored state.
    #[serde(flatten)]
    pub review: Review,
}

/// The kinds of records, in the order in which they are read: records come after those they refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Nodes of the graph.
    Entity,
    /// Edges of the graph.
    Relation,
    /// Memories, in storage order.
    Memory,
    /// Links between memories and entities.
    Mention,
    /// Working memory.
    Focus,
    /// Archived items of the working memory.
    Archive,
    /// Reviews.
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

/// The position of the last record of a page; the next page begins after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordPosition(pub i64, pub i64);

/// The result of importing a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// The record was stored.
    Created,
    /// The record existed and was left unchanged.
    Present,
    /// The record cannot be stored, for this reason. The other records of its batch are stored.
    Refused(String),
}

/// Combines the memories of a page, in their order, with their loaded history.
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

/// A consistent view of a database at one moment, independent of later writes.
#[async_trait]
pub trait Snapshot: Send {
    /// Returns the approximate number of records.
    async fn size(&mut self) -> Result<u64>;

    /// Returns the next records of a section after `after`, at most `limit`, and the position of the last. A page has
    /// fewer memories if their history is long.
    async fn page(
        &mut self,
        section: Section,
        after: RecordPosition,
        limit: i64,
    ) -> Result<(Vec<Record>, RecordPosition)>;

    /// Returns the next history entries of a memory after `after`, oldest first, and the position of the last; no
    /// entries at the end. Reading starts at [`RecordPosition::default`].
    async fn history(
        &mut self,
        memory: &Memory,
        after: RecordPosition,
    ) -> Result<(Vec<History>, RecordPosition)>;
}

/// A database as a source and a target of complete records.
#[async_trait]
pub trait PortStore: Send + Sync {
    /// Returns the names of all projects, sorted. Works on the embedded file while another process has it open.
    async fn projects(&self) -> Result<Vec<String>>;

    /// Opens a view of the current state of the scope's readable projects. Works on the embedded file while another
    /// process has it open.
    async fn snapshot(&self, scope: &Scope) -> Result<Box<dyn Snapshot>>;

    /// Stores records in the scope's own project, regardless of the project that they name, in one transaction. Returns
    /// one result per record. Sources that do not exist in this database are left out.
    async fn import(&self, scope: &Scope, records: &[Record]) -> Result<Vec<Imported>>;

    /// Returns whether the database has no record in any project. The database need not exist yet.
    async fn is_empty(&self) -> Result<bool>;

    /// Removes the records of all projects.
    async fn clear(&self) -> Result<()>;

    /// Runs a quick check and returns its findings; none if the database is sound.
    async fn inspect(&self) -> Result<Vec<Finding>>;
}
