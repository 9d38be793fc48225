//! Reading memories by id.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::link::accept_name;
use super::view::timestamp;
use super::{Call, Engine, EngineError, EntityDetail, MemoryView, parse_ids};
use crate::domain::graph::{Entity, name_key};
use crate::domain::memory::Change;
use crate::domain::{Invalid, Memory, validate};
use crate::store::Link;
use crate::store::graph::EntityQuery;

/// Most entities of a call.
const MAX_NAMES: usize = 20;
/// Relations, in each direction, and memories of an entity.
const MOST_OF_EACH: usize = 20;

/// What to read.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// Up to 200.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Names of entities: their relations and memories.
    #[serde(default)]
    pub entities: Vec<String>,
    /// Also every change.
    #[serde(default)]
    pub history: bool,
    /// Also deleted ones.
    #[serde(default)]
    #[schemars(extend("x-plain" = true))]
    pub include_deleted: bool,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GetOutput {
    /// In the order asked for.
    pub memories: Vec<MemoryView>,
    /// Those asked for by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub entities: Vec<EntityDetail>,
    /// Ids and names that do not exist here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Changes, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryView>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct HistoryView {
    /// Memory.
    pub id: String,
    /// Version after it.
    pub version: i64,
    /// What happened.
    pub change: Change,
    /// When.
    pub at: String,
    /// Whose credential.
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Changed fields before; absent for a creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// The same fields after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

impl Engine {
    /// Reads memories by id; unknown ones are listed, not refused.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for something that is no id.
    pub async fn get(&self, call: &Call, params: GetParams) -> Result<GetOutput, EngineError> {
        let mut ids = parse_ids("ids", &params.ids)?;
        if ids.is_empty() && params.entities.is_empty() {
            return Err(Invalid::new("ids", "[]", "at least one id, or the name of an entity in entities").into());
        }
        let asked = ids.clone();
        let (entities, unknown) = self.get_entities(call, &params.entities).await?;
        let mentioning = entities.iter().flat_map(|entity| &entity.memories);
        for id in mentioning.filter_map(|id| Uuid::parse_str(id).ok()) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let memories = call.database(self.store.get(&call.scope, &ids, params.include_deleted)).await?;
        call.count_rows(memories.len());
        let found: Vec<Uuid> = memories.iter().map(|memory| memory.id).collect();
        let links = call.database(self.store.chains(&call.scope, &found)).await?;
        let history = if params.history { self.read_history(call, &memories).await? } else { Vec::new() };
        let missing = asked.iter().filter(|id| !found.contains(id)).map(ToString::to_string);
        Ok(GetOutput {
            memories: memories.into_iter().map(|memory| chained(memory, &links, call.scope.project())).collect(),
            entities,
            missing: missing.chain(unknown).collect(),
            history,
        })
    }

    /// Entities by name, and the names that are not known.
    async fn get_entities(
        &self,
        call: &Call,
        names: &[String],
    ) -> Result<(Vec<EntityDetail>, Vec<String>), EngineError> {
        validate::count("entities", names.len(), MAX_NAMES)?;
        if names.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut keys = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            keys.push(name_key(&accept_name(&format!("entities[{index}]"), name)?));
        }
        let query = EntityQuery::Keys(keys.clone());
        let mut found = call.database(self.store.entities(&call.scope, &query)).await?;
        let place = |entity: &Entity| keys.iter().position(|key| *key == name_key(&entity.name));
        found.sort_by_key(|entity| (place(entity), entity.seq));
        let known: Vec<String> = found.iter().map(|entity| name_key(&entity.name)).collect();
        let unknown = names.iter().zip(&keys).filter(|(_, key)| !known.contains(key)).map(|(name, _)| name.clone());
        let unknown = unknown.collect();
        if found.is_empty() {
            return Ok((Vec::new(), unknown));
        }
        Ok((self.describe_entities(call, &found, MOST_OF_EACH).await?, unknown))
    }

    /// A change shows the fields that differ between what was and what came: the next change's old state, or the
    /// memory as it is.
    async fn read_history(&self, call: &Call, memories: &[Memory]) -> Result<Vec<HistoryView>, EngineError> {
        let ids: Vec<Uuid> = memories.iter().map(|memory| memory.id).collect();
        let entries = call.database(self.store.history(&call.scope, &ids)).await?;
        let mut later: HashMap<Uuid, Value> = memories.iter().map(|memory| (memory.id, memory.snapshot())).collect();
        let mut views = Vec::with_capacity(entries.len());
        for entry in entries.into_iter().rev() {
            let after = entry.old.clone().and_then(|old| later.insert(entry.memory_id, old));
            let (old, new) = match (entry.old, after) {
                (Some(old), Some(new)) => difference(&old, &new),
                _ => (None, None),
            };
            // Nobody says why when a new memory replaces an old one: the new one is the reason.
            let successor = || Some(format!("superseded by {}", new.as_ref()?.get("superseded_by")?.as_str()?));
            let reason = entry.reason.or_else(|| (entry.change == Change::Superseded).then(successor).flatten());
            views.push(HistoryView {
                id: entry.memory_id.to_string(),
                version: entry.version,
                change: entry.change,
                at: timestamp(entry.at),
                by: entry.actor,
                reason,
                old,
                new,
            });
        }
        views.reverse();
        Ok(views)
    }
}

/// The view of a memory with its place in a chain of replacements.
fn chained(memory: Memory, links: &[Link], project: &str) -> MemoryView {
    let id = memory.id;
    let mut view = MemoryView::new(memory, project);
    view.supersedes = links.iter().filter(|link| link.by == id).map(|link| link.old.to_string()).collect();
    let next = |id: Uuid| links.iter().find(|link| link.old == id);
    // As many steps as there are links: enough for any chain, and an end for what should be none.
    let mut last = next(id);
    for _ in links {
        last = last.and_then(|link| next(link.by)).or(last);
    }
    // Where the end of the chain is deleted or purged, nothing holds.
    view.current = last.filter(|link| link.holds).map(|link| link.by.to_string());
    view
}

fn difference(old: &Value, new: &Value) -> (Option<Value>, Option<Value>) {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else { return (None, None) };
    let changed = || after.keys().filter(|key| before.get(*key) != after.get(*key));
    let pick = |side: &serde_json::Map<String, Value>| {
        Some(Value::Object(changed().filter_map(|key| Some((key.clone(), side.get(key)?.clone()))).collect()))
    };
    (pick(before), pick(after))
}
