//! Reads memories by ID and entities by name, within a budget. The answer names the parts that do not fit, and how to
//! read them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::answer_size::{
    Budget, DEFAULT_ANSWER_CHARS, PORTION, Shorten, check_max_chars, measure, room_for_parts,
    shorten_texts, shorten_value,
};
use super::link::accept_name;
use super::reference::check_ids;
use super::view::timestamp;
use super::{Call, Engine, EngineError, EntityDetail, MemoryView};
use crate::domain::count::count_of;
use crate::domain::cursor::{self, Position};
use crate::domain::graph::{Entity, name_key};
use crate::domain::memory::{Change, History};
use crate::domain::validate::{self, Invalid, Problems};
use crate::domain::{Memory, ObjectText};
use crate::store::graph::EntityQuery;
use crate::store::{HistoryQuery, Succession};

/// Maximum number of entities of a call.
const MAX_NAMES: usize = 20;
/// Maximum number of relations, in each direction, and of memories of an entity.
const MOST_OF_EACH: usize = 20;
/// Number of history entries that are read from the database at once, and bytes of their earlier states.
const HISTORY_PORTION: (usize, usize) = (50, 256 << 10);

/// Memories and entities to read.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// IDs of memories, up to 200
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["id", "memory_id", "memory_ids", "memory", "memories", "uri", "uris"], "x-split" = "ids"))]
    pub ids: Vec<String>,
    /// Names of entities: returns their relations and memories
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["entity", "name", "names"]))]
    pub entities: Vec<String>,
    /// Include every change of the memories in ids, newest first
    #[serde(default)]
    pub history: bool,
    /// Include deleted memories
    #[serde(default)]
    #[schemars(extend("x-plain" = true))]
    pub include_deleted: bool,
    /// Length of the whole answer in characters, default 40000
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["max_characters", "budget"]))]
    pub max_chars: Option<usize>,
    /// next_cursor of the previous answer
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["next_cursor", "page_token"]))]
    pub cursor: Option<String>,
}

impl GetParams {
    /// Returns the maximum number of characters of the printed answer.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.max_chars.unwrap_or(DEFAULT_ANSWER_CHARS)
    }
}

/// The memories and entities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct GetOutput {
    /// Memories in the order of ids.
    pub memories: Vec<MemoryView>,
    /// Entities in the order of their names in the call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub entities: Vec<EntityDetail>,
    /// IDs and names that do not exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// IDs and names that did not fit; get them in another call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_read: Vec<String>,
    /// Changes, newest first, if history is true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryView>,
    /// Cursor of the next part; pass it with the same arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Omitted parts and how to read them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct HistoryView {
    /// ID of the memory.
    pub id: String,
    /// Version after the change.
    pub version: i64,
    /// Kind of the change.
    pub change: Change,
    /// Time of the change.
    pub at: String,
    /// Name of the credential that made the change.
    pub by: String,
    /// Reason that the caller gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Changed fields before the change; absent for a creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// Changed fields after the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// A validated request.
struct GetRequest {
    ids: Vec<Uuid>,
    names: Vec<String>,
    history: bool,
    include_deleted: bool,
    max_chars: usize,
    /// Whether the caller named the limit.
    is_limited: bool,
    question: String,
    position: Option<Position>,
}

impl GetRequest {
    /// Converts parameters that [`check_get`] accepted to a request.
    fn new(params: GetParams, ids: Vec<Uuid>) -> Result<Self, Invalid> {
        let (max_chars, is_limited) = (params.budget(), params.max_chars.is_some());
        let question = cursor::question_hash(&(
            &ids,
            &params.entities,
            params.history,
            params.include_deleted,
        ));
        let position = params
            .cursor
            .as_ref()
            .map(|text| cursor::decode(text, &question))
            .transpose()?;
        Ok(Self {
            ids,
            names: params.entities,
            history: params.history,
            include_deleted: params.include_deleted,
            max_chars,
            is_limited,
            question,
            position,
        })
    }

    /// Returns whether the memories of the single entity can be read page by page.
    fn pages_memories(&self) -> bool {
        self.ids.is_empty() && self.names.len() == 1
    }

    fn cursor(&self, position: Position) -> String {
        cursor::encode(&position, &self.question)
    }
}

/// Refuses every error that is detectable without the database.
fn check_get(params: &GetParams) -> Result<(), Invalid> {
    let mut problems = Problems::default();
    if params.ids.is_empty() && params.entities.is_empty() {
        let expected = "at least one ID, or the name of an entity in entities";
        problems.note(Invalid::new("ids", "[]", expected).depending_on(&["entities"]));
    }
    problems.check(check_ids("ids", &params.ids));
    match validate::count("entities", params.entities.len(), MAX_NAMES) {
        Ok(()) => {
            for (index, name) in params.entities.iter().enumerate() {
                problems.accept(accept_name(&format!("entities[{index}]"), name));
            }
        }
        Err(invalid) => problems.note(invalid),
    }
    problems.accept(check_max_chars(params.budget()));
    problems.check(params.cursor.as_deref().map_or(Ok(()), cursor::check_form));
    problems.refuse_if_any()
}

impl Engine {
    /// Reports everything that [`Engine::get`] would refuse, and reads nothing.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_get(&self, params: &GetParams) -> Result<(), Invalid> {
        check_get(params)
    }

    /// Reads memories by ID and entities by name; unknown ones are listed rather than refused.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for an ID, a name or a cursor of invalid form.
    pub async fn get(&self, call: &Call, params: GetParams) -> Result<GetOutput, EngineError> {
        check_get(&params)?;
        let (ids, unmatched) = self.resolve_known(call, "ids", &params.ids).await?;
        let request = GetRequest::new(params, ids)?;
        let mut budget = Budget::new(
            room_for_parts(call.unreserved(request.max_chars)),
            request.is_limited,
        );
        let mut output = GetOutput {
            missing: unmatched,
            ..GetOutput::default()
        };
        let start = match request.position {
            Some(Position::History(index, place)) => Some((index, place)),
            _ => request.history.then_some((0, None)),
        };
        if !matches!(request.position, Some(Position::History(..))) {
            self.read_current(call, &request, &mut budget, &mut output)
                .await?;
        }
        if let Some(start) = start {
            self.read_history(call, &request, start, &mut budget, &mut output)
                .await?;
        }
        output.notes.extend(budget.note_shortened());
        Ok(output)
    }

    /// Reads the entities, and the memories as they are now.
    async fn read_current(
        &self,
        call: &Call,
        request: &GetRequest,
        budget: &mut Budget,
        output: &mut GetOutput,
    ) -> Result<(), EngineError> {
        let mentioned = self.read_entities(call, request, budget, output).await?;
        let mut ids = request.ids.clone();
        ids.extend(mentioned.into_iter().filter(|id| !request.ids.contains(id)));
        self.read_memories(call, request, &ids, budget, output)
            .await
    }

    /// Reads memories until the budget is used.
    async fn read_memories(
        &self,
        call: &Call,
        request: &GetRequest,
        ids: &[Uuid],
        budget: &mut Budget,
        output: &mut GetOutput,
    ) -> Result<(), EngineError> {
        let mut left_out: Vec<String> = Vec::new();
        for portion in ids.chunks(PORTION) {
            if !left_out.is_empty() {
                left_out.extend(portion.iter().map(ToString::to_string));
                continue;
            }
            let memories = call
                .database(
                    self.store
                        .get(&call.scope, portion, request.include_deleted),
                )
                .await?;
            call.count_rows(memories.len());
            let found: Vec<Uuid> = memories.iter().map(|memory| memory.id).collect();
            let links = call
                .database(self.store.chains(&call.scope, &found))
                .await?;
            let missing = portion
                .iter()
                .filter(|id| request.ids.contains(id) && !found.contains(id));
            output.missing.extend(missing.map(ToString::to_string));
            for memory in memories {
                let mut view = chained(memory, &links, call.scope.project());
                if left_out.is_empty() && budget.admits(&mut view) {
                    output.memories.push(view);
                } else {
                    left_out.push(view.id);
                }
            }
        }
        if !left_out.is_empty() {
            output.notes.push(format!(
                "{} of {} fit into {}; get the others by the IDs in not_read.",
                output.memories.len(),
                count_of((output.memories.len() + left_out.len()) as u64, "memory"),
                budget.limit(request.max_chars)
            ));
            output.not_read.append(&mut left_out);
        }
        Ok(())
    }

    /// Reads entities by name; returns the memories that mention them.
    async fn read_entities(
        &self,
        call: &Call,
        request: &GetRequest,
        budget: &mut Budget,
        output: &mut GetOutput,
    ) -> Result<Vec<Uuid>, EngineError> {
        let before = match request.position {
            None => None,
            Some(Position::Before(seq)) if request.pages_memories() => Some(seq),
            Some(_) => {
                return Err(
                    Invalid::new("cursor", "", "the next_cursor of an answer of get").into(),
                );
            }
        };
        let (found, unknown) = self.find_entities(call, &request.names).await?;
        output.missing.extend(unknown);
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let (mut described, notes) = self
            .describe_entities(call, &found, before, MOST_OF_EACH)
            .await?;
        output.notes.extend(notes);
        let all = described.len();
        let refused = described
            .iter_mut()
            .position(|detail| !budget.admits(detail));
        let fitting = refused.unwrap_or(all);
        let left_out = described.split_off(fitting);
        if !left_out.is_empty() {
            output.notes.push(format!(
                "{fitting} of {} fit into {}; get the others by the names in not_read.",
                count_of(all as u64, "entity"),
                budget.limit(request.max_chars)
            ));
        }
        let names = left_out.into_iter().map(|detail| detail.entity.name);
        output.not_read.extend(names);
        if let [detail] = described.as_slice()
            && request.pages_memories()
        {
            output.next_cursor = detail.last.map(|seq| request.cursor(Position::Before(seq)));
        } else if described.iter().any(|detail| detail.last.is_some()) {
            let note = "Some entities have more memories than are listed here; get one entity alone to page through them.";
            output.notes.push(note.to_owned());
        }
        let mentioned = described.iter().flat_map(|detail| detail.memories.iter());
        let mentioned = mentioned
            .filter_map(|id| Uuid::parse_str(id).ok())
            .collect();
        output.entities = described;
        Ok(mentioned)
    }

    /// Returns entities in the order of the names, and the unknown names.
    async fn find_entities(
        &self,
        call: &Call,
        names: &[String],
    ) -> Result<(Vec<Entity>, Vec<String>), EngineError> {
        if names.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut keys = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            keys.push(name_key(&accept_name(&format!("entities[{index}]"), name)?));
        }
        let query = EntityQuery::Keys(keys.clone());
        let mut found = call
            .database(self.store.entities(&call.scope, &query))
            .await?;
        let place = |entity: &Entity| keys.iter().position(|key| *key == name_key(&entity.name));
        found.sort_by_key(|entity| (place(entity), entity.seq));
        let known: Vec<String> = found.iter().map(|entity| name_key(&entity.name)).collect();
        let unknown = names
            .iter()
            .zip(&keys)
            .filter(|(_, key)| !known.contains(key))
            .map(|(name, _)| name.clone());
        Ok((found, unknown.collect()))
    }

    /// Reads the history of the memories from a position on, newest entries first, until the budget is used.
    async fn read_history(
        &self,
        call: &Call,
        request: &GetRequest,
        (first, mut place): (usize, Option<i64>),
        budget: &mut Budget,
        output: &mut GetOutput,
    ) -> Result<(), EngineError> {
        for (index, id) in request.ids.iter().enumerate().skip(first) {
            let mut after = None;
            if place.is_none() {
                // The current memory shows the result of the newest change. On a later page, the first entry does.
                let memories = call
                    .database(self.store.get(&call.scope, &[*id], request.include_deleted))
                    .await?;
                let Some(memory) = memories.first() else {
                    continue;
                };
                after = Some(memory.snapshot());
            }
            loop {
                let (entries, bytes) = HISTORY_PORTION;
                let query = HistoryQuery {
                    memory: *id,
                    from: place,
                    entries,
                    bytes,
                };
                let mut page = call
                    .database(self.store.history_page(&call.scope, &query))
                    .await?;
                // The entry at the position was already shown; its earlier state is the result of the next one.
                if let (Some(shown), Some(entry)) = (place, page.first())
                    && entry.place == shown
                {
                    after = page.remove(0).history.old;
                }
                let Some(last) = page.last().map(|entry| (entry.place, entry.history.change))
                else {
                    break;
                };
                for entry in page {
                    let old = entry.history.old.clone();
                    let mut view = HistoryView::new(entry.history, after.as_ref());
                    if !budget.admits(&mut view) {
                        output.next_cursor = Some(request.cursor(Position::History(index, place)));
                        output.notes.push(
                            "There is more history: call again with the same arguments and next_cursor as cursor."
                                .to_owned(),
                        );
                        return Ok(());
                    }
                    output.history.push(view);
                    place = Some(entry.place);
                    after = old;
                }
                if last.1 == Change::Created {
                    break;
                }
                place = Some(last.0);
            }
            place = None;
        }
        Ok(())
    }
}

impl Shorten for MemoryView {
    fn shorten(&mut self, room: usize) {
        let mut left = room;
        if !self.metadata.is_empty() {
            let length = self.metadata.as_str().chars().count();
            if length > room / 2 {
                self.metadata = ObjectText::default();
            } else {
                left -= length;
            }
        }
        let Self {
            content,
            situation,
            lesson,
            ..
        } = self;
        let texts = [Some(content), situation.as_mut(), lesson.as_mut()];
        shorten_texts(texts.into_iter().flatten(), left);
    }
}

impl Shorten for HistoryView {
    fn shorten(&mut self, room: usize) {
        for state in [&mut self.old, &mut self.new].into_iter().flatten() {
            shorten_value(state, room / 2);
        }
    }
}

impl Shorten for EntityDetail {
    /// Keeps the strongest relations. The counts say how many there are.
    fn shorten(&mut self, room: usize) {
        let mut left = room;
        if self.entity.properties.as_str().chars().count() > left {
            self.entity.properties = ObjectText::default();
        } else if !self.entity.properties.is_empty() {
            left -= self.entity.properties.as_str().chars().count();
        }
        let too_long = self.relations.iter_mut().position(|relation| {
            relation.shorten(left);
            let length = measure(relation);
            let fits = length <= left;
            left = left.saturating_sub(length);
            !fits
        });
        self.relations.truncate(too_long.unwrap_or(usize::MAX));
    }
}

impl HistoryView {
    /// Returns the fields that differ between the state before a change and the one after it, if that is known.
    fn new(entry: History, after: Option<&Value>) -> Self {
        let (old, new) = match (&entry.old, after) {
            (Some(old), Some(new)) => difference(old, new),
            _ => (None, None),
        };
        // No reason is given if a new memory replaces an old one; the new memory is the reason.
        let successor = || {
            Some(format!(
                "superseded by {}",
                new.as_ref()?.get("superseded_by")?.as_str()?
            ))
        };
        let reason = entry.reason.or_else(|| {
            (entry.change == Change::Superseded)
                .then(successor)
                .flatten()
        });
        Self {
            id: entry.memory_id.to_string(),
            version: entry.version,
            change: entry.change,
            at: timestamp(entry.at),
            by: entry.actor,
            reason,
            old,
            new,
        }
    }
}

/// Returns the view of a memory with its position in a chain of replacements.
fn chained(memory: Memory, links: &[Succession], project: &str) -> MemoryView {
    let id = memory.id;
    let mut view = MemoryView::new(memory, project);
    view.supersedes = links
        .iter()
        .filter(|link| link.by == id)
        .map(|link| link.old.to_string())
        .collect();
    view.current = current_successor(id, links);
    view
}

/// Returns the end of a memory's chain of replacements, unless that is deleted or purged.
pub(super) fn current_successor(id: Uuid, links: &[Succession]) -> Option<String> {
    let next = |id: Uuid| links.iter().find(|link| link.old == id);
    // As many steps as there are links: enough for any chain, and finite for a cycle.
    let mut last = next(id);
    for _ in links {
        last = last.and_then(|link| next(link.by)).or(last);
    }
    last.filter(|link| link.holds)
        .map(|link| link.by.to_string())
}

fn difference(old: &Value, new: &Value) -> (Option<Value>, Option<Value>) {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        return (None, None);
    };
    let changed = || {
        after
            .keys()
            .filter(|key| before.get(*key) != after.get(*key))
    };
    let pick = |side: &serde_json::Map<String, Value>| {
        Some(Value::Object(
            changed()
                .filter_map(|key| Some((key.clone(), side.get(key)?.clone())))
                .collect(),
        ))
    };
    (pick(before), pick(after))
}
