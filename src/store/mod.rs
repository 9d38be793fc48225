//! The storage interface: one object-safe trait whose atomic methods correspond to use cases.
//!
//! Depends on `domain` only. Guarantees that acknowledged data is durable and that nothing outside a [`Scope`] is read
//! or changed: an ID of another project is reported as not found. To add a backend, implement [`Store`] in its own
//! folder and run the contract suite in `tests/it/contract` against it.

#![warn(missing_docs)]

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::memory::{AnalyzedMemory, Memory, Patch};
use crate::domain::{Filter, Repeat, Scope};

mod batch;
mod check;
pub mod completion;
mod fields;
pub mod focus;
pub mod graph;
mod history;
mod memory_columns;
mod migration_list;
pub mod overview;
mod past;
pub mod port;
pub mod postgres;
mod reference;
mod review;
mod row_reader;
mod rules;
mod search;
pub mod sqlite;
mod statement;
pub mod token;
mod vector;
mod write_health;

pub use check::{CheckStore, Finding, IndexPages, Pace, Subject};
pub use completion::CompletionStore;
pub use focus::FocusStore;
pub use graph::GraphStore;
pub use history::{
    Expired, Expiry, HistoryEntry, HistoryQuery, HistoryStore, MOST_KEY_BYTES, MOST_KEYS,
};
pub use overview::{Facet, FacetValues, OverviewStore};
pub use past::{Changed, MOST_CHANGED, MOST_CHANGED_BYTES, MOST_LINKS, PastStore, Succession};
pub use port::PortStore;
pub use reference::{Referable, ReferenceStore, Referent};
pub use review::{Decide, NewReview, ReviewQuery, ReviewStore};
pub use search::{
    CandidateQuery, Candidates, ContextQuery, ConversationContext, LexicalQuery, SearchStore,
    SimilarQuery, VectorQuery,
};
pub use token::{StoredToken, TokenStore};
pub use vector::{Embedded, IndexJob, MemoryKey, VectorStore};
pub use write_health::WriteFailure;

/// Result of a store method.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Reason why a store method failed. A failed method has changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached or did not answer in time. A retry may succeed.
    #[error("the database is not available: {reason}")]
    Unavailable {
        /// One sentence with the cause, free of secrets.
        reason: String,
        /// The driver's error.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// The memories do not exist in scope, or are deleted where they must be live.
    #[error("not found: {}", join(ids))]
    NotFound {
        /// The argument that named them: `ids`, `supersedes` or `sources`.
        field: &'static str,
        /// All missing IDs.
        ids: Vec<Uuid>,
    },
    /// The memory was changed after the caller read it.
    #[error("memory {id} is at version {current}, not {expected}")]
    VersionConflict {
        /// The memory.
        id: Uuid,
        /// The version that the caller read.
        expected: i64,
        /// The current version.
        current: i64,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key {key:?} was used before with other arguments")]
    IdempotencyConflict {
        /// The key.
        key: String,
    },
    /// The dialogue turn already exists with another text.
    #[error(
        "turn {turn} of session {session:?} already exists with another text, as memory {existing}"
    )]
    TurnExists {
        /// The conversation.
        session: String,
        /// The turn.
        turn: i64,
        /// ID of the stored turn.
        existing: Uuid,
    },
    /// A memory in `supersedes` was already replaced.
    #[error("memory {id} was already superseded by {by}")]
    AlreadySuperseded {
        /// The memory.
        id: Uuid,
        /// The memory that replaced it.
        by: Uuid,
    },
    /// A valid token of that name already exists.
    #[error("a token named {name:?} already exists")]
    TokenExists {
        /// The name.
        name: String,
    },
    /// No token of that name exists.
    #[error("no token is named {name:?}")]
    TokenUnknown {
        /// The name.
        name: String,
    },
    /// The request would exceed a quota of the project.
    #[error("project {project:?} would hold {figure} {what}, {limit} are allowed")]
    LimitExceeded {
        /// The project.
        project: String,
        /// The counted unit: `memories`, `bytes`, `entities`, `relations` or `reviews`.
        what: &'static str,
        /// The total that the request would cause.
        figure: u64,
        /// The highest accepted total.
        limit: u64,
    },
    /// The memories are protected: only an approved review may change them.
    #[error("protected: {}", join(ids))]
    Protected {
        /// All protected memories of the request.
        ids: Vec<Uuid>,
    },
    /// The state of the review does not permit this decision.
    #[error("review {id} is {state} already")]
    Decided {
        /// The review.
        id: Uuid,
        /// Its current state.
        state: &'static str,
    },
    /// The data that an undo would restore has been changed since.
    #[error(transparent)]
    Overtaken(#[from] crate::domain::review::Obstacle),
    /// The project has the maximum number of open reviews.
    #[error("the project already has {most} open reviews, which is the limit")]
    TooManyReviews {
        /// The limit.
        most: usize,
    },
    /// The command violates a rule of the domain, for example by setting episode fields of a memory that is not an
    /// episode.
    #[error(transparent)]
    Invalid(#[from] crate::domain::Invalid),
    /// Another process has the embedded database open.
    #[error("the embedded database {path} is in use by {}", describe_owner(pid))]
    InUse {
        /// The file.
        path: String,
        /// Process ID of the owner, if known.
        pid: String,
        /// Address where the owner answers MCP requests, if it published one.
        url: Option<String>,
    },
    /// A file of the embedded database was moved, deleted or replaced while it was open. Further writes would be lost.
    #[error("{path} {what} while the embedded database was open; nothing more is written")]
    FileReplaced {
        /// The file.
        path: String,
        /// The change of the file.
        what: &'static str,
    },
    /// The database cannot be used as it is: wrong schema version, missing extension or missing rights. The reason
    /// states the remedy.
    #[error("{reason}")]
    Setup {
        /// The cause and the remedy.
        reason: String,
        /// The driver's error.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// Any other error: a defect in this program or in the database.
    #[error("the database refused a statement ({during})")]
    Internal {
        /// The operation that failed.
        during: &'static str,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
}

/// Describes the process that has a database open. The lock of the file does not identify that process.
fn describe_owner(pid: &str) -> String {
    if pid.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("process {pid}")
    } else {
        "another process".to_owned()
    }
}

fn join(ids: &[Uuid]) -> String {
    ids.iter()
        .map(Uuid::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The quotas of a project; 0 means unlimited. Deleted data counts until it is purged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of memories.
    pub memories: u64,
    /// Maximum bytes of content, situation, lesson and metadata, including earlier versions in the history.
    pub bytes: u64,
    /// Maximum number of entities, relations, reviews, working memory items and archived items, separately for each
    /// kind. The working memory never refuses an item: the item touched longest ago is archived, and the item archived
    /// first is removed.
    pub entries: u64,
}

impl Limits {
    /// Returns whether memories are limited.
    #[must_use]
    pub fn any(self) -> bool {
        self.memories > 0 || self.bytes > 0
    }

    /// Checks the number of items of another kind than memories.
    ///
    /// # Errors
    /// [`StoreError::LimitExceeded`].
    pub fn check_entries(self, project: &str, what: &'static str, figure: u64) -> Result<()> {
        if self.entries > 0 && figure > self.entries {
            let project = project.to_owned();
            return Err(StoreError::LimitExceeded {
                project,
                what,
                figure,
                limit: self.entries,
            });
        }
        Ok(())
    }

    /// Checks the number and the size of the memories.
    ///
    /// # Errors
    /// [`StoreError::LimitExceeded`] with the first limit that would be exceeded.
    pub fn check(self, project: &str, memories: u64, bytes: u64) -> Result<()> {
        for (what, figure, limit) in [
            ("memories", memories, self.memories),
            ("bytes", bytes, self.bytes),
        ] {
            if limit > 0 && figure > limit {
                return Err(StoreError::LimitExceeded {
                    project: project.to_owned(),
                    what,
                    figure,
                    limit,
                });
            }
        }
        Ok(())
    }
}

/// A batch to be stored completely or not at all.
#[derive(Debug, Clone)]
pub struct Remember<M = AnalyzedMemory> {
    /// The memories, in order.
    pub items: Vec<M>,
    /// Key and hash of the request. A request with the same pair gets the same answer without storing again, until the
    /// key expires.
    pub idempotency: Option<Idempotency>,
    /// The current time.
    pub now: DateTime<Utc>,
}

/// Prevents a request from being executed twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Chosen by the client, unique within the project.
    pub key: String,
    /// Hash of the request's arguments.
    pub request_hash: [u8; 32],
}

/// The result for one item of a [`Remember`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The new ID, or the ID of the existing memory.
    pub id: Uuid,
    /// False if a live memory of the same kind and content hash existed (for dialogue: also of the same session and
    /// turn), or if the request was repeated with its idempotency key.
    pub created: bool,
    /// Whether an earlier request with the same idempotency key was executed, so that this one changed nothing.
    pub replayed: bool,
    /// The additions of the item to the existing memory.
    pub repeat: Repeat,
}

impl Remembered {
    /// Returns the result for a new memory, or for an existing one without additions.
    #[must_use]
    pub fn new(id: Uuid, created: bool) -> Self {
        Self {
            id,
            created,
            ..Self::default()
        }
    }

    /// Returns the answer to a request that was already executed.
    #[must_use]
    pub fn replayed(id: Uuid) -> Self {
        Self {
            id,
            replayed: true,
            ..Self::default()
        }
    }
}

/// A change of one memory.
#[derive(Debug, Clone)]
pub struct Update {
    /// The memory, in the scope's own project.
    pub id: Uuid,
    /// The version that the caller has read; `None` accepts any version.
    pub expected_version: Option<i64>,
    /// The changes.
    pub patch: Patch,
    /// The reason, recorded in the history.
    pub reason: Option<String>,
    /// The current time.
    pub now: DateTime<Utc>,
}

/// The operation of `forget` on memories of the scope's own project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgetMode {
    /// Marks memories as deleted. Deleted memories are excluded from recall and can be restored.
    Delete,
    /// Removes the deletion mark.
    Restore,
    /// Removes the row, its vectors, its index entries and its history, also of deleted memories.
    Purge,
}

/// Counts for `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Memories that are not deleted, by kind. Kinds without memories are absent.
    pub by_kind: BTreeMap<String, u64>,
    /// Memories marked as deleted.
    pub deleted: u64,
    /// Memories that were replaced by another memory and are not deleted.
    pub superseded: u64,
    /// Memories that wait for an embedding, except deleted ones.
    pub index_backlog: u64,
}

/// A description of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// Version of the database engine.
    pub version: String,
    /// Name of the database or path of the file, without credentials.
    pub name: String,
    /// Newest applied migration.
    pub schema_version: i64,
}

/// A database of memories. Every method is atomic, limited in time, and safe to call from many tasks concurrently.
#[async_trait]
pub trait Store:
    CheckStore
    + CompletionStore
    + FocusStore
    + GraphStore
    + HistoryStore
    + OverviewStore
    + PastStore
    + PortStore
    + ReferenceStore
    + ReviewStore
    + SearchStore
    + TokenStore
    + VectorStore
    + Send
    + Sync
    + 'static
{
    /// Migrates the schema under a lock and checks that this binary can use the database. The service calls it at start
    /// and repeats it until it succeeds; until then every other method fails with [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] justifies a retry; [`StoreError::Setup`] and [`StoreError::InUse`] require a person.
    async fn prepare(&self) -> Result<()>;

    /// Returns the names of the migrations that [`Store::prepare`] would apply, without applying them.
    async fn pending_migrations(&self) -> Result<Vec<String>>;

    /// Stores a batch in the scope's own project: rows, history (`created`, and `superseded` for replaced memories),
    /// lexical index and index jobs, durably, in one transaction.
    ///
    /// An item that equals a live and current memory (same project, kind and content hash) is not stored again:
    /// [`crate::domain::Restated::merge_into`] merges its other fields into that memory, whose ID is returned. Dialogue
    /// is exempt because people repeat themselves, unless session and turn are equal, too (superseded and deleted turns
    /// do not count, expired ones do). [`crate::domain::repeat::merge_repeats`] merges equal items of one batch.
    ///
    /// Superseded memories are replaced first, so that an item may repeat the text or take the turn of a memory that it
    /// replaces. If an item already exists, the existing memory replaces the memories that the item supersedes;
    /// repeating an earlier replacement is accepted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for unknown `sources` (any readable project, live) or `supersedes` (own project, live),
    /// both checked before anything is stored; [`StoreError::AlreadySuperseded`], [`StoreError::Protected`],
    /// [`StoreError::TurnExists`], [`StoreError::IdempotencyConflict`], [`StoreError::LimitExceeded`].
    async fn remember(&self, scope: &Scope, command: Remember) -> Result<Vec<Remembered>>;

    /// Returns the newest memories that pass the filter, in storage order, after `before`.
    async fn browse(
        &self,
        scope: &Scope,
        filter: &Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Memory>>;

    /// Returns memories by ID in the requested order, each once. Unknown memories are left out; deleted ones are
    /// returned only with `include_deleted`.
    async fn get(&self, scope: &Scope, ids: &[Uuid], include_deleted: bool) -> Result<Vec<Memory>>;

    /// Patches a live memory; the history keeps the previous state. A patch without a change adds no version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::VersionConflict`], [`StoreError::Invalid`] for episode fields of another
    /// kind, [`StoreError::Protected`] for any change of a protected memory except a vote.
    async fn update(&self, scope: &Scope, command: Update) -> Result<Memory>;

    /// Deletes, restores or purges all of `ids`, or none. Deleting a deleted memory or restoring a live one changes
    /// nothing and is accepted. Memories replaced by a purged memory remain replaced; memories derived from it no
    /// longer name it as a source. Returns the number of changed memories.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] names every unknown ID, [`StoreError::Protected`] every protected memory that would
    /// have changed. [`StoreError::TurnExists`] if a turn to be restored has been stored again.
    async fn forget(
        &self,
        scope: &Scope,
        ids: &[Uuid],
        mode: ForgetMode,
        reason: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<u64>;

    /// Records that recall returned these memories. Losing such a record loses no memory.
    async fn note_recalled(&self, scope: &Scope, ids: &[Uuid], now: DateTime<Utc>) -> Result<()>;

    /// Returns the counts of the scope's readable projects.
    async fn counts(&self, scope: &Scope, now: DateTime<Utc>) -> Result<Counts>;

    /// Updates the statistics of tables that have grown, if the plans of the database depend on them. Cheap if no table
    /// has grown; the service calls it periodically.
    async fn refresh_statistics(&self) -> Result<()> {
        Ok(())
    }

    /// Describes the database. A successful answer also proves that the database is reachable.
    async fn info(&self) -> Result<DatabaseInfo>;

    /// Closes all connections after the running statements end.
    async fn close(&self);
}

/// Returns the form in which the answer of an idempotent request is stored.
#[must_use]
pub fn replayable(answer: &[Remembered]) -> Value {
    Value::from(
        answer
            .iter()
            .map(|item| item.id.to_string())
            .collect::<Vec<_>>(),
    )
}
