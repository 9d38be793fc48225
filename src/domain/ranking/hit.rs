//! A memory on its way through the ranking. The store fills the first fields, later steps the others.

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
    /// Its own words.
    Words,
    /// Its own meaning.
    Meaning,
    /// Words and meaning of the turns around it.
    Around,
    /// Words and meaning of the whole session.
    Session,
    /// Nearness to a time that the query names.
    Time,
    /// The query names its speaker.
    Speaker,
}

/// A candidate, and what each step of the ranking found out about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub id: Uuid,
    /// Storage order; of equal hits the newer one comes first.
    pub seq: i64,
    pub usage: UsageStats,
    pub context: HitContext,
    /// Whether its content equals the query.
    pub exact: bool,
    /// Query terms that it contains, in the order of the query.
    pub terms: Vec<TermScore>,
    /// Sum of the scores of its terms.
    pub bm25: f64,
    /// Similarity to the query, -1 to 1, if the semantic search returned it.
    pub cosine: Option<f64>,
    /// Its rank in each channel; empty if words alone were searched.
    pub channels: BTreeMap<Channel, ChannelRank>,
    /// Parts of the score that are not 0, before damping; empty behind the pool.
    pub components: BTreeMap<ScoreComponent, f64>,
    /// Factor that short turns and questions lose by.
    pub damping: f64,
    /// BM25 of its terms and those of the turns around it, without speaker names.
    pub coverage: f64,
    /// Decides the order, together with the entity bonus and the boosts.
    pub score: f64,
    /// How likely it is that it answers, 0 to 1; unknown if only an entity led to it.
    pub confidence: Option<f64>,
    /// Entities named in the query that it mentions.
    pub entities: Vec<String>,
    /// Added to the score for its entities.
    pub entity_bonus: f64,
    /// Multiplier by usage; absent for earlier times and far down the list.
    pub boosts: Option<Boosts>,
}

impl Hit {
    /// A candidate about which nothing is known except usage and context.
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
            channels: BTreeMap::new(),
            components: BTreeMap::new(),
            damping: 1.0,
            coverage: 0.0,
            score: 0.0,
            confidence: None,
            entities: Vec::new(),
            entity_bonus: 0.0,
            boosts: None,
        }
    }
}
