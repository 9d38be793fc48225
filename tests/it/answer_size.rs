//! How many characters an answer costs the model that reads it, over the wire and with the usual settings, on the
//! golden set.

use std::fmt::Display;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::process::Setup;

/// Most characters of ten hits, as text and as structured content, on average over the questions.
const TEXT: usize = 1_500;
const STRUCTURED: usize = 3_000;
/// Most characters of ten hits in an index.
const INDEX: usize = 800;
/// A budget that is too small for ten whole texts.
const BUDGET: usize = 700;

fn lines(file: &str) -> Vec<Map<String, Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn length(text: impl Display) -> usize {
    text.to_string().chars().count()
}

fn mean(lengths: &[usize]) -> usize {
    lengths.iter().sum::<usize>() / lengths.len()
}

#[tokio::test]
async fn ten_hits_cost_few_characters() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    let mut items = lines("memories.jsonl");
    for item in &mut items {
        // Keys are names within the file.
        item.retain(|field, _| !["key", "sources", "supersedes"].contains(&field.as_str()));
    }
    for part in items.chunks(400) {
        let stored = client
            .try_call("remember", json!({ "items": part }))
            .await
            .unwrap();
        assert_ne!(stored["result"]["isError"], true, "{stored}");
    }
    let (mut texts, mut structured, mut indexes) = (Vec::new(), Vec::new(), Vec::new());
    for question in lines("queries.jsonl").into_iter().step_by(3) {
        let ask = async |more: Value| {
            let mut arguments = question.clone();
            arguments.retain(|field, _| !["group", "expected"].contains(&field.as_str()));
            arguments.extend(more.as_object().unwrap().clone());
            let answer = client
                .try_call("recall", Value::Object(arguments))
                .await
                .unwrap()["result"]
                .take();
            assert_ne!(answer["isError"], true, "{answer}");
            answer
        };
        let usual = ask(json!({})).await;
        let text = usual["content"][0]["text"].as_str().unwrap();
        if usual["structuredContent"]["hits"].as_array().unwrap().len() == 10 {
            texts.push(length(text));
            structured.push(length(&usual["structuredContent"]));
            let index = ask(json!({ "detail": "index" })).await;
            indexes.push(length(index["content"][0]["text"].as_str().unwrap()));
        }
        let small = ask(json!({ "max_chars": BUDGET })).await;
        let small = small["content"][0]["text"].as_str().unwrap();
        assert!(length(small) <= BUDGET, "{small}");
    }
    let measured = format!(
        "{} answers with ten hits: text {} (most {}), structured {} (most {}), index {} (most {})",
        texts.len(),
        mean(&texts),
        texts.iter().max().unwrap(),
        mean(&structured),
        structured.iter().max().unwrap(),
        mean(&indexes),
        indexes.iter().max().unwrap(),
    );
    assert!(texts.len() > 100, "{measured}");
    assert!(
        mean(&texts) <= TEXT && mean(&structured) <= STRUCTURED && mean(&indexes) <= INDEX,
        "{measured}"
    );
    server.stop().await;
}
