//! Whether the service can do its work now, and if not, why, in words for people.
//!
//! Depends on nothing. Invariant: `/health/ready` and systemd's status line are made from the
//! same conditions, so that they cannot contradict each other.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::heartbeat::lock;

/// The conditions under which the service is ready. Clones share state.
#[derive(Clone, Debug)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    headline: String,
    stopping: bool,
    conditions: BTreeMap<&'static str, Entry>,
}

#[derive(Debug)]
struct Entry {
    ok: bool,
    detail: String,
    since: Instant,
    since_wall: DateTime<Utc>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// No conditions yet, headline "Starting".
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    headline: "Starting".to_owned(),
                    stopping: false,
                    conditions: BTreeMap::new(),
                }),
                changed: watch::Sender::new(()),
            }),
        }
    }

    /// The condition of that name. The first call adds it as not met, with `detail` as the
    /// reason; later calls give the same condition and change nothing.
    ///
    /// Details finish a sentence which begins with the name ("database" + "unreachable:
    /// connection refused"). They are shown to whoever asks `/health/ready`: no secrets.
    pub fn condition(&self, name: &'static str, detail: &str) -> Condition {
        let added = {
            let mut state = lock(&self.inner.state);
            let added = !state.conditions.contains_key(name);
            if added {
                state.conditions.insert(name, Entry::new(false, detail));
            }
            added
        };
        if added {
            self.inner.changed.send_replace(());
        }
        Condition {
            inner: Arc::clone(&self.inner),
            name,
        }
    }

    /// What the service does when all is well, e.g. "Serving on 127.0.0.1:8765".
    pub fn headline(&self, sentence: &str) {
        sentence.clone_into(&mut lock(&self.inner.state).headline);
        self.inner.changed.send_replace(());
    }

    /// From now on the service is not ready for good.
    pub(super) fn stopping(&self, sentence: &str) {
        {
            let mut state = lock(&self.inner.state);
            if state.stopping {
                return;
            }
            state.stopping = true;
            sentence.clone_into(&mut state.headline);
        }
        self.inner.changed.send_replace(());
    }

    /// Whether every condition is met and the service does not stop.
    pub fn is_ready(&self) -> bool {
        let state = lock(&self.inner.state);
        !state.stopping && state.conditions.values().all(|entry| entry.ok)
    }

    /// Returns when every condition is met; never, once the service stops.
    pub async fn met(&self) {
        let mut changes = self.changes();
        while !self.is_ready() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Everything, for `/health/ready`.
    pub fn report(&self) -> ReadinessReport {
        let state = lock(&self.inner.state);
        let status = if state.stopping {
            ReadinessStatus::Stopping
        } else if state.conditions.values().all(|entry| entry.ok) {
            ReadinessStatus::Ready
        } else {
            ReadinessStatus::NotReady
        };
        let checks = state
            .conditions
            .iter()
            .map(|(name, entry)| {
                let check = Check {
                    ok: entry.ok,
                    detail: entry.detail.clone(),
                    since: entry.since_wall,
                };
                (*name, check)
            })
            .collect();
        ReadinessReport { status, checks }
    }

    /// The headline and every condition that is not met with its age, for `systemctl status`.
    pub fn sentence(&self) -> String {
        let state = lock(&self.inner.state);
        let mut sentence = state.headline.clone();
        if state.stopping {
            return sentence;
        }
        for (name, entry) in &state.conditions {
            if !entry.ok {
                let age = age(entry.since.elapsed());
                // Writing to a String cannot fail.
                let _ = write!(sentence, ", {name} {} ({age})", entry.detail);
            }
        }
        sentence
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.inner.changed.subscribe()
    }
}

impl Entry {
    fn new(ok: bool, detail: &str) -> Self {
        Self {
            ok,
            detail: detail.to_owned(),
            since: Instant::now(),
            since_wall: wall_clock(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "people compare it with the log; no decision depends on it"
)]
fn wall_clock() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(0)
}

/// Seconds, then minutes, then hours: a status line is read, not computed with.
fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// One condition, held by the part that knows whether it is met. Clones set the same condition.
#[derive(Clone, Debug)]
pub struct Condition {
    inner: Arc<Inner>,
    name: &'static str,
}

impl Condition {
    /// The condition is met; `detail` says what is well ("connected, PostgreSQL 17.6").
    pub fn met(&self, detail: &str) {
        self.set(true, detail);
    }

    /// The condition is not met; `detail` says why ("unreachable: connection refused").
    pub fn unmet(&self, detail: &str) {
        self.set(false, detail);
    }

    fn set(&self, ok: bool, detail: &str) {
        {
            let mut state = lock(&self.inner.state);
            match state.conditions.get_mut(self.name) {
                Some(entry) if entry.ok == ok && entry.detail == detail => return,
                // "Since" is the moment of the turn, not of the latest wording.
                Some(entry) if entry.ok == ok => detail.clone_into(&mut entry.detail),
                _ => {
                    state.conditions.insert(self.name, Entry::new(ok, detail));
                }
            }
        }
        self.inner.changed.send_replace(());
    }
}

/// The body of `/health/ready`.
#[derive(Clone, Debug, Serialize)]
pub struct ReadinessReport {
    /// The verdict.
    pub status: ReadinessStatus,
    /// Every condition by its name.
    pub checks: BTreeMap<&'static str, Check>,
}

impl ReadinessReport {
    /// Whether to answer 200 (else 503).
    pub fn is_ready(&self) -> bool {
        self.status == ReadinessStatus::Ready
    }
}

/// The verdict over all conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessStatus {
    /// Every condition is met.
    Ready,
    /// At least one condition is not met.
    NotReady,
    /// The service ends.
    Stopping,
}

/// One condition of a [`ReadinessReport`].
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Whether the condition is met.
    pub ok: bool,
    /// Why it is not, or what is well.
    pub detail: String,
    /// When `ok` last turned.
    pub since: DateTime<Utc>,
}
