//! The parts that `serve` and `stdio` have in common, put together.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;

use super::local::Local;
use super::{Failure, model};
use crate::config::{Embedding, Settings};
use crate::domain::{Clock, SystemClock};
use crate::embed::Desk;
use crate::embed::http::HttpOptions;
use crate::embed::local::LocalOptions;
use crate::engine::Engine;
use crate::http::{self, Gate, Listener};
use crate::jobs::{self, Provision};
use crate::lifecycle::{Condition, Probe, Readiness, Supervisor};
use crate::mcp::MemoryServer;

/// A service that accepts connections.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    pub(super) probe: Probe,
}

/// Starts the listener and the jobs.
pub(super) fn start(
    settings: &Settings,
    local: &Local,
    gate: Gate,
    listener: Listener,
    (supervisor, readiness, database): (&Supervisor, &Readiness, Condition),
) -> Result<Service, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let provision = provision(settings);
    let desk = Arc::new(match &provision {
        Some((name, _)) => Desk::expecting(name),
        None => Desk::closed(),
    });
    let engine = Engine::new(Arc::clone(&local.store), Arc::clone(&local.analyzer), Arc::clone(&clock));
    let engine = Arc::new(engine.with_embedder(Arc::clone(&desk)));
    let parts = http::Parts {
        server: MemoryServer::new(Arc::clone(&engine), settings.http.request_timeout),
        gate,
        readiness: readiness.clone(),
        supervisor: supervisor.clone(),
        clock: Arc::clone(&clock),
        // Not a setting: no release build knows it.
        #[cfg(debug_assertions)]
        fault: http::Fault { hang_file: std::env::var_os("CMM_FAULT_HANG_FILE").map(Into::into) },
    };
    let router: Router = http::router(&settings.http, parts);
    let address = listener.address().map_err(Failure::internal)?;
    listener.serve(supervisor, router.clone());
    jobs::keep_database(supervisor, Arc::clone(&local.store), database);
    jobs::write_recall_notes(supervisor, &engine);
    if let Some((_, provision)) = provision {
        let condition = readiness.condition("embedding", "starting");
        jobs::index_vectors(supervisor, &local.store, &desk, &clock, condition);
        jobs::provide_embedder(supervisor, &desk, provision);
    }
    let host = settings.http.allowed_hosts.first().cloned().unwrap_or_else(|| address.to_string());
    Ok(Service { address, probe: http::self_probe(router, host) })
}

/// Where the embedder comes from, and its name.
fn provision(settings: &Settings) -> Option<(String, Provision)> {
    match &settings.embedding {
        Embedding::None => None,
        Embedding::Http { model, url, key } => {
            let options = HttpOptions { url: url.clone(), model: model.clone(), key: key.clone() };
            Some((model.clone(), Provision::Http(options)))
        }
        Embedding::Local { .. } => {
            let plan = model::plan(settings)?;
            let terminal = std::io::stderr().is_terminal();
            Some((plan.id().to_owned(), Provision::Local { plan, options: LocalOptions::default(), terminal }))
        }
    }
}
