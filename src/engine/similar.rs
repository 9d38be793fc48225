//! Memories that say nearly the same, by their words alone: how much of a text's own BM25 score another one reaches,
//! and how much of the other one is in it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Call, Engine, EngineError, StoredView};
use crate::domain::bm25::keep_longest;
use crate::domain::memory::content_hash;
use crate::domain::{Filter, Kind, Memory, Scope};
use crate::store::SimilarQuery;

/// From here on new memories are told to be near-duplicates of old ones.
const NEARLY_EQUAL: f64 = 0.6;
/// Larger batches are not compared.
const MOST_COMPARED: usize = 50;
/// Longest time that an answer waits for comparisons, and for a statement of one.
const PATIENCE: Duration = Duration::from_millis(250);
/// Comparisons that may be made at once, and a second from then on. One costs several times what storing costs: whoever
/// stores more than that is filling the memory, and better served by speed.
const BURST: f64 = 100.0;
const A_SECOND: f64 = 20.0;
/// Postings that one comparison reads: rare words decide it.
const BUDGET: u64 = 400;
/// Most terms of a text that are looked up.
const MOST_TERMS: usize = 24;
/// Most similar ones of one memory.
const MOST_SIMILAR: usize = 3;
/// Characters of them that are shown.
const SHOWN_CHARS: usize = 160;

/// Another memory that says nearly the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimilarView {
    /// Its id.
    pub id: String,
    /// From 0 to 1.
    pub similarity: f64,
    /// The beginning of its text.
    pub content: String,
}

/// How many comparisons may be made now.
#[derive(Debug)]
pub(super) struct Allowance(Mutex<(f64, Instant)>);

impl Allowance {
    pub(super) fn new() -> Self {
        Self(Mutex::new((BURST, Instant::now())))
    }

    /// Takes one, where one is left.
    fn take(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = &mut *state;
        let now = Instant::now();
        *left = (*left + now.duration_since(*since).as_secs_f64() * A_SECOND).min(BURST);
        *since = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

/// Another memory, and how similar it is.
pub(super) type Similar = (Memory, f64);

impl Engine {
    /// Looks for near-duplicates of what was just stored (place in the answer, id, text). They are an extra: whatever
    /// goes wrong here, the memories are stored; a note says what was left out.
    pub(super) async fn note_similar(
        &self,
        call: &Call,
        new: Vec<(usize, Uuid, &str)>,
        memories: &mut [StoredView],
        now: DateTime<Utc>,
    ) -> Vec<String> {
        if new.len() > MOST_COMPARED {
            return vec![format!(
                "Similar memories were not searched: the limit is {MOST_COMPARED} new memories per call."
            )];
        }
        let start = Instant::now();
        for (done, (place, id, text)) in new.iter().enumerate() {
            if !self.comparisons.take() {
                return vec![format!(
                    "Similar memories were not searched: more than {A_SECOND} memories per second are being stored."
                )];
            }
            if start.elapsed() > PATIENCE {
                return vec![format!(
                    "Similar memories were searched only for the first {done} new memories."
                )];
            }
            match self.similar(call, *id, text, NEARLY_EQUAL, now).await {
                Ok(similar) => {
                    memories[*place].similar = similar.into_iter().map(SimilarView::from).collect()
                }
                Err(_) => return vec!["Similar memories could not be searched.".to_owned()],
            }
        }
        Vec::new()
    }

    /// Memories of the caller's own project that are at least so similar to a stored one, most similar first.
    pub(super) async fn similar(
        &self,
        call: &Call,
        id: Uuid,
        text: &str,
        least: f64,
        now: DateTime<Utc>,
    ) -> Result<Vec<Similar>, EngineError> {
        let own = Scope::new(call.scope.project(), call.scope.actor());
        let all = self.analyzer.terms(text).counts;
        let mut terms: Vec<String> = all.keys().cloned().collect();
        keep_longest(&mut terms, MOST_TERMS);
        let query = SimilarQuery {
            terms,
            exact: content_hash(text),
            budget: BUDGET,
            filter: Filter {
                kinds: vec![Kind::Note, Kind::Insight, Kind::Episode],
                ..Filter::at(now)
            },
            limit: 4 * MOST_SIMILAR,
            patience: PATIENCE,
        };
        let candidates = call
            .database(self.store.search_similar(&own, &query))
            .await?;
        let Some(whole) = candidates
            .iter()
            .find(|hit| hit.id == id)
            .map(|hit| hit.bm25)
        else {
            return Ok(Vec::new());
        };
        let share = |score: f64| {
            if whole > 0.0 {
                (score / whole).min(1.0)
            } else {
                0.0
            }
        };
        // The other factor is at most 1.
        let shares: BTreeMap<Uuid, f64> = candidates
            .iter()
            .filter(|hit| hit.id != id)
            .map(|hit| (hit.id, if hit.exact { 1.0 } else { share(hit.bm25) }))
            .filter(|(_, share)| *share >= least * least)
            .collect();
        if shares.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = shares.keys().copied().collect();
        let others = call.database(self.store.get(&own, &ids, false)).await?;
        let similarity = |other: &Memory| {
            let theirs = self.analyzer.terms(&other.content).counts;
            let common = theirs.keys().filter(|term| all.contains_key(*term)).count();
            (shares[&other.id] * ratio(common, theirs.len())).sqrt()
        };
        let mut similar: Vec<Similar> = others
            .into_iter()
            .map(|other| {
                let similarity = similarity(&other);
                (other, similarity)
            })
            .filter(|(_, similarity)| *similarity >= least)
            .collect();
        similar.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.seq.cmp(&a.0.seq)));
        similar.truncate(MOST_SIMILAR);
        Ok(similar)
    }

    /// How much of their words two memories have in common, from 0 to 1.
    pub(super) fn common_words(&self, a: &Memory, b: &Memory) -> f64 {
        let (a, b) = (
            self.analyzer.terms(&a.content).counts,
            self.analyzer.terms(&b.content).counts,
        );
        let common = a.keys().filter(|term| b.contains_key(*term)).count();
        (ratio(common, a.len()) * ratio(common, b.len())).sqrt()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of words are small")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

impl From<Similar> for SimilarView {
    fn from((memory, similarity): Similar) -> Self {
        Self {
            id: memory.id.to_string(),
            similarity: (similarity * 100.0).round() / 100.0,
            content: memory.content.chars().take(SHOWN_CHARS).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_limited_when_many_memories_are_stored() {
        let allowance = Allowance::new();
        let made = (0..10_000).take_while(|_| allowance.take()).count();
        assert!((100..1_000).contains(&made), "{made}");
    }
}
