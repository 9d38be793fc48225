//! Ranking of a recall: from the candidates of each channel to one ordered list.
//!
//! The steps are pure and run in this order: [`ExpandedQuery`] interprets the query with the lexicon, [`merge()`] joins
//! the channels, [`CandidateSet::missing_turns`] and [`CandidateSet::add_neighbors`] complete conversations, [`fuse()`]
//! computes scores, [`ConfidenceScale`] judges them, [`boost_hits`] adds entity bonuses and usage multipliers,
//! [`order_versions`] puts current facts first, and [`Page`] folds equivalent hits. [`rank_candidates`] composes the
//! steps after the store's reads. To add a signal, add a field to [`Hit`] and a [`ScoreComponent`] to `fuse`. Both
//! backends rank alike because the arithmetic is here; docs/recall.md explains the constants.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub mod boosts;
pub mod calibration;
pub mod confidence;
mod fact;
pub mod fuse;
mod hit;
mod merge;
mod page;
mod phrase;
mod query;
pub mod usage;
mod versions;

pub use boosts::{EntityMention, NamedEntities, boost_hits};
pub use calibration::Calibration;
pub use confidence::ConfidenceScale;
pub use fact::{StatedFact, find_versions};
pub use fuse::{FusionQuery, fuse};
pub use hit::{Channel, ChannelRank, Hit, ScoreComponent};
pub use merge::{CandidateSet, add_lexical_hits, merge};
pub use page::{Page, PageEntry, PageGroup, order_after_successors};
pub use query::{ExpandedQuery, extract_terms};
pub use usage::{Boosts, UsageStats};
pub use versions::{VersionQuestion, count_compared, list_comparable, order_versions};

/// Minimum cosine of a hit that shares neither a word nor a time with the query and belongs to no conversation. Among
/// any texts, some are nearest.
const LEAST_COSINE: f64 = 0.15;

/// Hits in their final order.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedHits {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Probability that any of them answers the query, 0 to 1.
    pub confidence: f64,
}

/// Orders the candidates of a query. `calibrated` states whether the cosines come from the model to which confidence
/// was fitted. `now` is the time for usage multipliers; `None` omits them, because usage at an earlier time is unknown.
#[must_use]
pub fn rank_candidates(
    query: &ExpandedQuery<'_>,
    candidates: CandidateSet,
    entities: NamedEntities,
    calibrated: bool,
    now: Option<DateTime<Utc>>,
) -> RankedHits {
    let CandidateSet { mut pool, rest } = candidates;
    let fusion = FusionQuery::new(query, &pool);
    fuse(&mut pool, &fusion);
    // A name of an entity in the graph is not an unknown name.
    let names_unknown = entities.memories.is_empty() && fusion.names_nobody_known(query);
    let scale = ConfidenceScale::new(&pool, &fusion, calibrated, names_unknown, query.documents());
    let confidence = scale.assess_answer(&pool);
    for hit in &mut pool {
        hit.confidence = Some(scale.assess_hit(hit));
    }
    pool.retain(is_related);
    let ceiling = pool.iter().map(|hit| hit.score).fold(1.0, f64::min);
    let mut hits = boost_hits(pool, entities, now);
    let ranked: HashSet<Uuid> = hits.iter().map(|hit| hit.id).collect();
    let mut rest = score_rest(rest, ceiling, &scale);
    rest.retain(|hit| !ranked.contains(&hit.id));
    hits.extend(boost_hits(rest, NamedEntities::default(), None));
    RankedHits { hits, confidence }
}

/// Returns whether a fused candidate is related to the query.
fn is_related(hit: &Hit) -> bool {
    shares_words(hit)
        || hit.exact
        || hit.context.turn.is_some()
        || hit.components.contains_key(&ScoreComponent::Time)
        || is_near(hit)
}

fn shares_words(hit: &Hit) -> bool {
    !hit.terms.is_empty()
}

fn is_near(hit: &Hit) -> bool {
    hit.cosine.is_some_and(|cosine| cosine >= LEAST_COSINE)
}

/// Scores the candidates outside of the pool by words and meaning alone, below `ceiling`, so that all pages belong to
/// one list.
fn score_rest(mut rest: Vec<Hit>, ceiling: f64, scale: &ConfidenceScale) -> Vec<Hit> {
    let shares = merge::sum_shares(&rest, |hit| Some(hit.bm25), |hit| hit.cosine);
    for (hit, share) in rest.iter_mut().zip(shares) {
        hit.confidence = Some(scale.assess_confidence(hit.cosine, hit.bm25));
        // The sum of two shares is at most 2.
        hit.score = ceiling * share / 2.0;
    }
    rest.retain(|hit| shares_words(hit) || is_near(hit));
    rest
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::domain::bm25::{CorpusStats, Lexicon, TermScore};
    use crate::domain::conversation::HitContext;
    use crate::domain::{Analyzer, Language};

    #[test]
    fn the_rest_follows_the_pool_in_its_own_order() {
        let analyzer = Analyzer::new(Language::English);
        let terms = ["tea".to_owned()];
        let stats = CorpusStats {
            documents: 100,
            total_length: 100,
            document_frequencies: vec![9],
            ..CorpusStats::default()
        };
        let lexicon = Lexicon {
            stats,
            matches: Vec::new(),
        };
        let today = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
        let query = ExpandedQuery::new("tea", &terms, &lexicon, &analyzer, today);
        let hit = |n: u128, bm25: f64, cosine: Option<f64>| Hit {
            bm25,
            cosine,
            terms: if bm25 > 0.0 {
                vec![TermScore {
                    term: 0,
                    score: bm25,
                }]
            } else {
                Vec::new()
            },
            ..Hit::new(
                Uuid::from_u128(n),
                i64::try_from(n).unwrap(),
                UsageStats::default(),
                HitContext::default(),
            )
        };
        let candidates = CandidateSet {
            pool: vec![hit(2, 1.0, None), hit(1, 2.0, None)],
            rest: vec![
                hit(6, 0.0, Some(0.1)),
                hit(5, 0.9, None),
                hit(4, 0.5, Some(0.4)),
                hit(3, 0.1, None),
            ],
        };
        let RankedHits { hits, .. } =
            rank_candidates(&query, candidates, NamedEntities::default(), true, None);
        let order: Vec<i64> = hits.iter().map(|hit| hit.seq).collect();
        assert_eq!(
            order,
            [1, 2, 4, 5, 3],
            "a far memory without a common word is no hit"
        );
        assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        assert!(
            hits.iter()
                .all(|hit| hit.confidence.is_some() && hit.boosts.is_none())
        );
    }
}
