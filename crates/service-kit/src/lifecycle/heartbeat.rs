//! Heartbeats, by which a loop shows that it makes progress.
//!
//! Depends only on the clock. Invariant: reading the ages never blocks on a watched loop, so that a hung loop can be
//! named.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Locks a mutex of this module, even after a panic. No code panics or awaits while it holds one.
pub(super) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the service can run without a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// If it ends early or hangs, the service ends and systemd restarts it.
    Essential,
    /// If it ends early or hangs, an error is logged and the service continues.
    Helper,
}

/// An instant that any thread can store and read without a lock. It starts as "never".
#[derive(Debug)]
pub(super) struct AtomicInstant {
    epoch: Instant,
    /// Milliseconds since the epoch plus one. 0 means "never".
    at: AtomicU64,
}

impl AtomicInstant {
    pub(super) fn never(epoch: Instant) -> Self {
        Self {
            epoch,
            at: AtomicU64::new(0),
        }
    }

    pub(super) fn set_now(&self) {
        let millis = self.epoch.elapsed().as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX - 1);
        self.at.store(millis.saturating_add(1), Ordering::Release);
    }

    pub(super) fn get(&self) -> Option<Instant> {
        let millis = self.at.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.epoch + Duration::from_millis(millis))
    }
}

#[derive(Debug)]
struct Pulse {
    name: &'static str,
    role: Role,
    max_age: Duration,
    last: AtomicInstant,
}

/// All heartbeats of a supervisor.
#[derive(Clone, Debug)]
pub(super) struct Heartbeats {
    epoch: Instant,
    pulses: Arc<Mutex<Vec<Arc<Pulse>>>>,
}

impl Heartbeats {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            pulses: Arc::default(),
        }
    }

    pub(super) fn register(&self, name: &'static str, role: Role, max_age: Duration) -> Heartbeat {
        let pulse = Arc::new(Pulse {
            name,
            role,
            max_age,
            last: AtomicInstant::never(self.epoch),
        });
        pulse.last.set_now();
        lock_mutex(&self.pulses).push(Arc::clone(&pulse));
        Heartbeat {
            registry: self.clone(),
            pulse,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let now = Instant::now();
        let ages = lock_mutex(&self.pulses)
            .iter()
            .map(|pulse| Age {
                name: pulse.name,
                role: pulse.role,
                age: pulse
                    .last
                    .get()
                    .map_or(Duration::ZERO, |last| now.saturating_duration_since(last)),
                max_age: pulse.max_age,
            })
            .collect();
        Progress { ages }
    }
}

/// The heartbeat of a loop. Dropping it ends the monitoring, because the supervisor handles tasks that end too early.
#[derive(Debug)]
#[must_use = "a heartbeat that is dropped is no longer watched"]
pub struct Heartbeat {
    registry: Heartbeats,
    pulse: Arc<Pulse>,
}

impl Heartbeat {
    /// Records progress. Cheap enough for every round of any loop.
    pub fn beat(&self) {
        self.pulse.last.set_now();
    }

    /// Awaits `future` and beats meanwhile, for unlimited waits, for example for the next job. Never use it for work,
    /// because hung work would look alive.
    pub async fn idle<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        loop {
            self.beat();
            if let Ok(output) = tokio::time::timeout(self.pulse.max_age / 3, &mut future).await {
                self.beat();
                return output;
            }
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        lock_mutex(&self.registry.pulses).retain(|other| !Arc::ptr_eq(other, &self.pulse));
    }
}

/// Age of a heartbeat.
#[derive(Clone, Debug)]
pub struct Age {
    pub name: &'static str,
    pub role: Role,
    /// Time since the last beat.
    pub age: Duration,
    /// Age at which the loop counts as hung.
    pub max_age: Duration,
}

impl Age {
    /// Returns whether the loop made progress recently enough.
    pub fn is_fresh(&self) -> bool {
        self.age < self.max_age
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stale = if self.is_fresh() { "" } else { " STALE" };
        write!(
            f,
            "{}{stale} {:.1} s of {:.1} s",
            self.name,
            self.age.as_secs_f64(),
            self.max_age.as_secs_f64()
        )
    }
}

/// The ages of all heartbeats at one time. Displays as one line.
#[derive(Clone, Debug)]
pub struct Progress {
    ages: Vec<Age>,
}

impl Progress {
    /// Returns whether the request path and every essential loop made progress recently enough.
    pub fn is_fresh(&self) -> bool {
        self.stale(Role::Essential).next().is_none()
    }

    /// Returns every heartbeat in the order of registration.
    pub fn ages(&self) -> &[Age] {
        &self.ages
    }

    pub(super) fn stale(&self, role: Role) -> impl Iterator<Item = &Age> {
        self.ages
            .iter()
            .filter(move |age| age.role == role && !age.is_fresh())
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ages.is_empty() {
            return f.write_str("no heartbeats");
        }
        for (index, age) in self.ages.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{age}")?;
        }
        Ok(())
    }
}
