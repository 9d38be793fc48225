//! Detects connection poolers that assign each transaction to another session of the server.
//!
//! This store keeps settings, its role, prepared statements and locks in the session. Behind a pooler in transaction
//! mode they would be lost or affect another client's session.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use uuid::Uuid;

use super::fault::{self, Fault};

/// Number of rounds with both connections. A pooler with more idle sessions may go undetected here;
/// [`fault::translate`] then reports the resulting errors with their cause.
const ROUNDS: usize = 8;

/// Refuses a server that is reached through a pooler in transaction mode.
///
/// One connection sets a mark in its session while a second one opens transactions. If both have their own sessions,
/// the first keeps its mark and the second never sees it. The test uses the simple protocol, because poolers in that
/// mode may not support prepared statements.
pub(super) async fn refuse_transaction_mode(options: &PgConnectOptions) -> Result<(), Fault> {
    let (mut first, mut second) = (options.connect().await?, options.connect().await?);
    let pooled = sessions_are_shared(&mut first, &mut second).await;
    // A failure to close does not matter.
    let _ = second.close().await;
    let _ = first.close().await;
    if pooled? {
        Err(fault::transaction_pooling(options, None).into())
    } else {
        Ok(())
    }
}

async fn sessions_are_shared(
    first: &mut PgConnection,
    second: &mut PgConnection,
) -> sqlx::Result<bool> {
    let mark = Uuid::new_v4().simple().to_string();
    let set = format!("SELECT set_config('memory.session', '{mark}', false)");
    sqlx::raw_sql(AssertSqlSafe(set))
        .execute(&mut *first)
        .await?;
    for _ in 0..ROUNDS {
        sqlx::raw_sql("BEGIN").execute(&mut *second).await?;
        let foreign = session_mark(second).await? == mark;
        let own = session_mark(first).await? == mark;
        sqlx::raw_sql("ROLLBACK").execute(&mut *second).await?;
        if foreign || !own {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn session_mark(connection: &mut PgConnection) -> sqlx::Result<String> {
    let row = sqlx::raw_sql("SELECT coalesce(current_setting('memory.session', true), '') AS mark")
        .fetch_one(connection)
        .await?;
    row.try_get("mark")
}
