//! A memory during ranking. The store fills the first fields, later steps fill the others.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::usage::{Boosts, UsageStats};
use crate::domain::bm25::TermScore;
use crate::domain::conversation::HitContext;

/// A source of candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// BM25.
    Words,
    /// Cosine similarity of embeddings.
    Meaning,
}

/// Rank of a hit in one channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChannelRank {
    /// From 1.
    pub rank: usize,
    /// BM25 score or cosine.
    pub score: f64,
}

/// A part of the fused score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreComponent {
    /// The memory's own words.
    Words,
    /// The memory's own meaning.
    Meaning,
    /// Words and meaning of the neighboring turns.
    Around,
    /// Words and meaning of the whole session.
    Session,
    /// Closeness to a time in the query.
    Time,
    /// The query names the speaker.
    Speaker,
}

/// A candidate, and the results of each ranking step.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub id: Uuid,
    /// Storage order; the newer of equal hits comes first.
    pub seq: i64,
    pub usage: UsageStats,
    pub context: HitContext,
    /// Whether the content equals the query.
    pub exact: bool,
    /// Query terms that the memory contains, in query order.
    pub terms: Vec<TermScore>,
    /// Sum of the scores of these terms.
    pub bm25: f64,
    /// Similarity to the query, -1 to 1, if the semantic search returned it.
    pub cosine: Option<f64>,
    /// Number of the passage that has this similarity; 0 if that is the whole text.
    pub passage: u32,
    /// Rank in each channel; empty if only words were searched.
    pub channels: BTreeMap<Channel, ChannelRank>,
    /// Parts of the score that are not 0, before damping; empty outside of the pool.
    pub components: BTreeMap<ScoreComponent, f64>,
    /// Factor that lowers the score of short turns and questions.
    pub damping: f64,
    /// BM25 of its own terms and of those of the neighboring turns, without speaker names.
    pub coverage: f64,
    /// Determines the order, together with the entity bonus and the boosts.
    pub score: f64,
    /// Probability that the memory answers the query, 0 to 1; unknown if only an entity led to it.
    pub confidence: Option<f64>,
    /// Entities of the query that the memory mentions.
    pub entities: Vec<String>,
    /// Bonus for its entities, added to the score.
    pub entity_bonus: f64,
    /// Multiplier by usage; absent for earlier points in time and beyond the first hits.
    pub boosts: Option<Boosts>,
    /// The newest memory that seems to state the same fact at a later time.
    pub newer_version: Option<Uuid>,
}

impl Hit {
    /// Creates a candidate of which only usage and context are known.
    #[must_use]
    pub fn new(id: Uuid, seq: i64, usage: UsageStats, context: HitContext) -> Self {
        Self {
            id,
            seq,
            usage,
            context,
            exact: false,
            terms: Vec::new(),
            bm25: 0.0,
            cosine: None,
            passage: 0,
            channels: BTreeMap::new(),
            components: BTreeMap::new(),
            damping: 1.0,
            coverage: 0.0,
            score: 0.0,
            confidence: None,
            entities: Vec::new(),
            entity_bonus: 0.0,
            boosts: None,
            newer_version: None,
        }
    }
}
