//! Isolation of projects: tokens, quotas, and PostgreSQL's row-level security behind the service's
//! own checks.

use std::path::Path;
use std::sync::Arc;

use cognitive_memory_mcp::domain::graph::{NewEntity, NewRelation};
use cognitive_memory_mcp::domain::memory::Patch;
use cognitive_memory_mcp::domain::token::Token;
use cognitive_memory_mcp::domain::{
    Decision, Filter, Links, NewMemory, Proposal, ReviewState, Scope,
};
use cognitive_memory_mcp::store::focus::{FocusStore as _, NewFocus};
use cognitive_memory_mcp::store::graph::EntityQuery;
use cognitive_memory_mcp::store::postgres::{RowSecurity, VectorSearch};
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use cognitive_memory_mcp::store::{
    Decide, Embedded, Expiry, ForgetMode, Limits, NewReview, ReviewStore as _, Store, StoreError,
    StoredToken, TokenStore, Update, VectorQuery,
};
use serde_json::Map;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::contract::{analyzer, at, forget, new_id, note, remember, store_one};
use crate::postgres_server::Database;
use crate::requirement::needs;

mod quota;
mod row_security;
mod token;

async fn sqlite(folder: &Path, limits: Limits) -> Arc<dyn Store> {
    let options = SqliteOptions {
        limits,
        ..SqliteOptions::new(folder.join("memory.db"))
    };
    let store = SqliteStore::open(options, analyzer());
    store.prepare().await.unwrap();
    Arc::new(store)
}

async fn postgres(database: &Database, limits: Limits) -> Arc<dyn Store> {
    let store = database.store().with_limits(limits);
    store.prepare().await.unwrap();
    Arc::new(store)
}
