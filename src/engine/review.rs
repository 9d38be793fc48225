//! Reviews: a client proposes and judges, and a person decides. No tool can decide: only the command line calls
//! [`Engine::administer`].

use std::collections::BTreeSet;

use chrono::Days;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::answer_size::{
    DEFAULT_ANSWER_CHARS, Shorten, check_max_chars, fit_parts, measure, room_for_parts,
    shorten_text, shorten_texts, shorten_value,
};
use super::candidates::PairView;
use super::link::accept_name;
use super::reference::check_id;
use super::view::timestamp;
use super::{Call, Engine, EngineError, MemoryView};
use crate::domain::validate::{self, Invalid, Problems};
use crate::domain::{Decision, Judgement, Memory, Proposal, Review};
use crate::store::{Decide, NewReview, Referable, ReviewQuery, StoreError};

/// Default number of reviews in a list.
const DEFAULT_LIMIT: usize = 20;
/// Maximum number of reviews of a report whose memories are included.
const MOST_SHOWN: usize = 100;

/// The action and its arguments.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewParams {
    /// candidates: find likely duplicates and contradictions. judge: have keep replace replace. list: requests awaiting the owner
    pub action: ReviewAction,
    /// judge: ID of the memory that stays valid; default the newer
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["keep_id"], "x-single" = true))]
    pub keep: Option<String>,
    /// judge: ID of the memory that it replaces
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["replace_id", "replaced"], "x-single" = true))]
    pub replace: Option<String>,
    /// list, candidates: ID of a memory to narrow them to.
    #[serde(default)]
    #[schemars(description = "")]
    pub id: Option<String>,
    /// judge: with `id` and without `keep` and `replace`, the other memory of the pair; the newer one is kept.
    #[serde(default)]
    #[schemars(description = "", extend("x-hidden" = true, "x-single" = true))]
    pub other: Option<String>,
    /// judge: how the two memories are related.
    #[serde(default)]
    #[schemars(with = "Judgement", description = "")]
    pub judgement: Option<Judgement>,
    /// judge: why.
    #[serde(default)]
    #[schemars(description = "")]
    pub reason: Option<String>,
    /// candidates: only memories that mention this entity, however different their words are.
    #[serde(default)]
    #[schemars(description = "")]
    pub entity: Option<String>,
    /// candidates: only memories of this session.
    #[serde(default)]
    #[schemars(description = "")]
    pub session: Option<String>,
    /// Length of the whole answer in characters, default 40000
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["max_characters", "budget"]))]
    pub max_chars: Option<usize>,
}

impl ReviewParams {
    /// The most characters that the printed answer may have.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.max_chars.unwrap_or(DEFAULT_ANSWER_CHARS)
    }

    /// Creates an action without further arguments.
    #[must_use]
    pub fn new(action: ReviewAction) -> Self {
        Self {
            action,
            keep: None,
            replace: None,
            id: None,
            other: None,
            judgement: None,
            reason: None,
            entity: None,
            session: None,
            max_chars: None,
        }
    }
}

/// The actions of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, extend("x-synonyms" = {"candidate": "candidates", "find": "candidates", "search": "candidates", "check": "candidates", "duplicates": "candidates", "judgement": "judge", "judgment": "judge"}))]
pub enum ReviewAction {
    /// Lists requests that await the owner.
    List,
    /// Finds similar memories.
    Candidates,
    /// Decides how two memories are related.
    Judge,
}

/// Reviews, or pairs of similar memories.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct ReviewOutput {
    /// Reviews, newest first.
    #[schemars(with = "Vec<Value>")]
    pub reviews: Vec<ReviewView>,
    /// Pairs, most similar first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub candidates: Vec<PairView>,
    /// Remarks on this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// A review as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewView {
    pub id: String,
    /// The memory to be changed.
    pub memory: String,
    /// The proposed change.
    pub action: String,
    /// Details of the change: the patch, or the replacing memory.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub change: Value,
    /// open, expired, approved, rejected, dismissed, undone.
    pub state: String,
    /// The proposer.
    pub by: String,
    pub at: String,
    /// When the review expires.
    pub until: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_reason: Option<String>,
}

impl From<Review> for ReviewView {
    fn from(review: Review) -> Self {
        let mut change = serde_json::to_value(&review.proposal).expect("a proposal is plain data");
        let change = match change.as_object_mut() {
            Some(fields) if fields.len() > 1 => {
                fields.remove("action");
                fields
                    .remove("patch")
                    .unwrap_or_else(|| Value::Object(std::mem::take(fields)))
            }
            _ => Value::Null,
        };
        Self {
            id: review.id.to_string(),
            memory: review.memory.to_string(),
            action: review.proposal.action().to_owned(),
            change,
            state: review.state.as_str().to_owned(),
            by: review.actor,
            at: timestamp(review.created_at),
            until: timestamp(review.expires_at),
            reason: review.reason,
            decided_by: review.decided_by,
            decided_at: review.decided_at.map(timestamp),
            decision_reason: review.decision_reason,
        }
    }
}

impl Shorten for ReviewView {
    fn shorten(&mut self, room: usize) {
        shorten_value(&mut self.change, room);
        let left = room.saturating_sub(measure(&self.change));
        let reasons = [&mut self.reason, &mut self.decision_reason];
        shorten_texts(reasons.into_iter().flatten(), left);
    }
}

impl Shorten for PairView {
    fn shorten(&mut self, room: usize) {
        for memory in [&mut self.keep, &mut self.replace] {
            shorten_text(&mut memory.content, room / 2);
        }
    }
}

impl ReviewOutput {
    /// Keeps as many reviews and pairs as fit into `max_chars` characters, and notes how to read the others.
    fn keep_within(&mut self, max_chars: usize) {
        let notes: usize = self.notes.iter().map(measure).sum();
        let room = room_for_parts(max_chars).saturating_sub(notes);
        // An answer has either reviews or pairs.
        let reviews = fit_parts(&mut self.reviews, room);
        let pairs = fit_parts(&mut self.candidates, room);
        for (fit, what) in [(reviews, "reviews"), (pairs, "pairs")] {
            let note = fit.note_left_out(what, max_chars);
            self.notes.extend(note.or(fit.note_shortened()));
        }
    }
}

/// A command of a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum ReviewCommand {
    /// Lists open reviews, or all.
    List {
        /// Whether to list all reviews.
        all: bool,
        /// Maximum number of reviews.
        limit: usize,
    },
    /// Shows a review with the memories that it concerns.
    Show { id: String },
    Decide {
        id: String,
        /// The decision on the review.
        decision: Decision,
        reason: Option<String>,
    },
}

/// The answer to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewReport {
    pub reviews: Vec<ReviewView>,
    /// The current memories of the first 100 reviews.
    pub memories: Vec<Value>,
}

impl Engine {
    /// Reports everything that [`Engine::review`] would refuse before it looks up the memories.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_review(&self, params: &ReviewParams) -> Result<(), Invalid> {
        params.check()
    }

    /// Lists reviews, finds similar memories, or records a judgment.
    ///
    /// # Errors
    /// [`EngineError::Invalid`], not found, too many reviews.
    pub async fn review(
        &self,
        call: &Call,
        mut params: ReviewParams,
    ) -> Result<ReviewOutput, EngineError> {
        let notes = self.screen_secrets(&mut params)?;
        params.check()?;
        let max_chars = call.unreserved(params.budget());
        let mut output = self.carry_out_review(call, params).await?;
        output.notes.splice(0..0, notes);
        output.keep_within(max_chars);
        Ok(output)
    }

    async fn carry_out_review(
        &self,
        call: &Call,
        params: ReviewParams,
    ) -> Result<ReviewOutput, EngineError> {
        match params.action {
            ReviewAction::List => {
                let now = self.clock.now();
                let id = self.named_memory(call, "id", params.id.as_deref()).await?;
                let query = id.map_or(ReviewQuery::Open(now), |id| ReviewQuery::About(vec![id]));
                let reviews = self.list_reviews(call, &query, DEFAULT_LIMIT).await?;
                Ok(ReviewOutput {
                    reviews,
                    ..ReviewOutput::default()
                })
            }
            ReviewAction::Candidates => {
                let id = self.named_memory(call, "id", params.id.as_deref()).await?;
                let candidates = self
                    .candidates(call, id, params.entity.as_deref(), params.session)
                    .await?;
                Ok(ReviewOutput {
                    candidates,
                    ..ReviewOutput::default()
                })
            }
            ReviewAction::Judge => self.judge(call, params).await,
        }
    }

    /// Lists reviews as callers see them.
    pub(super) async fn list_reviews(
        &self,
        call: &Call,
        query: &ReviewQuery,
        limit: usize,
    ) -> Result<Vec<ReviewView>, EngineError> {
        let now = self.clock.now();
        let reviews = call
            .database(self.store.reviews(&call.scope, query, limit))
            .await?;
        call.count_rows(reviews.len());
        Ok(reviews
            .into_iter()
            .map(|review| review.at(now).into())
            .collect())
    }

    /// Returns the memory that an optional argument names.
    async fn named_memory(
        &self,
        call: &Call,
        field: &str,
        id: Option<&str>,
    ) -> Result<Option<Uuid>, EngineError> {
        match id {
            Some(id) => Ok(Some(
                self.resolve_one(call, Referable::Memory, field, id).await?,
            )),
            None => Ok(None),
        }
    }

    /// Returns the two memories of a judgment, which may be named by short IDs.
    async fn pair_to_judge(&self, call: &Call, params: &ReviewParams) -> Result<Pair, EngineError> {
        let keep = self
            .named_memory(call, "keep", params.keep.as_deref())
            .await?;
        let replace = self
            .named_memory(call, "replace", params.replace.as_deref())
            .await?;
        let id = self.named_memory(call, "id", params.id.as_deref()).await?;
        let other = self
            .named_memory(call, "other", params.other.as_deref())
            .await?;
        Ok(Pair::of((keep, replace), [id, other])?)
    }

    /// Records how two memories are related. A replacement of an unprotected memory takes effect at once, like
    /// `supersedes`; one of a protected memory awaits its owner.
    async fn judge(&self, call: &Call, params: ReviewParams) -> Result<ReviewOutput, EngineError> {
        let pair = self.pair_to_judge(call, &params).await?;
        let judgement = params.judgement.ok_or_else(|| {
            Invalid::new("judgement", "", "duplicate, contradiction or unrelated")
        })?;
        let (fields, ids) = pair.in_order();
        let first = self.own(call, fields.0, ids.0).await?;
        let second = self.own(call, fields.1, ids.1).await?;
        if first.id == second.id {
            return Err(Invalid::new(
                fields.1,
                second.id.to_string(),
                "the ID of another memory than the first one",
            )
            .into());
        }
        if judgement == Judgement::Unrelated {
            let proposal = Proposal::Nothing { other: first.id };
            let reviews = self
                .propose(call, vec![(second.id, proposal)], params.reason)
                .await?;
            return Ok(ReviewOutput {
                reviews,
                ..ReviewOutput::default()
            });
        }
        let age = |memory: &Memory| (memory.occurred_at, memory.seq);
        let (keep, replace) = match pair {
            Pair::Unordered(..) if age(&first) < age(&second) => (second, first),
            _ => (first, second),
        };
        let mut notes = pair.note_direction(&keep, &replace);
        let proposal = Proposal::Supersede {
            by: keep.id,
            judgement,
        };
        // Applies the rule of the approval in advance, so that a proposal can be approved.
        if !proposal.supersede(&mut replace.clone(), &keep, self.clock.now())? {
            notes.push(format!(
                "Nothing changed: memory {} was already superseded by {}.",
                replace.id, keep.id
            ));
            return Ok(ReviewOutput {
                notes,
                ..ReviewOutput::default()
            });
        }
        let review = self.new_review(replace.id, proposal, params.reason);
        let settled = call
            .database(self.store.settle(&call.scope, &review))
            .await?;
        Ok(ReviewOutput {
            reviews: vec![settled.into()],
            notes,
            ..ReviewOutput::default()
        })
    }

    /// Returns a live memory of the caller's own project.
    pub(super) async fn own(
        &self,
        call: &Call,
        field: &'static str,
        id: Uuid,
    ) -> Result<Memory, EngineError> {
        let found = call
            .database(self.store.get(&call.scope, &[id], false))
            .await?
            .pop();
        let found = found.filter(|memory| memory.project == call.scope.project());
        Ok(found.ok_or(StoreError::NotFound {
            field,
            ids: vec![id],
        })?)
    }

    /// Asks the owner of protected memories for approval.
    pub(super) async fn propose(
        &self,
        call: &Call,
        proposals: Vec<(Uuid, Proposal)>,
        reason: Option<String>,
    ) -> Result<Vec<ReviewView>, EngineError> {
        let review = |(memory, proposal)| self.new_review(memory, proposal, reason.clone());
        let reviews: Vec<NewReview> = proposals.into_iter().map(review).collect();
        let stored = call
            .database(self.store.propose(&call.scope, &reviews))
            .await?;
        Ok(stored.into_iter().map(ReviewView::from).collect())
    }

    fn new_review(&self, memory: Uuid, proposal: Proposal, reason: Option<String>) -> NewReview {
        let now = self.clock.now();
        let expires_at = now
            .checked_add_days(Days::new(self.review_days.into()))
            .unwrap_or(now);
        NewReview {
            id: self.clock.new_id(),
            memory,
            proposal,
            reason,
            now,
            expires_at,
        }
    }

    /// Lists or decides reviews of the call's project on behalf of a person.
    ///
    /// # Errors
    /// Not found, already decided, and any error of the change itself.
    pub async fn administer(
        &self,
        call: &Call,
        command: ReviewCommand,
    ) -> Result<ReviewReport, EngineError> {
        let now = self.clock.now();
        let reviews = match command {
            ReviewCommand::List { all, limit } => {
                let query = if all {
                    ReviewQuery::All
                } else {
                    ReviewQuery::Open(now)
                };
                call.database(self.store.reviews(&call.scope, &query, limit))
                    .await?
            }
            ReviewCommand::Show { id } => {
                let id = self.resolve_one(call, Referable::Review, "id", &id).await?;
                let reviews = call
                    .database(self.store.reviews(&call.scope, &ReviewQuery::One(id), 1))
                    .await?;
                if reviews.is_empty() {
                    return Err(StoreError::NotFound {
                        field: "id",
                        ids: vec![id],
                    }
                    .into());
                }
                reviews
            }
            ReviewCommand::Decide {
                id,
                decision,
                mut reason,
            } => {
                self.screen_reason(&mut reason)?;
                let id = self.resolve_one(call, Referable::Review, "id", &id).await?;
                if let Some(reason) = &reason {
                    validate::text("reason", reason, validate::MAX_REASON_BYTES)?;
                }
                let command = Decide {
                    id,
                    decision,
                    reason,
                    now,
                };
                vec![
                    call.database(self.store.decide(&call.scope, &command))
                        .await?,
                ]
            }
        };
        let shown = reviews.iter().take(MOST_SHOWN);
        let ids = shown.flat_map(|review| [Some(review.memory), review.proposal.other()]);
        let ids: BTreeSet<Uuid> = ids.flatten().collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let found = call
            .database(self.store.get(&call.scope, &ids, true))
            .await?;
        let view = |memory| serde_json::to_value(MemoryView::new(memory, call.scope.project()));
        let memories = found
            .into_iter()
            .filter_map(|memory| view(memory).ok())
            .collect();
        let reviews = reviews
            .into_iter()
            .map(|review| review.at(now).into())
            .collect();
        Ok(ReviewReport { reviews, memories })
    }
}

fn keep_missing() -> Invalid {
    Invalid::new(
        "keep",
        "",
        "the ID of the memory that stays valid; pass the ID of the other one as replace",
    )
}

fn replace_missing() -> Invalid {
    Invalid::new("replace", "", "the ID of the memory that keep replaces")
}

/// The two memories of a judgment.
#[derive(Debug, Clone, Copy)]
enum Pair {
    /// The first is kept, the second replaced.
    Ordered(Uuid, Uuid),
    /// The newer is kept.
    Unordered(Uuid, Uuid),
}

impl Pair {
    /// `keep` and `replace` determine the direction, and so does one of them with `id` or `other`; `id` and `other`
    /// alone do not.
    fn of(
        (keep, replace): (Option<Uuid>, Option<Uuid>),
        others: [Option<Uuid>; 2],
    ) -> Result<Self, Invalid> {
        let mut rest: Vec<Uuid> = others.into_iter().flatten().collect();
        rest.retain(|id| Some(*id) != keep && Some(*id) != replace);
        match (keep, replace, rest.as_slice()) {
            (Some(keep), Some(replace), []) => Ok(Self::Ordered(keep, replace)),
            (Some(keep), None, [replace]) => Ok(Self::Ordered(keep, *replace)),
            (None, Some(replace), [keep]) => Ok(Self::Ordered(*keep, replace)),
            (None, None, [id, other]) => Ok(Self::Unordered(*id, *other)),
            (Some(_), Some(_), [id, ..]) => Err(Invalid::new(
                "id",
                id.to_string(),
                "no id or other beside keep and replace",
            )
            .explained_by("`id` and `other` are not allowed beside `keep` and `replace`")),
            (Some(_), None, _) => Err(replace_missing()),
            _ => Err(keep_missing()),
        }
    }

    /// Returns both IDs with their arguments.
    fn in_order(self) -> ((&'static str, &'static str), (Uuid, Uuid)) {
        match self {
            Self::Ordered(keep, replace) => (("keep", "replace"), (keep, replace)),
            Self::Unordered(id, other) => (("id", "other"), (id, other)),
        }
    }

    fn note_direction(self, keep: &Memory, replace: &Memory) -> Vec<String> {
        match self {
            Self::Ordered(..) => Vec::new(),
            Self::Unordered(..) => vec![format!(
                "id and other do not say which memory to keep, so the newer one, {} ({}), replaces {} ({}). Use keep and \
                 replace to choose.",
                keep.id,
                timestamp(keep.occurred_at),
                replace.id,
                timestamp(replace.occurred_at),
            )],
        }
    }
}

impl ReviewParams {
    /// Refuses every error that is detectable without the database.
    fn check(&self) -> Result<(), Invalid> {
        let mut problems = Problems::default();
        problems.accept(check_max_chars(self.budget()));
        for (field, id) in [
            ("id", &self.id),
            ("keep", &self.keep),
            ("replace", &self.replace),
            ("other", &self.other),
        ] {
            problems.check(
                id.as_deref()
                    .map_or(Ok(()), |id| check_id(Referable::Memory, field, id)),
            );
        }
        problems.check(validate::optional_text(
            "reason",
            self.reason.as_deref(),
            validate::MAX_REASON_BYTES,
        ));
        problems.check(validate::optional_text(
            "session",
            self.session.as_deref(),
            validate::MAX_NAME_BYTES,
        ));
        if let Some(entity) = &self.entity {
            problems.accept(accept_name("entity", entity));
        }
        self.note_arguments_of_other_actions(&mut problems);
        if self.action == ReviewAction::Judge {
            self.note_missing_arguments(&mut problems);
        }
        problems.refuse_if_any()
    }

    /// Records the missing arguments of a judgment. [`Pair::of`] determines the order of the memories.
    fn note_missing_arguments(&self, problems: &mut Problems) {
        if self.judgement.is_none() {
            let expected = "duplicate, contradiction or unrelated";
            problems.note(Invalid::new("judgement", "", expected).depending_on(&["action"]));
        }
        let others = [&self.id, &self.other]
            .into_iter()
            .filter(|id| id.is_some())
            .count();
        let missing = match (&self.keep, &self.replace, others) {
            (Some(_), None, 0) => replace_missing(),
            (None, None, 0 | 1) | (None, Some(_), 0) => keep_missing(),
            _ => return,
        };
        problems.note(missing.depending_on(&["action", "keep", "replace", "id", "other"]));
    }

    fn note_arguments_of_other_actions(&self, problems: &mut Problems) {
        let only_judge = [
            ("keep", self.keep.is_some()),
            ("replace", self.replace.is_some()),
            ("other", self.other.is_some()),
            ("judgement", self.judgement.is_some()),
        ];
        for (field, _) in only_judge
            .into_iter()
            .filter(|(_, given)| *given && self.action != ReviewAction::Judge)
        {
            let rule = format!("`{field}` is only allowed with action `judge`");
            let refused = Invalid::new(field, field, "action judge");
            problems.note(refused.depending_on(&["action"]).explained_by(rule));
        }
        let narrows = self.action == ReviewAction::Candidates && self.id.is_none();
        for (field, given) in [
            ("entity", self.entity.is_some()),
            ("session", self.session.is_some()),
        ] {
            if given && !narrows {
                let rule =
                    format!("`{field}` is only allowed with action `candidates` and without `id`");
                let refused = Invalid::new(field, field, "action candidates without id");
                problems.note(refused.depending_on(&["action", "id"]).explained_by(rule));
            }
        }
    }
}
