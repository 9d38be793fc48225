//! What a recall may return, the same in every channel.

use chrono::{DateTime, Utc};

use super::memory::{Kind, Memory};

/// Conditions on hits. Deleted rows never pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Any of these kinds; empty means all.
    pub kinds: Vec<Kind>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// Exactly this conversation.
    pub session: Option<String>,
    /// Exactly this speaker.
    pub speaker: Option<String>,
    /// `occurred_at` at or after.
    pub since: Option<DateTime<Utc>>,
    /// `occurred_at` before.
    pub until: Option<DateTime<Utc>>,
    /// Importance at or above.
    pub min_importance: Option<f64>,
    /// Also rows that were superseded or are past their `valid_until`.
    pub include_outdated: bool,
    /// The present, which decides what has expired. In a question about the past that moment.
    pub now: DateTime<Utc>,
    /// Only memories which are now as they were at `now`: what was stored or changed later is left out.
    pub unchanged: bool,
}

impl Filter {
    /// Everything that holds at `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self {
            kinds: Vec::new(),
            tags: Vec::new(),
            session: None,
            speaker: None,
            since: None,
            until: None,
            min_importance: None,
            include_outdated: false,
            now,
            unchanged: false,
        }
    }

    /// The rule in plain code; the SQL of each backend is tested against it.
    #[must_use]
    pub fn admits(&self, memory: &Memory) -> bool {
        memory.deleted_at.is_none()
            && (!self.unchanged || memory.updated_at <= self.now)
            && (self.kinds.is_empty() || self.kinds.contains(&memory.kind))
            && self.tags.iter().all(|tag| memory.tags.contains(tag))
            && self.session.as_ref().is_none_or(|session| memory.session.as_ref() == Some(session))
            && self.speaker.as_ref().is_none_or(|speaker| memory.speaker.as_ref() == Some(speaker))
            && self.since.is_none_or(|since| memory.occurred_at >= since)
            && self.until.is_none_or(|until| memory.occurred_at < until)
            && self.min_importance.is_none_or(|least| memory.importance >= least)
            && (self.include_outdated
                || (memory.superseded_by.is_none() && memory.valid_until.is_none_or(|until| until > self.now)))
    }
}
