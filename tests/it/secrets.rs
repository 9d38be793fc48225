//! Credentials stay out: no planted key leaves through a tool, a resource, a command, an export or the log.

use serde_json::{Value, json};

use crate::postgres_server::Database;
use crate::process::{Client, Server, Setup};
use crate::requirement::needs;
use crate::transfer::{export, ok, on_postgres};

/// A credential with the rule that finds it. Each field of a tool gets its own, so that a leak names the field.
struct Plant {
    number: u32,
}

impl Plant {
    fn new() -> Self {
        Self { number: 0 }
    }

    /// Returns a new GitHub token.
    fn token(&mut self) -> String {
        self.number += 1;
        format!("ghp_{:04}DILBZwls9FjJiDjsHzEeZukFFLPS9rx", self.number)
    }

    /// Returns a sentence with a new token.
    fn sentence(&mut self, words: &str) -> String {
        format!("{words} {}", self.token())
    }
}

/// The part that all planted values have.
const PLANTED: &str = "DILBZwls9FjJiDjsHzEeZukFFLPS9rx";
/// A random value without a known format, which only its name announces.
const NAMED_VALUE: &str = "t5hQeRYFcCPi9GM0vFRbfL9D4RJhMpE6";

fn has_secret(text: &str) -> bool {
    text.contains(PLANTED) || text.contains(NAMED_VALUE)
}

fn assert_clean(place: &str, text: &str) {
    assert!(!has_secret(text), "{place}: {text}");
}

/// Returns a call of each tool with a credential in every field that is stored.
fn planted_item(plant: &mut Plant) -> Value {
    json!({
        "content": plant.sentence("Deploy the kiosk with"),
        "kind": "episode",
        "situation": plant.sentence("the login failed with"),
        "lesson": plant.sentence("rotate"),
        "outcome": 0.5,
        "tags": [plant.token()],
        "session": plant.token(),
        "speaker": plant.token(),
        "metadata": { "api_key": NAMED_VALUE, "nested": [{ "note": plant.token() }], (plant.token()): 1 },
        "entities": [{ "name": plant.sentence("Anna"), "type": plant.token(), "properties": { "x": plant.token() } }],
        "relations": [{ "from": plant.sentence("a"), "to": plant.sentence("b"), "type": plant.token(),
                        "properties": { "password": NAMED_VALUE } }],
    })
}

/// Calls every tool that stores text with credentials, and returns the answers.
async fn call_with_secrets(client: &Client, id: &str) -> Vec<(String, Value)> {
    let mut plant = Plant::new();
    let calls = [
        (
            "remember",
            json!({ "items": [planted_item(&mut plant)], "idempotency_key": plant.token() }),
        ),
        (
            "update",
            json!({ "id": id, "content": plant.sentence("The garden door opens with"),
            "tags": [plant.token()], "metadata": { "client_secret": NAMED_VALUE }, "reason": plant.token() }),
        ),
        (
            "link",
            json!({ "entities": [{ "name": plant.sentence("Bert"), "type": plant.token(), "properties": { "token": NAMED_VALUE } }],
            "relations": [{ "from": plant.sentence("c"), "to": plant.sentence("d"), "type": plant.token() }] }),
        ),
        (
            "focus",
            json!({ "action": "add", "content": plant.sentence("Rotate") }),
        ),
        (
            "focus",
            json!({ "action": "add", "content": "Water the plants", "session": plant.token() }),
        ),
        ("forget", json!({ "ids": [id], "reason": plant.token() })),
        (
            "forget",
            json!({ "ids": [id], "mode": "restore", "reason": plant.token() }),
        ),
    ];
    let mut answers = Vec::new();
    for (tool, arguments) in calls {
        let answer = client.try_call(tool, arguments.clone()).await.unwrap();
        answers.push((format!("{tool} {arguments}"), answer["result"].clone()));
    }
    answers
}

/// Reads everything through every tool and resource, and looks for credentials.
async fn read_everything(client: &Client, id: &str) {
    for (tool, arguments) in [
        (
            "recall",
            json!({ "query": "kiosk login garden rotate", "include_outdated": true, "limit": 100 }),
        ),
        ("get", json!({ "ids": [id], "history": true })),
        ("focus", json!({})),
        ("focus", json!({ "archived": true })),
        ("explore", json!({})),
        ("status", json!({})),
        ("review", json!({ "action": "list" })),
        ("review", json!({ "action": "candidates" })),
    ] {
        let answer = client.try_call(tool, arguments).await.unwrap();
        assert_clean(tool, &answer.to_string());
    }
    let listed = client
        .try_request("resources/list", json!({}))
        .await
        .unwrap();
    for resource in listed["result"]["resources"].as_array().unwrap() {
        let uri = json!({ "uri": resource["uri"] });
        let read = client.try_request("resources/read", uri).await.unwrap();
        assert_clean("a resource", &read.to_string());
    }
    let prompt = json!({ "name": "session_start", "arguments": {} });
    let prompt = client.try_request("prompts/get", prompt).await.unwrap();
    assert_clean("a prompt", &prompt.to_string());
}

/// Reads everything through the command line and an export.
async fn check_commands(setup: &Setup, server: Server) {
    for command in [
        &["list", "--limit", "100"][..],
        &["status"],
        &["tags"],
        &["entities"],
        &["recall", "kiosk"],
        &["review", "list", "--all"],
    ] {
        let ran = setup.run(command);
        assert_clean(&command.join(" "), &format!("{}{}", ran.stdout, ran.stderr));
    }
    assert_clean("the export", &export(setup, "all.jsonl"));
    assert_clean("the log", &server.stop().await);
}

async fn refuse_secrets(setup: &Setup) {
    let server = setup.serve().await;
    let client = server.client();
    let id = client.remember("The garden door squeaks").await;
    for (call, result) in call_with_secrets(&client, &id).await {
        assert_eq!(result["isError"], true, "{call}: {result}");
        assert_clean(&call, &result.to_string());
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(
            text.contains("contains a credential (github-token); leave it out"),
            "{call}: {text}"
        );
    }
    let status = client.call("status", json!({})).await;
    assert_eq!(
        (&status["memories"], &status["deleted"]),
        (&json!(1), &json!(0)),
        "{status}"
    );
    read_everything(&client, &id).await;
    check_commands(setup, server).await;
}

async fn mask_secrets(setup: Setup) {
    let setup = setup.env("MEMORY_SECRETS", "mask");
    let server = setup.serve().await;
    let client = server.client();
    let id = client.remember("The garden door squeaks").await;
    for (call, result) in call_with_secrets(&client, &id).await {
        assert_eq!(result["isError"], false, "{call}: {result}");
        assert_clean(&call, &result.to_string());
        let notes = result["structuredContent"]["notes"].to_string();
        assert!(
            notes.contains("Credentials were removed before storing:"),
            "{call}: {result}"
        );
    }
    let found = client.call("recall", json!({ "query": "kiosk" })).await;
    let content = found["hits"][0]["content"].as_str().unwrap();
    assert_eq!(
        content, "Deploy the kiosk with [secret removed: github-token]",
        "{found}"
    );
    read_everything(&client, &id).await;
    check_commands(&setup, server).await;
}

#[tokio::test]
async fn secrets_are_refused_by_default_on_sqlite() {
    refuse_secrets(&Setup::new()).await;
}

#[tokio::test]
async fn secrets_are_refused_by_default_on_postgres() {
    needs!(Postgres);
    let database = Database::empty().await;
    refuse_secrets(&on_postgres(&database)).await;
}

#[tokio::test]
async fn secrets_are_masked_on_request_on_sqlite() {
    mask_secrets(Setup::new()).await;
}

#[tokio::test]
async fn secrets_are_masked_on_request_on_postgres() {
    needs!(Postgres);
    let database = Database::empty().await;
    mask_secrets(on_postgres(&database)).await;
}

#[tokio::test]
async fn secrets_are_stored_if_the_operator_allows_it() {
    let setup = Setup::new().env("MEMORY_SECRETS", "allow");
    let server = setup.serve().await;
    let client = server.client();
    client.remember(&Plant::new().sentence("Deploy with")).await;
    let found = client.call("recall", json!({ "query": "deploy" })).await;
    assert!(has_secret(&found.to_string()), "{found}");
    server.stop().await;
}

/// Returns an export of a database that stored credentials in every field.
async fn export_with_secrets() -> (Setup, String) {
    let setup = Setup::new().env("MEMORY_SECRETS", "allow");
    let server = setup.serve().await;
    let client = server.client();
    let id = client.remember("The garden door squeaks").await;
    for (call, result) in call_with_secrets(&client, &id).await {
        assert_eq!(result["isError"], false, "{call}: {result}");
    }
    client
        .call(
            "update",
            json!({ "id": id, "content": "The garden door was oiled" }),
        )
        .await;
    server.stop().await;
    let text = export(&setup, "all.jsonl");
    assert!(has_secret(&text), "{text}");
    (setup, text)
}

#[tokio::test]
async fn an_import_masks_secrets_in_every_record_and_lists_them() {
    let (_, text) = export_with_secrets().await;
    let target = Setup::new();
    let file = target.file("in.jsonl", &text);
    let ran = target.run(&["import", file.to_str().unwrap()]);
    ok(&ran);
    assert!(
        ran.stderr
            .contains("Credentials were removed before storing: content (github-token)"),
        "{}",
        ran.stderr
    );
    assert_clean("the result", &format!("{}{}", ran.stdout, ran.stderr));
    let stored = export(&target, "out.jsonl");
    assert_clean("the export", &stored);
    assert_eq!(
        stored.lines().count(),
        text.lines().count(),
        "every record is stored"
    );
    let again = target.run(&["import", file.to_str().unwrap()]);
    assert!(
        ok(&again).stdout.starts_with("0 records stored"),
        "{}",
        again.stdout
    );
}

#[tokio::test]
async fn an_import_can_refuse_secrets() {
    let (_, text) = export_with_secrets().await;
    let target = Setup::new().env("MEMORY_SECRETS", "refuse");
    let file = target.file("in.jsonl", &text);
    let ran = target.run(&["import", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("contains credentials, which MEMORY_SECRETS=refuse keeps out"),
        "{}",
        ran.stderr
    );
    assert_clean("the refusal", &ran.stderr);
    let kept = target.run(&["import", "--keep-going", file.to_str().unwrap()]);
    assert_clean("the result", &format!("{}{}", kept.stdout, kept.stderr));
    assert_clean("the export", &export(&target, "out.jsonl"));
}

/// Fills a database with credentials and finds, then masks them. The service must be stopped for masking only.
async fn scan_and_mask(setup: Setup) {
    let storing = setup.env("MEMORY_SECRETS", "allow");
    let server = storing.serve().await;
    let client = server.client();
    let id = client.remember("The garden door squeaks").await;
    for (call, result) in call_with_secrets(&client, &id).await {
        assert_eq!(result["isError"], false, "{call}: {result}");
    }
    client
        .call(
            "update",
            json!({ "id": id, "content": "The garden door was oiled" }),
        )
        .await;
    let scan = storing.run(&["scan"]);
    assert_eq!(scan.code, Some(1), "{}", scan.stderr);
    assert_clean("the report", &format!("{}{}", scan.stdout, scan.stderr));
    assert!(
        scan.stdout
            .contains(&format!("memory {id} of project default:")),
        "{}",
        scan.stdout
    );
    assert!(
        scan.stdout
            .contains("history[2].old.content (github-token)"),
        "{}",
        scan.stdout
    );
    let before = export(&storing, "before.jsonl");
    server.stop().await;

    let masked = storing.run(&["scan", "--mask"]);
    ok(&masked);
    assert_clean("the result", &format!("{}{}", masked.stdout, masked.stderr));
    assert!(
        masked.stderr.contains("The previous data still has them"),
        "{}",
        masked.stderr
    );
    let after = export(&storing, "after.jsonl");
    assert_clean("the export", &after);
    assert_eq!(
        after.lines().count(),
        before.lines().count(),
        "no record is lost"
    );
    let again = storing.run(&["scan"]);
    assert!(
        ok(&again).stderr.contains("No credentials in"),
        "{}",
        again.stderr
    );

    let server = storing.serve().await;
    let client = server.client();
    let found = client.call("recall", json!({ "query": "kiosk" })).await;
    assert_eq!(
        found["hits"][0]["content"],
        "Deploy the kiosk with [secret removed: github-token]"
    );
    read_everything(&client, &id).await;
    check_commands(&storing, server).await;
}

#[tokio::test]
async fn a_scan_finds_and_masks_stored_secrets_on_sqlite() {
    scan_and_mask(Setup::new()).await;
}

#[tokio::test]
async fn a_scan_finds_and_masks_stored_secrets_on_postgres() {
    needs!(Postgres);
    let database = Database::empty().await;
    scan_and_mask(on_postgres(&database)).await;
}

#[tokio::test]
async fn masking_while_the_service_runs_changes_nothing() {
    let setup = Setup::new().env("MEMORY_SECRETS", "allow");
    let server = setup.serve().await;
    server
        .client()
        .remember(&Plant::new().sentence("Deploy with"))
        .await;
    let ran = setup.run(&["scan", "--mask"]);
    assert_eq!(ran.code, Some(69), "{}", ran.stderr);
    assert!(ran.stderr.contains("stop the service"), "{}", ran.stderr);
    assert!(has_secret(&export(&setup, "all.jsonl")));
    server.stop().await;
}
