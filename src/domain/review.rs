//! Reviews: changes that a person must approve, and a client's judgments about two memories.

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::memory::{Change, History, Memory, Patch, is_default};
use super::validate::Invalid;

/// Maximum number of open reviews of a project, because a flood of reviews would hide the important ones.
pub const MOST_OPEN: usize = 1_000;

/// The effect of a review on its memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Proposal {
    Update {
        patch: Box<Patch>,
    },
    /// Marks the memory as deleted.
    Delete,
    /// Removes the deletion mark.
    Restore,
    /// Removes the memory with all its data. Cannot be undone.
    Purge,
    /// Replaces the memory by another one.
    Supersede {
        /// The replacing memory.
        by: Uuid,
        /// The relation between the two.
        judgement: Judgement,
    },
    /// No effect: the two were judged to be unrelated.
    Nothing {
        /// The other memory.
        other: Uuid,
    },
}

impl Proposal {
    /// Returns the other memory, if there is one.
    #[must_use]
    pub fn other(&self) -> Option<Uuid> {
        match self {
            Self::Supersede { by, .. } => Some(*by),
            Self::Nothing { other } => Some(*other),
            _ => None,
        }
    }

    /// Returns the names of entities that a new text mentions.
    #[must_use]
    pub fn mentions(&self) -> &[String] {
        match self {
            Self::Update { patch } => &patch.mentions,
            _ => &[],
        }
    }

    /// Replaces `memory` by `successor`. Only a current memory can replace another one, so that no cycle can form.
    /// Returns whether anything changed.
    ///
    /// # Errors
    /// Fails if either was replaced by another memory meanwhile, or if they are the same.
    pub fn supersede(
        &self,
        memory: &mut Memory,
        successor: &Memory,
        now: DateTime<Utc>,
    ) -> Result<bool, Invalid> {
        if memory.superseded_by == Some(successor.id) {
            return Ok(false);
        }
        let refuse = |field: &str, id: Uuid, by: Uuid| {
            let expected =
                format!("a memory that is not superseded; this one was superseded by {by}");
            Invalid::new(field, id.to_string(), expected)
        };
        if let Some(by) = memory.superseded_by {
            return Err(refuse("replace", memory.id, by));
        }
        if let Some(by) = successor.superseded_by {
            return Err(refuse("keep", successor.id, by));
        }
        if memory.id == successor.id {
            return Err(Invalid::new(
                "keep",
                successor.id.to_string(),
                "another memory than replace",
            ));
        }
        memory.superseded_by = Some(successor.id);
        memory.version += 1;
        memory.updated_at = now;
        Ok(true)
    }

    /// Returns the first state of a review of this proposal.
    #[must_use]
    pub fn first_state(&self) -> ReviewState {
        if matches!(self, Self::Nothing { .. }) {
            ReviewState::Dismissed
        } else {
            ReviewState::Open
        }
    }

    /// Returns the action as one word.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Update { .. } => "update",
            Self::Delete => "delete",
            Self::Restore => "restore",
            Self::Purge => "purge",
            Self::Supersede { .. } => "supersede",
            Self::Nothing { .. } => "nothing",
        }
    }
}

/// The relation between two memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(
    inline,
    extend("x-synonyms" = {"duplicates": "duplicate", "contradicts": "contradiction", "contradictory": "contradiction",
                           "conflict": "contradiction", "different": "unrelated"})
)]
pub enum Judgement {
    /// They have the same content.
    Duplicate,
    /// Both cannot be true.
    Contradiction,
    /// Neither.
    Unrelated,
}

/// The state of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReviewState {
    /// A person must decide.
    Open,
    /// The time limit has passed without a decision.
    Expired,
    /// The change was executed.
    Approved,
    /// The change will not be executed.
    Rejected,
    /// There was nothing to decide.
    Dismissed,
    /// The change was executed and undone.
    Undone,
}

impl ReviewState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Open,
        Self::Expired,
        Self::Approved,
        Self::Rejected,
        Self::Dismissed,
        Self::Undone,
    ];

    /// Returns the name in tables and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Expired => "expired",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Dismissed => "dismissed",
            Self::Undone => "undone",
        }
    }
}

impl FromStr for ReviewState {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or_else(|| format!("unknown state {name:?}"))
    }
}

/// A change that needs or needed the approval of a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// UUIDv7.
    pub id: Uuid,
    /// The memory to be changed.
    pub memory: Uuid,
    /// The current state. The table stores `Expired` as `Open` with an end that has passed.
    pub state: ReviewState,
    /// The proposed change.
    pub proposal: Proposal,
    /// The proposer.
    pub actor: String,
    /// The reason.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: Option<String>,
    pub created_at: DateTime<Utc>,
    /// After this time the review cannot be approved.
    pub expires_at: DateTime<Utc>,
    /// The person who decided.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decided_by: Option<String>,
    /// When the review was decided.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decided_at: Option<DateTime<Utc>>,
    /// The reason for the decision.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decision_reason: Option<String>,
    /// The version of the memory that the approval created, which an undo reverts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub applied_version: Option<i64>,
}

impl Review {
    /// Returns the review with its state at `now`.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        if self.state == ReviewState::Open && self.expires_at <= now {
            self.state = ReviewState::Expired;
        }
        self
    }

    /// Returns the memory with the earlier values of the fields that the approval changed, as a new version, and the
    /// change for the history. `history` is the history of the memory from the approval on. Other fields that were
    /// changed since are kept.
    ///
    /// # Errors
    /// Fails if such a field was changed since the approval, or if the history does not contain the approval.
    pub fn taken_back(
        &self,
        memory: &Memory,
        history: &[History],
        now: DateTime<Utc>,
    ) -> Result<(Memory, Change), Obstacle> {
        let current = memory.snapshot();
        let states: Vec<&Value> = history
            .iter()
            .filter_map(|entry| entry.old.as_ref())
            .chain([&current])
            .collect();
        let changes: Vec<&History> = history.iter().filter(|entry| entry.old.is_some()).collect();
        let approved = changes
            .first()
            .is_some_and(|entry| Some(entry.version) == self.applied_version);
        let [before, left, ..] = states.as_slice() else {
            return Err(Obstacle::forgotten(memory));
        };
        let Some(fields) = before.as_object().filter(|_| approved) else {
            return Err(Obstacle::forgotten(memory));
        };
        let mut back = serde_json::Map::new();
        for (field, value) in fields
            .iter()
            .filter(|(field, value)| left.get(field) != Some(value))
        {
            if current.get(field) != left.get(field) {
                let differs = |at: usize| states[at].get(field) != states[at + 1].get(field);
                let last = (1..changes.len())
                    .rev()
                    .find(|at| differs(*at))
                    .map(|at| changes[at]);
                return Err(Obstacle::new(memory, field, last));
            }
            back.insert(field.clone(), value.clone());
        }
        let mut after = memory.with_snapshot(&Value::Object(back));
        after.version += 1;
        after.updated_at = now;
        let change = match (memory.deleted_at, after.deleted_at) {
            (Some(_), None) => Change::Restored,
            (None, Some(_)) => Change::Deleted,
            _ => Change::Updated,
        };
        Ok((after, change))
    }
}

/// The reason why an undo is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("memory {memory} cannot be restored to its earlier version: {cause}")]
pub struct Obstacle {
    pub memory: Uuid,
    /// The version that changed it again, if known.
    pub version: Option<i64>,
    pub cause: String,
}

impl Obstacle {
    fn forgotten(memory: &Memory) -> Self {
        let cause =
            "its history no longer has the approved change (MEMORY_HISTORY_DAYS removes old changes)".to_owned();
        Self {
            memory: memory.id,
            version: None,
            cause,
        }
    }

    fn new(memory: &Memory, field: &str, later: Option<&History>) -> Self {
        let what = later.map_or_else(String::new, |entry| {
            let why = entry
                .reason
                .as_ref()
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            let at = entry.at.to_rfc3339_opts(SecondsFormat::Secs, true);
            format!(
                " by version {}, {} by {} at {at}{why}",
                entry.version,
                entry.change.as_str(),
                entry.actor
            )
        });
        let cause = format!("its {field} was changed again{what}");
        Self {
            memory: memory.id,
            version: later.map(|entry| entry.version),
            cause,
        }
    }
}

/// The decision of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Executes the change.
    Approve,
    /// Leaves the memory unchanged.
    Reject,
    /// Reverts the executed change.
    Undo,
}

impl Decision {
    /// Returns whether this decision is possible for a review in `state`.
    #[must_use]
    pub fn applies_to(self, state: ReviewState) -> bool {
        match self {
            Self::Approve => state == ReviewState::Open,
            Self::Reject => matches!(state, ReviewState::Open | ReviewState::Expired),
            Self::Undo => state == ReviewState::Approved,
        }
    }

    /// Returns the resulting state.
    #[must_use]
    pub fn result(self) -> ReviewState {
        match self {
            Self::Approve => ReviewState::Approved,
            Self::Reject => ReviewState::Rejected,
            Self::Undo => ReviewState::Undone,
        }
    }
}
