//! What was believed at an earlier time, and what replaced what.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Result;
use crate::domain::{Memory, Scope};

/// Most changed memories that a look back rebuilds.
pub const MOST_CHANGED: usize = 1_000;
/// Most bytes of text, present and past, that a look back reads.
pub const MOST_CHANGED_BYTES: usize = 16 << 20;
/// Most links of chains in one answer.
pub const MOST_LINKS: usize = 200;

/// Memories that changed after a time, as they were then.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changed {
    /// Those with the latest changes first.
    pub memories: Vec<Memory>,
    /// Whether there are more than that.
    pub partial: bool,
    /// Whether some are left out because the history that says what they were has expired.
    pub expired: bool,
}

/// A memory and what replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// What was replaced.
    pub old: Uuid,
    /// What replaced it; it may have been purged since.
    pub by: Uuid,
    /// Whether that one holds: it is there, in scope, not deleted, and was not replaced itself.
    pub holds: bool,
}

/// The past, as far as history keeps it.
#[async_trait]
pub trait PastStore: Send + Sync + 'static {
    /// Memories that were stored at or before `at` and changed after it, as they were then: texts, tags, validity and
    /// deletion come from the history. Deleted ones are among them. Those whose last change is the latest come first,
    /// at most [`MOST_CHANGED`] and, beyond the first one, [`MOST_CHANGED_BYTES`]. Use statistics, votes and sources are those of now; what was purged is not there.
    async fn changed_since(&self, scope: &Scope, at: DateTime<Utc>) -> Result<Changed>;

    /// The chains in which these memories are, in both directions: at most [`MOST_LINKS`] of memories in scope. First
    /// those towards what holds, the nearest first; then those towards the oldest, likewise.
    async fn chains(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Link>>;
}
