//! The probe: a real request through the real router. The owner of the router provides it.
//!
//! Invariant: a probe never waits longer than the watchdog allows. A hanging probe counts as failed.

use std::fmt;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use thiserror::Error;

use super::supervisor::TaskError;

/// Sends a request through the real request path, and returns whether it was served.
///
/// It must not depend on the database: without a database the service is not ready, but a restart would not help.
pub struct Probe {
    call: Box<dyn Fn() -> BoxFuture<'static, Result<(), TaskError>> + Send + Sync>,
}

impl Probe {
    /// Wraps an async closure.
    pub fn new<F, Fut>(call: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        Self {
            call: Box::new(move || call().boxed()),
        }
    }

    pub(super) async fn call(&self, within: Duration) -> Result<(), ProbeError> {
        match tokio::time::timeout(within, (self.call)()).await {
            Ok(answer) => answer.map_err(ProbeError::Failed),
            Err(_) => Err(ProbeError::Hung(within)),
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// The reason why the request path does not work.
#[derive(Debug, Error)]
pub enum ProbeError {
    #[error("a request through our own router failed")]
    Failed(#[source] TaskError),
    #[error("a request through our own router got no answer within {:.1} s", .0.as_secs_f64())]
    Hung(Duration),
    #[error("asked to stop while starting")]
    Stopping,
}
