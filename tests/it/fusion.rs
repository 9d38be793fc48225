//! The fusion against a plain reference of the same formula, which was written apart from it.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveTime};
use cognitive_memory_mcp::domain::Setting;
use cognitive_memory_mcp::domain::fusion::{Member, Question, fuse};
use cognitive_memory_mcp::domain::lexical::Part;
use cognitive_memory_mcp::domain::time_expression::{nearness, spans};
use serde::Deserialize;

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
        let spans = spans(
            &answer.query,
            NaiveDate::from_ymd_opt(2030, 1, 1).unwrap(),
            &years,
        );
        let rows: Vec<(Vec<Part>, Setting, &Expected)> = answer
            .hits
            .iter()
            .map(|hit| {
                let said = memories[hit.id.as_str()];
                let parts = hit
                    .parts
                    .iter()
                    .map(|(term, gain)| Part {
                        term: place(term),
                        gain: *gain,
                    })
                    .collect();
                let at = said.date.and_time(NaiveTime::MIN).and_utc();
                let turn = (said.session.clone(), said.turn);
                (
                    parts,
                    Setting::new(1, turn, said.speaker.clone(), hit.length, said.asks, at),
                    hit,
                )
            })
            .collect();
        let members: Vec<Member<'_>> = rows
            .iter()
            .map(|(parts, setting, hit)| {
                let time = nearness(setting.occurred_at.date_naive(), &spans);
                assert!(
                    (time - hit.time).abs() < 1e-9,
                    "{} of {:?}: time {time}, {}",
                    hit.id,
                    answer.query,
                    hit.time
                );
                let named = setting
                    .speaker
                    .as_ref()
                    .filter(|speaker| answer.named.contains(*speaker))
                    .map(|_| [].as_slice());
                Member {
                    parts,
                    cosine: hit.cos,
                    setting,
                    named,
                    time,
                }
            })
            .collect();
        let fused = fuse(
            &members,
            Question {
                names: &vec![false; terms.len()],
                total: 0.0,
            },
        );
        for (fused, hit) in fused.iter().zip(&answer.hits) {
            // The reference computes with 32-bit cosines.
            let close = |a: f64, b: f64| (a - b).abs() < 2e-7;
            assert!(
                close(fused.coverage, hit.coverage),
                "{} of {:?}: {fused:?}",
                hit.id,
                answer.query
            );
            assert!(
                close(fused.score, hit.score),
                "{} of {:?}: {fused:?}, {}",
                hit.id,
                answer.query,
                hit.score
            );
            assert!(close(
                fused.shares.values().sum::<f64>() * fused.damping,
                fused.score
            ));
        }
    }
}
