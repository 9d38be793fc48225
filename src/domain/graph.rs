//! Entities and the relations between them.
//!
//! Both backends read what a batch of links touches, ask [`Links::plan`] what is to be written, and write that: the rules
//! of merging exist once.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::ObjectText;
pub use super::name::{
    PossibleName, are_similar_names, name_key, name_words, names_in, parts_of_name, possible_names,
    type_key,
};

/// Type of an entity that nobody gave one.
pub const DEFAULT_TYPE: &str = "thing";
/// Weight of a relation that nobody gave one.
pub const DEFAULT_WEIGHT: f64 = 1.0;
/// An entity to be there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewEntity {
    /// As the caller writes it.
    pub name: String,
    /// `None` leaves a known type.
    pub kind: Option<String>,
    /// Merged into the known ones; null removes.
    pub properties: Map<String, Value>,
    /// Remove it instead, with its relations and mentions.
    pub erase: bool,
}

/// How a relation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlink {
    /// It held until now, or until the time that is given.
    End,
    /// It never was.
    Erase,
}

/// A relation to be there, or to be there no more.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRelation {
    /// Name of the entity that it starts at.
    pub from: String,
    /// Name of the entity that it leads to.
    pub to: String,
    /// What it says. `None` only to unlink: relations of any type.
    pub kind: Option<String>,
    /// From 0 to 1; `None` leaves a known one.
    pub weight: Option<f64>,
    /// Merged into the known ones; null removes.
    pub properties: Map<String, Value>,
    /// From when on it holds.
    pub valid_from: Option<DateTime<Utc>>,
    /// From when on it no longer holds.
    pub valid_to: Option<DateTime<Utc>>,
    /// Takes back the end of a known one that has not come yet.
    pub never_ends: bool,
    /// End or erase it.
    pub unlink: Option<Unlink>,
}

/// A batch for the graph. Names and texts are validated; all is done, or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Links {
    /// Entities, in order.
    pub entities: Vec<NewEntity>,
    /// Relations, in order; their ends are made where they are missing.
    pub relations: Vec<NewRelation>,
}

impl Links {
    /// Entities by name alone.
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
    /// Its number in the database; not shown to clients. 0 before it is stored.
    pub seq: i64,
    /// Project it belongs to.
    pub project: String,
    /// As it was written first.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Free-form JSON object of the caller.
    pub properties: ObjectText,
    /// How often it was linked or mentioned.
    pub use_count: i64,
    /// When it last was.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A stored relation, which held for a time or still holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    /// Its number in the database; not shown to clients. 0 before it is stored.
    pub seq: i64,
    /// Number of the entity it starts at.
    pub from: i64,
    /// Number of the entity it leads to.
    pub to: i64,
    /// What it says.
    pub kind: String,
    /// From 0 to 1.
    pub weight: f64,
    /// Free-form JSON object of the caller.
    pub properties: ObjectText,
    /// From when on it holds; always, where not known.
    pub valid_from: Option<DateTime<Utc>>,
    /// From when on it no longer holds.
    pub valid_to: Option<DateTime<Utc>>,
    /// How often it was linked.
    pub use_count: i64,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Relation {
    /// Whether it holds at `time`.
    #[must_use]
    pub fn holds_at(&self, time: DateTime<Utc>) -> bool {
        self.valid_from.is_none_or(|from| from <= time) && self.valid_to.is_none_or(|to| to > time)
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Linked {
    /// New entities.
    pub entities_created: usize,
    /// Entities with a new type or other properties.
    pub entities_changed: usize,
    /// New relations.
    pub relations_created: usize,
    /// Relations with another weight, validity or other properties; ended ones included.
    pub relations_changed: usize,
    /// Entities and relations that were removed; what went with an entity is not counted.
    pub erased: usize,
    /// Names that mean an entity of another spelling: as given, as known.
    pub same: Vec<(String, String)>,
    /// Relations that should have ended and have not begun: they stay.
    pub not_begun: Vec<NotBegun>,
}

/// A relation that cannot end yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotBegun {
    /// Name of the entity that it starts at, as the caller writes it.
    pub from: String,
    /// Name of the entity that it leads to, likewise.
    pub to: String,
    /// What it says.
    pub kind: String,
    /// When it begins.
    pub valid_from: DateTime<Utc>,
}

impl Links {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty() && self.relations.is_empty()
    }

    /// Names of the entities that exist afterwards, as they are written.
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

    /// The compared forms of all names in it, sorted, each once.
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

/// The compared forms of all names in `batches`, sorted, each once.
#[must_use]
pub fn list_keys(batches: &[&Links]) -> Vec<String> {
    let mut keys: Vec<String> = batches.iter().flat_map(|links| links.list_keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Pairs of known entities between which relations are named.
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
