//! The databases for measurements.

use std::sync::Arc;

use cognitive_memory_mcp::domain::Analyzer;
use cognitive_memory_mcp::store::Store;
use cognitive_memory_mcp::store::postgres::PostgresStore;
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use sqlx::{Connection, PgConnection};
use tokio::runtime::Runtime;

/// A database, and its address if other connections can be opened.
pub(crate) type Measured = (&'static str, Arc<dyn Store>, Option<String>);

/// Vacuums and analyzes a PostgreSQL database, as its server does some time after many writes, so that measurements do
/// not depend on when it runs.
pub(crate) fn settle(runtime: &Runtime, url: Option<&str>) {
    let Some(url) = url else { return };
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url)
            .await
            .expect("the PostgreSQL server answers");
        sqlx::raw_sql("VACUUM ANALYZE")
            .execute(&mut connection)
            .await
            .expect("may tidy");
        connection.close().await.expect("it was open");
    });
}

/// Opens an embedded database in `folder`, and a PostgreSQL database if MEMORY_TEST_POSTGRES names a server on which
/// databases may be created. Neither is prepared.
#[expect(clippy::disallowed_methods, reason = "a program that measures")]
pub(crate) fn stores(
    runtime: &Runtime,
    bench: &str,
    folder: &std::path::Path,
    analyzer: &Arc<Analyzer>,
) -> Vec<Measured> {
    let sqlite = SqliteStore::open(
        SqliteOptions::new(folder.join("memory.db")),
        Arc::clone(analyzer),
    );
    let mut stores: Vec<Measured> = vec![("sqlite", Arc::new(sqlite), None)];
    if let Ok(server) = std::env::var("MEMORY_TEST_POSTGRES") {
        let name = format!("bench_{bench}_{}", std::process::id());
        let url = runtime.block_on(async {
            let pool = sqlx::PgPool::connect(&server)
                .await
                .expect("the PostgreSQL server answers");
            let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
            sqlx::query(create)
                .execute(&pool)
                .await
                .expect("may create databases");
            format!(
                "{}/{name}",
                server.rsplit_once('/').expect("a database in the URL").0
            )
        });
        let store = PostgresStore::new(url.parse().expect("a URL"), 4, Arc::clone(analyzer));
        stores.push(("postgres", Arc::new(store), Some(url)));
    }
    stores
}
