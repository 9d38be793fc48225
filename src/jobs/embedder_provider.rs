//! Provides the embedder: downloads the model if it is missing and loads it, or connects to the endpoint. Meanwhile recall
//! uses words only.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::embed::fetch::{Meter, Plan};
use crate::embed::http::{HttpEmbedder, HttpOptions};
use crate::embed::local::{LocalEmbedder, LocalOptions};
use crate::embed::{Desk, Embedder};
use crate::lifecycle::Supervisor;

/// Pause after the first failure, doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Maximum pause, because an offline machine may come back online.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// Source of the embedder.
#[derive(Debug, Clone)]
pub enum Provision {
    /// A model in this process.
    Local {
        plan: Plan,
        options: LocalOptions,
        /// Whether to show progress as a bar on the terminal.
        terminal: bool,
    },
    /// An endpoint.
    Http(HttpOptions),
}

/// Spawns the provider, which ends when the embedder is available.
pub fn provide_embedder(supervisor: &Supervisor, desk: &Arc<Desk>, provision: Provision) {
    let (desk, stopping) = (Arc::clone(desk), supervisor.stopping().clone());
    supervisor.spawn_restarting("embedder provider", move || {
        let (desk, stopping, provision) = (Arc::clone(&desk), stopping.clone(), provision.clone());
        async move {
            let mut pause = FIRST_PAUSE;
            let mut said = false;
            loop {
                let brought = tokio::select! {
                    () = stopping.cancelled() => return Ok::<(), anyhow::Error>(()),
                    brought = provision.load_embedder() => brought,
                };
                let trouble = match brought {
                    Ok(embedder) => {
                        tracing::info!(model = %embedder.model(), "the embedder is ready");
                        desk.open(embedder);
                        return Ok(());
                    }
                    Err(trouble) => trouble,
                };
                // Logged once, because the reason does not change while a machine is offline.
                if !said {
                    tracing::warn!(
                        trouble,
                        "no embedder yet: recall is by words alone, and this is tried again"
                    );
                    said = true;
                }
                desk.set_trouble(Some(trouble));
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    });
}

impl Provision {
    async fn load_embedder(&self) -> Result<Arc<dyn Embedder>, String> {
        match self {
            Self::Http(options) => {
                let embedder = HttpEmbedder::connect(options.clone())
                    .await
                    .map_err(|error| error.to_string())?;
                Ok(Arc::new(embedder))
            }
            Self::Local {
                plan,
                options,
                terminal,
            } => {
                let folder = plan
                    .fetch(&Meter::new(*terminal))
                    .await
                    .map_err(|error| error.to_string())?;
                let (id, options) = (plan.id().to_owned(), options.clone());
                let load = move || {
                    LocalEmbedder::load(&folder, &id, &options).map_err(|error| {
                        format!("the model in {} cannot be used: {error}", folder.display())
                    })
                };
                let embedder = tokio::task::spawn_blocking(load)
                    .await
                    .map_err(|error| error.to_string())??;
                Ok(Arc::new(embedder))
            }
        }
    }
}
