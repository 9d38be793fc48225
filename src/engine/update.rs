//! Changing a memory.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{Call, Engine, EngineError, MemoryView, ReviewView};
use crate::domain::Proposal;
use crate::domain::memory::Patch;
use crate::domain::validate::{self, Invalid};
use crate::store::{Referable, StoreError, Update};

/// What to change; absent fields stay.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateParams {
    /// Id.
    #[schemars(extend("x-plain" = true, "x-aliases" = ["ids", "memory_id"], "x-single" = true))]
    pub id: String,
    /// The version you read; refused if it changed.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-aliases" = ["version"]))]
    pub expected_version: Option<i64>,
    /// New text.
    #[serde(default)]
    #[schemars(extend("x-plain" = true, "x-aliases" = ["text"]))]
    pub content: Option<String>,
    /// Replace all.
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["tag", "labels"], "x-split" = true))]
    pub tags: Option<Vec<String>>,
    /// 0 to 1.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1), extend("x-plain" = true))]
    pub importance: Option<f64>,
    /// Merged; null removes a key.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    /// RFC 3339 or date.
    #[serde(default)]
    #[schemars(extend("x-plain" = true, "x-time" = true))]
    pub occurred_at: Option<String>,
    /// "never": for ever.
    #[serde(default, deserialize_with = "present")]
    #[schemars(extend("x-time" = ["never"]))]
    pub valid_until: Option<Option<String>>,
    /// Of an episode.
    #[serde(default)]
    #[schemars(extend("x-plain" = true))]
    pub situation: Option<String>,
    /// Of an episode.
    #[serde(default)]
    #[schemars(range(min = -1, max = 1), extend("x-plain" = true))]
    pub outcome: Option<f64>,
    /// Of an episode.
    #[serde(default)]
    #[schemars(extend("x-plain" = true))]
    pub lesson: Option<String>,
    /// Whether it was of use.
    #[serde(default)]
    #[schemars(extend("x-plain" = true))]
    pub feedback: Option<Feedback>,
    /// true: only the owner may change it from then on.
    #[serde(default)]
    pub protected: Option<bool>,
    /// Kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A vote on a recalled memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline, extend("x-synonyms" = {"useful": "helpful", "unhelpful": "not_helpful", "useless": "not_helpful"}))]
pub enum Feedback {
    /// It helped.
    Helpful,
    /// It did not.
    NotHelpful,
}

/// The memory as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct UpdateOutput {
    /// The memory.
    pub memory: MemoryView,
    /// It is protected and did not change: what the owner is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub review: Option<ReviewView>,
}

/// Tells an absent field from null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Engine {
    /// Patches a memory; history keeps what was, and changed text is found at once. A protected one does not change: a
    /// review asks its owner, and only a vote is counted.
    ///
    /// # Errors
    /// [`EngineError::Invalid`], not found, or a version conflict which names the current version.
    pub async fn update(&self, call: &Call, params: UpdateParams) -> Result<UpdateOutput, EngineError> {
        let now = self.clock.now();
        let id = self.resolve_one(call, Referable::Memory, "id", &params.id).await?;
        if let Some(version) = params.expected_version.filter(|version| *version < 1) {
            return Err(
                Invalid::new("expected_version", version.to_string(), "the version of the memory, 1 or more").into()
            );
        }
        if let Some(content) = &params.content {
            validate::text("content", content, validate::MAX_CONTENT_BYTES)?;
        }
        for (field, text) in [("situation", &params.situation), ("lesson", &params.lesson)] {
            if let Some(text) = text {
                validate::text(field, text, validate::MAX_EPISODE_BYTES)?;
            }
        }
        if let Some(reason) = &params.reason {
            validate::text("reason", reason, validate::MAX_REASON_BYTES)?;
        }
        if let Some(metadata) = &params.metadata {
            validate::metadata("metadata", metadata)?;
        }
        let mut patch = Patch {
            tags: params.tags.map(|tags| validate::tags("tags", &tags)).transpose()?,
            importance: params.importance.map(|value| validate::number("importance", value, 0.0, 1.0)).transpose()?,
            metadata: params.metadata,
            occurred_at: params.occurred_at.map(|at| validate::past_time("occurred_at", &at, now)).transpose()?,
            valid_until: match params.valid_until {
                None => None,
                // A text, since a schema that also allows null is one that some models' providers refuse.
                Some(until) => {
                    let until = until.filter(|until| until != "never");
                    Some(until.map(|at| validate::time("valid_until", &at)).transpose()?)
                }
            },
            outcome: params.outcome.map(|value| validate::number("outcome", value, -1.0, 1.0)).transpose()?,
            content: params.content,
            situation: params.situation,
            lesson: params.lesson,
            helpful: params.feedback.map(|vote| vote == Feedback::Helpful),
            protected: params.protected,
        };
        if patch == Patch::default() {
            return Err(Invalid::new("update", "{}", "at least one field to change, or feedback").into());
        }
        call.count_rows(1);
        let project = call.scope.project();
        let command = Update {
            id,
            expected_version: params.expected_version,
            patch: patch.clone(),
            reason: params.reason.clone(),
            now,
        };
        match call.database(self.store.update(&call.scope, command.clone())).await {
            Ok(memory) => return Ok(UpdateOutput { memory: MemoryView::new(memory, project), review: None }),
            Err(StoreError::Protected { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let vote = Patch { helpful: patch.helpful.take(), ..Patch::default() };
        let review = self.propose(call, vec![(id, Proposal::Update { patch: Box::new(patch) })], params.reason).await?;
        // Without a vote this changes nothing and reads the memory.
        let memory = call.database(self.store.update(&call.scope, Update { patch: vote, ..command })).await?;
        Ok(UpdateOutput { memory: MemoryView::new(memory, project), review: review.into_iter().next() })
    }
}
