//! Tracks whether the last write to the database succeeded.

use tokio::sync::watch;

use super::{Result, StoreError};

/// The reason why the last write failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteFailure {
    /// One sentence with the cause and the remedy, without secrets.
    pub reason: String,
    /// Whether the cause may disappear by itself, so that a trial write is worthwhile. A damaged file stays damaged.
    pub may_pass: bool,
}

/// Stores the outcome of the last write.
#[derive(Debug)]
pub(super) struct WriteHealth(watch::Sender<Option<WriteFailure>>);

impl Default for WriteHealth {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl WriteHealth {
    /// Returns the last failure, or `None` once a write succeeds.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<WriteFailure>> {
        self.0.subscribe()
    }

    /// Records a successful write.
    pub(super) fn succeeded(&self) {
        self.0.send_if_modified(|failure| failure.take().is_some());
    }

    /// Records that the database failed to write. Refusals, for example a version conflict, are not failures of the
    /// database.
    pub(super) fn failed(&self, error: &StoreError, may_pass: bool) {
        let failure = WriteFailure {
            reason: error.to_string(),
            may_pass,
        };
        self.0.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&failure);
            *known = Some(failure);
            changed
        });
    }

    /// Records the outcome of a write to the embedded database.
    pub(super) fn observe<T>(&self, result: &Result<T>, is_damage: impl Fn(&StoreError) -> bool) {
        match result {
            Ok(_) => self.succeeded(),
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Setup { .. })) => {
                self.failed(error, !is_damage(error));
            }
            // Readiness must change at once, because further writes would be lost.
            Err(error @ StoreError::FileReplaced { .. }) => self.failed(error, false),
            Err(_) => {}
        }
    }
}
