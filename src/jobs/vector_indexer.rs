//! Gives memories their vectors, the newest first, beside the requests: one batch at a time, on threads of its own.
//!
//! When the model is another one than before, all memories are queued again; recall finds by the vectors that there are
//! already, and by words.

use std::sync::Arc;
use std::time::Duration;

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
    let parts = (Arc::clone(store), Arc::clone(desk), Arc::clone(clock), condition);
    supervisor.spawn_restarting("vector indexer", move || {
        let (store, desk, clock, condition) = parts.clone();
        let heartbeat = indexer.heartbeat("vector indexer", Role::Helper, MAX_AGE);
        let stopping = indexer.stopping().clone();
        async move {
            let mut indexer = Indexer { store, desk, clock, condition, queued: None, pause: FIRST_PAUSE };
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
    let wait = backlog.map(|count| format!(", {count} memories wait")).unwrap_or_default();
    match (desk.wanted(), desk.embedder(), desk.trouble()) {
        (None, ..) => "off: recall is by words alone".to_owned(),
        (_, Some(embedder), None) => format!("{}{wait}", embedder.model()),
        (_, _, trouble) => format!("by words alone: {}{wait}", trouble.unwrap_or_else(|| "loading".to_owned())),
    }
}

struct Indexer {
    store: Arc<dyn Store>,
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
    condition: Arc<Condition>,
    /// The model for which the queue is complete.
    queued: Option<String>,
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

    async fn tell(&self) {
        let backlog = self.store.index_backlog().await.ok();
        self.condition.met(&state(&self.desk, backlog));
    }

    /// One batch; returns how many memories were dealt with.
    async fn round(&mut self, embedder: &dyn Embedder, heartbeat: &Heartbeat) -> Result<usize, Stop> {
        let model = embedder.model();
        if self.queued.as_ref() != Some(&model.id) {
            self.fill_queue(model, heartbeat).await?;
        }
        let jobs = self.store.claim_index_jobs(BATCH, self.clock.now()).await?;
        if jobs.is_empty() {
            return Ok(0);
        }
        self.condition.met(&state(&self.desk, None));
        match embedder.passages(jobs.iter().map(|job| job.text.clone()).collect()).await {
            Ok(vectors) => self.save(model, &jobs, vectors).await?,
            Err(EmbedError::Unavailable { reason, retry_after }) => {
                return Err(self.postpone(&jobs, &reason, retry_after).await?);
            }
            // One of them, most probably.
            Err(_) => self.one_by_one(embedder, &jobs, heartbeat).await?,
        }
        self.desk.set_trouble(None);
        Ok(jobs.len())
    }

    async fn save(&self, model: &Model, jobs: &[IndexJob], vectors: Vec<Vec<Vec<f32>>>) -> Result<(), StoreError> {
        let embedded: Vec<Embedded> = jobs
            .iter()
            .zip(vectors)
            .map(|(job, vectors)| Embedded { key: job.key, version: job.version, vectors })
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

    async fn one_by_one(&self, embedder: &dyn Embedder, jobs: &[IndexJob], heartbeat: &Heartbeat) -> Result<(), Stop> {
        for (place, job) in jobs.iter().enumerate() {
            heartbeat.beat();
            match embedder.passages(vec![job.text.clone()]).await {
                Ok(vectors) => self.save(embedder.model(), std::slice::from_ref(job), vectors).await?,
                Err(EmbedError::Unavailable { reason, retry_after }) => {
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
                    self.store.postpone_index_jobs(&[job.key], Some(&error), later).await?;
                }
            }
        }
        Ok(())
    }

    /// The embedder is away: gives the memories back.
    async fn postpone(&self, jobs: &[IndexJob], reason: &str, after: Option<Duration>) -> Result<Stop, StoreError> {
        if self.desk.trouble().as_deref() != Some(reason) {
            tracing::warn!(reason, "the embedder does not get on: memories wait for their vectors");
        }
        self.desk.set_trouble(Some(reason.to_owned()));
        let keys: Vec<MemoryKey> = jobs.iter().map(|job| job.key).collect();
        self.store.postpone_index_jobs(&keys, None, self.clock.now()).await?;
        Ok(Stop::Later(after))
    }

    /// Queues what has no vectors of this model, unless that was done before.
    async fn fill_queue(&mut self, model: &Model, heartbeat: &Heartbeat) -> Result<(), Stop> {
        let before = self.store.queued_model().await?;
        if before.as_ref() != Some(&model.id) {
            if let Some(before) = &before {
                tracing::info!(before, now = model.id, "another model: all memories are embedded anew");
            }
            let mut place = None;
            loop {
                heartbeat.beat();
                place = self.store.queue_missing(&model.id, place, self.clock.now()).await?;
                if place.is_none() {
                    break;
                }
            }
            self.store.set_queued_model(&model.id).await?;
        }
        self.queued = Some(model.id.clone());
        Ok(())
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
