//! A cache of counts that may be up to a minute old.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::Scope;

/// Recent counts by scope.
#[derive(Debug, Default)]
pub(super) struct ScopeCounts {
    /// Memories.
    pub(super) documents: RecentCounts<String, u64>,
    /// Number of memories that contain a common term.
    pub(super) common: RecentCounts<(String, String), i64>,
}

/// Returns the cache key of a scope.
pub(super) fn scope_key(scope: &Scope) -> String {
    scope.readable().collect::<Vec<_>>().join("\0")
}

/// Maximum age of a count.
const OLDEST: Duration = Duration::from_secs(60);
/// Maximum number of counts.
const MOST: usize = 10_000;

/// Counts by key, each with its time.
#[derive(Debug)]
pub(super) struct RecentCounts<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for RecentCounts<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Copy> RecentCounts<K, V> {
    fn lock_counts(&self) -> MutexGuard<'_, HashMap<K, (Instant, V)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the count of a key if it is recent.
    pub(super) fn find(&self, key: &K) -> Option<V> {
        let (counted, value) = *self.lock_counts().get(key)?;
        (counted.elapsed() < OLDEST).then_some(value)
    }

    /// Adds new counts. Drops all others if there are too many.
    pub(super) fn keep(&self, counted: impl IntoIterator<Item = (K, V)>) {
        let counted: Vec<(K, V)> = counted.into_iter().collect();
        let mut all = self.lock_counts();
        if all.len() + counted.len() > MOST {
            all.clear();
        }
        let now = Instant::now();
        all.extend(counted.into_iter().map(|(key, value)| (key, (now, value))));
    }
}
