//! How the process starts, proves that it is alive, and ends.
//!
//! Depends on nothing. The program combines the parts in one flat function:
//!
//! 1. [`Supervisor::new`], [`Notifier::from_env`], [`Readiness::new`], then [`Sentinel::start`]
//!    before anything else, because PID 1 ignores SIGTERM without a handler.
//! 2. [`Supervisor::spawn`] and its siblings start tasks. Nothing else spawns.
//! 3. [`Watchdog::prove`] sends a first request through the real router, [`Notifier::ready`] notifies systemd, and
//!    [`Watchdog::start`] repeats the proof.
//! 4. [`run`] waits for a reason to stop, drains, aborts the rest, and returns the reason.
//!
//! Invariants owned here:
//!
//! - `WATCHDOG=1` means that a request went through the real request path and that every
//!   essential loop moved a moment ago. Nothing else sends it.
//! - Every wait is bounded. Stopping takes at most the drain budget plus
//!   [`ABORT_GRACE`] plus [`EXIT_GRACE`], even when all workers of the runtime are blocked.
//! - Before the process ends itself, it logs the reason with the age of every heartbeat.
//!
//! To add a loop that must never hang: take a [`Heartbeat`] from [`Supervisor::heartbeat`],
//! beat once a round, and start it with [`Role::Essential`].

mod heartbeat;
mod notifier;
mod probe;
mod readiness;
mod sentinel;
mod supervisor;
#[cfg(test)]
mod tests;
mod watchdog;

pub use heartbeat::{Age, Heartbeat, Progress, Role};
pub use notifier::Notifier;
pub use probe::{Probe, ProbeError};
pub use readiness::{Check, Condition, Readiness, ReadinessReport, ReadinessStatus};
pub use sentinel::{EXIT_GRACE, Sentinel, SentinelError};
pub use supervisor::{ABORT_GRACE, Cut, DEFAULT_DRAIN, ExitReason, Signal, Supervisor, TaskError};
pub use watchdog::{DEFAULT_LIMIT, Watchdog};

/// Waits for a request to stop, then drains and aborts.
///
/// Returns within the drain budget plus [`ABORT_GRACE`] of the request to stop. The caller turns
/// [`ExitReason::exit_code`] into the exit code of the process.
pub async fn run(
    supervisor: &Supervisor,
    notifier: &Notifier,
    readiness: &Readiness,
) -> ExitReason {
    let reason = supervisor.stop_requested().await;
    announce_stop(supervisor, notifier, readiness, &reason);
    supervisor.drain().await;
    reason
}

/// Reports to systemd and `/health/ready` that the service stops. Only the first call has an effect.
///
/// The sentinel calls it as well, because a stop may be requested before the service reaches [`run`], or while the runtime is
/// blocked.
fn announce_stop(
    supervisor: &Supervisor,
    notifier: &Notifier,
    readiness: &Readiness,
    reason: &ExitReason,
) {
    let sentence = format!(
        "Stopping ({reason}), finishing work for at most {} s",
        supervisor.drain_budget().as_secs()
    );
    readiness.stopping(&sentence);
    notifier.stopping(&sentence);
}
