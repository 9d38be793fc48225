//! Looks into the past.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use super::error::from_sqlx;
use super::row::{self, MemoryRow};
use super::{Open, SqliteStore, hex_ids, json_numbers, review_sql as sql};
use crate::domain::{Memory, Scope};
use crate::store::{
    Changed, Link, MOST_CHANGED, MOST_CHANGED_BYTES, MOST_LINKS, PastStore, Result,
};

#[async_trait]
impl PastStore for SqliteStore {
    async fn changed_since(&self, scope: &Scope, at: DateTime<Utc>) -> Result<Changed> {
        let open = self.opened()?;
        self.bounded(changed_since(&open, scope, at)).await
    }

    async fn chains(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Link>> {
        let open = self.opened()?;
        self.bounded(async {
            let (mut connection, projects) = open.reader(scope).await?;
            let failed = |error| from_sqlx(error, "following what replaced what");
            let rows: Vec<(Uuid, Uuid, bool)> = sqlx::query_as(sql::CHAINS)
                .bind(json_numbers(&projects))
                .bind(hex_ids(ids))
                .bind(MOST_LINKS as i64)
                .fetch_all(&mut *connection)
                .await
                .map_err(failed)?;
            Ok(rows
                .into_iter()
                .map(|(old, by, holds)| Link { old, by, holds })
                .collect())
        })
        .await
    }
}

async fn changed_since(open: &Open, scope: &Scope, at: DateTime<Utc>) -> Result<Changed> {
    let (mut connection, projects) = open.reader(scope).await?;
    let failed = |error| from_sqlx(error, "looking back");
    let micros = at.timestamp_micros();
    let sizes: Vec<(i64, i64)> = sqlx::query_as(sql::CHANGED_SINCE)
        .bind(json_numbers(&projects))
        .bind(micros)
        .bind(MOST_CHANGED as i64 + 1)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut left = MOST_CHANGED_BYTES as i64;
    let mut fits = |(number, (_, size)): (usize, &(i64, i64))| {
        left -= size;
        number == 0 || (number < MOST_CHANGED && left >= 0)
    };
    let read = sizes
        .iter()
        .enumerate()
        .map(&mut fits)
        .take_while(|fits| *fits)
        .count();
    let numbers: Vec<i64> = sizes.iter().take(read).map(|(seq, _)| *seq).collect();
    let rows = sqlx::query(sql::CHANGED)
        .bind(json_numbers(&numbers))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let memories: Vec<Memory> = rows
        .iter()
        .map(|row| MemoryRow::read(row).map(|row| row.memory))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let seqs: Vec<i64> = memories.iter().map(|memory| memory.seq).collect();
    let rows = sqlx::query(sql::FIRST_CHANGE)
        .bind(json_numbers(&seqs))
        .bind(micros)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut before: HashMap<i64, (i64, Value, Option<DateTime<Utc>>)> =
        HashMap::with_capacity(rows.len());
    for row in &rows {
        let entry = (
            row.try_get(1).map_err(failed)?,
            row::json(row, 2).map_err(failed)?,
            row::time(row, 3).map_err(failed)?,
        );
        before.insert(row.try_get(0).map_err(failed)?, entry);
    }
    let mut expired = false;
    // What changed between the two statements has no older entry, and then is not what it was: left out. So is a memory
    // whose earlier changes have expired, since the first change that is left may not be the first after the time.
    let then: Vec<Memory> = memories
        .into_iter()
        .filter_map(|memory| {
            let (version, old, changed_at) = before.remove(&memory.seq)?;
            if version > 2 && changed_at.is_none() {
                expired = true;
                return None;
            }
            let mut then = memory.with_snapshot(&old);
            then.version = version - 1;
            then.updated_at = changed_at.unwrap_or(memory.created_at);
            Some(then)
        })
        .collect();
    Ok(Changed {
        memories: then,
        partial: read < sizes.len(),
        expired,
    })
}
