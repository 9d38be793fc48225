//! Searching by words and by meaning at the same time, and making one ranking of both.
//!
//! First the channels are fused, then the ranking adds what a memory gains by the entities it mentions, and multiplies
//! by how it stands. Meaning is an addition: where there is no embedder, or it does not answer in time, the words are
//! searched alone, and the answer says so.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::rank::{self, Found, Ranked};
use super::{Call, Engine, EngineError};
use crate::domain::fusion::{Channel, Fused, Scored, fuse};
use crate::domain::graph::names_in;
use crate::domain::lexical::{POSTING_BUDGET, select_terms};
use crate::domain::memory::content_hash;
use crate::domain::{Filter, Memory};
use crate::store::graph::Named;
use crate::store::{Candidate, LexicalQuery, SemanticCandidate, VectorQuery};

/// Most ranked hits that paging reaches.
pub(super) const MAX_RANKED: usize = 1_000;
/// Most terms of a query; the longest ones carry the least chance of being common.
const MAX_QUERY_TERMS: usize = 256;
/// How far down each channel is read: a hit may be far down in one and still be the best of both. What pages beyond
/// read further comes behind these, so that all pages are of one list.
const DEPTH: usize = 100;

/// Hits, best first.
#[derive(Debug)]
pub(super) struct Ranking {
    pub(super) hits: Vec<Ranked>,
    /// Memories that were changed since the time asked about, as they were.
    pub(super) past: Vec<Memory>,
    pub(super) notes: Vec<String>,
}

impl Engine {
    /// The best `wanted` hits and, where there are more, at least one more.
    pub(super) async fn find(
        &self,
        call: &Call,
        query: &str,
        filter: &Filter,
        wanted: usize,
    ) -> Result<Ranking, EngineError> {
        let mut terms: Vec<String> = self.analyzer.terms(query).counts.into_keys().collect();
        if terms.len() > MAX_QUERY_TERMS {
            terms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            terms.truncate(MAX_QUERY_TERMS);
        }
        // The vector is made while the database counts.
        let (stats, vector) =
            tokio::join!(call.database(self.store.corpus_stats(&call.scope, &terms)), self.desk.query(query));
        let mut stats = stats?;
        let named = self.named(call, query, filter, stats.has_entities).await?;
        let past = self.look_back(call, filter, &terms).await?;
        past.add_to(&mut stats, &terms);
        let depth = Depth::new(wanted, !named.memories.is_empty(), matches!(vector, Ok(Some(_))));
        let lexical = LexicalQuery {
            terms: select_terms(&terms, &stats, POSTING_BUDGET),
            average_length: stats.average_length(),
            exact: content_hash(query),
            filter: filter.clone(),
            limit: depth.words_read,
        };
        let mut notes = past.notes();
        let words = call.database(self.store.search_lexical(&call.scope, &lexical));
        let (mut words, meaning) = match vector {
            Ok(None) => (words.await?, None),
            Err(reason) => {
                notes.push(by_words_alone(&reason));
                (words.await?, None)
            }
            Ok(Some(vector)) => {
                let nearest = VectorQuery {
                    model: vector.model.id,
                    vector: vector.vector,
                    filter: filter.clone(),
                    limit: depth.meaning_read,
                    documents: stats.documents,
                };
                let meaning = call.database(self.store.search_vectors(&call.scope, &nearest));
                let (words, meaning) = tokio::join!(words, meaning);
                if let Err(error) = &meaning {
                    notes.push(by_words_alone(&error.to_string()));
                }
                (words?, meaning.ok())
            }
        };
        words.extend(past.candidates(&lexical));
        // How a memory stood at an earlier time is not known.
        let now = (!filter.unchanged).then_some(filter.now);
        let (first, rest) = found(words, meaning, &depth);
        let mut hits = rank::rank(first, named, now);
        hits.extend(rank::rank(rest, Named::default(), None));
        Ok(Ranking { hits, past: past.memories, notes })
    }

    /// Memories that mention entities named in the query.
    async fn named(&self, call: &Call, query: &str, filter: &Filter, any: bool) -> Result<Named, EngineError> {
        let names = if any { names_in(query) } else { Vec::new() };
        if names.is_empty() {
            return Ok(Named::default());
        }
        Ok(call.database(self.store.named(&call.scope, &names, filter, rank::MENTIONING)).await?)
    }
}

fn by_words_alone(reason: &str) -> String {
    format!("Searched by words alone: {reason}.")
}

/// How far down each channel is read, and how much of that is ranked together; the rest comes behind.
#[derive(Debug)]
struct Depth {
    words: usize,
    words_read: usize,
    meaning: usize,
    meaning_read: usize,
}

impl Depth {
    fn new(wanted: usize, named: bool, meaning: bool) -> Self {
        let all = MAX_RANKED + 1;
        let read = |depth: usize| if wanted < depth { depth } else { all };
        let words = match (named, meaning) {
            // What an entity lifts is known by its words on every page, or pages would be of different lists.
            (true, _) => all,
            (false, true) => DEPTH,
            // One channel alone is one list, however far it is read.
            (false, false) => (wanted + 1).max(rank::DEPTH),
        };
        Self { words, words_read: read(words), meaning: DEPTH, meaning_read: read(DEPTH) }
    }
}

/// What is ranked together, and the rest.
fn found(
    mut words: Vec<Candidate>,
    meaning: Option<Vec<SemanticCandidate>>,
    depth: &Depth,
) -> (Vec<Found>, Vec<Found>) {
    let Some(meaning) = meaning else {
        return (words.into_iter().map(|candidate| Found { candidate, places: BTreeMap::new() }).collect(), Vec::new());
    };
    // Those of the past stand at the end.
    words.sort_by(|a, b| {
        b.exact.cmp(&a.exact).then_with(|| b.score.total_cmp(&a.score)).then_with(|| b.seq.cmp(&a.seq))
    });
    let fused = |words_depth: usize, meaning_depth: usize| {
        let scored = |id, seq, score| Scored { id, seq, score };
        fuse(&[
            (Channel::Words, words.iter().take(words_depth).map(|hit| scored(hit.id, hit.seq, hit.score)).collect()),
            (
                Channel::Meaning,
                meaning.iter().take(meaning_depth).map(|hit| scored(hit.id, hit.seq, hit.cosine)).collect(),
            ),
        ])
    };
    let first = fused(depth.words, depth.meaning);
    let early: HashSet<Uuid> = first.iter().map(|hit| hit.id).collect();
    let mut rest = fused(usize::MAX, usize::MAX);
    rest.retain(|hit| !early.contains(&hit.id));
    let mut candidates: HashMap<Uuid, Candidate> = meaning
        .iter()
        .map(|SemanticCandidate { id, seq, standing, .. }| {
            let (id, seq, standing) = (*id, *seq, *standing);
            (id, Candidate { id, seq, score: 0.0, terms: Vec::new(), exact: false, standing })
        })
        .collect();
    candidates.extend(words.into_iter().map(|hit| (hit.id, hit)));
    let mut found = |hits: Vec<Fused>| -> Vec<Found> {
        let candidate = |hit: Fused| {
            let candidate = Candidate { score: hit.score, ..candidates.remove(&hit.id)? };
            Some(Found { candidate, places: hit.places })
        };
        hits.into_iter().filter_map(candidate).collect()
    };
    (found(first), found(rest))
}
