//! What was believed at an earlier time. Memories which did not change since are found by the index; the others are
//! rebuilt from their history and searched here.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Call, Engine, EngineError};
use crate::domain::lexical::{CorpusStats, Part, part};
use crate::domain::memory::{content_hash, indexed_text};
use crate::domain::{Analyzer, AsOf, Filter, Memory, Standing};
use crate::store::{
    Candidate, Changed, LexicalQuery, MOST_CHANGED, MOST_CHANGED_BYTES, StoreError,
};

/// Memories that changed since, as they were.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Those that pass the filter.
    pub(super) memories: Vec<Memory>,
    /// What the words of the question find in each.
    found: Vec<Found>,
    /// Whether some are missing.
    cut: bool,
    /// Whether some are missing because their history has expired.
    expired: bool,
}

/// A text as far as a question is concerned.
#[derive(Debug)]
struct Found {
    length: u32,
    counts: HashMap<String, u32>,
    hash: [u8; 32],
}

impl Engine {
    /// Reads what a question about the past needs, with the words of the question; nothing for one about the present.
    pub(super) async fn look_back(
        &self,
        call: &Call,
        filter: &Filter,
        terms: &[String],
    ) -> Result<Past, EngineError> {
        if filter.as_of != AsOf::KnownThen {
            return Ok(Past::default());
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
        // Megabytes of text take longer than others should wait for their turn.
        let analysing = tokio::task::spawn_blocking(move || {
            let found = memories
                .iter()
                .map(|memory| Found::new(memory, &terms, &analyzer))
                .collect();
            Past {
                memories,
                found,
                cut: partial,
                expired,
            }
        });
        analysing.await.map_err(|error| {
            if error.is_panic() {
                std::panic::resume_unwind(error.into_panic());
            }
            let reason = "the service is stopping".to_owned();
            EngineError::Store(StoreError::Unavailable {
                reason,
                source: None,
            })
        })
    }
}

impl Found {
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
}

impl Past {
    pub(super) fn notes(&self) -> Vec<String> {
        let cut = self.cut.then(|| {
            format!(
                "More than {MOST_CHANGED} memories or {} MiB of text changed since then; what the others said at that \
                 time may be missing.",
                MOST_CHANGED_BYTES >> 20
            )
        });
        let expired = self.expired.then(|| {
            "Some memories that changed since then are left out: their history from that time was removed \
             (MEMORY_HISTORY_DAYS)."
                .to_owned()
        });
        cut.into_iter().chain(expired).collect()
    }

    /// Words that only the past has are no longer in the corpus, and would be left out of the query.
    pub(super) fn add_to(&self, stats: &mut CorpusStats, terms: &[String]) {
        for found in &self.found {
            stats.documents += 1;
            stats.total_length += u64::from(found.length);
            for (term, frequency) in terms.iter().zip(&mut stats.document_frequencies) {
                *frequency += u64::from(found.counts.contains_key(term));
            }
            for near in &mut stats.near {
                near.frequency += u64::from(found.counts.contains_key(&near.found));
            }
        }
    }

    /// The memories that answer `query`, scored as the index scores. `project` is the number of the one in scope; where
    /// there are several, what is past has no neighbours among the rest.
    pub(super) fn candidates(&self, query: &LexicalQuery, project: i64) -> Vec<Candidate> {
        let candidate = |(memory, found): (&Memory, &Found)| {
            let exact = found.hash == query.exact;
            let mut parts = Vec::new();
            for (place, term) in query.terms.iter().enumerate() {
                if let Some(count) = found.counts.get(&term.term) {
                    let gain = part(
                        term.weight,
                        f64::from(*count),
                        f64::from(found.length),
                        query.average_length,
                    );
                    parts.push(Part { term: place, gain });
                }
            }
            (exact || !parts.is_empty()).then(|| Candidate {
                id: memory.id,
                seq: memory.seq,
                score: parts.iter().map(|part| part.gain).sum(),
                parts,
                exact,
                standing: Standing::new(memory.created_at),
                setting: memory.setting(project, found.length),
            })
        };
        self.memories
            .iter()
            .zip(&self.found)
            .filter_map(candidate)
            .collect()
    }
}
