//! The final order: a bonus for memories that mention an entity of the query, and multipliers by usage.

use std::cmp::Ordering;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::hit::Hit;
use super::usage::UsageStats;
use crate::domain::conversation::HitContext;

/// Number of hits whose order may be changed by bonus and multipliers. Others stay behind them, so that all pages
/// belong to one list.
pub const BOOSTED_HITS: usize = 50;
/// Maximum number of memories that the entities of a query add.
pub const MOST_MENTIONING: usize = 200;
/// Maximum bonus for entities, as a share of the best score.
pub const ENTITY_SHARE: f64 = 0.25;
/// Memories that mention the entities of a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NamedEntities {
    /// Number of entity names in the query.
    pub names: usize,
    /// The newest such memories that pass the filter.
    pub memories: Vec<EntityMention>,
}

/// A memory that mentions named entities.
#[derive(Debug, Clone, PartialEq)]
pub struct EntityMention {
    pub id: Uuid,
    /// Storage order of the memory.
    pub seq: i64,
    /// Names of the entities.
    pub entities: Vec<String>,
}

impl Hit {
    fn total(&self) -> f64 {
        (self.score + self.entity_bonus) * self.boosts.as_ref().map_or(1.0, |boosts| boosts.total)
    }
}

/// Orders exact hits first, then by total score, then newest.
fn compare_totals(a: &Hit, b: &Hit) -> Ordering {
    (b.exact.cmp(&a.exact))
        .then_with(|| b.total().total_cmp(&a.total()))
        .then_with(|| b.seq.cmp(&a.seq))
}

/// Adds bonuses and the memories that only entities lead to, multiplies the scores of the best hits by their boosts at
/// `now`, and orders all hits. Without `now` there are no boosts.
#[must_use]
pub fn boost_hits(
    mut hits: Vec<Hit>,
    entities: NamedEntities,
    now: Option<DateTime<Utc>>,
) -> Vec<Hit> {
    let best = hits.iter().map(|hit| hit.score).fold(0.0, f64::max);
    let places: HashMap<Uuid, usize> = hits.iter().map(|hit| hit.id).zip(0..).collect();
    for EntityMention {
        id,
        seq,
        entities: names,
    } in entities.memories
    {
        let bonus = limit_bonus(best, names.len(), entities.names);
        let place = places.get(&id).copied().unwrap_or_else(|| {
            hits.push(Hit::new(
                id,
                seq,
                UsageStats::default(),
                HitContext::default(),
            ));
            hits.len() - 1
        });
        (hits[place].entities, hits[place].entity_bonus) = (names, bonus);
    }
    hits.sort_by(compare_totals);
    if let Some(now) = now {
        let first = hits.len().min(BOOSTED_HITS);
        // The usage of a memory that only its entities led to is unknown.
        for hit in hits[..first]
            .iter_mut()
            .filter(|hit| hit.confidence.is_some())
        {
            hit.boosts = Some(hit.usage.compute_boosts(now));
        }
        hits[..first].sort_by(compare_totals);
    }
    hits
}

/// Returns the bonus of a memory that mentions some of the named entities, at most [`ENTITY_SHARE`] of the best score.
/// The limit makes the words of the query remain decisive.
#[expect(clippy::cast_precision_loss, reason = "a query names few entities")]
fn limit_bonus(best: f64, mentioned: usize, named: usize) -> f64 {
    let best = if best > 0.0 { best } else { 1.0 };
    ENTITY_SHARE * best * (mentioned.min(named) as f64 / named.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    #[test]
    fn mentions_lift_and_add_hits_but_never_beat_the_exact_text() {
        let hit = |n: u128, score: f64, exact: bool| Hit {
            score,
            exact,
            confidence: Some(0.5),
            ..Hit::new(
                Uuid::from_u128(n),
                i64::try_from(n).unwrap(),
                UsageStats::default(),
                HitContext::default(),
            )
        };
        let mention = |n: u128| EntityMention {
            id: Uuid::from_u128(n),
            seq: i64::try_from(n).unwrap(),
            entities: vec!["Ada".to_owned()],
        };
        let entities = NamedEntities {
            names: 1,
            memories: vec![mention(3), mention(4)],
        };
        let hits = vec![
            hit(1, 0.0, true),
            hit(2, 10.0, false),
            hit(3, 9.0, false),
            hit(5, 2.0, false),
        ];
        let ranked = boost_hits(hits, entities, Some(start()));
        assert_eq!(
            ranked.iter().map(|hit| hit.seq).collect::<Vec<_>>(),
            [1, 3, 2, 4, 5]
        );
        assert!((ranked[1].entity_bonus - 2.5).abs() < 1e-9 && ranked[2].entity_bonus == 0.0);
        assert_eq!(ranked[3].entities, ["Ada"]);
        let boosted = ranked
            .iter()
            .map(|hit| hit.boosts.is_some())
            .collect::<Vec<_>>();
        assert_eq!(boosted, [true, true, true, false, true]);
    }

    #[test]
    fn the_entity_bonus_is_bounded() {
        assert!((limit_bonus(8.0, 1, 2) - 1.0).abs() < 1e-9);
        assert!(limit_bonus(8.0, 9, 2) <= 8.0 * ENTITY_SHARE);
        assert!(limit_bonus(0.0, 1, 1) > 0.0);
    }
}
