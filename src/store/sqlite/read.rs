//! What only reads, on one of the readers.

use std::collections::HashMap;

use sqlx::Row;
use uuid::Uuid;

use super::error::from_sqlx;
use super::row::{self, MemoryRow};
use super::{Open, hex_ids, json_numbers, sql};
use crate::domain::lexical::{B, CorpusStats, K1, MAX_DOCUMENT_FREQUENCY};
use crate::domain::{Filter, History, Memory, Scope};
use crate::store::{Candidate, Counts, LexicalQuery, Result};

/// A limit as SQLite takes it.
fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The index's name of a project's term.
pub(super) fn indexed(project: i64, term: &str) -> String {
    format!("{project}:{term}")
}

/// Binds the arguments of [`sql::conditions`]: places 10 to 17.
macro_rules! bind_filter {
    ($query:expr, $filter:expr) => {{
        let kinds: Vec<&str> = $filter.kinds.iter().map(|kind| kind.as_str()).collect();
        $query
            .bind(serde_json::to_string(&kinds).expect("texts always serialise"))
            .bind(serde_json::to_string(&$filter.tags).expect("texts always serialise"))
            .bind($filter.session.as_deref())
            .bind($filter.speaker.as_deref())
            .bind($filter.since.map(|time| time.timestamp_micros()))
            .bind($filter.until.map(|time| time.timestamp_micros()))
            .bind($filter.min_importance)
            .bind($filter.now.timestamp_micros())
    }};
}

pub(super) async fn corpus_stats(open: &Open, scope: &Scope, terms: &[String]) -> Result<CorpusStats> {
    let (mut connection, projects) = open.reader(scope).await?;
    // Places in the list tell the term: one after the other, project by project.
    let wanted: Vec<String> =
        projects.iter().flat_map(|project| terms.iter().map(|term| indexed(*project, term))).collect();
    let failed = |error| from_sqlx(error, "reading the corpus");
    let rows = sqlx::query(sql::CORPUS_STATS)
        .bind(json_numbers(&projects))
        .bind(serde_json::to_string(&wanted).expect("texts always serialise"))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut stats = CorpusStats { document_frequencies: vec![0; terms.len()], ..CorpusStats::default() };
    for row in rows {
        let place: Option<i64> = row.try_get(0).map_err(failed)?;
        let count: u64 = row.try_get::<Option<i64>, _>(1).map_err(failed)?.map_or(0, i64::unsigned_abs);
        match place.and_then(|place| usize::try_from(place).ok()) {
            Some(place) => stats.document_frequencies[place % terms.len()] += count,
            None => {
                stats.documents = count;
                stats.total_length = row.try_get::<Option<i64>, _>(2).map_err(failed)?.map_or(0, i64::unsigned_abs);
            }
        }
    }
    for frequency in &mut stats.document_frequencies {
        *frequency = (*frequency).min(MAX_DOCUMENT_FREQUENCY);
    }
    Ok(stats)
}

pub(super) async fn search_lexical(open: &Open, scope: &Scope, query: &LexicalQuery) -> Result<Vec<Candidate>> {
    let (mut connection, projects) = open.reader(scope).await?;
    let wanted: Vec<(String, usize, f64)> = projects
        .iter()
        .flat_map(|project| {
            query.terms.iter().enumerate().map(|(number, term)| (indexed(*project, &term.term), number, term.weight))
        })
        .collect();
    let failed = |error| from_sqlx(error, "searching the words");
    let statement = sqlx::query(sql::search(&query.filter))
        .bind(json_numbers(&projects))
        .bind(serde_json::to_string(&wanted).expect("finite weights always serialise"))
        .bind(query.exact.as_slice())
        .bind(limit(query.limit))
        .bind(K1 + 1.0)
        .bind(K1 * (1.0 - B))
        .bind(K1 * B / query.average_length)
        .bind(None::<i64>)
        .bind(None::<i64>);
    let rows = bind_filter!(statement, query.filter).fetch_all(&mut *connection).await.map_err(failed)?;
    let candidate = |row: &sqlx::sqlite::SqliteRow| {
        let numbers: Option<&str> = row.try_get(3)?;
        let mut terms: Vec<String> = numbers
            .unwrap_or_default()
            .split(',')
            .filter_map(|number| query.terms.get(number.parse::<usize>().ok()?))
            .map(|term| term.term.clone())
            .collect();
        terms.sort();
        Ok(Candidate {
            id: row.try_get(0)?,
            seq: row.try_get(1)?,
            score: row.try_get(2)?,
            terms,
            exact: row.try_get(4)?,
        })
    };
    rows.iter().map(candidate).collect::<Result<_, sqlx::Error>>().map_err(failed)
}

pub(super) async fn browse(
    open: &Open,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    most: usize,
) -> Result<Vec<Memory>> {
    let (mut connection, projects) = open.reader(scope).await?;
    let mut statement = sqlx::query(sql::browse(filter)).bind(json_numbers(&projects)).bind(before).bind(limit(most));
    for _ in 4..10 {
        statement = statement.bind(None::<i64>);
    }
    let failed = |error| from_sqlx(error, "listing memories");
    let rows = bind_filter!(statement, filter).fetch_all(&mut *connection).await.map_err(failed)?;
    rows.iter().map(|row| MemoryRow::read(row).map(|row| row.memory)).collect::<Result<_, _>>().map_err(failed)
}

pub(super) async fn get(open: &Open, scope: &Scope, ids: &[Uuid], include_deleted: bool) -> Result<Vec<Memory>> {
    let (mut connection, projects) = open.reader(scope).await?;
    let rows = memories(&mut connection, &projects, ids).await?;
    let mut found: HashMap<Uuid, Memory> = rows
        .into_iter()
        .filter(|row| include_deleted || row.memory.deleted_at.is_none())
        .map(|row| (row.memory.id, row.memory))
        .collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// Memories of `projects` by id, in any order and whatever their state.
pub(super) async fn memories(
    connection: &mut sqlx::SqliteConnection,
    projects: &[i64],
    ids: &[Uuid],
) -> Result<Vec<MemoryRow>> {
    let failed = |error| from_sqlx(error, "reading memories");
    let rows = sqlx::query(sql::GET)
        .bind(json_numbers(projects))
        .bind(hex_ids(ids))
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    rows.iter().map(MemoryRow::read).collect::<Result<_, _>>().map_err(failed)
}

pub(super) async fn history(open: &Open, scope: &Scope, ids: &[Uuid]) -> Result<Vec<History>> {
    let (mut connection, projects) = open.reader(scope).await?;
    let failed = |error| from_sqlx(error, "reading the history");
    let rows = sqlx::query(sql::HISTORY)
        .bind(json_numbers(&projects))
        .bind(hex_ids(ids))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    rows.iter().map(row::history).collect::<Result<_, _>>().map_err(failed)
}

pub(super) async fn counts(open: &Open, scope: &Scope) -> Result<Counts> {
    let (mut connection, projects) = open.reader(scope).await?;
    let projects = json_numbers(&projects);
    let failed = |error| from_sqlx(error, "counting memories");
    let kinds = sqlx::query(sql::COUNT_KINDS).bind(&projects).fetch_all(&mut *connection).await.map_err(failed)?;
    let rest = sqlx::query(sql::COUNT_REST).bind(&projects).fetch_one(&mut *connection).await.map_err(failed)?;
    let number = |row: &sqlx::sqlite::SqliteRow, column: usize| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let by_kind = kinds.iter().map(|row| Ok((row.try_get(0)?, number(row, 1)?))).collect::<Result<_, sqlx::Error>>();
    Ok(Counts {
        by_kind: by_kind.map_err(failed)?,
        deleted: number(&rest, 0).map_err(failed)?,
        superseded: number(&rest, 1).map_err(failed)?,
        index_backlog: number(&rest, 2).map_err(failed)?,
    })
}
