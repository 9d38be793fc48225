//! The search behind recall: each channel for itself, side by side, then one ranking.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{Call, Engine, EngineError};
use crate::domain::Filter;
use crate::domain::fusion::{Channel, Place, Scored, fuse};
use crate::domain::lexical::{CorpusStats, POSTING_BUDGET, select_terms};
use crate::domain::memory::content_hash;
use crate::embed::QueryVector;
use crate::store::{Candidate, LexicalQuery, SemanticCandidate, StoreError, VectorQuery};

/// Most terms of a query; the longest ones carry the least chance of being common.
const MAX_QUERY_TERMS: usize = 256;
/// How far down each channel is read at least: a hit may be far down in one and still be the best of both. Pages up to
/// here are cut from one and the same ranking.
const DEPTH: usize = 100;

/// A hit before its memory is read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: Uuid,
    pub(super) score: f64,
    pub(super) terms: Vec<String>,
    pub(super) exact: bool,
    /// Empty where words alone were searched.
    pub(super) places: BTreeMap<Channel, Place>,
}

/// Hits, best first.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    pub(super) hits: Vec<Found>,
    pub(super) notes: Vec<String>,
}

impl Engine {
    /// The best `limit` hits, as far as there are so many. Three statements, four at most.
    pub(super) async fn find(
        &self,
        call: &Call,
        query: &str,
        filter: &Filter,
        limit: usize,
    ) -> Result<Ranking, EngineError> {
        let mut terms: Vec<String> = self.analyzer.terms(query).counts.into_keys().collect();
        if terms.len() > MAX_QUERY_TERMS {
            terms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            terms.truncate(MAX_QUERY_TERMS);
        }
        // The vector is made while the database counts.
        let (stats, vector) =
            tokio::join!(call.database(self.store.corpus_stats(&call.scope, &terms)), self.desk.query(query));
        let stats = stats?;
        let depth = if matches!(vector, Ok(Some(_))) { limit.max(DEPTH) } else { limit };
        let lexical = LexicalQuery {
            terms: select_terms(&terms, &stats, POSTING_BUDGET),
            average_length: stats.average_length(),
            exact: content_hash(query),
            filter: filter.clone(),
            limit: depth,
        };
        let words = call.database(self.store.search_lexical(&call.scope, &lexical));
        let (vector, mut notes) = match vector {
            Ok(vector) => (vector, Vec::new()),
            Err(reason) => (None, vec![by_words_alone(&reason)]),
        };
        let Some(vector) = vector else {
            return Ok(Ranking { hits: words.await?.into_iter().map(Found::by_words).collect(), notes });
        };
        let (words, meaning) = tokio::join!(words, self.near(call, vector, filter, depth, &stats));
        let (words, meaning) = (words?, meaning);
        let hits = match meaning {
            Ok(meaning) => ranked(words, &meaning),
            Err(error) => {
                notes.push(by_words_alone(&error.to_string()));
                words.into_iter().map(Found::by_words).collect()
            }
        };
        Ok(Ranking { hits, notes })
    }

    async fn near(
        &self,
        call: &Call,
        query: QueryVector,
        filter: &Filter,
        limit: usize,
        stats: &CorpusStats,
    ) -> Result<Vec<SemanticCandidate>, StoreError> {
        let query = VectorQuery {
            model: query.model.id,
            vector: query.vector,
            filter: filter.clone(),
            limit,
            documents: stats.documents,
        };
        call.database(self.store.search_vectors(&call.scope, &query)).await
    }
}

fn by_words_alone(reason: &str) -> String {
    format!("Searched by words alone: {reason}.")
}

impl Found {
    fn by_words(candidate: Candidate) -> Self {
        let Candidate { id, score, terms, exact, .. } = candidate;
        Self { id, score, terms, exact, places: BTreeMap::new() }
    }
}

/// One ranking; texts that are the query itself come before all others.
fn ranked(words: Vec<Candidate>, meaning: &[SemanticCandidate]) -> Vec<Found> {
    let scored = |id, seq, score| Scored { id, seq, score };
    let fused = fuse(&[
        (Channel::Words, words.iter().map(|hit| scored(hit.id, hit.seq, hit.score)).collect()),
        (Channel::Meaning, meaning.iter().map(|hit| scored(hit.id, hit.seq, hit.cosine)).collect()),
    ]);
    let mut by_id: HashMap<Uuid, Candidate> = words.into_iter().map(|hit| (hit.id, hit)).collect();
    let mut hits: Vec<Found> = fused
        .into_iter()
        .map(|hit| {
            let (terms, exact) = by_id.remove(&hit.id).map(|words| (words.terms, words.exact)).unwrap_or_default();
            Found { id: hit.id, score: hit.score, terms, exact, places: hit.places }
        })
        .collect();
    // Stable, so that the ranking holds among each.
    hits.sort_by_key(|hit| !hit.exact);
    hits
}
