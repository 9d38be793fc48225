//! The embedded migrations: forward only, never edited after a release (a test hashes them), each applied once,
//! all pending ones in a single transaction.

use sqlx::{Row, SqliteConnection};

use super::error::from_sqlx;
use super::sql;
use crate::store::{Result, StoreError};

/// Marks the file as ours (`PRAGMA application_id`): the letters `CMem`.
const APPLICATION_ID: i64 = 0x434d_656d;

/// Name and text of every migration; the place in the list is its version, from 1.
pub(super) const MIGRATIONS: &[(&str, &str)] = &[("0001_memory", include_str!("migrations/0001_memory.sql"))];

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
