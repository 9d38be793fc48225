//! What was believed at an earlier time. Memories which did not change since are found by the index; the others are
//! rebuilt from their history and searched here.

use super::{Call, Engine, EngineError};
use crate::domain::lexical::{CorpusStats, Part, part};
use crate::domain::memory::{content_hash, indexed_text};
use crate::domain::text::Terms;
use crate::domain::{Analyzer, Filter, Memory, Standing};
use crate::store::{Candidate, LexicalQuery, MOST_CHANGED};

/// Memories that changed since, as they were.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Those that pass the filter.
    pub(super) memories: Vec<Memory>,
    /// Whether some are missing.
    cut: bool,
}

impl Engine {
    /// Reads what a question about the past needs; nothing for one about the present.
    pub(super) async fn look_back(&self, call: &Call, filter: &Filter) -> Result<Past, EngineError> {
        if !filter.unchanged {
            return Ok(Past::default());
        }
        let mut memories = call.database(self.store.changed_since(&call.scope, filter.now)).await?;
        let cut = memories.len() >= MOST_CHANGED;
        memories.retain(|memory| filter.admits(memory));
        Ok(Past { memories, cut })
    }
}

impl Past {
    pub(super) fn notes(&self) -> Vec<String> {
        let note = format!(
            "More than {MOST_CHANGED} memories changed since then; what the others said at that time may be missing."
        );
        if self.cut { vec![note] } else { Vec::new() }
    }

    /// Words that only the past has are no longer in the corpus, and would be left out of the query.
    pub(super) fn add_to(&self, stats: &mut CorpusStats, terms: &[String], analyzer: &Analyzer) {
        for memory in &self.memories {
            let found = analyse(memory, analyzer);
            stats.documents += 1;
            stats.total_length += u64::from(found.length);
            for (term, frequency) in terms.iter().zip(&mut stats.document_frequencies) {
                *frequency += u64::from(found.counts.contains_key(term));
            }
        }
    }

    /// The memories that answer `query`, scored as the index scores. `project` is the number of the one in scope; where
    /// there are several, what is past has no neighbours among the rest.
    pub(super) fn candidates(&self, query: &LexicalQuery, analyzer: &Analyzer, project: i64) -> Vec<Candidate> {
        let candidate = |memory: &Memory| {
            let found = analyse(memory, analyzer);
            let exact = content_hash(&memory.content) == query.exact;
            let mut parts = Vec::new();
            for (place, term) in query.terms.iter().enumerate() {
                if let Some(count) = found.counts.get(&term.term) {
                    let gain = part(term.weight, f64::from(*count), f64::from(found.length), query.average_length);
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
        self.memories.iter().filter_map(candidate).collect()
    }
}

fn analyse(memory: &Memory, analyzer: &Analyzer) -> Terms {
    analyzer.terms(&indexed_text(&memory.content, memory.speaker.as_deref(), &memory.tags, memory.episode.as_ref()))
}
