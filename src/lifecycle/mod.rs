//! How the process starts, proves that it is alive, and ends.
//!
//! May depend on nothing of ours. `cli` wires the parts in one flat function:
//!
//! 1. [`Supervisor::new`], [`Notifier::from_env`], [`Readiness::new`], then [`Sentinel::start`]
//!    before anything else: as PID 1 a process without handlers ignores SIGTERM.
//! 2. Tasks are started with [`Supervisor::spawn`] and its siblings, the only place that spawns.
//! 3. [`Watchdog::prove`] sends a first request through the real router, then
//!    [`Notifier::ready`] tells systemd, then [`Watchdog::start`] keeps proving it.
//! 4. [`run`] waits for a reason to stop, drains, aborts what is left and says why it ended.
//!
//! Invariants owned here:
//!
//! - `WATCHDOG=1` means that a request went through the real request path and that every
//!   essential loop moved a moment ago. Nothing else sends it.
//! - Every wait has a bound. Stopping takes at most the drain budget plus
//!   [`ABORT_GRACE`] plus [`EXIT_GRACE`], even when all workers of the runtime are blocked.
//! - Whenever the process ends itself it has said why, with the age of every heartbeat.
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

pub use heartbeat::{Age, Heartbeat, Progress};
pub use notifier::Notifier;
pub use probe::{Probe, ProbeError};
pub use readiness::{Check, Condition, Readiness, ReadinessReport, ReadinessStatus};
pub use sentinel::{EXIT_GRACE, Sentinel, SentinelError};
pub use supervisor::{
    ABORT_GRACE, Cut, DEFAULT_DRAIN, ExitReason, Role, Signal, Supervisor, TaskError,
};
pub use watchdog::{DEFAULT_LIMIT, Watchdog};

/// Waits until something asks the service to stop, then drains and aborts.
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

/// Tells systemd and `/health/ready` that the service stops; only the first call has an effect.
///
/// The sentinel calls it as well, because a stop may come while the service is still starting
/// or while the runtime is blocked, when nobody has reached [`run`].
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
