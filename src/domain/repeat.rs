//! Storing a text again. The text remains one memory, and the other fields of the new item are added to it; values that
//! cannot be added are reported, so that nothing is lost silently.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::json::merge_patch;
use super::memory::{AnalyzedMemory, Episode, Kind, Memory, NewMemory, Patch};
use super::object_text::ObjectText;
use super::text::Analyzer;
use super::validate::{self, MAX_IDS, MAX_TAGS};

/// The entry in [`Repeat::merged`] if the item has protected a memory that was not protected.
pub const PROTECTED_NOW: &str = "protected";

/// The result for the values of an item whose text was stored before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repeat {
    /// Descriptions of the values that were added to the memory.
    pub merged: Vec<String>,
    /// Values that were not added, with the reason or the way to set them.
    pub ignored: Vec<String>,
    /// Whether the memory is protected, so that nothing was added.
    pub protected: bool,
}

impl Repeat {
    /// Adds the result of another repetition of the same text.
    pub fn extend(&mut self, other: Self) {
        self.merged.extend(other.merged);
        self.ignored.extend(other.ignored);
        self.protected |= other.protected;
    }
}

/// The values of an item in addition to its text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restated {
    tags: Vec<String>,
    importance: Option<f64>,
    metadata: ObjectText,
    occurred_at: Option<DateTime<Utc>>,
    valid_until: Option<DateTime<Utc>>,
    session: Option<String>,
    speaker: Option<String>,
    episode: Option<Episode>,
    sources: Vec<Uuid>,
    protected: bool,
}

impl From<&NewMemory> for Restated {
    fn from(item: &NewMemory) -> Self {
        Self {
            tags: item.tags.clone(),
            importance: Some(item.importance).filter(|_| item.stated.importance),
            metadata: item.metadata.clone(),
            occurred_at: Some(item.occurred_at).filter(|_| item.stated.occurred_at),
            valid_until: item.valid_until,
            session: item.session.clone(),
            speaker: item.speaker.clone(),
            episode: item.episode.clone(),
            sources: item.sources.clone(),
            protected: item.protected,
        }
    }
}

impl Restated {
    /// Returns whether the item has no values except its text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the changes to the memory that has the text, and the report about them.
    #[must_use]
    pub fn merge_into(&self, memory: &Memory) -> (Patch, Repeat) {
        let (mut patch, mut repeat) = (Patch::default(), Repeat::default());
        self.add_tags(memory, &mut patch, &mut repeat);
        self.add_metadata(memory, &mut patch, &mut repeat);
        self.add_sources(memory, &mut patch, &mut repeat);
        if let Some(importance) = self
            .importance
            .filter(|importance| differs(*importance, memory.importance))
        {
            patch.importance = Some(importance);
            repeat.merged.push(format!(
                "importance {importance} (was {})",
                memory.importance
            ));
        }
        if let Some(until) = self
            .valid_until
            .filter(|until| Some(*until) != memory.valid_until)
        {
            patch.valid_until = Some(Some(until));
            repeat.merged.push(format!("valid_until {}", shown(until)));
        }
        if self.protected && !memory.protected {
            patch.protected = Some(true);
            repeat.merged.push(PROTECTED_NOW.to_owned());
        }
        self.report_unchanged(memory, &mut repeat);
        if memory.protected && patch.changes_memory() {
            let refused = Repeat {
                merged: Vec::new(),
                ignored: names(&patch),
                protected: true,
            };
            repeat = Repeat {
                ignored: [refused.ignored, repeat.ignored].concat(),
                ..refused
            };
            patch = Patch::default();
        }
        (patch, repeat)
    }

    fn add_tags(&self, memory: &Memory, patch: &mut Patch, repeat: &mut Repeat) {
        let mut new: Vec<String> = self
            .tags
            .iter()
            .filter(|tag| !validate::has_tag(&memory.tags, tag))
            .cloned()
            .collect();
        let room = MAX_TAGS.saturating_sub(memory.tags.len());
        if new.len() > room {
            let left = new.split_off(room).join(", ");
            repeat.ignored.push(format!(
                "tags {left} (a memory has at most {MAX_TAGS} tags)"
            ));
        }
        if !new.is_empty() {
            repeat.merged.push(format!("tags {}", new.join(", ")));
            let mut tags = [memory.tags.clone(), new].concat();
            tags.sort();
            patch.tags = Some(tags);
        }
    }

    fn add_metadata(&self, memory: &Memory, patch: &mut Patch, repeat: &mut Repeat) {
        if self.metadata.is_empty() || self.metadata == memory.metadata {
            return;
        }
        let known = memory.metadata.to_map();
        let changed = |(key, value): &(String, Value)| known.get(key) != Some(value);
        let new: Map<String, Value> = self.metadata.to_map().into_iter().filter(changed).collect();
        let mut after = known.clone();
        merge_patch(&mut after, &new);
        if after == known {
            return;
        }
        let keys = new.keys().cloned().collect::<Vec<_>>().join(", ");
        if validate::metadata("metadata", &after).is_err() {
            repeat.ignored.push(format!(
                "metadata {keys} (too large together with the stored metadata)"
            ));
        } else {
            repeat.merged.push(format!("metadata {keys}"));
            patch.metadata = Some(new);
        }
    }

    fn add_sources(&self, memory: &Memory, patch: &mut Patch, repeat: &mut Repeat) {
        let is_new = |source: &&Uuid| **source != memory.id && !memory.sources.contains(source);
        let mut new: Vec<Uuid> = self.sources.iter().filter(is_new).copied().collect();
        let room = MAX_IDS.saturating_sub(memory.sources.len());
        if new.len() > room {
            repeat.ignored.push(format!(
                "{} sources (a memory has at most {MAX_IDS})",
                new.len() - room
            ));
            new.truncate(room);
        }
        if !new.is_empty() {
            repeat.merged.push(if new.len() == 1 {
                "1 source".to_owned()
            } else {
                format!("{} sources", new.len())
            });
            patch.sources = Some(new);
        }
    }

    /// Reports values that a repetition does not change: time, place and speaker of the event, and the fields of an
    /// episode.
    fn report_unchanged(&self, memory: &Memory, repeat: &mut Repeat) {
        let stored = memory.episode.as_ref();
        let given = self.episode.as_ref();
        let episode_differs = |differs: fn(&Episode, &Episode) -> bool| {
            given
                .zip(stored)
                .is_some_and(|(given, stored)| differs(given, stored))
        };
        let updatable = [
            (
                "occurred_at",
                self.occurred_at.is_some_and(|at| at != memory.occurred_at),
            ),
            (
                "situation",
                episode_differs(|given, stored| given.situation != stored.situation),
            ),
            (
                "outcome",
                episode_differs(|given, stored| differs(given.outcome, stored.outcome)),
            ),
            (
                "lesson",
                episode_differs(|given, stored| given.lesson != stored.lesson),
            ),
        ];
        let fixed = [
            (
                "session",
                self.session.is_some() && self.session != memory.session,
            ),
            (
                "speaker",
                self.speaker.is_some() && self.speaker != memory.speaker,
            ),
        ];
        let named = |(name, differs): (&'static str, bool), advice: &str| {
            differs.then(|| format!("{name} ({advice})"))
        };
        repeat.ignored.extend(
            updatable
                .into_iter()
                .filter_map(|field| named(field, "change it with update")),
        );
        repeat.ignored.extend(
            fixed
                .into_iter()
                .filter_map(|field| named(field, "cannot be changed")),
        );
    }
}

/// Returns the names of the fields that a patch changes.
fn names(patch: &Patch) -> Vec<String> {
    let fields = [
        ("tags", patch.tags.is_some()),
        ("metadata", patch.metadata.is_some()),
        ("sources", patch.sources.is_some()),
        ("importance", patch.importance.is_some()),
        ("valid_until", patch.valid_until.is_some()),
    ];
    fields
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Compared exactly, because both values come from the same decimal text unless they differ.
fn differs(one: f64, other: f64) -> bool {
    (one - other).abs() > f64::EPSILON
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[derive(PartialEq, Eq, Hash)]
enum Sameness {
    Text(Kind, [u8; 32]),
    Turn(String, i64, [u8; 32]),
}

/// Adds the values of later items with the same text to the first one, and analyzes it again. Returns the result for
/// each later item.
pub fn merge_repeats(items: &mut [AnalyzedMemory], analyzer: &Analyzer) -> Vec<Repeat> {
    let mut first: HashMap<Sameness, usize> = HashMap::new();
    let mut repeats = Vec::with_capacity(items.len());
    for index in 0..items.len() {
        let AnalyzedMemory { memory, hash, .. } = &items[index];
        let sameness = match (memory.kind, &memory.session, memory.turn) {
            (Kind::Dialogue, Some(session), Some(turn)) => {
                Some(Sameness::Turn(session.clone(), turn, *hash))
            }
            (Kind::Dialogue, ..) => None,
            (kind, ..) => Some(Sameness::Text(kind, *hash)),
        };
        repeats.push(match sameness.map(|sameness| first.entry(sameness)) {
            Some(Entry::Occupied(entry)) => {
                let restated = Restated::from(memory);
                let kept = &mut items[*entry.get()];
                let repeat = kept.memory.restate(&restated);
                if !repeat.merged.is_empty() {
                    *kept = AnalyzedMemory::new(kept.memory.clone(), analyzer);
                }
                repeat
            }
            Some(Entry::Vacant(entry)) => {
                entry.insert(index);
                Repeat::default()
            }
            None => Repeat::default(),
        });
    }
    repeats
}

impl NewMemory {
    /// Adds the values of a later item with the same text.
    fn restate(&mut self, restated: &Restated) -> Repeat {
        let mut draft = self.as_stored("", self.occurred_at);
        // The item is not stored, so it is not protected yet.
        draft.protected = false;
        let (patch, repeat) = restated.merge_into(&draft);
        patch.apply(&mut draft, self.occurred_at);
        self.stated.importance |= patch.importance.is_some();
        self.tags = draft.tags;
        self.importance = draft.importance;
        self.metadata = draft.metadata;
        self.valid_until = draft.valid_until;
        self.sources = draft.sources;
        self.protected |= draft.protected;
        repeat
    }
}
