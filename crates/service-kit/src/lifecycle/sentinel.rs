//! The sentinel: a thread with its own small runtime, which continues if every worker of the runtime of the service is
//! blocked.
//!
//! Depends on supervisor, notifier, readiness. It owns the signals and the deadlines:
//!
//! - SIGTERM, SIGINT: the service stops in order. A second signal ends it at once with 143 or 130, as shells expect. SIGHUP
//!   is ignored and logged.
//! - A stop that takes longer than drain budget, [`ABORT_GRACE`] and [`EXIT_GRACE`] together ends with 70.
//! - With a watchdog of systemd: 90 % of its limit after the last ping the process ends with 70. systemd would abort conmon,
//!   and this process would be killed without a message. Ending itself logs the reason and cleans up the container. The last
//!   tenth is reserved for writing the line. If this thread is stopped too (SIGSTOP, a frozen cgroup), the watchdog of
//!   systemd still acts.
//!
//! Without a watchdog nothing would restart the process, so a hang is only logged.
//!
//! Invariant: nothing here waits for the runtime of the service or for its locks without a limit.

use std::fmt;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::notifier::Notifier;
use super::readiness::Readiness;
use super::supervisor::{ABORT_GRACE, ExitReason, Signal, Supervisor};
use super::watchdog::{CONDITION, WatchdogTiming};

/// Time for closing pools and flushing logs, after drain budget and [`ABORT_GRACE`]. Keep `StopTimeout=` of the unit above the
/// sum: 20 + 2 + 3 < 30.
pub const EXIT_GRACE: Duration = Duration::from_secs(3);

/// The pipe of the log may remain full. After this time the process ends without the log line.
const WORDS_TAKE_AT_MOST: Duration = Duration::from_secs(1);

const INTERNAL: i32 = 70;

/// The running thread. Handles signals and deadlines until it is dropped. Keep it until the process ends.
#[must_use = "dropping the sentinel ends the handling of signals"]
pub struct Sentinel {
    _ended: DropGuard,
    before_exit: Arc<OnceLock<Hook>>,
}

type Hook = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sentinel")
    }
}

/// The sentinel could not be started; the service must not run without it.
#[derive(Debug, Error)]
#[error("cannot start the thread that handles signals")]
pub struct SentinelError(#[from] io::Error);

impl Sentinel {
    /// Installs the handlers. Call it first in the process, because PID 1 ignores signals without a handler.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses a thread, a pipe or a handler.
    pub fn start(
        supervisor: &Supervisor,
        notifier: &Notifier,
        readiness: &Readiness,
    ) -> Result<Self, SentinelError> {
        let ended = CancellationToken::new();
        let before_exit = Arc::<OnceLock<Hook>>::default();
        let hook = Arc::clone(&before_exit);
        let guard = DeadlineMonitor {
            supervisor: supervisor.clone(),
            notifier: notifier.clone(),
            readiness: readiness.clone(),
            exit: Exit(Arc::new(move |code| {
                if let Some(hook) = hook.get() {
                    hook();
                }
                exit_process(code);
            })),
        };
        let (installed, wait) = mpsc::channel();
        let until = ended.clone();
        thread::Builder::new()
            .name("sentinel".to_owned())
            .spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(installed.send(Err(error))),
                };
                runtime.block_on(async move {
                    let signals = match Signals::install() {
                        Ok(signals) => signals,
                        Err(error) => return drop(installed.send(Err(error))),
                    };
                    let _ = installed.send(Ok(()));
                    tokio::select! {
                        () = until.cancelled() => {}
                        () = guard.run_until_exit(signals) => {}
                    }
                });
            })?;
        wait.recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread ended")))?;
        Ok(Self {
            _ended: ended.drop_guard(),
            before_exit,
        })
    }

    /// Sets a hook that runs before the process ends itself without returning from `main`, for example to flush the
    /// log. The hook must end in bounded time. Only the first call has an effect.
    pub fn before_exit(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.before_exit.set(Box::new(hook));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "main cannot return while the runtime is blocked"
)]
fn exit_process(code: i32) {
    std::process::exit(code);
}

/// Ends the process at once. Tests replace it by a recorder.
#[derive(Clone)]
pub(super) struct Exit(pub(super) Arc<dyn Fn(i32) + Send + Sync>);

impl fmt::Debug for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exit")
    }
}

/// Source of signals.
pub(super) trait SignalSource {
    /// Waits for the next signal that requests a stop.
    async fn next(&mut self) -> Signal;
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

impl SignalSource for Signals {
    async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                // Signals before a stop are logged before it.
                biased;
                Some(()) = self.hangup.recv() => log_with_timeout(|| {
                    tracing::info!("SIGHUP ignored: restart the service to apply changed settings");
                }),
                Some(()) = self.terminate.recv() => return Signal::Terminate,
                Some(()) = self.interrupt.recv() => return Signal::Interrupt,
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct DeadlineMonitor {
    pub(super) supervisor: Supervisor,
    pub(super) notifier: Notifier,
    pub(super) readiness: Readiness,
    pub(super) exit: Exit,
}

impl DeadlineMonitor {
    pub(super) async fn run_until_exit(self, mut signals: impl SignalSource) {
        let pace = WatchdogTiming::of(&self.notifier);
        let every = (pace.limit / 50).clamp(Duration::from_millis(5), Duration::from_millis(500));
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch {
            last_tick: Instant::now(),
            thawed: None,
            stuck: false,
        };
        let mut stop: Option<Instant> = None;
        let mut signalled = false;
        loop {
            let stopping = self.supervisor.stopping();
            tokio::select! {
                biased;
                signal = signals.next() => {
                    if signalled {
                        return self.handle_second_signal(signal);
                    }
                    signalled = true;
                    log_with_timeout(move || tracing::info!(%signal, "asked to stop"));
                    self.supervisor.stop(ExitReason::Signal(signal));
                }
                () = stopping.cancelled(), if stop.is_none() => {
                    stop = Some(Instant::now());
                    self.announce_stop();
                }
                _ = ticks.tick() => {
                    let reason = match stop {
                        Some(since) => self.find_overdue_stop(since),
                        None => self.find_hang(&mut watch, pace, every),
                    };
                    if let Some(why) = reason {
                        return self.end_process(why);
                    }
                }
            }
        }
    }

    fn handle_second_signal(&self, signal: Signal) {
        let tasks = self.supervisor.running();
        self.notifier
            .last_words(&format!("Ended at once by a second {signal}"));
        log_with_timeout(move || tracing::warn!(%signal, tasks, "second signal, ending at once"));
        (self.exit.0)(i32::from(signal.exit_code()));
    }

    fn announce_stop(&self) {
        let (supervisor, notifier) = (self.supervisor.clone(), self.notifier.clone());
        let readiness = self.readiness.clone();
        // Bounded, because a blocked thread may hold the lock of the notifier.
        log_with_timeout(move || {
            let reason = supervisor.reason();
            super::announce_stop(&supervisor, &notifier, &readiness, &reason);
        });
    }

    fn find_overdue_stop(&self, since: Instant) -> Option<String> {
        let allowed = self.supervisor.drain_budget() + ABORT_GRACE + EXIT_GRACE;
        (since.elapsed() >= allowed).then(|| {
            format!(
                "stopping takes longer than {:.1} s, still running: {}",
                allowed.as_secs_f64(),
                self.supervisor.running()
            )
        })
    }

    /// Detects that the loop of the watchdog is stuck. Returns the reason if the process must end.
    fn find_hang(
        &self,
        watch: &mut Watch,
        pace: WatchdogTiming,
        every: Duration,
    ) -> Option<String> {
        let now = Instant::now();
        let slept = now.saturating_duration_since(watch.last_tick);
        watch.last_tick = now;
        if slept > every + pace.limit / 4 {
            // This thread did not run either, because the process was stopped or the machine slept. The loop gets time
            // to catch up.
            watch.thawed = Some(now);
        }
        let silence = |last: Option<Instant>| {
            let from = last.max(watch.thawed.filter(|_| last.is_some()))?;
            Some(now.saturating_duration_since(from))
        };
        let marks = self.supervisor.marks();
        let stuck = silence(marks.checked.get()).filter(|silence| *silence >= pace.stale());
        match stuck {
            Some(silence) if !watch.stuck => {
                watch.stuck = true;
                self.report_stuck_runtime(silence);
            }
            None if watch.stuck => {
                watch.stuck = false;
                log_with_timeout(|| tracing::info!("the runtime moves again"));
            }
            _ => {}
        }
        // Set only if systemd has a watchdog and its clock is running.
        let unpinged = silence(marks.pinged.get())?;
        (unpinged >= pace.give_up()).then(|| {
            format!(
                "the service hangs, no watchdog ping for {:.1} s of {:.1} s ({}); heartbeats: {}",
                unpinged.as_secs_f64(),
                pace.limit.as_secs_f64(),
                if watch.stuck {
                    "runtime blocked"
                } else {
                    "runtime moves"
                },
                self.supervisor.progress()
            )
        })
    }

    fn report_stuck_runtime(&self, silence: Duration) {
        let sentence = format!(
            "stalled, the runtime is blocked for {:.1} s: {}",
            silence.as_secs_f64(),
            self.supervisor.progress()
        );
        let (notifier, readiness) = (self.notifier.clone(), self.readiness.clone());
        log_with_timeout(move || {
            readiness.condition(CONDITION, &sentence).unmet(&sentence);
            notifier.status(&readiness.sentence());
            tracing::error!("{sentence}");
        });
    }

    fn end_process(&self, why: String) {
        self.notifier.last_words(&format!("Ending itself: {why}"));
        log_with_timeout(move || {
            tracing::error!(exit_code = INTERNAL, "ending the process: {why}")
        });
        (self.exit.0)(INTERNAL);
    }
}

#[derive(Debug)]
struct Watch {
    last_tick: Instant,
    /// When this thread last noticed that it had not run for some time.
    thawed: Option<Instant>,
    stuck: bool,
}

/// Runs `words` on a separate thread and waits for a limited time, because a blocked thread may hold the lock of stdout
/// or of the notifier.
fn log_with_timeout(words: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("last words".to_owned())
        .spawn(move || {
            words();
            let _ = done.send(());
        });
    if thread.is_ok() {
        let _ = wait.recv_timeout(WORDS_TAKE_AT_MOST);
    }
}
