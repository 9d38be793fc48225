//! Exploration of the graph. A search that takes too long ends early and returns its results so far, with a flag.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer_size::{DEFAULT_ANSWER_CHARS, PropertyBudget, check_max_chars};
use super::graph_view::{EntityView, RelationView};
use super::link::{accept_name, accept_type, bare, list_schema, optional};
use super::{Call, Engine, EngineError};
use crate::domain::count::count_of;
use crate::domain::graph::{Entity, name_key};
use crate::domain::graph_traversal::{
    PathSearch, Step, Suggestion, Walk, may_be_cut, strongest, suggest,
};
use crate::domain::validate::{self, Invalid, Problems};
use crate::store::graph::{EntityQuery, Mention, StepQuery};

/// Maximum number of relations between start and neighbor.
const MAX_DEPTH: u32 = 5;
/// Maximum number of relations on a path.
const MAX_PATH: u32 = 10;
/// Maximum number of entities of an answer.
const MAX_ENTITIES: usize = 500;
/// Default number of entities of an answer.
const DEFAULT_ENTITIES: usize = 50;
/// Time limit of a traversal; then it returns its results so far.
const TIME: Duration = Duration::from_secs(1);
/// Number of entities whose relations are read at once.
const PORTION: usize = 200;
/// That number for the first read of a level.
const FIRST_PORTION: usize = 32;
/// Maximum number of relations that the search for a path reads.
const PATH_STEPS: usize = 20_000;
/// Maximum number of relations of one entity, per direction, in the search for a path and in suggestions.
const PATH_DEGREE: usize = 1_000;
/// Maximum number of neighbors for suggestions, and of the neighbors of each.
const SUGGEST_DEGREE: usize = 100;
/// Maximum number of relations of an answer.
const MAX_RELATIONS: usize = 2_000;

/// The part of the graph to return.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = bare)]
pub struct ExploreParams {
    pub mode: Option<ExploreMode>,
    /// Entity to start from; list: prefix of the names
    #[schemars(extend("x-single" = true, "x-aliases" = ["entity", "entities", "from", "start", "source", "query"]))]
    pub name: Option<String>,
    #[schemars(extend("x-aliases" = ["target", "end"]))]
    pub to: Option<String>,
    /// Type of the relations; list: of the entities
    #[serde(rename = "type")]
    #[schemars(extend("x-aliases" = ["kind"]))]
    pub kind: Option<String>,
    /// neighbours: 1 to 5; path: 1 to 10
    pub depth: Option<u32>,
    pub limit: Option<usize>,
    /// Relations that were true at this time; default now
    #[schemars(extend("x-aliases" = ["true_at"], "x-time" = true))]
    pub valid_at: Option<String>,
    /// Earlier name of valid_at.
    #[schemars(extend("x-time" = true, "x-hidden" = true))]
    pub as_of: Option<String>,
    /// list: last name of the previous page
    pub after: Option<String>,
    /// Length of the whole answer in characters, default 40000
    #[schemars(extend("x-aliases" = ["max_characters", "budget"]))]
    pub max_chars: Option<usize>,
}

/// The kind of exploration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(
    inline,
    transform = bare,
    extend("x-synonyms" = {"neighbors": "neighbours", "neighbor": "neighbours", "neighbour": "neighbours",
                           "shortest_path": "path", "suggestions": "suggest"})
)]
pub enum ExploreMode {
    /// Around an entity, breadth first.
    #[default]
    Neighbours,
    /// A shortest path between two entities.
    Path,
    /// Entities by type and beginning of the name.
    List,
    /// Links that an entity may lack.
    Suggest,
}

impl ExploreMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Neighbours => "neighbours",
            Self::Path => "path",
            Self::List => "list",
            Self::Suggest => "suggest",
        }
    }
}

/// The result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(transform = optional)]
pub struct ExploreOutput {
    /// Nearest first; a path is listed from start to end.
    #[schemars(schema_with = "list_schema")]
    pub entities: Vec<EntityView>,
    /// Relations between the entities.
    #[schemars(schema_with = "list_schema")]
    pub relations: Vec<RelationView>,
    /// Whether the answer is incomplete.
    pub partial: bool,
    /// Notes on this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// Parameters of all traversals of a call.
struct Trip<'a> {
    call: &'a Call,
    at: DateTime<Utc>,
    kind: Option<String>,
    limit: usize,
    depth: Option<u32>,
    deadline: Instant,
}

impl ExploreParams {
    /// The most characters that the printed answer may have.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.max_chars.unwrap_or(DEFAULT_ANSWER_CHARS)
    }

    /// Returns the intended mode: without an explicit mode, two entities mean a path, and none means a list.
    #[must_use]
    pub fn meant(&self) -> ExploreMode {
        let inferred = match (&self.name, &self.to) {
            (_, Some(_)) => ExploreMode::Path,
            (None, None) => ExploreMode::List,
            (Some(_), None) => ExploreMode::Neighbours,
        };
        self.mode.unwrap_or(inferred)
    }

    /// Returns arguments that the mode ignores.
    fn unread_arguments(&self) -> Vec<&'static str> {
        let mode = self.meant();
        let is_walk = matches!(mode, ExploreMode::Neighbours | ExploreMode::Path);
        let given = [
            ("to", self.to.is_some() && mode != ExploreMode::Path),
            ("depth", self.depth.is_some() && !is_walk),
            ("after", self.after.is_some() && mode != ExploreMode::List),
        ];
        given
            .into_iter()
            .filter(|(_, is_unread)| *is_unread)
            .map(|(name, _)| name)
            .collect()
    }
}

/// Validated arguments.
struct AcceptedExplore {
    at: DateTime<Utc>,
    kind: Option<String>,
    limit: usize,
    depth: Option<u32>,
}

/// Refuses names that are missing or cannot be the name of an entity.
fn refused_names(params: &ExploreParams) -> Vec<Invalid> {
    let name = |field: &str, name: Option<&String>| {
        let named = accept_name(field, name.map(String::as_str).unwrap_or_default());
        named.err().map(|invalid| invalid.depending_on(&["mode"]))
    };
    let beginning = |field: &str, text: Option<&String>| {
        validate::beginning(field, text.map_or("", String::as_str)).err()
    };
    let refused = match params.meant() {
        ExploreMode::List => [
            beginning("name", params.name.as_ref()),
            beginning("after", params.after.as_ref()),
        ],
        ExploreMode::Path => [
            name("name", params.name.as_ref()),
            name("to", params.to.as_ref()),
        ],
        ExploreMode::Neighbours | ExploreMode::Suggest => {
            [name("name", params.name.as_ref()), None]
        }
    };
    refused.into_iter().flatten().collect()
}

impl Engine {
    /// Returns neighbors, a path, a list, or suggestions.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for unknown names, and for limits and times out of range.
    pub async fn explore(
        &self,
        call: &Call,
        params: ExploreParams,
    ) -> Result<ExploreOutput, EngineError> {
        let AcceptedExplore {
            at,
            kind,
            limit,
            depth,
        } = self.accept_explore(&params)?;
        let trip = Trip {
            call,
            at,
            kind,
            limit,
            depth,
            deadline: Instant::now() + TIME,
        };
        let mut output = self.look_around(call, &trip, &params).await?;
        let unread = params.unread_arguments();
        if !unread.is_empty() {
            let mode = params.meant().as_str();
            output.notes.push(format!(
                "Ignored: {} (not used by mode {mode}).",
                unread.join(", ")
            ));
        }
        output.keep_within(call.unreserved(params.budget()), params.meant());
        if params.as_of.is_some() {
            output.notes.push(
                "as_of was read as valid_at: relations that were true then. The graph does not record what was \
                 known then."
                    .to_owned(),
            );
        }
        Ok(output)
    }

    /// Reports everything that [`Engine::explore`] would refuse before it looks up the entities.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_explore(&self, params: &ExploreParams) -> Result<(), Invalid> {
        self.accept_explore(params).map(drop)
    }

    fn accept_explore(&self, params: &ExploreParams) -> Result<AcceptedExplore, Invalid> {
        let mut problems = Problems::default();
        let limit = params.limit.unwrap_or(DEFAULT_ENTITIES);
        let limit = problems.accept(validate::whole_number("limit", limit, 1, MAX_ENTITIES));
        problems.accept(check_max_chars(params.budget()));
        let most = if params.meant() == ExploreMode::Path {
            MAX_PATH
        } else {
            MAX_DEPTH
        };
        if let Some(depth) = params.depth.filter(|depth| !(1..=most).contains(depth)) {
            let expected = format!("a number from 1 to {most}");
            problems
                .note(Invalid::new("depth", depth.to_string(), expected).depending_on(&["mode"]));
        }
        let at = problems.accept(self.accept_valid_at(params).map(Some));
        let kind = problems.accept(accept_type(params.kind.as_deref()));
        for invalid in refused_names(params) {
            problems.note(invalid);
        }
        problems.refuse_if_any()?;
        Ok(AcceptedExplore {
            at: at.unwrap_or_else(|| self.clock.now()),
            kind,
            limit,
            depth: params.depth,
        })
    }

    fn accept_valid_at(&self, params: &ExploreParams) -> Result<DateTime<Utc>, Invalid> {
        match (&params.valid_at, &params.as_of) {
            (Some(_), Some(at)) => {
                let rule = "use valid_at alone; the graph does not record what was known then";
                Err(Invalid::new("as_of", at, "no as_of beside valid_at")
                    .depending_on(&["valid_at"])
                    .explained_by(rule))
            }
            (Some(at), None) => validate::time("valid_at", at),
            (None, Some(at)) => validate::time("as_of", at),
            (None, None) => Ok(self.clock.now()),
        }
    }

    async fn look_around(
        &self,
        call: &Call,
        trip: &Trip<'_>,
        params: &ExploreParams,
    ) -> Result<ExploreOutput, EngineError> {
        if params.meant() == ExploreMode::List {
            return self
                .list(trip, params.name.as_deref(), params.after.as_deref())
                .await;
        }
        let starts = self.entity(call, "name", params.name.as_deref()).await?;
        match params.meant() {
            ExploreMode::Path => {
                let ends = self.entity(call, "to", params.to.as_deref()).await?;
                self.path(trip, &starts, &ends).await
            }
            ExploreMode::Suggest => self.suggest(trip, &starts).await,
            ExploreMode::Neighbours | ExploreMode::List => self.neighbours(trip, &starts).await,
        }
    }

    /// Returns the entities of that name: at most one in each readable project.
    async fn entity(
        &self,
        call: &Call,
        field: &str,
        name: Option<&str>,
    ) -> Result<Vec<Entity>, EngineError> {
        let name = accept_name(field, name.unwrap_or_default())?;
        let key = name_key(&name);
        let found = call
            .database(
                self.store
                    .entities(&call.scope, &EntityQuery::Keys(vec![key.clone()])),
            )
            .await?;
        if !found.is_empty() {
            return Ok(found);
        }
        let prefix: String = key.chars().take(3).collect();
        let alike = EntityQuery::List {
            kind: None,
            prefix,
            after: String::new(),
            limit: 5,
        };
        let alike = call
            .database(self.store.entities(&call.scope, &alike))
            .await?;
        let alike: Vec<String> = alike
            .iter()
            .map(|entity| format!("{:?}", entity.name))
            .collect();
        let expected = if alike.is_empty() {
            "the name of a known entity; mode list shows them".to_owned()
        } else {
            format!("the name of a known entity, such as {}", alike.join(", "))
        };
        Err(Invalid::new(field, name, expected).into())
    }

    async fn list(
        &self,
        trip: &Trip<'_>,
        prefix: Option<&str>,
        after: Option<&str>,
    ) -> Result<ExploreOutput, EngineError> {
        // Entities of one name, at most one per project, stay on one page: the next page begins after the name.
        let query = EntityQuery::List {
            kind: trip.kind.clone(),
            prefix: name_key(prefix.unwrap_or_default()),
            after: name_key(after.unwrap_or_default()),
            limit: trip.limit + trip.call.scope.readable().count(),
        };
        let mut found = trip
            .call
            .database(self.store.entities(&trip.call.scope, &query))
            .await?;
        let last = found
            .get(trip.limit - 1)
            .map(|entity| name_key(&entity.name));
        let rest = found
            .iter()
            .skip(trip.limit)
            .position(|entity| Some(name_key(&entity.name)) != last);
        let partial = rest.is_some();
        found.truncate(trip.limit + rest.unwrap_or(found.len()));
        trip.call.count_rows(found.len());
        let mut budget = PropertyBudget::new();
        for entity in &mut found {
            budget.fit(&mut entity.properties);
        }
        let mut output = ExploreOutput {
            partial,
            entities: found
                .iter()
                .map(|entity| EntityView::new(entity, trip.call.scope.project()))
                .collect(),
            notes: budget.note("entities").into_iter().collect(),
            ..ExploreOutput::default()
        };
        if found.is_empty() {
            output
                .notes
                .push("No entity has this name or type.".to_owned());
        }
        Ok(output)
    }

    async fn neighbours(
        &self,
        trip: &Trip<'_>,
        starts: &[Entity],
    ) -> Result<ExploreOutput, EngineError> {
        let starts: Vec<i64> = starts.iter().map(|entity| entity.seq).collect();
        let mut walk = Walk::new(&starts, trip.limit);
        let most = trip.limit + 1;
        for _ in 0..trip.depth.unwrap_or(1) {
            // Read in portions, so that a traversal which has reached its limit does not read the rest.
            let (level, mut done, mut portion) = (walk.frontier().to_vec(), 0, FIRST_PORTION);
            while done < level.len() && !walk.is_full() {
                let end = level.len().min(done + portion);
                let (steps, whole) = self
                    .steps(trip, &level[done..end], most, usize::MAX)
                    .await?;
                walk.absorb_part(steps, most);
                (done, portion) = (
                    if whole { end } else { usize::MAX },
                    PORTION.min(2 * portion),
                );
            }
            if done <= level.len() {
                walk.advance();
            }
            if done > level.len() || walk.is_full() {
                walk.interrupt();
            }
            if walk.frontier().is_empty() {
                break;
            }
        }
        let numbers: Vec<i64> = walk.entities().map(|(number, _)| number).collect();
        let mut relations = walk.relations().to_vec();
        if walk.is_full() {
            // The traversal has not seen all relations between the returned entities.
            let among = StepQuery {
                frontier: &numbers,
                at: trip.at,
                kind: trip.kind.as_deref(),
                most: MAX_RELATIONS + 1,
            };
            relations = trip
                .call
                .database(self.store.between(&trip.call.scope, &among))
                .await?;
        }
        let cut = relations.len() > MAX_RELATIONS;
        relations.truncate(MAX_RELATIONS);
        let parts = self.read_parts(trip.call, &numbers, &relations).await?;
        let entities = parts.entities;
        let mut output = ExploreOutput {
            relations: views_of(parts.relations),
            partial: walk.is_partial() || cut,
            notes: parts.notes,
            ..ExploreOutput::default()
        };
        for (number, distance) in walk.entities() {
            if let Some(entity) = entities.get(&number) {
                let view = EntityView::new(entity, trip.call.scope.project());
                output.entities.push(EntityView {
                    distance: Some(distance),
                    ..view
                });
            }
        }
        if output.partial {
            output.notes.push(
                "The answer is incomplete; raise limit, lower depth, or give a type.".to_owned(),
            );
        }
        Ok(output)
    }

    async fn path(
        &self,
        trip: &Trip<'_>,
        starts: &[Entity],
        ends: &[Entity],
    ) -> Result<ExploreOutput, EngineError> {
        let numbers = |entities: &[Entity]| {
            entities
                .iter()
                .map(|entity| entity.seq)
                .collect::<Vec<i64>>()
        };
        let longest = trip.depth.unwrap_or(MAX_PATH);
        let mut search = PathSearch::new(&numbers(starts), &numbers(ends), longest);
        let mut left = PATH_STEPS;
        while !search.frontier().is_empty() {
            let (steps, whole) = self
                .steps(trip, search.frontier(), PATH_DEGREE, left)
                .await?;
            left = left.saturating_sub(steps.len());
            search.absorb(steps, PATH_DEGREE);
            if !whole {
                search.interrupt();
            }
        }
        let mut output = ExploreOutput {
            partial: search.is_partial(),
            ..ExploreOutput::default()
        };
        let Some(hops) = search.found() else {
            output.notes.push(if output.partial {
                "No path was found in the part of the graph that was searched.".to_owned()
            } else {
                format!(
                    "There is no path of at most {}.",
                    count_of(longest, "relation")
                )
            });
            return Ok(output);
        };
        let numbers: Vec<i64> = hops.iter().map(|hop| hop.entity).collect();
        let relations: Vec<i64> = hops.iter().filter_map(|hop| hop.relation).collect();
        let parts = self.read_parts(trip.call, &numbers, &relations).await?;
        output.relations = views_of(parts.relations);
        output.notes.extend(parts.notes);
        let own = trip.call.scope.project();
        output.entities = numbers
            .iter()
            .filter_map(|number| parts.entities.get(number))
            .map(|entity| EntityView::new(entity, own))
            .collect();
        Ok(output)
    }

    async fn suggest(
        &self,
        trip: &Trip<'_>,
        starts: &[Entity],
    ) -> Result<ExploreOutput, EngineError> {
        let starts: Vec<i64> = starts.iter().map(|entity| entity.seq).collect();
        let (near, near_whole) = self.steps(trip, &starts, PATH_DEGREE, usize::MAX).await?;
        let mut around = strongest(&near);
        let mut partial =
            !near_whole || may_be_cut(&near, PATH_DEGREE) || around.len() > SUGGEST_DEGREE;
        around.truncate(SUGGEST_DEGREE);
        let (far, far_whole) = self
            .steps(trip, &around, SUGGEST_DEGREE, usize::MAX)
            .await?;
        let store = &self.store;
        let together = trip
            .call
            .database(store.mentioned_together(&trip.call.scope, &starts))
            .await?;
        let mut found = suggest(&starts, &near, &far, &together.entities, trip.limit + 1);
        partial |= !far_whole
            || may_be_cut(&far, SUGGEST_DEGREE)
            || together.partial
            || found.len() > trip.limit;
        found.truncate(trip.limit);
        let numbers: Vec<i64> = found.iter().map(|suggestion| suggestion.entity).collect();
        let parts = self.read_parts(trip.call, &numbers, &[]).await?;
        let own = trip.call.scope.project();
        let view = |suggestion: &Suggestion| {
            Some(EntityView {
                score: Some((suggestion.score * 1_000.0).round() / 1_000.0),
                why: Some(reason(suggestion)),
                ..EntityView::new(parts.entities.get(&suggestion.entity)?, own)
            })
        };
        let mut output = ExploreOutput {
            partial,
            entities: found.iter().filter_map(view).collect(),
            notes: parts.notes,
            ..ExploreOutput::default()
        };
        if found.is_empty() {
            output
                .notes
                .push("No other entity shares neighbours or memories with it.".to_owned());
        }
        Ok(output)
    }

    /// Returns the relations of the entities in `frontier`, and whether they are complete: the time or `most_steps` may
    /// end the read early.
    async fn steps(
        &self,
        trip: &Trip<'_>,
        frontier: &[i64],
        most: usize,
        most_steps: usize,
    ) -> Result<(Vec<Step>, bool), EngineError> {
        let mut steps = Vec::new();
        for (index, portion) in frontier.chunks(PORTION).enumerate() {
            if index > 0 && (Instant::now() > trip.deadline || steps.len() >= most_steps) {
                return Ok((steps, false));
            }
            let query = StepQuery {
                frontier: portion,
                at: trip.at,
                kind: trip.kind.as_deref(),
                most,
            };
            steps.extend(
                trip.call
                    .database(self.store.steps(&trip.call.scope, &query))
                    .await?,
            );
        }
        let whole = Instant::now() <= trip.deadline && steps.len() <= most_steps;
        Ok((steps, whole))
    }

    /// Describes entities by name, with notes on omissions: the entity, its strongest relations, and the memories that
    /// mention it, from the position `before` on if it is given.
    pub(super) async fn describe_entities(
        &self,
        call: &Call,
        entities: &[Entity],
        before: Option<i64>,
        most: usize,
    ) -> Result<(Vec<EntityDetail>, Vec<String>), EngineError> {
        let now = self.clock.now();
        let numbers: Vec<i64> = entities.iter().map(|entity| entity.seq).collect();
        let query = StepQuery {
            frontier: &numbers,
            at: now,
            kind: None,
            most,
        };
        let steps = call.database(self.store.steps(&call.scope, &query)).await?;
        let mut relations: Vec<i64> = steps.iter().map(|step| step.relation).collect();
        relations.sort_unstable();
        relations.dedup();
        let others: BTreeSet<i64> = steps.iter().map(|step| step.other).collect();
        let mut ends = numbers.clone();
        ends.extend(others.iter().filter(|end| !numbers.contains(end)));
        let parts = self.read_parts(call, &ends, &relations).await?;
        let views: HashMap<i64, RelationView> = parts.relations.into_iter().collect();
        // One more memory shows whether there is another page.
        let mentions = call
            .database(
                self.store
                    .mentions(&call.scope, &numbers, now, before, most + 1),
            )
            .await?;
        let sizes = call
            .database(self.store.entity_sizes(&call.scope, &numbers, now))
            .await?;
        let detail = |entity: &Entity| {
            let mentioning: Vec<&Mention> = mentions
                .iter()
                .filter(|mention| mention.entity == entity.seq)
                .collect();
            let size = sizes.iter().find(|size| size.entity == entity.seq);
            let of_it = steps.iter().filter(|step| step.at == entity.seq);
            EntityDetail {
                entity: EntityView::new(
                    parts.entities.get(&entity.seq).unwrap_or(entity),
                    call.scope.project(),
                ),
                relations: of_it
                    .filter_map(|step| views.get(&step.relation).cloned())
                    .collect(),
                relation_count: size.map_or(0, |size| size.relations.unsigned_abs()),
                ended_relations: size.map_or(0, |size| size.ended.unsigned_abs()),
                memories: mentioning
                    .iter()
                    .take(most)
                    .map(|mention| mention.id.to_string())
                    .collect(),
                memory_count: size.map_or(0, |size| size.memories.unsigned_abs()),
                last: (mentioning.len() > most).then(|| mentioning[most - 1].seq),
            }
        };
        Ok((entities.iter().map(detail).collect(), parts.notes))
    }
}

/// An entity with its relations and memories.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct EntityDetail {
    /// The entity.
    #[serde(flatten)]
    pub entity: EntityView,
    /// Its relations, the strongest.
    #[schemars(skip)]
    pub relations: Vec<RelationView>,
    /// How many relations hold; counted up to 1000.
    #[schemars(skip)]
    pub relation_count: u64,
    /// Number of ended relations, which are not listed; counted up to 1000.
    #[schemars(skip)]
    pub ended_relations: u64,
    /// Ids of the newest memories that mention it.
    #[schemars(skip)]
    pub memories: Vec<String>,
    /// How many memories mention it; counted up to 1000.
    #[schemars(skip)]
    pub memory_count: u64,
    /// Position of the last memory in the list, if there are more.
    #[serde(skip)]
    #[schemars(skip)]
    pub last: Option<i64>,
}

fn views_of(relations: Vec<(i64, RelationView)>) -> Vec<RelationView> {
    relations.into_iter().map(|(_, view)| view).collect()
}

fn reason(suggestion: &Suggestion) -> String {
    let count = |number: u64, one: &str, many: &str| match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let neighbours = count(
        suggestion.neighbours as u64,
        "shared neighbour",
        "shared neighbours",
    );
    let memories = count(
        suggestion.memories,
        "memory mentions both",
        "memories mention both",
    );
    neighbours
        .into_iter()
        .chain(memories)
        .collect::<Vec<_>>()
        .join(", ")
}
