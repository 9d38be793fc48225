//! What a project contains, in counts and in the memories that stand out.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Result;
use crate::domain::{Memory, Scope};

/// How many of each readable project's newest live memories are counted: an overview of a large project is bounded in
/// time.
pub const OVERVIEW_WINDOW: i64 = 20_000;

/// What memories can be grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facet {
    /// Tags.
    Tag,
    /// Conversations.
    Session,
    /// Who said it.
    Speaker,
    /// Types of entities, with the number of entities.
    EntityType,
}

/// The values of a [`Facet`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FacetValues {
    /// The most frequent ones with their counts; equally frequent ones by name.
    pub values: Vec<(String, u64)>,
    /// How many there are in all.
    pub total: u64,
}

/// An overview of the scope's readable projects.
#[async_trait]
pub trait OverviewStore: Send + Sync + 'static {
    /// Values among the newest live memories, see [`OVERVIEW_WINDOW`]; entity types among all entities.
    async fn facet(&self, scope: &Scope, facet: Facet, most: usize) -> Result<FacetValues>;

    /// Memories that hold at `now` and are protected or have an importance of at least 0.7, with `tag` where one is
    /// named: protected ones first, then the most important, then the newest.
    async fn outstanding(
        &self,
        scope: &Scope,
        tag: Option<&str>,
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<Vec<Memory>>;
}
