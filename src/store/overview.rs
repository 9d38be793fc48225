//! Overviews of a project: counts and the most important memories.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Result;
use crate::domain::{Memory, Scope};

/// Newest live memories of each readable project that are counted. The limit bounds the time of an overview of a
/// large project.
pub const OVERVIEW_WINDOW: i64 = 20_000;

/// A property by which memories are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facet {
    /// Tags.
    Tag,
    /// Conversations.
    Session,
    /// Speakers.
    Speaker,
    /// Types of entities, with the number of entities of each type.
    EntityType,
}

/// The values of a [`Facet`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FacetValues {
    /// The most frequent values with their counts; equally frequent ones are ordered by name.
    pub values: Vec<(String, u64)>,
    /// The total number of distinct values.
    pub total: u64,
}

/// An overview of the scope's readable projects.
#[async_trait]
pub trait OverviewStore: Send + Sync + 'static {
    /// Returns the values among the newest live memories, see [`OVERVIEW_WINDOW`]; entity types are counted among all
    /// entities.
    async fn facet(&self, scope: &Scope, facet: Facet, most: usize) -> Result<FacetValues>;

    /// Returns memories that are valid at `now` and are protected or have an importance of at least 0.7, optionally
    /// only those with `tag`. Protected memories come first, then the most important, then the newest.
    async fn outstanding(
        &self,
        scope: &Scope,
        tag: Option<&str>,
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<Vec<Memory>>;
}
