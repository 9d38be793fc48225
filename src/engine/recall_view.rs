//! The output of a recall.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MemoryView;
use crate::domain::Hit;
use crate::domain::passage::shorten_to_passage;
use crate::domain::ranking::{Channel, ChannelRank, ScoreComponent};

/// Characters of a passage in an explanation.
const PASSAGE_CHARS: usize = 200;

/// How much of each hit an answer contains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(
    inline,
    extend("x-synonyms" = {"brief": "index", "short": "index", "summary": "index", "ids": "index", "low": "index",
                           "texts": "text", "content": "text", "normal": "text", "default": "text", "medium": "text",
                           "all": "full", "complete": "full", "verbose": "full", "high": "full"})
)]
pub enum Detail {
    /// ID, kind, date, first line, confidence and size.
    Index,
    /// The texts, with what distinguishes them.
    #[default]
    Text,
    /// Every field.
    Full,
}

/// The hits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct RecallOutput {
    /// Remarks on this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Best first; newest first without a query.
    pub hits: Vec<HitView>,
    /// Cursor of the next page; absent if no more memories qualify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Confidence that the hits answer the question, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub confidence: Option<f64>,
}

/// A memory that was found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct HitView {
    /// The memory.
    #[serde(flatten)]
    pub memory: MemoryView,
    /// Whether the text was shortened; get returns all of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Number of older memories with nearly the same text that this hit represents.
    #[serde(skip_serializing_if = "is_zero")]
    pub similar: usize,
    /// Their IDs, with explain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub similar_ids: Vec<String>,
    /// ID of a newer memory that seems to state the same fact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer_version: Option<String>,
    /// Confidence that this hit answers the question; only with detail index.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub confidence: Option<f64>,
    /// Characters of the whole text, with detail index.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub size: Option<usize>,
    /// Why it was found; only with explain and a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The reasons of a hit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Why {
    /// Rank among all hits, from 1.
    pub rank: usize,
    /// Score that determines the order.
    pub score: f64,
    /// Probability that it answers, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub confidence: Option<f64>,
    /// Parts of the score, before bonus and factors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub shares: BTreeMap<ScoreComponent, f64>,
    /// The passage of a long text that is nearest to the query in meaning, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub passage: Option<String>,
    /// Word stems that the text shares with the query.
    pub terms: Vec<String>,
    /// Whether the text equals the query.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Rank and score in each channel; absent where words alone were searched.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub channels: BTreeMap<Channel, ChannelRank>,
    /// Entities named in the query that it mentions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub entities: Vec<String>,
    /// Bonus for them, at most a quarter of the best score.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub entity_bonus: Option<f64>,
    /// Multipliers of the score that are not 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub factors: Option<String>,
}

/// Prints an answer as its reader receives it, so that the budget limits exactly that.
pub type AnswerPrinter<'p> = dyn Fn(&RecallOutput) -> String + Sync + 'p;

impl Why {
    /// Explains a hit at a `rank`, found by a `passage` of its text, with the `terms` that it refers to by index.
    pub(super) fn new(hit: Hit, rank: usize, passage: Option<&str>, terms: &[String]) -> Self {
        let found = hit.terms.iter();
        let mut found: Vec<String> = found
            .filter_map(|one| terms.get(one.term).cloned())
            .collect();
        found.sort();
        let components = hit.components.into_iter();
        let channels = hit.channels.into_iter();
        Self {
            rank,
            score: round_score(hit.score),
            confidence: hit.confidence.map(round_score),
            shares: components
                .map(|(share, part)| (share, round_score(part)))
                .collect(),
            passage: passage.map(|text| shorten_to_passage(text, &[], None, PASSAGE_CHARS)),
            terms: found,
            exact: hit.exact,
            channels: channels
                .map(|(channel, ChannelRank { rank, score })| {
                    (
                        channel,
                        ChannelRank {
                            rank,
                            score: round_score(score),
                        },
                    )
                })
                .collect(),
            entity_bonus: (!hit.entities.is_empty()).then(|| round_score(hit.entity_bonus)),
            entities: hit.entities,
            factors: hit.boosts.and_then(|boosts| boosts.describe_changes()),
        }
    }
}

/// Rounds a score to thousandths.
pub(super) fn round_score(score: f64) -> f64 {
    (score * 1_000.0).round() / 1_000.0
}
