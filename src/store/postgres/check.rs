//! Compares the word index and the vectors with the memories, page by page, on a separate connection.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row};
use tokio::sync::watch;
use tokio::time::Instant;

use super::attempt::{Effect, LONG, attempt};
use super::fault::Fault;
use super::row::IndexedRow;
use super::row_security::View;
use super::{PostgresStore, RebuildPosition, check_sql, sql};
use crate::domain::memory::indexed_text;
use crate::store::check::{Current, IndexComparison, vector_finding, word_index_finding};
use crate::store::statement::bind;
use crate::store::{
    CheckStore, Finding, IndexPages, MemoryKey, Pace, Result, Subject, WriteFailure,
};

/// SQLSTATE codes of `data_corrupted` and `index_corrupted`.
const DAMAGED: [&str; 2] = ["XX001", "XX002"];
/// Maximum time for the check of one index, which reads all of it.
const LONGEST_INDEX_CHECK: Duration = Duration::from_secs(600);
/// Number of memories whose vectors are compared per statement.
const VECTOR_PAGE: i64 = 5_000;

pub(super) const REBUILD_INDEX: &str =
    "run `cognitive-memory-mcp doctor --repair`, which rebuilds the word index from the memories";

fn key(project: i32, seq: i64) -> MemoryKey {
    MemoryKey {
        project: i64::from(project),
        seq,
    }
}

impl PostgresStore {
    async fn read_memories(
        &self,
        connection: &mut PgConnection,
        comparison: &mut IndexComparison,
        pace: Pace,
    ) -> Result<()> {
        let (mut after, mut started) = (RebuildPosition::default(), Instant::now());
        loop {
            let rows = self
                .within("read memories", LONG, async {
                    let query = bind!(sqlx::query(check_sql::MEMORIES) =>
                        after.project_id, after.seq);
                    let rows = query.fetch_all(&mut *connection).await?;
                    let read = |row| {
                        Ok::<_, Fault>((
                            IndexedRow::from_row(row)?,
                            row.try_get::<i64, _>("version")?,
                        ))
                    };
                    rows.iter().map(read).collect::<Result<Vec<_>, Fault>>()
                })
                .await?;
            for (row, version) in &rows {
                let text = indexed_text(
                    &row.content,
                    row.speaker.as_deref(),
                    &row.tags,
                    row.episode.as_ref(),
                );
                after = RebuildPosition {
                    project_id: row.project_id,
                    seq: row.seq,
                };
                comparison.expect(
                    key(row.project_id, row.seq),
                    *version,
                    &self.analyzer.terms(&text),
                );
            }
            if rows.is_empty() {
                return Ok(());
            }
            pace.rest_since(&mut started).await;
        }
    }

    async fn read_index(
        &self,
        connection: &mut PgConnection,
        comparison: &mut IndexComparison,
        pace: Pace,
    ) -> Result<()> {
        let (mut after, mut started) = ((0_i32, String::new(), 0_i64), Instant::now());
        loop {
            let rows: Vec<(i32, String, i64, i32)> = self
                .within("read the word index", LONG, async {
                    let query = bind!(sqlx::query_as(check_sql::POSTINGS) =>
                        after.0, &after.1, after.2);
                    Ok::<_, Fault>(query.fetch_all(&mut *connection).await?)
                })
                .await?;
            let Some((project, term, seq, _)) = rows.last() else {
                return Ok(());
            };
            after = (*project, term.clone(), *seq);
            for (project, term, seq, frequency) in &rows {
                comparison.found(
                    key(*project, *seq),
                    term,
                    u64::from(frequency.unsigned_abs()),
                );
            }
            pace.rest_since(&mut started).await;
        }
    }

    async fn read_current(
        &self,
        connection: &mut PgConnection,
        suspects: &[MemoryKey],
    ) -> Result<Current> {
        let projects: Vec<i64> = suspects.iter().map(|key| key.project).collect();
        let seqs: Vec<i64> = suspects.iter().map(|key| key.seq).collect();
        let rows: Vec<(i32, i64, i64)> = self
            .within("read memories", LONG, async {
                let query = bind!(sqlx::query_as(check_sql::VERSIONS) => &projects, &seqs);
                Ok::<_, Fault>(query.fetch_all(connection).await?)
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|(project, seq, version)| (key(project, seq), version))
            .collect())
    }

    async fn compare_vectors(
        &self,
        connection: &mut PgConnection,
        pace: Pace,
    ) -> Result<Option<Finding>> {
        let (mut missing, mut stale) = (0_u64, 0_u64);
        let (mut after, mut started) = (0_i64, Instant::now());
        let last: i64 = self
            .within("read memories", LONG, async {
                Ok::<_, Fault>(
                    sqlx::query_scalar(check_sql::LAST)
                        .fetch_one(&mut *connection)
                        .await?,
                )
            })
            .await?;
        while after < last {
            let end = after + VECTOR_PAGE;
            let (without, other): (i64, i64) = self
                .within("compare vectors", LONG, async {
                    let query = bind!(sqlx::query_as(check_sql::VECTORS) => after, end);
                    Ok::<_, Fault>(query.fetch_one(&mut *connection).await?)
                })
                .await?;
            missing += without.unsigned_abs();
            stale += other.unsigned_abs();
            after = end;
            pace.rest_since(&mut started).await;
        }
        Ok(vector_finding(missing, stale))
    }
}

/// Describes the damage of an index if the check of its pages failed because of it.
fn damaged_index(name: &str, error: &sqlx::Error) -> Option<Finding> {
    let sqlx::Error::Database(error) = error else {
        return None;
    };
    error.code().filter(|code| DAMAGED.contains(&&**code))?;
    let detail = format!("the index {name} is damaged: {}", error.message());
    let remedy = format!(
        "run `REINDEX INDEX CONCURRENTLY {name}` as its owner, then `doctor --deep` again; look for the cause in the \
         server's log (storage, or a changed version of the C library or ICU)"
    );
    Some(Finding::new(Subject::File, detail, remedy))
}

#[async_trait]
impl CheckStore for PostgresStore {
    async fn inspect_deeply(&self, pace: Pace) -> Result<Vec<Finding>> {
        let mut connection = self.connect().await?;
        let analyzer: Option<String> = self
            .within("read a fact", LONG, async {
                sqlx::query(sql::UNLIMITED).execute(&mut connection).await?;
                let query = sqlx::query_scalar(sql::META).bind("analyzer");
                Ok::<_, Fault>(query.fetch_optional(&mut connection).await?)
            })
            .await?;
        let mut findings = Vec::new();
        if analyzer.as_deref() == Some(&self.analyzer.fingerprint()) {
            let mut comparison = IndexComparison::default();
            self.read_memories(&mut connection, &mut comparison, pace)
                .await?;
            self.read_index(&mut connection, &mut comparison, pace)
                .await?;
            let current = self
                .read_current(&mut connection, &comparison.suspects())
                .await?;
            findings.extend(word_index_finding(
                comparison.confirm(&current),
                REBUILD_INDEX,
            ));
        } else {
            let detail = "the word index was made for another language";
            let remedy = "restart the service, which rebuilds it, or correct MEMORY_LANGUAGE";
            findings.push(Finding::new(Subject::WordIndex, detail, remedy));
        }
        findings.extend(self.compare_vectors(&mut connection, pace).await?);
        Ok(findings)
    }

    async fn inspect_index_pages(&self) -> Result<IndexPages> {
        let mut connection = self.connect().await?;
        let check: Option<(String, bool)> = self
            .within("look for amcheck", LONG, async {
                sqlx::query(sql::UNLIMITED).execute(&mut connection).await?;
                Ok::<_, Fault>(
                    sqlx::query_as(check_sql::AMCHECK)
                        .fetch_optional(&mut connection)
                        .await?,
                )
            })
            .await?;
        let function = match check {
            Some((function, true)) => function,
            Some((function, false)) => {
                return Ok(IndexPages::Unchecked(format!(
                    "this role may not use the extension amcheck; a superuser can run \
                     `GRANT EXECUTE ON FUNCTION {function}(regclass) TO {}`",
                    self.options.get_username()
                )));
            }
            None => {
                return Ok(IndexPages::Unchecked(
                    "the extension amcheck is not installed in this database; a superuser can run \
                     `CREATE EXTENSION amcheck`"
                        .to_owned(),
                ));
            }
        };
        let indexes: Vec<(i64, String)> = self
            .within("list indexes", LONG, async {
                Ok::<_, Fault>(
                    sqlx::query_as(check_sql::BTREE_INDEXES)
                        .fetch_all(&mut connection)
                        .await?,
                )
            })
            .await?;
        // The server has quoted the name of the function.
        let statement = format!("SELECT {function}($1::bigint::oid::regclass)");
        let mut findings = Vec::new();
        for (oid, name) in indexes {
            let finding = self.within("check an index", LONGEST_INDEX_CHECK, async {
                let statement = AssertSqlSafe(statement.as_str());
                match sqlx::query(statement)
                    .bind(oid)
                    .execute(&mut connection)
                    .await
                {
                    Ok(_) => Ok(None),
                    Err(error) => damaged_index(&name, &error)
                        .map(Some)
                        .ok_or(Fault::from(error)),
                }
            });
            findings.extend(finding.await?);
        }
        Ok(IndexPages::Checked(findings))
    }

    async fn request_index_rebuild(&self) -> Result<()> {
        let mut attempts = self.attempts(View::All, "write a fact", Effect::Repeatable)?;
        let start = RebuildPosition::default().to_string();
        attempt!(attempts, connection => async {
            bind!(sqlx::query(sql::SET_META) => "rebuilt_to", &start).execute(connection).await?;
            Ok(())
        })
    }

    async fn probe_write(&self) -> Result<()> {
        attempt!(self.attempts(View::All, "try to write", Effect::Repeatable)?, connection => async {
            sqlx::query(check_sql::PROBE_WRITE).execute(connection).await?;
            Ok(())
        })
    }

    fn write_failure(&self) -> watch::Receiver<Option<WriteFailure>> {
        self.writes.subscribe()
    }
}
