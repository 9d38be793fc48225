//! The history of memories, page by page, and the removal of data that has expired.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Result;
use crate::domain::{History, Scope};

/// Idempotency keys that a project keeps; older ones make room.
pub const MOST_KEYS: i64 = 10_000;
/// Bytes of answers to idempotency keys that a project keeps; older ones make room.
pub const MOST_KEY_BYTES: i64 = 4 << 20;

/// Which part of a memory's history is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The memory.
    pub memory: Uuid,
    /// The place of the first entry, which is included; `None` starts with the newest.
    pub from: Option<i64>,
    /// Most entries, at least two.
    pub entries: usize,
    /// Most bytes of earlier states. The first two entries come whatever their size, so that a page which starts with
    /// the last entry of another one always leads on.
    pub bytes: usize,
}

/// An entry of the history with its place in the order of storage.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// Grows with every entry of the memory. Only the database that gave it understands it.
    pub place: i64,
    /// The entry.
    pub history: History,
}

/// What has expired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Changes from before this time leave the history; `None` keeps them all.
    pub history_before: Option<DateTime<Utc>>,
    /// Idempotency keys from before this time are forgotten; `None` keeps them all.
    pub keys_before: Option<DateTime<Utc>>,
    /// Most rows of each kind that one call removes.
    pub rows: usize,
}

/// How many rows one call removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Entries of the history.
    pub history: u64,
    /// Idempotency keys.
    pub keys: u64,
}

/// History of a database. See [`super::Store`], of which this is a part.
#[async_trait]
pub trait HistoryStore: Send + Sync + 'static {
    /// A part of the history of a memory in scope, newest entries first; deleted memories have theirs too. The last
    /// entry of every history is the creation. Empty where there is no such memory.
    async fn history_page(&self, scope: &Scope, query: &HistoryQuery) -> Result<Vec<HistoryEntry>>;

    /// Removes what has expired in all projects, the oldest first, at most [`Expiry::rows`] of each kind: call it
    /// again while it removes that many. The creation of a memory never expires.
    async fn remove_expired(&self, expiry: &Expiry) -> Result<Expired>;
}
