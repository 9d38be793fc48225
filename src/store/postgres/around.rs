//! What stands around the memories that were found.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use super::attempt::{Effect, attempt};
use super::row::{setting, standing};
use super::{FilterColumns, PostgresStore, bounded, sql};
use crate::domain::Scope;
use crate::store::graph::{MOST_MENTIONS, MOST_NAMED, Mentioning};
use crate::store::{Around, AroundQuery, AroundStore, Neighbour, Result};

#[async_trait]
impl AroundStore for PostgresStore {
    async fn around(&self, scope: &Scope, query: &AroundQuery) -> Result<Around> {
        let columns = FilterColumns::new(scope, &query.filter);
        let projects: Vec<i64> = query.turns.iter().map(|turn| turn.project).collect();
        let sessions: Vec<&str> = query.turns.iter().map(|turn| turn.session.as_str()).collect();
        let numbers: Vec<i64> = query.turns.iter().map(|turn| turn.number).collect();
        let mut attempts = self.attempts(scope, "look around", Effect::Read)?;
        let rows: Vec<AroundRow> = attempt!(attempts, connection => async {
            Ok(columns
                .bind(sqlx::query_as(sql::AROUND))
                .bind(&query.names)
                .bind(MOST_NAMED)
                .bind(MOST_MENTIONS)
                .bind(bounded(query.mentioning))
                .bind(query.filter.unchanged)
                .bind(&projects)
                .bind(&sessions)
                .bind(&numbers)
                .fetch_all(connection)
                .await?)
        })?;
        let mut around = Around::default();
        for row in rows {
            match row {
                AroundRow::Turn(neighbour) => around.turns.push(neighbour),
                AroundRow::Mentioning(mentioning, named) => {
                    around.named.named = named;
                    around.named.memories.push(mentioning);
                }
            }
        }
        Ok(around)
    }
}

enum AroundRow {
    Turn(Neighbour),
    /// With the number of names that were found.
    Mentioning(Mentioning, usize),
}

impl FromRow<'_, PgRow> for AroundRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let (id, seq) = (row.try_get("id")?, row.try_get("seq")?);
        Ok(match row.try_get("names")? {
            Some(names) => {
                let named: i64 = row.try_get("named")?;
                Self::Mentioning(Mentioning { id, seq, names }, usize::try_from(named).unwrap_or_default())
            }
            None => Self::Turn(Neighbour { id, seq, standing: standing(row)?, setting: setting(row)? }),
        })
    }
}
