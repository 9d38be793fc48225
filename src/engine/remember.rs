//! Storing memories.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::entity_note::note_recognised;
use super::link::{
    MentionItem, RelationItem, accept_mentions, added_relations_schema, mentions_schema,
    named_entities,
};
use super::reference::check_ids;
use super::similar::ComparedText;
use super::update::note_expired;
use super::{Call, Engine, EngineError, SimilarView, run_blocking};
use crate::domain::memory::{Episode, Kind, NewMemory, Stated};
use crate::domain::repeat::PROTECTED_NOW;
use crate::domain::text::PackedTerms;
use crate::domain::validate::{self, Invalid, Problems};
use crate::domain::{AnalyzedMemory, Analyzer, Links};
use crate::store::{Idempotency, Remember, Remembered};

/// Memories to store.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-lift" = ["items"]))]
pub struct RememberParams {
    /// 1 to 500
    #[schemars(length(min = 1, max = 500), extend("x-aliases" = ["item", "memories"]))]
    pub items: Vec<RememberItem>,
    /// Unique per request; repeating a call with it stores nothing twice
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// One memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, extend("x-example" = r#"{"content": "…"}"#))]
pub struct RememberItem {
    /// Self-contained text, up to 64 KiB
    #[schemars(extend("x-aliases" = ["text", "memory", "fact", "value"]))]
    pub content: String,
    /// note (default): fact, preference, decision; dialogue: one turn verbatim; insight: conclusion from sources; episode: attempt and its lesson
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["type", "memory_type", "category"]))]
    pub kind: Kind,
    /// Labels to filter by
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-plain" = true, "x-aliases" = ["tag", "labels", "keywords"], "x-split" = true))]
    pub tags: Vec<String>,
    /// 0 to 1, default 0.5
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1), extend("x-aliases" = ["priority"]))]
    pub importance: Option<f64>,
    /// Any JSON object
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(extend("x-plain" = true))]
    pub metadata: Map<String, Value>,
    /// RFC 3339 or date; default now
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-aliases" = ["timestamp", "date", "time", "when", "created_at"], "x-time" = true))]
    pub occurred_at: Option<String>,
    /// When it stops being true
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-aliases" = ["expires_at", "expires"], "x-time" = ["never"]))]
    pub valid_until: Option<String>,
    /// Conversation ID
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-aliases" = ["session_id", "conversation", "conversation_id"]))]
    pub session: Option<String>,
    /// dialogue: its number in the session
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub turn: Option<i64>,
    /// Who said it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-plain" = true, "x-aliases" = ["role", "author"]))]
    pub speaker: Option<String>,
    /// episode: what was tried
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub situation: Option<String>,
    /// episode: -1 (failed) to 1 (succeeded)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1))]
    pub outcome: Option<f64>,
    /// episode: what to do next time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lesson: Option<String>,
    /// IDs of the source memories
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-aliases" = ["source", "source_ids"], "x-split" = "ids"))]
    pub sources: Vec<String>,
    /// IDs of the memories it replaces
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-aliases" = ["replaces"], "x-split" = "ids"))]
    pub supersedes: Vec<String>,
    /// Mentioned entities: names, or {name, type}
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "mentions_schema", extend("x-aliases" = ["entity"]))]
    pub entities: Vec<MentionItem>,
    /// Relations to add: {from, type, to}, optional weight, properties, valid_from, valid_to
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "added_relations_schema", extend("x-aliases" = ["relation"]))]
    pub relations: Vec<RelationItem>,
    /// Later changes need the owner's approval
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
}

/// The stored memories.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RememberOutput {
    /// One entry per item, in order.
    pub memories: Vec<StoredView>,
    /// Number of new memories; the others were stored before.
    pub created: usize,
    /// Indexes that already contain the memories.
    pub indexed: Indexed,
    /// Remarks on this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// The memory of an item.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct StoredView {
    /// ID of the memory.
    pub id: String,
    /// False if the same text was stored before.
    pub created: bool,
    /// Values that were added to the memory that was stored before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub merged: Vec<String>,
    /// Values that were not, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub ignored: Vec<String>,
    /// Similar memories, of which one may be superseded by this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub similar: Vec<SimilarView>,
}

/// State of the indexes for what was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Indexed {
    /// The index of words.
    pub lexical: bool,
    /// The index of embeddings.
    pub semantic: bool,
}

/// Minimum bytes of text whose analysis would block other tasks.
const MUCH_TEXT: usize = 64 * 1024;

impl Engine {
    /// Stores a batch completely or not at all. When it returns, the memories are durable and found by their words.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] names the refused items and fields.
    pub async fn remember(
        &self,
        call: &Call,
        params: RememberParams,
    ) -> Result<RememberOutput, EngineError> {
        let now = self.clock.now();
        let (params, mut notes) = self.screen_items(params).await?;
        let idempotency = params.idempotency_key.as_ref().map(|key| {
            let request = serde_json::to_vec(&params.items)
                .expect("items are plain data, which always serialises");
            Idempotency {
                key: key.clone(),
                request_hash: Sha256::digest(request).into(),
            }
        });
        let AcceptedItems {
            mut items,
            references,
        } = self.accept_all(params, now)?;
        let resolved = self.resolve_lists(call, &references).await?;
        for (item, ids) in items.iter_mut().zip(resolved.chunks_exact(2)) {
            item.sources.clone_from(&ids[0]);
            item.supersedes.clone_from(&ids[1]);
        }
        call.count_rows(items.len());
        let names = items.iter().enumerate();
        let names = names
            .flat_map(|(index, item)| named_entities(&item.links, &format!("items[{index}].")));
        self.refuse_names_of_memories(call, names.collect()).await?;
        let recognised = self.recognise_entities(call, &mut items).await?;
        let links: Vec<&Links> = items.iter().map(|item| &item.links).collect();
        let names = self.look_up_names(call, &links).await?;
        let (items, mut given) = self.analyze_items(items).await?;
        let stored = call
            .database(self.store.remember(
                &call.scope,
                Remember {
                    items,
                    idempotency,
                    now,
                },
            ))
            .await?;
        self.desk.call();
        let created = stored.iter().filter(|item| item.created).count();
        let replayed = note_idempotency(&stored);
        if let Some(replayed) = replayed {
            notes.push(replayed);
        } else {
            notes.extend(self.note_names(call, names).await);
            notes.extend(note_recognised(&recognised));
            notes.extend(note_expired_items(&given, now));
        }
        let protected = self.protected_before(call, &stored, &given).await;
        notes.extend(protected.iter().map(note_protected));
        let view = |(stored, given): (Remembered, &Given)| {
            let adds_links = given.links && !protected.contains(&stored.id);
            StoredView::new(stored, adds_links)
        };
        let mut memories: Vec<StoredView> = stored.into_iter().zip(&given).map(view).collect();
        let new = list_new_texts(&memories, &mut given);
        let (similar, note) = self.find_near_duplicates(call, new, now).await;
        for (place, similar) in similar {
            memories[place].similar = similar;
        }
        notes.extend(note);
        Ok(RememberOutput {
            created,
            memories,
            indexed: Indexed {
                lexical: true,
                semantic: false,
            },
            notes,
        })
    }

    /// Analyzes the texts of new memories, large amounts on a separate thread.
    async fn analyze_items(
        &self,
        items: Vec<NewMemory>,
    ) -> Result<(Vec<AnalyzedMemory>, Vec<Given>), EngineError> {
        let size: usize = items.iter().map(|item| item.content.len()).sum();
        let analyzer = Arc::clone(&self.analyzer);
        let analyze = move || {
            items
                .into_iter()
                .map(|item| Given::analyze(item, &analyzer))
                .unzip()
        };
        if size <= MUCH_TEXT {
            return Ok(analyze());
        }
        run_blocking(analyze).await
    }

    /// Returns memories that were protected before items repeated them, so that nothing is added to them. The items are
    /// already stored, so that a failure here only omits the notes.
    async fn protected_before(
        &self,
        call: &Call,
        stored: &[Remembered],
        given: &[Given],
    ) -> Vec<Uuid> {
        let adds = |(stored, given): &(&Remembered, &Given)| {
            !stored.created
                && !stored
                    .repeat
                    .merged
                    .iter()
                    .any(|part| part == PROTECTED_NOW)
                && (stored.repeat.protected || given.links)
        };
        let ids: Vec<Uuid> = stored
            .iter()
            .zip(given)
            .filter(adds)
            .map(|(stored, _)| stored.id)
            .collect();
        if ids.is_empty() || stored.iter().any(|item| item.replayed) {
            return Vec::new();
        }
        let known = call
            .database(self.store.get(&call.scope, &ids, false))
            .await
            .unwrap_or_default();
        known
            .iter()
            .filter(|memory| memory.protected)
            .map(|memory| memory.id)
            .collect()
    }

    /// Checks whether [`Engine::remember`] would accept an item, and stores nothing.
    ///
    /// # Errors
    /// [`Invalid`] names the refused field.
    pub fn check(&self, mut item: RememberItem) -> Result<(), Invalid> {
        self.screen_secrets(&mut item)?;
        self.accept(item, self.clock.now()).map(drop)
    }

    /// Reports everything that [`Engine::remember`] would refuse before it looks up the sources, and stores nothing.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_remember(&self, mut params: RememberParams) -> Result<(), Invalid> {
        let mut problems = Problems::default();
        problems.check(self.screen_secrets(&mut params).map(drop));
        problems.check(self.accept_all(params, self.clock.now()).map(drop));
        problems.refuse_if_any()
    }

    fn accept_all(
        &self,
        params: RememberParams,
        now: DateTime<Utc>,
    ) -> Result<AcceptedItems, Invalid> {
        let mut problems = Problems::default();
        if params.items.is_empty() {
            problems.note(Invalid::new("items", "[]", "at least one memory"));
        }
        validate::count("items", params.items.len(), validate::MAX_BATCH)?;
        let key = params.idempotency_key.as_deref();
        problems.check(validate::optional_text(
            "idempotency_key",
            key,
            validate::MAX_NAME_BYTES,
        ));
        let links: usize = params
            .items
            .iter()
            .map(|item| item.entities.len() + item.relations.len())
            .sum();
        if links > validate::MAX_MENTIONS_AT_ONCE {
            let expected = format!(
                "at most {} entities and relations in all items together; store them in several calls",
                validate::MAX_MENTIONS_AT_ONCE
            );
            problems.note(Invalid::new(
                "items",
                format!("{links} entities and relations"),
                expected,
            ));
        }
        let mut accepted = AcceptedItems::default();
        for (index, mut item) in params.items.into_iter().enumerate() {
            let references = [
                ("sources", &mut item.sources),
                ("supersedes", &mut item.supersedes),
            ];
            for (field, ids) in references {
                let field = format!("items[{index}].{field}");
                problems.check(check_ids(&field, ids));
                accepted.references.push((field, std::mem::take(ids)));
            }
            match self.accept(item, now) {
                Ok(item) => accepted.items.push(item),
                Err(invalid) => problems.note(invalid.within(format!("items[{index}]"))),
            }
        }
        problems.refuse_if_any()?;
        Ok(accepted)
    }

    /// Validates an item, except the memories to which it refers.
    fn accept(&self, item: RememberItem, now: DateTime<Utc>) -> Result<NewMemory, Invalid> {
        let mut problems = Problems::default();
        problems.check(validate::new_text(
            "content",
            &item.content,
            validate::MAX_CONTENT_BYTES,
        ));
        problems.check(validate::metadata("metadata", &item.metadata));
        for (field, name) in [("session", &item.session), ("speaker", &item.speaker)] {
            problems.check(validate::new_optional_name(
                field,
                name.as_deref(),
                validate::MAX_NAME_BYTES,
            ));
        }
        problems.check(check_ids("sources", &item.sources));
        problems.check(check_ids("supersedes", &item.supersedes));
        check_fields_of_kind(&item, &mut problems);
        let episode = (item.kind == Kind::Episode)
            .then(|| {
                problems.accept(accept_episode(item.situation, item.outcome, item.lesson).map(Some))
            })
            .flatten();
        let stated = Stated {
            importance: item.importance.is_some(),
            occurred_at: item.occurred_at.is_some(),
        };
        let accepted = NewMemory {
            id: self.clock.new_id(),
            kind: item.kind,
            tags: problems.accept(validate::new_tags("tags", &item.tags)),
            importance: problems.accept(validate::number(
                "importance",
                item.importance.unwrap_or(0.5),
                0.0,
                1.0,
            )),
            metadata: item.metadata.into(),
            occurred_at: problems.accept(
                item.occurred_at
                    .map_or(Ok(now), |at| validate::past_time("occurred_at", &at, now)),
            ),
            valid_until: problems.accept(validate::end_time(
                "valid_until",
                item.valid_until.as_deref(),
            )),
            content: item.content,
            session: item.session,
            turn: item.turn,
            speaker: item.speaker,
            episode,
            sources: Vec::new(),
            supersedes: Vec::new(),
            links: problems.accept(accept_mentions(item.entities, item.relations)),
            protected: item.protected,
            stated,
        };
        problems.refuse_if_any()?;
        Ok(accepted)
    }
}

/// Validated items, and the references to their sources and to the memories that they supersede: two lists for each
/// item.
#[derive(Default)]
struct AcceptedItems {
    items: Vec<NewMemory>,
    references: Vec<(String, Vec<String>)>,
}

/// Refuses fields that the kind does not have.
fn check_fields_of_kind(item: &RememberItem, problems: &mut Problems) {
    if let Some(turn) = item.turn {
        if item.kind != Kind::Dialogue {
            problems.note(Invalid::only_for(
                Kind::Dialogue,
                item.kind,
                "turn",
                &turn.to_string(),
            ));
        } else if item.session.is_none() {
            problems.note(Invalid::new(
                "session",
                "",
                "the conversation that the turn belongs to",
            ));
        }
        if turn < 0 {
            problems.note(Invalid::new(
                "turn",
                turn.to_string(),
                "an integer of at least 0",
            ));
        }
    }
    if item.kind == Kind::Episode {
        return;
    }
    let outcome = item.outcome.map(|outcome| outcome.to_string());
    for (field, value) in [
        ("situation", &item.situation),
        ("lesson", &item.lesson),
        ("outcome", &outcome),
    ] {
        if let Some(value) = value {
            problems.note(Invalid::only_for(Kind::Episode, item.kind, field, value));
        }
    }
}

/// The parts of an item that notes need after it was stored.
struct Given {
    kind: Kind,
    /// Terms of the content; none for dialogue, which is not compared.
    terms: PackedTerms,
    hash: [u8; 32],
    /// Whether the item named entities or relations.
    links: bool,
    valid_until: Option<DateTime<Utc>>,
}

impl Given {
    fn analyze(item: NewMemory, analyzer: &Analyzer) -> (AnalyzedMemory, Self) {
        let words = analyzer.split_text(&item.content);
        let compared = (item.kind != Kind::Dialogue).then(|| words.clone());
        let item = AnalyzedMemory::with_words(item, words, analyzer);
        let given = Self {
            kind: item.memory.kind,
            terms: compared.map_or_else(PackedTerms::default, |words| {
                analyzer.count_terms(words).into()
            }),
            hash: item.hash,
            links: !item.memory.links.is_empty(),
            valid_until: item.memory.valid_until,
        };
        (item, given)
    }
}

fn note_protected(id: &Uuid) -> String {
    format!(
        "Memory {id} was stored before and is protected, so nothing was added to it. Call update to ask its owner."
    )
}

impl StoredView {
    /// `adds_links`: whether the item has entities or relations that the memory may accept.
    fn new(stored: Remembered, adds_links: bool) -> Self {
        let mut merged = stored.repeat.merged;
        if adds_links && !stored.created && !stored.replayed && !stored.repeat.protected {
            merged.push("entities and relations".to_owned());
        }
        Self {
            id: stored.id.to_string(),
            created: stored.created,
            merged,
            ignored: stored.repeat.ignored,
            similar: Vec::new(),
        }
    }
}

/// Lists new memories to be compared, by their position in the answer. People repeat themselves, so similar turns of a
/// dialogue are left out.
fn list_new_texts(memories: &[StoredView], given: &mut [Given]) -> Vec<(usize, ComparedText)> {
    let new = memories.iter().zip(given).enumerate();
    let new = new.filter(|(_, (stored, given))| stored.created && given.kind != Kind::Dialogue);
    new.filter_map(|(place, (stored, given))| {
        let text = ComparedText {
            id: Uuid::parse_str(&stored.id).ok()?,
            terms: std::mem::take(&mut given.terms),
            hash: given.hash,
        };
        Some((place, text))
    })
    .collect()
}

fn note_idempotency(stored: &[Remembered]) -> Option<String> {
    let note = "This idempotency_key was used before with the same arguments; the memories of that call are \
                returned, and nothing was stored again.";
    let is_replayed = stored.iter().any(|item| item.replayed);
    is_replayed.then(|| note.to_owned())
}

/// Returns a note on memories that recall leaves out from the start, which is most likely a mistake.
fn note_expired_items(given: &[Given], now: DateTime<Utc>) -> Option<String> {
    let expired = |item: &Given| item.valid_until.filter(|until| *until <= now);
    let (index, first) = given
        .iter()
        .enumerate()
        .find_map(|(index, item)| Some((index, expired(item)?)))?;
    match given.iter().filter(|item| expired(item).is_some()).count() {
        1 => Some(format!("items[{index}]: {}", note_expired(first))),
        n => Some(format!(
            "{n} items have a valid_until in the past; the first is items[{index}]: {}",
            note_expired(first)
        )),
    }
}

fn accept_episode(
    situation: Option<String>,
    outcome: Option<f64>,
    lesson: Option<String>,
) -> Result<Episode, Invalid> {
    let required = |field: &str, value: Option<String>| {
        let value = value.unwrap_or_default();
        validate::new_text(field, &value, validate::MAX_EPISODE_BYTES).map(|()| value)
    };
    let outcome = outcome
        .ok_or_else(|| Invalid::new("outcome", "", "a number from -1 (failed) to 1 (succeeded)"))
        .and_then(|outcome| validate::number("outcome", outcome, -1.0, 1.0));
    let mut problems = Problems::default();
    let episode = Episode {
        outcome: problems.accept(outcome),
        situation: problems.accept(required("situation", situation)),
        lesson: problems.accept(required("lesson", lesson)),
    };
    problems.refuse_if_any()?;
    Ok(episode)
}
