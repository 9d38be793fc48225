//! Checks of the file: quick ones for every backup, and the comparison of word index and vectors with the memories.
//!
//! They read on a separate connection, page by page and without a long transaction, so that the write-ahead log can be
//! emptied meanwhile.

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection};
use tokio::sync::watch;
use tokio::time::Instant;

use super::beside::connect;
use super::error::Fault;
use super::row::MemoryRow;
use super::{SqliteStore, check_sql, json_numbers, schema, sql, word_index};
use crate::domain::Analyzer;
use crate::domain::count::{count_of, verb_for};
use crate::store::check::{
    Current, IndexComparison, describe_index_counts, vector_finding, word_index_finding,
};
use crate::store::statement::bind;
use crate::store::{CheckStore, Finding, MemoryKey, Pace, Result, Subject, WriteFailure};

/// Number of memories that are read per statement.
const MEMORY_PAGE: i64 = 500;
/// Number of index terms that are read per statement.
const TERM_PAGE: i64 = 500;
/// Number of memories whose vectors are compared per statement.
const VECTOR_PAGE: i64 = 5_000;

const RESTORE: &str = "stop the service and restore a backup with `restore FILE --replace`";
const REBUILD_INDEX: &str = "stop the service and run `cognitive-memory-mcp doctor --repair`, which rebuilds the word index from the memories";
const REFILL: &str = "stop the service, `export FILE`, then `restore FILE --replace`, which stores every record again and keeps the tokens";

fn damage(answers: &[String]) -> Option<Finding> {
    let first = answers.iter().find(|answer| *answer != "ok")?;
    Some(Finding::new(
        Subject::File,
        format!("the file is damaged ({first})"),
        RESTORE,
    ))
}

/// Checks the structure of the file, its references and the numbers of index entries.
pub(super) async fn inspect_quickly(
    connection: &mut SqliteConnection,
) -> Result<Vec<Finding>, Fault> {
    let answers: Vec<String> = sqlx::query_scalar(check_sql::QUICK_CHECK)
        .fetch_all(&mut *connection)
        .await?;
    if let Some(damage) = damage(&answers) {
        return Ok(vec![damage]);
    }
    let mut findings = Vec::new();
    findings.extend(schema::foreign_objects(connection).await?);
    let broken: i64 = sqlx::query_scalar(check_sql::FOREIGN_KEYS)
        .fetch_one(&mut *connection)
        .await?;
    if broken > 0 {
        let detail = format!(
            "{} {} to rows that do not exist",
            count_of(broken, "row"),
            verb_for(broken, "points", "point")
        );
        findings.push(Finding::new(Subject::References, detail, REFILL));
    }
    findings.extend(count_index_entries(connection).await?);
    Ok(findings)
}

async fn count_index_entries(connection: &mut SqliteConnection) -> Result<Option<Finding>, Fault> {
    let row = sqlx::query(check_sql::UNINDEXED)
        .fetch_one(&mut *connection)
        .await?;
    let (missing, stray): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let corpus: i64 = sqlx::query_scalar(check_sql::CORPUS)
        .fetch_one(connection)
        .await?;
    Ok((missing + stray + corpus > 0).then(|| {
        Finding::new(
            Subject::WordIndex,
            describe_index_counts(missing, stray, corpus),
            REBUILD_INDEX,
        )
    }))
}

/// Reads every page. A background check reads table by table, so that each statement is short.
async fn check_pages(
    connection: &mut SqliteConnection,
    pace: Pace,
    started: &mut Instant,
) -> Result<Option<Finding>, Fault> {
    let tables: Vec<String> = sqlx::query_scalar(check_sql::TABLES)
        .fetch_all(&mut *connection)
        .await?;
    for table in tables {
        let answers: Vec<String> = sqlx::query_scalar(check_sql::CHECK_TABLE)
            .bind(table)
            .fetch_all(&mut *connection)
            .await?;
        if let Some(damage) = damage(&answers) {
            return Ok(Some(damage));
        }
        pace.rest_since(started).await;
    }
    Ok(None)
}

async fn compare_word_index(
    connection: &mut SqliteConnection,
    analyzer: &Analyzer,
    pace: Pace,
    started: &mut Instant,
) -> Result<Option<Finding>, Fault> {
    if !word_index::is_of_analysis(connection, analyzer).await? {
        let detail = "the word index was made for another language";
        let remedy = "restart the service, which rebuilds it, or correct MEMORY_LANGUAGE";
        return Ok(Some(Finding::new(Subject::WordIndex, detail, remedy)));
    }
    let mut comparison = IndexComparison::default();
    read_memories(connection, analyzer, &mut comparison, pace, started).await?;
    read_index(connection, &mut comparison, pace, started).await?;
    let suspects = comparison.suspects();
    let current = read_current(connection, &suspects).await?;
    Ok(word_index_finding(
        comparison.confirm(&current),
        REBUILD_INDEX,
    ))
}

fn key(seq: i64) -> MemoryKey {
    MemoryKey { project: 0, seq }
}

async fn read_memories(
    connection: &mut SqliteConnection,
    analyzer: &Analyzer,
    comparison: &mut IndexComparison,
    pace: Pace,
    started: &mut Instant,
) -> Result<(), Fault> {
    let mut after = 0_i64;
    loop {
        let page = bind!(sqlx::query(sql::LIVE) => after, MEMORY_PAGE)
            .fetch_all(&mut *connection)
            .await;
        let rows = page?;
        for row in &rows {
            let row = MemoryRow::read(row)?;
            after = row.memory.seq;
            let terms = word_index::stored_terms(&row.memory, row.project, analyzer);
            comparison.expect(key(after), row.memory.version, &terms);
        }
        if rows.is_empty() {
            return Ok(());
        }
        pace.rest_since(started).await;
    }
}

async fn read_index(
    connection: &mut SqliteConnection,
    comparison: &mut IndexComparison,
    pace: Pace,
    started: &mut Instant,
) -> Result<(), Fault> {
    let mut after = String::new();
    loop {
        let rows: Vec<(String, String)> = bind!(sqlx::query_as(check_sql::POSTINGS) =>
            &after, TERM_PAGE)
        .fetch_all(&mut *connection)
        .await?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        after.clone_from(last);
        for (term, memories) in &rows {
            for seq in memories.split(',').filter_map(|seq| seq.parse().ok()) {
                comparison.found(key(seq), term, 1);
            }
        }
        pace.rest_since(started).await;
    }
}

async fn read_current(
    connection: &mut SqliteConnection,
    suspects: &[MemoryKey],
) -> Result<Current, Fault> {
    let seqs: Vec<i64> = suspects.iter().map(|key| key.seq).collect();
    let rows: Vec<(i64, i64)> = sqlx::query_as(check_sql::VERSIONS)
        .bind(json_numbers(&seqs))
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(seq, version)| (key(seq), version))
        .collect())
}

async fn compare_vectors(
    connection: &mut SqliteConnection,
    pace: Pace,
    started: &mut Instant,
) -> Result<Option<Finding>, Fault> {
    let (mut missing, mut stale, mut after) = (0_u64, 0_u64, 0_i64);
    let last: i64 = sqlx::query_scalar(check_sql::LAST)
        .fetch_one(&mut *connection)
        .await?;
    while after < last {
        let end = after + VECTOR_PAGE;
        let (without, other): (i64, i64) = bind!(sqlx::query_as(check_sql::VECTORS) => after, end)
            .fetch_one(&mut *connection)
            .await?;
        missing += without.unsigned_abs();
        stale += other.unsigned_abs();
        after = end;
        pace.rest_since(started).await;
    }
    Ok(vector_finding(missing, stale))
}

async fn inspect_deeply(
    connection: &mut SqliteConnection,
    analyzer: &Analyzer,
    pace: Pace,
) -> Result<Vec<Finding>, Fault> {
    let mut started = Instant::now();
    if let Some(damage) = check_pages(connection, pace, &mut started).await? {
        return Ok(vec![damage]);
    }
    let mut findings = Vec::new();
    findings.extend(compare_word_index(connection, analyzer, pace, &mut started).await?);
    findings.extend(compare_vectors(connection, pace, &mut started).await?);
    Ok(findings)
}

#[async_trait]
impl CheckStore for SqliteStore {
    async fn inspect_deeply(&self, pace: Pace) -> Result<Vec<Finding>> {
        let mut connection = connect(&self.options.path).await?;
        let findings = inspect_deeply(&mut connection, &self.analyzer, pace).await;
        findings.map_err(|fault| fault.explain("checking the database"))
    }

    async fn request_index_rebuild(&self) -> Result<()> {
        self.write("writing a mark of the index", async |connection, _| {
            word_index::mark_damaged(connection).await
        })
        .await
    }

    async fn probe_write(&self) -> Result<()> {
        self.write("trying to write", async |connection, _| {
            sqlx::query(check_sql::PROBE_WRITE)
                .execute(connection)
                .await?;
            Ok(())
        })
        .await
    }

    fn write_failure(&self) -> watch::Receiver<Option<WriteFailure>> {
        self.writes.subscribe()
    }
}
