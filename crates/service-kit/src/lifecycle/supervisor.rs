//! The supervisor: starts every task, knows which tasks run, and ends them in order.
//!
//! Depends on the heartbeats. Invariants: only this file spawns tasks; no task ends early without a log line that names it;
//! an essential task that ends early ends the service.

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

use super::heartbeat::{AtomicInstant, Heartbeat, Heartbeats, Progress, Role, lock_mutex};
use crate::join_causes;

/// Any error of a task, including `anyhow::Error`.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// The drain budget until [`Supervisor::set_drain_budget`] is called.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(20);

/// Time for aborted tasks to release their resources.
pub const ABORT_GRACE: Duration = Duration::from_secs(2);

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// A helper that ran for this long restarts after the shortest wait.
const STEADY_RUN: Duration = Duration::from_secs(60);

/// A signal that asks the service to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: systemd, podman.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

impl Signal {
    /// Exit code by which shells report this signal: 143 or 130.
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

/// The reason why the service ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// A signal requested the stop.
    Signal(Signal),
    /// An essential task ended early.
    TaskFailed { task: &'static str, cause: String },
    /// The work is done, for example because the client of `stdio` disconnected.
    Finished,
}

impl ExitReason {
    /// Returns 0 for a requested stop, even if the drain budget aborted work, because systemd must see a success.
    /// Returns 70 for a failure.
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

/// The reason why a request task has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Cut {
    /// The service stopped and the drain budget was exceeded.
    #[error("the service stopped before the work was done")]
    Aborted,
    /// The work panicked, which was logged.
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
    /// Tasks for which a stop waits.
    work: TaskTracker,
    /// Tasks that run until the work has ended: watchdog and status.
    companions: TaskTracker,
    running: Mutex<BTreeMap<&'static str, usize>>,
    reason: Mutex<Option<ExitReason>>,
    drain_millis: AtomicU64,
    heartbeats: Heartbeats,
    marks: WatchdogMarks,
}

/// State of the watchdog for the thread of the sentinel.
#[derive(Debug)]
pub(super) struct WatchdogMarks {
    /// Last round of the loop, which shows that the runtime is running.
    pub(super) checked: AtomicInstant,
    /// Last ping of the loop to systemd.
    pub(super) pinged: AtomicInstant,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// Creates a supervisor. Unlike spawning, this needs no runtime.
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
                marks: WatchdogMarks {
                    checked: AtomicInstant::never(epoch),
                    pinged: AtomicInstant::never(epoch),
                },
            }),
        }
        .with_drain_budget(DEFAULT_DRAIN)
    }

    fn with_drain_budget(self, budget: Duration) -> Self {
        self.set_drain_budget(budget);
        self
    }

    /// Sets how long a stop waits for work in progress. Separate from the constructor, because the sentinel must run before
    /// the configuration is read.
    pub fn set_drain_budget(&self, budget: Duration) {
        let millis = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        self.inner.drain_millis.store(millis, Ordering::Relaxed);
    }

    /// Returns the time set by [`Supervisor::set_drain_budget`].
    pub fn drain_budget(&self) -> Duration {
        Duration::from_millis(self.inner.drain_millis.load(Ordering::Relaxed))
    }

    /// Cancelled when the service stops. Accept no new work after that, and finish the rest.
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.soft
    }

    /// Cancelled when the drain budget is exceeded, for resources outside of supervised tasks, for example open
    /// connections. Supervised tasks are dropped at their next await.
    pub fn aborting(&self) -> &CancellationToken {
        &self.inner.hard
    }

    /// Requests a stop, from any thread. The first reason counts.
    pub fn stop(&self, reason: ExitReason) {
        lock_mutex(&self.inner.reason).get_or_insert(reason);
        self.inner.soft.cancel();
    }

    /// Waits until a stop is requested. Select on it while starting.
    pub async fn stop_requested(&self) -> ExitReason {
        self.inner.soft.cancelled().await;
        self.reason()
    }

    pub(super) fn reason(&self) -> ExitReason {
        lock_mutex(&self.inner.reason)
            .clone()
            .unwrap_or(ExitReason::Finished)
    }

    /// Registers a heartbeat. After `max_age` without a beat the loop counts as hung: an essential one stops the pings to
    /// systemd, a helper is logged.
    pub fn heartbeat(&self, name: &'static str, role: Role, max_age: Duration) -> Heartbeat {
        self.inner.heartbeats.register(name, role, max_age)
    }

    /// Returns the age of every heartbeat. `/health/live` answers 200 while it is fresh.
    pub fn progress(&self) -> Progress {
        self.inner.heartbeats.progress()
    }

    pub(super) fn marks(&self) -> &WatchdogMarks {
        &self.inner.marks
    }

    /// Starts a task that runs until [`Supervisor::stopping`] is cancelled and then ends by itself. If an essential task ends
    /// before, the service stops with 70. A helper may end early with `Ok`.
    pub fn spawn<F, E>(&self, name: &'static str, role: Role, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError>,
    {
        let this = self.clone();
        let watched = async move {
            if let Some(end) = this.run_guarded(future).await {
                this.handle_end(name, role, end);
            }
        };
        drop(self.spawn_tracked(&self.inner.work, name, watched));
    }

    /// Starts a helper that `factory` recreates after an error or a panic, after a wait that doubles from 250 ms to 30
    /// s. `Ok` means that it is done.
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
                // Inside the guard, so that a panic of the factory is caught, too.
                let run = async { factory().await.map_err(Into::<TaskError>::into) };
                let error = match this.run_guarded(run).await {
                    None => return,
                    Some(Ok(())) => return tracing::debug!(task = name, "task is done"),
                    Some(Err(error)) => error,
                };
                if started.elapsed() >= STEADY_RUN {
                    backoff = FIRST_BACKOFF;
                }
                tracing::warn!(
                    task = name,
                    error = join_causes(&*error),
                    restart_in_ms = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX),
                    "a helper task failed and will be restarted"
                );
                if timeout(backoff, this.inner.soft.cancelled()).await.is_ok() {
                    return;
                }
                backoff = (backoff * 2).min(LAST_BACKOFF);
            }
        };
        drop(self.spawn_tracked(&self.inner.work, name, watched));
    }

    /// Starts work that must finish even if its caller disconnects, for example a transaction. A stop waits for it
    /// within the drain budget. Dropping the returned future does not cancel the work.
    pub fn spawn_request<F>(
        &self,
        name: &'static str,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Cut>> + Send + use<F>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let hard = self.inner.hard.clone();
        let task = self.spawn_tracked(&self.inner.work, name, async move {
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

    /// Starts an essential task that continues while the others drain, and is ended after them.
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
            if let Some(end) = this.run_guarded(endless).await {
                this.handle_end(name, Role::Essential, end);
            }
        };
        drop(self.spawn_tracked(&self.inner.companions, name, watched));
    }

    /// Waits for all work within the drain budget, then aborts the rest. Returns whether everything ended by itself.
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

    /// Returns the names of the running tasks for a log line.
    pub(super) fn running(&self) -> String {
        lock_mutex(&self.inner.running)
            .iter()
            .map(|(name, count)| match count {
                1 => (*name).to_owned(),
                _ => format!("{name} x{count}"),
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Spawns a task. No other function spawns.
    fn spawn_tracked<F>(
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
    async fn run_guarded<F, E>(&self, future: F) -> Option<Result<(), TaskError>>
    where
        F: Future<Output = Result<(), E>>,
        E: Into<TaskError>,
    {
        // The state of a panicked future is dropped and never used again.
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

    fn handle_end(&self, name: &'static str, role: Role, end: Result<(), TaskError>) {
        let stopping = self.inner.soft.is_cancelled();
        let cause = match (end, role) {
            (Ok(()), Role::Essential) if !stopping => "ended too early".to_owned(),
            (Ok(()), _) => return tracing::debug!(task = name, "task is done"),
            (Err(error), _) => join_causes(&*error),
        };
        match role {
            Role::Essential => {
                tracing::error!(task = name, error = cause, "an essential task failed");
                // Has no effect while stopping, because the first reason counts.
                self.stop(ExitReason::TaskFailed { task: name, cause });
            }
            Role::Helper => tracing::error!(task = name, error = cause, "a helper task failed"),
        }
    }
}

/// Keeps the name of a task in the list until it ends or is dropped.
struct Running {
    inner: Arc<Inner>,
    name: &'static str,
}

impl Running {
    fn enter(inner: &Arc<Inner>, name: &'static str) -> Self {
        *lock_mutex(&inner.running).entry(name).or_default() += 1;
        Self {
            inner: Arc::clone(inner),
            name,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = lock_mutex(&self.inner.running);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
