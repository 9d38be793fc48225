//! BM25: selects the terms of a query that are worth reading, and their weights. The backends add up the weighted
//! frequencies; this module computes every number that they need.
//!
//! Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the inverse document
//! frequency that is never negative: `ln(1 + (N - n + 0.5) / (n + 0.5))`.

use super::spelling::{Substitute, VocabularyMatch};

/// Saturation of the term frequency.
pub const K1: f64 = 0.9;
/// Degree of length normalization.
pub const B: f64 = 0.4;

/// Maximum number of postings that one query may read. Terms beyond it are so common that they do not affect the order;
/// leaving them out makes the cost of a recall independent of the number of memories.
pub const POSTING_BUDGET: u64 = 4_000;

/// Maximum of a counted document frequency. A more frequent term is beyond the budget, so it is dropped from any query
/// that has a rarer one; if it is the only term, its weight does not affect the order.
pub const MAX_DOCUMENT_FREQUENCY: u64 = POSTING_BUDGET + 1;

/// Counts of the projects in scope.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CorpusStats {
    /// Number of memories in the index.
    pub documents: u64,
    /// Sum of their lengths in terms.
    pub total_length: u64,
    /// Number of memories that contain each of the requested terms, in the same order; at most
    /// [`MAX_DOCUMENT_FREQUENCY`].
    pub document_frequencies: Vec<u64>,
    /// Whether there are entities that a query could name.
    pub has_entities: bool,
    /// Whether some memories belong to a session, so that neighboring turns matter.
    pub has_sessions: bool,
}

/// Counts and vocabulary matches for the terms of a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lexicon {
    pub stats: CorpusStats,
    /// Terms of the vocabulary that resemble requested terms which occur nowhere.
    pub matches: Vec<VocabularyMatch>,
}

impl CorpusStats {
    /// Returns the mean length of a memory in terms, at least 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn average_length(&self) -> f64 {
        if self.documents == 0 {
            1.0
        } else {
            (self.total_length as f64 / self.documents as f64).max(1.0)
        }
    }
}

/// A query term and its weight.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedTerm {
    /// The term as it is in the index.
    pub term: String,
    /// Inverse document frequency, reduced for a substitute.
    pub weight: f64,
    /// Index of the query term that this one replaces.
    pub stands_for: Option<usize>,
}

/// The contribution of one query term to the score of a memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TermScore {
    /// Index of the term in the query.
    pub term: usize,
    /// Greater than 0.
    pub score: f64,
}

/// Selects the terms to search for, rarest first: known terms and the substitutes of unknown ones, as many as the
/// budget of postings permits, at least one.
#[must_use]
pub fn select_terms(
    terms: &[String],
    stats: &CorpusStats,
    substitutes: &[Substitute],
    budget: u64,
) -> Vec<WeightedTerm> {
    let own = terms.iter().zip(stats.document_frequencies.iter().copied());
    let mut found: Vec<(&String, u64, Option<&Substitute>)> = own
        .filter(|(_, frequency)| *frequency > 0)
        .map(|(term, frequency)| (term, frequency, None))
        .collect();
    found.extend(
        substitutes
            .iter()
            .map(|other| (&other.found, other.frequency, Some(other))),
    );
    found.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(b.0)));
    let mut read = 0;
    let mut selected = Vec::new();
    for (term, frequency, substitute) in found {
        read += frequency;
        if read > budget && !selected.is_empty() {
            break;
        }
        let weight = inverse_document_frequency(stats.documents, frequency);
        selected.push(WeightedTerm {
            term: term.clone(),
            weight: weight * substitute.map_or(1.0, |other| other.likeness),
            stands_for: substitute.map(|other| other.term),
        });
    }
    selected
}

/// Keeps only the `most` longest terms, which are the least common.
pub fn keep_longest(terms: &mut Vec<String>, most: usize) {
    if terms.len() > most {
        terms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        terms.truncate(most);
    }
}

/// Keeps only the best of several substitutes for the same term, and returns the sum of the others' scores.
pub fn keep_best_substitutes(scores: &mut Vec<TermScore>, terms: &[WeightedTerm]) -> f64 {
    let origin = |one: &TermScore| terms.get(one.term).and_then(|term| term.stands_for);
    if !scores.iter().any(|one| origin(one).is_some()) {
        return 0.0;
    }
    let all = scores.clone();
    let is_beaten = |one: &TermScore| {
        let better = |other: &TermScore| (other.score, other.term) > (one.score, one.term);
        origin(one).is_some()
            && all
                .iter()
                .any(|other| origin(other) == origin(one) && better(other))
    };
    scores.retain(|one| !is_beaten(one));
    all.iter()
        .filter(|one| is_beaten(one))
        .map(|one| one.score)
        .sum()
}

/// Returns the score of a term that occurs `occurrences` times in a memory of `length` terms.
#[must_use]
pub fn score_term(weight: f64, occurrences: f64, length: f64, average_length: f64) -> f64 {
    let norm = K1 * (1.0 - B + B * length / average_length);
    weight * occurrences * (K1 + 1.0) / (occurrences + norm)
}

/// Returns the total weight of terms with these document frequencies.
#[must_use]
pub fn total_weight(documents: u64, frequencies: impl Iterator<Item = u64>) -> f64 {
    frequencies
        .map(|frequency| inverse_document_frequency(documents, frequency))
        .sum()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn inverse_document_frequency(documents: u64, frequency: u64) -> f64 {
    let (all, n) = (documents.max(frequency) as f64, frequency as f64);
    ((all - n + 0.5) / (n + 0.5)).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(document_frequencies: Vec<u64>) -> CorpusStats {
        CorpusStats {
            documents: 100,
            total_length: 1_000,
            document_frequencies,
            ..CorpusStats::default()
        }
    }

    fn names(terms: &[&str]) -> Vec<String> {
        terms.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rare_terms_weigh_more_and_absent_ones_are_left_out() {
        let picked = select_terms(
            &names(&["common", "absent", "rare"]),
            &stats(vec![60, 0, 1]),
            &[],
            1_000,
        );
        assert_eq!(
            picked.iter().map(|t| t.term.as_str()).collect::<Vec<_>>(),
            ["rare", "common"]
        );
        assert!(picked[0].weight > picked[1].weight && picked[1].weight > 0.0);
    }

    #[test]
    fn the_total_weight_counts_absent_terms() {
        let total = total_weight(100, [60, 0, 1].into_iter());
        let expected = (1.0 + 40.5 / 60.5_f64).ln()
            + (1.0 + 100.5 / 0.5_f64).ln()
            + (1.0 + 99.5 / 1.5_f64).ln();
        assert!((total - expected).abs() < 1e-12);
    }

    #[test]
    fn the_budget_drops_common_terms_but_never_all() {
        assert_eq!(
            select_terms(&names(&["a", "b"]), &stats(vec![90, 2]), &[], 10).len(),
            1
        );
        assert_eq!(
            select_terms(&names(&["a"]), &stats(vec![90]), &[], 10).len(),
            1
        );
    }

    #[test]
    fn a_substitute_weighs_less_and_counts_once() {
        let substitute = |found: &str, likeness: f64| Substitute {
            term: 1,
            found: found.to_owned(),
            frequency: 3,
            likeness,
        };
        let substitutes = [substitute("near", 0.8), substitute("nearer", 0.5)];
        let picked = select_terms(
            &names(&["known", "neer"]),
            &stats(vec![3, 0]),
            &substitutes,
            1_000,
        );
        let shares: Vec<(&str, f64, Option<usize>)> = picked
            .iter()
            .map(|t| (t.term.as_str(), t.weight / picked[0].weight, t.stands_for))
            .collect();
        assert_eq!(
            shares,
            [
                ("known", 1.0, None),
                ("near", 0.8, Some(1)),
                ("nearer", 0.5, Some(1))
            ]
        );
        let score = |term: usize, score: f64| TermScore { term, score };
        let mut scores = vec![score(0, 2.0), score(1, 1.0), score(2, 1.5)];
        assert!((keep_best_substitutes(&mut scores, &picked) - 1.0).abs() < 1e-12);
        assert_eq!(scores, [score(0, 2.0), score(2, 1.5)]);
        assert!(keep_best_substitutes(&mut scores, &picked) == 0.0);
    }
}
