//! Reviews: changes that wait for a person, and what a client judged about two memories.

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::memory::{Change, History, Memory, Patch, is_default};
use super::validate::Invalid;

/// Most reviews of a project that are open at once: whoever floods the list would hide what matters in it.
pub const MOST_OPEN: usize = 1_000;

/// The effect of a review on its memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Proposal {
    Update {
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

    /// Names of entities that a new text mentions.
    #[must_use]
    pub fn mentions(&self) -> &[String] {
        match self {
            Self::Update { patch } => &patch.mentions,
            _ => &[],
        }
    }

    /// Has `memory` replaced by `successor`. Only what holds itself can replace, so that no circle comes about. Tells
    /// whether anything changed.
    ///
    /// # Errors
    /// When either was replaced by something else in the meantime, or they are the same.
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

    /// Where a review of it begins.
    #[must_use]
    pub fn first_state(&self) -> ReviewState {
        if matches!(self, Self::Nothing { .. }) {
            ReviewState::Dismissed
        } else {
            ReviewState::Open
        }
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

/// The relation between two memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(
    inline,
    extend("x-synonyms" = {"duplicates": "duplicate", "contradicts": "contradiction", "contradictory": "contradiction",
                           "conflict": "contradiction", "different": "unrelated"})
)]
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
    pub const ALL: [Self; 6] = [
        Self::Open,
        Self::Expired,
        Self::Approved,
        Self::Rejected,
        Self::Dismissed,
        Self::Undone,
    ];

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
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or_else(|| format!("unknown state {name:?}"))
    }
}

/// A change that waits for a person, or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// UUIDv7.
    pub id: Uuid,
    /// The memory to be changed.
    pub memory: Uuid,
    /// Where it stands. In the table `Expired` is `Open` with an end that has passed.
    pub state: ReviewState,
    /// What is to be done.
    pub proposal: Proposal,
    /// Who proposed it.
    pub actor: String,
    /// Why.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: Option<String>,
    pub created_at: DateTime<Utc>,
    /// When it can be approved no more.
    pub expires_at: DateTime<Utc>,
    /// Who decided.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decided_by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decided_at: Option<DateTime<Utc>>,
    /// Why it was decided so.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decision_reason: Option<String>,
    /// The memory's version that the approval made; what an undo takes back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub applied_version: Option<i64>,
}

impl Review {
    /// Replaces the state by one that takes the time into account.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        if self.state == ReviewState::Open && self.expires_at <= now {
            self.state = ReviewState::Expired;
        }
        self
    }

    /// The memory with the fields that the approval changed as they were before, as a new version; and how history
    /// calls that. `history` is that of the memory from the approval on. Fields which others changed since stay.
    ///
    /// # Errors
    /// When such a field is not as the approval left it, or the history does not have the approval.
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
#[error("memory {memory} cannot be taken back to what it was: {cause}")]
pub struct Obstacle {
    pub memory: Uuid,
    /// The version that changed it again, where that is known.
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
