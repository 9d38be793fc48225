//! What a backend does for entities, relations and mentions. The rules are in `domain::graph`, the walks in
//! `domain::graph_traversal`; a method here is one transaction that writes, or one statement that reads.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Result;
use crate::domain::Scope;
use crate::domain::graph::{Entity, Linked, Links, Relation};
use crate::domain::graph_traversal::Step;

/// Which entities are wanted.
#[derive(Debug, Clone)]
pub enum EntityQuery {
    /// Those with these names, in the form of [`crate::domain::graph::name_key`].
    Keys(Vec<String>),
    /// Those with these numbers.
    Numbers(Vec<i64>),
    /// Those with these names, in the form of [`crate::domain::graph::name_words`].
    Words(Vec<String>),
    /// So many of the newest, without their properties.
    Newest(usize),
    /// By name.
    List {
        /// Of this type.
        kind: Option<String>,
        /// Whose name, in its compared form, begins so.
        prefix: String,
        /// Whose name, in its compared form, comes after this.
        after: String,
        /// At most so many.
        limit: usize,
    },
}

/// Which relations are walked.
#[derive(Debug, Clone)]
pub struct StepQuery<'a> {
    /// From these entities.
    pub frontier: &'a [i64],
    /// Those that hold then.
    pub at: DateTime<Utc>,
    /// Of this type.
    pub kind: Option<&'a str>,
    /// At most so many of an entity in each direction, the strongest.
    pub most: usize,
}

/// A memory that mentions an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mention {
    /// Number of the entity.
    pub entity: i64,
    /// The memory.
    pub id: Uuid,
    /// Its storage order.
    pub seq: i64,
}

/// How much there is about an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntitySize {
    /// Number of the entity.
    pub entity: i64,
    /// Memories that mention it and hold.
    pub memories: i64,
    /// Relations that hold, in both directions.
    pub relations: i64,
    /// Relations that have ended.
    pub ended: i64,
}

impl From<(i64, Uuid, i64)> for Mention {
    fn from((entity, id, seq): (i64, Uuid, i64)) -> Self {
        Self { entity, id, seq }
    }
}

impl From<(i64, i64, i64, i64)> for EntitySize {
    fn from((entity, memories, relations, ended): (i64, i64, i64, i64)) -> Self {
        Self {
            entity,
            memories,
            relations,
            ended,
        }
    }
}

/// Where the counting of an [`EntitySize`] stops.
pub const MOST_COUNTED: i64 = 1_000;

/// Entities that memories mention together with others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Together {
    /// The entity and the number of memories, most memories first.
    pub entities: Vec<(i64, u64)>,
    /// Whether mentions were left out: there are more than [`MOST_MENTIONS`] of an entity or a memory.
    pub partial: bool,
}

/// Entities, relations and mentions of a database. See [`super::Store`], of which this is a part.
#[async_trait]
pub trait GraphStore: Send + Sync {
    /// Merges a batch into the graph of the scope's own project: all of it, or nothing.
    ///
    /// # Errors
    /// [`super::StoreError::Invalid`] as told by [`Links::plan`].
    async fn link(&self, scope: &Scope, links: &Links, now: DateTime<Utc>) -> Result<Linked>;

    /// Entities of the readable projects; those of a list in the order of their names.
    async fn entities(&self, scope: &Scope, query: &EntityQuery) -> Result<Vec<Entity>>;

    /// Relations of the readable projects by number, whether they hold or not.
    async fn relations(&self, scope: &Scope, numbers: &[i64]) -> Result<Vec<Relation>>;

    /// What leads on from entities, in both directions.
    async fn steps(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<Step>>;

    /// Numbers of the relations between entities of the frontier, the strongest first, `most` of them in all.
    async fn between(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<i64>>;

    /// The newest memories that mention each of the entities and hold at `now`, up to `limit` of each, stored before
    /// the place `before` where that is given.
    async fn mentions(
        &self,
        scope: &Scope,
        entities: &[i64],
        now: DateTime<Utc>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Mention>>;

    /// How much there is about each of the entities at `now`. Each number stops at [`MOST_COUNTED`].
    async fn entity_sizes(
        &self,
        scope: &Scope,
        entities: &[i64],
        now: DateTime<Utc>,
    ) -> Result<Vec<EntitySize>>;

    /// Which entities are mentioned by the same live memories as these, and by how many of the newest.
    async fn mentioned_together(&self, scope: &Scope, entities: &[i64]) -> Result<Together>;
}

/// The rows of both backends: an entity with its memories, and without one, whether anything was left out.
impl FromIterator<(Option<i64>, i64)> for Together {
    fn from_iter<T: IntoIterator<Item = (Option<i64>, i64)>>(rows: T) -> Self {
        let mut together = Self::default();
        for (entity, count) in rows {
            match entity {
                Some(entity) => together.entities.push((entity, count.unsigned_abs())),
                None => together.partial |= count != 0,
            }
        }
        together
    }
}

/// Most entities that are mentioned together with others.
pub const MOST_TOGETHER: i64 = 1_000;
/// Most entities that a query names.
pub const MOST_NAMED: i64 = 16;
/// Newest mentions of an entity that are looked at, and mentions of a memory.
pub const MOST_MENTIONS: i64 = 200;
