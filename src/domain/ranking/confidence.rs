//! The probability that a hit answers the query, estimated without reading it.
//!
//! It combines five signals: the nearest meaning and its distance to the rest, the share of the query's weight that the
//! best memory and its neighboring turns cover, whether the query contains a name that is not stored (most words have
//! synonyms, names do not), and the number of memories, because among more memories more are similar by chance. The
//! constants were fitted to questions about notes and conversations, all of them and subsets of 20 to 300, and to
//! questions about the wrong memories; see docs/recall.md. A question about an unstored fact of a known person gets no
//! warning.

use super::fuse::FusionQuery;
use super::hit::Hit;

/// Below this confidence the answer reports that the matches are weak.
const LOW: f64 = 0.4;
/// Below this confidence the answer reports that nothing seems to answer the query.
const UNLIKELY: f64 = 0.15;
/// Below this confidence nearly all questions are about something else.
const OFF_TOPIC: f64 = 0.05;
/// Range of the number of memories in which confidence was fitted.
const FITTED: (u64, u64) = (20, 1_000);
/// Number of memories at which confidence is not adjusted.
const USUAL: f64 = 600.0;
/// Evidence for one memory, or for the answer as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evidence {
    /// Present only if there are cosines of the model to which confidence was fitted.
    pub nearness: Option<Nearness>,
    /// Share of the query's weight that is covered.
    pub coverage: f64,
    /// Whether the query contains a name that is not stored.
    pub names_unknown: bool,
    /// Number of memories in scope.
    pub memories: u64,
}

/// The similarity of a memory to the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearness {
    pub cosine: f64,
    /// Cosine of the third nearest memory. An answer is nearer than memories that are similar by chance.
    pub third: f64,
}

impl Nearness {
    /// Returns the contribution to the evidence of an answer.
    #[must_use]
    pub fn weigh_meaning(self) -> f64 {
        5.0 * self.cosine + 6.0 * (self.cosine - self.third).max(0.0)
    }
}

impl Evidence {
    /// Returns the probability of an answer, from 0 to 1.
    #[must_use]
    pub fn estimate_confidence(self) -> f64 {
        let coverage = self.coverage.clamp(0.0, 1.0);
        let seen = match self.nearness {
            Some(nearness) => nearness.weigh_meaning() + 5.0 * coverage - 5.3,
            None => 8.0 * coverage - 3.7,
        };
        let by_chance = 0.25 * (self.memories.clamp(FITTED.0, FITTED.1) as f64 / USUAL).ln();
        let evidence = seen - by_chance - if self.names_unknown { 3.0 } else { 0.0 };
        1.0 / (1.0 + (-evidence).exp())
    }
}

/// The evidence that all hits of a query share.
#[derive(Debug)]
pub struct ConfidenceScale {
    /// The nearest, the third nearest and the least near cosine of the pool.
    cosines: Option<(f64, f64, f64)>,
    calibrated: bool,
    total_weight: f64,
    /// Coverage if the query has no weight: 1 if it asks only who and when.
    weightless: f64,
    names_unknown: bool,
    memories: u64,
}

impl ConfidenceScale {
    /// Collects the evidence of a fused pool.
    #[must_use]
    pub fn new(
        pool: &[Hit],
        query: &FusionQuery,
        calibrated: bool,
        names_unknown: bool,
        memories: u64,
    ) -> Self {
        let mut cosines: Vec<f64> = pool.iter().filter_map(|hit| hit.cosine).collect();
        cosines.sort_by(|a, b| b.total_cmp(a));
        let least = cosines.last().copied();
        Self {
            cosines: least
                .map(|least| (cosines[0], cosines.get(2).copied().unwrap_or(least), least)),
            calibrated,
            total_weight: query.total_weight,
            weightless: if query.excluded.is_empty() { 0.0 } else { 1.0 },
            names_unknown,
            memories,
        }
    }

    /// Returns the confidence that any hit answers the query.
    #[must_use]
    pub fn assess_answer(&self, pool: &[Hit]) -> f64 {
        if pool.iter().any(|hit| hit.exact) {
            return 1.0;
        }
        let coverage = pool.iter().map(|hit| hit.coverage).fold(0.0, f64::max);
        self.assess_confidence(self.cosines.map(|(nearest, ..)| nearest), coverage)
    }

    /// Returns the confidence that a fused hit answers the query.
    #[must_use]
    pub fn assess_hit(&self, hit: &Hit) -> f64 {
        if hit.exact {
            1.0
        } else {
            self.assess_confidence(hit.cosine, hit.coverage)
        }
    }

    /// Returns the confidence by the cosine (the lowest of the pool if there is none) and by the covered BM25 score.
    #[must_use]
    pub fn assess_confidence(&self, cosine: Option<f64>, covered: f64) -> f64 {
        let nearness = self.cosines.filter(|_| self.calibrated);
        let nearness = nearness.map(|(_, third, least)| Nearness {
            cosine: cosine.unwrap_or(least),
            third,
        });
        let coverage = if self.total_weight > 0.0 {
            covered / self.total_weight
        } else {
            self.weightless
        };
        let (names_unknown, memories) = (self.names_unknown, self.memories);
        Evidence {
            nearness,
            coverage,
            names_unknown,
            memories,
        }
        .estimate_confidence()
    }
}

/// Returns whether the matches are weak.
#[must_use]
pub fn is_low(confidence: f64) -> bool {
    confidence < LOW
}

/// Returns whether nothing seems to answer the query.
#[must_use]
pub fn is_unlikely(confidence: f64) -> bool {
    confidence < UNLIKELY
}

/// Returns whether the query is almost certainly about something else.
#[must_use]
pub fn is_off_topic(confidence: f64) -> bool {
    confidence < OFF_TOPIC
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(cosine: f64, third: f64, coverage: f64) -> Evidence {
        Evidence {
            nearness: Some(Nearness { cosine, third }),
            coverage,
            names_unknown: false,
            memories: 600,
        }
    }

    #[test]
    fn confidence_grows_with_nearness_and_coverage() {
        let one = near(0.5, 0.4, 0.5).estimate_confidence();
        assert!((one - 1.0 / (1.0 + (-0.3_f64).exp())).abs() < 1e-12);
        let among = |memories| {
            Evidence {
                memories,
                ..near(0.5, 0.4, 0.5)
            }
            .estimate_confidence()
        };
        assert!(
            among(100) > one && one > among(900),
            "among more memories more are near by chance"
        );
        assert!(
            among(0) == among(20) && among(1_000) == among(1_000_000),
            "no further than was measured"
        );
        assert!(
            near(0.6, 0.4, 0.5).estimate_confidence() > one
                && near(0.5, 0.4, 0.6).estimate_confidence() > one
        );
        assert!(
            near(0.5, 0.45, 0.5).estimate_confidence() < one,
            "what stands out is more than what is among many"
        );
        let words = |coverage: f64| {
            Evidence {
                coverage,
                memories: 600,
                ..Evidence::default()
            }
            .estimate_confidence()
        };
        assert!((words(2.0) - 1.0 / (1.0 + (-4.3_f64).exp())).abs() < 1e-12);
        assert!(
            is_unlikely(words(0.2))
                && !is_off_topic(words(0.2))
                && is_off_topic(words(0.0))
                && !is_unlikely(words(0.3))
        );
        assert!(is_low(words(0.4)) && !is_unlikely(words(0.4)) && !is_low(words(0.5)));
        assert!(
            is_off_topic(near(0.3, 0.28, 0.1).estimate_confidence())
                && !is_unlikely(near(0.45, 0.3, 0.25).estimate_confidence())
        );
    }

    #[test]
    fn an_unknown_name_lowers_confidence() {
        let known = near(0.5, 0.4, 0.4);
        let unknown = Evidence {
            names_unknown: true,
            ..known
        };
        assert!(
            !is_unlikely(known.estimate_confidence()) && is_unlikely(unknown.estimate_confidence())
        );
        // If the meaning is near enough, the name may be spelled differently.
        assert!(!is_unlikely(
            Evidence {
                names_unknown: true,
                ..near(0.9, 0.5, 0.9)
            }
            .estimate_confidence()
        ));
    }
}
