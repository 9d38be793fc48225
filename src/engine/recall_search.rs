//! Finds and ranks the memories for a query.
//!
//! Makes three store calls with plain values around the pure steps of `domain::ranking`: the lexicon, while the
//! embedder computes the vector of the query; the candidates by words and by meaning; and their context. Without an
//! embedder, or if it does not respond in time, only words are searched, and a note reports it.

use super::as_of::ThenMemories;
use super::{Call, Engine, EngineError};
use crate::domain::bm25::Lexicon;
use crate::domain::conversation::Turn;
use crate::domain::graph::names_in;
use crate::domain::memory::content_hash;
use crate::domain::passage::shorten_to_passage;
use crate::domain::prompt::SearchedPrompt;
use crate::domain::ranking::boosts::MOST_MENTIONING;
use crate::domain::ranking::{
    Calibration, ExpandedQuery, Hit, add_lexical_hits, confidence, extract_terms, merge,
    rank_candidates,
};
use crate::domain::spelling::list_candidates;
use crate::domain::time_expression::NamedTimes;
use crate::domain::{AsOf, Filter, Memory};
use crate::embed::QueryVector;
use crate::store::{
    CandidateQuery, Candidates, ContextQuery, ConversationContext, LexicalQuery, VectorQuery,
};

/// Maximum number of characters of a question that a note repeats.
const SHOWN_QUESTION: usize = 120;
/// Maximum number of ranked hits that paging reaches.
pub(super) const MAX_RANKED: usize = 1_000;

/// Hits, best first.
#[derive(Debug)]
pub(super) struct Ranking<'q> {
    pub(super) hits: Vec<Hit>,
    /// The terms that hits refer to by index; `asked~found` for a substitute.
    pub(super) terms: Vec<String>,
    /// Probability that any hit answers the query, 0 to 1.
    pub(super) confidence: f64,
    /// Whether the query is almost certainly about something else.
    pub(super) off_topic: bool,
    /// The part of the query that was searched for.
    pub(super) words: &'q str,
    /// The times that it names.
    pub(super) times: NamedTimes,
    /// Memories that changed since the requested time, in their earlier state.
    pub(super) past: Vec<Memory>,
    pub(super) notes: Vec<String>,
}

/// The hits by meaning.
#[derive(Debug, Default)]
struct Semantic {
    hits: Option<Vec<Hit>>,
    /// Whether the cosines have the scale of the constants of ranking.
    calibrated: bool,
    /// The reason why there are no hits although there is an embedder.
    note: Option<String>,
}

impl Semantic {
    fn failed(reason: impl std::fmt::Display) -> Self {
        let note = Some(format!("Searched by words alone: {reason}."));
        Self {
            note,
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        self.hits.as_ref().is_none_or(Vec::is_empty)
    }
}

impl Engine {
    /// Returns the best `wanted` hits and, if there are more, at least one more.
    pub(super) async fn find_hits<'q>(
        &self,
        call: &Call,
        text: &'q str,
        filter: &Filter,
        wanted: usize,
    ) -> Result<Ranking<'q>, EngineError> {
        let asked = self.find_request(call, text, filter).await;
        let terms = extract_terms(asked.words, &self.analyzer);
        let candidates = list_candidates(&terms);
        let (lexicon, vector) = tokio::join!(
            call.database(self.store.lexicon(&call.scope, &terms, &candidates)),
            self.desk.query(asked.meaning)
        );
        let mut lexicon = lexicon?;
        let past = self
            .load_with_lexicon(call, filter, &terms, &mut lexicon)
            .await?;
        let today = filter.now.date_naive();
        let query = ExpandedQuery::new(asked.words, &terms, &lexicon, &self.analyzer, today);
        let depth = query.pool_depth(self.desk.embedder().is_some());
        let limit = if wanted < depth {
            depth
        } else {
            MAX_RANKED + 1
        };
        let search = LexicalQuery {
            terms: query.selected.clone(),
            average_length: lexicon.stats.average_length(),
            // Of the whole text, so that stored text is found by itself.
            exact: content_hash(text),
            filter: filter.clone(),
            limit,
        };
        let (mut words, semantic) = self.read_candidates(call, &search, vector).await?;
        add_lexical_hits(&mut words, past.find_hits(&search), &search.terms);
        let semantic_empty = semantic.is_empty();
        // Without any vector there is no similarity.
        let calibrated = semantic.calibrated && !semantic_empty;
        let mut candidates = merge(words, semantic.hits, depth);
        let names = if lexicon.stats.has_entities {
            names_in(asked.words)
        } else {
            Vec::new()
        };
        let turns = candidates.missing_turns();
        let context = self.read_context(call, filter, turns, names).await?;
        candidates.add_neighbors(context.turns);
        let now = (filter.as_of == AsOf::Present).then_some(filter.now);
        let ranked = rank_candidates(&query, candidates, context.entities, calibrated, now);
        let mut notes = past.list_notes();
        notes.extend(describe_question(text, &asked));
        notes.extend(semantic.note);
        // Without calibration only words are judged, and the meaning may still answer.
        let judged = calibrated || semantic_empty;
        if !ranked.hits.is_empty() {
            notes.extend(describe_confidence(ranked.confidence, judged));
        }
        Ok(Ranking {
            hits: ranked.hits,
            terms: query.label_terms(),
            confidence: ranked.confidence,
            off_topic: judged && confidence::is_off_topic(ranked.confidence),
            words: asked.words,
            times: query.times,
            past: past.memories,
            notes,
        })
    }

    /// The cosines between a query and the `limit` nearest memories, nearest first, as the model returns them. Empty
    /// without an embedder.
    ///
    /// # Errors
    /// Why the embedder or the store failed.
    pub async fn list_cosines(
        &self,
        call: &Call,
        text: &str,
        limit: usize,
    ) -> Result<Vec<f64>, String> {
        let Some(query) = self.desk.query(text).await? else {
            return Ok(Vec::new());
        };
        let filter = Filter::at(self.now());
        let query = CandidateQuery {
            lexical: LexicalQuery {
                terms: Vec::new(),
                average_length: 1.0,
                exact: content_hash(text),
                filter: filter.clone(),
                limit,
            },
            semantic: Some(VectorQuery {
                model: query.model.id,
                vector: query.vector,
                filter,
                limit,
            }),
        };
        let found = call
            .database(self.store.candidates(&call.scope, &query))
            .await
            .map_err(|error| error.to_string())?;
        let semantic = found.semantic.transpose();
        let hits = semantic
            .map_err(|error| error.to_string())?
            .unwrap_or_default();
        let mut cosines: Vec<f64> = hits.iter().filter_map(|hit| hit.cosine).collect();
        cosines.sort_by(|a, b| b.total_cmp(a));
        Ok(cosines)
    }

    /// Sets the calibration of the embedding model, instead of the configured or known one.
    pub fn set_calibration(&self, calibration: Calibration) {
        self.desk.set_calibration(Some(calibration));
    }

    /// Loads the memories that changed since the time asked about, and counts their terms in the lexicon.
    async fn load_with_lexicon(
        &self,
        call: &Call,
        filter: &Filter,
        terms: &[String],
        lexicon: &mut Lexicon,
    ) -> Result<ThenMemories, EngineError> {
        let near = lexicon.matches.iter().map(|near| near.found.clone());
        let all: Vec<String> = terms.iter().cloned().chain(near).collect();
        let past = self.load_as_of(call, filter, &all).await?;
        past.count_terms(lexicon, terms);
        Ok(past)
    }

    /// Reads candidates by words and by meaning. A failure of the latter becomes a note.
    async fn read_candidates(
        &self,
        call: &Call,
        lexical: &LexicalQuery,
        vector: Result<Option<QueryVector>, String>,
    ) -> Result<(Vec<Hit>, Semantic), EngineError> {
        let (vector, failure) = match vector {
            Ok(vector) => (vector, None),
            Err(reason) => (None, Some(Semantic::failed(reason))),
        };
        let calibration = vector.as_ref().and_then(|query| query.calibration);
        let semantic = vector.map(|query| VectorQuery {
            model: query.model.id,
            vector: query.vector,
            filter: lexical.filter.clone(),
            limit: lexical.limit,
        });
        let query = CandidateQuery {
            lexical: lexical.clone(),
            semantic,
        };
        let Candidates { lexical, semantic } = call
            .database(self.store.candidates(&call.scope, &query))
            .await?;
        let semantic = match semantic {
            None => failure.unwrap_or_default(),
            Some(Ok(mut hits)) => {
                translate_cosines(&mut hits, calibration);
                Semantic {
                    hits: Some(hits),
                    calibrated: calibration.is_some(),
                    note: None,
                }
            }
            Some(Err(error)) => Semantic::failed(error),
        };
        Ok((lexical, semantic))
    }

    /// Reads turns next to candidates, and memories that mention entities of the query.
    async fn read_context(
        &self,
        call: &Call,
        filter: &Filter,
        turns: Vec<Turn>,
        names: Vec<String>,
    ) -> Result<ConversationContext, EngineError> {
        if turns.is_empty() && names.is_empty() {
            return Ok(ConversationContext::default());
        }
        let query = ContextQuery {
            turns,
            names,
            mentioning: MOST_MENTIONING,
            filter: filter.clone(),
        };
        Ok(call
            .database(self.store.context(&call.scope, &query))
            .await?)
    }
}

/// Translates the cosines of a calibrated model to the scale of the constants of ranking.
fn translate_cosines(hits: &mut [Hit], calibration: Option<Calibration>) {
    let Some(calibration) = calibration else {
        return;
    };
    for cosine in hits.iter_mut().filter_map(|hit| hit.cosine.as_mut()) {
        *cosine = calibration.translate(*cosine);
    }
}

/// Reports that only a part of the text was searched for.
fn describe_question(text: &str, asked: &SearchedPrompt<'_>) -> Option<String> {
    let question = shorten_to_passage(asked.words, &[], None, SHOWN_QUESTION);
    (asked.words.len() < text.len()).then(|| format!("Searched for the question {question:?}."))
}

fn describe_confidence(confidence: f64, judged: bool) -> Option<String> {
    let note = if judged && confidence::is_unlikely(confidence) {
        "Nothing stored seems to answer this; these are only the nearest."
    } else if confidence::is_low(confidence) {
        "Weak matches only; check whether they answer the question."
    } else {
        return None;
    };
    Some(note.to_owned())
}
