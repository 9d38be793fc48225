//! Imports other programs' data on the command line. tests/data/README.md names the programs that wrote it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};

use crate::postgres_server::Database;
use crate::process::{Ran, Setup};
use crate::requirement::needs;
use crate::transfer::{export, ok};

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

pub(crate) fn import(setup: &Setup, from: &str, path: &str, more: &[&str]) -> Ran {
    let args: Vec<&str> = ["import", "--from", from, path]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    setup.run(&args)
}

/// Imports twice and returns the records, without header and end.
fn imported(from: &str, path: &Path, created: u64) -> Vec<Value> {
    let setup = Setup::new();
    let path = path.to_str().unwrap();
    let first = import(&setup, from, path, &[]);
    let begin = format!("{created} records stored (memories: ");
    assert!(
        ok(&first).stdout.starts_with(&begin),
        "{} {}",
        first.stdout,
        first.stderr
    );
    assert!(
        first.stdout.contains("), 0 already there"),
        "{} {}",
        first.stdout,
        first.stderr
    );
    let again = import(&setup, from, path, &[]);
    let begin = format!("0 records stored, {created} already there");
    assert!(
        ok(&again).stdout.starts_with(&begin),
        "{} {}",
        again.stdout,
        again.stderr
    );
    records(&setup)
}

pub(crate) fn records(setup: &Setup) -> Vec<Value> {
    let text = export(setup, "all.jsonl");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines[1..lines.len() - 1].to_vec()
}

pub(crate) fn of<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records
        .iter()
        .filter(|record| record["type"] == kind)
        .collect()
}

#[test]
fn the_reference_server() {
    let records = imported(
        "mcp-memory-server",
        &data("mcp-memory-server/memory.jsonl"),
        13,
    );
    let names: Vec<&Value> = of(&records, "entity")
        .iter()
        .map(|entity| &entity["name"])
        .collect();
    assert_eq!(
        names,
        ["Ada Lovelace", "Analytical Engine", "Zürich office"]
    );
    let relation = of(&records, "relation")[0];
    assert_eq!(
        (&relation["kind"], &relation["target"]["name"]),
        (&json!("wrote programs for"), &json!("Analytical Engine"))
    );
    let memories = of(&records, "memory");
    assert_eq!(memories.len(), 4);
    assert_eq!(
        memories[1]["content"],
        "Ada Lovelace: Prefers tea over coffee"
    );
    assert_eq!(
        memories[1]["history"][0]["actor"],
        "import:mcp-memory-server"
    );
    assert_eq!(of(&records, "mention").len(), 4);
}

#[tokio::test]
async fn mcp_memory_service_as_json_and_as_a_file() {
    let by_json = imported(
        "mcp-memory-service",
        &data("mcp-memory-service/export.json"),
        2,
    );
    let decision = by_json
        .iter()
        .find(|record| record["metadata"]["ticket"] == "OPS-12")
        .unwrap();
    assert_eq!(decision["tags"], json!(["database", "decision", "ops"]));
    assert!(
        decision["created_at"]
            .as_str()
            .unwrap()
            .starts_with("2026-11-23T12:26:01.85"),
        "{decision}"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let sql = include_str!("../data/mcp-memory-service/memories.sql");
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    // Both ways create the same memories with the same IDs; memories deleted in the source are left out.
    let by_file = imported("mcp-memory-service", &path, 2);
    let ids = |records: &[Value]| {
        let mut ids: Vec<String> = records
            .iter()
            .map(|record| record["id"].to_string())
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&by_file), ids(&by_json));
}

#[test]
fn claude() {
    let records = imported("claude", &data("claude"), 3);
    let turns: Vec<(&Value, &Value, &Value)> = records
        .iter()
        .map(|record| (&record["turn"], &record["speaker"], &record["content"]))
        .collect();
    assert_eq!(
        turns,
        [
            (
                &json!(1),
                &json!("human"),
                &json!("How long does rye dough rest?\n\n[recipe.txt]\n500 g rye")
            ),
            (
                &json!(2),
                &json!("assistant"),
                &json!("Overnight,\n\nin a cool place.")
            ),
            (&json!(3), &json!("human"), &json!("Thanks")),
        ]
    );
    assert_eq!(records[0]["occurred_at"], "2025-05-01T08:00:01.123456Z");
    assert_eq!(records[0]["metadata"]["title"], "Bread");
}

#[test]
fn chatgpt_with_branches_and_a_broken_conversation() {
    let setup = Setup::new();
    let path = data("chatgpt/conversations.json");
    let path = path.to_str().unwrap();
    let ran = import(&setup, "chatgpt", path, &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(
        ran.stderr
            .contains("conversations.json, conversation 2 (line "),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("--keep-going"), "{}", ran.stderr);
    assert!(!setup.database().exists(), "nothing by halves");
    let ran = import(
        &setup,
        "chatgpt",
        path,
        &["--keep-going", "--project", "old"],
    );
    assert_eq!(
        ok(&ran).stdout,
        "3 records stored (memories: 3), 0 already there, 1 left out\n",
        "{}",
        ran.stderr
    );
    let records = records(&setup);
    let text = |record: &Value| (record["turn"].clone(), record["content"].clone());
    let turns: Vec<(Value, Value)> = records.iter().map(text).collect();
    assert_eq!(
        turns,
        [
            (json!(1), json!("Which train goes to Basel?")),
            (json!(2), json!("The one at ten.")),
            (Value::Null, json!("The one at nine.")),
        ]
    );
    assert_eq!(
        (&records[0]["project"], &records[0]["session"]),
        (&json!("old"), &json!("c-1"))
    );
}

#[test]
fn basic_memory_folder() {
    let records = imported("basic-memory", &data("basic-memory"), 10);
    let memories = of(&records, "memory");
    let coffee = memories
        .iter()
        .find(|memory| memory["metadata"]["title"] == "Coffee Brewing")
        .unwrap();
    assert_eq!(coffee["tags"], json!(["coffee", "hot", "kitchen"]));
    assert!(
        coffee["content"]
            .as_str()
            .unwrap()
            .contains("Pour over at 93 degrees"),
        "{coffee}"
    );
    let relations: Vec<(&Value, &Value)> = of(&records, "relation")
        .iter()
        .map(|relation| (&relation["kind"], &relation["target"]["name"]))
        .collect();
    assert!(
        relations.contains(&(&json!("pairs_with"), &json!("Chocolate"))),
        "{relations:?}"
    );
    assert!(
        relations.contains(&(&json!("part_of"), &json!("Morning Routine"))),
        "{relations:?}"
    );
    assert!(
        relations.contains(&(&json!("includes"), &json!("Coffee Brewing"))),
        "{relations:?}"
    );
}

/// Tables of another program.
const FOREIGN_TABLES: &str = "CREATE TABLE l0_raw (id serial, session_id text, timestamp timestamptz, speaker text, content text, metadata jsonb); \
        INSERT INTO l0_raw (session_id, timestamp, speaker, content, metadata) VALUES \
            ('s1', '2025-01-01 10:00:00+01', 'user', 'Where is the key?', '{\"a\":1}'), \
            ('s1', '2025-01-01 10:00:05+01', 'assistant', 'Under the mat.', NULL); \
        CREATE TABLE l2_insights (id serial, content text, created_at timestamptz, memory_strength float, embedding text, source_ids int[]); \
        INSERT INTO l2_insights (content, created_at, memory_strength, embedding, source_ids) \
            VALUES ('Keys are under mats', '2025-02-01', 0.9, '[1,2]', '{1,2}'); \
        CREATE TABLE episode_memory (id serial, query text, reward float, reflection text, created_at timestamptz); \
        INSERT INTO episode_memory (query, reward, reflection, created_at) VALUES ('find key', -0.5, 'Ask first', '2025-03-01'); \
        CREATE TABLE nodes (id uuid, label text, name text, properties jsonb); \
        INSERT INTO nodes VALUES ('00000000-0000-0000-0000-000000000001', 'thing', 'Key', '{\"metal\":true}'), \
            ('00000000-0000-0000-0000-000000000002', 'place', 'Mat', '{}'); \
        CREATE TABLE edges (id serial, source_id uuid, target_id uuid, relation text, weight float); \
        INSERT INTO edges (source_id, target_id, relation, weight) VALUES \
            ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002', 'lies_under', 0.5); \
        CREATE TABLE diary (day date, entry text); INSERT INTO diary VALUES ('2025-04-01', 'Found the key');";

#[tokio::test]
async fn tables_of_a_postgres_database() {
    needs!(Postgres);
    let database = Database::empty().await;
    let mut connection = database.connection().await;
    sqlx::raw_sql(FOREIGN_TABLES)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let setup = Setup::new();
    let url = database.options().to_url_lossy().to_string();
    let ran = import(&setup, "cognitive-memory-python", &url, &[]);
    assert!(
        ok(&ran).stdout.starts_with("7 records stored ("),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    assert!(
        ran.stderr.contains("table diary: skipped"),
        "{}",
        ran.stderr
    );
    let found = records(&setup);
    let by_kind = |kind: &str| found.iter().find(|record| record["kind"] == kind).unwrap();
    assert_eq!(by_kind("dialogue")["speaker"], "user");
    assert_eq!(by_kind("dialogue")["occurred_at"], "2025-01-01T09:00:00Z");
    assert_eq!(
        (
            &by_kind("insight")["importance"],
            by_kind("insight")["metadata"].get("embedding")
        ),
        (&json!(0.9), None)
    );
    assert_eq!(by_kind("insight")["metadata"]["source_ids"], json!([1, 2]));
    assert_eq!(
        (
            &by_kind("episode")["lesson"],
            &by_kind("episode")["outcome"]
        ),
        (&json!("Ask first"), &json!(-0.5))
    );
    let relation = of(&found, "relation")[0];
    assert_eq!(
        (&relation["source"]["name"], &relation["target"]["name"]),
        (&json!("Key"), &json!("Mat"))
    );
    // The caller supplies what the names do not state.
    let more = [
        "--table",
        "diary",
        "--column",
        "content=entry",
        "--column",
        "occurred_at=day",
    ];
    let ran = import(&setup, "cognitive-memory-python", &url, &more);
    assert_eq!(
        ok(&ran).stdout,
        "1 record stored (memories: 1), 0 already there\n",
        "{}",
        ran.stderr
    );
    let again = import(&setup, "cognitive-memory-python", &url, &[]);
    assert_eq!(
        ok(&again).stdout,
        "0 records stored, 7 already there\n",
        "{}",
        again.stderr
    );
    let wrong = import(
        &setup,
        "cognitive-memory-python",
        &url,
        &["--table", "nothing"],
    );
    assert!(
        wrong.code == Some(64) && wrong.stderr.contains("l2_insights"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn missing_and_unsuitable_files_are_named_with_the_next_step() {
    let setup = Setup::new();
    let text = setup.file("text.json", "dear diary");
    setup.file("conversations-000.json", "[]");
    for from in [
        "mcp-memory-server",
        "basic-memory",
        "mcp-memory-service",
        "claude",
        "chatgpt",
        "cognitive-memory-python",
    ] {
        let ran = import(&setup, from, "missing", &[]);
        if from != "cognitive-memory-python" {
            assert_eq!(ran.code, Some(64), "{from}: {}", ran.stderr);
            assert!(
                ran.stderr.contains("there is no such file or folder"),
                "{from}: {}",
                ran.stderr
            );
            assert!(
                ran.stderr.contains("conversations-000.json"),
                "{from} names what is there: {}",
                ran.stderr
            );
        }
        assert!(
            ran.code != Some(0) && !ran.stderr.is_empty(),
            "{from}: {}",
            ran.stdout
        );
        if from != "basic-memory" {
            let ran = import(&setup, from, text.to_str().unwrap(), &[]);
            assert!(
                ran.code != Some(0) && !ran.stderr.is_empty(),
                "{from}: {}",
                ran.stdout
            );
        }
        assert!(!setup.database().exists(), "{from}");
    }
}

/// A truncated file of any program is refused with the position, and nothing of it is stored.
#[test]
fn files_cut_in_the_middle() {
    for (from, name) in [
        ("mcp-memory-server", "mcp-memory-server/memory.jsonl"),
        ("mcp-memory-service", "mcp-memory-service/export.json"),
        ("claude", "claude/conversations.json"),
        ("chatgpt", "chatgpt/conversations.json"),
    ] {
        let setup = Setup::new();
        let whole = std::fs::read_to_string(data(name)).unwrap();
        let half = (whole.len() / 2..)
            .find(|at| whole.is_char_boundary(*at))
            .unwrap();
        // Not by chance at the end of a line.
        let half = whole[..half].trim_end().trim_end_matches(['}', ']', ',']);
        let path = setup.file("cut.json", half);
        let ran = import(&setup, from, path.to_str().unwrap(), &[]);
        assert_eq!(ran.code, Some(1), "{from}: {} {}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains("line"), "{from}: {}", ran.stderr);
        assert!(!setup.database().exists(), "{from}: nothing was stored");
    }
    // Lines are independent: with --keep-going, the intact ones are imported.
    let setup = Setup::new();
    let whole = std::fs::read_to_string(data("mcp-memory-server/memory.jsonl")).unwrap();
    let path = setup.file("cut.jsonl", &whole[..whole.len() - 10]);
    let ran = import(
        &setup,
        "mcp-memory-server",
        path.to_str().unwrap(),
        &["--keep-going"],
    );
    assert!(
        !ok(&ran).stdout.starts_with("0 ") && ran.stderr.contains("line"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
}
