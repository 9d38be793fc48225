//! Reads the state at an earlier point in time.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Row, SqliteConnection};
use uuid::Uuid;

use super::error::Fault;
use super::row::{self, MemoryRow};
use super::{Open, SqliteStore, hex_ids, json_numbers, review_sql as sql};
use crate::domain::{Memory, Scope};
use crate::store::statement::bind;
use crate::store::{
    Changed, MOST_CHANGED, MOST_CHANGED_BYTES, MOST_LINKS, PastStore, Result, Succession,
};

/// Number of memories that are read per statement, each with its earlier state.
const PORTION: usize = 32;

#[async_trait]
impl PastStore for SqliteStore {
    async fn changed_since(&self, scope: &Scope, at: DateTime<Utc>) -> Result<Changed> {
        let open = self.opened()?;
        self.bounded("looking back", changed_since(&open, scope, at))
            .await
    }

    async fn chains(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<Succession>> {
        self.read(
            "following what replaced what",
            scope,
            async |connection, projects| {
                let rows: Vec<(Uuid, Uuid, bool)> = bind!(sqlx::query_as(sql::CHAINS) =>
                    json_numbers(&projects), hex_ids(ids), MOST_LINKS as i64)
                .fetch_all(&mut *connection)
                .await?;
                Ok(rows
                    .into_iter()
                    .map(|(old, by, holds)| Succession { old, by, holds })
                    .collect())
            },
        )
        .await
    }
}

/// One transaction reads everything, because memories may change and history may expire meanwhile.
async fn changed_since(open: &Open, scope: &Scope, at: DateTime<Utc>) -> Result<Changed, Fault> {
    let (mut connection, projects) = open.reader(scope).await?;
    let mut snapshot = connection.begin().await?;
    let micros = at.timestamp_micros();
    let sizes: Vec<(i64, i64)> = bind!(sqlx::query_as(sql::CHANGED_SINCE) =>
        json_numbers(&projects), micros, MOST_CHANGED as i64 + 1)
    .fetch_all(&mut *snapshot)
    .await?;
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
    let (mut memories, mut expired) = (Vec::with_capacity(read), false);
    for portion in numbers.chunks(PORTION) {
        for memory in read_as_of(&mut snapshot, portion, micros).await? {
            match memory {
                Some(memory) => memories.push(memory),
                None => expired = true,
            }
        }
    }
    snapshot.commit().await?;
    let places: HashMap<i64, usize> = numbers.iter().copied().zip(0..).collect();
    memories.sort_by_key(|memory| places.get(&memory.seq));
    Ok(Changed {
        memories,
        partial: read < sizes.len(),
        expired,
    })
}

/// Returns memories in their state at a time. `None` stands for a memory whose earlier changes have expired, because
/// the first remaining change may not be the first after the time.
async fn read_as_of(
    connection: &mut SqliteConnection,
    numbers: &[i64],
    micros: i64,
) -> Result<Vec<Option<Memory>>, Fault> {
    let memories: Vec<Memory> = sqlx::query(sql::CHANGED)
        .bind(json_numbers(numbers))
        .try_map(|row: SqliteRow| MemoryRow::read(&row).map(|row| row.memory))
        .fetch_all(&mut *connection)
        .await?;
    let mut memories: HashMap<i64, Memory> = memories
        .into_iter()
        .map(|memory| (memory.seq, memory))
        .collect();
    let restored: Vec<Option<Option<Memory>>> = bind!(sqlx::query(sql::FIRST_CHANGE) =>
        json_numbers(numbers), micros)
    .try_map(|row: SqliteRow| {
        let (seq, version): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (old, changed_at): (Value, _) = (row::json(&row, 2)?, row::time(&row, 3)?);
        Ok(memories
            .remove(&seq)
            .map(|memory| restore(&memory, version, &old, changed_at)))
    })
    .fetch_all(&mut *connection)
    .await?;
    Ok(restored.into_iter().flatten().collect())
}

/// Returns the memory before its change to `version`.
fn restore(
    memory: &Memory,
    version: i64,
    old: &Value,
    changed_at: Option<DateTime<Utc>>,
) -> Option<Memory> {
    if version > 2 && changed_at.is_none() {
        return None;
    }
    let mut then = memory.with_snapshot(old);
    then.version = version - 1;
    then.updated_at = changed_at.unwrap_or(memory.created_at);
    Some(then)
}
