//! Paged reading of the history of memories, and removal of expired data.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Result;
use crate::domain::{History, Scope};

/// Maximum number of idempotency keys of a project; the oldest are removed first.
pub const MOST_KEYS: i64 = 10_000;
/// Maximum size in bytes of the stored answers to idempotency keys of a project; the oldest are removed first.
pub const MOST_KEY_BYTES: i64 = 4 << 20;

/// A selection of history entries of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The memory.
    pub memory: Uuid,
    /// Position of the first entry, inclusive; `None` starts with the newest.
    pub from: Option<i64>,
    /// Maximum number of entries, at least two.
    pub entries: usize,
    /// Maximum bytes of earlier states. The first two entries are returned regardless of their size, so that a page
    /// which starts with the last entry of the previous page always makes progress.
    pub bytes: usize,
}

/// A history entry with its position in storage order.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// Increases with every entry of the memory. Positions are valid only in the database that returned them.
    pub place: i64,
    /// The entry.
    pub history: History,
}

/// The rules for removing expired data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Removes history entries older than this time; `None` keeps all.
    pub history_before: Option<DateTime<Utc>>,
    /// Removes idempotency keys older than this time; `None` keeps all.
    pub keys_before: Option<DateTime<Utc>>,
    /// Maximum number of rows of each kind per call.
    pub rows: usize,
}

/// Numbers of rows that one call removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Entries of the history.
    pub history: u64,
    /// Idempotency keys.
    pub keys: u64,
}

/// The history of a database; a part of [`super::Store`].
#[async_trait]
pub trait HistoryStore: Send + Sync + 'static {
    /// Returns a page of the history of a memory in scope, newest entries first, also for deleted memories. The last
    /// entry of every history is the creation. Returns an empty page if the memory does not exist.
    async fn history_page(&self, scope: &Scope, query: &HistoryQuery) -> Result<Vec<HistoryEntry>>;

    /// Removes expired data of all projects, oldest first, at most [`Expiry::rows`] of each kind. The caller repeats
    /// the call while it removes that many. The creation of a memory never expires.
    async fn remove_expired(&self, expiry: &Expiry) -> Result<Expired>;
}
