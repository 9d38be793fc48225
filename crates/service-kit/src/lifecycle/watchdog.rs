//! The loop of the watchdog: proves that the service works, and pings systemd only if it does.
//!
//! Depends on supervisor, notifier, readiness and the probe. Invariants: a ping is sent only after a check of every
//! heartbeat, every third of the limit; a failed check appears in the status, in `/health/ready` and in the log. The loop
//! sends the probe itself, so that it cannot succeed while the request path hangs.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::heartbeat::{Heartbeat, Progress, Role};
use super::notifier::Notifier;
use super::probe::{Probe, ProbeError};
use super::readiness::{Condition, Readiness};
use super::supervisor::Supervisor;
use crate::join_causes;

/// The limit if systemd sets none.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// The readiness condition that the watchdog sets, and that the sentinel sets if the loop is stuck.
pub(super) const CONDITION: &str = "progress";
const WELL: &str = "requests are served and every essential loop moves";

/// Name of the heartbeat of the probe.
const REQUEST_PATH: &str = "request path";

const PROVE_AGAIN_AFTER: Duration = Duration::from_millis(100);
const STATUS_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// The status contains ages, which need not change every second.
const STATUS_REFRESH: Duration = Duration::from_secs(5);

/// Fractions of the limit. With 60 s: a check every 5 s, a ping every 20 s, a hanging request is noticed after 30 s,
/// and 54 s after the last ping the sentinel ends the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchdogTiming {
    pub(super) limit: Duration,
}

impl WatchdogTiming {
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

    /// Returns a time that permits one slow answer, but not two in a row.
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

/// Monitors the request path and all heartbeats of a supervisor.
#[derive(Debug)]
#[must_use = "nothing is watched before start()"]
pub struct Watchdog {
    supervisor: Supervisor,
    notifier: Notifier,
    readiness: Readiness,
    condition: Condition,
    probe: Probe,
    request_path: Heartbeat,
    pace: WatchdogTiming,
}

impl Watchdog {
    /// Uses the limit of systemd, or else [`DEFAULT_LIMIT`]. Without a limit of systemd, a hang is logged and reported by
    /// `/health/ready`, but the process never ends itself.
    pub fn new(
        supervisor: &Supervisor,
        notifier: &Notifier,
        readiness: &Readiness,
        probe: Probe,
    ) -> Self {
        let pace = WatchdogTiming::of(notifier);
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

    /// Sends requests through the router until one is served, for at most `within`. Call [`Notifier::ready`] after it.
    ///
    /// # Errors
    ///
    /// The last failure after this time, or at once if a stop is requested.
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

    /// Starts the loop, and the loop that updates the status line of systemd. Call it right after [`Notifier::ready`],
    /// when the clock of systemd starts.
    pub fn start(self) {
        let supervisor = self.supervisor.clone();
        let status = keep_status(
            self.readiness.clone(),
            self.notifier.clone(),
            supervisor.clone(),
        );
        supervisor.spawn_companion("status", status);
        supervisor.spawn_companion("watchdog", self.run_loop());
    }

    async fn run_loop(self) {
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
                        Err(error) => failure = Some(join_causes(&error)),
                    },
                }
            }
            self.supervisor.marks().checked.set_now();
            let progress = self.supervisor.progress();
            // Loops end while the service drains, and the deadline of the sentinel bounds that.
            if stopping.is_cancelled() || progress.is_fresh() {
                if !stopping.is_cancelled() {
                    self.report_progress(&mut trouble, failure.as_deref(), &progress);
                }
                if pinged.is_none_or(|pinged| pinged.elapsed() >= self.pace.ping()) {
                    pinged = Some(Instant::now());
                    self.send_ping();
                }
            } else {
                self.report_stall(&mut trouble, failure.as_deref(), &progress);
            }
        }
    }

    fn send_ping(&self) {
        if self.notifier.watchdog_limit().is_some() {
            self.notifier.ping();
            // Recorded even if sending failed, because the sentinel checks the loop rather than the socket.
            self.supervisor.marks().pinged.set_now();
        }
    }

    fn report_progress(&self, trouble: &mut Trouble, failure: Option<&str>, progress: &Progress) {
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

    fn report_stall(&self, trouble: &mut Trouble, failure: Option<&str>, progress: &Progress) {
        let consequence = match self.notifier.watchdog_limit() {
            Some(_) => "watchdog ping withheld",
            None => "no watchdog to restart it",
        };
        self.condition
            .unmet(&format!("stalled, {consequence}: {progress}"));
        // Set here, because the task that updates the status may hang.
        self.notifier.status(&self.readiness.sentence());
        // The first time at once, then every third of the limit.
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

/// Problems that were already logged.
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
                // The sender is part of `readiness`.
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
    // An essential task must not end before the drain.
    supervisor.aborting().cancelled().await;
}
