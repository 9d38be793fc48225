//! Entities and the relations between them.
//!
//! Both backends read the rows that a batch of links concerns, call [`Links::plan`] to determine the changes, and write
//! them, so that the rules of merging are implemented once.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::ObjectText;
pub use super::name::{
    PossibleName, are_similar_names, name_key, name_words, names_in, parts_of_name, possible_names,
    type_key,
};

/// Default type of an entity.
pub const DEFAULT_TYPE: &str = "thing";
/// Default weight of a relation.
pub const DEFAULT_WEIGHT: f64 = 1.0;
/// An entity to be created or changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewEntity {
    /// Name as the caller writes it.
    pub name: String,
    /// `None` keeps the type of an existing entity.
    pub kind: Option<String>,
    /// Merged into the existing properties; null removes a key.
    pub properties: Map<String, Value>,
    /// Removes the entity instead, with its relations and mentions.
    pub erase: bool,
}

/// How to end a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlink {
    /// The relation was valid until now, or until the given time.
    End,
    /// The relation was never valid.
    Erase,
}

/// A relation to be created, changed or ended.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRelation {
    /// Name of the entity at its start.
    pub from: String,
    /// Name of the entity at its end.
    pub to: String,
    /// Type of the relation. `None` only for unlinking: relations of any type.
    pub kind: Option<String>,
    /// From 0 to 1; `None` keeps the weight of an existing relation.
    pub weight: Option<f64>,
    /// Merged into the existing properties; null removes a key.
    pub properties: Map<String, Value>,
    /// Start of the validity.
    pub valid_from: Option<DateTime<Utc>>,
    /// End of the validity.
    pub valid_to: Option<DateTime<Utc>>,
    /// Removes the future end of an existing relation.
    pub never_ends: bool,
    /// Ends or erases the relation.
    pub unlink: Option<Unlink>,
}

/// A batch of changes to the graph with validated names and texts. It is applied completely or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Links {
    /// Entities, in order.
    pub entities: Vec<NewEntity>,
    /// Relations, in order; missing entities at their ends are created.
    pub relations: Vec<NewRelation>,
}

impl Links {
    /// Creates entities from names alone.
    #[must_use]
    pub fn of_names(names: &[String]) -> Self {
        let entity = |name: &String| NewEntity {
            name: name.clone(),
            ..NewEntity::default()
        };
        Self {
            entities: names.iter().map(entity).collect(),
            relations: Vec::new(),
        }
    }
}

/// A stored entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// Number in the database; not shown to clients. 0 before the entity is stored.
    pub seq: i64,
    /// Project of the entity.
    pub project: String,
    /// Name as it was first written.
    pub name: String,
    /// Type of the entity.
    pub kind: String,
    /// Free-form JSON object of the caller.
    pub properties: ObjectText,
    /// How often the entity was linked or mentioned.
    pub use_count: i64,
    /// When the entity was last linked or mentioned.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When the entity was stored.
    pub created_at: DateTime<Utc>,
    /// When the entity last changed.
    pub updated_at: DateTime<Utc>,
}

/// A stored relation, which was valid for some time or still is.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    /// Number in the database; not shown to clients. 0 before the relation is stored.
    pub seq: i64,
    /// Number of the entity at its start.
    pub from: i64,
    /// Number of the entity at its end.
    pub to: i64,
    /// Type of the relation.
    pub kind: String,
    /// From 0 to 1.
    pub weight: f64,
    /// Free-form JSON object of the caller.
    pub properties: ObjectText,
    /// Start of the validity; unlimited if unknown.
    pub valid_from: Option<DateTime<Utc>>,
    /// End of the validity.
    pub valid_to: Option<DateTime<Utc>>,
    /// How often the relation was linked.
    pub use_count: i64,
    /// When the relation was stored.
    pub created_at: DateTime<Utc>,
    /// When the relation last changed.
    pub updated_at: DateTime<Utc>,
}

impl Relation {
    /// Returns whether the relation is valid at `time`.
    #[must_use]
    pub fn holds_at(&self, time: DateTime<Utc>) -> bool {
        self.valid_from.is_none_or(|from| from <= time) && self.valid_to.is_none_or(|to| to > time)
    }
}

/// The result of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Linked {
    /// Number of new entities.
    pub entities_created: usize,
    /// Number of entities with a new type or other properties.
    pub entities_changed: usize,
    /// Number of new relations.
    pub relations_created: usize,
    /// Number of relations with another weight, validity or other properties, including ended ones.
    pub relations_changed: usize,
    /// Number of removed entities and relations, not counting what was removed together with an entity.
    pub erased: usize,
    /// Names that mean an entity of another spelling: as given, as stored.
    pub same: Vec<(String, String)>,
    /// Relations that should have ended but have not begun; they remain.
    pub not_begun: Vec<NotBegun>,
}

/// A relation that cannot end yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotBegun {
    /// Name of the entity at its start, as the caller writes it.
    pub from: String,
    /// Name of the entity at its end, as the caller writes it.
    pub to: String,
    /// Type of the relation.
    pub kind: String,
    /// When the relation begins.
    pub valid_from: DateTime<Utc>,
}

impl Links {
    /// Returns whether the batch is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty() && self.relations.is_empty()
    }

    /// Returns the names, as written, of the entities that exist afterwards.
    pub fn created_names(&self) -> impl Iterator<Item = &str> {
        let entities = self
            .entities
            .iter()
            .filter(|entity| !entity.erase)
            .map(|entity| entity.name.as_str());
        let kept = self
            .relations
            .iter()
            .filter(|relation| relation.unlink.is_none());
        entities.chain(kept.flat_map(|relation| [relation.from.as_str(), relation.to.as_str()]))
    }

    /// Returns the normalized forms of all names in the batch, sorted, each once.
    #[must_use]
    pub fn list_keys(&self) -> Vec<String> {
        let ends = self
            .relations
            .iter()
            .flat_map(|relation| [&relation.from, &relation.to]);
        let mut keys: Vec<String> = self
            .entities
            .iter()
            .map(|entity| &entity.name)
            .chain(ends)
            .map(|name| name_key(name))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// Returns the normalized forms of all names in `batches`, sorted, each once.
#[must_use]
pub fn list_keys(batches: &[&Links]) -> Vec<String> {
    let mut keys: Vec<String> = batches.iter().flat_map(|links| links.list_keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Returns the pairs of existing entities that relations in `batches` connect.
#[must_use]
pub fn list_known_pairs(batches: &[&Links], known: &[Entity]) -> Vec<(i64, i64)> {
    let by_key: HashMap<String, i64> = known
        .iter()
        .map(|entity| (name_key(&entity.name), entity.seq))
        .collect();
    let ends = |relation: &NewRelation| {
        Some((
            *by_key.get(&name_key(&relation.from))?,
            *by_key.get(&name_key(&relation.to))?,
        ))
    };
    let mut pairs: Vec<(i64, i64)> = batches
        .iter()
        .flat_map(|links| &links.relations)
        .filter_map(ends)
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}
