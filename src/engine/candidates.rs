//! Likely duplicates and contradictions among stored memories.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::answer_size::PORTION;
use super::link::accept_name;
use super::similar::{ComparedText, SHOWN_CHARS, share_of_common_words};
use super::view::timestamp;
use super::{Call, Engine, EngineError};
use crate::domain::graph::name_key;
use crate::domain::memory::content_hash;
use crate::domain::validate::Invalid;
use crate::domain::{Filter, Kind, Memory, Scope};
use crate::store::ReviewQuery;
use crate::store::graph::EntityQuery;

/// Minimum similarity of a candidate pair.
const WORTH_A_LOOK: f64 = 0.4;
/// Number of newest memories that are compared if no memory is named.
const COMPARED: usize = 20;
/// Maximum number of pairs of an answer.
const MOST_PAIRS: usize = 20;
/// Number of newest memories that mention an entity, before the filter by session.
const MOST_MENTIONING: usize = 200;

/// Two similar memories, labeled as `judge` would treat them by default.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairView {
    /// Similarity from 0 to 1.
    pub similarity: f64,
    /// The newer one.
    pub keep: CandidateView,
    /// The older one.
    pub replace: CandidateView,
}

/// One memory of a pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CandidateView {
    /// ID of the memory.
    pub id: String,
    /// Time of the event.
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

/// The data of a memory that a pair needs.
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

/// Two memories and their similarity.
type ComparedPair = (Compared, Compared, f64);

impl Engine {
    /// Returns pairs that were not judged yet: similar ones among the named or the newest memories, or all pairs that
    /// mention the same entity. Memories about an entity may contradict each other in quite different words.
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
                    terms: self.analyzer.terms(&memory.content).into(),
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

    /// Returns every pair of these memories, and the share of words that they have in common.
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

    /// Returns the newest memories of the caller's own project that mention an entity and pass the filter.
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
