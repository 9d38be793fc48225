//! Reading memories by id.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::view::timestamp;
use super::{Call, Engine, EngineError, MemoryView, parse_ids};
use crate::domain::memory::Change;
use crate::domain::{Invalid, Memory};

/// What to read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// Ids, up to 200.
    pub ids: Vec<String>,
    /// Also every change, oldest first.
    #[serde(default)]
    pub history: bool,
    /// Also deleted ones.
    #[serde(default)]
    pub include_deleted: bool,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GetOutput {
    /// In the order asked for.
    pub memories: Vec<MemoryView>,
    /// Ids that do not exist here.
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
        let ids = parse_ids("ids", &params.ids)?;
        if ids.is_empty() {
            return Err(Invalid::new("ids", "[]", "at least one id").into());
        }
        let memories = call.database(self.store.get(&call.scope, &ids, params.include_deleted)).await?;
        call.count_rows(memories.len());
        let found: Vec<Uuid> = memories.iter().map(|memory| memory.id).collect();
        let links = call.database(self.store.chains(&call.scope, &found)).await?;
        let history = if params.history { self.read_history(call, &memories).await? } else { Vec::new() };
        Ok(GetOutput {
            memories: memories.into_iter().map(|memory| chained(memory, &links, call.scope.project())).collect(),
            missing: ids.iter().filter(|id| !found.contains(id)).map(ToString::to_string).collect(),
            history,
        })
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
            views.push(HistoryView {
                id: entry.memory_id.to_string(),
                version: entry.version,
                change: entry.change,
                at: timestamp(entry.at),
                by: entry.actor,
                reason: entry.reason,
                old,
                new,
            });
        }
        views.reverse();
        Ok(views)
    }
}

/// The view of a memory with its place in a chain of replacements.
fn chained(memory: Memory, links: &[(Uuid, Uuid)], project: &str) -> MemoryView {
    let id = memory.id;
    let mut view = MemoryView::new(memory, project);
    view.supersedes = links.iter().filter(|(_, by)| *by == id).map(|(old, _)| old.to_string()).collect();
    let next = |id: Uuid| links.iter().find(|(old, _)| *old == id).map(|(_, by)| *by);
    // As many steps as there are links: enough for any chain, and an end for what should be none.
    let last = links.iter().try_fold(id, |id, _| next(id).ok_or(id));
    let last = last.unwrap_or_else(|last| last);
    view.current = (last != id).then(|| last.to_string());
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
