//! The number of characters in an answer to a model, over the wire, with the default settings, on the golden set.

use std::fmt::Display;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::process::Setup;

/// Maximum average number of characters of ten hits, as text and as structured content.
const TEXT: usize = 1_500;
const STRUCTURED: usize = 3_000;
/// Maximum average number of characters of ten hits in an index.
const INDEX: usize = 800;
/// A budget that is too small for ten full texts.
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

/// An answer never exceeds its limit, whatever must be left out, and its cursor is always complete.
#[tokio::test]
async fn no_answer_is_longer_than_its_limit() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    let call = async |tool: &str, arguments: Value| {
        let answer = client.try_call(tool, arguments).await.unwrap()["result"].take();
        assert_ne!(answer["isError"], true, "{answer}");
        answer
    };
    let text = |number: usize| {
        format!(
            "{number} Zürich quay 日本\n{}",
            "lines of\n the harbour log ".repeat(number * number)
        )
    };
    let item = |number: usize| json!({ "content": text(number), "entities": ["Ada"], "session": "s", "tags": ["log"] });
    let items: Vec<Value> = (0..14).map(item).collect();
    let stored = call("remember", json!({ "items": items })).await;
    let memories = stored["structuredContent"]["memories"].as_array().unwrap();
    let mut ids: Vec<String> = memories
        .iter()
        .map(|memory| memory["id"].as_str().unwrap().to_owned())
        .collect();
    call(
        "update",
        json!({ "id": ids[3], "content": text(9), "reason": "a correction of the log" }),
    )
    .await;
    call(
        "link",
        json!({ "relations": [{ "from": "Ada", "type": "keeps", "to": "the harbour log" }] }),
    )
    .await;
    ids.push("0192d3c0-0000-7000-8000-000000000000".to_owned());
    let questions = [
        ("recall", json!({ "query": "harbour log quay" })),
        (
            "recall",
            json!({ "query": "harbour log", "detail": "index", "toolCallId": "call_1" }),
        ),
        (
            "recall",
            json!({ "question": "zebra crossing", "explain": "true", "detail": "full" }),
        ),
        ("recall", json!({ "tags": "logs, harbour" })),
        ("recall", json!({ "as_of": "2020-01-01" })),
        ("get", json!({ "ids": ids, "history": true })),
        (
            "get",
            json!({ "id": ids[13], "runId": "an argument that some client adds" }),
        ),
        ("get", json!({ "ids": [ids[3]], "history": "true" })),
        (
            "get",
            json!({ "entities": ["Ada", "Nobody of this name", "the harbour log"] }),
        ),
        ("get", json!({ "entity": "Ada" })),
    ];
    for (tool, question) in &questions {
        for max_chars in (100..=420).step_by(16).chain([700, 1_500, 4_000, 40_000]) {
            let mut cursor = Value::Null;
            for _ in 0..4 {
                let mut arguments = question.clone();
                arguments["max_chars"] = json!(max_chars);
                arguments["cursor"] = cursor;
                let answer = call(tool, arguments).await;
                let text = answer["content"][0]["text"].as_str().unwrap();
                assert!(
                    length(text) <= max_chars,
                    "{} of {max_chars}: {tool} {question}: {text}",
                    length(text)
                );
                cursor = answer["structuredContent"]["next_cursor"].clone();
                let Some(next) = cursor.as_str() else { break };
                assert!(
                    text.ends_with(next),
                    "{tool} {question} in {max_chars}: {text}"
                );
            }
        }
    }
}
