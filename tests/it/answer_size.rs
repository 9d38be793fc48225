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
    let mut relations = vec![json!({ "from": "Ada", "type": "keeps", "to": "the harbour log" })];
    relations.extend((0..40).map(|number| {
        let properties = json!({ "note": "p".repeat(20 * number) });
        json!({ "from": "Ada", "type": "knows", "to": format!("friend {number}"), "properties": properties })
    }));
    call("link", json!({ "relations": relations })).await;
    for number in 0..14 {
        let content = format!(
            "{number} \"{}\"",
            "a line\nof the plan ".repeat(10 * number)
        );
        call("focus", json!({ "content": content, "session": "s" })).await;
    }
    let protect = json!({ "id": ids[5], "protected": true });
    call("update", protect).await;
    for number in 0..5 {
        let content = format!("proposed {number} {}", text(10));
        call(
            "update",
            json!({ "id": ids[5], "content": content, "reason": "r".repeat(300) }),
        )
        .await;
    }
    let review = json!({ "action": "list" });
    let open = call("review", review.clone()).await["structuredContent"]["reviews"].take();
    assert!(!open.as_array().unwrap().is_empty(), "{open}");
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
        ("explore", json!({ "name": "Ada", "toolCallId": "call_1" })),
        ("explore", json!({ "mode": "list", "limit": 500 })),
        ("explore", json!({ "name": "friend 1", "to": "friend 2" })),
        ("explore", json!({ "name": "friend 1", "mode": "suggest" })),
        ("focus", json!({ "session": "s" })),
        ("focus", json!({ "session": "s", "archived": true })),
        ("focus", json!({ "session": "s", "content": text(12) })),
        ("review", review),
        ("review", json!({ "action": "candidates" })),
        ("review", json!({ "action": "candidates", "entity": "Ada" })),
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
                let structured = &answer["structuredContent"];
                // IDs and names that lead to the rest are never left out.
                let listed = length(&structured["missing"]) + length(&structured["not_read"]);
                assert!(
                    *tool == "recall"
                        || max_chars < 4_000
                        || length(structured) <= max_chars + listed + 200,
                    "{} of {max_chars}: {tool} {question}",
                    length(structured)
                );
                cursor = structured["next_cursor"].clone();
                let Some(next) = cursor.as_str() else { break };
                assert!(
                    text.ends_with(next),
                    "{tool} {question} in {max_chars}: {text}"
                );
            }
        }
    }
}

/// Nothing is left out without a note, and the note leads to the rest.
#[tokio::test]
async fn a_small_limit_says_what_is_missing_and_how_to_read_it() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    let call = async |tool: &str, arguments: Value| client.call(tool, arguments).await;
    let relations: Vec<Value> = (0..30)
        .map(
            |number| json!({ "from": "Ada", "type": "knows", "to": format!("friend {number:02}") }),
        )
        .collect();
    call("link", json!({ "relations": relations })).await;
    for number in 0..9 {
        let content = format!("{number} {}", "steps of the plan ".repeat(30));
        call("focus", json!({ "content": content })).await;
    }
    let noted = |answer: &Value, part: &str| {
        let notes = answer["notes"].to_string();
        assert!(notes.contains(part), "{part:?} in {answer}");
    };
    let small = call("explore", json!({ "name": "Ada", "max_chars": 600 })).await;
    assert_eq!(small["partial"], true);
    noted(&small, "of 31 entities fit into 600 characters");
    noted(&small, "of 30 relations fit into 600 characters");
    let large = call("explore", json!({ "name": "Ada", "max_chars": 100_000 })).await;
    assert_eq!(
        (
            large["entities"].as_array().unwrap().len(),
            &large["partial"]
        ),
        (31, &json!(false))
    );

    let (mut after, mut names) = (Value::Null, Vec::new());
    loop {
        let page = call(
            "explore",
            json!({ "mode": "list", "limit": 100, "max_chars": 400, "after": after }),
        )
        .await;
        let found = page["entities"].as_array().unwrap();
        names.extend(
            found
                .iter()
                .map(|entity| entity["name"].as_str().unwrap().to_owned()),
        );
        if page["partial"] == false {
            break;
        }
        after = found.last().unwrap()["name"].clone();
        noted(
            &page,
            &format!("continue with after {after}").replace('"', "\\\""),
        );
    }
    let mut expected: Vec<String> = (0..30)
        .map(|number| format!("friend {number:02}"))
        .collect();
    expected.insert(0, "Ada".to_owned());
    assert_eq!(names, expected);

    let small = call("focus", json!({ "max_chars": 1_000 })).await;
    noted(&small, "of 9 items fit into 1000 characters");
    let middle = call("focus", json!({ "max_chars": 4_000 })).await;
    assert_eq!(middle["items"].as_array().unwrap().len(), 9);
    noted(&middle, "Texts with … are shortened");
    let whole = call("focus", json!({ "max_chars": 20_000 })).await;
    assert!(whole["notes"].is_null(), "{whole}");
    for number in 0..9 {
        let id = whole["items"][number]["id"].clone();
        call("focus", json!({ "action": "drop", "id": id })).await;
    }
    let (mut cursor, mut seen) = (Value::Null, 0);
    loop {
        let page = call(
            "focus",
            json!({ "archived": true, "max_chars": 900, "cursor": cursor }),
        )
        .await;
        seen += page["items"].as_array().unwrap().len();
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, 9);
    server.stop().await;
}
