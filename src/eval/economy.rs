//! The evidence in the answers of `recall`, relative to their length.

use serde::Serialize;

/// The answers of one detail to all answerable questions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Economy {
    /// The argument `detail` of `recall`.
    pub detail: String,
    /// Number of answers.
    pub answers: usize,
    /// Characters of text of all answers.
    pub characters: usize,
    /// Expected memories in all answers.
    pub evidence: usize,
    /// Expected memories per 1,000 characters of text.
    pub evidence_per_1000: f64,
    /// Mean share of the expected memories that an answer contains.
    pub recall_at_10: f64,
    #[serde(skip)]
    recalls: f64,
}

impl Economy {
    /// Returns the economy before the first answer.
    #[must_use]
    pub fn of_detail(detail: &str) -> Self {
        Self {
            detail: detail.to_owned(),
            ..Self::default()
        }
    }

    /// Counts an answer of this length with some of the expected memories.
    pub fn add_answer(&mut self, characters: usize, evidence: usize, expected: usize) {
        self.answers += 1;
        self.characters += characters;
        self.evidence += evidence;
        self.recalls += evidence as f64 / expected.max(1) as f64;
        self.recall_at_10 = self.recalls / self.answers as f64;
        self.evidence_per_1000 = 1_000.0 * self.evidence as f64 / self.characters.max(1) as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_counted_per_1000_characters() {
        let mut economy = Economy::of_detail("index");
        economy.add_answer(400, 1, 1);
        economy.add_answer(600, 1, 2);
        assert!((economy.evidence_per_1000 - 2.0).abs() < 1e-9);
        assert!((economy.recall_at_10 - 0.75).abs() < 1e-9);
    }
}
