//! Reads the state at an earlier point in time.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::attempt::read;
use super::row::MemoryRow;
use super::{PostgresStore, bounded, review_sql as sql};
use crate::domain::{Memory, Scope};
use crate::store::statement::bind;
use crate::store::{
    Changed, MOST_CHANGED, MOST_CHANGED_BYTES, MOST_LINKS, PastStore, Result, Succession,
};

#[async_trait]
impl PastStore for PostgresStore {
    async fn changed_since(&self, scope: &Scope, at: DateTime<Utc>) -> Result<Changed> {
        let rows: Vec<ThenRow> = read!(self, scope, "look back", connection, readable => async {
            let query = bind!(sqlx::query_as(sql::CHANGED_SINCE) =>
                &readable, at, bounded(MOST_CHANGED));
            Ok(query.bind(bounded(MOST_CHANGED_BYTES)).fetch_all(connection).await?)
        })?;
        let partial = rows
            .first()
            .is_some_and(|row| row.all > bounded(rows.len()));
        let expired = rows.iter().any(|row| row.expired);
        let memories = rows
            .into_iter()
            .filter(|row| !row.expired)
            .map(|row| row.memory)
            .collect();
        Ok(Changed {
            memories,
            partial,
            expired,
        })
    }

    async fn chains(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Succession>> {
        let rows: Vec<(Uuid, Uuid, bool)> = read!(self, scope, "follow what replaced what", connection, readable => async {
            let query = bind!(sqlx::query_as(sql::CHAINS) => &readable, ids, bounded(MOST_LINKS));
            Ok(query.fetch_all(connection).await?)
        })?;
        Ok(rows
            .into_iter()
            .map(|(old, by, holds)| Succession { old, by, holds })
            .collect())
    }
}

/// A memory in its earlier state.
struct ThenRow {
    memory: Memory,
    /// The number of matching memories, some of which may not have been read.
    all: i64,
    /// Whether earlier changes have expired, so that the first remaining one may not be the first after
    /// the time.
    expired: bool,
}

impl FromRow<'_, PgRow> for ThenRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let MemoryRow(memory) = MemoryRow::from_row(row)?;
        let (old, later): (Value, i64) = (row.try_get("then")?, row.try_get("later_version")?);
        let mut then = memory.with_snapshot(&old);
        then.version = later - 1;
        let changed_before: Option<DateTime<Utc>> = row.try_get("changed_before")?;
        then.updated_at = changed_before.unwrap_or(memory.created_at);
        let expired = later > 2 && changed_before.is_none();
        Ok(Self {
            memory: then,
            all: row.try_get("all")?,
            expired,
        })
    }
}
