//! Reads of the state at an earlier point in time, and of chains of replacements.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Result;
use crate::domain::{Memory, Scope};

/// Maximum number of changed memories that are rebuilt for an earlier point in time.
pub const MOST_CHANGED: usize = 1_000;
/// Maximum bytes of text, current and earlier, that are read for an earlier point in time.
pub const MOST_CHANGED_BYTES: usize = 16 << 20;
/// Maximum number of links of chains in one answer.
pub const MOST_LINKS: usize = 200;

/// Memories that changed after a point in time, in their state at that time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changed {
    /// The memories, latest change first.
    pub memories: Vec<Memory>,
    /// Whether more memories changed than were returned.
    pub partial: bool,
    /// Whether memories are missing because the history of their earlier state has expired.
    pub expired: bool,
}

/// A memory and its replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Succession {
    /// The replaced memory.
    pub old: Uuid,
    /// The replacement, which may have been purged since.
    pub by: Uuid,
    /// Whether the replacement is current: in scope, not deleted, and not replaced itself.
    pub holds: bool,
}

/// Access to earlier states, as far as the history keeps them.
#[async_trait]
pub trait PastStore: Send + Sync + 'static {
    /// Returns memories that were stored at or before `at` and changed after it, in their state at that time: texts,
    /// tags, validity and deletion come from the history. Deleted memories are included. Memories with the latest
    /// changes come first, at most [`MOST_CHANGED`] and, beyond the first one, [`MOST_CHANGED_BYTES`]. Usage
    /// statistics, votes and sources are the current ones; purged memories are absent.
    async fn changed_since(&self, scope: &Scope, at: DateTime<Utc>) -> Result<Changed>;

    /// Returns the chains of replacements that contain these memories, in both directions, limited to [`MOST_LINKS`]
    /// links between memories in scope. Links towards the current memory come first, then links towards the oldest one;
    /// the nearest come first in each direction.
    async fn chains(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Succession>>;
}
