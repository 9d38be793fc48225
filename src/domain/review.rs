//! Reviews: changes that wait for a person, and what a client judged about two memories.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::memory::{Change, Memory, Patch};
use super::validate::Invalid;

/// Most reviews of a project that are open at once: whoever floods the list would hide what matters in it.
pub const MOST_OPEN: usize = 1_000;

/// What a review would do to its memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Proposal {
    /// Patch it.
    Update {
        /// The changes.
        patch: Box<Patch>,
    },
    /// Mark it as deleted.
    Delete,
    /// Take the mark back.
    Restore,
    /// Remove it with all that hangs on it. Cannot be undone.
    Purge,
    /// Have it replaced by another memory.
    Supersede {
        /// What holds instead.
        by: Uuid,
        /// What the two are to each other.
        judgement: Judgement,
    },
    /// Nothing: the two were judged to have nothing to do with each other.
    Nothing {
        /// The other one.
        other: Uuid,
    },
}

impl Proposal {
    /// The other memory, where there is one.
    #[must_use]
    pub fn other(&self) -> Option<Uuid> {
        match self {
            Self::Supersede { by, .. } => Some(*by),
            Self::Nothing { other } => Some(*other),
            _ => None,
        }
    }

    /// Has `memory` replaced by `successor`. Only what holds itself can replace, so that no circle comes about. Tells
    /// whether anything changed.
    ///
    /// # Errors
    /// When either was replaced by something else in the meantime, or they are the same.
    pub fn supersede(&self, memory: &mut Memory, successor: &Memory, now: DateTime<Utc>) -> Result<bool, Invalid> {
        if memory.superseded_by == Some(successor.id) {
            return Ok(false);
        }
        let refuse = |id: Uuid, by: Uuid| {
            let expected = format!("a memory that holds; this one was superseded by {by}");
            Invalid::new("other", id.to_string(), expected)
        };
        if let Some(by) = memory.superseded_by {
            return Err(refuse(memory.id, by));
        }
        if let Some(by) = successor.superseded_by {
            return Err(refuse(successor.id, by));
        }
        if memory.id == successor.id {
            return Err(Invalid::new("other", successor.id.to_string(), "another memory: none supersedes itself"));
        }
        memory.superseded_by = Some(successor.id);
        memory.version += 1;
        memory.updated_at = now;
        Ok(true)
    }

    /// Where a review of it begins.
    #[must_use]
    pub fn first_state(&self) -> ReviewState {
        if matches!(self, Self::Nothing { .. }) { ReviewState::Dismissed } else { ReviewState::Open }
    }

    /// In a word.
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

/// What two memories are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Judgement {
    /// They say the same.
    Duplicate,
    /// Both cannot be true.
    Contradiction,
    /// Neither.
    Unrelated,
}

/// Where a review stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReviewState {
    /// Waits for a person.
    Open,
    /// Nobody decided in time.
    Expired,
    /// Was carried out.
    Approved,
    /// Will not be carried out.
    Rejected,
    /// There was nothing to decide.
    Dismissed,
    /// Was carried out and taken back.
    Undone,
}

impl ReviewState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Expired, Self::Approved, Self::Rejected, Self::Dismissed, Self::Undone];

    /// The name in tables and answers.
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
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or_else(|| format!("unknown state {name:?}"))
    }
}

/// A change that waits for a person, or did.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// UUIDv7.
    pub id: Uuid,
    /// The memory to be changed.
    pub memory: Uuid,
    /// What is to be done.
    pub proposal: Proposal,
    /// Where it stands. In the table `Expired` is `Open` with an end that has passed.
    pub state: ReviewState,
    /// Who proposed it.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it can be approved no more.
    pub expires_at: DateTime<Utc>,
    /// Who decided.
    pub decided_by: Option<String>,
    /// When.
    pub decided_at: Option<DateTime<Utc>>,
    /// Why it was decided so.
    pub decision_reason: Option<String>,
    /// The memory's version that the approval made; what an undo takes back.
    pub applied_version: Option<i64>,
}

impl Review {
    /// The same with a state that knows the time.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        if self.state == ReviewState::Open && self.expires_at <= now {
            self.state = ReviewState::Expired;
        }
        self
    }

    /// The memory, which an approval made, as it was before by `old`, as a new version; and how history calls that.
    #[must_use]
    pub fn taken_back(&self, memory: &Memory, old: &Value, now: DateTime<Utc>) -> (Memory, Change) {
        let mut after = memory.with_snapshot(old);
        after.version += 1;
        after.updated_at = now;
        let change = match (memory.deleted_at, after.deleted_at) {
            (Some(_), None) => Change::Restored,
            (None, Some(_)) => Change::Deleted,
            _ => Change::Updated,
        };
        (after, change)
    }
}

/// What a person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Carry it out.
    Approve,
    /// Leave the memory as it is.
    Reject,
    /// Take back what was carried out.
    Undo,
}

impl Decision {
    /// Whether a review in `state` can be decided so.
    #[must_use]
    pub fn applies_to(self, state: ReviewState) -> bool {
        match self {
            Self::Approve => state == ReviewState::Open,
            Self::Reject => matches!(state, ReviewState::Open | ReviewState::Expired),
            Self::Undo => state == ReviewState::Approved,
        }
    }

    /// The state that it leads to.
    #[must_use]
    pub fn result(self) -> ReviewState {
        match self {
            Self::Approve => ReviewState::Approved,
            Self::Reject => ReviewState::Rejected,
            Self::Undo => ReviewState::Undone,
        }
    }
}
