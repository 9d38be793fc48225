//! Conversion of rows to domain types.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::domain::Memory;
use crate::store::memory_columns::read_memory;
use crate::store::row_reader::{Fields, decoding_error, plain_fields};

type Result<T> = std::result::Result<T, Error>;

/// Times are stored as microseconds; lists and objects as JSON texts.
impl Fields for SqliteRow {
    plain_fields!();

    fn uuids(&self, column: &str) -> Result<Vec<Uuid>> {
        parsed_json(self, column)
    }

    fn texts(&self, column: &str) -> Result<Vec<String>> {
        parsed_json(self, column)
    }

    fn optional_json(&self, column: &str) -> Result<Option<Value>> {
        match self.try_get::<Option<&str>, _>(column)? {
            Some(_) => parsed_json(self, column).map(Some),
            None => Ok(None),
        }
    }

    fn optional_time(&self, column: &str) -> Result<Option<DateTime<Utc>>> {
        self.optional_integer(column)?.map(moment).transpose()
    }
}

fn parsed_json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T> {
    serde_json::from_str(row.try_get(column)?)
        .map_err(|error| decoding_error(column, &error.to_string()))
}

/// A memory as it is stored.
#[derive(Debug)]
pub(super) struct MemoryRow {
    /// Number of the project.
    pub(super) project: i64,
    pub(super) memory: Memory,
}

impl MemoryRow {
    pub(super) fn read(row: &SqliteRow) -> Result<Self> {
        Ok(Self {
            project: row.try_get("project_id")?,
            memory: read_memory(row)?,
        })
    }
}

/// Reads a list of IDs written by [`super::hex_ids`] or by SQLite's `hex`.
pub(super) fn ids(row: &SqliteRow, column: usize) -> Result<Vec<Uuid>> {
    json::<Vec<Uuid>>(row, column)
}

pub(super) fn json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: usize) -> Result<T> {
    serde_json::from_str(row.try_get::<&str, _>(column)?).map_err(decode)
}

/// Reads a value that is stored as a word, for example a kind.
pub(super) fn word<T: std::str::FromStr<Err = String>>(
    row: &SqliteRow,
    column: usize,
) -> Result<T> {
    row.try_get::<&str, _>(column)?
        .parse()
        .map_err(|error: String| Error::Decode(error.into()))
}

pub(super) fn time(row: &SqliteRow, column: usize) -> Result<Option<DateTime<Utc>>> {
    row.try_get::<Option<i64>, _>(column)?
        .map(moment)
        .transpose()
}

/// Converts a time, which is stored in microseconds.
pub(super) fn moment(microseconds: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_micros(microseconds)
        .ok_or_else(|| Error::Decode(format!("{microseconds} is no time").into()))
}

fn decode(error: serde_json::Error) -> Error {
    Error::Decode(Box::new(error))
}
