//! Removes expired history and idempotency keys, in small batches in the background.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Days, Utc};
use tokio::time::sleep;

use crate::domain::Clock;
use crate::lifecycle::Supervisor;
use crate::store::{Expiry, Store, StoreError};

/// Time between two searches for expired data.
const PERIOD: Duration = Duration::from_secs(60);
/// Pause between two batches, so that writers can proceed.
const BREATH: Duration = Duration::from_millis(200);
/// Maximum number of rows of each kind per batch, some megabytes at most.
const BATCH: usize = 100;

/// Retention of data other than current memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Days for earlier versions of memories; `None` keeps them.
    pub history_days: Option<u32>,
    /// Days for idempotency keys; `None` keeps them.
    pub idempotency_days: Option<u32>,
}

impl Retention {
    /// Returns the times before which data has expired at `now`.
    fn expiry_at(self, now: DateTime<Utc>) -> Expiry {
        let before = |days: u32| now.checked_sub_days(Days::new(days.into()));
        Expiry {
            history_before: self.history_days.and_then(before),
            keys_before: self.idempotency_days.and_then(before),
            rows: BATCH,
        }
    }
}

/// Spawns the remover. While the database is unavailable, data is kept.
pub fn remove_expired(
    supervisor: &Supervisor,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    retention: Retention,
) {
    let (store, clock, stopping) = (
        Arc::clone(store),
        Arc::clone(clock),
        supervisor.stopping().clone(),
    );
    supervisor.spawn_restarting("expiry remover", move || {
        let (store, clock, stopping) = (Arc::clone(&store), Arc::clone(&clock), stopping.clone());
        async move {
            loop {
                let expiry = retention.expiry_at(clock.now());
                let removed = tokio::select! {
                    () = stopping.cancelled() => return Ok::<(), StoreError>(()),
                    removed = store.remove_expired(&expiry) => removed,
                };
                let pause = match removed {
                    Ok(expired) => {
                        if expired.history > 0 || expired.keys > 0 {
                            tracing::debug!(expired.history, expired.keys, "removed expired data");
                        }
                        let full = expired.history.max(expired.keys) >= BATCH as u64;
                        if full { BREATH } else { PERIOD }
                    }
                    Err(StoreError::Unavailable { .. }) => PERIOD,
                    Err(error) => return Err(error),
                };
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = sleep(pause) => {}
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_the_time_before_which_data_expires() {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let expiry = Retention {
            history_days: Some(30),
            idempotency_days: None,
        }
        .expiry_at(now);
        assert_eq!(
            expiry.history_before.unwrap().to_rfc3339(),
            "2025-12-02T00:00:00+00:00"
        );
        assert_eq!(expiry.keys_before, None);
    }
}
