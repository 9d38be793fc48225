//! Reads on the reading connections.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::error::Fault;
use super::filter::bind_filter;
use super::row::MemoryRow;
use super::{Open, hex_ids, json_numbers, sql};
use crate::domain::{Filter, Memory, Scope};
use crate::store::statement::bind;
use crate::store::{Counts, Result};

/// Converts a limit for SQLite.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Returns the name of a project's term in the index.
pub(super) fn indexed(project: i64, term: &str) -> String {
    format!("{project}:{term}")
}

pub(super) async fn browse(
    open: &Open,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    most: usize,
) -> Result<Vec<Memory>, Fault> {
    let (mut connection, projects) = open.reader(scope).await?;
    let mut statement = bind!(sqlx::query(sql::browse(filter, &projects)) =>
        json_numbers(&projects), before, limit(most));
    for _ in 4..10 {
        statement = statement.bind(None::<i64>);
    }
    // Rows are converted one by one, because each contains a copy of all texts.
    Ok(bind_filter!(statement, filter)
        .try_map(|row: SqliteRow| MemoryRow::read(&row).map(|row| row.memory))
        .fetch_all(&mut *connection)
        .await?)
}

pub(super) async fn get(
    open: &Open,
    scope: &Scope,
    ids: &[Uuid],
    include_deleted: bool,
) -> Result<Vec<Memory>, Fault> {
    let (mut connection, projects) = open.reader(scope).await?;
    let rows = memories(&mut connection, &projects, ids).await?;
    let mut found: HashMap<Uuid, Memory> = rows
        .into_iter()
        .filter(|row| include_deleted || row.memory.deleted_at.is_none())
        .map(|row| (row.memory.id, row.memory))
        .collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// Returns memories of `projects` by ID, in any order and any state.
pub(super) async fn memories(
    connection: &mut SqliteConnection,
    projects: &[i64],
    ids: &[Uuid],
) -> Result<Vec<MemoryRow>, Fault> {
    Ok(
        bind!(sqlx::query(sql::GET) => json_numbers(projects), hex_ids(ids))
            .try_map(|row: SqliteRow| MemoryRow::read(&row))
            .fetch_all(connection)
            .await?,
    )
}

pub(super) async fn counts(open: &Open, scope: &Scope) -> Result<Counts, Fault> {
    let (mut connection, projects) = open.reader(scope).await?;
    let projects = json_numbers(&projects);
    let kinds = sqlx::query(sql::COUNT_KINDS)
        .bind(&projects)
        .fetch_all(&mut *connection)
        .await?;
    let rest = sqlx::query(sql::COUNT_REST)
        .bind(&projects)
        .fetch_one(&mut *connection)
        .await?;
    let number = |row: &sqlx::sqlite::SqliteRow, column: usize| {
        row.try_get::<i64, _>(column).map(i64::unsigned_abs)
    };
    let by_kind = kinds
        .iter()
        .map(|row| Ok((row.try_get(0)?, number(row, 1)?)))
        .collect::<Result<_, sqlx::Error>>();
    Ok(Counts {
        by_kind: by_kind?,
        deleted: number(&rest, 0)?,
        superseded: number(&rest, 1)?,
        index_backlog: number(&rest, 2)?,
    })
}
