//! Limits the memory of all requests together: for arriving bodies, for running calls, and for answers that are being
//! sent. A request waits briefly for its share and is then turned away.
//!
//! The three budgets are separate so that none starves another: clients that send or read slowly use no share of the
//! calls, and a large call does not delay small ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::body_scan::BodyScan;
use crate::mcp::Admission;

/// Maximum wait for a share.
const PATIENCE: Duration = Duration::from_secs(5);
/// Shares are counted in units of this size.
const UNIT: usize = 1024;
/// Budget for arriving bodies. The first [`FREE_BYTES`] of each are not counted, because the number of connections
/// limits them.
const RECEIVING: usize = 64 * 1024 * 1024;
/// Budget for large calls.
const LARGE_CALLS: usize = 160 * 1024 * 1024;
/// Maximum number of concurrent small calls.
const SMALL_CALLS: usize = 64;
/// Maximum number of concurrent requests that read much. Most of them need a few MiB, some need tens of MiB.
const MUCH_READING: usize = 6;
/// Budget for answers that are being sent.
const ANSWERING: usize = 128 * 1024 * 1024;
/// Maximum size of a body or an answer that needs no share.
pub(super) const FREE_BYTES: usize = 64 * 1024;

/// Estimated memory of a running call per byte of the body, per value and per container.
const COST_OF_BYTE: usize = 7;
const COST_OF_VALUE: usize = 64;
const COST_OF_CONTAINER: usize = 1024;
/// Maximum cost of a small call.
const SMALL_COST: usize = 1024 * 1024;

/// A share, held until it is dropped.
pub(super) type Share = OwnedSemaphorePermit;

/// No share became free in time.
#[derive(Debug)]
pub(super) struct Exhausted;

#[derive(Debug)]
pub(super) struct Budget {
    receiving: Arc<Semaphore>,
    large_calls: Arc<Semaphore>,
    small_calls: Arc<Semaphore>,
    much_reading: Arc<Semaphore>,
    answering: Arc<Semaphore>,
    max_body_bytes: usize,
}

impl Budget {
    /// Creates a budget for at least one body of the largest size.
    pub(super) fn new(max_body_bytes: usize) -> Self {
        let semaphore = |bytes: usize| Arc::new(Semaphore::new(bytes.div_ceil(UNIT)));
        Self {
            receiving: semaphore(RECEIVING.max(max_body_bytes)),
            large_calls: semaphore(LARGE_CALLS),
            small_calls: Arc::new(Semaphore::new(SMALL_CALLS)),
            much_reading: Arc::new(Semaphore::new(MUCH_READING)),
            answering: semaphore(ANSWERING),
            max_body_bytes,
        }
    }

    /// Waits for a share for bytes of a body.
    pub(super) async fn receive(&self, bytes: usize) -> Result<Share, Exhausted> {
        acquire(&self.receiving, bytes, RECEIVING.max(self.max_body_bytes)).await
    }

    /// Waits for a share for a call with a body of this size and content. Strings count as the JSON text that they
    /// may be, because a text of a few bytes can become a large tree.
    pub(super) async fn call(&self, bytes: usize, scan: &BodyScan) -> Result<Share, Exhausted> {
        let cost = bytes * COST_OF_BYTE
            + scan.possible_values() * COST_OF_VALUE
            + scan.possible_containers() * COST_OF_CONTAINER;
        if cost <= SMALL_COST {
            return acquire(&self.small_calls, UNIT, UNIT).await;
        }
        acquire(&self.large_calls, cost, LARGE_CALLS).await
    }

    /// Returns the turn of a request among those that read much.
    pub(super) fn admission(&self) -> Admission {
        Admission::new(Arc::clone(&self.much_reading), PATIENCE)
    }

    /// Waits for a share for an answer of this size.
    pub(super) async fn answer(&self, bytes: usize) -> Result<Share, Exhausted> {
        acquire(&self.answering, bytes, ANSWERING).await
    }
}

async fn acquire(
    semaphore: &Arc<Semaphore>,
    bytes: usize,
    most: usize,
) -> Result<Share, Exhausted> {
    // A request larger than the whole budget waits until no other is running.
    let units = u32::try_from(bytes.min(most).div_ceil(UNIT)).unwrap_or(u32::MAX);
    match timeout(PATIENCE, Arc::clone(semaphore).acquire_many_owned(units)).await {
        Ok(Ok(share)) => Ok(share),
        // These semaphores are never closed.
        Ok(Err(_)) | Err(_) => Err(Exhausted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(body: &str) -> BodyScan {
        let mut scan = BodyScan::default();
        scan.push(body.as_bytes());
        scan
    }

    #[tokio::test(start_paused = true)]
    async fn large_calls_wait_for_each_other_and_never_hold_up_small_ones() {
        let budget = Budget::new(4 * 1024 * 1024);
        let large = scan("{}");
        let mut held = Vec::new();
        while let Ok(share) = budget.call(4 * 1024 * 1024, &large).await {
            held.push(share);
        }
        assert_eq!(held.len(), LARGE_CALLS / (4 * 1024 * 1024 * COST_OF_BYTE));
        let small: Vec<_> =
            futures_util::future::join_all((0..SMALL_CALLS).map(|_| budget.call(100, &large)))
                .await;
        assert!(small.iter().all(Result::is_ok));
        assert!(budget.call(100, &large).await.is_err());
        held.pop();
        assert!(budget.call(4 * 1024 * 1024, &large).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_body_of_the_settings_fits() {
        let budget = Budget::new(256 * 1024 * 1024);
        assert!(budget.receive(256 * 1024 * 1024).await.is_ok());
        assert!(budget.call(256 * 1024 * 1024, &scan("{}")).await.is_ok());
        assert!(budget.answer(1024 * 1024 * 1024).await.is_ok());
    }
}
