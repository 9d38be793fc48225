//! Tracks whether the service can work now, and if not, why.
//!
//! Has no dependencies. Invariant: `/health/ready` and the status line of systemd are derived from the same conditions,
//! so that they cannot contradict each other.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::heartbeat::lock_mutex;

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
    /// Starts without conditions and with the headline "Starting".
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

    /// Returns the condition of that name. The first call adds it as not met, with `detail` as the reason; later calls
    /// return the same condition and change nothing.
    ///
    /// Details complete a sentence that begins with the name ("database" + "unreachable: connection refused").
    /// `/health/ready` shows them to every client, so they must not contain secrets.
    pub fn condition(&self, name: &'static str, detail: &str) -> Condition {
        let added = {
            let mut state = lock_mutex(&self.inner.state);
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

    /// Sets the sentence for a service without problems, for example "Serving on 127.0.0.1:8765".
    pub fn headline(&self, sentence: &str) {
        sentence.clone_into(&mut lock_mutex(&self.inner.state).headline);
        self.inner.changed.send_replace(());
    }

    /// Makes the service not ready until it ends.
    pub(super) fn stopping(&self, sentence: &str) {
        {
            let mut state = lock_mutex(&self.inner.state);
            if state.stopping {
                return;
            }
            state.stopping = true;
            sentence.clone_into(&mut state.headline);
        }
        self.inner.changed.send_replace(());
    }

    /// Returns whether every condition is met and the service is not stopping.
    pub fn is_ready(&self) -> bool {
        let state = lock_mutex(&self.inner.state);
        !state.stopping && state.conditions.values().all(|entry| entry.ok)
    }

    /// Waits until every condition is met. Never returns if the service stops.
    pub async fn met(&self) {
        let mut changes = self.changes();
        while !self.is_ready() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns all conditions, for `/health/ready`.
    pub fn report(&self) -> ReadinessReport {
        let state = lock_mutex(&self.inner.state);
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

    /// Returns the headline and all unmet conditions with their ages, for `systemctl status`.
    pub fn sentence(&self) -> String {
        let state = lock_mutex(&self.inner.state);
        let mut sentence = state.headline.clone();
        if state.stopping {
            return sentence;
        }
        for (name, entry) in &state.conditions {
            if !entry.ok {
                let age = format_age(entry.since.elapsed());
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

fn format_age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Handle of a condition for the component that knows whether it is met. Clones set the same condition.
#[derive(Clone, Debug)]
pub struct Condition {
    inner: Arc<Inner>,
    name: &'static str,
}

impl Condition {
    /// Sets the condition as met. `detail` describes the state ("connected, PostgreSQL 17.6").
    pub fn met(&self, detail: &str) {
        self.set(true, detail);
    }

    /// Sets the condition as not met. `detail` states the reason ("unreachable: connection refused").
    pub fn unmet(&self, detail: &str) {
        self.set(false, detail);
    }

    fn set(&self, ok: bool, detail: &str) {
        {
            let mut state = lock_mutex(&self.inner.state);
            match state.conditions.get_mut(self.name) {
                Some(entry) if entry.ok == ok && entry.detail == detail => return,
                // `since` is the time of the change, not of the latest detail.
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
    pub status: ReadinessStatus,
    pub checks: BTreeMap<&'static str, Check>,
}

impl ReadinessReport {
    /// Returns whether to answer 200 (else 503).
    pub fn is_ready(&self) -> bool {
        self.status == ReadinessStatus::Ready
    }
}

/// The overall result of all conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessStatus {
    Ready,
    NotReady,
    Stopping,
}

/// One condition of a [`ReadinessReport`].
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub ok: bool,
    pub detail: String,
    /// Time of the last change of `ok`.
    pub since: DateTime<Utc>,
}
