//! Formats metrics as a table for people.

use super::economy::Economy;
use super::report::{Drift, Figures, Report};
use crate::domain::count::count_of;

const HEAD: [&str; 11] = [
    "questions",
    "P@5",
    "R@5",
    "hit@5",
    "P@10",
    "R@10",
    "hit@10",
    "MRR",
    "nDCG@10",
    "p50 ms",
    "p95 ms",
];

/// Formats the table by group and for all questions, and a line about unanswerable ones.
#[must_use]
pub fn print_results(report: &Report) -> String {
    let mut rows = vec![("group".to_owned(), HEAD.map(str::to_owned).to_vec())];
    rows.extend(
        report
            .groups
            .iter()
            .map(|(name, figures)| (name.clone(), format_cells(figures))),
    );
    rows.push(("all".to_owned(), format_cells(&report.overall)));
    let model = report.model.as_deref().map_or_else(
        || "by words alone".to_owned(),
        |model| format!("with {model}"),
    );
    let mut out = format!(
        "{} in {}, {model}; {}\n\n",
        count_of(report.memories, "memory"),
        report.database,
        report.service
    );
    out.push_str(&align_lines(&rows));
    let all = &report.overall;
    if let Some(right) = all.right_version {
        out.push_str(&format!(
            "\nThe expected version of a fact precedes the others in {} % of the questions that have versions.\n",
            format_points(right)
        ));
        for (name, figures) in &report.groups {
            if let Some(right) = figures.right_version {
                out.push_str(&format!("  {name}: {} %\n", format_points(right)));
            }
        }
    }
    out.push_str(&format_economy(&report.economy));
    if let (Some(told), Some(doubted)) = (all.told_nothing, all.doubted) {
        out.push_str(&format!(
            "\nNothing answers {} of the questions; said so: {} %, or that perhaps nothing does: {} %",
            all.unanswerable,
            format_points(told),
            format_points(doubted)
        ));
        if let (Some(kept), Some(not_doubted)) = (all.not_denied, all.not_doubted) {
            let (denied, doubted) = (format_points(1.0 - kept), format_points(1.0 - not_doubted));
            out.push_str(&format!(
                ".\nOf the others wrongly the former: {denied} %, either: {doubted} %"
            ));
        }
        if let Some(separation) = all.separation {
            out.push_str(&format!(
                ".\nThe first hit's confidence tells both apart by {} % (50 is chance)",
                format_points(separation)
            ));
        }
        out.push_str(".\n");
    }
    out
}

/// Formats the evidence per 1,000 characters for each detail, and its ratio to the first detail.
fn format_economy(economies: &[Economy]) -> String {
    let Some(first) = economies.first() else {
        return String::new();
    };
    let mut out = "\nExpected memories per 1,000 characters of text:\n".to_owned();
    for economy in economies {
        out.push_str(&format!(
            "  detail {}: {:.2} ({:.1} times), {:.0} characters an answer, R@10 {}\n",
            economy.detail,
            economy.evidence_per_1000,
            economy.evidence_per_1000 / first.evidence_per_1000.max(f64::MIN_POSITIVE),
            economy.characters as f64 / economy.answers.max(1) as f64,
            format_points(economy.recall_at_10)
        ));
    }
    out
}

fn format_cells(figures: &Figures) -> Vec<String> {
    let count = figures.answerable + figures.unanswerable;
    let mut cells = vec![count.to_string()];
    let means = [
        figures.precision_at_5,
        figures.recall_at_5,
        figures.hit_at_5,
        figures.precision_at_10,
        figures.recall_at_10,
        figures.hit_at_10,
        figures.mrr,
        figures.ndcg_at_10,
    ];
    let shown = |value: f64| {
        if figures.answerable == 0 {
            "-".to_owned()
        } else {
            format_points(value)
        }
    };
    cells.extend(means.map(shown));
    cells.extend(
        [figures.latency_p50, figures.latency_p95]
            .map(|time| time.map_or("-".to_owned(), |t| format!("{t:.1}"))),
    );
    cells
}

/// Formats the changes since the baseline.
#[must_use]
pub fn print_drift(drift: &Drift) -> String {
    let mut rows = vec![(
        "group".to_owned(),
        ["figure", "baseline", "now", "change", ""]
            .map(str::to_owned)
            .to_vec(),
    )];
    for change in &drift.changes {
        let mark = if change.fell { "fell" } else { "" };
        let cells = vec![
            change.figure.to_owned(),
            format_points(change.then),
            format_points(change.now),
            format!("{:+.1}", change.points),
            mark.to_owned(),
        ];
        rows.push((change.group.clone(), cells));
    }
    let mut out = align_lines(&rows);
    if drift.other_questions {
        out.push_str("The baseline is of other questions: the change may be theirs.\n");
    }
    let end = if drift.has_fallen() {
        "A figure fell by more than"
    } else {
        "No figure of all questions fell by more than"
    };
    out.push_str(&format!("{end} {} points.\n", drift.tolerance));
    out
}

fn format_points(value: f64) -> String {
    format!("{:.1}", value * 100.0)
}

/// Aligns columns to their contents: names to the left, numbers to the right.
fn align_lines(rows: &[(String, Vec<String>)]) -> String {
    let wide = |text: &String| text.chars().count();
    let first = rows.iter().map(|(name, _)| wide(name)).max().unwrap_or(0);
    let columns = rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|(_, cells)| cells.get(column))
                .map(wide)
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for (name, cells) in rows {
        let mut line = format!("{name:<first$}");
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
