//! Vectors in SQLite: searched by means of a copy in memory (see [`matrix`](super::matrix)).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::error::Fault;
use super::filter::bind_filter;
use super::matrix::{Matrix, Nearest};
use super::{Open, SqliteStore, json_numbers, sql, vector_sql};
use crate::domain::memory::embedded_text;
use crate::domain::passage::{SHORT_BYTES, SHORT_TURN_BYTES};
use crate::domain::{Episode, Hit, Scope};
use crate::store::statement::bind;
use crate::store::{
    Embedded, IndexJob, MemoryKey, Result, StoreError, VectorQuery, VectorStore, fields,
};

/// Key of the property that stores the model of the queue.
const MODEL: &str = "embedding_model";
/// Number of comparisons that run on the caller's thread; more run on a separate thread.
const FEW: usize = 4_000;
/// Number of additional memories in the first comparison, because filters and rounding remove some.
const SPARE: usize = 32;

/// The copy of the vectors in memory.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    matrix: Arc<RwLock<Option<Matrix>>>,
    /// A caller was cancelled between a commit and the update of the copy.
    stale: AtomicBool,
    saves_begun: AtomicU64,
    saves_ended: AtomicU64,
    /// The memories of the saves that have not ended, each with the number of its save.
    being_saved: Mutex<Vec<(u64, i64)>>,
}

impl Vectors {
    fn change_being_saved<T>(&self, change: impl FnOnce(&mut Vec<(u64, i64)>) -> T) -> T {
        let mut being_saved = self.being_saved.lock();
        change(being_saved.as_mut().unwrap_or_else(PoisonError::get_mut))
    }

    /// Removes purged vectors from memory.
    pub(super) fn forget(&self) {
        self.stale.store(true, Ordering::Release);
        // Active readers keep the copy a moment longer; the mark makes the next one reload it.
        if let Ok(mut matrix) = self.matrix.try_write() {
            *matrix = None;
        }
    }
}

/// Counts a save as begun, and as ended when it is dropped. Between its commit and the update of the copy, the copy lists
/// passages that are no longer in the database, and lacks new ones.
struct Save<'a> {
    vectors: &'a Vectors,
    number: u64,
}

impl<'a> Save<'a> {
    fn begin(vectors: &'a Vectors, embedded: &[Embedded]) -> Self {
        let number = vectors.saves_begun.fetch_add(1, Ordering::AcqRel);
        let memories = embedded.iter().map(|memory| (number, memory.key.seq));
        vectors.change_being_saved(|being_saved| being_saved.extend(memories));
        Self { vectors, number }
    }
}

impl Drop for Save<'_> {
    fn drop(&mut self) {
        self.vectors.change_being_saved(|being_saved| {
            being_saved.retain(|(number, _)| *number != self.number)
        });
        self.vectors.saves_ended.fetch_add(1, Ordering::AcqRel);
    }
}

/// Marks the copy as stale unless it is defused.
struct Doubt<'a>(&'a Vectors, bool);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.stale.store(true, Ordering::Release);
        }
    }
}

impl Open {
    /// Returns the copy. Loads it from the database if it is missing or of another model.
    async fn matrix(
        &self,
        model: &str,
        dimension: usize,
    ) -> Result<OwnedRwLockReadGuard<Option<Matrix>>, Fault> {
        let fits = |matrix: &Option<Matrix>| {
            let of_model = |matrix: &Matrix| matrix.model == model && matrix.dimension == dimension;
            !self.vectors.stale.load(Ordering::Acquire) && matrix.as_ref().is_some_and(of_model)
        };
        let guard = Arc::clone(&self.vectors.matrix).read_owned().await;
        if fits(&guard) {
            return Ok(guard);
        }
        drop(guard);
        let mut guard = Arc::clone(&self.vectors.matrix).write_owned().await;
        if !fits(&guard) {
            self.vectors.stale.store(false, Ordering::Release);
            let mut doubt = Doubt(&self.vectors, true);
            *guard = None;
            *guard = Some(self.read_matrix(model, dimension).await?);
            doubt.1 = false;
        }
        Ok(guard.downgrade())
    }

    async fn read_matrix(&self, model: &str, dimension: usize) -> Result<Matrix, Fault> {
        let mut connection = self.connection().await?;
        let mut matrix = Matrix::new(model, dimension);
        let mut rows = bind!(sqlx::query(vector_sql::VECTORS) => model, dimension as i64)
            .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            let (project, memory) = (row.try_get(0)?, row.try_get(1)?);
            let vector = numbers(row.try_get(3)?);
            matrix.push(project, memory, row.try_get(2)?, &vector);
        }
        Ok(matrix)
    }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect()
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn job(row: &SqliteRow) -> Result<IndexJob, sqlx::Error> {
    let situation: Option<String> = row.try_get(6)?;
    let lesson: Option<String> = row.try_get(7)?;
    let episode = situation.zip(lesson).map(|(situation, lesson)| Episode {
        situation,
        outcome: 0.0,
        lesson,
    });
    let content: &str = row.try_get(4)?;
    Ok(IndexJob {
        key: MemoryKey {
            project: row.try_get(1)?,
            seq: row.try_get(0)?,
        },
        version: row.try_get(3)?,
        text: embedded_text(content, episode.as_ref()),
        is_turn: row.try_get(8)?,
        attempts: row.try_get(2)?,
    })
}

#[async_trait]
impl VectorStore for SqliteStore {
    async fn prepare_vectors(&self, model: &str, dimension: usize) -> Result<()> {
        let open = self.opened()?;
        // Without a time limit, because only background work waits for it.
        let loaded = open.matrix(model, dimension).await;
        loaded
            .map(drop)
            .map_err(|fault| fault.explain("reading vectors"))
    }

    async fn queued_model(&self) -> Result<Option<String>> {
        let open = self.opened()?;
        self.bounded("reading a note", async {
            let mut connection = open.connection().await?;
            let model = sqlx::query_scalar(sql::META).bind(MODEL);
            Ok(model.fetch_optional(&mut *connection).await?)
        })
        .await
    }

    async fn set_queued_model(&self, model: &str) -> Result<()> {
        self.write("writing a note", async |connection, _| {
            bind!(sqlx::query(sql::SET_META) => MODEL, model)
                .execute(connection)
                .await?;
            Ok(())
        })
        .await
    }

    async fn queue_missing(
        &self,
        model: Option<(&str, usize)>,
        after: Option<MemoryKey>,
    ) -> Result<Option<MemoryKey>> {
        let after = after.map_or(0, |key| key.seq);
        self.write("queueing memories", async |connection, _| {
            let end: Option<i64> = sqlx::query_scalar(vector_sql::PORTION)
                .bind(after)
                .fetch_one(&mut *connection)
                .await?;
            let Some(end) = end else { return Ok(None) };
            bind!(sqlx::query(vector_sql::QUEUE_MISSING) =>
                model.map(|(id, _)| id), after, end, model.map(|(_, dimension)| dimension as i64),
                SHORT_BYTES as i64, SHORT_TURN_BYTES as i64)
            .execute(&mut *connection)
            .await?;
            Ok(Some(MemoryKey {
                project: 0,
                seq: end,
            }))
        })
        .await
    }

    // One process owns the file and only one of its loops claims jobs, so the claim need not be stored.
    async fn claim_index_jobs(&self, limit: usize, now: DateTime<Utc>) -> Result<Vec<IndexJob>> {
        let open = self.opened()?;
        self.bounded("reading the index queue", async {
            let mut connection = open.connection().await?;
            let rows = bind!(sqlx::query(vector_sql::CLAIM) =>
                now.timestamp_micros(), i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
            Ok(rows.iter().map(job).collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    async fn save_vectors(
        &self,
        model: &str,
        embedded: &[Embedded],
        now: DateTime<Utc>,
    ) -> Result<u64> {
        let open = self.opened()?;
        let saving = async {
            let _save = Save::begin(&open.vectors, embedded);
            let mut doubt = Doubt(&open.vectors, true);
            let result = open
                .write("saving vectors", async |connection, _| {
                    let mut saved = Vec::new();
                    for memory in embedded {
                        let seq = memory.key.seq;
                        let unchanged: bool = bind!(sqlx::query_scalar(vector_sql::UNCHANGED) =>
                            seq, memory.version)
                        .fetch_one(&mut *connection)
                        .await?;
                        if !unchanged {
                            continue;
                        }
                        sqlx::query(sql::DELETE_EMBEDDING)
                            .bind(seq)
                            .execute(&mut *connection)
                            .await?;
                        for (passage, vector) in (memory.first_passage..).zip(&memory.vectors) {
                            bind!(sqlx::query(vector_sql::INSERT_EMBEDDING) =>
                                seq, model, i64::from(passage), vector.len() as i64, bytes(vector),
                                now.timestamp_micros())
                            .execute(&mut *connection)
                            .await?;
                        }
                        sqlx::query(sql::DELETE_JOB)
                            .bind(seq)
                            .execute(&mut *connection)
                            .await?;
                        saved.push(memory);
                    }
                    Ok(saved)
                })
                .await;
            if let Ok(saved) = &result {
                let mut guard = open.vectors.matrix.write().await;
                if let Some(matrix) = guard.as_mut().filter(|matrix| matrix.model == model) {
                    matrix.remove(
                        &saved
                            .iter()
                            .map(|memory| memory.key.seq)
                            .collect::<Vec<_>>(),
                    );
                    let dimension = matrix.dimension;
                    for memory in saved {
                        let key = memory.key;
                        for (passage, vector) in (memory.first_passage..)
                            .zip(&memory.vectors)
                            .filter(|(_, vector)| vector.len() == dimension)
                        {
                            matrix.push(key.project, key.seq, passage, vector);
                        }
                    }
                }
                doubt.1 = false;
            }
            Ok(result?.len() as u64)
        };
        self.bounded("saving vectors", saving).await
    }

    async fn postpone_index_jobs(
        &self,
        keys: &[MemoryKey],
        error: Option<&str>,
        not_before: DateTime<Utc>,
    ) -> Result<()> {
        let memories: Vec<i64> = keys.iter().map(|key| key.seq).collect();
        self.write("postponing an index job", async |connection, _| {
            bind!(sqlx::query(vector_sql::POSTPONE) =>
                json_numbers(&memories), not_before.timestamp_micros(), error)
            .execute(connection)
            .await?;
            Ok(())
        })
        .await
    }

    async fn index_backlog(&self) -> Result<u64> {
        let open = self.opened()?;
        self.bounded("counting the index queue", async {
            let mut connection = open.connection().await?;
            let count: i64 = sqlx::query_scalar(vector_sql::BACKLOG)
                .fetch_one(&mut *connection)
                .await?;
            Ok(count.unsigned_abs())
        })
        .await
    }
}

/// Compares all vectors in scope with the copy in memory, then the nearest with the numbers in the database.
pub(super) async fn search_vectors(
    open: &Open,
    scope: &Scope,
    query: &VectorQuery,
) -> Result<Vec<Hit>, Fault> {
    let saves_ended = open.vectors.saves_ended.load(Ordering::Acquire);
    let being_saved: Vec<i64> = open
        .vectors
        .change_being_saved(|being_saved| being_saved.iter().map(|(_, seq)| *seq).collect());
    let matrix = open.matrix(&query.model, query.vector.len()).await?;
    let (mut connection, projects) = open.reader(scope).await?;
    let few = matrix.as_ref().is_none_or(|matrix| matrix.len() <= FEW);
    let (vector, of) = (Arc::clone(&query.vector), projects.clone());
    let rank = move || {
        matrix
            .as_ref()
            .map(|matrix| matrix.ranked(&of, &vector))
            .unwrap_or_default()
    };
    let mut ranked = if few {
        rank()
    } else {
        let lost = |error| StoreError::Internal {
            during: "searching vectors",
            source: sqlx::Error::Io(std::io::Error::other(error)),
        };
        tokio::task::spawn_blocking(rank).await.map_err(lost)?
    };
    // The database evaluates the filter. The narrower the filter, the further down the search goes.
    let mut found: HashMap<i64, Hit> = HashMap::new();
    let mut portion = query.limit * 5 / 4 + SPARE;
    while found.len() < query.limit {
        let Some(nearest) = ranked.next(portion) else {
            break;
        };
        portion *= 8;
        let passages: Vec<(i64, u16)> = nearest.iter().map(Nearest::passage_key).collect();
        compare_exactly(&mut connection, &projects, query, &passages, &mut found).await?;
        if open.vectors.saves_begun.load(Ordering::Acquire) != saves_ended {
            let missing = passages.iter().map(|(memory, _)| *memory);
            let missing: Vec<i64> = missing.filter(|seq| !found.contains_key(seq)).collect();
            let current = read_passages(&mut connection, &query.model, &missing).await?;
            compare_exactly(&mut connection, &projects, query, &current, &mut found).await?;
        }
    }
    if !being_saved.is_empty() {
        let current = read_passages(&mut connection, &query.model, &being_saved).await?;
        compare_exactly(&mut connection, &projects, query, &current, &mut found).await?;
    }
    let mut found: Vec<Hit> = found.into_values().collect();
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

/// Adds the memories that pass the filter, each with the exact cosine of its nearest passage.
async fn compare_exactly(
    connection: &mut SqliteConnection,
    projects: &[i64],
    query: &VectorQuery,
    passages: &[(i64, u16)],
    found: &mut HashMap<i64, Hit>,
) -> Result<(), Fault> {
    if passages.is_empty() {
        return Ok(());
    }
    let mut statement = bind!(sqlx::query(vector_sql::nearest(&query.filter, projects)) =>
        json_numbers(projects), json_passages(passages), &query.model);
    for _ in 4..10 {
        statement = statement.bind(None::<i64>);
    }
    let rows = bind_filter!(statement, query.filter)
        .fetch_all(connection)
        .await?;
    for row in &rows {
        let vector = numbers(row.try_get(2)?);
        if vector.len() != query.vector.len() {
            continue;
        }
        let products = vector.iter().zip(query.vector.iter());
        let cosine: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let hit = Hit {
            cosine: Some(cosine),
            passage: row.try_get("passage")?,
            ..fields::hit(row)?
        };
        if found
            .get(&hit.seq)
            .is_none_or(|best| best.cosine < hit.cosine)
        {
            found.insert(hit.seq, hit);
        }
    }
    Ok(())
}

/// Returns the current passages of memories.
async fn read_passages(
    connection: &mut SqliteConnection,
    model: &str,
    memories: &[i64],
) -> Result<Vec<(i64, u16)>, Fault> {
    let passages = bind!(sqlx::query_as(vector_sql::PASSAGES) => json_numbers(memories), model);
    Ok(passages.fetch_all(connection).await?)
}

/// Pairs of memory and passage as a JSON array.
fn json_passages(passages: &[(i64, u16)]) -> String {
    serde_json::json!(passages).to_string()
}
