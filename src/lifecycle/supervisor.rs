//! The supervisor: starts every task, knows which ones still run, and ends them in order.
//!
//! Depends on the heartbeats. Invariants: this file is the only place that spawns; no task ends
//! early without a log line that names it; an essential task that ends early ends the service.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::heartbeat::{Heartbeat, Heartbeats, Moment, Progress, lock};

/// Any error of a task; `anyhow::Error` converts as well.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// The drain budget until [`Supervisor::set_drain_budget`] is called.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(20);

/// How long aborted tasks get to release what they hold.
pub const ABORT_GRACE: Duration = Duration::from_secs(2);

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// A helper that ran this long starts again with the shortest wait.
const STEADY_RUN: Duration = Duration::from_secs(60);

/// Whether the service can live without a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// When it ends early or hangs, the service ends and systemd starts it anew.
    Essential,
    /// When it ends early or hangs, that is logged and the service goes on.
    Helper,
}

/// A signal that asks the service to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: systemd, podman.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

impl Signal {
    /// The exit code by which shells report an end by this signal: 143 or 130.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 143,
            Self::Interrupt => 130,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Why the service ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Somebody asked for it, and it ended in order.
    Signal(Signal),
    /// An essential task ended early.
    TaskFailed {
        /// Its name.
        task: &'static str,
        /// What it said last.
        cause: String,
    },
    /// The work is done, e.g. the client of `stdio` hung up.
    Finished,
}

impl ExitReason {
    /// 0 for a stop that somebody asked for, even if the drain budget cut work off: systemd must
    /// see a success. 70 when we failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Signal(_) | Self::Finished => 0,
            Self::TaskFailed { .. } => 70,
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "{signal}"),
            Self::TaskFailed { task, cause } => write!(f, "task {task} failed: {cause}"),
            Self::Finished => f.write_str("finished"),
        }
    }
}

/// Why a request task has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Cut {
    /// The service stopped and the drain budget was used up.
    #[error("the service stopped before the work was done")]
    Aborted,
    /// It panicked; the panic was logged.
    #[error("the work failed unexpectedly")]
    Panicked,
}

/// Starts tasks and ends them. Clones share state.
#[derive(Clone, Debug)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    soft: CancellationToken,
    hard: CancellationToken,
    /// What a stop waits for.
    work: TaskTracker,
    /// What runs until the work is over: watchdog and status.
    companions: TaskTracker,
    running: Mutex<BTreeMap<&'static str, usize>>,
    reason: Mutex<Option<ExitReason>>,
    drain_millis: AtomicU64,
    heartbeats: Heartbeats,
    vital: Vital,
}

/// What the sentinel's thread needs to know about the watchdog's loop.
#[derive(Debug)]
pub(super) struct Vital {
    /// When the loop last made a round: shows that the runtime moves.
    pub(super) checked: Moment,
    /// When the loop last found all well and said so to systemd, if systemd wants to know.
    pub(super) pinged: Moment,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// Needs no runtime yet; spawning does.
    pub fn new() -> Self {
        let epoch = Instant::now();
        Self {
            inner: Arc::new(Inner {
                soft: CancellationToken::new(),
                hard: CancellationToken::new(),
                work: TaskTracker::new(),
                companions: TaskTracker::new(),
                running: Mutex::default(),
                reason: Mutex::default(),
                drain_millis: AtomicU64::new(0),
                heartbeats: Heartbeats::new(epoch),
                vital: Vital {
                    checked: Moment::never(epoch),
                    pinged: Moment::never(epoch),
                },
            }),
        }
        .with_drain_budget(DEFAULT_DRAIN)
    }

    fn with_drain_budget(self, budget: Duration) -> Self {
        self.set_drain_budget(budget);
        self
    }

    /// How long a stop waits for work in progress. Settable later than the rest, because the
    /// sentinel must run before the configuration is read.
    pub fn set_drain_budget(&self, budget: Duration) {
        let millis = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        self.inner.drain_millis.store(millis, Ordering::Relaxed);
    }

    /// See [`Supervisor::set_drain_budget`].
    pub fn drain_budget(&self) -> Duration {
        Duration::from_millis(self.inner.drain_millis.load(Ordering::Relaxed))
    }

    /// Cancelled when the service stops: accept nothing new, finish what was begun.
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.soft
    }

    /// Cancelled when the drain budget is used up. Supervised tasks need not look at it: they
    /// are dropped at their next await. For what they do not own (open connections).
    pub fn aborting(&self) -> &CancellationToken {
        &self.inner.hard
    }

    /// Asks the service to stop, from any thread. The first reason counts.
    pub fn stop(&self, reason: ExitReason) {
        lock(&self.inner.reason).get_or_insert(reason);
        self.inner.soft.cancel();
    }

    /// Waits until somebody asked the service to stop. Select against it while starting.
    pub async fn stop_requested(&self) -> ExitReason {
        self.inner.soft.cancelled().await;
        self.reason()
    }

    pub(super) fn reason(&self) -> ExitReason {
        lock(&self.inner.reason)
            .clone()
            .unwrap_or(ExitReason::Finished)
    }

    /// Registers a heartbeat. `max_age` is the time after which the loop counts as hung: for an
    /// essential one systemd's watchdog is no longer pinged then, for a helper it is logged.
    pub fn heartbeat(&self, name: &'static str, role: Role, max_age: Duration) -> Heartbeat {
        self.inner.heartbeats.register(name, role, max_age)
    }

    /// The age of every heartbeat. `/health/live` answers 200 while it is fresh.
    pub fn progress(&self) -> Progress {
        self.inner.heartbeats.progress()
    }

    pub(super) fn vital(&self) -> &Vital {
        &self.inner.vital
    }

    /// Starts a task which should run until [`Supervisor::stopping`] is cancelled and then end by
    /// itself. When an essential one ends before, however it does, the service stops with 70.
    /// A helper may end early with `Ok`.
    pub fn spawn<F, E>(&self, name: &'static str, role: Role, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError>,
    {
        let this = self.clone();
        let watched = async move {
            if let Some(end) = this.guarded(future).await {
                this.ended(name, role, end);
            }
        };
        drop(self.launch(&self.inner.work, name, watched));
    }

    /// Starts a helper which `factory` makes anew whenever it ends with an error or a panic,
    /// after a wait that doubles from 250 ms to 30 s. `Ok` means that it is done.
    pub fn spawn_restarting<M, F, E>(&self, name: &'static str, mut factory: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError>,
    {
        let this = self.clone();
        let watched = async move {
            let mut backoff = FIRST_BACKOFF;
            loop {
                let started = Instant::now();
                // Made inside of the guard, so that a panic of the factory is caught too.
                let run = async { factory().await.map_err(Into::<TaskError>::into) };
                let error = match this.guarded(run).await {
                    None => return,
                    Some(Ok(())) => return tracing::debug!(task = name, "task is done"),
                    Some(Err(error)) => error,
                };
                if started.elapsed() >= STEADY_RUN {
                    backoff = FIRST_BACKOFF;
                }
                tracing::warn!(
                    task = name,
                    error = chain(&*error),
                    restart_in_ms = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX),
                    "a helper task failed and will be restarted"
                );
                if timeout(backoff, this.inner.soft.cancelled()).await.is_ok() {
                    return;
                }
                backoff = (backoff * 2).min(LAST_BACKOFF);
            }
        };
        drop(self.launch(&self.inner.work, name, watched));
    }

    /// Starts work which shall be finished even if the one who asked for it goes away, such as
    /// a transaction whose client hung up. It counts for the drain and is cut off with it.
    /// Dropping the returned future does not cancel the work.
    pub fn spawn_request<F>(
        &self,
        name: &'static str,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Cut>> + Send + use<F>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let hard = self.inner.hard.clone();
        let task = self.launch(&self.inner.work, name, async move {
            tokio::select! {
                biased;
                () = hard.cancelled() => Err(Cut::Aborted),
                end = AssertUnwindSafe(future).catch_unwind() => end.map_err(|panic| {
                    tracing::error!(task = name, panic = panic_text(&*panic), "work panicked");
                    Cut::Panicked
                }),
            }
        });
        async move { task.await.unwrap_or(Err(Cut::Aborted)) }
    }

    /// Starts an essential task which runs on while the others drain and is ended after them.
    pub(super) fn spawn_companion<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        let watched = async move {
            let endless = async {
                future.await;
                Ok::<(), TaskError>(())
            };
            if let Some(end) = this.guarded(endless).await {
                this.ended(name, Role::Essential, end);
            }
        };
        drop(self.launch(&self.inner.companions, name, watched));
    }

    /// Waits for all work for at most the drain budget, then cuts off what is left. Answers
    /// whether everything ended by itself.
    pub(super) async fn drain(&self) -> bool {
        let budget = self.drain_budget();
        let started = Instant::now();
        self.inner.work.close();
        self.inner.companions.close();
        let drained = timeout(budget, self.inner.work.wait()).await.is_ok();
        if drained {
            let drain_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(drain_ms, "all work is finished");
        } else {
            tracing::warn!(
                budget_s = budget.as_secs_f64(),
                tasks = self.running(),
                "the drain budget is used up, cutting off what is left"
            );
        }
        self.inner.hard.cancel();
        let all = async {
            self.inner.work.wait().await;
            self.inner.companions.wait().await;
        };
        if timeout(ABORT_GRACE, all).await.is_err() {
            tracing::error!(tasks = self.running(), "tasks do not end when aborted");
        }
        drained
    }

    /// The names of the tasks that run, as text for a log line.
    pub(super) fn running(&self) -> String {
        lock(&self.inner.running)
            .iter()
            .map(|(name, count)| match count {
                1 => (*name).to_owned(),
                _ => format!("{name} x{count}"),
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The one place that spawns.
    fn launch<F>(
        &self,
        tracker: &TaskTracker,
        name: &'static str,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let running = Running::enter(&self.inner, name);
        let future = async move {
            let _running = running;
            future.await
        };
        tracker.spawn(future.instrument(tracing::info_span!("task", task = name)))
    }

    /// Runs a future until it ends, panics or is aborted (`None`).
    async fn guarded<F, E>(&self, future: F) -> Option<Result<(), TaskError>>
    where
        F: Future<Output = Result<(), E>>,
        E: Into<TaskError>,
    {
        // The state of a future that panicked is dropped, never looked at again.
        let future = AssertUnwindSafe(future).catch_unwind();
        tokio::select! {
            biased;
            () = self.inner.hard.cancelled() => None,
            end = future => Some(match end {
                Ok(result) => result.map_err(Into::into),
                Err(panic) => Err(format!("panicked: {}", panic_text(&*panic)).into()),
            }),
        }
    }

    fn ended(&self, name: &'static str, role: Role, end: Result<(), TaskError>) {
        let stopping = self.inner.soft.is_cancelled();
        let cause = match (end, role) {
            (Ok(()), Role::Essential) if !stopping => "ended too early".to_owned(),
            (Ok(()), _) => return tracing::debug!(task = name, "task is done"),
            (Err(error), _) => chain(&*error),
        };
        match role {
            Role::Essential => {
                tracing::error!(task = name, error = cause, "an essential task failed");
                // Without effect while stopping: whoever asked for the stop has got it.
                self.stop(ExitReason::TaskFailed { task: name, cause });
            }
            Role::Helper => tracing::error!(task = name, error = cause, "a helper task failed"),
        }
    }
}

/// Keeps the name of a task in the list while it runs, also when it is dropped unfinished.
struct Running {
    inner: Arc<Inner>,
    name: &'static str,
}

impl Running {
    fn enter(inner: &Arc<Inner>, name: &'static str) -> Self {
        *lock(&inner.running).entry(name).or_default() += 1;
        Self {
            inner: Arc::clone(inner),
            name,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = lock(&self.inner.running);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

/// An error and all its sources on one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
