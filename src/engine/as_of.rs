//! Recall as of an earlier point in time. The index finds memories that have not changed since; the others are rebuilt
//! from their history and searched here.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Call, Engine, EngineError, run_blocking};
use crate::domain::bm25::{Lexicon, TermScore, score_term};
use crate::domain::memory::{content_hash, indexed_text};
use crate::domain::{Analyzer, AsOf, Filter, Hit, Memory, UsageStats};
use crate::store::{Changed, LexicalQuery, MOST_CHANGED, MOST_CHANGED_BYTES};

/// Memories that have changed since, in their earlier state.
#[derive(Debug, Default)]
pub(super) struct ThenMemories {
    /// The memories that pass the filter.
    pub(super) memories: Vec<Memory>,
    /// The terms of the query in each of them.
    found: Vec<FoundTerms>,
    /// Whether some are missing because there are too many.
    partial: bool,
    /// Whether some are missing because their history has expired.
    expired: bool,
}

/// The terms of a text that occur in the query.
#[derive(Debug)]
struct FoundTerms {
    length: u32,
    counts: HashMap<String, u32>,
    hash: [u8; 32],
}

impl Engine {
    /// Loads the memories that changed since the requested time, with the given terms of each; none for the present.
    pub(super) async fn load_as_of(
        &self,
        call: &Call,
        filter: &Filter,
        terms: &[String],
    ) -> Result<ThenMemories, EngineError> {
        if filter.as_of != AsOf::KnownThen {
            return Ok(ThenMemories::default());
        }
        let Changed {
            mut memories,
            partial,
            expired,
        } = call
            .database(self.store.changed_since(&call.scope, filter.now))
            .await?;
        memories.retain(|memory| filter.admits(memory));
        let (analyzer, terms) = (Arc::clone(&self.analyzer), terms.to_vec());
        // Analyzing megabytes of text would block other tasks.
        run_blocking(move || {
            let found = memories
                .iter()
                .map(|memory| FoundTerms::new(memory, &terms, &analyzer))
                .collect();
            ThenMemories {
                memories,
                found,
                partial,
                expired,
            }
        })
        .await
    }
}

impl FoundTerms {
    fn new(memory: &Memory, terms: &[String], analyzer: &Analyzer) -> Self {
        let hash = content_hash(&memory.content);
        if terms.is_empty() {
            return Self {
                length: 0,
                counts: HashMap::new(),
                hash,
            };
        }
        let text = indexed_text(
            &memory.content,
            memory.speaker.as_deref(),
            &memory.tags,
            memory.episode.as_ref(),
        );
        let mut all = analyzer.terms(&text);
        let counts = terms
            .iter()
            .filter_map(|term| all.counts.remove_entry(term))
            .collect();
        Self {
            length: all.length,
            counts,
            hash,
        }
    }

    fn score_memory(&self, memory: &Memory, query: &LexicalQuery) -> Hit {
        let mut terms = Vec::new();
        for (place, term) in query.terms.iter().enumerate() {
            if let Some(count) = self.counts.get(&term.term) {
                let (occurrences, length) = (f64::from(*count), f64::from(self.length));
                let score = score_term(term.weight, occurrences, length, query.average_length);
                terms.push(TermScore { term: place, score });
            }
        }
        let (usage, context) = (
            UsageStats::new(memory.created_at),
            memory.hit_context(self.length),
        );
        Hit {
            exact: self.hash == query.exact,
            bm25: terms.iter().map(|term| term.score).sum(),
            terms,
            ..Hit::new(memory.id, memory.seq, usage, context)
        }
    }
}

impl ThenMemories {
    pub(super) fn list_notes(&self) -> Vec<String> {
        let partial = self.partial.then(|| {
            format!(
                "More than {MOST_CHANGED} memories or {} MiB of text changed since then, so \
                 earlier texts of the others may be missing.",
                MOST_CHANGED_BYTES >> 20
            )
        });
        let expired = self.expired.then(|| {
            "Some memories that changed since then are left out: their history from that time was removed \
             (MEMORY_HISTORY_DAYS)."
                .to_owned()
        });
        partial.into_iter().chain(expired).collect()
    }

    /// Adds the terms to the counts, because a query omits terms that no current memory contains.
    pub(super) fn count_terms(&self, Lexicon { stats, matches }: &mut Lexicon, terms: &[String]) {
        for found in &self.found {
            stats.documents += 1;
            stats.total_length += u64::from(found.length);
            for (term, frequency) in terms.iter().zip(&mut stats.document_frequencies) {
                *frequency += u64::from(found.counts.contains_key(term));
            }
            for near in &mut *matches {
                near.frequency += u64::from(found.counts.contains_key(&near.found));
            }
        }
    }

    /// Returns the memories that `query` finds, scored like those of the index.
    pub(super) fn find_hits(&self, query: &LexicalQuery) -> Vec<Hit> {
        let all = self.memories.iter().zip(&self.found);
        let hits = all.map(|(memory, found)| found.score_memory(memory, query));
        hits.filter(|hit| hit.exact || !hit.terms.is_empty())
            .collect()
    }
}
