//! A running service removes what has expired.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{Patch, Scope};
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use cognitive_memory_mcp::store::{Store, Update};
use serde_json::{Value, json};

use crate::contract::{analyzer, at, note, store_one};
use crate::process::Setup;

/// Stores a memory with changes from the beginning of 2026.
async fn with_old_history(setup: &Setup) -> String {
    let store = Arc::new(SqliteStore::open(
        SqliteOptions::new(setup.database()),
        analyzer(),
    ));
    store.prepare().await.unwrap();
    let scope = Scope::new("default", "tester");
    let id = store_one(&*store, &scope, note("first")).await;
    for number in 1..=250 {
        let patch = Patch {
            content: Some(format!("text {number}")),
            ..Patch::default()
        };
        let command = Update {
            id,
            expected_version: None,
            patch,
            reason: None,
            now: at(number),
        };
        store.update(&scope, command).await.unwrap();
    }
    store.close().await;
    id.to_string()
}

fn versions(answer: &Value) -> Vec<i64> {
    let history = answer["history"].as_array().expect("a history");
    history
        .iter()
        .map(|entry| entry["version"].as_i64().expect("a version"))
        .collect()
}

#[tokio::test]
async fn old_history_goes_where_a_setting_says_so() {
    let setup = Setup::new();
    let id = with_old_history(&setup).await;
    let ask = json!({ "ids": [id], "history": true, "max_chars": 1_000_000 });
    let server = setup.serve().await;
    let whole = server.client().call("get", ask.clone()).await;
    assert_eq!(versions(&whole).len(), 251, "history is kept by default");
    server.stop().await;

    let setup = setup.env("MEMORY_HISTORY_DAYS", "1");
    let server = setup.serve().await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let left = loop {
        let answer = server.client().call("get", ask.clone()).await;
        if versions(&answer).len() == 1 {
            break answer;
        }
        assert!(std::time::Instant::now() < end, "{:?}", versions(&answer));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(versions(&left), [1], "the creation stays");
    assert_eq!(left["memories"][0]["content"], "text 250");
    server.stop().await;
}
