//! Vectors in PostgreSQL: an index of pgvector for large scopes, exact comparison for small ones.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};
use tokio::time::timeout;

use super::attempt::{Attempts, Effect, attempt, begin, commit, read};
use super::fault::Fault;
use super::filter::FilterColumns;
use super::recent::scope_key;
use super::row::SemanticRow;
use super::row_security::View;
use super::vector_sql::Way;
use super::{CHECK, PostgresStore, migration, natural, sql, vector_sql};
use crate::domain::memory::embedded_text;
use crate::domain::passage::{SHORT_BYTES, SHORT_TURN_BYTES};
use crate::domain::{Episode, Hit, Scope};
use crate::store::statement::bind;
use crate::store::{Embedded, IndexJob, MemoryKey, Result, VectorQuery, VectorStore};

/// The method of finding the nearest vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VectorSearch {
    /// Compares all vectors of small scopes, and uses the index in large ones.
    #[default]
    Automatic,
    /// Compares all vectors in scope.
    Exact,
    /// Uses the index if the dimension has one.
    Index,
}

/// Key of the property that stores the model of the queue.
const MODEL: &str = "embedding_model";
/// Duration of a claim: much longer than a batch takes, because the server that claimed it may have stopped.
const CLAIM: TimeDelta = TimeDelta::minutes(5);
/// Time limit for building the index of all vectors.
const BUILD: Duration = Duration::from_secs(6 * 3_600);
/// Up to this number of memories in scope, all vectors are compared, which certainly finds the best.
const FEW: u64 = 4_000;
/// This limit grows with the square root of the number of all vectors.
const SHARE: f64 = 50.0;
/// Scopes below `total / PART` are also compared exactly, because the index would stop before it finds enough matching
/// rows.
const PART: f64 = 20.0;
/// The numbers of hits that a statement may request.
const PAGES: [usize; 4] = [60, 250, 1_300, 5_000];
/// Number of vectors per transaction. Inserting one into a large index takes up to 100 ms on a busy server.
const GROUP_VECTORS: usize = 128;
/// Time limit for a group of vectors, including all attempts.
const SAVE: Duration = Duration::from_secs(30);
/// Time limit of the server for each of its statements, a little less, so that its answer arrives.
const SAVE_STATEMENT: &str = "24s";

fn job(row: &PgRow) -> Result<IndexJob, sqlx::Error> {
    let situation: Option<String> = row.try_get("situation")?;
    let lesson: Option<String> = row.try_get("lesson")?;
    let episode = situation.zip(lesson).map(|(situation, lesson)| Episode {
        situation,
        outcome: 0.0,
        lesson,
    });
    let content: &str = row.try_get("content")?;
    let attempts: i32 = row.try_get("attempts")?;
    Ok(IndexJob {
        key: MemoryKey {
            project: row.try_get("project_id")?,
            seq: row.try_get("memory_seq")?,
        },
        version: row.try_get("version")?,
        text: embedded_text(content, episode.as_ref()),
        is_turn: row.try_get("is_turn")?,
        attempts: attempts.unsigned_abs(),
    })
}

fn columns(keys: &[MemoryKey]) -> (Vec<i64>, Vec<i64>) {
    keys.iter().map(|key| (key.project, key.seq)).unzip()
}

async fn save(
    connection: &mut PgConnection,
    model: &str,
    embedded: &[Embedded],
    now: DateTime<Utc>,
) -> Result<u64, Fault> {
    let (projects, seqs): (Vec<i64>, Vec<i64>) =
        embedded.iter().map(|m| (m.key.project, m.key.seq)).unzip();
    let versions: Vec<i64> = embedded.iter().map(|memory| memory.version).collect();
    let mut transaction = begin(connection).await?;
    sqlx::query(sql::ALLOW_TIME)
        .bind(SAVE_STATEMENT)
        .execute(&mut *transaction)
        .await?;
    let places: Vec<i64> = bind!(sqlx::query_scalar(vector_sql::UNCHANGED) =>
        projects, seqs, versions)
    .fetch_all(&mut *transaction)
    .await?;
    let unchanged: Vec<&Embedded> = places
        .iter()
        .filter_map(|place| embedded.get(usize::try_from(place - 1).ok()?))
        .collect();
    let (projects, seqs) = columns(
        &unchanged
            .iter()
            .map(|memory| memory.key)
            .collect::<Vec<_>>(),
    );
    bind!(sqlx::query(vector_sql::DELETE_VECTORS) => &projects, &seqs)
        .execute(&mut *transaction)
        .await?;
    let Some(dimension) = unchanged
        .iter()
        .find_map(|memory| memory.vectors.first())
        .map(Vec::len)
    else {
        commit(transaction).await?;
        return Ok(0);
    };
    let (mut rows, mut passages, mut numbers) = ((Vec::new(), Vec::new()), Vec::new(), Vec::new());
    for memory in &unchanged {
        for (passage, vector) in (memory.first_passage..).zip(&memory.vectors) {
            rows.0.push(memory.key.project);
            rows.1.push(memory.key.seq);
            passages.push(i32::try_from(passage).unwrap_or(i32::MAX));
            numbers.extend_from_slice(vector);
        }
    }
    bind!(sqlx::query(vector_sql::INSERT_VECTORS) =>
        rows.0, rows.1, passages, model, i32::try_from(dimension).unwrap_or(i32::MAX), now, numbers)
    .execute(&mut *transaction)
    .await?;
    bind!(sqlx::query(vector_sql::DONE) => &projects, &seqs)
        .execute(&mut *transaction)
        .await?;
    commit(transaction).await?;
    Ok(unchanged.len() as u64)
}

/// Divides memories into groups with at most [`GROUP_VECTORS`] vectors, or one memory.
fn group_memories(embedded: &[Embedded]) -> impl Iterator<Item = &[Embedded]> {
    let mut rest = embedded;
    std::iter::from_fn(move || {
        let mut vectors = 0;
        let fitting = rest.iter().take_while(|memory| {
            vectors += memory.vectors.len();
            vectors <= GROUP_VECTORS
        });
        let (group, others) = rest.split_at_checked(fitting.count().max(1))?;
        rest = others;
        Some(group)
    })
}

/// Returns whether the server lacks memory. It reports full shared memory as a full disk.
fn out_of_memory(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(&*code, "53100" | "53200"))
}

impl PostgresStore {
    /// Counts the memories in scope. The lexicon of the same recall has usually just counted them.
    async fn count_documents(&self, scope: &Scope) -> Result<u64> {
        let key = scope_key(scope);
        if let Some(known) = self.counts.documents.find(&key) {
            return Ok(known);
        }
        let documents: i64 = read!(self, scope, "count memories", connection, readable => async {
            Ok(sqlx::query_scalar(vector_sql::DOCUMENTS).bind(&readable).fetch_one(connection).await?)
        })?;
        self.counts.documents.keep([(key, natural(documents))]);
        Ok(natural(documents))
    }

    /// Estimates the number of vectors of all projects.
    async fn count_vectors(&self) -> Result<f64> {
        if let Some(known) = self.vectors.find(&()) {
            return Ok(known);
        }
        let total: i64 = attempt!(self.attempts(View::Nothing, "count vectors", Effect::Read)?, connection => async {
            Ok(sqlx::query_scalar(vector_sql::TOTAL).fetch_one(connection).await?)
        })?;
        self.vectors.keep([((), total as f64)]);
        Ok(total as f64)
    }

    /// Decides whether to compare the vectors of a session, to compare all in scope, or to use the index. The index
    /// covers all projects: the smaller the scope's share of all vectors, the more index entries a search skips.
    async fn choose_way(&self, scope: &Scope, query: &VectorQuery) -> Result<Way> {
        if query.filter.session.is_some() {
            return Ok(Way::Session);
        }
        if vector_sql::index_name(query.vector.len()).is_none() {
            return Ok(Way::All);
        }
        match self.vector_search {
            VectorSearch::Automatic => {}
            VectorSearch::Exact => return Ok(Way::All),
            VectorSearch::Index => return Ok(Way::Index),
        }
        let documents = self.count_documents(scope).await?;
        if documents <= FEW {
            return Ok(Way::All);
        }
        let total = self.count_vectors().await?;
        // A comparison costs about a tenth of a step through the index, which takes `page * total / documents` steps.
        let few = (SHARE * total.sqrt()).max(total / PART) as u64;
        Ok(if documents <= few {
            Way::All
        } else {
            Way::Index
        })
    }

    async fn nearest(
        &self,
        scope: &Scope,
        query: &VectorQuery,
        page: usize,
        way: Way,
    ) -> Result<Vec<SemanticRow>> {
        let filter = FilterColumns::new(scope, &query.filter);
        attempt!(self.attempts(scope, "search vectors", Effect::Read)?, connection => async {
            Ok(filter
                .bind(sqlx::query_as(vector_sql::nearest(query.vector.len(), page, way)))
                .bind(&query.vector[..])
                .bind(&query.model)
                .fetch_all(connection)
                .await?)
        })
    }

    /// Builds a missing index. One server builds it; the others continue without it.
    async fn build_index(
        &self,
        connection: &mut PgConnection,
        name: &str,
        dimension: usize,
    ) -> Result<(), Fault> {
        let state: Option<bool> = sqlx::query_scalar(vector_sql::INDEX_STATE)
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
        if state == Some(true) {
            return Ok(());
        }
        migration::lock(connection).await?;
        let state: Option<bool> = sqlx::query_scalar(vector_sql::INDEX_STATE)
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
        if state == Some(false)
            && let Some(statement) = vector_sql::drop_index(dimension)
        {
            sqlx::query(statement).execute(&mut *connection).await?;
        }
        if state != Some(true)
            && let Some(statement) = vector_sql::create_index(dimension)
        {
            sqlx::query(vector_sql::BUILD_MEMORY)
                .execute(&mut *connection)
                .await?;
            if let Err(error) = sqlx::query(statement).execute(&mut *connection).await {
                if !out_of_memory(&error) {
                    return Err(error.into());
                }
                tracing::info!(
                    error = &error as &dyn std::error::Error,
                    "makes the index of vectors by one process"
                );
                sqlx::query(vector_sql::BUILD_ALONE)
                    .execute(&mut *connection)
                    .await?;
                for statement in [
                    vector_sql::drop_index(dimension),
                    vector_sql::create_index(dimension),
                ] {
                    let Some(statement) = statement else { continue };
                    sqlx::query(statement).execute(&mut *connection).await?;
                }
            }
            tracing::info!(index = name, "made the index of vectors");
        }
        migration::unlock(connection).await
    }
}

#[async_trait]
impl VectorStore for PostgresStore {
    async fn prepare_vectors(&self, _model: &str, dimension: usize) -> Result<()> {
        // Fails while the database is not prepared.
        self.attempts(View::All, "prepare vectors", Effect::Read)?;
        let Some(name) = vector_sql::index_name(dimension) else {
            return Ok(());
        };
        let mut connection = self.connect().await?;
        self.within(
            "index vectors",
            BUILD,
            self.build_index(&mut connection, &name, dimension),
        )
        .await?;
        let _ = timeout(CHECK, connection.close()).await;
        Ok(())
    }

    async fn queued_model(&self) -> Result<Option<String>> {
        attempt!(self.attempts(View::All, "read a fact", Effect::Read)?, connection => async {
            Ok(sqlx::query_scalar(sql::META).bind(MODEL).fetch_optional(connection).await?)
        })
    }

    async fn set_queued_model(&self, model: &str) -> Result<()> {
        attempt!(self.attempts(View::All, "write a fact", Effect::Repeatable)?, connection => async {
            bind!(sqlx::query(sql::SET_META) => MODEL, model).execute(connection).await?;
            Ok(())
        })
    }

    async fn queue_missing(
        &self,
        model: Option<(&str, usize)>,
        after: Option<MemoryKey>,
    ) -> Result<Option<MemoryKey>> {
        let after = after.unwrap_or_default();
        let project = i32::try_from(after.project).unwrap_or(i32::MAX);
        attempt!(self.attempts(View::All, "queue memories", Effect::Repeatable)?, connection => async {
            let row = bind!(sqlx::query(vector_sql::QUEUE_MISSING) =>
                model.map(|(id, _)| id), project, after.seq,
                model.map(|(_, dimension)| i32::try_from(dimension).unwrap_or(i32::MAX)),
                i32::try_from(SHORT_BYTES).unwrap_or(i32::MAX),
                i32::try_from(SHORT_TURN_BYTES).unwrap_or(i32::MAX))
                .fetch_optional(connection)
                .await?;
            let key = |row: PgRow| Ok(MemoryKey { project: row.try_get("project_id")?, seq: row.try_get("seq")? });
            row.map(key).transpose().map_err(Fault::Sql)
        })
    }

    async fn claim_index_jobs(&self, limit: usize, now: DateTime<Utc>) -> Result<Vec<IndexJob>> {
        attempt!(self.attempts(View::All, "claim index jobs", Effect::Repeatable)?, connection => async {
            let rows = bind!(sqlx::query(vector_sql::CLAIM) =>
                now, super::bounded(limit), now + CLAIM)
                .fetch_all(connection)
                .await?;
            rows.iter().map(job).collect::<Result<_, _>>().map_err(Fault::Sql)
        })
    }

    async fn save_vectors(
        &self,
        model: &str,
        embedded: &[Embedded],
        now: DateTime<Utc>,
    ) -> Result<u64> {
        let mut saved = 0;
        for group in group_memories(embedded) {
            let mut attempts: Attempts<'_> = self
                .attempts(View::All, "save vectors", Effect::Repeatable)?
                .with_limit(SAVE);
            saved += attempt!(attempts, connection => save(connection, model, group, now))?;
        }
        Ok(saved)
    }

    async fn postpone_index_jobs(
        &self,
        keys: &[MemoryKey],
        error: Option<&str>,
        not_before: DateTime<Utc>,
    ) -> Result<()> {
        let (projects, seqs) = columns(keys);
        attempt!(self.attempts(View::All, "postpone index jobs", Effect::Repeatable)?, connection => async {
            bind!(sqlx::query(vector_sql::POSTPONE) => &projects, &seqs, error, not_before)
                .execute(connection)
                .await?;
            Ok(())
        })
    }

    async fn index_backlog(&self) -> Result<u64> {
        attempt!(self.attempts(View::All, "count index jobs", Effect::Read)?, connection => async {
            let count: i64 = sqlx::query_scalar(vector_sql::WAITING).fetch_one(connection).await?;
            Ok(natural(count))
        })
    }
}

pub(super) async fn search_vectors(
    store: &PostgresStore,
    scope: &Scope,
    query: &VectorQuery,
) -> Result<Vec<Hit>> {
    let way = store.choose_way(scope, query).await?;
    let last = PAGES[PAGES.len() - 1];
    let mut best: HashMap<i64, Hit> = HashMap::new();
    // A memory is returned several times, once for each of its near passages.
    for page in PAGES
        .into_iter()
        .filter(|page| *page >= query.limit.saturating_mul(5) / 4 || *page == last)
    {
        let rows = store.nearest(scope, query, page, way).await?;
        let all = rows.len() < page;
        for SemanticRow(row) in rows {
            let known = best.entry(row.seq).or_insert_with(|| row.clone());
            if known.cosine < row.cosine {
                *known = row;
            }
        }
        if all || best.len() >= query.limit {
            break;
        }
    }
    let mut found: Vec<Hit> = best.into_values().collect();
    found.sort_by(|a, b| {
        let nearer = b
            .cosine
            .unwrap_or(-1.0)
            .total_cmp(&a.cosine.unwrap_or(-1.0));
        nearer.then_with(|| b.seq.cmp(&a.seq))
    });
    found.truncate(query.limit);
    Ok(found)
}
