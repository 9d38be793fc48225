//! The embedded migrations: forward only, never edited after a release (a test hashes them), each applied once,
//! all pending ones in a single transaction.

use sqlx::{Row, SqliteConnection};

use super::error::from_sqlx;
use super::sql;
use crate::store::{Result, StoreError};

/// Marks the file as ours (`PRAGMA application_id`): the letters `CMem`.
const APPLICATION_ID: i64 = 0x434d_656d;

/// Name and text of every migration; the place in the list is its version, from 1.
pub(super) const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_memory", include_str!("migrations/0001_memory.sql")),
    ("0002_graph", include_str!("migrations/0002_graph.sql")),
    ("0003_review", include_str!("migrations/0003_review.sql")),
    ("0004_project", include_str!("migrations/0004_project.sql")),
    ("0005_trace", include_str!("migrations/0005_trace.sql")),
    ("0006_history", include_str!("migrations/0006_history.sql")),
];

/// The newest version that this binary knows.
pub(super) const NEWEST: usize = MIGRATIONS.len();

const STATE: &str = "SELECT (SELECT user_version FROM pragma_user_version), \
    (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)";

/// Which version the database has, 0 for an empty one.
///
/// # Errors
/// When it belongs to somebody else, or to a newer binary.
pub(super) async fn version(connection: &mut SqliteConnection) -> Result<usize> {
    let row = sqlx::query(STATE)
        .fetch_one(connection)
        .await
        .map_err(|error| from_sqlx(error, "reading the schema version"))?;
    let read = |column| row.try_get::<i64, _>(column).map_err(|error| from_sqlx(error, "reading the schema version"));
    let (version, application, objects) = (read(0)?, read(1)?, read(2)?);
    if application != APPLICATION_ID && (objects > 0 || application != 0) {
        return Err(setup("the file is a SQLite database of another program; name another file".to_owned()));
    }
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > NEWEST {
        return Err(setup(format!(
            "the embedded database has schema {version}, this binary knows {NEWEST}; upgrade cognitive-memory-mcp, \
             or restore a backup made before the upgrade"
        )));
    }
    Ok(version)
}

/// Names of what [`migrate`] would apply to a database of `version`.
pub(super) fn pending(version: usize) -> Vec<String> {
    MIGRATIONS[version..].iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Applies what is missing. Cheap when nothing is.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<()> {
    if version(connection).await? == NEWEST {
        return Ok(());
    }
    let failed = |error| from_sqlx(error, "migrating the schema");
    sqlx::query(sql::BEGIN).execute(&mut *connection).await.map_err(failed)?;
    // Read again under the lock: somebody may have been faster.
    let from = version(connection).await?;
    for (_, text) in &MIGRATIONS[from..] {
        sqlx::raw_sql(*text).execute(&mut *connection).await.map_err(failed)?;
    }
    let mark = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {NEWEST}; COMMIT");
    sqlx::raw_sql(sqlx::AssertSqlSafe(mark)).execute(&mut *connection).await.map_err(failed)?;
    Ok(())
}

fn setup(reason: String) -> StoreError {
    StoreError::Setup { reason, source: None }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Executor, SqlSafeStr};

    use super::super::{focus_sql, graph_sql, sql};
    use super::*;
    use crate::domain::{Filter, Kind};

    /// A migration that was released must stay as it is: other machines have applied it. Until the first release
    /// the line may be changed along with the file.
    #[test]
    fn migrations_are_never_edited() {
        let known = [
            "a964d7893b8ae8b64cf979f21a29939fb6a325b1dc3362fc02ef10d0a1c9a99f",
            "63ddca300ca33feba16791b27d3e83cf5b71e2de3b5bfdb8d025295c16433fdb",
            "d08d4a864860fc7de0577f38b78f915107804780d2a595096b3421141a253dcf",
            "8ec3eaf5c99f5be09a35a89f9db8d9801c933d006d701d445c33216ebd4f1940",
            "803e6577bfe79ed96e060ca341c14b6a9b28efc904d2d12059497a003a378fbe",
            "df3d6f9a0f956368a7a878e191456f14b95c0c221e952d624531b19b4c49294d",
        ];
        assert_eq!(known.len(), MIGRATIONS.len());
        for ((name, text), known) in MIGRATIONS.iter().zip(known) {
            let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, known, "{name}");
        }
    }

    async fn migrated() -> SqliteConnection {
        let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        migrate(&mut connection).await.unwrap();
        connection
    }

    #[tokio::test]
    async fn every_statement_fits_the_schema() {
        let mut connection = migrated().await;
        for (name, text) in
            sql::ALL.iter().chain(graph_sql::ALL).chain(focus_sql::ALL).chain(super::super::review_sql::ALL)
        {
            for part in text.split("; ") {
                let prepared = connection.prepare(sqlx::AssertSqlSafe(part).into_sql_str()).await;
                assert!(prepared.is_ok(), "{name}: {prepared:?}");
            }
        }
    }

    #[tokio::test]
    async fn every_filter_fits_the_schema() {
        let mut connection = migrated().await;
        let now = chrono::DateTime::UNIX_EPOCH;
        for bits in 0..512_u32 {
            let on = |bit: u32| bits >> bit & 1 == 1;
            let filter = Filter {
                kinds: if on(0) { vec![Kind::Note] } else { Vec::new() },
                tags: if on(1) { vec!["a".to_owned()] } else { Vec::new() },
                session: on(2).then(String::new),
                speaker: on(3).then(String::new),
                since: on(4).then_some(now),
                until: on(5).then_some(now),
                min_importance: on(6).then_some(0.0),
                include_outdated: on(7),
                now,
                unchanged: on(8),
            };
            for projects in [&[1][..], &[1, 2]] {
                for statement in [sql::browse(&filter, projects), sql::candidates(&filter, projects)] {
                    connection.prepare(statement.into_sql_str()).await.unwrap();
                }
            }
        }
    }

    /// These are on the way of every recall, at any size: no scan of a table, no sort of all that is there.
    #[tokio::test]
    async fn recall_reads_no_more_than_it_needs() {
        let mut connection = migrated().await;
        let filter = Filter::at(chrono::DateTime::UNIX_EPOCH);
        let statements = [
            sql::browse(&filter, &[1]).0,
            sql::candidates(&filter, &[1]).0,
            sql::LENGTHS.to_owned(),
            sql::EQUAL.to_owned(),
            sql::GET.to_owned(),
            super::super::review_sql::CHANGED_SINCE.to_owned(),
            super::super::review_sql::CHANGED.to_owned(),
            super::super::review_sql::CHAINS.to_owned(),
        ];
        for statement in statements {
            let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let rows = sqlx::query(explained).fetch_all(&mut connection).await.unwrap();
            for row in rows {
                let step: String = row.try_get("detail").unwrap();
                assert!(!step.starts_with("SCAN m"), "{step}\n{statement}");
            }
        }
    }
}
