//! The watchdog's loop: proves that the service works, and tells systemd only if it does.
//!
//! Depends on supervisor, notifier, readiness and the probe. Invariants: a ping leaves only after
//! a look at every heartbeat, at most every third of the limit; a failing look is named in the
//! status, in `/health/ready` and in the log. The loop sends the probe itself, so that it
//! cannot be well while the request path hangs.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::heartbeat::{Heartbeat, Progress};
use super::notifier::Notifier;
use super::probe::{Probe, ProbeError};
use super::readiness::{Condition, Readiness};
use super::supervisor::{Role, Supervisor, chain};

/// The limit by which we judge ourselves when systemd sets none.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// The readiness condition kept by the watchdog, and by the sentinel when the loop is stuck.
pub(super) const CONDITION: &str = "progress";
const WELL: &str = "requests are served and every essential loop moves";

/// The name of the heartbeat that the probe keeps.
const REQUEST_PATH: &str = "request path";

const PROVE_AGAIN_AFTER: Duration = Duration::from_millis(100);
const STATUS_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// The status tells ages; they need not be told every second.
const STATUS_REFRESH: Duration = Duration::from_secs(5);

/// The limit's parts. With 60 s: a look every 5 s, a ping every 20 s, a request that hangs is
/// noticed after 30 s, and 54 s after the last ping the sentinel ends the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) limit: Duration,
}

impl Pace {
    pub(super) fn of(notifier: &Notifier) -> Self {
        Self {
            limit: notifier.watchdog_limit().unwrap_or(DEFAULT_LIMIT),
        }
    }

    fn look(self) -> Duration {
        // An interval of zero panics.
        (self.limit / 12).max(Duration::from_millis(1))
    }

    fn ping(self) -> Duration {
        self.limit / 3
    }

    /// One slow answer is forgiven, a second one in a row is not.
    fn probe_timeout(self) -> Duration {
        self.limit / 4
    }

    pub(super) fn stale(self) -> Duration {
        self.limit / 2
    }

    pub(super) fn give_up(self) -> Duration {
        self.limit * 9 / 10
    }
}

/// Watches over the request path and all heartbeats of a supervisor.
#[derive(Debug)]
#[must_use = "nothing is watched before start()"]
pub struct Watchdog {
    supervisor: Supervisor,
    notifier: Notifier,
    readiness: Readiness,
    condition: Condition,
    probe: Probe,
    request_path: Heartbeat,
    pace: Pace,
}

impl Watchdog {
    /// The limit is systemd's, or [`DEFAULT_LIMIT`] without one; then a hang is logged and shown
    /// in `/health/ready`, but nothing is pinged and the process never ends itself.
    pub fn new(
        supervisor: &Supervisor,
        notifier: &Notifier,
        readiness: &Readiness,
        probe: Probe,
    ) -> Self {
        let pace = Pace::of(notifier);
        Self {
            supervisor: supervisor.clone(),
            notifier: notifier.clone(),
            readiness: readiness.clone(),
            condition: readiness.condition(CONDITION, "not proven yet"),
            probe,
            request_path: supervisor.heartbeat(REQUEST_PATH, Role::Essential, pace.stale()),
            pace,
        }
    }

    /// Sends requests through the router until one is served, for at most `within`. After it
    /// came [`Notifier::ready`] may be called.
    ///
    /// # Errors
    ///
    /// The last failure when time is up, or at once that the service is asked to stop.
    pub async fn prove(&self, within: Duration) -> Result<(), ProbeError> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = left.min(self.pace.probe_timeout());
            let error = tokio::select! {
                biased;
                () = self.supervisor.stopping().cancelled() => return Err(ProbeError::Stopping),
                answer = self.probe.call(patience) => match answer {
                    Ok(()) => break,
                    Err(error) => error,
                },
            };
            if deadline.saturating_duration_since(Instant::now()) <= PROVE_AGAIN_AFTER {
                return Err(error);
            }
            sleep(PROVE_AGAIN_AFTER).await;
        }
        self.request_path.beat();
        self.condition.met(WELL);
        Ok(())
    }

    /// Starts the loop, and beside it the one that keeps systemd's status line. Call it right
    /// after [`Notifier::ready`]: systemd's clock runs from there.
    pub fn start(self) {
        let supervisor = self.supervisor.clone();
        let status = keep_status(
            self.readiness.clone(),
            self.notifier.clone(),
            supervisor.clone(),
        );
        supervisor.spawn_companion("status", status);
        supervisor.spawn_companion("watchdog", self.watch());
    }

    async fn watch(self) {
        let stopping = self.supervisor.stopping().clone();
        let mut looks = interval(self.pace.look());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pinged: Option<Instant> = None;
        let mut trouble = Trouble::default();
        loop {
            looks.tick().await;
            let mut failure = None;
            if !stopping.is_cancelled() {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => {}
                    answer = self.probe.call(self.pace.probe_timeout()) => match answer {
                        Ok(()) => self.request_path.beat(),
                        Err(error) => failure = Some(chain(&error)),
                    },
                }
            }
            self.supervisor.vital().checked.touch();
            let progress = self.supervisor.progress();
            // Loops end while we drain, and the sentinel's deadline bounds it: no more judging.
            if stopping.is_cancelled() || progress.is_fresh() {
                if !stopping.is_cancelled() {
                    self.well(&mut trouble, failure.as_deref(), &progress);
                }
                if pinged.is_none_or(|pinged| pinged.elapsed() >= self.pace.ping()) {
                    pinged = Some(Instant::now());
                    self.ping();
                }
            } else {
                self.unwell(&mut trouble, failure.as_deref(), &progress);
            }
        }
    }

    fn ping(&self) {
        if self.notifier.watchdog_limit().is_some() {
            self.notifier.ping();
            // Also when it could not be sent: the sentinel judges us, not the socket.
            self.supervisor.vital().pinged.touch();
        }
    }

    fn well(&self, trouble: &mut Trouble, failure: Option<&str>, progress: &Progress) {
        if trouble.withheld.take().is_some() {
            tracing::info!(heartbeats = %progress, "all essential loops move again");
        }
        self.condition.met(WELL);
        if let Some(error) = failure {
            tracing::warn!(error, heartbeats = %progress, "the self-probe failed");
        }
        let helper = progress.stale(Role::Helper).next().map(|age| age.name);
        if trouble.helper != helper {
            if let Some(task) = helper {
                tracing::warn!(task, heartbeats = %progress, "a helper task hangs");
            }
            trouble.helper = helper;
        }
    }

    fn unwell(&self, trouble: &mut Trouble, failure: Option<&str>, progress: &Progress) {
        let consequence = match self.notifier.watchdog_limit() {
            Some(_) => "watchdog ping withheld",
            None => "no watchdog to restart it",
        };
        self.condition
            .unmet(&format!("stalled, {consequence}: {progress}"));
        // Directly: the task that keeps the status may be the one that hangs.
        self.notifier.status(&self.readiness.sentence());
        // At once and then every third of the limit: often enough, never a flood.
        if trouble
            .withheld
            .is_none_or(|said| said.elapsed() >= self.pace.ping())
        {
            trouble.withheld = Some(Instant::now());
            tracing::error!(
                heartbeats = %progress,
                probe = failure.unwrap_or("served"),
                "the service hangs, {consequence}"
            );
        }
    }
}

/// What was said already.
#[derive(Debug, Default)]
struct Trouble {
    withheld: Option<Instant>,
    helper: Option<&'static str>,
}

async fn keep_status(readiness: Readiness, notifier: Notifier, supervisor: Supervisor) {
    let mut changes = readiness.changes();
    while !supervisor.stopping().is_cancelled() {
        changes.mark_unchanged();
        notifier.status(&readiness.sentence());
        let next_change = async {
            sleep(STATUS_AT_MOST_EVERY).await;
            if readiness.is_ready() {
                // The sender lives in `readiness`, which we hold.
                let _ = changes.changed().await;
            } else {
                let _ = timeout(STATUS_REFRESH, changes.changed()).await;
            }
        };
        tokio::select! {
            () = supervisor.stopping().cancelled() => {}
            () = next_change => {}
        }
    }
    // Essential: it may not end before the drain does.
    supervisor.aborting().cancelled().await;
}
