//! One ranking out of several: the sum of each channel's scores, each as a share of that channel's best.
//!
//! Pure, and every hit keeps where it stood in each channel, so that an answer can say why it is what it is. To add a
//! channel, add it to [`Channel`] with its weight.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use uuid::Uuid;

/// A way of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// BM25.
    Words,
    /// Cosine of vectors.
    Meaning,
}

impl Channel {
    /// What the best hit of a channel is worth.
    fn weight(self) -> f64 {
        match self {
            Self::Words | Self::Meaning => 1.0,
        }
    }

    /// Below this a score says nothing: among any texts some are nearest.
    fn floor(self) -> f64 {
        match self {
            Self::Words => 0.0,
            Self::Meaning => 0.15,
        }
    }
}

/// A hit of one channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The memory.
    pub id: Uuid,
    /// Its storage order; the newer one wins a tie.
    pub seq: i64,
    /// In the channel's own measure.
    pub score: f64,
}

/// Where a hit stood in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Place {
    /// From 1.
    pub rank: usize,
    /// In the channel's own measure.
    pub score: f64,
}

/// A hit of all channels together.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    /// The memory.
    pub id: Uuid,
    /// Its storage order.
    pub seq: i64,
    /// The sum.
    pub score: f64,
    /// Its parts.
    pub places: BTreeMap<Channel, Place>,
}

/// All hits of all channels, best first. Each list is best first, too.
#[must_use]
pub fn fuse(channels: &[(Channel, Vec<Scored>)]) -> Vec<Fused> {
    let mut fused: HashMap<Uuid, Fused> = HashMap::new();
    for (channel, hits) in channels {
        let best = hits.iter().map(|hit| hit.score).fold(0.0, f64::max);
        for (hit, rank) in hits.iter().zip(1..) {
            // Hits for another reason than their score, such as equal texts, are kept whatever it is.
            if hit.score < channel.floor() {
                continue;
            }
            let share = if best > 0.0 { hit.score.max(0.0) / best } else { 0.0 };
            let entry = fused.entry(hit.id).or_insert_with(|| Fused {
                id: hit.id,
                seq: hit.seq,
                score: 0.0,
                places: BTreeMap::new(),
            });
            entry.score += channel.weight() * share;
            entry.places.insert(*channel, Place { rank, score: hit.score });
        }
    }
    let mut fused: Vec<Fused> = fused.into_values().collect();
    fused.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.seq.cmp(&a.seq)));
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(seq: i64, score: f64) -> Scored {
        Scored { id: Uuid::from_u128(seq.unsigned_abs().into()), seq, score }
    }

    fn order(channels: &[(Channel, Vec<Scored>)]) -> Vec<i64> {
        fuse(channels).iter().map(|fused| fused.seq).collect()
    }

    #[test]
    fn who_is_good_in_both_comes_first() {
        let words = (Channel::Words, vec![hit(1, 12.0), hit(2, 9.0)]);
        let meaning = (Channel::Meaning, vec![hit(3, 0.6), hit(2, 0.5), hit(4, 0.1)]);
        assert_eq!(order(&[words.clone(), meaning]), [2, 3, 1]);
        assert_eq!(order(&[words]), [1, 2]);
        assert!(order(&[]).is_empty());
    }

    #[test]
    fn places_tell_why() {
        let fused = fuse(&[(Channel::Words, vec![hit(1, 4.0)]), (Channel::Meaning, vec![hit(2, 0.8), hit(1, 0.4)])]);
        assert_eq!(fused[0].seq, 1);
        assert_eq!(fused[0].score, 1.5);
        assert_eq!(fused[0].places[&Channel::Meaning], Place { rank: 2, score: 0.4 });
        assert_eq!(fused[1].places.len(), 1);
    }
}
