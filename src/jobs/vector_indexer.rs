//! Computes the embeddings of memories in the background, newest first, one batch at a time, on separate threads.
//!
//! Each passage of a text has an embedding. If the model changes, all memories are queued again. Meanwhile recall uses the
//! new embeddings that exist, and words. Long texts that have one embedding of the whole text, from earlier versions, are
//! queued as well; recall uses it until then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tokio::time::sleep;

use crate::domain::Clock;
use crate::domain::count::{count_of, verb_for};
use crate::domain::passage::{Passages, split_passages};
use crate::embed::{Desk, EmbedError, Embedder, Model, Vector, normalize_vector};
use crate::lifecycle::{Condition, Heartbeat, Role, Supervisor};
use crate::store::{Embedded, IndexJob, MemoryKey, Store, StoreError};

/// Name of the division of texts into passages. A database that was filled under another name is searched for vectors of
/// whole long texts, which are recomputed.
const PASSAGE_RULES: &str = "passages 1";
/// Number of memories per batch, which takes some hundred milliseconds.
const BATCH: usize = 32;
/// Interval for finding memories of other servers. Memories of this server wake the indexer.
const PERIOD: Duration = Duration::from_secs(5);
/// First pause while the database or the embedder is unavailable, doubled after each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Maximum time of a batch. After this time the loop counts as stuck.
const MAX_AGE: Duration = Duration::from_secs(900);
/// First pause for a text that the embedder refuses, doubled with each attempt.
const REFUSED: TimeDelta = TimeDelta::minutes(10);

/// Spawns the indexer and the preparation of the search. `condition` is always met, because recall works without embeddings.
pub fn index_vectors(
    supervisor: &Supervisor,
    store: &Arc<dyn Store>,
    desk: &Arc<Desk>,
    clock: &Arc<dyn Clock>,
    condition: Condition,
) {
    let condition = Arc::new(condition);
    condition.met(&describe_state(desk, None));
    let (indexer, preparer) = (supervisor.clone(), supervisor.stopping().clone());
    let parts = (
        Arc::clone(store),
        Arc::clone(desk),
        Arc::clone(clock),
        condition,
    );
    supervisor.spawn_restarting("vector indexer", move || {
        let (store, desk, clock, condition) = parts.clone();
        let heartbeat = indexer.heartbeat("vector indexer", Role::Helper, MAX_AGE);
        let stopping = indexer.stopping().clone();
        async move {
            let mut indexer = Indexer {
                store,
                desk,
                clock,
                condition,
                queued: None,
                again: false,
                told: Instant::now(),
                pause: FIRST_PAUSE,
            };
            tokio::select! {
                () = stopping.cancelled() => Ok::<(), StoreError>(()),
                result = indexer.run_loop(&heartbeat) => result,
            }
        }
    });
    let (store, desk) = (Arc::clone(store), Arc::clone(desk));
    supervisor.spawn_restarting("vector search preparer", move || {
        let (store, desk, stopping) = (Arc::clone(&store), Arc::clone(&desk), preparer.clone());
        async move {
            tokio::select! {
                () = stopping.cancelled() => Ok::<(), StoreError>(()),
                result = prepare_search(&*store, &desk) => result,
            }
        }
    });
}

/// Prepares the search once, because the embedder does not change while the service runs.
async fn prepare_search(store: &dyn Store, desk: &Desk) -> Result<(), StoreError> {
    loop {
        if let Some(embedder) = desk.embedder() {
            let model = embedder.model();
            match store.prepare_vectors(&model.id, model.dimension).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Unavailable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        sleep(FIRST_PAUSE).await;
    }
}

/// Describes the model and the backlog for people.
fn describe_state(desk: &Desk, backlog: Option<u64>) -> String {
    let wait = backlog
        .map(|count| {
            format!(
                ", {} {}",
                count_of(count, "memory"),
                verb_for(count, "waits", "wait")
            )
        })
        .unwrap_or_default();
    match (desk.wanted(), desk.embedder(), desk.trouble()) {
        (None, ..) => "off: recall is by words alone".to_owned(),
        (_, Some(embedder), None) => format!("{}{wait}", embedder.model()),
        (_, _, trouble) => format!(
            "by words alone: {}{wait}",
            trouble.unwrap_or_else(|| "loading".to_owned())
        ),
    }
}

struct Indexer {
    store: Arc<dyn Store>,
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
    condition: Arc<Condition>,
    /// The model for which the queue is complete.
    queued: Option<Model>,
    /// Whether to search for missing embeddings once more when the queue is empty. After a change of the model, a server with
    /// the former one may have taken memories from the queue.
    again: bool,
    /// Time of the last count of the backlog.
    told: Instant,
    pause: Duration,
}

impl Indexer {
    async fn run_loop(&mut self, heartbeat: &Heartbeat) -> Result<(), StoreError> {
        loop {
            heartbeat.beat();
            let worked = match self.desk.embedder() {
                None => Ok(0),
                Some(embedder) => self.index_batch(&*embedder, heartbeat).await,
            };
            match worked {
                Ok(0) => {
                    self.pause = FIRST_PAUSE;
                    self.report_backlog().await;
                    let called = async {
                        tokio::select! {
                            () = self.desk.called() => {}
                            () = sleep(PERIOD) => {}
                        }
                    };
                    heartbeat.idle(called).await;
                }
                Ok(_) => self.pause = FIRST_PAUSE,
                Err(Stop::Later(after)) => {
                    self.report_backlog().await;
                    heartbeat.idle(sleep(after.unwrap_or(self.pause))).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
                Err(Stop::Store(error @ StoreError::Unavailable { .. })) => {
                    if self.pause == FIRST_PAUSE {
                        tracing::warn!(%error, "memories wait for their vectors");
                    }
                    heartbeat.idle(sleep(self.pause)).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
                Err(Stop::Store(error)) => return Err(error),
            }
        }
    }

    async fn report_backlog(&mut self) {
        self.told = Instant::now();
        let backlog = self.store.index_backlog().await.ok();
        self.condition.met(&describe_state(&self.desk, backlog));
    }

    /// Runs `work`, and reports the backlog regularly until it ends.
    async fn report_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let due = sleep(PERIOD.saturating_sub(self.told.elapsed()));
            tokio::select! {
                done = &mut work => return done,
                () = due => self.report_backlog().await,
            }
        }
    }

    /// Processes one batch. Returns its number of memories.
    async fn index_batch(
        &mut self,
        embedder: &dyn Embedder,
        heartbeat: &Heartbeat,
    ) -> Result<usize, Stop> {
        let model = embedder.model();
        if self.queued.as_ref() != Some(model) {
            self.fill_queue(model, heartbeat).await?;
            self.report_backlog().await;
        }
        let mut jobs = self.store.claim_index_jobs(BATCH, self.clock.now()).await?;
        if jobs.is_empty() && std::mem::take(&mut self.again) {
            self.queue_missing(model, heartbeat).await?;
            jobs = self.store.claim_index_jobs(BATCH, self.clock.now()).await?;
        }
        if jobs.is_empty() {
            return Ok(0);
        }
        let work = embed_passages(embedder, &jobs);
        match self.report_while(work).await {
            Ok(embedded) => self.save_vectors(model, &jobs, embedded).await?,
            Err(EmbedError::Unavailable {
                reason,
                retry_after,
            }) => {
                return Err(self.postpone_jobs(&jobs, &reason, retry_after).await?);
            }
            // Probably only one of the texts is refused.
            Err(_) => self.embed_separately(embedder, &jobs, heartbeat).await?,
        }
        if self.desk.trouble().is_some() {
            self.desk.set_trouble(None);
            self.report_backlog().await;
        }
        Ok(jobs.len())
    }

    async fn save_vectors(
        &self,
        model: &Model,
        jobs: &[IndexJob],
        embedded: Vec<Embedded>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let saved = self.store.save_vectors(&model.id, &embedded, now).await?;
        if saved < jobs.len() as u64 {
            // Some memories have changed. They are queued again, but may still be claimed.
            let keys: Vec<MemoryKey> = jobs.iter().map(|job| job.key).collect();
            self.store.postpone_index_jobs(&keys, None, now).await?;
        }
        Ok(())
    }

    async fn embed_separately(
        &self,
        embedder: &dyn Embedder,
        jobs: &[IndexJob],
        heartbeat: &Heartbeat,
    ) -> Result<(), Stop> {
        for (place, job) in jobs.iter().enumerate() {
            heartbeat.beat();
            let job_alone = std::slice::from_ref(job);
            match embed_passages(embedder, job_alone).await {
                Ok(embedded) => {
                    self.save_vectors(embedder.model(), job_alone, embedded)
                        .await?
                }
                Err(EmbedError::Unavailable {
                    reason,
                    retry_after,
                }) => {
                    return Err(self
                        .postpone_jobs(&jobs[place..], &reason, retry_after)
                        .await?);
                }
                Err(error) => {
                    let error = error.to_string();
                    tracing::warn!(
                        error,
                        attempts = job.attempts,
                        "a memory cannot be embedded; it is found by its words"
                    );
                    let later = self.clock.now() + REFUSED * (1 << job.attempts.min(8));
                    self.store
                        .postpone_index_jobs(&[job.key], Some(&error), later)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Returns the memories to the queue, because the embedder is unavailable.
    async fn postpone_jobs(
        &self,
        jobs: &[IndexJob],
        reason: &str,
        after: Option<Duration>,
    ) -> Result<Stop, StoreError> {
        if self.desk.trouble().as_deref() != Some(reason) {
            tracing::warn!(
                reason,
                "the embedder does not get on: memories wait for their vectors"
            );
        }
        self.desk.set_trouble(Some(reason.to_owned()));
        let keys: Vec<MemoryKey> = jobs.iter().map(|job| job.key).collect();
        self.store
            .postpone_index_jobs(&keys, None, self.clock.now())
            .await?;
        Ok(Stop::Later(after))
    }

    /// Queues memories without embeddings of this model and their passages, unless that was done before.
    async fn fill_queue(&mut self, model: &Model, heartbeat: &Heartbeat) -> Result<(), Stop> {
        let now = format!("{model}, {PASSAGE_RULES}");
        let before = self.store.queued_model().await?;
        if before.as_ref() != Some(&now) {
            if let Some(before) = &before {
                tracing::info!(
                    before,
                    now,
                    "another model or other passages: recomputes the vectors of the memories that lack them"
                );
            }
            self.queue_missing(model, heartbeat).await?;
            self.store.set_queued_model(&now).await?;
            self.again = before.is_some();
        }
        self.queued = Some(model.clone());
        Ok(())
    }

    async fn queue_missing(&self, model: &Model, heartbeat: &Heartbeat) -> Result<(), Stop> {
        let mut place = None;
        loop {
            heartbeat.beat();
            place = self
                .store
                .queue_missing(Some((&model.id, model.dimension)), place)
                .await?;
            if place.is_none() {
                return Ok(());
            }
        }
    }
}

/// Computes one vector for each passage of the texts.
async fn embed_passages(
    embedder: &dyn Embedder,
    jobs: &[IndexJob],
) -> Result<Vec<Embedded>, EmbedError> {
    let passages: Vec<Passages> = jobs
        .iter()
        .map(|job| split_passages(&job.text, job.is_turn))
        .collect();
    let texts = jobs.iter().zip(&passages).flat_map(|(job, passages)| {
        let ranges = passages.ranges.iter().cloned();
        ranges.map(|range| job.text[range].trim().to_owned())
    });
    let vectors = embedder.passages(texts.collect()).await?.into_iter();
    let mut vectors = vectors.map(average_vectors);
    let embedded = jobs.iter().zip(passages).map(|(job, passages)| Embedded {
        key: job.key,
        version: job.version,
        first_passage: passages.first,
        vectors: vectors.by_ref().take(passages.ranges.len()).collect(),
    });
    Ok(embedded.collect())
}

/// The mean direction of the parts into which an embedder divides a text that is too long for its model.
fn average_vectors(mut parts: Vec<Vector>) -> Vector {
    let Some(first) = parts.pop() else {
        return Vector::new();
    };
    let mut sum = first.clone();
    for part in &parts {
        sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    let dimension = sum.len();
    // Opposite parts have no mean direction.
    normalize_vector(sum, dimension).unwrap_or(first)
}

/// The reason why a round ended early.
enum Stop {
    /// The embedder is unavailable.
    Later(Option<Duration>),
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
