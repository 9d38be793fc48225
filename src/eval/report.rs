//! Computes metrics from answers, and compares them with a baseline.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::economy::Economy;
use super::metric;

/// Name of the format at the beginning of a report.
const FORMAT: &str = "cognitive-memory-eval";
/// Version of the format.
const VERSION: u32 = 1;

/// Beginnings of notes which state that nothing answers the question.
const NOTHING: [&str; 2] = ["Nothing ", "None of "];
/// Beginning of a note which states that perhaps nothing answers the question.
const PERHAPS: &str = "Weak matches ";

/// Returns whether the answer of a recall states that nothing answers the question: it is empty, or has such a note.
#[must_use]
pub fn says_nothing(answer: &Value) -> bool {
    let items = |name: &str| answer[name].as_array().into_iter().flatten();
    let mut notes = items("notes").filter_map(Value::as_str);
    items("hits").next().is_none()
        || notes.any(|note| NOTHING.iter().any(|begin| note.starts_with(begin)))
}

/// Returns whether the answer states that nothing, or perhaps nothing, answers the question.
#[must_use]
pub fn is_doubtful(answer: &Value) -> bool {
    let mut notes = answer["notes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    says_nothing(answer) || notes.any(|note| note.starts_with(PERHAPS))
}

/// A returned memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Came {
    pub id: String,
    /// Its key, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Whether it was expected.
    pub right: bool,
    /// Its text, for display.
    #[serde(skip)]
    pub content: String,
}

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// Line in the file.
    pub line: usize,
    pub query: String,
    pub group: String,
    /// The expected memories.
    pub expected: Vec<String>,
    /// Whether the first version of the fact that came is an expected one. `None` if the question has no versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right_version: Option<bool>,
    /// The first ten that came.
    pub came: Vec<Came>,
    /// Whether the answer stated that nothing answers the question.
    pub told_nothing: bool,
    /// Whether the answer stated that nothing, or perhaps nothing, answers the question.
    pub doubted: bool,
    /// Duration in milliseconds.
    pub millis: f64,
}

impl Asked {
    /// Returns the ranks of the right answers.
    #[must_use]
    pub fn list_ranks(&self) -> Vec<usize> {
        self.came
            .iter()
            .enumerate()
            .filter(|(_, came)| came.right)
            .map(|(index, _)| index + 1)
            .collect()
    }

    fn is_answerable(&self) -> bool {
        !self.expected.is_empty()
    }

    fn best_score(&self) -> f64 {
        self.came.first().and_then(|came| came.score).unwrap_or(0.0)
    }

    /// Returns a quality by which the worst questions come first: recall at 10, then the reciprocal rank.
    fn rate_answer(&self) -> (f64, f64) {
        if !self.is_answerable() {
            return (f64::from(u8::from(self.told_nothing)), 1.0);
        }
        let ranks = self.list_ranks();
        (
            metric::recall_at(10, &ranks, self.expected.len()),
            metric::reciprocal_rank(&ranks),
        )
    }
}

/// Means over questions. Unanswerable questions count only in `told_nothing`, `doubted` and `separation`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Number of answerable questions.
    pub answerable: usize,
    /// Number of unanswerable questions.
    pub unanswerable: usize,
    /// Share of right answers among the first 5.
    pub precision_at_5: f64,
    /// Share of the right answers that are among the first 5.
    pub recall_at_5: f64,
    /// Share of questions with a right answer among the first 5.
    pub hit_at_5: f64,
    /// Share of right answers among the first 10.
    pub precision_at_10: f64,
    /// Share of the right answers that are among the first 10.
    pub recall_at_10: f64,
    /// Share of questions with a right answer among the first 10.
    pub hit_at_10: f64,
    /// Mean reciprocal rank of the first right answer, among the first 10.
    pub mrr: f64,
    /// Normalized discounted cumulative gain of the first 10.
    pub ndcg_at_10: f64,
    /// Share of the questions about a fact with several versions whose first version is an expected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_version: Option<f64>,
    /// Share of the unanswerable questions of which the answer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_nothing: Option<f64>,
    /// Share of the answerable questions whose answer does not state that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_denied: Option<f64>,
    /// Share of the unanswerable questions whose answer states that nothing, or perhaps nothing, answers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubted: Option<f64>,
    /// Share of the answerable questions whose answer states neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_doubted: Option<f64>,
    /// How well the first hit's score separates both kinds of questions; 0.5 means no separation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separation: Option<f64>,
    /// Median duration in milliseconds; not part of a baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p50: Option<f64>,
    /// 95th percentile of the duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p95: Option<f64>,
}

impl Figures {
    fn of(asked: &[&Asked]) -> Self {
        let (yes, no): (Vec<&Asked>, Vec<&Asked>) =
            asked.iter().partition(|asked| asked.is_answerable());
        let versioned: Vec<&Asked> = asked
            .iter()
            .copied()
            .filter(|asked| asked.right_version.is_some())
            .collect();
        let ranked: Vec<(Vec<usize>, usize)> = yes
            .iter()
            .map(|asked| (asked.list_ranks(), asked.expected.len()))
            .collect();
        let mean = |of: &dyn Fn(&[usize], usize) -> f64| {
            round_result(metric::mean_of(
                ranked.iter().map(|(ranks, right)| of(ranks, *right)),
            ))
        };
        let share = |asked: &[&Asked], which: fn(&Asked) -> bool| {
            let count = asked.iter().filter(|asked| which(asked)).count();
            (!asked.is_empty()).then(|| round_result(metric::share_of(count, asked.len())))
        };
        let scores = |asked: &[&Asked]| {
            asked
                .iter()
                .map(|asked| asked.best_score())
                .collect::<Vec<f64>>()
        };
        let times: Vec<f64> = asked.iter().map(|asked| asked.millis).collect();
        Self {
            answerable: yes.len(),
            unanswerable: no.len(),
            precision_at_5: mean(&|ranks, _| metric::precision_at(5, ranks)),
            recall_at_5: mean(&|ranks, right| metric::recall_at(5, ranks, right)),
            hit_at_5: mean(&|ranks, _| metric::hit_at(5, ranks)),
            precision_at_10: mean(&|ranks, _| metric::precision_at(10, ranks)),
            recall_at_10: mean(&|ranks, right| metric::recall_at(10, ranks, right)),
            hit_at_10: mean(&|ranks, _| metric::hit_at(10, ranks)),
            mrr: mean(&|ranks, _| metric::reciprocal_rank(ranks)),
            ndcg_at_10: mean(&|ranks, right| metric::ndcg_at(10, ranks, right)),
            right_version: share(&versioned, |asked| asked.right_version == Some(true)),
            told_nothing: share(&no, |asked| asked.told_nothing),
            not_denied: share(&yes, |asked| !asked.told_nothing),
            doubted: share(&no, |asked| asked.doubted),
            not_doubted: share(&yes, |asked| !asked.doubted),
            separation: metric::separate_pairs(&scores(&yes), &scores(&no)).map(round_result),
            latency_p50: Some(round_result(metric::find_percentile(&times, 50))),
            latency_p95: Some(round_result(metric::find_percentile(&times, 95))),
        }
    }

    /// Returns the metrics that must not fall, by name.
    #[must_use]
    pub fn list_watched(&self) -> Vec<(&'static str, f64)> {
        let mut watched = Vec::new();
        if self.answerable > 0 {
            watched.extend([
                ("P@5", self.precision_at_5),
                ("R@5", self.recall_at_5),
                ("hit@5", self.hit_at_5),
                ("P@10", self.precision_at_10),
                ("R@10", self.recall_at_10),
                ("hit@10", self.hit_at_10),
                ("MRR", self.mrr),
                ("nDCG@10", self.ndcg_at_10),
            ]);
        }
        let others = [
            ("version", self.right_version),
            ("told", self.told_nothing),
            ("not denied", self.not_denied),
            ("doubted", self.doubted),
            ("not doubted", self.not_doubted),
            ("separation", self.separation),
        ];
        watched.extend(
            others
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        watched
    }

    fn without_times(&self) -> Self {
        Self {
            latency_p50: None,
            latency_p95: None,
            ..self.clone()
        }
    }
}

/// All results of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    format: &'static str,
    version: u32,
    /// SHA-256 of the questions.
    pub golden: String,
    /// Version of the program that answered.
    pub service: String,
    pub database: String,
    /// Its embedding model; absent if it recalls by words alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Number of memories.
    pub memories: u64,
    /// Metrics of all questions.
    pub overall: Figures,
    pub groups: BTreeMap<String, Figures>,
    /// The evidence in answers of different detail, if it was measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub economy: Vec<Economy>,
    /// Changes since the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    pub questions: Vec<Asked>,
}

/// The program that answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Version of the program.
    pub service: String,
    pub database: String,
    /// Its embedding model.
    pub model: Option<String>,
    pub memories: u64,
}

impl Report {
    /// Computes the metrics of a run.
    #[must_use]
    pub fn new(golden: String, target: Target, questions: Vec<Asked>) -> Self {
        let mut groups: BTreeMap<String, Vec<&Asked>> = BTreeMap::new();
        for asked in &questions {
            groups.entry(asked.group.clone()).or_default().push(asked);
        }
        let groups = groups
            .into_iter()
            .map(|(name, asked)| (name, Figures::of(&asked)))
            .collect();
        let overall = Figures::of(&questions.iter().collect::<Vec<_>>());
        let Target {
            service,
            database,
            model,
            memories,
        } = target;
        Self {
            format: FORMAT,
            version: VERSION,
            golden,
            service,
            database,
            model,
            memories,
            overall,
            groups,
            economy: Vec::new(),
            drift: None,
            questions,
        }
    }

    /// Returns the results for comparison with later runs, without durations, which depend on the machine.
    #[must_use]
    pub fn to_baseline(&self) -> Baseline {
        Baseline {
            format: FORMAT.to_owned(),
            version: VERSION,
            golden: self.golden.clone(),
            model: self.model.clone(),
            overall: self.overall.without_times(),
            groups: self
                .groups
                .iter()
                .map(|(name, figures)| (name.clone(), figures.without_times()))
                .collect(),
        }
    }

    /// Compares with a baseline; a metric may fall by `tolerance` percentage points.
    pub fn compare_with(&mut self, baseline: &Baseline, tolerance: f64) {
        let mut changes = list_changes("all", &baseline.overall, &self.overall, tolerance);
        for (name, then) in &baseline.groups {
            if let Some(now) = self.groups.get(name) {
                let group = self::list_changes(name, then, now, tolerance);
                changes.extend(
                    group
                        .into_iter()
                        .filter(|change| change.points.abs() > tolerance),
                );
            }
        }
        self.drift = Some(Drift {
            tolerance,
            other_questions: baseline.golden != self.golden,
            changes,
        });
    }

    /// Returns the questions with the worst results; those without any right answer come first.
    #[must_use]
    pub fn list_worst(&self, most: usize) -> Vec<&Asked> {
        let mut failed: Vec<&Asked> = self
            .questions
            .iter()
            .filter(|asked| asked.rate_answer() < (1.0, 1.0))
            .collect();
        failed.sort_by(|a, b| {
            let (a, b) = (a.rate_answer(), b.rate_answer());
            a.0.total_cmp(&b.0).then_with(|| a.1.total_cmp(&b.1))
        });
        failed.truncate(most);
        failed
    }
}

/// The metrics of an earlier run; a whole report can be read as a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    format: String,
    version: u32,
    /// SHA-256 of the questions.
    pub golden: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Metrics of all questions.
    pub overall: Figures,
    pub groups: BTreeMap<String, Figures>,
}

impl Baseline {
    /// Reads a baseline.
    ///
    /// # Errors
    /// Describes the problem.
    pub fn read(text: &str) -> Result<Self, String> {
        let expected = "expected a file that eval wrote with --save-baseline or --output";
        let baseline: Self =
            serde_json::from_str(text).map_err(|error| format!("{error}; {expected}"))?;
        if baseline.format != FORMAT || baseline.version != VERSION {
            let Self {
                format, version, ..
            } = baseline;
            return Err(format!(
                "format {format:?} version {version}; {expected}, of version {VERSION}"
            ));
        }
        Ok(baseline)
    }
}

/// Changes since a baseline: all metrics of the whole set, and those of groups that changed by more than the tolerance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// Percentage points that a metric may fall.
    pub tolerance: f64,
    /// Whether the baseline has other questions.
    pub other_questions: bool,
    pub changes: Vec<Change>,
}

impl Drift {
    /// Returns whether a metric of the whole set fell by more than the tolerance.
    #[must_use]
    pub fn has_fallen(&self) -> bool {
        self.changes
            .iter()
            .any(|change| change.group == "all" && change.fell)
    }
}

/// One metric in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Group, or `all`.
    pub group: String,
    /// Name of the metric.
    pub figure: &'static str,
    /// Value in the baseline.
    pub then: f64,
    /// Value in this run.
    pub now: f64,
    /// Difference in percentage points.
    pub points: f64,
    /// Whether it fell by more than the tolerance.
    pub fell: bool,
}

fn list_changes(group: &str, then: &Figures, now: &Figures, tolerance: f64) -> Vec<Change> {
    let before: BTreeMap<&str, f64> = then.list_watched().into_iter().collect();
    let change = |(figure, now): (&'static str, f64)| {
        let then = *before.get(figure)?;
        let points = ((now - then) * 100.0 * 100.0).round() / 100.0;
        Some(Change {
            group: group.to_owned(),
            figure,
            then,
            now,
            points,
            fell: points < -tolerance,
        })
    };
    now.list_watched().into_iter().filter_map(change).collect()
}

fn round_result(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(group: &str, expected: usize, right: &[usize], score: f64) -> Asked {
        let came = |rank: usize| Came {
            id: rank.to_string(),
            key: None,
            score: Some(score),
            right: right.contains(&rank),
            content: String::new(),
        };
        Asked {
            right_version: None,
            line: 1,
            query: "q".to_owned(),
            group: group.to_owned(),
            expected: (0..expected).map(|n| n.to_string()).collect(),
            came: (1..=10).map(came).collect(),
            told_nothing: false,
            doubted: false,
            millis: 2.0,
        }
    }

    fn report(questions: Vec<Asked>) -> Report {
        Report::new("hash".to_owned(), Target::default(), questions)
    }

    #[test]
    fn means_are_over_answerable_questions() {
        let mut silent = asked("none", 0, &[], 1.0);
        silent.told_nothing = true;
        silent.doubted = true;
        let mut doubted = asked("b", 1, &[], 2.0);
        doubted.doubted = true;
        let report = report(vec![
            asked("a", 1, &[1], 5.0),
            asked("a", 2, &[4], 4.0),
            doubted,
            asked("none", 0, &[], 3.0),
            silent,
        ]);
        let all = &report.overall;
        assert_eq!((all.answerable, all.unanswerable), (3, 2));
        assert_eq!(
            (all.recall_at_10, all.hit_at_5, all.mrr),
            (0.5, 0.6667, 0.4167)
        );
        assert_eq!((all.told_nothing, all.not_denied), (Some(0.5), Some(1.0)));
        assert_eq!((all.doubted, all.not_doubted), (Some(0.5), Some(0.6667)));
        // 5 and 4 are above both, 2 is above one of them.
        assert_eq!(all.separation, Some(0.8333));
        assert_eq!(
            (
                report.groups["a"].recall_at_10,
                report.groups["none"].told_nothing
            ),
            (0.75, Some(0.5))
        );
        assert_eq!(
            report
                .list_worst(9)
                .iter()
                .map(|asked| asked.group.as_str())
                .collect::<Vec<_>>(),
            ["b", "none", "a"]
        );
    }

    #[test]
    fn a_fall_beyond_the_tolerance_is_told() {
        let before = report((0..100).map(|_| asked("a", 1, &[1], 1.0)).collect());
        let baseline =
            Baseline::read(&serde_json::to_string(&before.to_baseline()).unwrap()).unwrap();
        let whole = Baseline::read(&serde_json::to_string(&before).unwrap()).unwrap();
        assert_eq!(whole.overall.mrr, baseline.overall.mrr);
        for (misses, fell) in [(0, false), (1, false), (2, true)] {
            let right = |n: usize| if n < misses { vec![] } else { vec![1] };
            let mut now = report((0..100).map(|n| asked("a", 1, &right(n), 1.0)).collect());
            now.compare_with(&baseline, 1.0);
            let drift = now.drift.unwrap();
            assert_eq!(
                (drift.has_fallen(), drift.other_questions),
                (fell, false),
                "{misses}"
            );
        }
        assert!(
            Baseline::read("{}")
                .unwrap_err()
                .contains("--save-baseline")
        );
    }
}
