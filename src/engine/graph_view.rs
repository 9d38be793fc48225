//! Entities and relations as callers see them.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::answer_size::Shorten;
use super::view::timestamp;
use crate::domain::ObjectText;
use crate::domain::graph::{Entity, Relation};

/// An entity. Absent fields are empty.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct EntityView {
    /// Name.
    pub name: String,
    /// Type of the entity.
    #[serde(rename = "type")]
    pub kind: String,
    /// Project, where it is not the caller's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub project: Option<String>,
    /// The caller's own data.
    #[serde(skip_serializing_if = "ObjectText::is_empty")]
    #[schemars(skip)]
    pub properties: ObjectText,
    /// Relations between it and the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub distance: Option<u32>,
    /// How likely a link is; higher is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub score: Option<f64>,
    /// Why it is suggested.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub why: Option<String>,
}

impl EntityView {
    /// Creates the view of `entity` for a caller whose own project is `own_project`.
    #[must_use]
    pub fn new(entity: &Entity, own_project: &str) -> Self {
        Self {
            name: entity.name.clone(),
            kind: entity.kind.clone(),
            project: Some(entity.project.clone()).filter(|project| project != own_project),
            properties: entity.properties.clone(),
            distance: None,
            score: None,
            why: None,
        }
    }
}

/// A relation. Absent fields are empty.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct RelationView {
    /// Name of the entity it starts at.
    pub from: String,
    /// Type of the relation.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of the entity it leads to.
    pub to: String,
    /// 0 to 1.
    #[schemars(skip)]
    pub weight: f64,
    /// When the relation begins to be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub valid_from: Option<String>,
    /// When the relation stops being true.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub valid_to: Option<String>,
    /// The caller's own data.
    #[serde(skip_serializing_if = "ObjectText::is_empty")]
    #[schemars(skip)]
    pub properties: ObjectText,
}

impl RelationView {
    /// Creates the view of a relation; `None` if one of its ends is not among `names`.
    #[must_use]
    pub fn new(relation: &Relation, names: &HashMap<i64, String>) -> Option<Self> {
        Some(Self {
            from: names.get(&relation.from)?.clone(),
            kind: relation.kind.clone(),
            to: names.get(&relation.to)?.clone(),
            weight: relation.weight,
            valid_from: relation.valid_from.map(timestamp),
            valid_to: relation.valid_to.map(timestamp),
            properties: relation.properties.clone(),
        })
    }
}

impl Shorten for EntityView {
    fn shorten(&mut self, room: usize) {
        remove_large_properties(&mut self.properties, room);
    }
}

impl Shorten for RelationView {
    fn shorten(&mut self, room: usize) {
        remove_large_properties(&mut self.properties, room);
    }
}

/// Removes properties of more than `room` characters: a part of an object could be mistaken for the whole.
fn remove_large_properties(properties: &mut ObjectText, room: usize) {
    if properties.as_str().chars().count() > room {
        *properties = ObjectText::default();
    }
}
