//! Changes a memory.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use uuid::Uuid;

use super::entity_note::note_recognised;
use super::get::current_successor;
use super::reference::{check_id, check_ids};
use super::view::timestamp;
use super::{Call, Engine, EngineError, MemoryView, ReviewView};
use crate::domain::memory::Patch;
use crate::domain::validate::{self, Invalid, Problems};
use crate::domain::{Memory, Proposal};
use crate::store::{Referable, StoreError, Update};

/// Changes to a memory; absent fields are kept.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateParams {
    /// ID of the memory
    #[schemars(extend("x-plain" = true, "x-aliases" = ["ids", "memory_id"], "x-single" = true))]
    pub id: String,
    /// The version you read; the update fails if it has changed since
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-aliases" = ["version"]))]
    pub expected_version: Option<i64>,
    /// New text
    #[serde(default)]
    #[schemars(extend("x-plain" = true, "x-aliases" = ["text", "new_content", "new_text"]))]
    pub content: Option<String>,
    /// Replaces all tags; [] removes them
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["tag", "labels"], "x-split" = true))]
    pub tags: Option<Vec<String>>,
    /// 0 to 1
    #[serde(default)]
    #[schemars(range(min = 0, max = 1), extend("x-plain" = true))]
    pub importance: Option<f64>,
    /// Merged; null removes a key
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    /// RFC 3339 or date
    #[serde(default)]
    #[schemars(extend("x-plain" = true, "x-time" = true))]
    pub occurred_at: Option<String>,
    /// RFC 3339 or date; "never" removes it
    #[serde(default, deserialize_with = "present")]
    #[schemars(extend("x-time" = ["never"]))]
    pub valid_until: Option<Option<String>>,
    /// Episodes only
    #[serde(default)]
    #[schemars(extend("x-plain" = true))]
    pub situation: Option<String>,
    /// Episodes only
    #[serde(default)]
    #[schemars(range(min = -1, max = 1), extend("x-plain" = true))]
    pub outcome: Option<f64>,
    /// Episodes only
    #[serde(default)]
    #[schemars(extend("x-plain" = true))]
    pub lesson: Option<String>,
    /// Whether the memory was useful
    #[serde(default)]
    #[schemars(extend("x-plain" = true))]
    pub feedback: Option<Feedback>,
    /// true: later changes need the owner's approval
    #[serde(default)]
    pub protected: Option<bool>,
    /// IDs of source memories to add
    #[serde(default)]
    #[schemars(extend("x-split" = "ids"))]
    pub sources: Option<Vec<String>>,
    /// Recorded in the history
    #[serde(default)]
    pub reason: Option<String>,
}

/// A vote on a recalled memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline, extend("x-synonyms" = {"useful": "helpful", "unhelpful": "not_helpful", "useless": "not_helpful", "positive": "helpful", "up": "helpful", "thumbs_up": "helpful", "true": "helpful", "yes": "helpful", "negative": "not_helpful", "down": "not_helpful", "thumbs_down": "not_helpful", "false": "not_helpful", "no": "not_helpful"}))]
pub enum Feedback {
    /// It helped.
    Helpful,
    /// It did not help.
    NotHelpful,
}

/// The memory after the update.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct UpdateOutput {
    /// The memory after the update.
    pub memory: MemoryView,
    /// Names of the fields that changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// The request to the owner, if the memory is protected and did not change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub review: Option<ReviewView>,
    /// Remarks on this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// Distinguishes an absent field from null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Engine {
    /// Patches a memory. The history keeps the earlier values, and changed text is found at once. A protected memory
    /// does not change: a review asks its owner, and only a vote is counted.
    ///
    /// # Errors
    /// [`EngineError::Invalid`], not found, or a version conflict that names the current version.
    pub async fn update(
        &self,
        call: &Call,
        mut params: UpdateParams,
    ) -> Result<UpdateOutput, EngineError> {
        let now = self.clock.now();
        self.check_update(params.clone())?;
        let mut notes = self.screen_secrets(&mut params)?;
        let id = self
            .resolve_one(call, Referable::Memory, "id", &params.id)
            .await?;
        let sources = self
            .resolve_ids(
                call,
                "sources",
                params.sources.as_deref().unwrap_or_default(),
            )
            .await?;
        let (expected_version, reason) = (params.expected_version, params.reason.clone());
        let mut patch = accept_patch(params, sources, now)?;
        call.count_rows(1);
        let before = call
            .database(self.store.get(&call.scope, &[id], false))
            .await?
            .pop();
        let mut recognised = BTreeSet::new();
        if let (Some(content), Some(before)) = (&patch.content, &before) {
            (patch.mentions, recognised) = self
                .recognise_in_change(call, &before.content, content)
                .await?;
        }
        let command = Update {
            id,
            expected_version,
            patch: patch.clone(),
            reason,
            now,
        };
        let (memory, review) = match call
            .database(self.store.update(&call.scope, command.clone()))
            .await
        {
            Ok(memory) => (memory, None),
            Err(StoreError::Protected { .. }) => self.propose_update(call, command).await?,
            Err(error) => return Err(error.into()),
        };
        let changed = before
            .map(|before| changed_fields(&before, &memory))
            .unwrap_or_default();
        if patch.changes_memory() && changed.is_empty() && review.is_none() {
            notes.push("Nothing changed: the memory already has these values.".to_owned());
        }
        if review.is_none() {
            notes.extend(note_recognised(&recognised));
        }
        notes.extend(
            patch
                .helpful
                .map(|helpful| confirm_feedback(helpful, &memory)),
        );
        notes.extend(self.note_successor(call, &memory).await);
        notes.extend(
            memory
                .valid_until
                .filter(|until| *until <= now && patch.valid_until.is_some())
                .map(note_expired),
        );
        Ok(UpdateOutput {
            memory: MemoryView::new(memory, call.scope.project()),
            changed,
            review,
            notes,
        })
    }

    /// Reports everything that [`Engine::update`] would refuse before it looks up the memory.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_update(&self, mut params: UpdateParams) -> Result<(), Invalid> {
        let mut problems = Problems::default();
        problems.check(self.screen_secrets(&mut params).map(drop));
        problems.check(check_id(Referable::Memory, "id", &params.id));
        problems.check(check_ids(
            "sources",
            params.sources.as_deref().unwrap_or_default(),
        ));
        // The patch depends only on whether there are sources.
        let sources = params
            .sources
            .iter()
            .flatten()
            .map(|_| Uuid::nil())
            .collect();
        problems.check(accept_patch(params, sources, self.clock.now()).map(drop));
        problems.refuse_if_any()
    }

    /// Asks the owner of a protected memory; only a vote is counted.
    async fn propose_update(
        &self,
        call: &Call,
        command: Update,
    ) -> Result<(Memory, Option<ReviewView>), EngineError> {
        let mut patch = command.patch.clone();
        let vote = Patch {
            helpful: patch.helpful.take(),
            ..Patch::default()
        };
        let proposal = Proposal::Update {
            patch: Box::new(patch),
        };
        let reviews = self
            .propose(call, vec![(command.id, proposal)], command.reason.clone())
            .await?;
        // Without a vote this changes nothing and reads the memory.
        let memory = call
            .database(self.store.update(
                &call.scope,
                Update {
                    patch: vote,
                    ..command
                },
            ))
            .await?;
        Ok((memory, reviews.into_iter().next()))
    }

    /// Returns a note on the memory that replaced this one. The update is done, so that a failure here only omits the
    /// note.
    async fn note_successor(&self, call: &Call, memory: &Memory) -> Option<String> {
        let by = memory.superseded_by?;
        let links = call
            .database(self.store.chains(&call.scope, &[memory.id]))
            .await
            .unwrap_or_default();
        let current = current_successor(memory.id, &links).unwrap_or_else(|| by.to_string());
        Some(format!(
            "This memory is outdated: it was superseded by {by}. To change what is true now, update {current} instead."
        ))
    }
}

/// The arguments of which at least one must be given.
const CHANGEABLE: [&str; 12] = [
    "content",
    "tags",
    "importance",
    "metadata",
    "occurred_at",
    "valid_until",
    "situation",
    "outcome",
    "lesson",
    "feedback",
    "protected",
    "sources",
];

/// Validates the arguments and converts them to a patch that changes something.
fn accept_patch(
    params: UpdateParams,
    sources: Vec<Uuid>,
    now: DateTime<Utc>,
) -> Result<Patch, Invalid> {
    let mut problems = Problems::default();
    if let Some(version) = params.expected_version.filter(|version| *version < 1) {
        problems.note(Invalid::new(
            "expected_version",
            version.to_string(),
            "the version of the memory, 1 or more",
        ));
    }
    for (field, text, most) in [
        ("content", &params.content, validate::MAX_CONTENT_BYTES),
        ("situation", &params.situation, validate::MAX_EPISODE_BYTES),
        ("lesson", &params.lesson, validate::MAX_EPISODE_BYTES),
        ("reason", &params.reason, validate::MAX_REASON_BYTES),
    ] {
        let text = text.as_deref();
        problems.check(text.map_or(Ok(()), |text| validate::new_text(field, text, most)));
    }
    if let Some(metadata) = &params.metadata {
        problems.accept(validate::metadata("metadata", metadata));
    }
    let within = |field: &str, value: Option<f64>, low: f64| {
        value
            .map(|value| validate::number(field, value, low, 1.0))
            .transpose()
    };
    let patch = Patch {
        tags: problems.accept(
            params
                .tags
                .map(|tags| validate::new_tags("tags", &tags))
                .transpose(),
        ),
        importance: problems.accept(within("importance", params.importance, 0.0)),
        metadata: params.metadata,
        occurred_at: problems.accept(
            params
                .occurred_at
                .map(|at| validate::past_time("occurred_at", &at, now))
                .transpose(),
        ),
        // A string, because some providers refuse a schema that also allows null.
        valid_until: params
            .valid_until
            .map(|until| problems.accept(validate::end_time("valid_until", until.as_deref()))),
        outcome: problems.accept(within("outcome", params.outcome, -1.0)),
        content: params.content,
        situation: params.situation,
        lesson: params.lesson,
        helpful: params.feedback.map(|vote| vote == Feedback::Helpful),
        protected: params.protected,
        sources: Some(sources).filter(|ids| !ids.is_empty()),
        mentions: Vec::new(),
    };
    problems.refuse_if_any()?;
    if patch == Patch::default() {
        let nothing = Invalid::new("update", "{}", "at least one field to change, or feedback");
        return Err(nothing.depending_on(&CHANGEABLE));
    }
    Ok(patch)
}

/// Returns the names of the fields that differ between two versions.
fn changed_fields(before: &Memory, after: &Memory) -> Vec<String> {
    let (before, after) = (before.snapshot(), after.snapshot());
    let fields = after.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| before.get(*name) != Some(*value))
        .map(|(name, _)| name.clone())
        .collect()
}

fn confirm_feedback(helpful: bool, memory: &Memory) -> String {
    let vote = if helpful { "helpful" } else { "not helpful" };
    format!(
        "Feedback recorded: {vote} ({} helpful, {} not helpful in total).",
        memory.helpful, memory.not_helpful
    )
}

/// Returns a note on a memory that recall leaves out from the start, which is most likely a mistake.
pub(super) fn note_expired(until: DateTime<Utc>) -> String {
    format!(
        "valid_until {} is in the past, so recall finds this memory only with include_outdated.",
        timestamp(until)
    )
}
