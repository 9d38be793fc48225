//! Reads the history page by page, and removes expired data.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::attempt::{Effect, attempt, read};
use super::fault::Fault;
use super::row_security::View;
use super::{PostgresStore, bounded, history_sql as sql};
use crate::domain::Scope;
use crate::store::statement::bind;
use crate::store::{
    Expired, Expiry, HistoryEntry, HistoryQuery, HistoryStore, MOST_KEY_BYTES, MOST_KEYS, Result,
    fields,
};

#[async_trait]
impl HistoryStore for PostgresStore {
    async fn history_page(&self, scope: &Scope, query: &HistoryQuery) -> Result<Vec<HistoryEntry>> {
        read!(self, scope, "read the history", connection, readable => async {
            let page = bind!(sqlx::query(sql::HISTORY_PAGE) =>
                &readable, query.memory, query.from.unwrap_or(i64::MAX), bounded(query.entries),
                bounded(query.bytes));
            self.transaction(connection, scope).fetch_all(page, read_entry).await
        })
    }

    async fn remove_expired(&self, expiry: &Expiry) -> Result<Expired> {
        attempt!(self.attempts(View::All, "remove what has expired", Effect::Repeatable)?, connection => remove_expired(connection, expiry))
    }
}

fn read_entry(row: &PgRow) -> sqlx::Result<HistoryEntry> {
    Ok(HistoryEntry {
        place: row.try_get("place")?,
        history: fields::history(row)?,
    })
}

async fn remove_expired(connection: &mut PgConnection, expiry: &Expiry) -> Result<Expired, Fault> {
    let mut expired = Expired::default();
    for (before, statement, count) in [
        (
            expiry.history_before,
            sql::EXPIRE_HISTORY,
            &mut expired.history,
        ),
        (expiry.keys_before, sql::EXPIRE_KEYS, &mut expired.keys),
    ] {
        let Some(before) = before else { continue };
        let done = bind!(sqlx::query(statement) => before, bounded(expiry.rows))
            .execute(&mut *connection)
            .await?;
        *count = done.rows_affected();
    }
    Ok(expired)
}

/// Removes the oldest idempotency keys of a project that has the maximum number, except `key` itself.
pub(super) async fn trim_keys(
    connection: &mut PgConnection,
    scope: &Scope,
    key: &str,
) -> Result<(), Fault> {
    bind!(sqlx::query(sql::TRIM_KEYS) => scope.project(), MOST_KEYS, MOST_KEY_BYTES, key)
        .execute(connection)
        .await?;
    Ok(())
}
