//! The log of the service: what it contains, and what it must never contain.

use serde_json::{Value, json};

use crate::process::{Client, Setup};

#[tokio::test]
async fn a_tool_call_is_one_wide_line() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    let id = client.remember("The harbour is closed on Mondays").await;
    client.call("recall", json!({ "query": "harbour" })).await;
    client.call("get", json!({ "ids": [id] })).await;
    let wrong = client
        .try_call("recall", json!({ "limit": 0 }))
        .await
        .expect("an answer");
    assert_eq!(wrong["result"]["isError"], true);
    let wrong = client
        .try_call("recall", json!({ "limit": "many" }))
        .await
        .expect("an answer");
    assert_eq!(wrong["result"]["isError"], true);
    let log = server.stop().await;
    let mut lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["message"] == "tool call")
        .collect();
    assert_eq!(lines.len(), 5, "{log}");
    // Values that differ between runs are checked for their form, then replaced.
    for line in &mut lines {
        assert!(
            line["timestamp"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z')),
            "{line}"
        );
        assert!(
            line["duration_ms"].as_f64() >= line["db_ms"].as_f64() && line["db_ms"].is_f64(),
            "{line}"
        );
        assert!(
            line["request_id"]
                .as_str()
                .is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()),
            "{line}"
        );
        for field in ["timestamp", "duration_ms", "db_ms", "request_id"] {
            line[field] = format!("[{field}]").into();
        }
    }
    insta::assert_json_snapshot!("tool_call_lines", lines);
}

#[tokio::test]
async fn the_first_line_tells_the_environment_and_the_database() {
    let setup = Setup::new()
        .env("ENVIRONMENT", "production")
        .env("MEMORY_AUTH", "none");
    let file = setup.config_file(
        ".env.production",
        "MEMORY_DATABASE_URL=sqlite:../../kept.db\n",
    );
    let mut server = setup.serve().await;
    let line = server.logged("production environment loaded").await;
    assert_eq!(server.stdout.json()[0], line, "it is the first");
    let database = file.with_file_name("../../kept.db");
    assert_eq!(line["database"], database.to_str().expect("text"));
    assert!(
        line["env_file"]
            .as_str()
            .is_some_and(|name| file.ends_with(name)),
        "{line}"
    );
    assert_eq!(
        (&line["backend"], &line["auth"]),
        (&json!("sqlite"), &json!("none"))
    );
    server.stop().await;

    // The server does not exist; the line is logged before the first connection.
    let setup = Setup::new()
        .env("ENVIRONMENT", "production")
        .env(
            "MEMORY_DATABASE_URL",
            "postgres://someone:hunter2canary@127.0.0.1:9/kept?sslmode=disable",
        )
        .env("MEMORY_TOKENS", "laptop canary-0123456789abcdef");
    let mut server = setup.serve().await;
    let line = server.logged("production environment loaded").await;
    assert_eq!(
        (&line["backend"], &line["database"]),
        (&json!("postgres"), &json!("kept"))
    );
    assert_eq!(
        (&line["server"], &line["credentials"]),
        (&json!("127.0.0.1:9"), &json!(1))
    );
    let client = server.client().with_token("canary-0123456789abcdef");
    let answer = client
        .try_call("status", json!({}))
        .await
        .expect("an answer");
    assert_eq!(
        answer["result"]["structuredContent"]["error"]["code"], "database_unavailable",
        "{answer}"
    );
    let log = server.stop().await;
    assert!(!log.contains("canary"), "{log}");
}

/// Text for one of the places where a client can put text; its name shows which one leaks.
fn canary(place: &str) -> String {
    format!("canary-{place}-7f3a")
}

#[tokio::test]
async fn nothing_that_belongs_to_the_user_is_ever_logged() {
    let setup = Setup::new();
    let log_file = setup.path("service.log");
    let tokens = format!("laptop {}-0123456789", canary("token"));
    let setup = setup
        .env("MEMORY_LOG_LEVEL", "trace")
        .env("MEMORY_LOG_FILE", &log_file)
        .env("MEMORY_TOKENS", tokens)
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1");
    let server = setup.serve().await;
    let client = server
        .client()
        .with_token(&format!("{}-0123456789", canary("token")));
    let item = json!({
        "kind": "dialogue", "content": canary("content"), "tags": [canary("tag")], "session": canary("session"), "turn": 1,
        "speaker": canary("speaker"), "metadata": { canary("key"): canary("metadata") },
    });
    let key = canary("idempotency");
    let stored = client
        .call(
            "remember",
            json!({ "items": [item], "idempotency_key": key }),
        )
        .await;
    let id = stored["memories"][0]["id"].clone();
    let episode = json!({ "kind": "episode", "content": canary("episode"), "situation": canary("situation"),
        "outcome": 1, "lesson": canary("lesson") });
    client.call("remember", json!({ "items": [episode] })).await;
    client
        .call("recall", json!({ "query": canary("query"), "tags": [canary("tag")], "session": canary("session") }))
        .await;
    client
        .call("recall", json!({ "query": canary("content") }))
        .await;
    client
        .call(
            "update",
            json!({ "id": id, "content": canary("changed"), "reason": canary("reason") }),
        )
        .await;
    client
        .call("get", json!({ "ids": [id], "history": true }))
        .await;
    client
        .call("status", json!({ canary("argument"): 1 }))
        .await;

    send_invalid_calls(&client, &key).await;
    client
        .call(
            "forget",
            json!({ "ids": [id], "reason": canary("forgotten") }),
        )
        .await;
    let strangers = server.client().with_token(&canary("wrong-token"));
    send_invalid_messages(&client, &strangers).await;
    let said = server.stop().await;
    let file = std::fs::read_to_string(&log_file).expect("the log file");
    assert!(
        said.matches("tool call").count() >= 20 && file.matches("tool call").count() >= 20,
        "{said}"
    );
    let leaks: Vec<&str> = said
        .lines()
        .chain(file.lines())
        .filter(|line| line.contains("canary"))
        .collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

/// Sends canaries in calls that fail.
async fn send_invalid_calls(client: &Client, key: &str) {
    for (tool, arguments) in [
        (
            "remember",
            json!({ "items": [{ "content": 1, canary("field"): canary("value") }] }),
        ),
        ("remember", json!({ "items": canary("not-a-list") })),
        (
            "remember",
            json!({ "items": [{ "content": canary("other") }], "idempotency_key": key }),
        ),
        (
            "remember",
            json!({ "items": [{ "kind": canary("kind"), "content": "x" }] }),
        ),
        (
            "remember",
            json!({ "items": [{ "kind": "dialogue", "content": canary("turn-again"), "session": canary("session"), "turn": 1 }] }),
        ),
        (
            "remember",
            json!({ "items": [{ "content": "x", "occurred_at": canary("time"), "supersedes": [canary("superseded")] }] }),
        ),
        ("recall", json!({ "cursor": canary("cursor") })),
        ("recall", json!({ "query": [canary("query-list")] })),
        ("recall", json!({ "limit": canary("limit") })),
        ("get", json!({ "ids": [canary("id")] })),
        (
            "update",
            json!({ "id": canary("id"), "importance": canary("importance") }),
        ),
        (
            "forget",
            json!({ "ids": [canary("id")], "mode": canary("mode") }),
        ),
    ] {
        let answer = client
            .try_call(tool, arguments.clone())
            .await
            .expect("an answer");
        assert_eq!(answer["result"]["isError"], true, "{arguments}: {answer}");
    }
}

/// Sends canaries in messages that are not valid calls of tools.
async fn send_invalid_messages(client: &Client, strangers: &Client) {
    for body in [
        json!({ "jsonrpc": "2.0", "id": canary("request"), "method": "tools/list", "params": { "cursor": canary("page") } }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": canary("method"), "params": { "x": canary("params") } }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": canary("tool"), "arguments": {} } }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "recall", "arguments": canary("text") } }),
        json!({ "jsonrpc": "2.0", "method": canary("notification"), "params": { "x": canary("params") } }),
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1, "reason": canary("cancelled") } }),
        json!({ "jsonrpc": "2.0", "id": 5, "result": { "x": canary("result") } }),
        json!([{ "jsonrpc": "2.0", "id": 1, "method": canary("batch") }]),
        json!(canary("string")),
    ] {
        client
            .post(body.to_string())
            .send()
            .await
            .expect("an answer");
    }
    strangers.post("{}").send().await.expect("an answer");
    client
        .post(canary("no-json"))
        .send()
        .await
        .expect("an answer");
    client
        .post("{}")
        .header("mcp-session-id", canary("session-id"))
        .send()
        .await
        .expect("an answer");
    client
        .post("{}")
        .header("mcp-protocol-version", canary("version"))
        .send()
        .await
        .expect("an answer");
}
