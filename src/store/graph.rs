//! Storage of entities, relations and mentions. The rules are in `domain::graph`, the traversals in
//! `domain::graph_traversal`. Each method is one writing transaction or one reading statement.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Result;
use crate::domain::Scope;
use crate::domain::graph::{Entity, Linked, Links, Relation};
use crate::domain::graph_traversal::Step;

/// A selection of entities.
#[derive(Debug, Clone)]
pub enum EntityQuery {
    /// Entities with these names, normalized by [`crate::domain::graph::name_key`].
    Keys(Vec<String>),
    /// Entities with these numbers.
    Numbers(Vec<i64>),
    /// Entities with these names, normalized by [`crate::domain::graph::name_words`].
    Words(Vec<String>),
    /// The newest entities, up to this number, without their properties.
    Newest(usize),
    /// A page of entities, ordered by name.
    List {
        /// Of this type.
        kind: Option<String>,
        /// Beginning of the normalized name.
        prefix: String,
        /// Normalized name of the last entity of the previous page.
        after: String,
        /// Maximum number of entities.
        limit: usize,
    },
}

/// A selection of relations to follow.
#[derive(Debug, Clone)]
pub struct StepQuery<'a> {
    /// Entities to start from.
    pub frontier: &'a [i64],
    /// Time at which the relations must be valid.
    pub at: DateTime<Utc>,
    /// Of this type.
    pub kind: Option<&'a str>,
    /// Maximum number per entity and direction, strongest first.
    pub most: usize,
}

/// A memory that mentions an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mention {
    /// Number of the entity.
    pub entity: i64,
    /// The memory.
    pub id: Uuid,
    /// Its position in storage order.
    pub seq: i64,
}

/// The amount of data about an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntitySize {
    /// Number of the entity.
    pub entity: i64,
    /// Valid memories that mention it.
    pub memories: i64,
    /// Valid relations in both directions.
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

/// Maximum of each count in an [`EntitySize`].
pub const MOST_COUNTED: i64 = 1_000;

/// Entities that are mentioned together with given entities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Together {
    /// Each entity with the number of memories, highest number first.
    pub entities: Vec<(i64, u64)>,
    /// Whether mentions were left out because an entity or a memory has more than [`MOST_MENTIONS`].
    pub partial: bool,
}

/// Entities, relations and mentions of a database; a part of [`super::Store`].
#[async_trait]
pub trait GraphStore: Send + Sync {
    /// Merges a batch into the graph of the scope's own project, completely or not at all.
    ///
    /// # Errors
    /// [`super::StoreError::Invalid`] from [`Links::plan`].
    async fn link(&self, scope: &Scope, links: &Links, now: DateTime<Utc>) -> Result<Linked>;

    /// Returns entities of the readable projects; [`EntityQuery::List`] is ordered by name.
    async fn entities(&self, scope: &Scope, query: &EntityQuery) -> Result<Vec<Entity>>;

    /// Returns relations of the readable projects by number, including those that are no longer valid.
    async fn relations(&self, scope: &Scope, numbers: &[i64]) -> Result<Vec<Relation>>;

    /// Returns the relations of entities in both directions.
    async fn steps(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<Step>>;

    /// Returns the numbers of the relations between entities of the frontier, strongest first, at most `most` in
    /// total.
    async fn between(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<i64>>;

    /// Returns the newest memories that mention each entity and are valid at `now`, up to `limit` per entity. If
    /// `before` is given, only memories stored before that position are returned.
    async fn mentions(
        &self,
        scope: &Scope,
        entities: &[i64],
        now: DateTime<Utc>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Mention>>;

    /// Counts the data about each entity at `now`. Each count stops at [`MOST_COUNTED`].
    async fn entity_sizes(
        &self,
        scope: &Scope,
        entities: &[i64],
        now: DateTime<Utc>,
    ) -> Result<Vec<EntitySize>>;

    /// Returns the entities that the newest live memories mention together with these, with the number of memories.
    async fn mentioned_together(&self, scope: &Scope, entities: &[i64]) -> Result<Together>;
}

/// Collects the rows of both backends: an entity with its number of memories, or no entity and whether mentions were
/// left out.
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

/// Maximum number of entities that are returned as mentioned together with others.
pub const MOST_TOGETHER: i64 = 1_000;
/// Maximum number of entities in a query.
pub const MOST_NAMED: i64 = 16;
/// Maximum number of mentions that are read: the newest of an entity, and those of a memory.
pub const MOST_MENTIONS: i64 = 200;
