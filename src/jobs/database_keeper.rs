//! Prepares the database, with retries, and monitors it afterwards. The service continues without a database, but ends if the
//! files of the embedded database are removed, because only a restart opens the right ones again.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::lifecycle::{Condition, Role, Supervisor};
use crate::store::{DatabaseInfo, Store, StoreError, WriteFailure};

/// Time between two checks of an available database.
const PERIOD: Duration = Duration::from_secs(2);
/// Number of checks between two updates of the statistics, and between two trial writes after a failed write.
const LOOKS: u32 = 5;
/// Maximum pause between two attempts to reach the database.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Maximum time of a check. The store also has its own limits.
const LONGEST_LOOK: Duration = Duration::from_secs(15);
/// Maximum time of a migration of a large database. After this time the loop counts as stuck.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Spawns the monitor. It sets `condition`, which `/health/ready` reports.
pub fn keep_database(supervisor: &Supervisor, store: Arc<dyn Store>, condition: Condition) {
    let heartbeat = supervisor.heartbeat("database keeper", Role::Essential, MAX_AGE);
    let stopping = supervisor.stopping().clone();
    supervisor.spawn("database keeper", Role::Essential, async move {
        let write_failure = store.write_failure();
        let mut keeper = Keeper {
            store,
            condition,
            write_failure,
            prepared: false,
            lost_since: None,
        };
        let mut pause = Duration::from_millis(200);
        let mut looks: u32 = 0;
        loop {
            heartbeat.beat();
            let well = tokio::select! {
                () = stopping.cancelled() => return Ok::<(), StoreError>(()),
                well = keeper.check_database() => well?,
            };
            looks = if well { looks + 1 } else { 0 };
            if looks == LOOKS {
                looks = 0;
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = keeper.maintain_statistics() => {}
                }
            }
            pause = if well {
                PERIOD
            } else {
                (pause * 2).min(MAX_PAUSE)
            };
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                () = heartbeat.idle(tokio::time::sleep(pause)) => {}
                () = keeper.write_outcome_changed() => {}
            }
            if well {
                pause = Duration::from_millis(200);
            }
        }
    });
}

struct Keeper {
    store: Arc<dyn Store>,
    condition: Condition,
    write_failure: watch::Receiver<Option<WriteFailure>>,
    prepared: bool,
    lost_since: Option<Instant>,
}

impl Keeper {
    /// Prepares the database if that has not succeeded yet. Otherwise checks that it answers.
    async fn check_database(&mut self) -> Result<bool, StoreError> {
        let result = if self.prepared {
            tokio::time::timeout(LONGEST_LOOK, self.store.info())
                .await
                .unwrap_or_else(|_| Err(too_slow()))
        } else {
            match self.store.prepare().await {
                Ok(()) => self.store.info().await,
                Err(error) => Err(error),
            }
        };
        match result {
            Ok(info) => Ok(self.handle_recovery(&info)),
            Err(error @ StoreError::FileReplaced { .. }) => {
                self.handle_loss(&error);
                Err(error)
            }
            Err(error) => Ok(self.handle_loss(&error)),
        }
    }

    /// Returns after a write has failed, or has succeeded again, so that readiness changes at once.
    async fn write_outcome_changed(&mut self) {
        if self.write_failure.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Updates statistics or tries a write. A failure does not make the database unavailable.
    async fn maintain_statistics(&self) {
        if let Err(error) = self.store.refresh_statistics().await {
            tracing::debug!(
                error = &error as &dyn Error,
                "the statistics of the tables were not refreshed"
            );
        }
        if self
            .write_failure
            .borrow()
            .as_ref()
            .is_some_and(|failure| failure.may_pass)
            && let Err(error) = self.store.probe_write().await
        {
            tracing::debug!(
                error = &error as &dyn Error,
                "the database still takes no writes"
            );
        }
    }

    fn handle_recovery(&mut self, info: &DatabaseInfo) -> bool {
        let at = format!("{} {}, {}", info.backend, info.version, info.name);
        if !self.prepared {
            tracing::info!(
                backend = info.backend,
                database = info.name,
                schema = info.schema_version,
                "the database is ready"
            );
        }
        self.prepared = true;
        let failure = self.write_failure.borrow_and_update().clone();
        if let Some(WriteFailure { reason, .. }) = failure {
            self.note_outage(&format!("the last write failed: {reason}"));
            return true;
        }
        if let Some(since) = self.lost_since.take() {
            tracing::info!(seconds = since.elapsed().as_secs(), "the database is back");
        }
        self.condition.met(&at);
        true
    }

    fn handle_loss(&mut self, error: &StoreError) -> bool {
        self.note_outage(&error.to_string());
        false
    }

    /// Logs once per outage. The readiness check has the details.
    fn note_outage(&mut self, reason: &str) {
        if self.lost_since.is_none() {
            tracing::error!(
                error = reason,
                "no database: tools answer with an error until it is back"
            );
            self.lost_since = Some(Instant::now());
        }
        self.condition.unmet(reason);
    }
}

fn too_slow() -> StoreError {
    StoreError::Unavailable {
        reason: format!("no answer within {} s", LONGEST_LOOK.as_secs()),
        source: None,
    }
}
