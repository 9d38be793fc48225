//! Conversion of values to parameters of statements.

use chrono::{DateTime, Utc};
use sqlx::Sqlite;
use sqlx::sqlite::SqliteArguments;

use crate::domain::validate::tag_key;

pub(super) type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}

pub(super) fn micros(time: Option<DateTime<Utc>>) -> Option<i64> {
    time.map(|time| time.timestamp_micros())
}

/// Returns the normalized form of tags as JSON text.
pub(super) fn tag_keys(tags: &[String]) -> String {
    json(&tags.iter().map(|tag| tag_key(tag)).collect::<Vec<_>>())
}
