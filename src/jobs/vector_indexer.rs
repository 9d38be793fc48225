//! Gives memories their vectors, the newest first, beside the requests: one batch at a time, on threads of its own.
//!
//! When the model is another one than before, all memories are queued again; recall finds by the vectors that there are
//! already, and by words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tokio::time::sleep;

use crate::domain::Clock;
use crate::embed::{Desk, EmbedError, Embedder, Model};
use crate::lifecycle::{Condition, Heartbeat, Role, Supervisor};
use crate::store::{Embedded, IndexJob, MemoryKey, Store, StoreError};

/// Memories in a batch: some hundred milliseconds of work.
const BATCH: usize = 32;
/// How often somebody else's memories are looked for; our own announce themselves.
const PERIOD: Duration = Duration::from_secs(5);
/// Pause while the database or the embedder is away; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longest batch; beyond this the loop counts as stuck.
const MAX_AGE: Duration = Duration::from_secs(900);
/// Pause for a text which the embedder refuses; it doubles with each attempt.
const REFUSED: TimeDelta = TimeDelta::minutes(10);

/// Spawns the indexer, and what prepares the search. `condition` is always met: it informs, since recall works without.
pub fn index_vectors(
    supervisor: &Supervisor,
    store: &Arc<dyn Store>,
    desk: &Arc<Desk>,
    clock: &Arc<dyn Clock>,
    condition: Condition,
) {
    let condition = Arc::new(condition);
    condition.met(&state(desk, None));
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
                result = indexer.run(&heartbeat) => result,
            }
        }
    });
    let (store, desk) = (Arc::clone(store), Arc::clone(desk));
    supervisor.spawn_restarting("vector search preparer", move || {
        let (store, desk, stopping) = (Arc::clone(&store), Arc::clone(&desk), preparer.clone());
        async move {
            tokio::select! {
                () = stopping.cancelled() => Ok::<(), StoreError>(()),
                result = prepare(&*store, &desk) => result,
            }
        }
    });
}

/// Until it succeeded once: an embedder does not change while the service runs.
async fn prepare(store: &dyn Store, desk: &Desk) -> Result<(), StoreError> {
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

/// For people: what embeds, and how much waits for it.
fn state(desk: &Desk, backlog: Option<u64>) -> String {
    let wait = backlog
        .map(|count| format!(", {count} memories wait"))
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
    /// The queue was filled for another model than before. A server that still works with that one may have taken
    /// memories off it, so that one looks once more when it is empty.
    again: bool,
    /// When the backlog was counted.
    told: Instant,
    pause: Duration,
}

impl Indexer {
    async fn run(&mut self, heartbeat: &Heartbeat) -> Result<(), StoreError> {
        loop {
            heartbeat.beat();
            let worked = match self.desk.embedder() {
                None => Ok(0),
                Some(embedder) => self.round(&*embedder, heartbeat).await,
            };
            match worked {
                Ok(0) => {
                    self.pause = FIRST_PAUSE;
                    self.tell().await;
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
                    self.tell().await;
                    heartbeat.idle(sleep(after.unwrap_or(self.pause))).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
                Err(Stop::Store(StoreError::Unavailable { .. })) => {
                    heartbeat.idle(sleep(self.pause)).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
                Err(Stop::Store(error)) => return Err(error),
            }
        }
    }

    async fn tell(&mut self) {
        self.told = Instant::now();
        let backlog = self.store.index_backlog().await.ok();
        self.condition.met(&state(&self.desk, backlog));
    }

    /// Does `work`, which may take its time, and tells how much waits every now and then.
    async fn telling<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let due = sleep(PERIOD.saturating_sub(self.told.elapsed()));
            tokio::select! {
                done = &mut work => return done,
                () = due => self.tell().await,
            }
        }
    }

    /// One batch; returns how many memories were dealt with.
    async fn round(
        &mut self,
        embedder: &dyn Embedder,
        heartbeat: &Heartbeat,
    ) -> Result<usize, Stop> {
        let model = embedder.model();
        if self.queued.as_ref() != Some(model) {
            self.fill_queue(model, heartbeat).await?;
            self.tell().await;
        }
        let mut jobs = self.store.claim_index_jobs(BATCH, self.clock.now()).await?;
        if jobs.is_empty() && std::mem::take(&mut self.again) {
            self.queue_missing(model, heartbeat).await?;
            jobs = self.store.claim_index_jobs(BATCH, self.clock.now()).await?;
        }
        if jobs.is_empty() {
            return Ok(0);
        }
        let work = embedder.passages(jobs.iter().map(|job| job.text.clone()).collect());
        match self.telling(work).await {
            Ok(vectors) => self.save(model, &jobs, vectors).await?,
            Err(EmbedError::Unavailable {
                reason,
                retry_after,
            }) => {
                return Err(self.postpone(&jobs, &reason, retry_after).await?);
            }
            // One of them, most probably.
            Err(_) => self.one_by_one(embedder, &jobs, heartbeat).await?,
        }
        if self.desk.trouble().is_some() {
            self.desk.set_trouble(None);
            self.tell().await;
        }
        Ok(jobs.len())
    }

    async fn save(
        &self,
        model: &Model,
        jobs: &[IndexJob],
        vectors: Vec<Vec<Vec<f32>>>,
    ) -> Result<(), StoreError> {
        let embedded: Vec<Embedded> = jobs
            .iter()
            .zip(vectors)
            .map(|(job, vectors)| Embedded {
                key: job.key,
                version: job.version,
                vectors,
            })
            .collect();
        let now = self.clock.now();
        let saved = self.store.save_vectors(&model.id, &embedded, now).await?;
        if saved < jobs.len() as u64 {
            // Some changed under our hands. Those are queued anew already, but a claim may still hold them.
            let keys: Vec<MemoryKey> = jobs.iter().map(|job| job.key).collect();
            self.store.postpone_index_jobs(&keys, None, now).await?;
        }
        Ok(())
    }

    async fn one_by_one(
        &self,
        embedder: &dyn Embedder,
        jobs: &[IndexJob],
        heartbeat: &Heartbeat,
    ) -> Result<(), Stop> {
        for (place, job) in jobs.iter().enumerate() {
            heartbeat.beat();
            match embedder.passages(vec![job.text.clone()]).await {
                Ok(vectors) => {
                    self.save(embedder.model(), std::slice::from_ref(job), vectors)
                        .await?
                }
                Err(EmbedError::Unavailable {
                    reason,
                    retry_after,
                }) => {
                    return Err(self.postpone(&jobs[place..], &reason, retry_after).await?);
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

    /// The embedder is away: gives the memories back.
    async fn postpone(
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

    /// Queues what has no vectors of this model, unless that was done before.
    async fn fill_queue(&mut self, model: &Model, heartbeat: &Heartbeat) -> Result<(), Stop> {
        let (before, now) = (self.store.queued_model().await?, model.to_string());
        if before.as_ref() != Some(&now) {
            if let Some(before) = &before {
                tracing::info!(
                    before,
                    now,
                    "another model: memories without its vectors are embedded anew"
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

/// Why a round ended early.
enum Stop {
    /// The embedder is away.
    Later(Option<Duration>),
    /// The store.
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
