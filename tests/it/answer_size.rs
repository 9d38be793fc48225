//! The number of characters in an answer to a model, over the wire, with the default settings, on the golden set.

use std::fmt::Display;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::process::{Client, Setup};

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

async fn call_tool(client: &Client, tool: &str, arguments: Value) -> Value {
    let answer = client.try_call(tool, arguments).await.unwrap()["result"].take();
    assert_ne!(answer["isError"], true, "{answer}");
    answer
}

fn log_text(number: usize) -> String {
    format!(
        "{number} Zürich quay 日本\n{}",
        "lines of\n the harbour log ".repeat(number * number)
    )
}

/// Stores long memories, relations with large properties, a full working memory and open reviews. Returns the IDs of the
/// memories.
async fn fill_with_long_texts(client: &Client) -> Vec<String> {
    let item = |number: usize| json!({ "content": log_text(number), "entities": ["Ada"], "session": "s", "tags": ["log"] });
    let items: Vec<Value> = (0..14).map(item).collect();
    let stored = call_tool(client, "remember", json!({ "items": items })).await;
    let memories = stored["structuredContent"]["memories"].as_array().unwrap();
    let ids: Vec<String> = memories
        .iter()
        .map(|memory| memory["id"].as_str().unwrap().to_owned())
        .collect();
    let correction =
        json!({ "id": ids[3], "content": log_text(9), "reason": "a correction of the log" });
    call_tool(client, "update", correction).await;
    let mut relations = vec![json!({ "from": "Ada", "type": "keeps", "to": "the harbour log" })];
    relations.extend((0..40).map(|number| {
        let properties = json!({ "note": "p".repeat(20 * number) });
        json!({ "from": "Ada", "type": "knows", "to": format!("friend {number}"), "properties": properties })
    }));
    call_tool(client, "link", json!({ "relations": relations })).await;
    for number in 0..14 {
        let plan = "a line\nof the plan ".repeat(10 * number);
        let item = json!({ "content": format!("{number} \"{plan}\""), "session": "s" });
        call_tool(client, "focus", item).await;
    }
    let protect = json!({ "id": ids[5], "protected": true });
    call_tool(client, "update", protect).await;
    for number in 0..5 {
        let content = format!("proposed {number} {}", log_text(10));
        let proposal = json!({ "id": ids[5], "content": content, "reason": "r".repeat(300) });
        call_tool(client, "update", proposal).await;
    }
    ids
}

/// Calls of every tool that takes `max_chars`.
fn long_questions(ids: &[String]) -> Vec<(&'static str, Value)> {
    let mut known_and_unknown = ids.to_vec();
    known_and_unknown.push("0192d3c0-0000-7000-8000-000000000000".to_owned());
    vec![
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
        ("get", json!({ "ids": known_and_unknown, "history": true })),
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
        ("explore", json!({ "name": "Ada", "toolCallId": "call_1" })),
        ("explore", json!({ "mode": "list", "limit": 500 })),
        ("explore", json!({ "name": "friend 1", "to": "friend 2" })),
        ("explore", json!({ "name": "friend 1", "mode": "suggest" })),
        ("focus", json!({ "session": "s" })),
        ("focus", json!({ "session": "s", "archived": true })),
        ("focus", json!({ "session": "s", "content": log_text(12) })),
        ("review", json!({ "action": "list" })),
        ("review", json!({ "action": "candidates" })),
        ("review", json!({ "action": "candidates", "entity": "Ada" })),
    ]
}

/// Checks both forms of an answer. The structured content of recall has its own limit.
fn assert_within(answer: &Value, max_chars: usize, call: &str) {
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(
        length(text) <= max_chars,
        "{} of {max_chars}: {call}: {text}",
        length(text)
    );
    let structured = &answer["structuredContent"];
    // IDs and names that lead to the rest are never left out, nor are the fixed fields of the first part.
    let listed = length(&structured["missing"]) + length(&structured["not_read"]);
    assert!(
        call.starts_with("recall") || length(structured) <= max_chars.max(1_000) + listed + 300,
        "{} of {max_chars}: {call}",
        length(structured)
    );
    if let Some(cursor) = structured["next_cursor"].as_str() {
        assert!(text.ends_with(cursor), "{call} in {max_chars}: {text}");
    }
}

/// An answer never exceeds its limit, whatever must be left out, and its cursor is always complete.
#[tokio::test]
async fn no_answer_is_longer_than_its_limit() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    let ids = fill_with_long_texts(&client).await;
    for (tool, question) in long_questions(&ids) {
        for max_chars in (100..=420).step_by(16).chain([700, 1_500, 4_000, 40_000]) {
            let mut cursor = Value::Null;
            for _ in 0..4 {
                let mut arguments = question.clone();
                arguments["max_chars"] = json!(max_chars);
                arguments["cursor"] = cursor;
                let answer = call_tool(&client, tool, arguments).await;
                assert_within(&answer, max_chars, &format!("{tool} {question}"));
                cursor = answer["structuredContent"]["next_cursor"].clone();
                if cursor.is_null() {
                    break;
                }
            }
        }
    }
    let reviews = call_tool(&client, "review", json!({ "action": "list" })).await;
    let reviews = reviews["structuredContent"]["reviews"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(reviews, 5, "the questions about reviews had answers");
}

fn assert_noted(answer: &Value, part: &str) {
    let notes = answer["notes"].to_string();
    assert!(notes.contains(part), "{part:?} in {answer}");
}

fn count_of(answer: &Value, list: &str) -> usize {
    answer[list].as_array().unwrap().len()
}

#[tokio::test]
async fn explore_says_what_does_not_fit_and_how_to_read_it() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    let friend = |number| format!("friend {number:02}");
    let relation = |number| json!({ "from": "Ada", "type": "knows", "to": friend(number) });
    let relations: Vec<Value> = (0..30).map(relation).collect();
    client.call("link", json!({ "relations": relations })).await;
    let ask = async |max_chars: usize| {
        let arguments = json!({ "name": "Ada", "max_chars": max_chars });
        client.call("explore", arguments).await
    };
    let small = ask(600).await;
    assert_eq!(small["partial"], true);
    assert_noted(&small, "of 31 entities fit into 600 characters");
    assert_noted(&small, "of 30 relations fit into 600 characters");
    let large = ask(100_000).await;
    assert_eq!(
        (count_of(&large, "entities"), &large["partial"]),
        (31, &json!(false))
    );

    let (mut after, mut names) = (Value::Null, Vec::new());
    loop {
        let arguments = json!({ "mode": "list", "limit": 100, "max_chars": 400, "after": after });
        let page = client.call("explore", arguments).await;
        let found = page["entities"].as_array().unwrap();
        names.extend(found.iter().map(|entity| entity["name"].clone()));
        if page["partial"] == false {
            break;
        }
        after = found.last().unwrap()["name"].clone();
        let next = format!("continue with after {after}").replace('"', "\\\"");
        assert_noted(&page, &next);
    }
    let mut expected = vec![json!("Ada")];
    expected.extend((0..30).map(|number| json!(friend(number))));
    assert_eq!(names, expected);
    server.stop().await;
}

#[tokio::test]
async fn focus_says_what_does_not_fit_and_how_to_read_it() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    for number in 0..9 {
        let content = format!("{number} {}", "steps of the plan ".repeat(30));
        client.call("focus", json!({ "content": content })).await;
    }
    let small = client.call("focus", json!({ "max_chars": 1_000 })).await;
    assert_noted(&small, "of 9 items fit into 1000 characters");
    let middle = client.call("focus", json!({ "max_chars": 4_000 })).await;
    assert_eq!(count_of(&middle, "items"), 9);
    assert_noted(&middle, "Texts with … are shortened");
    let whole = client.call("focus", json!({ "max_chars": 20_000 })).await;
    assert!(whole["notes"].is_null(), "{whole}");
    for number in 0..9 {
        let id = whole["items"][number]["id"].clone();
        let drop = json!({ "action": "drop", "id": id });
        client.call("focus", drop).await;
    }
    for max_chars in [100, 500, 900, 1_300, 2_000, 5_000] {
        let (mut cursor, mut seen) = (Value::Null, 0);
        loop {
            let arguments = json!({ "archived": true, "max_chars": max_chars, "cursor": cursor });
            let page = client.call("focus", arguments).await;
            seen += count_of(&page, "items");
            cursor = page["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        assert_eq!(seen, 9, "{max_chars}");
    }
    server.stop().await;
}
