//! The self-probe: a real call through the real router, given by the part that owns the router.
//!
//! Invariant: a probe never waits longer than the watchdog allows; a probe that hangs counts as
//! one that failed.

use std::fmt;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use thiserror::Error;

use super::supervisor::TaskError;

/// Sends a request through the real request path and answers whether it was served.
///
/// It must not depend on the database: a lost database makes the service not ready, but
/// restarting the service would not bring it back.
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

/// Why the request path does not work.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The request was answered with an error.
    #[error("a request through our own router failed")]
    Failed(#[source] TaskError),
    /// The request was not answered in time.
    #[error("a request through our own router got no answer within {:.1} s", .0.as_secs_f64())]
    Hung(Duration),
    /// The service was asked to stop before the request path worked.
    #[error("asked to stop while starting")]
    Stopping,
}
