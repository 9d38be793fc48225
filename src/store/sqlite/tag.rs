//! The index of tags, which contains them in normalized form.

use sqlx::SqliteConnection;

use super::error::Fault;
use super::sql;
use crate::domain::validate::tag_key;
use crate::store::Result;
use crate::store::statement::bind;

/// Number of index rows that are read per statement.
const PORTION: i64 = 500;

/// Converts the index of tags to the normalized form, once per database.
pub(super) async fn fold_tag_index(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let folded: Option<String> = sqlx::query_scalar(sql::META)
        .bind("tag_index")
        .fetch_optional(&mut *connection)
        .await?;
    if folded.is_some() {
        return Ok(());
    }
    sqlx::query(sql::BEGIN).execute(&mut *connection).await?;
    let mut after = (0_i64, String::new());
    loop {
        let rows: Vec<(i64, String)> = bind!(sqlx::query_as(sql::TAG_INDEX) =>
            after.0, &after.1, PORTION)
        .fetch_all(&mut *connection)
        .await?;
        let Some(last) = rows.last() else { break };
        after = last.clone();
        for (memory, tag) in rows.iter().filter(|(_, tag)| tag_key(tag) != *tag) {
            let fold = bind!(sqlx::query(sql::FOLD_TAG) => memory, tag, tag_key(tag));
            fold.execute(&mut *connection).await?;
        }
    }
    bind!(sqlx::query(sql::SET_META) => "tag_index", "folded")
        .execute(&mut *connection)
        .await?;
    sqlx::query(sql::COMMIT).execute(connection).await?;
    Ok(())
}
