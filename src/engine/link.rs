//! Entities and relations that a caller writes, in `link` and together with a memory in `remember`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::view::timestamp;
use super::{Call, Engine, EngineError};
use crate::domain::graph::{NewEntity, NewRelation, Unlink, name_key, type_key};
use crate::domain::validate::{self, Invalid, Problems};
use crate::domain::{IdPart, IdReference, Links};
use crate::store::Referable;

/// Maximum number of names of a call that are compared with short IDs.
const MOST_PARTS: usize = 1_000;

/// Entities and relations to link, up to 1,000 entities and relations together. Missing entities at the ends of relations are created.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = bare, extend("x-lift" = ["relations", "entities"]))]
pub struct LinkParams {
    #[schemars(extend("x-aliases" = ["entity", "nodes"]))]
    pub entities: Vec<EntityItem>,
    #[schemars(extend("x-aliases" = ["relation", "edges", "links"]))]
    pub relations: Vec<RelationItem>,
}

/// An entity.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    inline,
    transform = bare,
    extend("x-scalar" = "name", "x-example" = r#"{"name": "…", "type": "…"}"#)
)]
pub struct EntityItem {
    #[schemars(extend("x-aliases" = ["entity", "entity_name"]))]
    pub name: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-aliases" = ["kind", "entity_type"]))]
    pub kind: Option<String>,
    // Merged; null removes.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "object_schema")]
    pub properties: Map<String, Value>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erase: bool,
}

/// A relation.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    inline,
    transform = bare,
    extend("x-example" = r#"{"from": "…", "type": "…", "to": "…"}"#)
)]
pub struct RelationItem {
    #[schemars(extend("x-aliases" = ["source", "from_entity", "subject"]))]
    pub from: String,
    #[schemars(extend("x-aliases" = ["target", "to_entity", "object"]))]
    pub to: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-aliases" = ["kind", "relation", "relation_type", "predicate", "label", "verb"]))]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "object_schema")]
    pub properties: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-time" = true))]
    pub valid_from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-aliases" = ["valid_until"], "x-time" = ["never"]))]
    pub valid_to: Option<String>,
    // At valid_to or now, or as if it had never been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "unlink_schema")]
    pub unlink: Option<UnlinkMode>,
}

/// The way of ending a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnlinkMode {
    /// The relation was valid until a time.
    End,
    /// The relation was never valid.
    Erase,
}

/// An entity that a memory mentions: its name, or all fields that `link` takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct MentionItem(EntityItem);

impl TryFrom<Value> for MentionItem {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(name) => Ok(Self(EntityItem {
                name,
                ..EntityItem::default()
            })),
            Value::Object(_) => serde_json::from_value(value)
                .map(Self)
                .map_err(|error| error.to_string()),
            other => Err(format!(
                "{other} is neither a name nor an object with name and type"
            )),
        }
    }
}

impl UnlinkMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Erase => "erase",
        }
    }
}

impl MentionItem {
    pub(super) fn entity_mut(&mut self) -> &mut EntityItem {
        &mut self.0
    }
}

impl From<MentionItem> for Value {
    fn from(item: MentionItem) -> Self {
        serde_json::to_value(item.0).unwrap_or_default()
    }
}

/// Removes parts from an input schema that cost a model tokens; unknown fields are still refused by name.
pub(super) fn bare(schema: &mut Schema) {
    schema.remove("additionalProperties");
    schema.remove("description");
}

/// Removes the list of required fields from an output schema.
pub(super) fn optional(schema: &mut Schema) {
    schema.remove("required");
}

fn object_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

fn unlink_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "enum": ["end", "erase"],
        "x-synonyms": { "unlink": "end", "remove": "end", "delete": "end", "true": "end", "yes": "end" },
    })
}

/// Returns the schema of entities that a memory mentions: names, or objects with a name and a type.
pub(super) fn mentions_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut entity = generator.subschema_for::<EntityItem>().to_value();
    hide(&mut entity, &["properties", "erase"]);
    json_schema!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, entity] } })
}

/// Returns the schema of relations that a memory adds; it cannot end relations.
pub(super) fn added_relations_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut relation = generator.subschema_for::<RelationItem>().to_value();
    hide(&mut relation, &["unlink"]);
    json_schema!({ "type": "array", "items": relation })
}

/// Hides fields from the model; they are still accepted.
fn hide(object: &mut Value, fields: &[&str]) {
    for field in fields {
        if let Some(field) = object
            .pointer_mut(&format!("/properties/{field}"))
            .and_then(Value::as_object_mut)
        {
            field.insert("x-hidden".to_owned(), Value::Bool(true));
        }
    }
}

/// Returns the schema of a list whose entries are not described.
pub(super) fn list_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array" })
}

/// The changes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(transform = optional)]
pub struct LinkOutput {
    /// New entities and relations.
    pub created: usize,
    /// Changed entities and relations, ended ones included.
    #[schemars(skip)]
    pub changed: usize,
    /// Removed entities and relations.
    #[schemars(skip)]
    pub erased: usize,
    /// New entities, similar names, and relations that could not be ended yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub notes: Vec<String>,
}

impl Engine {
    /// Merges entities and relations into the project's graph, completely or not at all.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] names the refused entities and relations.
    pub async fn link(
        &self,
        call: &Call,
        mut params: LinkParams,
    ) -> Result<LinkOutput, EngineError> {
        let now = self.clock.now();
        let mut notes = self.screen_secrets(&mut params)?;
        let links = accept_call(params)?;
        let count = links.entities.len() + links.relations.len();
        self.refuse_names_of_memories(call, named_entities(&links, ""))
            .await?;
        call.count_rows(count);
        let names = self.look_up_names(call, &[&links]).await?;
        let linked = call
            .database(self.store.link(&call.scope, &links, now))
            .await?;
        notes.extend(self.note_names(call, names).await);
        notes.extend(linked.not_begun.iter().map(|later| {
            let begin = timestamp(later.valid_from);
            format!(
                "{:?} {} {:?} begins only at {begin}, so it was not ended; unlink erase removes it.",
                later.from, later.kind, later.to
            )
        }));
        Ok(LinkOutput {
            created: linked.entities_created + linked.relations_created,
            changed: linked.entities_changed + linked.relations_changed,
            erased: linked.erased,
            notes,
        })
    }

    /// Reports everything that [`Engine::link`] would refuse before it looks up names.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_link(&self, mut params: LinkParams) -> Result<(), Invalid> {
        let mut problems = Problems::default();
        problems.check(self.screen_secrets(&mut params).map(drop));
        problems.check(accept_call(params).map(drop));
        problems.refuse_if_any()
    }

    /// Refuses names that are short IDs of existing memories. [`accept_links`] refuses full IDs.
    pub(super) async fn refuse_names_of_memories(
        &self,
        call: &Call,
        names: Vec<(String, &str)>,
    ) -> Result<(), EngineError> {
        let parts: Vec<IdPart> = names
            .iter()
            .filter_map(|(_, name)| short_id_in(name))
            .collect();
        let known = self.known_parts(call, parts).await?;
        let mut problems = Problems::default();
        for (field, name) in names {
            if short_id_in(name).is_some_and(|part| known.contains(&part)) {
                problems.note(memory_instead_of_entity(field, name));
            }
        }
        Ok(problems.refuse_if_any()?)
    }

    /// Returns those of `parts` that the ID of a memory begins or ends with.
    async fn known_parts(
        &self,
        call: &Call,
        mut parts: Vec<IdPart>,
    ) -> Result<BTreeSet<IdPart>, EngineError> {
        parts.sort();
        parts.dedup();
        // Each part needs a lookup.
        parts.truncate(MOST_PARTS);
        if parts.is_empty() {
            return Ok(BTreeSet::new());
        }
        let found = call
            .database(
                self.store
                    .referents(&call.scope, Referable::Memory, &parts, 1),
            )
            .await?;
        Ok(found
            .into_iter()
            .map(|referent| parts[referent.part].clone())
            .collect())
    }
}

/// Returns the part of an ID that a name may be.
fn short_id_in(name: &str) -> Option<IdPart> {
    match IdReference::parse(name) {
        Some(IdReference::Part(part)) if part.suffix().is_some() => Some(part),
        _ => None,
    }
}

/// Returns the names in `links` under which a call may create entities, each with its field; `outer` is the field of
/// the links. Existing entities named like the ID of a memory can still be removed.
pub(super) fn named_entities<'a>(links: &'a Links, outer: &str) -> Vec<(String, &'a str)> {
    let mut names = Vec::new();
    for (index, entity) in links
        .entities
        .iter()
        .enumerate()
        .filter(|(_, entity)| !entity.erase)
    {
        names.push((
            format!("{outer}entities[{index}].name"),
            entity.name.as_str(),
        ));
    }
    for (index, relation) in links
        .relations
        .iter()
        .enumerate()
        .filter(|(_, relation)| relation.unlink.is_none())
    {
        names.push((
            format!("{outer}relations[{index}].from"),
            relation.from.as_str(),
        ));
        names.push((
            format!("{outer}relations[{index}].to"),
            relation.to.as_str(),
        ));
    }
    names
}

/// Refuses a memory's ID in place of the name of an entity.
fn memory_instead_of_entity(field: impl Into<String>, name: &str) -> Invalid {
    let expected = "the name of an entity, not the ID of a memory; to link memories, give their IDs to remember or update as \
                    sources, or to remember as supersedes";
    Invalid::new(field, name, expected)
}

/// Returns whether a name is the full ID of a memory. Hexadecimal digits alone may also be another name.
fn is_full_id(name: &str) -> bool {
    let id = name.trim().trim_start_matches("memory://");
    id.contains('-') && Uuid::parse_str(id).is_ok()
}

/// Validates the links of a memory, which never remove anything.
pub(super) fn accept_mentions(
    entities: Vec<MentionItem>,
    relations: Vec<RelationItem>,
) -> Result<Links, Invalid> {
    let mut problems = Problems::default();
    problems.check(validate::count(
        "entities",
        entities.len(),
        validate::MAX_MENTIONS,
    ));
    problems.check(validate::count(
        "relations",
        relations.len(),
        validate::MAX_MENTIONS,
    ));
    problems.refuse_if_any()?;
    let mut problems = Problems::default();
    let rule = "remember cannot remove entities or relations; call link to do that";
    for (index, _) in entities.iter().enumerate().filter(|(_, item)| item.0.erase) {
        let field = format!("entities[{index}].erase");
        problems.note(Invalid::new(field, "true", "no removal").explained_by(rule));
    }
    for (index, mode) in relations
        .iter()
        .enumerate()
        .filter_map(|(index, item)| Some((index, item.unlink?)))
    {
        let field = format!("relations[{index}].unlink");
        problems.note(Invalid::new(field, mode.as_str(), "no removal").explained_by(rule));
    }
    let links = problems.accept(accept_links(
        entities.into_iter().map(|item| item.0).collect(),
        relations,
    ));
    problems.refuse_if_any()?;
    Ok(links)
}

/// Validates all contents of a call of `link`.
fn accept_call(params: LinkParams) -> Result<Links, Invalid> {
    let count = params.entities.len() + params.relations.len();
    if count == 0 {
        let nothing = Invalid::new("entities", "[]", "at least one entity or relation");
        return Err(nothing.depending_on(&["relations"]));
    }
    validate::count("entities and relations", count, validate::MAX_LINKS)?;
    accept_links(params.entities, params.relations)
}

fn accept_links(entities: Vec<EntityItem>, relations: Vec<RelationItem>) -> Result<Links, Invalid> {
    let (mut links, mut problems) = (Links::default(), Problems::default());
    for (index, item) in entities.into_iter().enumerate() {
        match accept_entity(item) {
            Ok(entity) => links.entities.push(entity),
            Err(invalid) => problems.note(invalid.within(format!("entities[{index}]"))),
        }
    }
    for (index, item) in relations.into_iter().enumerate() {
        match accept_relation(item) {
            Ok(relation) => links.relations.push(relation),
            Err(invalid) => problems.note(invalid.within(format!("relations[{index}]"))),
        }
    }
    problems.refuse_if_any()?;
    Ok(links)
}

/// Returns a name as it is stored: without white space around it.
pub(super) fn accept_name(field: &str, name: &str) -> Result<String, Invalid> {
    validate::text(field, name, validate::MAX_NAME_BYTES)?;
    if name_key(name).is_empty() {
        return Err(Invalid::new(
            field,
            name,
            "a name with at least one visible character",
        ));
    }
    Ok(name.trim().to_owned())
}

/// A name that is to be stored.
fn accept_new_name(field: &str, name: &str) -> Result<String, Invalid> {
    validate::new_name(field, name, validate::MAX_NAME_BYTES)?;
    accept_name(field, name)
}

/// Returns a type as it is stored.
pub(super) fn accept_type(kind: Option<&str>) -> Result<Option<String>, Invalid> {
    let Some(kind) = kind else { return Ok(None) };
    validate::text("type", kind, validate::MAX_TAG_BYTES)?;
    Ok(Some(type_key(kind)))
}

/// A type that is to be stored.
fn accept_new_type(kind: Option<&str>) -> Result<Option<String>, Invalid> {
    let kind = accept_type(kind)?;
    validate::new_optional_name("type", kind.as_deref(), validate::MAX_NAME_BYTES)?;
    Ok(kind)
}

/// How names and types of a link are accepted. Those that are removed may be of an earlier time.
struct NameRules {
    name: fn(&str, &str) -> Result<String, Invalid>,
    kind: fn(Option<&str>) -> Result<Option<String>, Invalid>,
}

impl NameRules {
    fn choose(removes: bool) -> Self {
        if removes {
            Self {
                name: accept_name,
                kind: accept_type,
            }
        } else {
            Self {
                name: accept_new_name,
                kind: accept_new_type,
            }
        }
    }
}

/// Start and end of the validity of a relation.
type Period = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// Returns the validity of a relation. The word for no end results in none.
fn accept_period(valid_from: Option<&str>, valid_to: Option<&str>) -> Result<Period, Invalid> {
    let mut problems = Problems::default();
    let begin = problems.accept(
        valid_from
            .map(|begin| validate::time("valid_from", begin))
            .transpose(),
    );
    let end = problems.accept(validate::end_time("valid_to", valid_to));
    if let (Some(begin), Some(end)) = (begin, end)
        && begin >= end
    {
        let expected = format!("a time after valid_from, which is {}", timestamp(begin));
        problems
            .note(Invalid::new("valid_to", timestamp(end), expected).depending_on(&["valid_from"]));
    }
    problems.refuse_if_any()?;
    Ok((begin, end))
}

fn accept_entity(item: EntityItem) -> Result<NewEntity, Invalid> {
    let mut problems = Problems::default();
    let rules = NameRules::choose(item.erase);
    let name = problems.accept((rules.name)("name", &item.name));
    let kind = problems.accept((rules.kind)(item.kind.as_deref()));
    problems.check(validate::metadata("properties", &item.properties));
    // Existing entities named like the ID of a memory can still be removed.
    if !item.erase && is_full_id(&name) {
        problems.note(memory_instead_of_entity("name", &name));
    }
    problems.refuse_if_any()?;
    Ok(NewEntity {
        name,
        kind,
        properties: item.properties,
        erase: item.erase,
    })
}

fn accept_relation(item: RelationItem) -> Result<NewRelation, Invalid> {
    let mut problems = Problems::default();
    let never_ends = item.valid_to.as_deref() == Some(validate::NEVER);
    let rules = NameRules::choose(item.unlink.is_some());
    let from = problems.accept((rules.name)("from", &item.from));
    let to = problems.accept((rules.name)("to", &item.to));
    if !to.is_empty() && name_key(&from) == name_key(&to) {
        problems.note(
            Invalid::new("to", &to, "the name of another entity than from").depending_on(&["from"]),
        );
    }
    for (field, name) in [("from", &from), ("to", &to)]
        .into_iter()
        .filter(|_| item.unlink.is_none())
    {
        if is_full_id(name) {
            problems.note(memory_instead_of_entity(field, name));
        }
    }
    if item.kind.is_none() && item.unlink.is_none() {
        let expected = "the type of the relation, such as uses or works at";
        problems.note(Invalid::new("type", "", expected).depending_on(&["unlink"]));
    }
    let kind = problems.accept((rules.kind)(item.kind.as_deref()));
    problems.check(validate::metadata("properties", &item.properties));
    let (valid_from, valid_to) = problems.accept(accept_period(
        item.valid_from.as_deref(),
        item.valid_to.as_deref(),
    ));
    let weight = item
        .weight
        .map(|weight| validate::number("weight", weight, 0.0, 1.0));
    let weight = problems.accept(weight.transpose());
    problems.refuse_if_any()?;
    Ok(NewRelation {
        from,
        to,
        kind,
        weight,
        properties: item.properties,
        valid_from,
        valid_to,
        never_ends,
        unlink: item.unlink.map(|mode| match mode {
            UnlinkMode::End => Unlink::End,
            UnlinkMode::Erase => Unlink::Erase,
        }),
    })
}
