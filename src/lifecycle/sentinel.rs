//! The sentinel: a plain thread with a small runtime of its own, which goes on when every worker
//! of the service's runtime is blocked.
//!
//! Depends on supervisor, notifier, readiness. It owns the signals and the deadlines:
//!
//! - SIGTERM, SIGINT: the service stops in order. A second one ends it at once with 143 or 130:
//!   work was cut off on purpose, and that is what shells expect. SIGHUP is ignored and logged.
//! - A stop which takes longer than drain budget, [`ABORT_GRACE`] and [`EXIT_GRACE`] together
//!   ends with 70.
//! - When systemd has a watchdog: 90 % of its limit after the last ping the process ends with 70.
//!   systemd would abort conmon, not us, and we would be killed without a word; ending
//!   ourselves gets the reason into the journal, and the container is cleaned up in order.
//!   The last tenth is kept for writing the line. Should this thread be stopped too
//!   (SIGSTOP, a frozen cgroup), systemd's own watchdog still acts.
//!
//! Without a watchdog nobody would start the process again: it only says that it hangs.
//!
//! Invariant: nothing here waits for the service's runtime or for its locks without a bound.

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
use super::watchdog::{CONDITION, Pace};

/// What a stop may take beyond drain budget and [`ABORT_GRACE`], for closing pools and flushing
/// logs. Keep `StopTimeout=` of the unit above the sum: 20 + 2 + 3 < 30.
pub const EXIT_GRACE: Duration = Duration::from_secs(3);

/// Log lines go to a pipe which may be full for ever; then we end without the words.
const WORDS_TAKE_AT_MOST: Duration = Duration::from_secs(1);

const INTERNAL: i32 = 70;

/// The running thread. Signals are handled and deadlines watched until it is dropped: hold it
/// until the process ends.
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
    /// Installs the handlers and returns when they are in place. Call it first in the process:
    /// what comes before cannot be stopped by a signal when it runs as PID 1.
    ///
    /// # Errors
    ///
    /// The system refused a thread, a pipe or a handler.
    pub fn start(
        supervisor: &Supervisor,
        notifier: &Notifier,
        readiness: &Readiness,
    ) -> Result<Self, SentinelError> {
        let ended = CancellationToken::new();
        let before_exit = Arc::<OnceLock<Hook>>::default();
        let hook = Arc::clone(&before_exit);
        let guard = Guard {
            supervisor: supervisor.clone(),
            notifier: notifier.clone(),
            readiness: readiness.clone(),
            exit: Exit(Arc::new(move |code| {
                if let Some(hook) = hook.get() {
                    hook();
                }
                end_process(code);
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
                        () = guard.stand(signals) => {}
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

    /// What to do last when the process ends itself without returning from `main`, such as writing out the log, which
    /// would be lost with its reason. It must be bounded. Only the first call has an effect.
    pub fn before_exit(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.before_exit.set(Box::new(hook));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "main cannot return while the runtime is blocked"
)]
fn end_process(code: i32) {
    std::process::exit(code);
}

/// How the process ends at once; tests put a recorder here.
#[derive(Clone)]
pub(super) struct Exit(pub(super) Arc<dyn Fn(i32) + Send + Sync>);

impl fmt::Debug for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exit")
    }
}

/// Where signals come from.
pub(super) trait SignalSource {
    /// The next signal that asks us to stop.
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
                // What came before a stop is said before it.
                biased;
                Some(()) = self.hangup.recv() => say(|| {
                    tracing::info!("SIGHUP ignored: restart the service to apply changed settings");
                }),
                Some(()) = self.terminate.recv() => return Signal::Terminate,
                Some(()) = self.interrupt.recv() => return Signal::Interrupt,
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Guard {
    pub(super) supervisor: Supervisor,
    pub(super) notifier: Notifier,
    pub(super) readiness: Readiness,
    pub(super) exit: Exit,
}

impl Guard {
    pub(super) async fn stand(self, mut signals: impl SignalSource) {
        let pace = Pace::of(&self.notifier);
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
                        return self.second(signal);
                    }
                    signalled = true;
                    say(move || tracing::info!(%signal, "asked to stop"));
                    self.supervisor.stop(ExitReason::Signal(signal));
                }
                () = stopping.cancelled(), if stop.is_none() => {
                    stop = Some(Instant::now());
                    self.announce();
                }
                _ = ticks.tick() => {
                    let give_up = match stop {
                        Some(since) => self.overdue(since),
                        None => self.hangs(&mut watch, pace, every),
                    };
                    if let Some(why) = give_up {
                        return self.give_up(why);
                    }
                }
            }
        }
    }

    fn second(&self, signal: Signal) {
        let tasks = self.supervisor.running();
        self.notifier
            .last_words(&format!("Ended at once by a second {signal}"));
        say(move || tracing::warn!(%signal, tasks, "second signal, ending at once"));
        (self.exit.0)(i32::from(signal.exit_code()));
    }

    fn announce(&self) {
        let (supervisor, notifier) = (self.supervisor.clone(), self.notifier.clone());
        let readiness = self.readiness.clone();
        // Bounded, since a blocked thread may hold the notifier's lock.
        say(move || {
            let reason = supervisor.reason();
            super::announce_stop(&supervisor, &notifier, &readiness, &reason);
        });
    }

    fn overdue(&self, since: Instant) -> Option<String> {
        let allowed = self.supervisor.drain_budget() + ABORT_GRACE + EXIT_GRACE;
        (since.elapsed() >= allowed).then(|| {
            format!(
                "stopping takes longer than {:.1} s, still running: {}",
                allowed.as_secs_f64(),
                self.supervisor.running()
            )
        })
    }

    /// Says that the watchdog's loop is stuck, and answers why to end the process if it is time.
    fn hangs(&self, watch: &mut Watch, pace: Pace, every: Duration) -> Option<String> {
        let now = Instant::now();
        let slept = now.saturating_duration_since(watch.last_tick);
        watch.last_tick = now;
        if slept > every + pace.limit / 4 {
            // This thread did not run either: we were stopped or the machine was asleep. Give
            // the loop the time to catch up instead of taking our own absence for its hang.
            watch.thawed = Some(now);
        }
        let silence = |last: Option<Instant>| {
            let from = last.max(watch.thawed.filter(|_| last.is_some()))?;
            Some(now.saturating_duration_since(from))
        };
        let vital = self.supervisor.vital();
        let stuck = silence(vital.checked.get()).filter(|silence| *silence >= pace.stale());
        match stuck {
            Some(silence) if !watch.stuck => {
                watch.stuck = true;
                self.stuck(silence);
            }
            None if watch.stuck => {
                watch.stuck = false;
                say(|| tracing::info!("the runtime moves again"));
            }
            _ => {}
        }
        // Set only when systemd has a watchdog, and not before its clock runs.
        let unpinged = silence(vital.pinged.get())?;
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

    fn stuck(&self, silence: Duration) {
        let sentence = format!(
            "stalled, the runtime is blocked for {:.1} s: {}",
            silence.as_secs_f64(),
            self.supervisor.progress()
        );
        let (notifier, readiness) = (self.notifier.clone(), self.readiness.clone());
        say(move || {
            readiness.condition(CONDITION, &sentence).unmet(&sentence);
            notifier.status(&readiness.sentence());
            tracing::error!("{sentence}");
        });
    }

    fn give_up(&self, why: String) {
        self.notifier.last_words(&format!("Ending itself: {why}"));
        say(move || tracing::error!(exit_code = INTERNAL, "ending the process: {why}"));
        (self.exit.0)(INTERNAL);
    }
}

#[derive(Debug)]
struct Watch {
    last_tick: Instant,
    /// When this thread last noticed that it had not run for long.
    thawed: Option<Instant>,
    stuck: bool,
}

/// Runs `words` on a thread of its own and waits for it, but not for ever: whoever is blocked may
/// hold the lock of stdout or of the notifier.
fn say(words: impl FnOnce() + Send + 'static) {
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
