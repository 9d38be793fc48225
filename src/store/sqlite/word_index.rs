//! The word index: its changes with each write, and its rebuild from the memories.
//!
//! FTS5 with `secure-delete` has a bug that this file works around: if one flush of its pending changes both deletes
//! and reinserts a row, and the row has more than 63 bytes of positions for a term, the old entry of that term remains
//! in its segment. A later delete then exposes it. [`add_terms`] therefore flushes first if this transaction has
//! removed the row.

use std::time::{Duration, Instant};

use sqlx::SqliteConnection;

use super::cache::Delta;
use super::error::Fault;
use super::read::indexed;
use super::row::MemoryRow;
use super::sql;
use crate::domain::memory::indexed_text;
use crate::domain::text::Terms;
use crate::domain::{Analyzer, Memory};
use crate::store::Result;
use crate::store::statement::bind;

/// Number of memories that a rebuild reads per statement.
const REBUILD_PAGE: i64 = 500;
/// Pause between two log lines about the progress of a rebuild.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Key of the property that records the layout of the index.
const LAYOUT_KEY: &str = "word_index";
/// The current layout. Earlier versions recorded none, and their indexes may contain entries of deleted texts.
const LAYOUT: &str = "2";
/// The value for an index that a check has found to be damaged.
const DAMAGED: &str = "damaged";
/// Key of the property that records the analysis of the terms.
const ANALYZER_KEY: &str = "analyzer";

/// Formats the terms for FTS5: each term as often as it occurs.
pub(super) fn index_entry<'t>(project: i64, terms: impl Iterator<Item = (&'t str, u32)>) -> String {
    let mut entry = String::new();
    for (term, count) in terms {
        let name = indexed(project, term);
        for _ in 0..count {
            entry.push_str(&name);
            entry.push(' ');
        }
    }
    entry
}

/// Returns the terms that find a memory.
pub(super) fn terms_of(memory: &Memory, analyzer: &Analyzer) -> Terms {
    analyzer.terms(&indexed_text(
        &memory.content,
        memory.speaker.as_deref(),
        &memory.tags,
        memory.episode.as_ref(),
    ))
}

/// Returns these terms under their names in the index.
pub(super) fn stored_terms(memory: &Memory, project: i64, analyzer: &Analyzer) -> Terms {
    let Terms { counts, length } = terms_of(memory, analyzer);
    Terms {
        counts: counts
            .into_iter()
            .map(|(term, count)| (indexed(project, &term), count))
            .collect(),
        length,
    }
}

/// Adds the terms of a memory to the index.
pub(super) async fn add_terms(
    connection: &mut SqliteConnection,
    project: i64,
    seq: i64,
    terms: &Terms,
    delta: &mut Delta,
) -> Result<(), Fault> {
    if delta.unindexed.contains(&seq) {
        sqlx::query(sql::FLUSH_TERMS)
            .execute(&mut *connection)
            .await?;
    }
    delta.resized.push(seq);
    delta
        .terms
        .extend(terms.counts.keys().map(|term| (indexed(project, term), 1)));
    bind!(sqlx::query(sql::INSERT_TERMS) => seq, index_entry(project, terms.iter()))
        .execute(&mut *connection)
        .await?;
    resize(connection, project, 1, i64::from(terms.length)).await
}

/// Removes a memory from the index. `terms` must be exactly the added ones.
pub(super) async fn remove_terms(
    connection: &mut SqliteConnection,
    project: i64,
    seq: i64,
    terms: &Terms,
    delta: &mut Delta,
) -> Result<(), Fault> {
    delta.unindexed.insert(seq);
    delta
        .terms
        .extend(terms.counts.keys().map(|term| (indexed(project, term), -1)));
    bind!(sqlx::query(sql::DELETE_TERMS) => seq, index_entry(project, terms.iter()))
        .execute(&mut *connection)
        .await?;
    resize(connection, project, -1, -i64::from(terms.length)).await
}

async fn resize(
    connection: &mut SqliteConnection,
    project: i64,
    documents: i64,
    length: i64,
) -> Result<(), Fault> {
    bind!(sqlx::query(sql::RESIZE) => project, documents, length)
        .execute(connection)
        .await?;
    Ok(())
}

async fn read_mark(connection: &mut SqliteConnection, key: &str) -> Result<Option<String>, Fault> {
    let mark = sqlx::query_scalar(sql::META).bind(key);
    Ok(mark.fetch_optional(connection).await?)
}

async fn write_mark(
    connection: &mut SqliteConnection,
    key: &str,
    value: &str,
) -> Result<(), Fault> {
    bind!(sqlx::query(sql::SET_META) => key, value)
        .execute(connection)
        .await?;
    Ok(())
}

/// Returns whether the terms in the index come from this analysis.
pub(super) async fn is_of_analysis(
    connection: &mut SqliteConnection,
    analyzer: &Analyzer,
) -> Result<bool, Fault> {
    Ok(read_mark(connection, ANALYZER_KEY).await? == Some(analyzer.fingerprint()))
}

/// Makes the next start rebuild the index.
pub(super) async fn mark_damaged(connection: &mut SqliteConnection) -> Result<(), Fault> {
    write_mark(connection, LAYOUT_KEY, DAMAGED).await
}

/// Rebuilds the index if another analysis or an earlier version created it, or if a check found it damaged. An
/// interrupted rebuild keeps the old index, and the next start tries again.
pub(super) async fn rebuild_if_needed(
    connection: &mut SqliteConnection,
    analyzer: &Analyzer,
) -> Result<(), Fault> {
    let reason = match read_mark(connection, LAYOUT_KEY).await?.as_deref() {
        Some(LAYOUT) if is_of_analysis(connection, analyzer).await? => return Ok(()),
        Some(LAYOUT) => "the language or the analysis of words has changed",
        Some(DAMAGED) => "a check found it damaged",
        _ => "an earlier version wrote it, which could leave entries of deleted texts behind",
    };
    sqlx::query(sql::BEGIN).execute(&mut *connection).await?;
    let memories: i64 = sqlx::query_scalar(sql::COUNT_LIVE)
        .fetch_one(&mut *connection)
        .await?;
    if memories > 0 {
        tracing::info!(reason, memories, "rebuilding the word index");
    }
    sqlx::query(sql::CLEAR_TERMS)
        .execute(&mut *connection)
        .await?;
    let started = Instant::now();
    let indexed = index_all(connection, analyzer, memories).await?;
    write_mark(connection, ANALYZER_KEY, &analyzer.fingerprint()).await?;
    write_mark(connection, LAYOUT_KEY, LAYOUT).await?;
    sqlx::query(sql::COMMIT).execute(&mut *connection).await?;
    // The log still contains the pages of the old index.
    let _: i64 = sqlx::query_scalar(sql::CHECKPOINT)
        .fetch_one(connection)
        .await?;
    if memories > 0 {
        tracing::info!(
            indexed,
            seconds = started.elapsed().as_secs_f64(),
            "the word index is rebuilt"
        );
    }
    Ok(())
}

/// Adds every live memory to an empty index, page by page, and returns their number.
async fn index_all(
    connection: &mut SqliteConnection,
    analyzer: &Analyzer,
    memories: i64,
) -> Result<u64, Fault> {
    let (mut after, mut indexed) = (0_i64, 0_u64);
    let mut reported = Instant::now();
    loop {
        let rows = bind!(sqlx::query(sql::LIVE) => after, REBUILD_PAGE)
            .fetch_all(&mut *connection)
            .await?;
        if rows.is_empty() {
            return Ok(indexed);
        }
        for row in &rows {
            let row = MemoryRow::read(row)?;
            after = row.memory.seq;
            index_one(connection, &row, analyzer).await?;
            indexed += 1;
        }
        if reported.elapsed() >= PROGRESS_INTERVAL {
            reported = Instant::now();
            tracing::info!(indexed, memories, "rebuilding the word index");
        }
    }
}

async fn index_one(
    connection: &mut SqliteConnection,
    row: &MemoryRow,
    analyzer: &Analyzer,
) -> Result<(), Fault> {
    let terms = terms_of(&row.memory, analyzer);
    add_terms(
        connection,
        row.project,
        row.memory.seq,
        &terms,
        &mut Delta::default(),
    )
    .await?;
    bind!(sqlx::query(sql::SET_LENGTH) => row.memory.seq, i64::from(terms.length))
        .execute(connection)
        .await?;
    Ok(())
}
