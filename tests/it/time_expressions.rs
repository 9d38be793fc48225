//! Finds the times of tests/data/time-expressions.jsonl in seven languages.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use cognitive_memory_mcp::domain::time_expression::find_spans;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expression {
    language: String,
    text: String,
    now: DateTime<Utc>,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

fn read_expressions() -> Vec<Expression> {
    let lines = include_str!("../data/time-expressions.jsonl").lines();
    lines
        .map(|line| serde_json::from_str(line).expect("an expression"))
        .collect()
}

/// Returns the latest period that a text names.
fn find_period(text: &str, now: DateTime<Utc>) -> Option<(NaiveDate, NaiveDate)> {
    let today = now.date_naive();
    let years = BTreeSet::from([today.year() - 1, today.year()]);
    let span = *find_spans(text, today, &years).first()?;
    Some((span.from, span.to))
}

#[test]
fn every_expression_has_its_period_and_other_sentences_have_none() {
    let expressions = read_expressions();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for expression in &expressions {
        *counts.entry(&expression.language).or_default() += 1;
        let day = |moment: Option<DateTime<Utc>>| moment.map(|moment| moment.date_naive());
        let expected = day(expression.from).zip(day(expression.until));
        let found = find_period(&expression.text, expression.now);
        if found != expected {
            let (language, text) = (&expression.language, &expression.text);
            wrong.push(format!(
                "{language} {text:?}: {found:?}, expected {expected:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(counts.len(), 7);
    assert!(counts.values().all(|count| *count >= 72), "{counts:?}");
}
