//! The parts that `serve` and `stdio` have in common, put together.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;

use super::local::Local;
use super::{Failure, control};
use crate::config::Settings;
use crate::domain::{Clock, SystemClock};
use crate::engine::Engine;
use crate::http::{self, Gate, Listener};
use crate::jobs;
use crate::lifecycle::{Condition, Probe, Readiness, Supervisor};
use crate::mcp::MemoryServer;

/// What is switched on for tests; nothing in release builds.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Switches {
    /// Also serve what the MCP conformance suite calls
    #[cfg(debug_assertions)]
    #[arg(long, hide = true)]
    conformance: bool,
    /// Recalls are no use: what is measured must not change by being measured.
    #[arg(skip)]
    measuring: bool,
}

impl Switches {
    pub(super) fn measuring() -> Self {
        Self { measuring: true, ..Self::default() }
    }
}

/// A service that works, and is about to accept connections.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    pub(super) probe: Probe,
    pub(super) door: Door,
}

/// A bound socket whose connections wait in the kernel until it is opened.
pub(super) struct Door {
    listener: Listener,
    router: Router,
}

impl Door {
    /// Accepts connections, those included that have waited.
    pub(super) fn open(self, supervisor: &Supervisor) {
        self.listener.serve(supervisor, self.router);
    }
}

/// Starts the jobs, and all but the accepting of connections.
pub(super) fn start(
    settings: &Settings,
    local: &Local,
    gate: impl FnOnce(&Arc<Engine>) -> Result<Gate, Failure>,
    listener: Listener,
    (supervisor, readiness, database): (&Supervisor, &Readiness, Condition),
    switches: &Switches,
) -> Result<Service, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine = Engine::new(Arc::clone(&local.store), Arc::clone(&local.analyzer), Arc::clone(&clock))
        .with_focus_capacity(settings.focus_capacity)
        .with_review_days(settings.review_days);
    let engine = Arc::new(engine);
    let parts = http::Parts {
        server: MemoryServer::new(Arc::clone(&engine), settings.http.request_timeout),
        gate: gate(&engine)?,
        readiness: readiness.clone(),
        supervisor: supervisor.clone(),
        clock,
        // Not a setting: no release build knows it.
        #[cfg(debug_assertions)]
        fault: http::Fault { hang_file: std::env::var_os("CMM_FAULT_HANG_FILE").map(Into::into) },
        #[cfg(debug_assertions)]
        conformance: switches.conformance,
    };
    let router: Router = http::router(&settings.http, parts);
    let address = listener.address();
    control::serve(settings, supervisor, &engine);
    jobs::keep_database(supervisor, Arc::clone(&local.store), database);
    if !switches.measuring {
        jobs::write_recall_notes(supervisor, &engine);
    }
    let host = settings.http.allowed_hosts.first().cloned().unwrap_or_else(|| address.to_string());
    let probe = http::self_probe(router.clone(), host);
    Ok(Service { address, probe, door: Door { listener, router } })
}
