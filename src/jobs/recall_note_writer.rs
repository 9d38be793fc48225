//! Writes usage statistics of recalled memories, every few seconds and once more at the end.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::lifecycle::Supervisor;
use crate::store::StoreError;

const PERIOD: Duration = Duration::from_secs(2);

/// Spawns the writer. While the database is unavailable, the statistics are dropped.
pub fn write_recall_notes(supervisor: &Supervisor, engine: &Arc<Engine>) {
    let (engine, stopping) = (Arc::clone(engine), supervisor.stopping().clone());
    supervisor.spawn_restarting("recall note writer", move || {
        let (engine, stopping) = (Arc::clone(&engine), stopping.clone());
        async move {
            loop {
                let last = tokio::select! {
                    () = stopping.cancelled() => true,
                    () = tokio::time::sleep(PERIOD) => false,
                };
                match engine.flush_recall_notes().await {
                    Ok(()) | Err(StoreError::Unavailable { .. }) => {}
                    Err(error) => return Err(error),
                }
                if last {
                    return Ok(());
                }
            }
        }
    });
}
