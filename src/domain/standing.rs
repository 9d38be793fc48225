//! How a memory stands apart from the question: decay, use, feedback, importance. They multiply the score of a hit
//! within narrow bounds; none of them alone can bring up what does not answer, or hide what does.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Days after which an unused memory has lost two thirds of its strength.
pub const BASE_DAYS: f64 = 30.0;
/// What is left of the strength at the least.
pub const FLOOR: f64 = 0.1;
/// Least factor of all together.
pub const LEAST: f64 = 0.8;
/// Greatest factor of all together.
pub const GREATEST: f64 = 1.25;
/// What decay may take away, and importance and feedback may take or add.
const SHARE: f64 = 0.1;
/// What use may add. Less than the others: what is found often must not be found because of that.
const USE_SHARE: f64 = 0.02;
/// Votes for or against which count as half of a conviction.
const DOUBT: f64 = 2.0;

/// What is known about a memory apart from its text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// From 0 to 1.
    pub importance: f64,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When recall last returned it.
    pub last_recalled_at: Option<DateTime<Utc>>,
    /// How often.
    pub recall_count: i64,
    /// Votes that it helped.
    pub helpful: i64,
    /// Votes that it did not.
    pub not_helpful: i64,
}

impl Standing {
    /// Of something new that nobody has an opinion of, stored at `created_at`.
    #[must_use]
    pub fn new(created_at: DateTime<Utc>) -> Self {
        Self {
            importance: 0.5,
            created_at,
            last_recalled_at: None,
            recall_count: 0,
            helpful: 0,
            not_helpful: 0,
        }
    }

    /// `exp(-days / S)` with `S = base * (1 + ln(1 + recalls))`, from [`FLOOR`] to 1. The days count from the last
    /// recall.
    #[must_use]
    pub fn strength(&self, now: DateTime<Utc>) -> f64 {
        let since = self
            .last_recalled_at
            .map_or(self.created_at, |at| at.max(self.created_at));
        // Clocks of several servers differ: a time in the future is the present.
        let days = (now - since).as_seconds_f64().max(0.0) / 86_400.0;
        let stability = BASE_DAYS * (1.0 + self.uses().ln_1p());
        (-days / stability).exp().max(FLOOR)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn uses(&self) -> f64 {
        self.recall_count.max(0) as f64
    }

    /// The factors at `now`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn factors(&self, now: DateTime<Utc>) -> Factors {
        let (good, bad) = (self.helpful.max(0) as f64, self.not_helpful.max(0) as f64);
        let importance = 1.0 + SHARE * (2.0 * self.importance.clamp(0.0, 1.0) - 1.0);
        let recency = 1.0 - SHARE * (1.0 - self.strength(now));
        let usage = 1.0 + USE_SHARE * (1.0 - 1.0 / (1.0 + self.uses().ln_1p()));
        let feedback = 1.0 + SHARE * (good - bad) / (good + bad + DOUBT);
        // In thousandths: moments must not decide between equals, nor move hits from one page to another.
        let total = (importance * recency * usage * feedback * 1_000.0).round() / 1_000.0;
        let total = total.clamp(LEAST, GREATEST);
        Factors {
            importance,
            recency,
            usage,
            feedback,
            total,
        }
    }
}

/// What a score is multiplied by; 1 changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Factors {
    /// By the caller's word.
    pub importance: f64,
    /// By decay.
    pub recency: f64,
    /// By how often it was recalled.
    pub usage: f64,
    /// By votes.
    pub feedback: f64,
    /// All of them, within bounds.
    pub total: f64,
}

impl Factors {
    /// Those that change something, in the order of their weight, as `name ×1.05`.
    #[must_use]
    pub fn explain(&self) -> Vec<String> {
        let named = [
            ("importance", self.importance),
            ("recency", self.recency),
            ("use", self.usage),
            ("feedback", self.feedback),
        ];
        let mut told: Vec<(&str, f64)> = named
            .into_iter()
            .filter(|(_, factor)| (factor - 1.0).abs() >= 0.005)
            .collect();
        told.sort_by(|a, b| (b.1 - 1.0).abs().total_cmp(&(a.1 - 1.0).abs()));
        told.into_iter()
            .map(|(name, factor)| format!("{name} ×{factor:.2}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    #[test]
    fn a_new_memory_is_neutral_and_fades_to_a_floor() {
        let new = Standing::new(start());
        assert!((new.factors(start()).total - 1.0).abs() < 1e-12);
        assert!((new.strength(start() + TimeDelta::days(30)) - (-1.0_f64).exp()).abs() < 1e-12);
        assert!((new.strength(start() + TimeDelta::days(10_000)) - FLOOR).abs() < f64::EPSILON);
        assert!(
            (new.strength(start() - TimeDelta::days(1)) - 1.0).abs() < f64::EPSILON,
            "a clock that runs ahead"
        );
    }

    #[test]
    fn recall_refreshes_and_makes_last_longer() {
        let now = start() + TimeDelta::days(60);
        let used = Standing {
            recall_count: 3,
            last_recalled_at: Some(start()),
            ..Standing::new(start())
        };
        let fresh = Standing {
            last_recalled_at: Some(now),
            ..used
        };
        assert!(Standing::new(start()).strength(now) < used.strength(now));
        assert!((used.strength(now) - (-60.0 / (30.0 * (1.0 + 4.0_f64.ln()))).exp()).abs() < 1e-12);
        assert!((fresh.strength(now) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn each_factor_points_the_right_way() {
        let total = |change: &dyn Fn(&mut Standing)| {
            let mut standing = Standing::new(start());
            change(&mut standing);
            standing.factors(start()).total
        };
        assert!(total(&|s| s.importance = 1.0) > 1.0 && total(&|s| s.importance = 0.0) < 1.0);
        assert!(total(&|s| s.helpful = 1) > 1.0 && total(&|s| s.not_helpful = 1) < 1.0);
        assert!(total(&|s| s.recall_count = 5) > 1.0);
        let told = Standing {
            importance: 1.0,
            helpful: 1,
            ..Standing::new(start())
        }
        .factors(start())
        .explain();
        assert_eq!(told, ["importance ×1.10", "feedback ×1.03"]);
    }

    proptest! {
        #[test]
        fn together_they_stay_within_bounds(
            importance in 0.0..=1.0_f64, age in -10..100_000_i64, recall_count in 0..i64::MAX,
            helpful in 0..i64::MAX, not_helpful in 0..i64::MAX,
        ) {
            let standing = Standing { importance, recall_count, helpful, not_helpful, ..Standing::new(start()) };
            let factors = standing.factors(start() + TimeDelta::days(age));
            prop_assert!((LEAST..=GREATEST).contains(&factors.total), "{factors:?}");
        }
    }
}
