//! Conditions on the hits of a recall, which are the same in all channels.

use chrono::{DateTime, Utc};

use super::memory::{Kind, Memory};
use super::validate::has_tag;

/// The meaning of a point in time in a query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AsOf {
    /// Known and true at present.
    #[default]
    Present,
    /// Known at an earlier time, and true then according to that knowledge.
    KnownThen,
    /// True at some time, according to present knowledge.
    TrueThen,
}

impl AsOf {
    /// Returns the code of the variant in SQL statements.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Present => 0,
            Self::KnownThen => 1,
            Self::TrueThen => 2,
        }
    }
}

/// Conditions on hits. Deleted rows never pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Any of these kinds; empty means all.
    pub kinds: Vec<Kind>,
    /// All of these tags, compared case-insensitively.
    pub tags: Vec<String>,
    /// Exactly this conversation.
    pub session: Option<String>,
    /// Exactly this speaker.
    pub speaker: Option<String>,
    /// `occurred_at` at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// `occurred_at` before this time.
    pub until: Option<DateTime<Utc>>,
    /// Importance of at least this value.
    pub min_importance: Option<f64>,
    /// Also includes memories that were superseded or are past their `valid_until`.
    pub include_outdated: bool,
    /// The time at which memories must be valid: the present, or the time of the query.
    pub now: DateTime<Utc>,
    /// The meaning of `now`. With [`AsOf::KnownThen`], only memories pass that are unchanged since `now`; later ones
    /// are left out. With [`AsOf::TrueThen`], memories pass that had happened by then; a superseded one passes if its
    /// successor happened later.
    pub as_of: AsOf,
}

impl Filter {
    /// Returns the filter for all memories that are valid at `now`.
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
            as_of: AsOf::Present,
        }
    }

    /// Returns whether a memory passes, without the successors of superseded memories. The SQL of each backend is
    /// tested against this function.
    #[must_use]
    pub fn admits(&self, memory: &Memory) -> bool {
        memory.deleted_at.is_none()
            && (self.as_of != AsOf::KnownThen || memory.updated_at <= self.now)
            && (self.as_of != AsOf::TrueThen || memory.occurred_at <= self.now)
            && (self.kinds.is_empty() || self.kinds.contains(&memory.kind))
            && self.tags.iter().all(|tag| has_tag(&memory.tags, tag))
            && self
                .session
                .as_ref()
                .is_none_or(|session| memory.session.as_ref() == Some(session))
            && self
                .speaker
                .as_ref()
                .is_none_or(|speaker| memory.speaker.as_ref() == Some(speaker))
            && self.since.is_none_or(|since| memory.occurred_at >= since)
            && self.until.is_none_or(|until| memory.occurred_at < until)
            && self
                .min_importance
                .is_none_or(|least| memory.importance >= least)
            && (self.include_outdated
                || (memory.superseded_by.is_none()
                    && memory.valid_until.is_none_or(|until| until > self.now)))
    }
}
