//! Metrics of one ranked list and a set of right answers.
//!
//! Manning, Raghavan, Schütze, "Introduction to Information Retrieval" (2008), chapter 8, for precision, recall and the
//! reciprocal rank; Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (ACM TOIS, 2002) in the
//! usual form with `log2(rank + 1)` for nDCG.
//!
//! `ranks` are the ranks of the right answers that were found, counted from 1, in any order.

/// Returns the share of right answers among the first `k` ranks: `|right in first k| / k`. Empty ranks count as wrong.
#[must_use]
pub fn precision_at(k: usize, ranks: &[usize]) -> f64 {
    if k == 0 {
        0.0
    } else {
        share_of(count_within(k, ranks), k)
    }
}

/// Returns the share of the right answers that are among the first `k`: `|right in first k| / |right|`.
#[must_use]
pub fn recall_at(k: usize, ranks: &[usize], right: usize) -> f64 {
    if right == 0 {
        0.0
    } else {
        share_of(count_within(k, ranks), right)
    }
}

/// Returns 1 if any right answer is among the first `k`, otherwise 0.
#[must_use]
pub fn hit_at(k: usize, ranks: &[usize]) -> f64 {
    f64::from(u8::from(count_within(k, ranks) > 0))
}

/// Returns `1 / rank` of the first right answer, 0 if none was found. Its mean over all questions is the MRR.
#[must_use]
pub fn reciprocal_rank(ranks: &[usize]) -> f64 {
    ranks.iter().min().map_or(0.0, |rank| 1.0 / to_float(*rank))
}

/// Returns the normalized discounted cumulative gain with gains of 0 and 1:
/// `sum(1 / log2(rank + 1)) over the right ones in the first k`, divided by the same sum of the best possible list.
#[must_use]
pub fn ndcg_at(k: usize, ranks: &[usize], right: usize) -> f64 {
    let gain = |rank: usize| 1.0 / (to_float(rank) + 1.0).log2();
    let ideal: f64 = (1..=right.min(k)).map(gain).sum();
    if ideal == 0.0 {
        return 0.0;
    }
    ranks
        .iter()
        .filter(|rank| **rank <= k)
        .map(|rank| gain(*rank))
        .sum::<f64>()
        / ideal
}

/// Returns the percentile of values by the nearest-rank method; 0 for no values.
#[must_use]
pub fn find_percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (percent * sorted.len()).div_ceil(100).max(1);
    sorted.get(place - 1).copied().unwrap_or(0.0)
}

/// Returns how well a number separates two groups: the probability that one of `high` is above one of `low`, ties
/// counted as half (the area under the ROC curve, Mann and Whitney's U divided by the number of pairs). 0.5 means no
/// separation.
#[must_use]
pub fn separate_pairs(high: &[f64], low: &[f64]) -> Option<f64> {
    if high.is_empty() || low.is_empty() {
        return None;
    }
    let pairs = high.iter().flat_map(|a| low.iter().map(move |b| (a, b)));
    let wins: f64 = pairs
        .map(|(a, b)| {
            if a > b {
                1.0
            } else if a < b {
                0.0
            } else {
                0.5
            }
        })
        .sum();
    Some(wins / to_float(high.len() * low.len()))
}

/// Returns the mean; 0 for no values.
#[must_use]
pub fn mean_of(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len();
    if count == 0 {
        0.0
    } else {
        values.sum::<f64>() / to_float(count)
    }
}

/// Returns `part / whole`.
#[must_use]
pub fn share_of(part: usize, whole: usize) -> f64 {
    to_float(part) / to_float(whole)
}

fn count_within(k: usize, ranks: &[usize]) -> usize {
    ranks.iter().filter(|rank| **rank <= k).count()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "places and counts stay far below 2^52"
)]
fn to_float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn two_of_three_at_ranks_2_and_7() {
        let ranks = [7, 2];
        near(precision_at(5, &ranks), 0.2);
        near(precision_at(10, &ranks), 0.2);
        near(recall_at(5, &ranks, 3), 1.0 / 3.0);
        near(recall_at(10, &ranks, 3), 2.0 / 3.0);
        near(hit_at(1, &ranks), 0.0);
        near(hit_at(5, &ranks), 1.0);
        near(reciprocal_rank(&ranks), 0.5);
        // log2(3) = 1.5849625, log2(8) = 3; best: 1 + 1/log2(3) + 1/2.
        let gained = 0.630_929_753_571_457_4 + 1.0 / 3.0;
        near(
            ndcg_at(10, &ranks, 3),
            gained / (1.0 + 0.630_929_753_571_457_4 + 0.5),
        );
    }

    #[test]
    fn the_best_and_the_worst_list() {
        near(ndcg_at(10, &[1, 2, 3], 3), 1.0);
        near(recall_at(5, &[1, 2, 3], 3), 1.0);
        near(ndcg_at(10, &[], 3), 0.0);
        near(reciprocal_rank(&[]), 0.0);
        near(hit_at(10, &[]), 0.0);
    }

    #[test]
    fn more_right_answers_than_places() {
        let ranks: Vec<usize> = (1..=10).collect();
        near(ndcg_at(10, &ranks, 20), 1.0);
        near(recall_at(10, &ranks, 20), 0.5);
        near(precision_at(10, &ranks), 1.0);
    }

    #[test]
    fn nothing_right_is_no_division_by_zero() {
        near(recall_at(5, &[], 0), 0.0);
        near(ndcg_at(10, &[], 0), 0.0);
        near(mean_of([].into_iter()), 0.0);
        near(find_percentile(&[], 95), 0.0);
        assert_eq!(separate_pairs(&[1.0], &[]), None);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        near(find_percentile(&values, 50), 10.0);
        near(find_percentile(&values, 95), 19.0);
        near(find_percentile(&values, 100), 20.0);
        near(find_percentile(&[3.0], 50), 3.0);
    }

    #[test]
    fn separation_counts_pairs() {
        // Of 3 x 2 pairs: 5 above, 1 tie.
        near(
            separate_pairs(&[5.0, 3.0, 2.0], &[1.0, 2.0]).unwrap(),
            5.5 / 6.0,
        );
        near(separate_pairs(&[0.0], &[1.0]).unwrap(), 0.0);
    }
}
