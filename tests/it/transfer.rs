//! Export and import on the command line: files between both databases, damaged files, interrupted imports.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::postgres_server::Database;
use crate::process::{Ran, Server, Setup};
use crate::requirement::needs;

/// Stores one of each kind of record through the tools.
pub(crate) async fn fill(server: &Server) -> Vec<String> {
    let client = server.client();
    let first = client
        .remember("Ünïcode, \"quotes\" and\na second line; 10.5 %")
        .await;
    let stored = client
        .call(
            "remember",
            json!({ "items": [
                { "content": "insight on it", "kind": "insight", "sources": [first], "tags": ["b", "a", "ä"],
                  "metadata": { "z": 1, "a": { "deep": [1.5, null, true, "x"], "Z": -0.25 } }, "importance": 0.875 },
                { "content": "it broke", "kind": "episode", "situation": "s", "outcome": -0.5, "lesson": "l" },
                { "content": "hello", "kind": "dialogue", "session": "c1", "turn": 1, "speaker": "Ann",
                  "occurred_at": "2024-02-29T12:00:00.123456Z" },
                { "content": "hello", "kind": "dialogue", "session": "c1", "turn": 2 },
                { "content": "ends", "valid_until": "2031-01-01" },
                { "content": "to be deleted" },
                { "content": "to be replaced" },
            ] }),
        )
        .await;
    let ids: Vec<String> = (0..7)
        .map(|n| stored["memories"][n]["id"].as_str().unwrap().to_owned())
        .collect();
    client
        .call(
            "remember",
            json!({ "items": [{ "content": "the replacement", "supersedes": [ids[6]] }] }),
        )
        .await;
    client
        .call(
            "update",
            json!({ "id": ids[0], "content": "a better insight", "reason": "clearer" }),
        )
        .await;
    client
        .call("update", json!({ "id": ids[0], "feedback": "helpful" }))
        .await;
    client
        .call(
            "update",
            json!({ "id": ids[1], "importance": 1.0, "metadata": { "n": 1.0e20 } }),
        )
        .await;
    client
        .call("forget", json!({ "ids": [ids[5]], "reason": "wrong" }))
        .await;
    client.call("forget", json!({ "ids": [ids[3]] })).await;
    client
        .call("forget", json!({ "ids": [ids[3]], "mode": "restore" }))
        .await;
    // A protected memory, and an open review of it.
    client
        .call("update", json!({ "id": first, "protected": true }))
        .await;
    client
        .call(
            "update",
            json!({ "id": first, "content": "something else", "reason": "it moved" }),
        )
        .await;
    ids
}

/// The other records, with counts and times that no tool sets.
const GRAPH: &str = "INSERT INTO entity (project_id, name, name_key, words, type, properties, use_count, last_used_at, \
        created_at, updated_at) VALUES \
    (1, 'Ann', 'ann', 'ann', 'person', '{\"b\":1,\"a\":2}', 5, 1700000000000003, 1700000000000000, 1700000000000001), \
    (1, 'Bob', 'bob', 'bob', 'person', '{}', 0, NULL, 1, 2); \
    INSERT INTO relation (project_id, from_seq, to_seq, type, weight, properties, use_count, last_used_at, valid_from, \
        valid_to, created_at, updated_at) VALUES \
    (1, 1, 2, 'knows', 0.75, '{\"since\":\"school\"}', 3, 5, 6, 7, 8, 9), \
    (1, 1, 2, 'knows', 0.5, '{}', 1, NULL, 10, NULL, 11, 12), (1, 2, 1, 'knows', 1, '{}', 0, NULL, NULL, NULL, 13, 14); \
    INSERT INTO mention (memory_seq, entity_seq) VALUES (1, 1), (2, 1), (2, 2); \
    INSERT INTO focus (id, project_id, session, content, importance, created_at, touched_at) \
        VALUES (x'01900000000070008000000000000001', 1, '', 'in focus', 0.25, 9, 10); \
    INSERT INTO focus_archive (id, project_id, session, content, importance, memory_id, created_at, touched_at, archived_at, \
        reason) VALUES \
    (x'01900000000070008000000000000002', 1, 's', 'was in focus', 0.5, NULL, 11, 12, 13, 'evicted'), \
    (x'01900000000070008000000000000003', 1, '', 'became a memory', 0.5, (SELECT id FROM memory WHERE seq = 1), 14, 15, 16, 'promoted'); \
    UPDATE memory SET recall_count = 4, last_recalled_at = 1700000000000002 WHERE seq = 1";

async fn sql(path: &Path, text: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Returns a setup whose embedded database has one record of each kind.
pub(crate) async fn filled() -> (Setup, Vec<String>) {
    let setup = Setup::new();
    let server = setup.serve().await;
    let ids = fill(&server).await;
    server.stop().await;
    sql(&setup.database(), GRAPH).await;
    (setup, ids)
}

pub(crate) fn ok(ran: &Ran) -> &Ran {
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    ran
}

pub(crate) fn export(setup: &Setup, name: &str) -> String {
    let path = setup.path(name);
    ok(&setup.run(&["export", path.to_str().unwrap()]));
    std::fs::read_to_string(path).unwrap()
}

pub(crate) fn on_postgres(database: &Database) -> Setup {
    let url = database.options().to_url_lossy();
    Setup::new().env("MEMORY_DATABASE_URL", url.as_str())
}

#[tokio::test]
async fn a_round_trip_over_both_databases_changes_nothing() {
    needs!(Postgres);
    let (sqlite, ids) = filled().await;
    let original = export(&sqlite, "a.jsonl");
    let lines: Vec<Value> = original
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        json!({ "format": "cognitive-memory", "version": 1 })
    );
    let kinds = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(
        [
            "entity", "relation", "memory", "mention", "focus", "review", "end"
        ]
        .map(kinds),
        [2, 3, 9, 3, 3, 1, 1],
        "{original}"
    );
    let protected: Vec<&Value> = lines
        .iter()
        .filter(|line| line["protected"] == true)
        .collect();
    assert_eq!(
        (protected.len(), &protected[0]["recall_count"]),
        (1, &json!(4)),
        "{original}"
    );
    let review = lines.iter().find(|line| line["type"] == "review").unwrap();
    assert_eq!(
        (&review["memory"], &review["state"]),
        (&protected[0]["id"], &json!("open"))
    );
    assert_eq!(
        review["proposal"],
        json!({ "action": "update", "patch": { "content": "something else" } })
    );
    let insight = lines
        .iter()
        .find(|line| line["id"] == ids[0].as_str())
        .unwrap();
    assert_eq!(
        (&insight["version"], &insight["helpful"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(insight["history"][1]["old"]["content"], "insight on it");
    assert_eq!(insight["history"][1]["reason"], "clearer");

    let database = Database::empty().await;
    let postgres = on_postgres(&database);
    ok(&postgres.run(&["migrate"]));
    let file = sqlite.path("a.jsonl");
    let file = file.to_str().unwrap();
    let ran = postgres.run(&["import", file]);
    let stored = "21 records stored (memories: 9, entities: 2, items of working memory: 3, mentions: 3, relations: 3, \
        reviews: 1), 0 already there\n";
    assert_eq!(ok(&ran).stdout, stored, "{}", ran.stderr);
    assert_eq!(export(&postgres, "b.jsonl"), original);
    // A repeated import stores nothing twice.
    let ran = postgres.run(&["import", file]);
    assert_eq!(
        ok(&ran).stdout,
        "0 records stored, 21 already there\n",
        "{}",
        ran.stderr
    );
    assert_eq!(export(&postgres, "b2.jsonl"), original);

    let back = Setup::new();
    let b = postgres.path("b.jsonl");
    ok(&back.run(&["import", b.to_str().unwrap()]));
    assert_eq!(export(&back, "c.jsonl"), original);

    for setup in [&postgres, &back] {
        check_imported(setup, &ids, protected[0], review).await;
    }
}

/// Checks that imported memories are found, have their history and can be changed.
async fn check_imported(setup: &Setup, ids: &[String], protected: &Value, review: &Value) {
    let server = setup.serve().await;
    let client = server.client();
    let found = client
        .call("recall", json!({ "query": "better insight" }))
        .await;
    assert_eq!(found["hits"][0]["id"], ids[0].as_str(), "{found}");
    let status = client.call("status", json!({})).await;
    assert_eq!(
        (
            &status["memories"],
            &status["deleted"],
            &status["index_backlog"]
        ),
        (&json!(8), &json!(1), &json!(8))
    );
    client
        .call("forget", json!({ "ids": [ids[5]], "mode": "restore" }))
        .await;
    client
        .call("update", json!({ "id": ids[0], "tags": ["new"] }))
        .await;
    let got = client
        .call("get", json!({ "ids": [ids[0]], "history": true }))
        .await;
    assert_eq!(got["history"].as_array().unwrap().len(), 3, "{got}");
    let refused = client
        .call(
            "update",
            json!({ "id": protected["id"], "content": "something else" }),
        )
        .await;
    assert!(
        refused.to_string().contains(review["id"].as_str().unwrap()),
        "the review waits: {refused}"
    );
    let explored = client.call("explore", json!({ "name": "ANN" })).await;
    assert!(explored.to_string().contains("Bob"), "{explored}");
    let focus = client.call("focus", json!({})).await;
    assert!(focus.to_string().contains("in focus"), "{focus}");
    server.stop().await;
}

#[tokio::test]
async fn an_export_reads_beside_the_service_and_an_import_says_to_stop_it() {
    let setup = Setup::new();
    let server = setup.serve().await;
    fill(&server).await;
    let text = export(&setup, "a.jsonl");
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("{\"type\":\"memory\""))
            .count(),
        9
    );
    let piped = setup.run(&["export", "-"]);
    assert_eq!(ok(&piped).stdout, text);
    let file = setup.path("a.jsonl");
    let ran = setup.run(&["import", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(69), "{}", ran.stderr);
    assert!(ran.stderr.contains("stop the service"), "{}", ran.stderr);
    server.stop().await;
}

#[tokio::test]
async fn one_project_goes_out_and_into_another() {
    let (setup, _) = filled().await;
    let unknown = setup.run(&["export", "--project", "nobody", "-"]);
    assert_eq!(unknown.code, Some(64));
    assert!(
        unknown.stderr.contains("there are: default"),
        "{}",
        unknown.stderr
    );
    ok(&setup.run(&["export", "--project", "default", "a.jsonl"]));
    let other = Setup::new();
    let file = setup.path("a.jsonl");
    let file = file.to_str().unwrap();
    ok(&other.run(&["import", "--project", "work", file]));
    let text = export(&other, "b.jsonl");
    assert!(
        text.contains("\"project\":\"work\"") && !text.contains("\"project\":\"default\""),
        "{text}"
    );
    // The IDs are in use in another project: this is reported, and nothing is moved.
    let ran = other.run(&["import", file]);
    assert!(
        ran.stderr.contains("already exists in another project"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
}

#[tokio::test]
async fn unknown_fields_of_every_record_are_refused() {
    let (setup, _) = filled().await;
    let text = export(&setup, "a.jsonl");
    for kind in [
        "entity", "relation", "memory", "mention", "focus", "review", "end",
    ] {
        let line = format!("{{\"type\":\"{kind}\",");
        let changed = text.replacen(&line, &format!("{line}\"mood\":1,"), 1);
        assert_ne!(changed, text, "the export has a record of type {kind}");
        let target = Setup::new();
        let path = target.file("in.jsonl", &changed);
        let ran = target.run(&["import", path.to_str().unwrap()]);
        assert_eq!(ran.code, Some(1), "{kind}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("unknown field `mood`"),
            "{kind}: {}",
            ran.stderr
        );
    }
}

#[tokio::test]
async fn damaged_files_are_refused_with_the_line() {
    let (setup, _) = filled().await;
    let text = export(&setup, "a.jsonl");
    for (name, file, words) in damage_lines(&text) {
        check_refused(name, &file, &words);
    }
    for (name, old, new, words) in DAMAGED_FIELDS {
        assert!(text.contains(old), "{name}: {text}");
        check_refused(name, &text.replacen(old, new, 1), words);
    }
    let line = find_memory_line(&text);
    check_keep_going(&text, &replace_line(&text, line, "{\"type\":"), line + 1);
}

/// Values of fields that are refused: name, text in the file, replacement, words of the error.
const DAMAGED_FIELDS: [(&str, &str, &str, &str); 10] = [
    ("kind", "\"kind\":\"note\"", "\"kind\":\"poem\"", "kind"),
    (
        "field",
        "{\"type\":\"memory\"",
        "{\"mood\":1,\"type\":\"memory\"",
        "mood",
    ),
    (
        "old",
        "\"occurred_at\":\"20",
        "\"occurred_at\":\"19",
        "occurred_at",
    ),
    ("heavy", "\"weight\":0.75", "\"weight\":1.75", "weight"),
    (
        "self",
        "\"target\":{\"name\":\"Bob\"",
        "\"target\":{\"name\":\"ann\"",
        "target: expected the name of another entity",
    ),
    (
        "part of an episode",
        "\"lesson\":\"l\",",
        "",
        "expected situation, outcome and lesson together",
    ),
    (
        "number in an episode",
        "\"outcome\":-0.5",
        "\"outcome\":\"bad\"",
        "situation, outcome or lesson: invalid type",
    ),
    (
        "part of an archived item",
        "\"reason\":\"evicted\"",
        "\"reason\":null",
        "expected archived_at and reason together",
    ),
    (
        "backwards",
        "\"valid_to\":\"1970",
        "\"valid_to\":\"1969",
        "valid_to",
    ),
    (
        "changed",
        "it broke",
        "it works",
        "the file was changed after it was written",
    ),
];

/// Files with damaged lines: name, text, words of the error.
fn damage_lines(text: &str) -> Vec<(&'static str, String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let memory = find_memory_line(text);
    let without_end = lines[..lines.len() - 1].join("\n") + "\n";
    let nested = (0..20).fold("1".to_owned(), |inner, _| format!("{{\"x\":{inner}}}"));
    let nested = format!("\"metadata\":{nested},\"importance\"");
    let deep = lines[memory].replacen("\"importance\"", &nested, 1);
    let newer = "{\"format\":\"cognitive-memory\",\"version\":2}";
    let no_json = format!("line {}: this is not JSON", memory + 1);
    let damages = [
        ("empty", String::new(), "the file is empty"),
        (
            "foreign",
            "{\"name\":\"Ann\"}\n".to_owned(),
            "line 1: this is not an export",
        ),
        (
            "newer",
            replace_line(text, 0, newer),
            "version: expected 1, got 2",
        ),
        ("no end", without_end, &format!("line {}", lines.len() - 1)),
        ("cut", text[..text.len() / 2].to_owned(), "the line is cut"),
        (
            "no json",
            replace_line(text, memory, "{\"type\":"),
            &no_json,
        ),
        ("deep", replace_line(text, memory, &deep), "nested at most"),
        (
            "after",
            format!("{text}{}\n", lines[memory]),
            "after the end line",
        ),
    ];
    damages
        .map(|(name, file, words)| (name, file, words.to_owned()))
        .into()
}

fn find_memory_line(text: &str) -> usize {
    let mut lines = text.lines();
    lines
        .position(|line| line.contains("\"type\":\"memory\""))
        .unwrap()
}

fn replace_line(text: &str, at: usize, line: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines[at] = line;
    lines.join("\n") + "\n"
}

fn check_refused(name: &str, file: &str, words: &str) {
    let target = Setup::new();
    let path = target.file("in.jsonl", file);
    let ran = target.run(&["import", path.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{name}: {}", ran.stderr);
    assert!(ran.stderr.contains(words), "{name}: {}", ran.stderr);
    assert!(!target.database().exists(), "{name}: nothing was stored");
}

/// Checks that `--keep-going` stores everything that is not damaged.
fn check_keep_going(text: &str, damaged: &str, line: usize) {
    let target = Setup::new();
    let path = target.file("in.jsonl", damaged);
    let ran = target.run(&["import", "--keep-going", path.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains(&format!("line {line}: this is not JSON")),
        "{}",
        ran.stderr
    );
    // With the memory, its mention and its review are lost; the item that became the memory loses its link.
    assert!(
        ran.stdout.starts_with("18 records stored ("),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("), 0 already there, "),
        "{}",
        ran.stdout
    );
    let path = target.file("cut.jsonl", &text[..text.len() / 2]);
    let ran = target.run(&["import", "--keep-going", path.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("the line is cut"), "{}", ran.stderr);
}

#[tokio::test]
async fn an_interrupted_import_is_continued_by_doing_it_again() {
    let source = Setup::new();
    let text = write_large_export();
    let path = source.file("many.jsonl", &text);
    let mut child = source
        .command(&["import", path.to_str().unwrap()])
        .spawn()
        .unwrap();
    let count = || async {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(source.database())
            .read_only(true);
        let mut connection = options.connect().await.ok()?;
        let statement = AssertSqlSafe("SELECT count(*) FROM memory".to_owned());
        sqlx::query_scalar::<_, i64>(statement)
            .fetch_one(&mut connection)
            .await
            .ok()
    };
    // Killed after the import has begun.
    let end = std::time::Instant::now() + crate::process::PATIENCE;
    while count().await.unwrap_or(0) == 0 && child.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = count().await.unwrap();
    assert!(before > 0, "it had begun");
    let ran = source.run(&["import", path.to_str().unwrap()]);
    let rest = 5_000 - before;
    let expected = format!("{rest} records stored (memories: {rest}), {before} already there\n");
    assert_eq!(ok(&ran).stdout, expected);
    let server = source.serve().await;
    let status = server.client().call("status", json!({})).await;
    assert_eq!(status["memories"], 5_000);
    let found = server
        .client()
        .call("recall", json!({ "query": "number 4321" }))
        .await;
    assert!(
        found["hits"][0]["content"]
            .as_str()
            .unwrap()
            .contains("4321"),
        "{found}"
    );
    server.stop().await;
    // From standard input.
    let target = Setup::new();
    let mut command = target.command(&["import", "-"]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "5000 records stored (memories: 5000), 0 already there\n"
    );
}

/// An export of 5,000 memories.
fn write_large_export() -> String {
    let mut text = String::from("{\"format\":\"cognitive-memory\",\"version\":1}\n");
    let at = "2026-01-02T03:04:05Z";
    let mut hash = <sha2::Sha256 as sha2::Digest>::new();
    for n in 0..5_000_u128 {
        let id = uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n);
        let line = json!({ "type": "memory", "project": "default", "id": id, "kind": "note", "importance": 0.5,
            "content": format!("memory number {n} about topic{}", n % 50), "occurred_at": at, "created_at": at,
            "updated_at": at, "version": 1, "history": [{ "version": 1, "change": "created", "actor": "x", "at": at }] });
        let line = format!("{line}\n");
        sha2::Digest::update(&mut hash, line.as_bytes());
        text.push_str(&line);
    }
    let sha256: String = sha2::Digest::finalize(hash)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    text.push_str(&format!(
        "{}\n",
        json!({ "type": "end", "records": 5000, "sha256": sha256 })
    ));
    text
}

#[test]
fn an_export_to_a_place_that_cannot_be_written_is_a_usage_error() {
    let setup = Setup::new();
    assert_eq!(setup.run(&["migrate"]).code, Some(0));
    let ran = setup.run(&["export", "/sys/memory.jsonl"]);
    assert_eq!(ran.code, Some(64), "{}", ran.stderr);
    assert!(ran.stderr.contains("/sys/memory.jsonl"), "{}", ran.stderr);
}

#[tokio::test]
async fn an_export_of_a_clock_that_was_far_ahead_can_be_imported() {
    let setup = Setup::new();
    let server = setup.serve().await;
    server.client().remember("from the future").await;
    server.stop().await;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(setup.database())
        .connect()
        .await
        .unwrap();
    // The year 9000, as if the clock had been wrong when the memory was stored.
    let sql = "UPDATE memory SET occurred_at = 221845392000000000, created_at = 221845392000000000, \
        updated_at = 221845392000000000; UPDATE history SET at = 221845392000000000";
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let original = export(&setup, "a.jsonl");
    assert!(original.contains("\"9000-"), "{original}");
    let other = Setup::new();
    ok(&other.run(&["import", setup.path("a.jsonl").to_str().unwrap()]));
    assert_eq!(export(&other, "b.jsonl"), original);
}
