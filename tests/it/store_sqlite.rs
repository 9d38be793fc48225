//! The embedded store: the contract, and what is SQLite's own.

use std::path::Path;
use std::sync::Arc;

use cognitive_memory_mcp::store::Store;
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};

use crate::contract::{Fixture, analyzer, contract_tests};

fn store(path: &Path) -> SqliteStore {
    SqliteStore::open(SqliteOptions::new(path), analyzer())
}

async fn fresh() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("memory.db"));
    store.prepare().await.unwrap();
    Fixture { store: Arc::new(store), _keep: Box::new(folder) }
}

contract_tests!(sqlite, crate::store_sqlite::fresh);
