//! Finds out whether a connection pooler hands each transaction to another session of the server.
//!
//! This store keeps settings, its role and prepared statements in the session, and holds locks of it. Behind a pooler
//! in transaction mode they would be lost, or end up in the session of somebody else.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use uuid::Uuid;

use super::fault::{self, Fault};

/// How often the two connections take turns. A pooler with more idle sessions than this may go unnoticed here; then the
/// errors that follow from it are reported as what they are, see [`fault::translate`].
const ROUNDS: usize = 8;

/// Refuses a server that is reached through a pooler in transaction mode.
///
/// A mark is set in the session of one connection while a second one opens transactions. With sessions of their own
/// the first keeps its mark and the second never sees it. The simple protocol is used, since poolers in that mode may
/// not know prepared statements.
pub(super) async fn refuse_transaction_mode(options: &PgConnectOptions) -> Result<(), Fault> {
    let (mut first, mut second) = (options.connect().await?, options.connect().await?);
    let pooled = sessions_are_shared(&mut first, &mut second).await;
    // Whether the goodbyes arrive does not matter.
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
