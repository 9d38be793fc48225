//! Reads of a recall: the lexicon, the candidates of both channels, and their context.
//!
//! Plain values cross this boundary in both directions. `domain::ranking` computes the arguments and judges the results.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Result;
use crate::domain::bm25::{CorpusStats, Lexicon, WeightedTerm, select_terms};
use crate::domain::conversation::Turn;
use crate::domain::ranking::{Hit, NamedEntities};
use crate::domain::spelling::SpellingCandidates;
use crate::domain::{Filter, Scope};

/// A query for the word index.
#[derive(Debug, Clone)]
pub struct LexicalQuery {
    /// Terms with their weights, from [`select_terms`].
    pub terms: Vec<WeightedTerm>,
    /// From [`CorpusStats::average_length`].
    pub average_length: f64,
    /// Hash of the query text: memories with this content hash are hits even without a common term.
    pub exact: [u8; 32],
    /// Conditions on hits.
    pub filter: Filter,
    /// Maximum number of hits.
    pub limit: usize,
}

/// A query for the embeddings.
#[derive(Debug, Clone)]
pub struct VectorQuery {
    /// Only vectors of this model are compared.
    pub model: String,
    /// Query vector of length 1.
    pub vector: Arc<[f32]>,
    /// Conditions on hits.
    pub filter: Filter,
    /// Maximum number of hits.
    pub limit: usize,
}

/// The searches of one recall.
#[derive(Debug, Clone)]
pub struct CandidateQuery {
    /// Search by words.
    pub lexical: LexicalQuery,
    /// Search by meaning, if the query has a vector.
    pub semantic: Option<VectorQuery>,
}

/// The hits of each channel.
#[derive(Debug)]
pub struct Candidates {
    /// As [`SearchStore::search_lexical`] returns them.
    pub lexical: Vec<Hit>,
    /// As [`SearchStore::search_vectors`] returns them. A failure does not affect the other channel.
    pub semantic: Option<Result<Vec<Hit>>>,
}

/// A selection of context for candidates.
#[derive(Debug, Clone)]
pub struct ContextQuery {
    /// Positions of dialogue turns. Missing, replaced and filtered turns are left out.
    pub turns: Vec<Turn>,
    /// Names, normalized by [`crate::domain::graph::names_in`]. Memories that mention entities with such a name are
    /// returned.
    pub names: Vec<String>,
    /// Maximum number of those memories; the newest are returned.
    pub mentioning: usize,
    /// Conditions on hits.
    pub filter: Filter,
}

/// The context of candidates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConversationContext {
    /// The turns, in no particular order.
    pub turns: Vec<Hit>,
    /// Memories that mention named entities.
    pub entities: NamedEntities,
}

/// A search for memories whose words are nearly those of a text.
#[derive(Debug, Clone)]
pub struct SimilarQuery {
    /// Terms of the text.
    pub terms: Vec<String>,
    /// Its content hash.
    pub exact: [u8; 32],
    /// Maximum number of postings to read; rare terms come first.
    pub budget: u64,
    /// Conditions on hits.
    pub filter: Filter,
    /// Maximum number of hits.
    pub limit: usize,
    /// Maximum time to wait for a connection, and for each statement.
    pub patience: Duration,
}

impl SimilarQuery {
    /// Creates the search once the terms are counted.
    pub(super) fn plan_search(&self, stats: &CorpusStats) -> LexicalQuery {
        LexicalQuery {
            terms: select_terms(&self.terms, stats, &[], self.budget),
            average_length: stats.average_length(),
            exact: self.exact,
            filter: self.filter.clone(),
            limit: self.limit,
        }
    }
}

/// Searches of a database; a part of [`super::Store`].
#[async_trait]
pub trait SearchStore: Send + Sync {
    /// Returns the size of the readable corpus, the number of memories that contain each term, and matches of
    /// `candidates` for terms that occur nowhere. Matches are limited to the [`crate::domain::spelling::MOST_UNKNOWN`]
    /// longest of those terms.
    async fn lexicon(
        &self,
        scope: &Scope,
        terms: &[String],
        candidates: &[SpellingCandidates],
    ) -> Result<Lexicon>;

    /// Returns the size of the readable corpus and the number of memories that contain each term.
    async fn corpus_stats(&self, scope: &Scope, terms: &[String]) -> Result<CorpusStats> {
        Ok(self.lexicon(scope, terms, &[]).await?.stats)
    }

    /// Returns hits by BM25, best first and newest first among equals; memories with the exact text come before all
    /// others.
    async fn search_lexical(&self, scope: &Scope, query: &LexicalQuery) -> Result<Vec<Hit>>;

    /// Returns the memories with the nearest vectors, best first. The backend decides whether it compares all vectors
    /// in scope or uses an index.
    async fn search_vectors(&self, scope: &Scope, query: &VectorQuery) -> Result<Vec<Hit>>;

    /// Runs both searches concurrently.
    async fn candidates(&self, scope: &Scope, query: &CandidateQuery) -> Result<Candidates> {
        let semantic = async {
            match &query.semantic {
                Some(query) => Some(self.search_vectors(scope, query).await),
                None => None,
            }
        };
        let (lexical, semantic) =
            tokio::join!(self.search_lexical(scope, &query.lexical), semantic);
        Ok(Candidates {
            lexical: lexical?,
            semantic,
        })
    }

    /// Returns turns by their positions, and memories that mention named entities, using one statement.
    async fn context(&self, scope: &Scope, query: &ContextQuery) -> Result<ConversationContext>;

    /// Returns hits by BM25 within [`SimilarQuery::patience`]. The database aborts slower statements, because a caller
    /// that merely stops waiting would cost the pool a connection.
    ///
    /// # Errors
    /// [`super::StoreError::Unavailable`] also if the search takes too long.
    async fn search_similar(&self, scope: &Scope, query: &SimilarQuery) -> Result<Vec<Hit>>;
}
