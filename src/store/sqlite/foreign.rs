//! Tables of other programs' SQLite files, as JSON objects.

use std::path::Path;

use serde_json::{Map, Value};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};

use super::error::from_sqlx;
use crate::store::{Result, StoreError};

/// Rows that are in memory at once.
const PAGE: i64 = 500;
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name";
const COLUMNS: &str = "SELECT name FROM pragma_table_info($1) ORDER BY cid";

/// A file that is only read.
#[derive(Debug)]
pub struct ForeignFile {
    connection: SqliteConnection,
}

fn failed(error: sqlx::Error) -> StoreError {
    from_sqlx(error, "reading the other program's file")
}

/// A name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl ForeignFile {
    /// Opens it.
    ///
    /// # Errors
    /// When it is no SQLite file or cannot be read.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .pragma("query_only", "ON")
            .disable_statement_logging();
        Ok(Self { connection: options.connect().await.map_err(failed)? })
    }

    /// Names of its tables.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn tables(&mut self) -> Result<Vec<String>> {
        sqlx::query_scalar(TABLES).fetch_all(&mut self.connection).await.map_err(failed)
    }

    /// Gives every row of a table to `each`, in the order of storage.
    ///
    /// # Errors
    /// When it cannot be read, or what `each` says.
    pub async fn rows<E: From<StoreError>>(
        &mut self,
        table: &str,
        mut each: impl FnMut(Map<String, Value>) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns: Vec<String> =
            sqlx::query_scalar(COLUMNS).bind(table).fetch_all(&mut self.connection).await.map_err(failed)?;
        let pairs: Vec<String> = columns
            .iter()
            .map(|column| {
                let text = column.replace('\'', "''");
                let name = quoted(column);
                format!("'{text}', CASE typeof({name}) WHEN 'blob' THEN NULL ELSE {name} END")
            })
            .collect();
        let statement = format!(
            "SELECT rowid, json_object({}) FROM {} WHERE rowid > $1 ORDER BY rowid LIMIT {PAGE}",
            pairs.join(", "),
            quoted(table)
        );
        let mut after = i64::MIN;
        loop {
            let rows = sqlx::query(AssertSqlSafe(statement.clone()))
                .bind(after)
                .fetch_all(&mut self.connection)
                .await
                .map_err(failed)?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in &rows {
                after = row.try_get(0).map_err(failed)?;
                let text: &str = row.try_get(1).map_err(failed)?;
                each(serde_json::from_str(text).unwrap_or_default())?;
            }
        }
    }

    /// Ends the connection.
    pub async fn close(self) {
        // Nothing was written, so nothing can be lost.
        let _ = self.connection.close().await;
    }
}
