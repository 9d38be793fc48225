//! The order of a recall's hits: the score by words and meaning, a bounded bonus for memories that mention an entity which the query
//! names (they come even when they share no word with it), and the multipliers of use and age.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::fusion::{Channel, Place};
use crate::domain::walk::mention_bonus;
use crate::domain::{Factors, Standing};
use crate::store::Candidate;
use crate::store::graph::Named;

/// Candidates whose order bonus and multipliers may change. Further ones stay behind them, so that every page is one
/// of the same list.
pub(super) const DEPTH: usize = 50;
/// Most memories that the entities of a query bring in.
pub(super) const MENTIONING: usize = 200;

/// A memory that words or meaning found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Its score is that of both together.
    pub(super) candidate: Candidate,
    /// Where it stood in each channel; empty where words alone were searched.
    pub(super) places: BTreeMap<Channel, Place>,
}

/// A candidate with what it gained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ranked {
    pub(super) candidate: Candidate,
    /// Where it stood in each channel; empty where words alone were searched.
    pub(super) places: BTreeMap<Channel, Place>,
    /// Added to the score.
    pub(super) bonus: f64,
    /// Names of the entities that it mentions and the query names.
    pub(super) entities: Vec<String>,
    /// What the sum is multiplied by; unknown for the past and for what only its entities brought in.
    pub(super) factors: Option<Factors>,
}

impl Ranked {
    fn total(&self) -> f64 {
        (self.candidate.score + self.bonus) * self.factors.as_ref().map_or(1.0, |factors| factors.total)
    }

    fn by_total(&self, other: &Self) -> Ordering {
        let exact = other.candidate.exact.cmp(&self.candidate.exact);
        let total = || other.total().total_cmp(&self.total());
        exact.then_with(total).then_with(|| other.candidate.seq.cmp(&self.candidate.seq))
    }
}

/// Best first: exact ones, then by total, ties by newest. `now` is `None` where the multipliers are not to act.
pub(super) fn rank(found: Vec<Found>, named: Named, now: Option<DateTime<Utc>>) -> Vec<Ranked> {
    let best = found.iter().map(|hit| hit.candidate.score).fold(0.0, f64::max);
    let mut mentions: HashMap<Uuid, (i64, Vec<String>)> =
        named.memories.into_iter().map(|memory| (memory.id, (memory.seq, memory.names))).collect();
    let mut ranked: Vec<Ranked> = found
        .into_iter()
        .map(|Found { candidate, places }| {
            let entities = mentions.remove(&candidate.id).map(|(_, names)| names).unwrap_or_default();
            Ranked { candidate, places, bonus: 0.0, entities, factors: None }
        })
        .collect();
    let only_named: HashSet<Uuid> = mentions.keys().copied().collect();
    ranked.extend(mentions.into_iter().map(|(id, (seq, entities))| {
        let standing = Standing::new(DateTime::UNIX_EPOCH);
        let candidate = Candidate { id, seq, score: 0.0, terms: Vec::new(), exact: false, standing };
        Ranked { candidate, places: BTreeMap::new(), bonus: 0.0, entities, factors: None }
    }));
    for hit in ranked.iter_mut().filter(|hit| !hit.entities.is_empty()) {
        hit.bonus = mention_bonus(best, hit.entities.len(), named.named);
    }
    ranked.sort_by(Ranked::by_total);
    if let Some(now) = now {
        let first = ranked.len().min(DEPTH);
        for hit in ranked[..first].iter_mut().filter(|hit| !only_named.contains(&hit.candidate.id)) {
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
                id: Uuid::from_u128(n),
                seq: i64::try_from(n).unwrap(),
                score,
                terms: Vec::new(),
                exact,
                standing: Standing::new(DateTime::UNIX_EPOCH),
            },
            places: BTreeMap::new(),
        };
        let mentioning = |n: u128| Mentioning {
            id: Uuid::from_u128(n),
            seq: i64::try_from(n).unwrap(),
            names: vec!["Ada".to_owned()],
        };
        let named = Named { named: 1, memories: vec![mentioning(3), mentioning(4)] };
        let candidates = vec![
            candidate(1, 0.0, true),
            candidate(2, 10.0, false),
            candidate(3, 9.0, false),
            candidate(5, 2.0, false),
        ];
        let ranked = rank(candidates, named, None);
        assert_eq!(ranked.iter().map(|hit| hit.candidate.seq).collect::<Vec<_>>(), [1, 3, 2, 4, 5]);
        assert!((ranked[1].bonus - 2.5).abs() < 1e-9 && ranked[2].bonus == 0.0);
        assert_eq!(ranked[3].entities, ["Ada"]);
    }
}
