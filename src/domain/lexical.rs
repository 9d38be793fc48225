//! BM25: which terms of a query are worth reading, and their weights. The backends add the weighted frequencies
//! up in SQL; every number that they need comes from here.
//!
//! Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the inverse
//! document frequency that never turns negative: `ln(1 + (N - n + 0.5) / (n + 0.5))`.

use super::spelling::{Near, StandIn};

/// Saturation of the term frequency.
pub const K1: f64 = 0.9;
/// Share of the length normalisation.
pub const B: f64 = 0.4;

/// Postings that one query may read. Terms beyond it are so common that they decide nothing; leaving them out
/// keeps the cost of a recall independent of the size of the memory.
pub const POSTING_BUDGET: u64 = 4_000;

/// Counts above this are not told apart: such a term is beyond the budget, so it is dropped from any query that has a
/// rarer one, and where it stands alone its weight decides nothing. Counting further would only cost time.
pub const MAX_DOCUMENT_FREQUENCY: u64 = POSTING_BUDGET + 1;

/// Figures of the projects in scope.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CorpusStats {
    /// Memories in the index.
    pub documents: u64,
    /// Sum of their lengths in terms.
    pub total_length: u64,
    /// Memories that contain each term asked for, in the order asked; at most [`MAX_DOCUMENT_FREQUENCY`].
    pub document_frequencies: Vec<u64>,
    /// Whether there are entities which a query could name.
    pub has_entities: bool,
    /// Whether some memories belong to a session: then what stands around a memory may make it the best.
    pub has_sessions: bool,
    /// Terms near to those that occur nowhere, where they were asked for.
    pub near: Vec<Near>,
    /// Those of them that stand for them.
    pub stand_ins: Vec<StandIn>,
}

impl CorpusStats {
    /// Mean length of a memory in terms, at least 1.
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

/// A query term and its inverse document frequency.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedTerm {
    /// As it is in the index.
    pub term: String,
    /// Inverse document frequency, and less for a stand-in.
    pub weight: f64,
    /// Place of the query's term that this one stands for, where that is another.
    pub stands_for: Option<usize>,
}

/// What one term of a query adds to the score of a memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Place of the term in the query.
    pub term: usize,
    /// What it adds, more than 0.
    pub gain: f64,
}

/// The terms to search for, rarest first: those that occur at all, and what stands for the others, as many as the budget
/// allows, at least one.
#[must_use]
pub fn select_terms(terms: &[String], stats: &CorpusStats, budget: u64) -> Vec<WeightedTerm> {
    let own = terms.iter().zip(stats.document_frequencies.iter().copied());
    let mut found: Vec<(&String, u64, Option<&StandIn>)> = own
        .filter(|(_, frequency)| *frequency > 0)
        .map(|(term, frequency)| (term, frequency, None))
        .collect();
    found.extend(
        stats
            .stand_ins
            .iter()
            .map(|stand_in| (&stand_in.found, stand_in.frequency, Some(stand_in))),
    );
    found.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(b.0)));
    let mut read = 0;
    let mut selected = Vec::new();
    for (term, frequency, stand_in) in found {
        read += frequency;
        if read > budget && !selected.is_empty() {
            break;
        }
        let weight = inverse_document_frequency(stats.documents, frequency);
        let weight = weight * stand_in.map_or(1.0, |stand_in| stand_in.likeness);
        let stands_for = stand_in.map(|stand_in| stand_in.term);
        selected.push(WeightedTerm {
            term: term.clone(),
            weight,
            stands_for,
        });
    }
    selected
}

/// Of several terms that stand for the same one a memory has but the best. Returns what the others gave.
pub fn keep_best(parts: &mut Vec<Part>, terms: &[WeightedTerm]) -> f64 {
    let origin = |part: &Part| terms.get(part.term).and_then(|term| term.stands_for);
    if !parts.iter().any(|part| origin(part).is_some()) {
        return 0.0;
    }
    let all = parts.clone();
    let beaten = |part: &Part| {
        let better = |other: &Part| (other.gain, other.term) > (part.gain, part.term);
        origin(part).is_some()
            && all
                .iter()
                .any(|other| origin(other) == origin(part) && better(other))
    };
    parts.retain(|part| !beaten(part));
    all.iter()
        .filter(|part| beaten(part))
        .map(|part| part.gain)
        .sum()
}

/// What one term adds to the score of a memory of `length` terms in which it occurs so often.
#[must_use]
pub fn part(weight: f64, occurrences: f64, length: f64, average_length: f64) -> f64 {
    let norm = K1 * (1.0 - B + B * length / average_length);
    weight * occurrences * (K1 + 1.0) / (occurrences + norm)
}

/// The weight of all terms that a query has, whether they are found or not, but for those that `left_out` picks.
#[must_use]
pub fn total_weight(terms: &[String], stats: &CorpusStats, left_out: impl Fn(&str) -> bool) -> f64 {
    let frequencies = stats.document_frequencies.iter().copied();
    let kept = terms
        .iter()
        .zip(frequencies)
        .filter(|(term, _)| !left_out(term));
    kept.map(|(_, frequency)| inverse_document_frequency(stats.documents, frequency))
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
            1_000,
        );
        assert_eq!(
            picked.iter().map(|t| t.term.as_str()).collect::<Vec<_>>(),
            ["rare", "common"]
        );
        assert!(picked[0].weight > picked[1].weight && picked[1].weight > 0.0);
    }

    #[test]
    fn the_total_weight_counts_what_is_not_there() {
        let terms = names(&["common", "absent", "rare"]);
        let stats = stats(vec![60, 0, 1]);
        let total = total_weight(&terms, &stats, |_| false);
        let expected = (1.0 + 40.5 / 60.5_f64).ln()
            + (1.0 + 100.5 / 0.5_f64).ln()
            + (1.0 + 99.5 / 1.5_f64).ln();
        assert!((total - expected).abs() < 1e-12);
        assert!(total_weight(&terms, &stats, |term| term == "absent") < total);
    }

    #[test]
    fn the_budget_drops_common_terms_but_never_all() {
        assert_eq!(
            select_terms(&names(&["a", "b"]), &stats(vec![90, 2]), 10).len(),
            1
        );
        assert_eq!(select_terms(&names(&["a"]), &stats(vec![90]), 10).len(), 1);
    }

    #[test]
    fn what_stands_for_a_term_weighs_less_and_counts_once() {
        let stand_in = |found: &str, likeness: f64| StandIn {
            term: 1,
            found: found.to_owned(),
            frequency: 3,
            likeness,
        };
        let stand_ins = vec![stand_in("near", 0.8), stand_in("nearer", 0.5)];
        let stats = CorpusStats {
            stand_ins,
            ..stats(vec![3, 0])
        };
        let picked = select_terms(&names(&["known", "neer"]), &stats, 1_000);
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
        let part = |term: usize, gain: f64| Part { term, gain };
        let mut parts = vec![part(0, 2.0), part(1, 1.0), part(2, 1.5)];
        assert!((keep_best(&mut parts, &picked) - 1.0).abs() < 1e-12);
        assert_eq!(parts, [part(0, 2.0), part(2, 1.5)]);
        assert!(keep_best(&mut parts, &picked) == 0.0);
    }
}
