//! The storage boundary: one object-safe trait with methods the size of a use case, each atomic.
//!
//! Depends on `domain` only. Owns the invariant that what was acknowledged is durable, and that nothing outside
//! of a [`Scope`] is ever read or changed: an id of another project is simply not found. To add a backend,
//! implement [`Store`] in a folder of its own and run the contract suite of `tests/it/contract` against it.

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
mod migration_list;
pub mod overview;
mod past;
pub mod port;
pub mod postgres;
mod reference;
mod review;
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
pub use past::{Changed, Link, MOST_CHANGED, MOST_CHANGED_BYTES, MOST_LINKS, PastStore};
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

/// Why a store method did nothing. A method that fails has changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be reached, or did not answer in time. Worth a later attempt.
    #[error("the database is not available: {reason}")]
    Unavailable {
        /// One sentence with the cause, free of secrets.
        reason: String,
        /// The driver's error.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// No such memory in scope (or deleted, where that matters).
    #[error("not found: {}", join(ids))]
    NotFound {
        /// Which argument named them: `ids`, `supersedes`, `sources`.
        field: &'static str,
        /// All that are missing.
        ids: Vec<Uuid>,
    },
    /// Somebody else changed the memory since it was read.
    #[error("memory {id} is at version {current}, not {expected}")]
    VersionConflict {
        /// The memory.
        id: Uuid,
        /// Version the caller had seen.
        expected: i64,
        /// Version it has now.
        current: i64,
    },
    /// The idempotency key was used before, for something else.
    #[error("the idempotency key {key:?} was used before with other arguments")]
    IdempotencyConflict {
        /// The key.
        key: String,
    },
    /// A dialogue turn exists already, with another text.
    #[error(
        "turn {turn} of session {session:?} exists already with another text, as memory {existing}"
    )]
    TurnExists {
        /// The conversation.
        session: String,
        /// The turn.
        turn: i64,
        /// Id of the stored turn.
        existing: Uuid,
    },
    /// A memory in `supersedes` was replaced before.
    #[error("memory {id} was already superseded by {by}")]
    AlreadySuperseded {
        /// The memory.
        id: Uuid,
        /// What replaced it.
        by: Uuid,
    },
    /// A token of that name exists already, and holds.
    #[error("there is a token of the name {name:?} already")]
    TokenExists {
        /// The name.
        name: String,
    },
    /// There is no token of that name.
    #[error("there is no token of the name {name:?}")]
    TokenUnknown {
        /// The name.
        name: String,
    },
    /// The project would hold more than it may.
    #[error("project {project:?} would hold {figure} {what}, {limit} are allowed")]
    LimitExceeded {
        /// The project.
        project: String,
        /// What is counted: `memories`, `bytes`, `entities`, `relations` or `reviews`.
        what: &'static str,
        /// What it would be.
        figure: u64,
        /// What it may be.
        limit: u64,
    },
    /// Only an approved review may change these.
    #[error("protected: {}", join(ids))]
    Protected {
        /// All of the command that are.
        ids: Vec<Uuid>,
    },
    /// The review is not in a state that can be decided so.
    #[error("review {id} is {state} already")]
    Decided {
        /// The review.
        id: Uuid,
        /// Its state.
        state: &'static str,
    },
    /// What an undo would take back was changed again since.
    #[error(transparent)]
    Overtaken(#[from] crate::domain::review::Obstacle),
    /// There are as many as there may be.
    #[error("there are {most} open reviews already, which is the most a project may have")]
    TooManyReviews {
        /// The limit.
        most: usize,
    },
    /// The patch sets episode fields of something that is no episode, and the like.
    #[error(transparent)]
    Invalid(#[from] crate::domain::Invalid),
    /// Another process has the embedded database open.
    #[error("the embedded database {path} is in use by {}", describe_owner(pid))]
    InUse {
        /// The file.
        path: String,
        /// Process id of the owner, as far as known.
        pid: String,
        /// Where the owner answers MCP requests, if it told.
        url: Option<String>,
    },
    /// Somebody moved, deleted or replaced a file of the embedded database while it was open. What is written from now on
    /// would be lost.
    #[error("{path} {what} while the embedded database was open; nothing more is written")]
    FileReplaced {
        /// The file.
        path: String,
        /// What became of it.
        what: &'static str,
    },
    /// The schema is not one this binary can work with, an extension is missing, rights are missing. Says what to do.
    #[error("{reason}")]
    Setup {
        /// What is wrong and what to do.
        reason: String,
        /// The driver's error.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// Anything else, which is a defect of ours or of the database.
    #[error("the database refused a statement ({during})")]
    Internal {
        /// What was attempted.
        during: &'static str,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
}

/// The process that has a database open; the lock of the file itself does not say which one that is.
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

/// How much a project may hold; 0 is without a limit. What is deleted counts until it is purged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memories.
    pub memories: u64,
    /// Bytes of content, situation, lesson and metadata, those of earlier versions in the history included.
    pub bytes: u64,
    /// Entities, relations, reviews, items in the working memory and items in its archive: of each so many. The
    /// working memory is never refused: what was touched longest ago is archived, and what was archived first goes.
    pub entries: u64,
}

impl Limits {
    /// Whether memories are limited.
    #[must_use]
    pub fn any(self) -> bool {
        self.memories > 0 || self.bytes > 0
    }

    /// Whether a project may hold so many of something else.
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

    /// Whether a project may hold so much.
    ///
    /// # Errors
    /// [`StoreError::LimitExceeded`] with the first limit that would be passed.
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

/// A batch to be stored: all or nothing.
#[derive(Debug, Clone)]
pub struct Remember<M = AnalyzedMemory> {
    /// The memories, in order.
    pub items: Vec<M>,
    /// Key and hash of the request; the same pair gives the same answer, without storing again, until the key expires.
    pub idempotency: Option<Idempotency>,
    /// The present.
    pub now: DateTime<Utc>,
}

/// Guards a request against being carried out twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Chosen by the client, unique within the project.
    pub key: String,
    /// Hash of the request's arguments.
    pub request_hash: [u8; 32],
}

/// What became of one item of a [`Remember`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Its ID: the new one, or that of the memory that was there already.
    pub id: Uuid,
    /// False when a live memory of the same kind and content hash was there already (for dialogue: the same
    /// session and turn, too), or when the request was repeated with its idempotency key.
    pub created: bool,
    /// Whether the request was carried out before under its idempotency key, so that nothing was done now.
    pub replayed: bool,
    /// What the item added to the memory that was there already.
    pub repeat: Repeat,
}

impl Remembered {
    /// A new memory, or one that was there already and got nothing more.
    #[must_use]
    pub fn new(id: Uuid, created: bool) -> Self {
        Self {
            id,
            created,
            ..Self::default()
        }
    }

    /// The answer to a request that was carried out before.
    #[must_use]
    pub fn replayed(id: Uuid) -> Self {
        Self {
            id,
            replayed: true,
            ..Self::default()
        }
    }
}

/// What `update` is to do.
#[derive(Debug, Clone)]
pub struct Update {
    /// The memory, in the scope's own project.
    pub id: Uuid,
    /// Version the caller has seen; `None` takes whatever is there.
    pub expected_version: Option<i64>,
    /// The changes.
    pub patch: Patch,
    /// Why; kept in the history.
    pub reason: Option<String>,
    /// The present.
    pub now: DateTime<Utc>,
}

/// What `forget` is to do with memories of the scope's own project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgetMode {
    /// Mark as deleted: gone from every recall, but it can be restored.
    Delete,
    /// Take the mark back.
    Restore,
    /// Remove the row, its vectors, its index entries and its history. Works on deleted memories too.
    Purge,
}

/// Figures for `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Memories that are not deleted, by kind; kinds without any are left out.
    pub by_kind: BTreeMap<String, u64>,
    /// Marked as deleted.
    pub deleted: u64,
    /// Replaced by another memory, and not deleted.
    pub superseded: u64,
    /// Memories that wait for an embedding; deleted ones do not.
    pub index_backlog: u64,
}

/// What a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// Version of the engine.
    pub version: String,
    /// Name of the database, or path of the file. Never credentials.
    pub name: String,
    /// Newest migration that was applied.
    pub schema_version: i64,
}

/// A database of memories. Every method is atomic, bounded in time, and may be called from many tasks at once.
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
    /// Brings the schema up to date, under a lock, and checks that this binary can work with the database. Called at
    /// start and again until it succeeds; before that every other method answers [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] is worth another attempt, [`StoreError::Setup`] and [`StoreError::InUse`] want a
    /// person.
    async fn prepare(&self) -> Result<()>;

    /// Names of the migrations that [`Store::prepare`] would apply; applies none.
    async fn pending_migrations(&self) -> Result<Vec<String>>;

    /// Stores a batch in the scope's own project: rows, history (`created`, and `superseded` for what is replaced),
    /// lexical index and index jobs, durably, in one transaction.
    ///
    /// An item equal to a live memory (same project, kind and content hash; not outdated) is not stored again; what it
    /// says beyond the text is merged into that memory by [`crate::domain::Restated::merge_into`], and its ID comes back. Dialogue is exempt, since people repeat themselves, unless session and turn are equal
    /// too (a turn that was superseded or deleted does not count, an expired one does). Two equal items of one batch
    /// become one, by [`crate::domain::repeat::merge_repeats`].
    ///
    /// What any item supersedes goes first: an item may repeat the text, or take the turn, of what is replaced. Where
    /// an item was there already, the existing memory replaces what the item supersedes; having replaced it before is
    /// no error.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for unknown `sources` (any readable project, live) or `supersedes` (own project,
    /// live), both looked up before anything is stored; [`StoreError::AlreadySuperseded`], [`StoreError::Protected`],
    /// [`StoreError::TurnExists`], [`StoreError::IdempotencyConflict`], [`StoreError::LimitExceeded`].
    async fn remember(&self, scope: &Scope, command: Remember) -> Result<Vec<Remembered>>;

    /// The newest memories that pass the filter, by storage order, after `before`.
    async fn browse(
        &self,
        scope: &Scope,
        filter: &Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Memory>>;

    /// Memories by id, in the order asked for, each once; unknown ones are left out. Deleted ones come only with
    /// `include_deleted`.
    async fn get(&self, scope: &Scope, ids: &[Uuid], include_deleted: bool) -> Result<Vec<Memory>>;

    /// Patches a live memory; history keeps what was. A patch that changes nothing adds no version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::VersionConflict`], [`StoreError::Invalid`] for episode fields of
    /// another kind, [`StoreError::Protected`] for anything but a vote on a protected memory.
    async fn update(&self, scope: &Scope, command: Update) -> Result<Memory>;

    /// Deletes, restores or purges all of `ids`, or none. Deleting what is deleted and restoring what is live is no
    /// error and changes nothing. What a purged memory replaced stays replaced; what rested on it no longer names it.
    /// Returns how many changed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] names every unknown id, [`StoreError::Protected`] every protected one that would have
    /// changed. [`StoreError::TurnExists`] when a turn to be restored was
    /// stored anew in the meantime.
    async fn forget(
        &self,
        scope: &Scope,
        ids: &[Uuid],
        mode: ForgetMode,
        reason: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<u64>;

    /// Notes that recall returned these memories. Losing a note is no loss of memory.
    async fn note_recalled(&self, scope: &Scope, ids: &[Uuid], now: DateTime<Utc>) -> Result<()>;

    /// Figures of the scope's readable projects.
    async fn counts(&self, scope: &Scope, now: DateTime<Utc>) -> Result<Counts>;

    /// Lets the database look at tables that have grown, where its plans depend on that. Costs next to nothing when none
    /// has; to be called every now and then.
    async fn refresh_statistics(&self) -> Result<()> {
        Ok(())
    }

    /// What the database is; also the proof that it answers.
    async fn info(&self) -> Result<DatabaseInfo>;

    /// Ends all connections after the running statements.
    async fn close(&self);
}

/// The stored answer of an idempotent request.
#[must_use]
pub fn replayable(answer: &[Remembered]) -> Value {
    Value::from(
        answer
            .iter()
            .map(|item| item.id.to_string())
            .collect::<Vec<_>>(),
    )
}
