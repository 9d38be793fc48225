//! Both databases have the same tables with the same columns, except for the differences listed
//! here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cognitive_memory_mcp::store::Store;
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::contract::analyzer;
use crate::postgres_server::Database;
use crate::requirement::needs;

/// Columns by table.
type Columns = BTreeMap<String, BTreeSet<String>>;

/// Tables and columns that only SQLite has, each with the reason.
const ONLY_SQLITE: &[(&str, &str)] = &[
    // One process counts; PostgreSQL has `corpus` and `usage`, sharded for many servers.
    ("project.documents", "corpus"),
    ("project.total_length", "corpus"),
    ("project.memories", "usage"),
    ("project.bytes", "usage"),
    ("project.history_bytes", "usage"),
    // One process writes; PostgreSQL has `recall_stat`, whose narrow rows are updated in place.
    ("memory.recall_count", "recall_stat"),
    ("memory.last_recalled_at", "recall_stat"),
    // SQLite has no index over an array; PostgreSQL has `memory.tag_keys`.
    ("memory_tag", "memory.tag_keys"),
    // FTS5; PostgreSQL has `posting`.
    ("memory_term", "posting"),
    ("memory_term_row", "posting"),
    ("memory_term_instance", "posting"),
    // Tables of FTS5 and of SQLite itself.
    ("memory_term_config", "fts5"),
    ("memory_term_data", "fts5"),
    ("memory_term_idx", "fts5"),
    ("sqlite_sequence", "AUTOINCREMENT"),
];

/// Tables and columns that only PostgreSQL has, each with the reason.
const ONLY_POSTGRES: &[(&str, &str)] = &[
    ("posting", "memory_term"),
    ("corpus", "project.documents"),
    ("usage", "project.bytes"),
    ("recall_stat", "memory.recall_count"),
    ("memory.tag_keys", "memory_tag"),
    // SQLite has `PRAGMA user_version`.
    ("schema_migration", "user_version"),
    ("project.created_at", "for people"),
    // The creation of a memory has no row in the history, so that a `remember` writes one row less.
    ("memory.created_by", "history"),
    // Several servers may store equal memories at the same moment.
    ("memory.content_claim", "one process writes"),
    ("memory.turn_claim", "one process writes"),
    // Row-level security needs the project of a row in every table.
    ("embedding.project_id", "row security"),
    ("history.project_id", "row security"),
    ("mention.project_id", "row security"),
    ("source.project_id", "row security"),
];

async fn sqlite_columns(path: &Path) -> Columns {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    by_table(rows)
}

async fn postgres_columns(database: &Database) -> Columns {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public'",
    )
    .fetch_all(&mut database.connection().await)
    .await
    .unwrap();
    by_table(rows)
}

fn by_table(rows: Vec<(String, String)>) -> Columns {
    let mut columns = Columns::new();
    for (table, column) in rows {
        columns.entry(table).or_default().insert(column);
    }
    columns
}

/// Returns the tables and columns of `one` that `other` lacks.
fn missing_names(one: &Columns, other: &Columns) -> BTreeSet<String> {
    let mut missing = BTreeSet::new();
    for (table, columns) in one {
        match other.get(table) {
            None => drop(missing.insert(table.clone())),
            Some(known) => missing.extend(
                columns
                    .difference(known)
                    .map(|column| format!("{table}.{column}")),
            ),
        }
    }
    missing
}

fn names(listed: &[(&str, &str)]) -> BTreeSet<String> {
    listed.iter().map(|(name, _)| (*name).to_owned()).collect()
}

#[tokio::test]
async fn both_databases_have_the_same_names() {
    needs!(Postgres);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let store = SqliteStore::open(SqliteOptions::new(&path), analyzer());
    store.prepare().await.unwrap();
    store.close().await;
    let sqlite = sqlite_columns(&path).await;
    let postgres = postgres_columns(&Database::migrated().await).await;
    assert_eq!(missing_names(&sqlite, &postgres), names(ONLY_SQLITE));
    assert_eq!(missing_names(&postgres, &sqlite), names(ONLY_POSTGRES));
}
