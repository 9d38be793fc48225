//! Joins the hits of the channels, and completes their conversations.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::hit::{Channel, ChannelRank, Hit};
use crate::domain::bm25::{WeightedTerm, keep_best_substitutes};
use crate::domain::conversation::Turn;

/// Number of best candidates whose neighboring turns are read.
const COMPLETED_TURNS: usize = 100;
/// Maximum distance of those turns, in both directions.
const NEIGHBOR_DISTANCE: i64 = 2;

/// The candidates of the channels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CandidateSet {
    /// Candidates that are ranked together, in storage order, newest first.
    pub pool: Vec<Hit>,
    /// Lower-ranked candidates of each channel, in the same order; they follow the pool.
    pub rest: Vec<Hit>,
}

/// Adds hits to those of the word index, and orders all: exact hits first, then by BM25, then newest. Of several
/// substitutes for the same query term, each hit keeps the best.
pub fn add_lexical_hits(hits: &mut Vec<Hit>, added: Vec<Hit>, terms: &[WeightedTerm]) {
    hits.extend(added);
    for hit in &mut *hits {
        hit.bm25 -= keep_best_substitutes(&mut hit.terms, terms);
    }
    hits.sort_by(|a, b| {
        (b.exact.cmp(&a.exact))
            .then_with(|| b.bm25.total_cmp(&a.bm25))
            .then_with(|| b.seq.cmp(&a.seq))
    });
}

/// Joins both channels, each with its best hit first, and separates the best `depth` of each from the rest. Without
/// `meaning`, hits have no channel ranks. The score of a hit in the pool is preliminary.
#[must_use]
pub fn merge(words: Vec<Hit>, meaning: Option<Vec<Hit>>, depth: usize) -> CandidateSet {
    let hybrid = meaning.is_some();
    let mut merged: HashMap<Uuid, Merged> = HashMap::with_capacity(words.len());
    for (hit, rank) in words.into_iter().zip(1..) {
        merged.insert(
            hit.id,
            Merged {
                hit,
                words: Some(rank),
                meaning: None,
            },
        );
    }
    for (hit, rank) in meaning.into_iter().flatten().zip(1..) {
        match merged.entry(hit.id) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                (known.hit.cosine, known.hit.passage) = (hit.cosine, hit.passage);
                known.meaning = Some(rank);
            }
            Entry::Vacant(new) => {
                new.insert(Merged {
                    hit,
                    words: None,
                    meaning: Some(rank),
                });
            }
        }
    }
    let in_pool = |rank: Option<usize>| rank.is_some_and(|rank| rank <= depth);
    let (mut pool, mut rest): (Vec<Merged>, Vec<Merged>) = merged
        .into_values()
        .partition(|one| in_pool(one.words) || in_pool(one.meaning));
    let shares = sum_shares(
        &pool,
        |one| in_pool(one.words).then_some(one.hit.bm25),
        |one| one.hit.cosine.filter(|_| in_pool(one.meaning)),
    );
    for (one, share) in pool.iter_mut().zip(shares) {
        one.hit.score = share;
    }
    let finish = |all: &mut Vec<Merged>| {
        let hits = all.drain(..).map(|one| one.with_channels(hybrid));
        sort_newest(hits.collect())
    };
    CandidateSet {
        pool: finish(&mut pool),
        rest: finish(&mut rest),
    }
}

/// A hit with its rank in each channel.
struct Merged {
    hit: Hit,
    words: Option<usize>,
    meaning: Option<usize>,
}

impl Merged {
    fn with_channels(mut self, hybrid: bool) -> Hit {
        let bm25 = self.hit.bm25;
        // An exact hit without a common term has no rank by words.
        let words = self.words.filter(|_| hybrid && !self.hit.terms.is_empty());
        let words = words.map(|rank| (Channel::Words, ChannelRank { rank, score: bm25 }));
        let meaning = self.meaning.zip(self.hit.cosine);
        let meaning = meaning.map(|(rank, score)| (Channel::Meaning, ChannelRank { rank, score }));
        self.hit.channels = words.into_iter().chain(meaning).collect();
        self.hit
    }
}

fn sort_newest(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_by_key(|hit| (std::cmp::Reverse(hit.seq), hit.id));
    hits
}

impl CandidateSet {
    /// Returns the turns next to the best candidates that are not in the pool.
    #[must_use]
    pub fn missing_turns(&self) -> Vec<Turn> {
        let in_turns = |hit: &'_ Hit| hit.context.turn.is_some();
        let mut best: Vec<&Hit> = self.pool.iter().filter(|hit| in_turns(hit)).collect();
        best.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.id.cmp(&a.id)));
        let turns: Vec<&Turn> = best
            .iter()
            .filter_map(|hit| hit.context.turn.as_ref())
            .collect();
        let mut seen: HashSet<Turn> = turns.iter().copied().cloned().collect();
        let mut missing = Vec::new();
        for turn in turns.into_iter().take(COMPLETED_TURNS) {
            for distance in
                (-NEIGHBOR_DISTANCE..=NEIGHBOR_DISTANCE).filter(|distance| *distance != 0)
            {
                let number = turn.number.saturating_add(distance);
                let near = Turn {
                    number,
                    ..turn.clone()
                };
                if seen.insert(near.clone()) {
                    missing.push(near);
                }
            }
        }
        missing
    }

    /// Adds neighboring turns to the pool, except those that a channel returned.
    pub fn add_neighbors(&mut self, turns: Vec<Hit>) {
        let known: HashSet<Uuid> = self
            .pool
            .iter()
            .chain(&self.rest)
            .map(|hit| hit.id)
            .collect();
        self.pool
            .extend(turns.into_iter().filter(|turn| !known.contains(&turn.id)));
        self.pool = sort_newest(std::mem::take(&mut self.pool));
    }
}

/// Computes preliminary scores: for each channel, the share of its best hit.
pub(super) fn sum_shares<T>(
    hits: &[T],
    bm25: impl Fn(&T) -> Option<f64>,
    cosine: impl Fn(&T) -> Option<f64>,
) -> Vec<f64> {
    let most = hits.iter().filter_map(&bm25).fold(0.0, f64::max);
    let cosines = || hits.iter().filter_map(&cosine);
    let low = cosines().fold(f64::INFINITY, f64::min);
    let high = cosines().fold(f64::NEG_INFINITY, f64::max);
    let share = |hit: &T| {
        let words = bm25(hit)
            .filter(|_| most > 0.0)
            .map_or(0.0, |score| score / most);
        let near = |cosine: f64| {
            if high > low {
                (cosine - low) / (high - low)
            } else {
                1.0
            }
        };
        words + cosine(hit).map_or(0.0, near)
    };
    hits.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::bm25::TermScore;
    use crate::domain::conversation::HitContext;
    use crate::domain::ranking::UsageStats;

    fn hit(n: i64) -> Hit {
        let id = Uuid::from_u128(n.unsigned_abs().into());
        Hit::new(id, n, UsageStats::default(), HitContext::default())
    }

    fn by_words(n: i64, bm25: f64) -> Hit {
        let terms = vec![TermScore {
            term: 0,
            score: bm25,
        }];
        Hit {
            bm25,
            terms,
            ..hit(n)
        }
    }

    fn by_meaning(n: i64, cosine: f64) -> Hit {
        Hit {
            cosine: Some(cosine),
            ..hit(n)
        }
    }

    fn turn(n: i64, number: i64) -> Hit {
        let turn = Turn::new("p".to_owned(), Some("s".to_owned()), Some(number));
        Hit {
            context: HitContext {
                turn,
                ..HitContext::default()
            },
            ..by_words(n, 1.0)
        }
    }

    fn numbers(hits: &[Hit]) -> Vec<i64> {
        hits.iter().map(|hit| hit.seq).collect()
    }

    #[test]
    fn channels_are_joined_and_the_best_of_each_form_the_pool() {
        let words = vec![by_words(1, 4.0), by_words(2, 2.0), by_words(3, 1.0)];
        let meaning = vec![by_meaning(4, 0.9), by_meaning(3, 0.5), by_meaning(5, 0.1)];
        let CandidateSet { pool, rest } = merge(words, Some(meaning), 2);
        assert_eq!(
            (numbers(&pool), numbers(&rest)),
            (vec![4, 3, 2, 1], vec![5])
        );
        let third = &pool[1];
        assert_eq!((third.bm25, third.cosine), (1.0, Some(0.5)));
        let ranks: Vec<usize> = third
            .channels
            .values()
            .map(|channel| channel.rank)
            .collect();
        assert_eq!(ranks, [3, 2]);
        // Its rank by words is beyond the depth, so only its meaning counts, which is the worst of the pool.
        let scores: Vec<f64> = pool.iter().map(|hit| hit.score).collect();
        assert_eq!(scores, [1.0, 0.0, 0.5, 1.0]);
    }

    #[test]
    fn words_alone_have_no_channel_ranks() {
        let CandidateSet { pool, rest } = merge(vec![by_words(1, 4.0), by_words(2, 2.0)], None, 1);
        assert!(pool[0].channels.is_empty() && rest[0].channels.is_empty());
        assert_eq!((numbers(&pool), numbers(&rest)), (vec![1], vec![2]));
    }

    #[test]
    fn an_exact_hit_without_common_terms_has_no_rank_by_words() {
        let exact = Hit {
            exact: true,
            ..hit(1)
        };
        let set = merge(vec![exact, by_words(2, 2.0)], Some(Vec::new()), 5);
        assert_eq!(numbers(&set.pool), [2, 1]);
        assert!(set.pool[1].channels.is_empty());
        assert_eq!(set.pool[0].channels[&Channel::Words].rank, 2);
    }

    #[test]
    fn missing_turns_are_those_next_to_candidates() {
        let mut set = merge(vec![turn(1, 5), turn(2, 6), by_words(3, 1.0)], None, 10);
        let missing: Vec<i64> = set.missing_turns().iter().map(|turn| turn.number).collect();
        // The greater ID of equal candidates comes first: 6, then 5.
        assert_eq!(missing, [4, 7, 8, 3]);
        set.add_neighbors(vec![turn(4, 4), turn(2, 6)]);
        assert_eq!(numbers(&set.pool), [4, 3, 2, 1]);
        assert!(CandidateSet::default().missing_turns().is_empty());
    }

    #[test]
    fn lexical_hits_are_ordered_by_exactness_and_score() {
        let terms = ["a", "b"].map(|term| WeightedTerm {
            term: term.to_owned(),
            weight: 1.0,
            stands_for: Some(0),
        });
        let scores = vec![
            TermScore {
                term: 0,
                score: 1.0,
            },
            TermScore {
                term: 1,
                score: 2.0,
            },
        ];
        let both = Hit {
            bm25: 3.0,
            terms: scores,
            ..hit(1)
        };
        let mut hits = vec![both, by_words(2, 2.5)];
        add_lexical_hits(
            &mut hits,
            vec![Hit {
                exact: true,
                ..hit(3)
            }],
            &terms,
        );
        assert_eq!(numbers(&hits), [3, 2, 1]);
        assert_eq!(hits[2].bm25, 2.0, "only the better substitute counts");
    }
}
