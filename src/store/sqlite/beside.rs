//! Read-only connections while another process has the file open.

use std::path::Path;

use sqlx::{ConnectOptions, SqliteConnection};

use super::error::{from_sqlx, name_disk};
use super::lock::{canonical, owner};
use super::{connect_options, schema, with_suffix};
use crate::store::{Result, StoreError};

/// Opens the file and reads its version. SQLite creates a shared-memory file next to it unless the file is declared
/// immutable.
async fn open_to_read(path: &Path, immutable: bool) -> Result<(SqliteConnection, usize)> {
    let options = connect_options(path)
        .pragma("query_only", "ON")
        .immutable(immutable);
    let opened = options.connect().await;
    let mut connection =
        opened.map_err(|error| name_disk(from_sqlx(error, "opening the file"), path))?;
    let version = schema::version(&mut connection)
        .await
        .map_err(|error| name_disk(error, path))?;
    Ok((connection, version))
}

/// Returns whether no process has the database open and the log is empty. Then the file can be read even if its disk is
/// full or read-only, and no service could start there meanwhile.
fn is_at_rest(path: &Path) -> bool {
    let log = with_suffix(&canonical(path), "-wal");
    owner(path).is_none() && std::fs::metadata(log).map_or(true, |data| data.len() == 0)
}

/// Opens a connection while another process may have the file open, and reads the version of the schema.
pub(super) async fn open_at_any_version(path: &Path) -> Result<(SqliteConnection, usize)> {
    match open_to_read(path, false).await {
        Err(_) if is_at_rest(path) => open_to_read(path, true).await,
        opened => opened,
    }
}

/// Opens such a connection, and fails unless the schema is up to date.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection> {
    if !std::fs::metadata(path).is_ok_and(|data| data.len() > 0) {
        let reason = format!("there is no database at {}", path.display());
        return Err(StoreError::Setup {
            reason,
            source: None,
        });
    }
    let (connection, version) = open_at_any_version(path).await?;
    if !schema::pending(version).is_empty() {
        let reason = format!(
            "the database {} has the older schema {version}: start the service once, or run `cognitive-memory-mcp \
             migrate`",
            path.display()
        );
        return Err(StoreError::Setup {
            reason,
            source: None,
        });
    }
    Ok(connection)
}
