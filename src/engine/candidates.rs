//! Likely duplicates and contradictions among stored memories.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::answer_size::PORTION;
use super::link::accept_name;
use super::similar::{ComparedText, share_of_common_words};
use super::view::timestamp;
use super::{Call, Engine, EngineError};
use crate::domain::graph::name_key;
use crate::domain::memory::content_hash;
use crate::domain::validate::Invalid;
use crate::domain::{Filter, Kind, Memory, Scope};
use crate::store::ReviewQuery;
use crate::store::graph::EntityQuery;

/// From here on two memories are worth a look.
const WORTH_A_LOOK: f64 = 0.4;
/// Newest memories that are compared where none is named.
const COMPARED: usize = 20;
/// Pairs of an answer.
const MOST_PAIRS: usize = 20;
/// Newest memories that mention an entity, before the session narrows them.
const MOST_MENTIONING: usize = 200;
/// Characters of a candidate's text that are shown.
const SHOWN_CHARS: usize = 160;

/// Two similar memories, labelled as `judge` would treat them by default.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairView {
    /// How similar they are, from 0 to 1.
    pub similarity: f64,
    /// The newer one.
    pub keep: CandidateView,
    /// The older one.
    pub replace: CandidateView,
}

/// One memory of a pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CandidateView {
    /// Its ID.
    pub id: String,
    /// When it happened.
    pub occurred_at: String,
    /// The beginning of its text.
    pub content: String,
}

impl CandidateView {
    fn new(memory: &Memory) -> Self {
        Self {
            id: memory.id.to_string(),
            occurred_at: timestamp(memory.occurred_at),
            content: memory.content.chars().take(SHOWN_CHARS).collect(),
        }
    }
}

/// A memory as far as a pair needs it.
#[derive(Debug, Clone)]
struct Compared {
    id: Uuid,
    age: (DateTime<Utc>, i64),
    view: CandidateView,
}

impl From<&Memory> for Compared {
    fn from(memory: &Memory) -> Self {
        Self {
            id: memory.id,
            age: (memory.occurred_at, memory.seq),
            view: CandidateView::new(memory),
        }
    }
}

/// Two memories, and how similar they are.
type ComparedPair = (Compared, Compared, f64);

impl Engine {
    /// Pairs that were not judged yet: those that look alike, of the memory or of the newest ones, or those that mention
    /// the same entity. Two memories contradict each other about somebody in quite different words.
    pub(super) async fn candidates(
        &self,
        call: &Call,
        id: Option<Uuid>,
        entity: Option<&str>,
        session: Option<String>,
    ) -> Result<Vec<PairView>, EngineError> {
        let now = self.clock.now();
        let kinds = vec![Kind::Note, Kind::Insight, Kind::Episode];
        let filter = Filter {
            kinds,
            session,
            ..Filter::at(now)
        };
        let memories = match (id, entity) {
            (Some(id), _) => vec![self.own(call, "id", id).await?],
            (None, Some(entity)) => self.mentioning(call, entity, &filter).await?,
            (None, None) => {
                let own = Scope::new(call.scope.project(), call.scope.actor());
                call.database(self.store.browse(&own, &filter, None, COMPARED))
                    .await?
            }
        };
        call.count_rows(memories.len());
        let mut pairs = if entity.is_some() {
            self.pair_all(&memories)
        } else {
            let mut pairs = Vec::new();
            for memory in memories {
                let text = ComparedText {
                    id: memory.id,
                    terms: self.analyzer.terms(&memory.content).counts,
                    hash: content_hash(&memory.content),
                };
                let similar = self.find_similar(call, &text, WORTH_A_LOOK, now).await?;
                let memory = Compared::from(&memory);
                pairs.extend(
                    similar
                        .iter()
                        .map(|(other, similarity)| (memory.clone(), other.into(), *similarity)),
                );
            }
            pairs
        };
        let ids: BTreeSet<Uuid> = pairs.iter().flat_map(|(a, b, _)| [a.id, b.id]).collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let judged = call
            .database(
                self.store
                    .reviews(&call.scope, &ReviewQuery::Pairs(ids), 1_000),
            )
            .await?;
        let pair = |a: Uuid, b: Uuid| (a.min(b), a.max(b));
        let mut seen: BTreeSet<(Uuid, Uuid)> = judged
            .iter()
            .filter_map(|review| Some(pair(review.memory, review.proposal.other()?)))
            .collect();
        pairs.retain(|(a, b, _)| seen.insert(pair(a.id, b.id)));
        pairs.sort_by(|a, b| b.2.total_cmp(&a.2));
        let view = |(a, b, similarity): ComparedPair| {
            let (newer, older) = if a.age > b.age { (a, b) } else { (b, a) };
            let similarity = (similarity * 100.0).round() / 100.0;
            PairView {
                similarity,
                keep: newer.view,
                replace: older.view,
            }
        };
        Ok(pairs.into_iter().take(MOST_PAIRS).map(view).collect())
    }

    /// Every pair of these memories, and how much of their words the two have in common.
    fn pair_all(&self, memories: &[Memory]) -> Vec<ComparedPair> {
        let compared: Vec<(Compared, HashSet<String>)> = memories
            .iter()
            .map(|memory| (memory.into(), self.words_of(&memory.content)))
            .collect();
        let mut pairs = Vec::new();
        for (index, (memory, words)) in compared.iter().enumerate() {
            for (other, other_words) in &compared[index + 1..] {
                let similarity = share_of_common_words(words, other_words);
                pairs.push((memory.clone(), other.clone(), similarity));
            }
        }
        pairs
    }

    /// The newest memories of the caller's own project that mention an entity and pass the filter.
    async fn mentioning(
        &self,
        call: &Call,
        entity: &str,
        filter: &Filter,
    ) -> Result<Vec<Memory>, EngineError> {
        let own = Scope::new(call.scope.project(), call.scope.actor());
        let key = name_key(&accept_name("entity", entity)?);
        let found = call
            .database(self.store.entities(&own, &EntityQuery::Keys(vec![key])))
            .await?;
        if found.is_empty() {
            return Err(Invalid::new(
                "entity",
                entity,
                "the name of an existing entity; explore with mode list shows them",
            )
            .into());
        }
        let numbers: Vec<i64> = found.iter().map(|entity| entity.seq).collect();
        let mentions = call
            .database(
                self.store
                    .mentions(&own, &numbers, filter.now, None, MOST_MENTIONING),
            )
            .await?;
        let ids: Vec<Uuid> = mentions.into_iter().map(|mention| mention.id).collect();
        let mut memories = Vec::new();
        for portion in ids.chunks(PORTION) {
            let found = call.database(self.store.get(&own, portion, false)).await?;
            memories.extend(found.into_iter().filter(|memory| filter.admits(memory)));
            if memories.len() >= COMPARED {
                break;
            }
        }
        memories.truncate(COMPARED);
        Ok(memories)
    }
}
