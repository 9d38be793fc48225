//! The index of tags, which contains them in normalized form.

use sqlx::SqliteConnection;

use super::error::Fault;
use super::param::json;
use super::sql;
use crate::domain::validate::tag_key;
use crate::store::Result;

/// Number of index rows that are read per statement.
const PORTION: i64 = 500;

/// Returns the normalized form of tags as JSON text.
pub(super) fn tag_keys(tags: &[String]) -> String {
    json(&tags.iter().map(|tag| tag_key(tag)).collect::<Vec<_>>())
}

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
        let rows: Vec<(i64, String)> = sqlx::query_as(sql::TAG_INDEX)
            .bind(after.0)
            .bind(&after.1)
            .bind(PORTION)
            .fetch_all(&mut *connection)
            .await?;
        let Some(last) = rows.last() else { break };
        after = last.clone();
        for (memory, tag) in rows.iter().filter(|(_, tag)| tag_key(tag) != *tag) {
            let fold = sqlx::query(sql::FOLD_TAG)
                .bind(memory)
                .bind(tag)
                .bind(tag_key(tag));
            fold.execute(&mut *connection).await?;
        }
    }
    sqlx::query(sql::SET_META)
        .bind("tag_index")
        .bind("folded")
        .execute(&mut *connection)
        .await?;
    sqlx::query(sql::COMMIT).execute(connection).await?;
    Ok(())
}
