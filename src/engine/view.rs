//! A memory as callers see it.

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::{Kind, Memory, ObjectText};

/// A stored memory. Absent fields are empty.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct MemoryView {
    /// ID of the memory.
    pub id: String,
    /// Kind of the memory.
    pub kind: Kind,
    /// Text of the memory.
    pub content: String,
    /// Project of the memory, if it is not the caller's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Labels of the memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// 0 to 1.
    pub importance: f64,
    /// Free-form data of the caller.
    #[serde(skip_serializing_if = "ObjectText::is_empty")]
    #[schemars(with = "Map<String, Value>")]
    pub metadata: ObjectText,
    /// When it happened.
    pub occurred_at: String,
    /// When it was stored; recall returns it with detail full.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_at: String,
    /// When it last changed; absent if it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// When it stops being true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    /// ID of the memory that replaced it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// IDs of the memories that it replaced; only in answers of `get`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub supersedes: Vec<String>,
    /// ID of the newest memory in its chain of successors, if that one is live; only in answers of `get`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub current: Option<String>,
    /// Whether only an approved review may change it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(skip)]
    pub protected: bool,
    /// When it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// Current version; pass it to update as expected_version.
    pub version: i64,
    /// Conversation ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Number of the turn in the conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<i64>,
    /// Who said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speaker: Option<String>,
    /// Episode: what was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub situation: Option<String>,
    /// Episode: -1 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<f64>,
    /// Episode: what to do next time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lesson: Option<String>,
    /// IDs of the source memories.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

impl MemoryView {
    /// Creates the view of `memory` for a caller whose own project is `own_project`.
    #[must_use]
    pub fn new(memory: Memory, own_project: &str) -> Self {
        let (situation, outcome, lesson) = memory.episode.map_or((None, None, None), |e| {
            (Some(e.situation), Some(e.outcome), Some(e.lesson))
        });
        Self {
            id: memory.id.to_string(),
            kind: memory.kind,
            content: memory.content,
            project: Some(memory.project).filter(|project| project != own_project),
            tags: memory.tags,
            importance: memory.importance,
            metadata: memory.metadata,
            occurred_at: timestamp(memory.occurred_at),
            updated_at: (memory.updated_at != memory.created_at)
                .then(|| timestamp(memory.updated_at)),
            created_at: timestamp(memory.created_at),
            valid_until: memory.valid_until.map(timestamp),
            superseded_by: memory.superseded_by.map(|id| id.to_string()),
            supersedes: Vec::new(),
            current: None,
            protected: memory.protected,
            deleted_at: memory.deleted_at.map(timestamp),
            version: memory.version,
            session: memory.session,
            turn: memory.turn,
            speaker: memory.speaker,
            situation,
            outcome,
            lesson,
            sources: memory.sources.iter().map(ToString::to_string).collect(),
        }
    }

    /// Returns the texts that a model reads.
    pub(super) fn text(&self) -> String {
        let extra = [&self.situation, &self.lesson];
        extra
            .into_iter()
            .flatten()
            .fold(self.content.clone(), |text, extra| text + extra)
    }

    /// Keeps only the fields of an index.
    pub(super) fn bare(self) -> Self {
        Self {
            tags: Vec::new(),
            metadata: ObjectText::default(),
            created_at: String::new(),
            updated_at: None,
            valid_until: None,
            session: None,
            turn: None,
            speaker: None,
            situation: None,
            outcome: None,
            lesson: None,
            sources: Vec::new(),
            ..self
        }
    }

    /// Counts the characters of text that a model reads.
    #[must_use]
    pub fn chars(&self) -> usize {
        let extra = [&self.situation, &self.lesson];
        self.content.chars().count()
            + extra
                .into_iter()
                .flatten()
                .map(|text| text.chars().count())
                .sum::<usize>()
    }
}

/// Returns the day of a [`timestamp`].
pub(super) fn date_of(timestamp: &str) -> &str {
    timestamp.split('T').next().unwrap_or(timestamp)
}

/// Formats a time as RFC 3339 in UTC, without a fraction if it has none.
pub(super) fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
