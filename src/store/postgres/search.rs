//! Searching the lexical index.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::attempt::commit;
use super::fault::Fault;
use super::row::CandidateRow;
use super::{COUNTED_POSTINGS, FilterColumns, bounded, natural, sql};
use crate::domain::Scope;
use crate::domain::lexical::{B, CorpusStats, K1, MAX_DOCUMENT_FREQUENCY};
use crate::store::{Candidate, LexicalQuery, QueryOf};

pub(super) async fn corpus_stats(
    connection: &mut PgConnection,
    scope: &Scope,
    terms: &[String],
) -> Result<CorpusStats, Fault> {
    let readable: Vec<&str> = scope.readable().collect();
    let row =
        sqlx::query(sql::CORPUS_STATS).bind(&readable).bind(terms).bind(COUNTED_POSTINGS).fetch_one(connection).await?;
    let frequencies: Vec<i64> = row.try_get("frequencies")?;
    Ok(CorpusStats {
        documents: natural(row.try_get("documents")?),
        total_length: natural(row.try_get("total_length")?),
        document_frequencies: frequencies.into_iter().map(|n| natural(n).min(MAX_DOCUMENT_FREQUENCY)).collect(),
        has_entities: row.try_get("has_entities")?,
        has_sessions: row.try_get("has_sessions")?,
    })
}

pub(super) async fn search_lexical(
    connection: &mut PgConnection,
    scope: &Scope,
    query: &LexicalQuery,
) -> Result<Vec<Candidate>, Fault> {
    let filter = FilterColumns::new(scope, &query.filter);
    let terms: Vec<&str> = query.terms.iter().map(|term| term.term.as_str()).collect();
    let weights: Vec<f64> = query.terms.iter().map(|term| term.weight).collect();
    let rows: Vec<CandidateRow> = filter
        .bind(sqlx::query_as(sql::SEARCH_LEXICAL))
        .bind(&terms)
        .bind(&weights)
        .bind(query.exact.as_slice())
        .bind(query.average_length)
        .bind(K1)
        .bind(B)
        .bind(bounded(query.limit))
        .bind(i64::try_from(MAX_DOCUMENT_FREQUENCY).unwrap_or(i64::MAX))
        .bind(query.filter.unchanged)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Both, with statements that the server ends after `patience`.
pub(super) async fn quickly(
    connection: &mut PgConnection,
    scope: &Scope,
    terms: &[String],
    query: QueryOf<'_>,
    patience: Duration,
) -> Result<Vec<Candidate>, Fault> {
    // One round trip for both.
    let begin = format!("BEGIN; SET LOCAL statement_timeout = {}", patience.as_millis().max(1));
    let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
    let stats = corpus_stats(&mut transaction, scope, terms).await?;
    let found = search_lexical(&mut transaction, scope, &query(&stats)).await?;
    commit(transaction).await?;
    Ok(found)
}
