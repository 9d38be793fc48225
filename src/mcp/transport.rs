//! Data that a transport attaches to a request in addition to its message. Each type is an extension of the request's
//! parts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::JsonObject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::domain::Scope;

/// The identity of the caller.
#[derive(Debug, Clone)]
pub struct Identity(pub Arc<Scope>);

/// Names a request in the log and in answers.
#[derive(Debug, Clone)]
pub struct RequestId(pub Arc<str>);

/// The arguments of a call if the transport has already parsed them and removed them from the message. Large arguments
/// inside the message would be copied once for each form that the protocol library tries.
#[derive(Debug, Clone)]
pub struct SideArguments(Arc<Mutex<JsonObject>>);

impl SideArguments {
    /// Stores arguments for one call.
    #[must_use]
    pub fn new(arguments: JsonObject) -> Self {
        Self(Arc::new(Mutex::new(arguments)))
    }

    /// Passes the arguments to `look`.
    pub fn with<T>(&self, look: impl FnOnce(&JsonObject) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the arguments and leaves none.
    pub(super) fn take(&self) -> JsonObject {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Repairs of a message by the transport, for the `notes` of the answer.
#[derive(Debug, Clone)]
pub struct CallNotes(pub Arc<[String]>);

/// The turn of a request among all those that read much. A request takes it before its first such read and keeps it
/// until the transport drops it, when the answer is being sent.
#[derive(Debug, Clone)]
pub struct Admission(Arc<AdmissionState>);

#[derive(Debug)]
struct AdmissionState {
    turns: Arc<Semaphore>,
    patience: Duration,
    held: Mutex<Option<OwnedSemaphorePermit>>,
    was_refused: AtomicBool,
}

/// No turn became free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoTurn;

impl Admission {
    /// Creates the admission of one request, which waits at most `patience` for a turn.
    #[must_use]
    pub fn new(turns: Arc<Semaphore>, patience: Duration) -> Self {
        Self(Arc::new(AdmissionState {
            turns,
            patience,
            held: Mutex::default(),
            was_refused: AtomicBool::new(false),
        }))
    }

    /// Waits for the turn of this request, if it has none.
    pub(super) async fn admit(&self) -> Result<(), NoTurn> {
        if self.held().is_some() {
            return Ok(());
        }
        let turn = timeout(self.0.patience, Arc::clone(&self.0.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            self.0.was_refused.store(true, Ordering::Relaxed);
            return Err(NoTurn);
        };
        *self.held() = Some(turn);
        Ok(())
    }

    /// Returns whether a read got no turn since the last call.
    #[must_use]
    pub fn take_refusal(&self) -> bool {
        self.0.was_refused.swap(false, Ordering::Relaxed)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_keeps_one_turn_for_all_its_readings() {
        let turns = Arc::new(Semaphore::new(1));
        let patience = Duration::from_secs(5);
        let (first, second) = (
            Admission::new(Arc::clone(&turns), patience),
            Admission::new(Arc::clone(&turns), patience),
        );
        assert_eq!(first.admit().await, Ok(()));
        assert_eq!(first.clone().admit().await, Ok(()));
        assert!(!first.take_refusal());
        assert_eq!(second.admit().await, Err(NoTurn));
        assert!(second.take_refusal() && !second.take_refusal());
        drop(first);
        assert_eq!(second.admit().await, Ok(()));
    }
}
