//! Reads tables of other programs' SQLite files as JSON objects.
//!
//! The file may be damaged or crafted by an attacker. Only ordinary tables are read, because a view or a virtual
//! table could compute forever. The size of the file limits the amount of values that are read, because pages
//! that refer to each other could repeat the same rows endlessly.

use std::path::Path;

use futures_util::TryStreamExt;
use serde_json::{Map, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection, TypeInfo, ValueRef};

use super::error::from_sqlx;
use crate::store::{Result, StoreError};

/// Longer texts are left out of their row.
const LONGEST_TEXT: i64 = 16 * 1024 * 1024;
/// Rows may have this much more text than the file has bytes, because recently written pages are in the log.
const EXTRA_BYTES: u64 = 64 * 1024 * 1024;
/// Names of ordinary tables: those with their own pages that are neither views nor virtual.
const TABLES: &str = "SELECT CAST(name AS BLOB) FROM sqlite_schema \
    WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite%' ORDER BY name";
/// Columns of a table, except generated ones.
const COLUMNS: &str = "SELECT CAST(name AS BLOB) FROM pragma_table_info($1) ORDER BY cid";

/// A file opened for reading.
#[derive(Debug)]
pub struct ForeignFile {
    connection: SqliteConnection,
    /// Size of the file in bytes.
    size: u64,
}

/// A row of a table.
#[derive(Debug, Default)]
pub struct ForeignRow {
    /// Values by column name; values without a JSON equivalent are null.
    pub fields: Map<String, Value>,
    /// Descriptions of values that could not be read unchanged.
    pub oddities: Vec<String>,
}

fn failed(error: sqlx::Error) -> StoreError {
    match from_sqlx(error, "reading the other program's file") {
        // The usual advice would concern our own database.
        StoreError::Setup {
            source: Some(source),
            ..
        } => StoreError::Setup {
            reason: format!(
                "the other program's SQLite file cannot be read ({source}); check it with `sqlite3 FILE 'PRAGMA integrity_check'`"
            ),
            source: Some(source),
        },
        other => other,
    }
}

fn endless() -> StoreError {
    let reason =
        "the table gives more data than the file has: its pages refer to each other in circles"
            .to_owned();
    StoreError::Setup {
        reason,
        source: None,
    }
}

/// Quotes a name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl ForeignFile {
    /// Opens a file.
    ///
    /// # Errors
    /// Fails if it is not an SQLite file or not readable.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .pragma("query_only", "ON")
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            .disable_statement_logging();
        let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(Self {
            connection: options.connect().await.map_err(failed)?,
            size,
        })
    }

    /// Returns the names of ordinary tables.
    ///
    /// # Errors
    /// Fails if the schema is not readable.
    pub async fn tables(&mut self) -> Result<Vec<String>> {
        let names: Vec<Vec<u8>> = sqlx::query_scalar(TABLES)
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        Ok(names
            .into_iter()
            .filter_map(|name| String::from_utf8(name).ok())
            .collect())
    }

    /// Passes every row of a table to `each`, in storage order.
    ///
    /// # Errors
    /// Fails if the table is not readable, and with the errors of `each`.
    pub async fn rows<E: From<StoreError>>(
        &mut self,
        table: &str,
        mut each: impl FnMut(ForeignRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let names: Vec<Vec<u8>> = sqlx::query_scalar(COLUMNS)
            .bind(table)
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let columns: Vec<String> = names
            .into_iter()
            .filter_map(|name| String::from_utf8(name).ok())
            .collect();
        if columns.is_empty() {
            return Ok(());
        }
        // Each column yields a value and whether it was too long. Blobs are vectors, which are recomputed.
        let values: Vec<String> = columns
            .iter()
            .map(|column| {
                let name = quoted(column);
                format!(
                    "CASE WHEN typeof({name}) = 'blob' OR octet_length({name}) > {LONGEST_TEXT} THEN NULL ELSE {name} END, \
                     typeof({name}) <> 'blob' AND octet_length({name}) > {LONGEST_TEXT}"
                )
            })
            .collect();
        let statement = format!(
            "SELECT {} FROM {} NOT INDEXED",
            values.join(", "),
            quoted(table)
        );
        let mut budget = self.size.saturating_add(EXTRA_BYTES);
        let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let row = read_row(&row, &columns, &mut budget)?;
            each(row)?;
        }
        Ok(())
    }

    /// Closes the connection.
    pub async fn close(self) {
        // Nothing was written, so a failure loses nothing.
        let _ = self.connection.close().await;
    }
}

fn read_row(row: &SqliteRow, columns: &[String], budget: &mut u64) -> Result<ForeignRow> {
    let mut read = ForeignRow::default();
    // Every row occupies some bytes of the file.
    let mut bytes = 1;
    for (index, column) in columns.iter().enumerate() {
        let raw = row.try_get_raw(index * 2).map_err(failed)?;
        let value = match raw.type_info().name() {
            _ if raw.is_null() => Value::Null,
            "INTEGER" => Value::from(row.try_get_unchecked::<i64, _>(index * 2).map_err(failed)?),
            "REAL" => Value::from(row.try_get_unchecked::<f64, _>(index * 2).map_err(failed)?),
            _ => {
                let text: &[u8] = row.try_get_unchecked(index * 2).map_err(failed)?;
                bytes += text.len() as u64;
                let decoded = String::from_utf8_lossy(text);
                if matches!(decoded, std::borrow::Cow::Owned(_)) {
                    read.oddities.push(format!(
                        "{column} is not valid UTF-8: undecodable bytes were replaced by U+FFFD"
                    ));
                }
                Value::String(decoded.into_owned())
            }
        };
        if row
            .try_get_unchecked::<Option<bool>, _>(index * 2 + 1)
            .map_err(failed)?
            == Some(true)
        {
            read.oddities.push(format!(
                "{column} is longer than {} MiB: left out",
                LONGEST_TEXT / 1024 / 1024
            ));
        }
        read.fields.insert(column.clone(), value);
    }
    *budget = budget.checked_sub(bytes).ok_or_else(endless)?;
    Ok(read)
}
