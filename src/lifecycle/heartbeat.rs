//! Heartbeats: how a loop says that it still moves.
//!
//! Depends on the clock only. Invariant: reading the ages never blocks on the loop that is
//! watched, so that a hung loop can be named.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::supervisor::Role;

/// Locks a mutex of this module. Nothing panics or awaits while one is held, and a monitor that
/// stops working because of a panic elsewhere would be worse than any half-written value.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A moment which any thread may store and read without a lock; starts as "never".
#[derive(Debug)]
pub(super) struct Moment {
    epoch: Instant,
    /// Milliseconds since the epoch plus one; 0 is "never".
    at: AtomicU64,
}

impl Moment {
    pub(super) fn never(epoch: Instant) -> Self {
        Self {
            epoch,
            at: AtomicU64::new(0),
        }
    }

    pub(super) fn touch(&self) {
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
    last: Moment,
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
            last: Moment::never(self.epoch),
        });
        pulse.last.touch();
        lock(&self.pulses).push(Arc::clone(&pulse));
        Heartbeat {
            registry: self.clone(),
            pulse,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let now = Instant::now();
        let ages = lock(&self.pulses)
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

/// The pulse of one loop. Dropping it ends the watch over that loop, which is right when the
/// loop ended: the supervisor deals with tasks that end too early.
#[derive(Debug)]
#[must_use = "a heartbeat that is dropped is no longer watched"]
pub struct Heartbeat {
    registry: Heartbeats,
    pulse: Arc<Pulse>,
}

impl Heartbeat {
    /// Says "I moved". Cheap enough for every round of any loop: one clock reading, one store.
    pub fn beat(&self) {
        self.pulse.last.touch();
    }

    /// Awaits `future` and keeps beating meanwhile, for waits which are rightly endless, such
    /// as waiting for the next job. Never wrap work in it: work that hangs would look alive.
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
        lock(&self.registry.pulses).retain(|other| !Arc::ptr_eq(other, &self.pulse));
    }
}

/// How old one heartbeat is.
#[derive(Clone, Debug)]
pub struct Age {
    /// The name under which it was registered.
    pub name: &'static str,
    /// Whether the service can live without this loop.
    pub role: Role,
    /// Time since the last beat.
    pub age: Duration,
    /// The age from which on the loop counts as hung.
    pub max_age: Duration,
}

impl Age {
    /// Whether the loop moved recently enough.
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

/// The age of every heartbeat at one moment. Displays as one line which names them all.
#[derive(Clone, Debug)]
pub struct Progress {
    ages: Vec<Age>,
}

impl Progress {
    /// Whether the request path and every essential loop moved recently enough.
    pub fn is_fresh(&self) -> bool {
        self.stale(Role::Essential).next().is_none()
    }

    /// Every heartbeat, in the order of registration.
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
