//! The parts that `serve` and `stdio` have in common, put together.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::HOST;
use axum::middleware;

use super::local::Local;
use super::{Failure, control, model};
use crate::config::{self, Auth, Embedding, Settings, is_credential_name};
use crate::domain::{Clock, Scope, SystemClock};
use crate::embed::http::HttpOptions;
use crate::embed::local::LocalOptions;
use crate::embed::{Desk, Prefixes};
use crate::engine::{Engine, Notices};
use crate::http::{self, Gate, Listener};
use crate::jobs::{self, Provision, Retention};
use crate::lifecycle::{Condition, Probe, Readiness, Supervisor};
use crate::mcp::{Identity, MemoryServer};

/// Header by which the owner chooses a project. Only the Unix socket of the owner accepts it.
pub(super) const PROJECT_HEADER: &str = "x-memory-project";
/// Who acts in the history when the owner uses the command line.
pub(super) const OWNER: &str = "cli";

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
    /// Whether other processes may use it with tokens of their own, as those of the command line do. What `stdio` and
    /// `eval` start without arguments only serves those who find its token in the lock file.
    #[arg(skip = true)]
    is_shared: bool,
}

impl Switches {
    pub(super) fn measuring() -> Self {
        Self {
            measuring: true,
            ..Self::default()
        }
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
pub(super) async fn start(
    settings: &Settings,
    local: &Local,
    gate: impl FnOnce(&Arc<Engine>) -> Result<Gate, Failure>,
    listener: Listener,
    (supervisor, readiness, database): (&Supervisor, &Readiness, Condition),
    switches: &Switches,
) -> Result<Service, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let provision = provision(settings);
    let desk = Arc::new(match &provision {
        Some((name, _)) => Desk::expecting(name),
        None => Desk::closed(),
    });
    let notices = Notices::default();
    let engine = Engine::new(
        Arc::clone(&local.store),
        Arc::clone(&local.analyzer),
        Arc::clone(&clock),
    )
    .with_focus_capacity(settings.focus_capacity)
    .with_review_days(settings.review_days)
    .with_notices(notices.clone())
    .with_embedder(Arc::clone(&desk));
    let engine = Arc::new(engine);
    let parts = http::Parts {
        server: MemoryServer::new(Arc::clone(&engine), settings.http.request_timeout)
            .with_tool_prefix(&settings.tool_prefix),
        engine: Arc::clone(&engine),
        gate: gate(&engine)?,
        readiness: readiness.clone(),
        supervisor: supervisor.clone(),
        clock: Arc::clone(&clock),
        // Not a setting: no release build knows it.
        #[cfg(debug_assertions)]
        fault: http::Fault {
            hang_file: std::env::var_os("CMM_FAULT_HANG_FILE").map(Into::into),
        },
        #[cfg(debug_assertions)]
        conformance: switches.conformance,
    };
    let router: Router = http::router(&settings.http, parts);
    let address = listener.address();
    if switches.is_shared || local.embedded.is_some() {
        control::serve(
            settings,
            supervisor,
            &engine,
            local_router(settings, &router, address),
        )
        .await;
    }
    jobs::keep_database(supervisor, Arc::clone(&local.store), database);
    if !switches.measuring {
        let condition = readiness.condition("data", "not checked yet");
        jobs::check_database(
            supervisor,
            &local.store,
            condition,
            notices,
            jobs::CheckSchedule::default(),
        );
        jobs::write_recall_notes(supervisor, &engine);
        jobs::remove_expired(
            supervisor,
            &local.store,
            &clock,
            retention(settings.retention),
        );
    }
    if let Some((_, provision)) = provision {
        let condition = readiness.condition("embedding", "starting");
        jobs::index_vectors(supervisor, &local.store, &desk, &clock, condition);
        jobs::provide_embedder(supervisor, &desk, provision);
    }
    let probe = http::self_probe(router.clone(), host(settings, address));
    Ok(Service {
        address,
        probe,
        door: Door { listener, router },
    })
}

/// The tools on a database that a command has opened itself: everything between a request and the database, without a
/// listener, jobs or a model.
pub(super) fn without_listener(settings: &Settings, local: &Local) -> (Arc<Engine>, Router) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine = Engine::new(
        Arc::clone(&local.store),
        Arc::clone(&local.analyzer),
        Arc::clone(&clock),
    )
    .with_focus_capacity(settings.focus_capacity)
    .with_review_days(settings.review_days);
    let engine = Arc::new(engine);
    let parts = http::Parts {
        server: MemoryServer::new(Arc::clone(&engine), settings.http.request_timeout),
        engine: Arc::clone(&engine),
        // Nobody comes in without an identity, and the command brings its own.
        gate: Gate::new(&Auth::Tokens(Vec::new())),
        readiness: Readiness::new(),
        supervisor: Supervisor::new(),
        clock,
        #[cfg(debug_assertions)]
        fault: http::Fault { hang_file: None },
        #[cfg(debug_assertions)]
        conformance: false,
    };
    (engine, http::router(&settings.http, parts))
}

/// What the settings say, in the words of the job.
fn retention(settings: config::Retention) -> Retention {
    Retention {
        history_days: Some(settings.history_days).filter(|days| *days > 0),
        idempotency_days: Some(settings.idempotency_days),
    }
}

/// A host that the service accepts.
fn host(settings: &Settings, address: SocketAddr) -> String {
    settings
        .http
        .allowed_hosts
        .first()
        .cloned()
        .unwrap_or_else(|| address.to_string())
}

/// The router behind the Unix socket, where names of hosts mean nothing: its clients do not know those that are accepted.
fn local_router(settings: &Settings, router: &Router, address: SocketAddr) -> Router {
    let host = HeaderValue::from_str(&host(settings, address)).ok();
    let rename = move |mut request: Request| {
        if let Some(host) = host.clone() {
            request.headers_mut().insert(HOST, host);
        }
        if let Some(identity) = chosen_project(&request) {
            request.extensions_mut().insert(identity);
        }
        std::future::ready(request)
    };
    router.clone().layer(middleware::map_request(rename))
}

/// The identity of an owner who names a project. Whoever may connect to the socket owns the database, and could as well
/// create a token for that project.
fn chosen_project(request: &Request) -> Option<Identity> {
    let project = request.headers().get(PROJECT_HEADER)?.to_str().ok()?;
    is_credential_name(project).then(|| Identity(Arc::new(Scope::new(project, OWNER))))
}

/// Where the embedder comes from, and its name.
fn provision(settings: &Settings) -> Option<(String, Provision)> {
    match &settings.embedding {
        Embedding::None => None,
        Embedding::Http {
            model,
            url,
            key,
            prefixes,
        } => {
            let options = HttpOptions {
                url: url.clone(),
                model: model.clone(),
                key: key.clone(),
                prefixes: stated(prefixes),
            };
            Some((model.clone(), Provision::Http(options)))
        }
        Embedding::Local { prefixes, .. } => {
            let plan = model::plan(settings)?;
            let terminal = std::io::stderr().is_terminal();
            let options = LocalOptions {
                prefixes: stated(prefixes),
                ..LocalOptions::default()
            };
            Some((
                plan.id().to_owned(),
                Provision::Local {
                    plan,
                    options,
                    terminal,
                },
            ))
        }
    }
}

fn stated(prefixes: &config::Prefixes) -> Prefixes {
    Prefixes {
        query: prefixes.query.clone(),
        passage: prefixes.passage.clone(),
    }
}
