//! Multipliers by usage: decay, use, feedback and importance. They decide between hits of similar score, within narrow
//! limits: none can lift a memory that does not answer, or hide one that does.

use chrono::{DateTime, Utc};

/// Number of days after which an unused memory has lost two thirds of its strength.
pub const BASE_DAYS: f64 = 30.0;
/// Minimum strength.
pub const FLOOR: f64 = 0.1;
/// Minimum product of all multipliers.
pub const LEAST: f64 = 0.8;
/// Maximum product of all multipliers.
pub const GREATEST: f64 = 1.25;
/// Maximum loss by decay, and maximum change by importance and feedback.
const SHARE: f64 = 0.1;
/// Maximum gain by use. Less than the others, so that frequent hits do not keep themselves first.
const USE_SHARE: f64 = 0.02;
/// Number of votes at which the evidence has half of its effect.
const DOUBT: f64 = 2.0;

/// How a memory was used and rated, independent of the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UsageStats {
    /// From 0 to 1.
    pub importance: f64,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When recall last returned it.
    pub last_recalled_at: Option<DateTime<Utc>>,
    /// How often recall returned it.
    pub recall_count: i64,
    /// Number of votes that it helped.
    pub helpful: i64,
    /// Number of votes that it did not help.
    pub not_helpful: i64,
}

impl Default for UsageStats {
    fn default() -> Self {
        Self::new(DateTime::UNIX_EPOCH)
    }
}

impl UsageStats {
    /// Returns the statistics of an unused memory of average importance, stored at `created_at`.
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

    /// Returns `exp(-days / S)` with `S = base * (1 + ln(1 + recalls))`, from [`FLOOR`] to 1. Days are counted from the
    /// last recall.
    #[must_use]
    pub fn compute_strength(&self, now: DateTime<Utc>) -> f64 {
        let since = self
            .last_recalled_at
            .map_or(self.created_at, |at| at.max(self.created_at));
        // Clocks of several servers differ: a time in the future counts as the present.
        let days = (now - since).as_seconds_f64().max(0.0) / 86_400.0;
        let stability = BASE_DAYS * (1.0 + self.count_uses().ln_1p());
        (-days / stability).exp().max(FLOOR)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn count_uses(&self) -> f64 {
        self.recall_count.max(0) as f64
    }

    /// Returns the multipliers at `now`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn compute_boosts(&self, now: DateTime<Utc>) -> Boosts {
        let (good, bad) = (self.helpful.max(0) as f64, self.not_helpful.max(0) as f64);
        let importance = 1.0 + SHARE * (2.0 * self.importance.clamp(0.0, 1.0) - 1.0);
        let recency = 1.0 - SHARE * (1.0 - self.compute_strength(now));
        let usage = 1.0 + USE_SHARE * (1.0 - 1.0 / (1.0 + self.count_uses().ln_1p()));
        let feedback = 1.0 + SHARE * (good - bad) / (good + bad + DOUBT);
        // Rounded to thousandths: small time differences must not decide between equals, nor move hits between pages.
        let total = (importance * recency * usage * feedback * 1_000.0).round() / 1_000.0;
        let total = total.clamp(LEAST, GREATEST);
        Boosts {
            importance,
            recency,
            usage,
            feedback,
            total,
        }
    }
}

/// Multipliers of a score; 1 has no effect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boosts {
    pub importance: f64,
    pub recency: f64,
    pub usage: f64,
    pub feedback: f64,
    /// Product of the others, within limits.
    pub total: f64,
}

impl Boosts {
    /// Returns the total and the multipliers with an effect, strongest first: `×1.05: importance ×1.05`. `None` if none
    /// has an effect.
    #[must_use]
    pub fn describe_changes(&self) -> Option<String> {
        let named = [
            ("importance", self.importance),
            ("recency", self.recency),
            ("use", self.usage),
            ("feedback", self.feedback),
        ];
        let mut changing: Vec<(&str, f64)> = named
            .into_iter()
            .filter(|(_, factor)| (factor - 1.0).abs() >= 0.005)
            .collect();
        changing.sort_by(|a, b| (b.1 - 1.0).abs().total_cmp(&(a.1 - 1.0).abs()));
        let parts = changing
            .iter()
            .map(|(name, factor)| format!("{name} ×{factor:.2}"));
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| format!("×{:.2}: {}", self.total, parts.join(", ")))
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
        let new = UsageStats::new(start());
        assert!((new.compute_boosts(start()).total - 1.0).abs() < 1e-12);
        assert!(
            (new.compute_strength(start() + TimeDelta::days(30)) - (-1.0_f64).exp()).abs() < 1e-12
        );
        assert!(
            (new.compute_strength(start() + TimeDelta::days(10_000)) - FLOOR).abs() < f64::EPSILON
        );
        assert!(
            (new.compute_strength(start() - TimeDelta::days(1)) - 1.0).abs() < f64::EPSILON,
            "a clock that runs ahead"
        );
    }

    #[test]
    fn recall_refreshes_and_makes_last_longer() {
        let now = start() + TimeDelta::days(60);
        let used = UsageStats {
            recall_count: 3,
            last_recalled_at: Some(start()),
            ..UsageStats::new(start())
        };
        let fresh = UsageStats {
            last_recalled_at: Some(now),
            ..used
        };
        assert!(UsageStats::new(start()).compute_strength(now) < used.compute_strength(now));
        assert!(
            (used.compute_strength(now) - (-60.0 / (30.0 * (1.0 + 4.0_f64.ln()))).exp()).abs()
                < 1e-12
        );
        assert!((fresh.compute_strength(now) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn each_factor_points_the_right_way() {
        let total = |change: &dyn Fn(&mut UsageStats)| {
            let mut usage = UsageStats::new(start());
            change(&mut usage);
            usage.compute_boosts(start()).total
        };
        assert!(total(&|s| s.importance = 1.0) > 1.0 && total(&|s| s.importance = 0.0) < 1.0);
        assert!(total(&|s| s.helpful = 1) > 1.0 && total(&|s| s.not_helpful = 1) < 1.0);
        assert!(total(&|s| s.recall_count = 5) > 1.0);
        let rated = UsageStats {
            importance: 1.0,
            helpful: 1,
            ..UsageStats::new(start())
        }
        .compute_boosts(start());
        let described = rated.describe_changes();
        assert_eq!(
            described.as_deref(),
            Some("×1.14: importance ×1.10, feedback ×1.03")
        );
        assert_eq!(
            UsageStats::default()
                .compute_boosts(start())
                .describe_changes(),
            None
        );
    }

    proptest! {
        #[test]
        fn together_they_stay_within_bounds(
            importance in 0.0..=1.0_f64, age in -10..100_000_i64, recall_count in 0..i64::MAX,
            helpful in 0..i64::MAX, not_helpful in 0..i64::MAX,
        ) {
            let usage = UsageStats { importance, recall_count, helpful, not_helpful, ..UsageStats::new(start()) };
            let boosts = usage.compute_boosts(start() + TimeDelta::days(age));
            prop_assert!((LEAST..=GREATEST).contains(&boosts.total), "{boosts:?}");
        }
    }
}
