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

/// A search of the word index.
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
    /// Most hits.
    pub limit: usize,
}

/// A search of the embeddings.
#[derive(Debug, Clone)]
pub struct VectorQuery {
    /// Only vectors of this model are compared.
    pub model: String,
    /// Of length 1.
    pub vector: Arc<[f32]>,
    /// Conditions on hits.
    pub filter: Filter,
    /// Most hits.
    pub limit: usize,
}

/// The searches of one recall.
#[derive(Debug, Clone)]
pub struct CandidateQuery {
    /// By words.
    pub lexical: LexicalQuery,
    /// By meaning, if the query has a vector.
    pub semantic: Option<VectorQuery>,
}

/// The hits of each channel.
#[derive(Debug)]
pub struct Candidates {
    /// As [`SearchStore::search_lexical`] returns them.
    pub lexical: Vec<Hit>,
    /// As [`SearchStore::search_vectors`] returns them. A failure does not spoil the other channel.
    pub semantic: Option<Result<Vec<Hit>>>,
}

/// What to read around candidates.
#[derive(Debug, Clone)]
pub struct ContextQuery {
    /// These turns, except missing, replaced and filtered ones.
    pub turns: Vec<Turn>,
    /// Names in the form of [`crate::domain::graph::names_in`]: memories that mention entities of such a name.
    pub names: Vec<String>,
    /// Most of those memories; the newest are returned.
    pub mentioning: usize,
    /// Conditions on hits.
    pub filter: Filter,
}

/// The context of candidates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConversationContext {
    /// In no particular order.
    pub turns: Vec<Hit>,
    /// Memories that mention named entities.
    pub entities: NamedEntities,
}

/// A search for memories with nearly the same words as a text.
#[derive(Debug, Clone)]
pub struct SimilarQuery {
    /// Terms of the text.
    pub terms: Vec<String>,
    /// Its content hash.
    pub exact: [u8; 32],
    /// Most postings to read; rare terms come first.
    pub budget: u64,
    /// Conditions on hits.
    pub filter: Filter,
    /// Most hits.
    pub limit: usize,
    /// How long the caller waits for a connection, and for each statement.
    pub patience: Duration,
}

impl SimilarQuery {
    /// The search to run once the terms are counted.
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

/// Searches of a database. See [`super::Store`], of which this is a part.
#[async_trait]
pub trait SearchStore: Send + Sync {
    /// Size of the readable corpus, how many memories contain each term, and the matches of `candidates` for terms that
    /// occur nowhere: for at most [`crate::domain::spelling::MOST_UNKNOWN`] of them, the longest first.
    async fn lexicon(
        &self,
        scope: &Scope,
        terms: &[String],
        candidates: &[SpellingCandidates],
    ) -> Result<Lexicon>;

    /// Size of the readable corpus and how many memories contain each term.
    async fn corpus_stats(&self, scope: &Scope, terms: &[String]) -> Result<CorpusStats> {
        Ok(self.lexicon(scope, terms, &[]).await?.stats)
    }

    /// Hits by BM25, best first, the newest of equal ones first; exact ones before all others.
    async fn search_lexical(&self, scope: &Scope, query: &LexicalQuery) -> Result<Vec<Hit>>;

    /// Memories with the nearest vectors, best first. The backend decides whether it compares all vectors in scope or uses
    /// an index.
    async fn search_vectors(&self, scope: &Scope, query: &VectorQuery) -> Result<Vec<Hit>>;

    /// Both searches at the same time.
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

    /// Turns by their positions, and memories that mention named entities, in one statement.
    async fn context(&self, scope: &Scope, query: &ContextQuery) -> Result<ConversationContext>;

    /// Hits by BM25 for a caller who waits no longer than [`SimilarQuery::patience`]. The database ends statements that take
    /// longer, because a caller who stops waiting instead costs it a connection.
    ///
    /// # Errors
    /// [`super::StoreError::Unavailable`] also if it takes too long.
    async fn search_similar(&self, scope: &Scope, query: &SimilarQuery) -> Result<Vec<Hit>>;
}
