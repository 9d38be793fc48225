//! What was believed at an earlier time, and what replaced what.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Result;
use crate::domain::{Memory, Scope};

/// Most changed memories that a look back rebuilds.
pub const MOST_CHANGED: usize = 1_000;
/// Most links of chains in one answer.
pub const MOST_LINKS: usize = 200;

/// The past, as far as history keeps it.
#[async_trait]
pub trait PastStore: Send + Sync + 'static {
    /// Memories that were stored at or before `at` and changed after it, as they were then: texts, tags, validity and
    /// deletion come from the history. Deleted ones are among them. Those whose last change is the latest come first,
    /// at most [`MOST_CHANGED`]. Use statistics, votes and sources are those of now; what was purged is not there.
    async fn changed_since(&self, scope: &Scope, at: DateTime<Utc>) -> Result<Vec<Memory>>;

    /// The chains in which these memories are: pairs of what was replaced and what replaced it, in both directions, at
    /// most [`MOST_LINKS`] of memories in scope.
    async fn chains(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>>;
}
