//! Finds memories with nearly the same words: compares how much of a text's own BM25 score another memory reaches, and
//! how much of that memory is in the text.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Call, Engine, EngineError};
use crate::domain::bm25::keep_longest;
use crate::domain::count::count_of;
use crate::domain::text::PackedTerms;
use crate::domain::{Filter, Kind, Memory, Scope};
use crate::store::SimilarQuery;

/// Minimum similarity at which new memories are reported as near-duplicates.
const NEARLY_EQUAL: f64 = 0.6;
/// Maximum size of a batch that is compared.
const MOST_COMPARED: usize = 50;
/// Maximum time that an answer waits for comparisons, and for a statement of one.
const PATIENCE: Duration = Duration::from_millis(250);
/// Maximum number of comparisons at once, and then per second. A comparison costs several times as much as storing;
/// callers that store more are loading data and need speed rather than comparisons.
const BURST: f64 = 100.0;
const A_SECOND: f64 = 20.0;
/// Number of postings that one comparison reads; rare words are decisive.
const BUDGET: u64 = 400;
/// Maximum number of terms of a text that are looked up.
const MOST_TERMS: usize = 24;
/// Maximum number of similar memories of one memory.
const MOST_SIMILAR: usize = 3;
/// Maximum number of characters of the text of a similar memory.
pub(super) const SHOWN_CHARS: usize = 160;

/// Another memory with nearly the same text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimilarView {
    pub id: String,
    /// Similarity from 0 to 1.
    pub similarity: f64,
    /// The beginning of its text.
    pub content: String,
}

/// Limits the number of comparisons per second.
#[derive(Debug)]
pub(super) struct RateLimiter(Mutex<(f64, Instant)>);

impl RateLimiter {
    pub(super) fn new() -> Self {
        Self(Mutex::new((BURST, Instant::now())))
    }

    /// Takes a permit if one is available.
    fn take_permit(&self) -> bool {
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

/// A stored text to compare with others.
#[derive(Debug)]
pub(super) struct ComparedText {
    pub(super) id: Uuid,
    /// Terms of the content.
    pub(super) terms: PackedTerms,
    /// Hash of the content.
    pub(super) hash: [u8; 32],
}

/// Another memory and its similarity.
pub(super) type Similar = (Memory, f64);

impl Engine {
    /// Looks for near-duplicates of memories that were just stored. Returns them by the position of the memory in the
    /// answer, and a note if any comparison was omitted. Failures do not affect the stored memories.
    pub(super) async fn find_near_duplicates(
        &self,
        call: &Call,
        new: Vec<(usize, ComparedText)>,
        now: DateTime<Utc>,
    ) -> (Vec<(usize, Vec<SimilarView>)>, Option<String>) {
        let mut found = Vec::new();
        if new.len() > MOST_COMPARED {
            let note = format!(
                "Similar memories were not searched: the limit is {MOST_COMPARED} new memories per call."
            );
            return (found, Some(note));
        }
        let start = Instant::now();
        for (done, (place, text)) in new.iter().enumerate() {
            if !self.comparisons.take_permit() {
                let note = format!(
                    "Similar memories were not searched: more than {A_SECOND} memories per second are being stored."
                );
                return (found, Some(note));
            }
            if start.elapsed() > PATIENCE {
                let note = format!(
                    "Similar memories were searched only for the first {}.",
                    count_of(done as u64, "new memory")
                );
                return (found, Some(note));
            }
            match self.find_similar(call, text, NEARLY_EQUAL, now).await {
                Ok(similar) => {
                    found.push((*place, similar.into_iter().map(SimilarView::from).collect()));
                }
                Err(_) => {
                    let note = "Similar memories could not be searched.".to_owned();
                    return (found, Some(note));
                }
            }
        }
        (found, None)
    }

    /// Returns memories of the caller's own project with at least this similarity to a stored one, most similar first.
    pub(super) async fn find_similar(
        &self,
        call: &Call,
        text: &ComparedText,
        least: f64,
        now: DateTime<Utc>,
    ) -> Result<Vec<Similar>, EngineError> {
        let own = Scope::new(call.scope.project(), call.scope.actor());
        let mut terms: Vec<String> = text.terms.iter().map(|(term, _)| term.to_owned()).collect();
        keep_longest(&mut terms, MOST_TERMS);
        let query = SimilarQuery {
            terms,
            exact: text.hash,
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
            .find(|hit| hit.id == text.id)
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
            .filter(|hit| hit.id != text.id)
            .map(|hit| (hit.id, if hit.exact { 1.0 } else { share(hit.bm25) }))
            .filter(|(_, share)| *share >= least * least)
            .collect();
        if shares.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = shares.keys().copied().collect();
        let others = call.database(self.store.get(&own, &ids, false)).await?;
        let own_terms: HashSet<&str> = text.terms.iter().map(|(term, _)| term).collect();
        let similarity = |other: &Memory| {
            let theirs = self.analyzer.terms(&other.content).counts;
            let common = theirs
                .keys()
                .filter(|term| own_terms.contains(term.as_str()))
                .count();
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

    /// Returns the words of a text, for [`share_of_common_words`].
    pub(super) fn words_of(&self, text: &str) -> HashSet<String> {
        self.analyzer.terms(text).counts.into_keys().collect()
    }
}

/// Returns the share of words that two texts have in common, from 0 to 1.
pub(super) fn share_of_common_words(a: &HashSet<String>, b: &HashSet<String>) -> f64 {
    let common = a.intersection(b).count();
    (ratio(common, a.len()) * ratio(common, b.len())).sqrt()
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
        let limiter = RateLimiter::new();
        let made = (0..10_000).take_while(|_| limiter.take_permit()).count();
        assert!((100..1_000).contains(&made), "{made}");
    }
}
