//! Compares the fusion with an independent reference implementation of the same formula.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveTime};
use cognitive_memory_mcp::domain::bm25::TermScore;
use cognitive_memory_mcp::domain::conversation::Turn;
use cognitive_memory_mcp::domain::ranking::{FusionQuery, fuse};
use cognitive_memory_mcp::domain::time_expression::{find_spans, nearness_to};
use cognitive_memory_mcp::domain::{Hit, HitContext, UsageStats};
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
struct Reference {
    memories: Vec<Said>,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Said {
    id: String,
    session: Option<String>,
    turn: Option<i64>,
    speaker: Option<String>,
    asks: bool,
    date: NaiveDate,
}

#[derive(Deserialize)]
struct Answer {
    query: String,
    named: Vec<String>,
    hits: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    id: String,
    score: f64,
    parts: BTreeMap<String, f64>,
    length: u32,
    cos: Option<f64>,
    #[serde(rename = "W")]
    coverage: f64,
    #[serde(rename = "N")]
    time: f64,
}

#[test]
fn scores_are_those_of_the_reference() {
    let reference: Reference = serde_json::from_str(include_str!("fusion_reference.json")).unwrap();
    let memories: BTreeMap<&str, &Said> = reference
        .memories
        .iter()
        .map(|said| (said.id.as_str(), said))
        .collect();
    for answer in &reference.answers {
        let terms: Vec<&String> = answer
            .hits
            .iter()
            .flat_map(|hit| hit.parts.keys())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        let place = |term: &String| terms.iter().position(|other| *other == term).unwrap();
        let years = answer
            .hits
            .iter()
            .map(|hit| chrono::Datelike::year(&memories[hit.id.as_str()].date))
            .collect();
        let query = FusionQuery {
            is_speaker_name: vec![false; terms.len()],
            speakers: answer
                .named
                .iter()
                .map(|name| (name.clone(), Vec::new()))
                .collect(),
            spans: find_spans(
                &answer.query,
                NaiveDate::from_ymd_opt(2030, 1, 1).unwrap(),
                &years,
            ),
            ..FusionQuery::default()
        };
        let hit_of = |expected: &Expected| {
            let said = memories[expected.id.as_str()];
            let scores = expected.parts.iter();
            let scores = scores.map(|(term, score)| TermScore {
                term: place(term),
                score: *score,
            });
            let context = HitContext::new(
                Turn::new("p".to_owned(), said.session.clone(), said.turn),
                said.speaker.clone(),
                expected.length,
                said.asks,
                said.date.and_time(NaiveTime::MIN).and_utc(),
            );
            Hit {
                terms: scores.collect(),
                cosine: expected.cos,
                ..Hit::new(Uuid::nil(), 0, UsageStats::default(), context)
            }
        };
        let mut hits: Vec<Hit> = answer.hits.iter().map(hit_of).collect();
        fuse(&mut hits, &query);
        compare_hits(&hits, answer, &query);
    }
}

fn compare_hits(hits: &[Hit], answer: &Answer, query: &FusionQuery) {
    for (hit, expected) in hits.iter().zip(&answer.hits) {
        let time = nearness_to(hit.context.occurred_at.date_naive(), &query.spans);
        assert!(
            (time - expected.time).abs() < 1e-9,
            "{} of {:?}: time {time}, {}",
            expected.id,
            answer.query,
            expected.time
        );
        // The reference computes with 32-bit cosines.
        let close = |a: f64, b: f64| (a - b).abs() < 2e-7;
        assert!(
            close(hit.coverage, expected.coverage),
            "{} of {:?}: {hit:?}",
            expected.id,
            answer.query
        );
        assert!(
            close(hit.score, expected.score),
            "{} of {:?}: {hit:?}, {}",
            expected.id,
            answer.query,
            expected.score
        );
        assert!(close(
            hit.components.values().sum::<f64>() * hit.damping,
            hit.score
        ));
    }
}
