//! What is remembered: one row type for all kinds, its history, and patches to it.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use super::conversation::{HitContext, Turn, is_question};
use super::graph::Links;
use super::json::merge_patch;
pub use super::kind::Kind;
use super::object_text::ObjectText;
use super::text::{Analyzer, Terms, TextWords};
use super::validate::{self, Invalid};

/// The part of an episode that other kinds do not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// What was tried, and where.
    pub situation: String,
    /// From -1 (failed) to 1 (succeeded).
    pub outcome: f64,
    /// What to do next time.
    pub lesson: String,
}

/// A memory to be stored, already validated.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMemory {
    /// Identity, drawn by the engine.
    pub id: Uuid,
    /// What it is for.
    pub kind: Kind,
    pub content: String,
    /// Sorted, without duplicates.
    pub tags: Vec<String>,
    /// From 0 to 1.
    pub importance: f64,
    /// Free-form JSON object of the caller.
    pub metadata: ObjectText,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// From when on it no longer holds.
    pub valid_until: Option<DateTime<Utc>>,
    /// Conversation it belongs to.
    pub session: Option<String>,
    /// Place in the conversation; dialogue only.
    pub turn: Option<i64>,
    /// Who said it.
    pub speaker: Option<String>,
    /// Episodes only.
    pub episode: Option<Episode>,
    /// Ids it rests on, which must exist in the scope.
    pub sources: Vec<Uuid>,
    /// Ids it replaces, which must exist in the project and not be superseded yet.
    pub supersedes: Vec<Uuid>,
    /// Entities that it mentions, and relations between any that it tells of.
    pub links: Links,
    /// Whether only an approved review may change it.
    pub protected: bool,
    /// Which of the values with a default the caller gave.
    pub stated: Stated,
}

/// A new memory with everything that is computed from its texts, before the database is asked for anything.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalyzedMemory {
    pub memory: NewMemory,
    /// [`content_hash`] of the content.
    pub hash: [u8; 32],
    /// Terms of the texts in the word index.
    pub terms: Terms,
    /// Size against the limit of a project.
    pub bytes: u64,
}

impl AnalyzedMemory {
    /// Analyzes the texts of a memory.
    #[must_use]
    pub fn new(memory: NewMemory, analyzer: &Analyzer) -> Self {
        let words = analyzer.split_text(&memory.content);
        Self::with_words(memory, words, analyzer)
    }

    /// Analyzes a memory whose content is already split into `words`.
    #[must_use]
    pub fn with_words(memory: NewMemory, mut words: TextWords, analyzer: &Analyzer) -> Self {
        let episode = memory.episode.as_ref();
        let beside = text_beside_content(memory.speaker.as_deref(), &memory.tags, episode);
        if !beside.is_empty() {
            words.extend(analyzer.split_text(&beside));
        }
        Self {
            hash: content_hash(&memory.content),
            terms: analyzer.count_terms(words),
            bytes: memory.bytes(),
            memory,
        }
    }
}

/// Values of a new memory that the caller gave, in contrast to their defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stated {
    /// `importance`.
    pub importance: bool,
    /// `occurred_at`.
    pub occurred_at: bool,
}

/// A stored memory. An export has its fields in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Project it belongs to.
    pub project: String,
    /// UUIDv7.
    pub id: Uuid,
    /// Storage order within the database; the key of keyset pages. Not shown to clients.
    #[serde(skip)]
    pub seq: i64,
    /// What it is for.
    pub kind: Kind,
    pub content: String,
    /// Sorted, without duplicates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tags: Vec<String>,
    /// From 0 to 1.
    pub importance: f64,
    /// Free-form JSON object of the caller.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metadata: ObjectText,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// From when on it no longer holds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub valid_until: Option<DateTime<Utc>>,
    /// What replaced it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub superseded_by: Option<Uuid>,
    /// Soft-delete mark.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deleted_at: Option<DateTime<Utc>>,
    /// Grows by one with every change; starts at 1.
    pub version: i64,
    /// Conversation it belongs to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub session: Option<String>,
    /// Place in the conversation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub turn: Option<i64>,
    /// Who said it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub speaker: Option<String>,
    /// Episodes only.
    #[serde(flatten, with = "episode_fields")]
    pub episode: Option<Episode>,
    /// Ids it rests on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sources: Vec<Uuid>,
    /// How often recall returned it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recall_count: i64,
    /// When recall last returned it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_recalled_at: Option<DateTime<Utc>>,
    /// Votes by `update` with feedback `helpful`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub helpful: i64,
    /// Votes by `update` with feedback `not_helpful`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub not_helpful: i64,
    /// Whether only an approved review may change it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protected: bool,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The fields of an episode beside those of its memory: all of them, or none.
mod episode_fields {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Episode;

    #[derive(Default, Serialize, Deserialize)]
    struct Fields {
        #[serde(skip_serializing_if = "Option::is_none")]
        situation: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        outcome: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lesson: Option<String>,
    }

    pub(super) fn serialize<S: Serializer>(
        episode: &Option<Episode>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let fields = episode
            .clone()
            .map_or_else(Fields::default, |episode| Fields {
                situation: Some(episode.situation),
                outcome: Some(episode.outcome),
                lesson: Some(episode.lesson),
            });
        fields.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Episode>, D::Error> {
        let fields = Fields::deserialize(deserializer)
            .map_err(|error| Error::custom(format!("situation, outcome or lesson: {error}")))?;
        match (fields.situation, fields.outcome, fields.lesson) {
            (Some(situation), Some(outcome), Some(lesson)) => Ok(Some(Episode {
                situation,
                outcome,
                lesson,
            })),
            (None, None, None) => Ok(None),
            _ => Err(Error::custom(
                "expected situation, outcome and lesson together, or none of them",
            )),
        }
    }
}

/// Changes to a memory; `None` leaves a field as it is. Already validated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Patch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// New set of tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<f64>,
    /// Merged into the metadata by RFC 7396: null removes a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// New time of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<DateTime<Utc>>,
    /// `Some(None)` removes the end of validity.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub valid_until: Option<Option<DateTime<Utc>>>,
    /// New situation of an episode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub situation: Option<String>,
    /// New outcome of an episode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<f64>,
    /// New lesson of an episode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lesson: Option<String>,
    /// `Some(true)` counts a helpful vote, `Some(false)` the opposite. A vote alone is no new version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helpful: Option<bool>,
    /// Sets or takes away the protection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// Source memories to add to those there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<Uuid>>,
    /// Names of entities that the new text mentions. Those that exist are linked if the patch changes the memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
}

/// Tells an absent field from null.
fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<DateTime<Utc>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Patch {
    /// Refuses sources that a memory cannot have: itself, or more than [`validate::MAX_IDS`].
    ///
    /// # Errors
    /// [`Invalid`] names the field.
    pub fn check_sources(&self, memory: &Memory) -> Result<(), Invalid> {
        let Some(sources) = &self.sources else {
            return Ok(());
        };
        if sources.contains(&memory.id) {
            return Err(Invalid::new(
                "sources",
                memory.id.to_string(),
                "IDs of other memories than this one",
            ));
        }
        let added = sources
            .iter()
            .filter(|source| !memory.sources.contains(source))
            .count();
        validate::count("sources", memory.sources.len() + added, validate::MAX_IDS)
    }

    /// Whether anything but a vote is in it.
    #[must_use]
    pub fn changes_memory(&self) -> bool {
        Self {
            helpful: None,
            ..self.clone()
        } != Self::default()
    }

    /// Applies the patch to `memory`: fields, votes and, when anything but a vote changed, version and
    /// `updated_at`. Returns whether the memory is a new version.
    pub fn apply(&self, memory: &mut Memory, now: DateTime<Utc>) -> bool {
        let before = memory.clone();
        if let Some(content) = &self.content {
            memory.content.clone_from(content);
        }
        if let Some(tags) = &self.tags {
            memory.tags.clone_from(tags);
        }
        if let Some(importance) = self.importance {
            memory.importance = importance;
        }
        if let Some(patch) = &self.metadata {
            let mut metadata = memory.metadata.to_map();
            merge_patch(&mut metadata, patch);
            memory.metadata = metadata.into();
        }
        if let Some(at) = self.occurred_at {
            memory.occurred_at = at;
        }
        if let Some(until) = self.valid_until {
            memory.valid_until = until;
        }
        if let Some(episode) = &mut memory.episode {
            if let Some(situation) = &self.situation {
                episode.situation.clone_from(situation);
            }
            if let Some(outcome) = self.outcome {
                episode.outcome = outcome;
            }
            if let Some(lesson) = &self.lesson {
                episode.lesson.clone_from(lesson);
            }
        }
        if let Some(protected) = self.protected {
            memory.protected = protected;
        }
        for source in self.sources.iter().flatten() {
            if !memory.sources.contains(source) {
                memory.sources.push(*source);
            }
        }
        let changed = *memory != before;
        if changed {
            memory.version += 1;
            memory.updated_at = now;
        }
        match self.helpful {
            Some(true) => memory.helpful += 1,
            Some(false) => memory.not_helpful += 1,
            None => {}
        }
        changed
    }
}

/// What happened to a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Change {
    /// Stored for the first time.
    Created,
    /// Patched.
    Updated,
    /// Replaced by another memory.
    Superseded,
    /// Marked as deleted.
    Deleted,
    /// The mark was taken back.
    Restored,
}

impl Change {
    /// Every change.
    pub const ALL: [Self; 5] = [
        Self::Created,
        Self::Updated,
        Self::Superseded,
        Self::Deleted,
        Self::Restored,
    ];

    /// The name in tables and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Superseded => "superseded",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
        }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|change| change.as_str() == name)
            .ok_or_else(|| format!("unknown change {name:?}"))
    }
}

/// One entry of a memory's history, oldest first in lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The memory.
    #[serde(skip)]
    pub memory_id: Uuid,
    /// Version after the change.
    pub version: i64,
    pub change: Change,
    /// The fields as they were before, see [`Memory::snapshot`]; `None` for a creation. The state after the
    /// change is the next entry's `old`, or the memory itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub old: Option<Value>,
    /// Name of the credential.
    pub actor: String,
    /// Why, in the words of the caller.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: Option<String>,
    pub at: DateTime<Utc>,
}

/// Bytes that count towards the limit of a project: the text and its metadata.
fn bytes(content: &str, episode: Option<&Episode>, metadata: &ObjectText) -> u64 {
    let episode = episode.map_or(0, |episode| episode.situation.len() + episode.lesson.len());
    (content.len() + episode + metadata.as_str().len()) as u64
}

impl NewMemory {
    /// The memory as the database has it first.
    #[must_use]
    pub fn as_stored(&self, project: &str, now: DateTime<Utc>) -> Memory {
        Memory {
            id: self.id,
            seq: 0,
            project: project.to_owned(),
            kind: self.kind,
            content: self.content.clone(),
            tags: self.tags.clone(),
            importance: self.importance,
            metadata: self.metadata.clone(),
            occurred_at: self.occurred_at,
            created_at: now,
            updated_at: now,
            valid_until: self.valid_until,
            superseded_by: None,
            deleted_at: None,
            version: 1,
            session: self.session.clone(),
            turn: self.turn,
            speaker: self.speaker.clone(),
            episode: self.episode.clone(),
            sources: self.sources.clone(),
            recall_count: 0,
            last_recalled_at: None,
            helpful: 0,
            not_helpful: 0,
            protected: self.protected,
        }
    }

    /// Size against the limit of a project.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes(&self.content, self.episode.as_ref(), &self.metadata)
    }
}

impl Memory {
    /// The text that its vector represents.
    #[must_use]
    pub fn embedded_text(&self) -> String {
        embedded_text(&self.content, self.episode.as_ref())
    }

    /// Its properties for ranking; `length` in terms.
    #[must_use]
    pub fn hit_context(&self, length: u32) -> HitContext {
        HitContext::new(
            Turn::new(self.project.clone(), self.session.clone(), self.turn),
            self.speaker.clone(),
            length,
            is_question(&self.content),
            self.occurred_at,
        )
    }

    /// Size against the limit of a project.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes(&self.content, self.episode.as_ref(), &self.metadata)
    }

    /// The fields which history keeps, as a JSON object.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        serde_json::json!({
            "content": self.content,
            "tags": self.tags,
            "importance": self.importance,
            "metadata": self.metadata,
            "occurred_at": self.occurred_at,
            "valid_until": self.valid_until,
            "superseded_by": self.superseded_by,
            "deleted_at": self.deleted_at,
            "situation": self.episode.as_ref().map(|e| &e.situation),
            "outcome": self.episode.as_ref().map(|e| e.outcome),
            "lesson": self.episode.as_ref().map(|e| &e.lesson),
            "protected": self.protected,
            "sources": self.sources,
        })
    }

    /// The memory as it was when [`Memory::snapshot`] was taken. A field that the snapshot lacks, being older than
    /// the field, stays as it is.
    #[must_use]
    pub fn with_snapshot(&self, snapshot: &Value) -> Self {
        fn set<T: serde::de::DeserializeOwned>(snapshot: &Value, key: &str, field: &mut T) {
            if let Some(value) = snapshot
                .get(key)
                .and_then(|value| T::deserialize(value).ok())
            {
                *field = value;
            }
        }
        let mut memory = self.clone();
        set(snapshot, "content", &mut memory.content);
        set(snapshot, "tags", &mut memory.tags);
        set(snapshot, "importance", &mut memory.importance);
        set(snapshot, "metadata", &mut memory.metadata);
        set(snapshot, "occurred_at", &mut memory.occurred_at);
        set(snapshot, "valid_until", &mut memory.valid_until);
        set(snapshot, "superseded_by", &mut memory.superseded_by);
        set(snapshot, "deleted_at", &mut memory.deleted_at);
        set(snapshot, "protected", &mut memory.protected);
        set(snapshot, "sources", &mut memory.sources);
        if let Some(episode) = &mut memory.episode {
            set(snapshot, "situation", &mut episode.situation);
            set(snapshot, "outcome", &mut episode.outcome);
            set(snapshot, "lesson", &mut episode.lesson);
        }
        memory
    }
}

/// The text whose vector stands for a memory. Tags are left out: they are filters, and no sentences. So is the speaker,
/// whose name would make all that one person said alike.
#[must_use]
pub fn embedded_text(content: &str, episode: Option<&Episode>) -> String {
    episode.map_or_else(
        || content.to_owned(),
        |episode| format!("{content}\n{}\n{}", episode.situation, episode.lesson),
    )
}

/// The texts of a memory in the word index.
#[must_use]
pub fn indexed_text(
    content: &str,
    speaker: Option<&str>,
    tags: &[String],
    episode: Option<&Episode>,
) -> String {
    match text_beside_content(speaker, tags, episode) {
        beside if beside.is_empty() => content.to_owned(),
        beside => format!("{content}\n{beside}"),
    }
}

/// The texts in the word index except the content, one a line.
fn text_beside_content(
    speaker: Option<&str>,
    tags: &[String],
    episode: Option<&Episode>,
) -> String {
    let episode = episode.map(|episode| [episode.situation.as_str(), episode.lesson.as_str()]);
    let tags = tags.iter().map(String::as_str);
    let texts = speaker
        .into_iter()
        .chain(tags)
        .chain(episode.into_iter().flatten());
    texts.collect::<Vec<_>>().join("\n")
}

/// SHA-256 of the text in Unicode form NFC without surrounding white space: two texts that read alike hash alike.
#[must_use]
pub fn content_hash(content: &str) -> [u8; 32] {
    let normal: String = content.trim().nfc().collect();
    Sha256::digest(normal.as_bytes()).into()
}
