//! Databases of commit 625b3ea still open, upgrade, and keep everything. `tests/data/databases/make.py` wrote them.

use std::path::Path;

use chrono::{DateTime, Utc};
use cognitive_memory_mcp::domain::memory::Patch;
use cognitive_memory_mcp::domain::{Decision, Scope};
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use cognitive_memory_mcp::store::{
    Decide, ForgetMode, Idempotency, Pace, Remember, ReviewQuery, Store, StoreError, Update,
};
use cognitive_memory_mcp::transfer::{self, TransferError, format};
use sqlx::{ConnectOptions, Connection};

use crate::contract::{analyzed, analyzer, found, note};
use crate::postgres_server::Database;
use crate::requirement::needs;

const SQLITE_FILE: &[u8] = include_bytes!("../data/databases/625b3ea.db");
const SQLITE_EXPORT: &str = include_str!("../data/databases/625b3ea-sqlite.jsonl");
const POSTGRES_DUMP: &str = include_str!("../data/databases/625b3ea-postgres.sql");
const POSTGRES_EXPORT: &str = include_str!("../data/databases/625b3ea-postgres.jsonl");

/// Rows of the tables that an export leaves out.
const NOT_EXPORTED: &str = "SELECT (SELECT count(*) FROM embedding), (SELECT count(*) FROM idempotency), \
    (SELECT count(*) FROM index_job), (SELECT count(*) FROM token)";
const NOT_EXPORTED_ROWS: (i64, i64, i64, i64) = (14, 1, 1, 2);

fn scope() -> Scope {
    Scope::new("default", "tester")
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_800_000_000_000_000).unwrap()
}

/// Returns the records of a store as the lines of an export.
async fn exported_lines(store: &dyn Store) -> Vec<String> {
    let mut snapshot = store.snapshot(&scope()).await.unwrap();
    let mut text = Vec::new();
    let failed = |error: std::io::Error| -> TransferError { panic!("{error}") };
    transfer::export_snapshot(&mut *snapshot, &mut text, &failed, &mut |_| {})
        .await
        .unwrap();
    record_lines(&String::from_utf8(text).unwrap())
}

/// Returns the records of an export as this version writes them, without the first and last line.
fn record_lines(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let records = &lines[1..lines.len() - 1];
    assert_eq!(records.len(), 28);
    records.iter().map(|line| normalized_line(line)).collect()
}

fn normalized_line(line: &str) -> String {
    let format::Line::Record(record) = format::read_line(line).unwrap() else {
        panic!("no record: {line}");
    };
    format::write_line(&record)
}

/// Checks that the database has everything that the program of that commit exported, and is usable.
async fn keeps_everything(store: &dyn Store, export: &str) {
    assert_eq!(exported_lines(store).await, record_lines(export));
    assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), []);
    let tokens = store.tokens().await.unwrap();
    let names: Vec<(&str, bool)> = tokens
        .iter()
        .map(|stored| {
            (
                stored.token.name.as_str(),
                stored.token.revoked_at.is_some(),
            )
        })
        .collect();
    assert_eq!(names, [("laptop", false), ("lost", true)]);
    let repeated = Remember {
        items: analyzed(vec![note("Something else.")]),
        idempotency: Some(Idempotency {
            key: "walrus".to_owned(),
            request_hash: [0; 32],
        }),
        now: now(),
    };
    let refused = store.remember(&scope(), repeated).await;
    assert!(
        matches!(refused, Err(StoreError::IdempotencyConflict { .. })),
        "{refused:?}"
    );
    assert_eq!(store.index_backlog().await.unwrap(), 1);
    change_everything(store).await;
    assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), []);
}

/// Changes the old rows in ways that follow references between tables.
async fn change_everything(store: &dyn Store) {
    let scope = scope();
    let insight = found(store, &scope, "Walruses depend on ice.").await[0];
    let insight = store
        .get(&scope, &[insight], false)
        .await
        .unwrap()
        .remove(0);
    let source = insight.sources[0];
    let update = Update {
        id: source,
        expected_version: Some(1),
        patch: Patch {
            content: Some("The walrus prefers shallow bays.".to_owned()),
            ..Patch::default()
        },
        reason: None,
        now: now(),
    };
    assert_eq!(store.update(&scope, update).await.unwrap().version, 2);
    let approved = store.reviews(&scope, &ReviewQuery::All, 10).await.unwrap();
    let approved = approved
        .into_iter()
        .find(|review| review.applied_version.is_some())
        .unwrap();
    let undo = Decide {
        id: approved.id,
        decision: Decision::Undo,
        reason: None,
        now: now(),
    };
    store.decide(&scope, &undo).await.unwrap();
    let radio = store.focus_archived(&scope, "", None, 10).await.unwrap();
    let radio = radio[0].item.memory.unwrap();
    store
        .forget(&scope, &[source, radio], ForgetMode::Purge, None, now())
        .await
        .unwrap();
    let insight = store.get(&scope, &[insight.id], false).await.unwrap();
    assert!(insight[0].sources.is_empty(), "{insight:?}");
    let archive = store.focus_archived(&scope, "", None, 10).await.unwrap();
    assert_eq!(archive, [], "a purge reaches the archive");
}

#[tokio::test]
async fn sqlite_file_of_625b3ea_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    std::fs::write(&path, SQLITE_FILE).unwrap();
    let store = SqliteStore::open(SqliteOptions::new(&path), analyzer());
    store.prepare().await.unwrap();
    assert_eq!(sqlite_rows(&path).await, NOT_EXPORTED_ROWS);
    keeps_everything(&store, SQLITE_EXPORT).await;
    store.close().await;
}

async fn sqlite_rows(path: &Path) -> (i64, i64, i64, i64) {
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    let rows = sqlx::query_as(NOT_EXPORTED)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    rows
}

#[tokio::test]
async fn postgres_dump_of_625b3ea_keeps_everything() {
    needs!(Postgres);
    let database = Database::empty().await;
    let mut connection = database.connection().await;
    sqlx::raw_sql(POSTGRES_DUMP)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let store = database.store();
    store.prepare().await.unwrap();
    let rows: (i64, i64, i64, i64) = sqlx::query_as(NOT_EXPORTED)
        .fetch_one(&mut database.connection().await)
        .await
        .unwrap();
    assert_eq!(rows, NOT_EXPORTED_ROWS);
    keeps_everything(&store, POSTGRES_EXPORT).await;
    store.close().await;
}
