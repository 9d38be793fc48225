//! Entities that a query names, as a channel of recall: memories that mention them gain a bounded bonus, and come even
//! when they share no word with the query.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::walk::mention_bonus;
use crate::store::Candidate;
use crate::store::graph::Named;

/// Lexical candidates that are looked at where a bonus may change their order.
pub(super) const DEPTH: usize = 200;

/// A candidate with what it gained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fed {
    pub(super) candidate: Candidate,
    /// Added to the score.
    pub(super) bonus: f64,
    /// Names of the entities that it mentions and the query names.
    pub(super) entities: Vec<String>,
}

/// Brings both together, best first: exact ones, then by score and bonus, ties by newest.
pub(super) fn feed(candidates: Vec<Candidate>, named: Named) -> Vec<Fed> {
    let best = candidates.iter().map(|candidate| candidate.score).fold(0.0, f64::max);
    let mut mentions: HashMap<Uuid, (i64, Vec<String>)> =
        named.memories.into_iter().map(|memory| (memory.id, (memory.seq, memory.names))).collect();
    let mut fed: Vec<Fed> = candidates
        .into_iter()
        .map(|candidate| {
            let entities = mentions.remove(&candidate.id).map(|(_, names)| names).unwrap_or_default();
            Fed { candidate, bonus: 0.0, entities }
        })
        .collect();
    fed.extend(mentions.into_iter().map(|(id, (seq, entities))| {
        let candidate = Candidate { id, seq, score: 0.0, terms: Vec::new(), exact: false };
        Fed { candidate, bonus: 0.0, entities }
    }));
    for hit in fed.iter_mut().filter(|hit| !hit.entities.is_empty()) {
        hit.bonus = mention_bonus(best, hit.entities.len(), named.named);
    }
    fed.sort_by(|a, b| {
        let total = |hit: &Fed| hit.candidate.score + hit.bonus;
        let exact = b.candidate.exact.cmp(&a.candidate.exact);
        exact.then_with(|| total(b).total_cmp(&total(a))).then_with(|| b.candidate.seq.cmp(&a.candidate.seq))
    });
    fed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::graph::Mentioning;

    #[test]
    fn mentions_lift_and_bring_in_but_never_beat_the_exact_text() {
        let candidate = |n: u128, score: f64, exact: bool| Candidate {
            id: Uuid::from_u128(n),
            seq: i64::try_from(n).unwrap(),
            score,
            terms: Vec::new(),
            exact,
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
        let fed = feed(candidates, named);
        assert_eq!(fed.iter().map(|hit| hit.candidate.seq).collect::<Vec<_>>(), [1, 3, 2, 4, 5]);
        assert!((fed[1].bonus - 2.5).abs() < 1e-9 && fed[2].bonus == 0.0);
        assert_eq!(fed[3].entities, ["Ada"]);
    }
}
