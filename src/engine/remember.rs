//! Storing memories.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::link::{MentionItem, RelationItem, accept_mentions, mentions_schema, told_schema};
use super::{Call, Engine, EngineError, SimilarView, parse_ids};
use crate::domain::memory::{Episode, Kind, NewMemory};
use crate::domain::validate::{self, Invalid};
use crate::store::{Idempotency, Remember, Remembered};

/// What to store.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-lift" = "items"))]
pub struct RememberParams {
    /// 1 to 500.
    #[schemars(length(min = 1, max = 500), extend("x-aliases" = ["item", "memories"]))]
    pub items: Vec<RememberItem>,
    /// Unique; a repeated call stores nothing twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// One memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, extend("x-example" = r#"{"content": "…"}"#))]
pub struct RememberItem {
    /// Self-contained text, up to 64 KiB.
    #[schemars(extend("x-aliases" = ["text", "memory", "fact", "value"]))]
    pub content: String,
    /// dialogue: one turn verbatim; note (default): fact, preference, decision; insight: conclusion from sources; episode: attempt with lesson.
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["type", "memory_type", "category"]))]
    pub kind: Kind,
    /// Labels to filter by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-plain" = true, "x-aliases" = ["tag", "labels", "keywords"], "x-split" = true))]
    pub tags: Vec<String>,
    /// 0 to 1, default 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1), extend("x-aliases" = ["priority"]))]
    pub importance: Option<f64>,
    /// Any JSON object.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(extend("x-plain" = true))]
    pub metadata: Map<String, Value>,
    /// RFC 3339 or date; default now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-aliases" = ["timestamp", "date", "time", "when", "created_at"], "x-time" = true))]
    pub occurred_at: Option<String>,
    /// When it stops being true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-aliases" = ["expires_at", "expires"], "x-time" = true))]
    pub valid_until: Option<String>,
    /// Conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-aliases" = ["session_id", "conversation", "conversation_id"]))]
    pub session: Option<String>,
    /// dialogue: its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub turn: Option<i64>,
    /// Who said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-plain" = true, "x-aliases" = ["role", "author"]))]
    pub speaker: Option<String>,
    /// episode: what was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub situation: Option<String>,
    /// episode: -1 failed to 1 succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1))]
    pub outcome: Option<f64>,
    /// episode: what to do next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lesson: Option<String>,
    /// Ids it rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-aliases" = ["source", "source_ids"], "x-split" = true))]
    pub sources: Vec<String>,
    /// Ids it replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-aliases" = ["replaces"], "x-split" = true))]
    pub supersedes: Vec<String>,
    /// Mentioned: names, or {name, type}.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "mentions_schema", extend("x-aliases" = ["entity"]))]
    pub entities: Vec<MentionItem>,
    /// Told of, as for link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "told_schema", extend("x-aliases" = ["relation"]))]
    pub relations: Vec<RelationItem>,
    /// Only the owner may change it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RememberOutput {
    /// One entry an item, in order.
    pub memories: Vec<StoredView>,
    /// How many are new; the others were there already.
    pub created: usize,
    /// What finds them from now on.
    pub indexed: Indexed,
    /// What one should know about this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// Where an item is kept.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct StoredView {
    /// Id.
    pub id: String,
    /// False: the same was stored before.
    pub created: bool,
    /// Others that say nearly the same; one of them may be superseded by this.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub similar: Vec<SimilarView>,
}

/// State of the indexes for what was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Indexed {
    /// By words.
    pub lexical: bool,
    /// By meaning.
    pub semantic: bool,
}

impl Engine {
    /// Stores a batch, all or nothing. When it returns, the memories are durable and found by their words.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] names the first item and field that is refused.
    pub async fn remember(&self, call: &Call, params: RememberParams) -> Result<RememberOutput, EngineError> {
        let now = self.clock.now();
        if params.items.is_empty() {
            return Err(Invalid::new("items", "[]", "at least one memory").into());
        }
        validate::count("items", params.items.len(), validate::MAX_BATCH)?;
        let idempotency = match &params.idempotency_key {
            None => None,
            Some(key) => {
                validate::text("idempotency_key", key, validate::MAX_NAME_BYTES)?;
                let request = serde_json::to_vec(&params.items).expect("items are plain data, which always serialises");
                Some(Idempotency { key: key.clone(), request_hash: Sha256::digest(request).into() })
            }
        };
        let mut given = params.items;
        self.resolve_links(call, &mut given).await?;
        let mut items = Vec::with_capacity(given.len());
        for (index, item) in given.into_iter().enumerate() {
            items.push(self.accept(item, now).map_err(|invalid| invalid.within(format!("items[{index}]")))?);
        }
        let links: usize = items.iter().map(|item| item.links.entities.len() + item.links.relations.len()).sum();
        if links > validate::MAX_MENTIONS_AT_ONCE {
            let expected = format!(
                "at most {} entities and relations in all items together; store them in several calls",
                validate::MAX_MENTIONS_AT_ONCE
            );
            return Err(Invalid::new("items", format!("{links} entities and relations"), expected).into());
        }
        call.count_rows(items.len());
        let texts: Vec<(Kind, String)> = items.iter().map(|item| (item.kind, item.content.clone())).collect();
        let protected: Vec<bool> = items.iter().map(|item| item.protected).collect();
        let linking: Vec<bool> = items.iter().map(|item| !item.links.is_empty()).collect();
        let command = Remember { items, idempotency, now };
        let stored = call.database(self.store.remember(&call.scope, command)).await?;
        self.desk.call();
        let view = |stored: &Remembered| StoredView {
            id: stored.id.to_string(),
            created: stored.created,
            similar: Vec::new(),
        };
        let mut memories: Vec<StoredView> = stored.iter().map(view).collect();
        let new = stored.iter().zip(&texts).enumerate().filter(|(_, (stored, (kind, _)))| {
            // People repeat themselves: nearly equal turns of a dialogue say nothing.
            stored.created && *kind != Kind::Dialogue
        });
        let new = new.map(|(place, (stored, (_, text)))| (place, stored.id, text.as_str())).collect();
        let mut notes = self.note_similar(call, new, &mut memories, now).await;
        for (stored, _) in stored.iter().zip(&protected).filter(|(stored, wanted)| **wanted && !stored.created) {
            notes.push(format!("Memory {} was there already; update it to have it protected.", stored.id));
        }
        let repeated = stored.iter().zip(&linking).filter(|(stored, linking)| **linking && !stored.created);
        let repeated: Vec<Uuid> = repeated.map(|(stored, _)| stored.id).collect();
        if !repeated.is_empty() {
            // The memories are stored: whatever goes wrong here, only the note is missing.
            let known = call.database(self.store.get(&call.scope, &repeated, false)).await.unwrap_or_default();
            for memory in known.iter().filter(|memory| memory.protected) {
                notes.push(format!(
                    "Memory {} was there already and is protected: it mentions what it mentioned before.",
                    memory.id
                ));
            }
        }
        let created = stored.iter().filter(|item| item.created).count();
        Ok(RememberOutput { created, memories, indexed: Indexed { lexical: true, semantic: false }, notes })
    }

    /// Says whether [`Engine::remember`] would take an item, and stores nothing.
    ///
    /// # Errors
    /// [`Invalid`] names the field that is refused.
    pub fn check(&self, item: RememberItem) -> Result<(), Invalid> {
        self.accept(item, self.clock.now()).map(drop)
    }

    fn accept(&self, item: RememberItem, now: DateTime<Utc>) -> Result<NewMemory, Invalid> {
        validate::text("content", &item.content, validate::MAX_CONTENT_BYTES)?;
        validate::metadata("metadata", &item.metadata)?;
        for (field, name) in [("session", &item.session), ("speaker", &item.speaker)] {
            if let Some(name) = name {
                validate::text(field, name, validate::MAX_NAME_BYTES)?;
            }
        }
        let kind = item.kind;
        if let Some(turn) = item.turn {
            only_for(kind, Kind::Dialogue, "turn", &turn.to_string())?;
            if turn < 0 {
                return Err(Invalid::new("turn", turn.to_string(), "a number of at least 0"));
            }
            if item.session.is_none() {
                return Err(Invalid::new("session", "", "the conversation that the turn belongs to"));
            }
        }
        let episode = match kind {
            Kind::Episode => Some(accept_episode(item.situation, item.outcome, item.lesson)?),
            _ => {
                for (field, value) in [("situation", &item.situation), ("lesson", &item.lesson)] {
                    if let Some(value) = value {
                        only_for(kind, Kind::Episode, field, value)?;
                    }
                }
                if let Some(outcome) = item.outcome {
                    only_for(kind, Kind::Episode, "outcome", &outcome.to_string())?;
                }
                None
            }
        };
        Ok(NewMemory {
            id: self.clock.new_id(),
            kind,
            tags: validate::tags("tags", &item.tags)?,
            importance: validate::number("importance", item.importance.unwrap_or(0.5), 0.0, 1.0)?,
            metadata: item.metadata,
            occurred_at: item.occurred_at.map_or(Ok(now), |at| validate::past_time("occurred_at", &at, now))?,
            valid_until: item.valid_until.map(|at| validate::time("valid_until", &at)).transpose()?,
            content: item.content,
            session: item.session,
            turn: item.turn,
            speaker: item.speaker,
            episode,
            sources: parse_ids("sources", &item.sources)?,
            supersedes: parse_ids("supersedes", &item.supersedes)?,
            links: accept_mentions(item.entities, item.relations)?,
            protected: item.protected,
        })
    }
}

fn only_for(kind: Kind, wanted: Kind, field: &str, value: &str) -> Result<(), Invalid> {
    if kind == wanted {
        return Ok(());
    }
    Err(Invalid::new(field, value, format!("no {field} for kind {kind}: it belongs to kind {wanted}")))
}

fn accept_episode(situation: Option<String>, outcome: Option<f64>, lesson: Option<String>) -> Result<Episode, Invalid> {
    let required = |field: &str, value: Option<String>| {
        let value = value.unwrap_or_default();
        validate::text(field, &value, validate::MAX_EPISODE_BYTES)?;
        Ok::<_, Invalid>(value)
    };
    let outcome = outcome.ok_or_else(|| Invalid::new("outcome", "", "how the attempt ended, from -1 to 1"))?;
    Ok(Episode {
        situation: required("situation", situation)?,
        outcome: validate::number("outcome", outcome, -1.0, 1.0)?,
        lesson: required("lesson", lesson)?,
    })
}
