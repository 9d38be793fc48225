//! The order of a recall's hits: the fused score, a bounded bonus for memories that mention an entity which the query
//! names (they come even when they share no word with it), and the multipliers of use and age.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::fusion::{Channel, Place, Share};
use crate::domain::walk::mention_bonus;
use crate::domain::{Factors, Setting, Standing};
use crate::store::Candidate;
use crate::store::graph::Named;

/// Candidates whose order bonus and multipliers may change. Further ones stay behind them, so that every page is one
/// of the same list.
pub(super) const DEPTH: usize = 50;
/// Most memories that the entities of a query bring in.
pub(super) const MENTIONING: usize = 200;

/// A memory that words, meaning or its neighbours found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Its score is that of everything together.
    pub(super) candidate: Candidate,
    /// Where it stood in each channel; empty where words alone were searched.
    pub(super) places: BTreeMap<Channel, Place>,
    /// What the score consists of; empty for what comes behind the pool.
    pub(super) shares: BTreeMap<Share, f64>,
    /// How sure one can be that it answers, from 0 to 1.
    pub(super) confidence: f64,
}

/// A candidate with what it gained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ranked {
    pub(super) candidate: Candidate,
    /// Where it stood in each channel; empty where words alone were searched.
    pub(super) places: BTreeMap<Channel, Place>,
    /// What the score consists of.
    pub(super) shares: BTreeMap<Share, f64>,
    /// How sure one can be that it answers; unknown for what only its entities brought in.
    pub(super) confidence: Option<f64>,
    /// Added to the score.
    pub(super) bonus: f64,
    /// Names of the entities that it mentions and the query names.
    pub(super) entities: Vec<String>,
    /// What the sum is multiplied by; unknown for the past and for what only its entities brought in.
    pub(super) factors: Option<Factors>,
}

impl Ranked {
    fn total(&self) -> f64 {
        (self.candidate.score + self.bonus)
            * self.factors.as_ref().map_or(1.0, |factors| factors.total)
    }

    fn by_total(&self, other: &Self) -> Ordering {
        let exact = other.candidate.exact.cmp(&self.candidate.exact);
        let total = || other.total().total_cmp(&self.total());
        exact
            .then_with(total)
            .then_with(|| other.candidate.seq.cmp(&self.candidate.seq))
    }
}

/// A memory of which nothing is known but that it is there.
fn unknown(id: Uuid, seq: i64) -> Candidate {
    let (start, place) = (DateTime::UNIX_EPOCH, (None, None));
    let (standing, setting) = (
        Standing::new(start),
        Setting::new(0, place, None, 0, false, start),
    );
    Candidate {
        id,
        seq,
        score: 0.0,
        parts: Vec::new(),
        exact: false,
        standing,
        setting,
    }
}

/// Best first: exact ones, then by total, ties by newest. `now` is `None` where the multipliers are not to act.
pub(super) fn rank(found: Vec<Found>, named: Named, now: Option<DateTime<Utc>>) -> Vec<Ranked> {
    let best = found
        .iter()
        .map(|hit| hit.candidate.score)
        .fold(0.0, f64::max);
    let mut mentions: HashMap<Uuid, (i64, Vec<String>)> = named
        .memories
        .into_iter()
        .map(|memory| (memory.id, (memory.seq, memory.names)))
        .collect();
    let mut ranked: Vec<Ranked> = found
        .into_iter()
        .map(
            |Found {
                 candidate,
                 places,
                 shares,
                 confidence,
             }| {
                let entities = mentions
                    .remove(&candidate.id)
                    .map(|(_, names)| names)
                    .unwrap_or_default();
                Ranked {
                    candidate,
                    places,
                    shares,
                    confidence: Some(confidence),
                    bonus: 0.0,
                    entities,
                    factors: None,
                }
            },
        )
        .collect();
    let only_named: HashSet<Uuid> = mentions.keys().copied().collect();
    ranked.extend(mentions.into_iter().map(|(id, (seq, entities))| {
        let candidate = unknown(id, seq);
        let (places, shares) = (BTreeMap::new(), BTreeMap::new());
        Ranked {
            candidate,
            places,
            shares,
            confidence: None,
            bonus: 0.0,
            entities,
            factors: None,
        }
    }));
    for hit in ranked.iter_mut().filter(|hit| !hit.entities.is_empty()) {
        hit.bonus = mention_bonus(best, hit.entities.len(), named.named);
    }
    ranked.sort_by(Ranked::by_total);
    if let Some(now) = now {
        let first = ranked.len().min(DEPTH);
        for hit in ranked[..first]
            .iter_mut()
            .filter(|hit| !only_named.contains(&hit.candidate.id))
        {
            hit.factors = Some(hit.candidate.standing.factors(now));
        }
        ranked[..first].sort_by(Ranked::by_total);
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::graph::Mentioning;

    #[test]
    fn mentions_lift_and_bring_in_but_never_beat_the_exact_text() {
        let candidate = |n: u128, score: f64, exact: bool| Found {
            candidate: Candidate {
                score,
                exact,
                ..unknown(Uuid::from_u128(n), i64::try_from(n).unwrap())
            },
            places: BTreeMap::new(),
            shares: BTreeMap::new(),
            confidence: 0.5,
        };
        let mentioning = |n: u128| Mentioning {
            id: Uuid::from_u128(n),
            seq: i64::try_from(n).unwrap(),
            names: vec!["Ada".to_owned()],
        };
        let named = Named {
            named: 1,
            memories: vec![mentioning(3), mentioning(4)],
        };
        let candidates = vec![
            candidate(1, 0.0, true),
            candidate(2, 10.0, false),
            candidate(3, 9.0, false),
            candidate(5, 2.0, false),
        ];
        let ranked = rank(candidates, named, None);
        assert_eq!(
            ranked
                .iter()
                .map(|hit| hit.candidate.seq)
                .collect::<Vec<_>>(),
            [1, 3, 2, 4, 5]
        );
        assert!((ranked[1].bonus - 2.5).abs() < 1e-9 && ranked[2].bonus == 0.0);
        assert_eq!(ranked[3].entities, ["Ada"]);
    }
}
