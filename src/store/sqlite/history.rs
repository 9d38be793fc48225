//! Reads the history page by page, and removes expired data.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use sqlx::{Connection as _, Row, SqliteConnection};

use super::error::Fault;
use super::read::limit;
use super::{Open, SqliteStore, json_numbers, sql};
use crate::domain::Scope;
use crate::store::statement::bind;
use crate::store::{
    Expired, Expiry, HistoryEntry, HistoryQuery, HistoryStore, MOST_KEY_BYTES, MOST_KEYS, Result,
    fields,
};

#[async_trait]
impl HistoryStore for SqliteStore {
    async fn history_page(&self, scope: &Scope, query: &HistoryQuery) -> Result<Vec<HistoryEntry>> {
        let open = self.opened()?;
        self.bounded("reading the history", history_page(&open, scope, query))
            .await
    }

    async fn remove_expired(&self, expiry: &Expiry) -> Result<Expired> {
        let open = self.opened()?;
        self.write("removing what has expired", async |connection, _| {
            let expired = remove_expired(connection, expiry).await?;
            if expired.history > 0 {
                // As after a purge, removed data must not remain in the write-ahead log.
                open.purged.store(true, Ordering::Relaxed);
            }
            Ok(expired)
        })
        .await
    }
}

/// The sizes are read first, so that no more text is loaded than fits into the page. One transaction reads both, because
/// expired entries may be removed meanwhile.
async fn history_page(
    open: &Open,
    scope: &Scope,
    query: &HistoryQuery,
) -> Result<Vec<HistoryEntry>, Fault> {
    let (mut connection, projects) = open.reader(scope).await?;
    let mut snapshot = connection.begin().await?;
    let sizes: Vec<(i64, i64)> = bind!(sqlx::query_as(sql::HISTORY_PLACES) =>
        json_numbers(&projects), query.memory, query.from, limit(query.entries))
    .fetch_all(&mut *snapshot)
    .await?;
    let mut places = Vec::with_capacity(sizes.len());
    let mut left = query.bytes;
    for (place, size) in sizes {
        let size = usize::try_from(size).unwrap_or_default();
        if size > left && places.len() >= 2 {
            break;
        }
        left = left.saturating_sub(size);
        places.push(place);
    }
    let rows = sqlx::query(sql::HISTORY_ENTRIES)
        .bind(json_numbers(&places))
        .fetch_all(&mut *snapshot)
        .await?;
    snapshot.commit().await?;
    let entry = |row: &sqlx::sqlite::SqliteRow| {
        Ok(HistoryEntry {
            place: row.try_get("seq")?,
            history: fields::history(row)?,
        })
    };
    Ok(rows.iter().map(entry).collect::<sqlx::Result<_>>()?)
}

async fn remove_expired(
    connection: &mut SqliteConnection,
    expiry: &Expiry,
) -> Result<Expired, Fault> {
    let mut expired = Expired::default();
    for (before, statement, count) in [
        (
            expiry.history_before,
            sql::EXPIRE_HISTORY,
            &mut expired.history,
        ),
        (
            expiry.keys_before,
            sql::EXPIRE_IDEMPOTENT,
            &mut expired.keys,
        ),
    ] {
        let Some(before) = before else { continue };
        let done = bind!(sqlx::query(statement) => before.timestamp_micros(), limit(expiry.rows))
            .execute(&mut *connection)
            .await?;
        *count = done.rows_affected();
    }
    Ok(expired)
}

/// Removes the oldest idempotency keys of a project that has more than the maximum number.
pub(super) async fn trim_keys(
    connection: &mut SqliteConnection,
    project: i64,
) -> Result<(), Fault> {
    bind!(sqlx::query(sql::TRIM_IDEMPOTENT) => project, MOST_KEYS, MOST_KEY_BYTES)
        .execute(connection)
        .await?;
    Ok(())
}
