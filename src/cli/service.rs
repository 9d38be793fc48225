//! Assembles the service for `serve`, `stdio` and `eval`.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::HOST;
use axum::middleware;

use super::open_store::OpenedStore;
use super::{Failure, control, model};
use crate::config::{self, Auth, Embedding, Settings, is_credential_name};
use crate::domain::ranking::Calibration;
use crate::domain::{Clock, Scope, SystemClock};
use crate::embed::catalog::{KnownModel, find_model};
use crate::embed::http::HttpOptions;
use crate::embed::local::LocalOptions;
use crate::embed::{Desk, Prefixes};
use crate::engine::{Engine, Notices};
use crate::http::{self, Authenticator, Listener};
use crate::jobs::{self, Provision, Retention};
use crate::lifecycle::{Condition, Probe, Readiness, Supervisor};
use crate::mcp::{Identity, MemoryServer};

/// Header with which the owner selects a project. Only the Unix socket of the owner accepts it.
pub(super) const PROJECT_HEADER: &str = "x-memory-project";
/// Name of the actor in the history for the command line.
pub(super) const OWNER: &str = "cli";

/// Switches for tests; release builds have none.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Switches {
    /// Also serve what the MCP conformance suite calls
    #[cfg(debug_assertions)]
    #[arg(long, hide = true)]
    conformance: bool,
    /// Do not record usage: an evaluation must not change the ranking that it measures.
    #[arg(skip)]
    measuring: bool,
    /// Whether other processes may use the service with tokens of their own. The services of `stdio` and `eval` serve
    /// only clients that find their token in the lock file.
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

/// A running service that does not accept connections yet.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    pub(super) probe: Probe,
    pub(super) listener: PendingListener,
}

/// A bound socket. Its connections wait in the kernel until the service accepts them.
pub(super) struct PendingListener {
    listener: Listener,
    router: Router,
}

impl PendingListener {
    /// Accepts connections, including those that have waited.
    pub(super) fn start_accepting(self, supervisor: &Supervisor) {
        self.listener.serve(supervisor, self.router);
    }
}

/// Starts the jobs and prepares everything except accepting connections.
pub(super) async fn start_service(
    settings: &Settings,
    local: &OpenedStore,
    authenticator: impl FnOnce(&Arc<Engine>) -> Result<Authenticator, Failure>,
    listener: Listener,
    (supervisor, readiness, database): (&Supervisor, &Readiness, Condition),
    switches: &Switches,
) -> Result<Service, Failure> {
    let source = embedder_source(settings);
    let desk = Arc::new(match &source {
        Some((name, _)) => Desk::expecting(name),
        None => Desk::closed(),
    });
    desk.set_calibration(configured_calibration(&settings.embedding));
    let notices = Notices::default();
    let engine = local
        .build_engine(settings)
        .with_notices(notices.clone())
        .with_embedder(Arc::clone(&desk));
    let engine = Arc::new(engine);
    let state = http::AppState {
        readiness: readiness.clone(),
        supervisor: supervisor.clone(),
        // Not a setting, because release builds do not support it.
        #[cfg(debug_assertions)]
        fault: http::Fault {
            hang_file: std::env::var_os("CMM_FAULT_HANG_FILE").map(Into::into),
        },
        #[cfg(debug_assertions)]
        conformance: switches.conformance,
        ..app_state(settings, &engine, authenticator(&engine)?)
    };
    let router: Router = http::build_router(&settings.http, state);
    let address = listener.address();
    if switches.is_shared || local.embedded.is_some() {
        let requests = local_router(settings, &router, address);
        control::serve_socket(settings, supervisor, &engine, requests).await;
    }
    jobs::keep_database(supervisor, Arc::clone(&local.store), database);
    if !switches.measuring {
        start_maintenance(settings, local, (supervisor, readiness), &engine, notices);
    }
    if let Some((_, source)) = source {
        let condition = readiness.condition("embedding", "starting");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        jobs::index_vectors(supervisor, &local.store, &desk, &clock, condition);
        jobs::provide_embedder(supervisor, &desk, source);
    }
    let probe = http::self_probe(router.clone(), accepted_host(settings, address));
    Ok(Service {
        address,
        probe,
        listener: PendingListener { listener, router },
    })
}

/// Starts the jobs that check the data and write in the background.
fn start_maintenance(
    settings: &Settings,
    local: &OpenedStore,
    (supervisor, readiness): (&Supervisor, &Readiness),
    engine: &Arc<Engine>,
    notices: Notices,
) {
    let condition = readiness.condition("data", "not checked yet");
    let schedule = jobs::CheckSchedule::default();
    jobs::check_database(supervisor, &local.store, condition, notices, schedule);
    jobs::write_recall_notes(supervisor, engine);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let retention = job_retention(settings.retention);
    jobs::remove_expired(supervisor, &local.store, &clock, retention);
}

/// Returns the parts of the router for an engine without a service around it.
fn app_state(
    settings: &Settings,
    engine: &Arc<Engine>,
    authenticator: Authenticator,
) -> http::AppState {
    http::AppState {
        server: MemoryServer::new(Arc::clone(engine), settings.http.request_timeout)
            .with_tool_prefix(&settings.tool_prefix),
        engine: Arc::clone(engine),
        authenticator,
        readiness: Readiness::new(),
        supervisor: Supervisor::new(),
        clock: Arc::new(SystemClock),
        #[cfg(debug_assertions)]
        fault: http::Fault { hang_file: None },
        #[cfg(debug_assertions)]
        conformance: false,
    }
}

/// Returns the tools on a database that a command has opened itself, without a listener, jobs or a model.
pub(super) fn without_listener(settings: &Settings, local: &OpenedStore) -> (Arc<Engine>, Router) {
    let engine = Arc::new(local.build_engine(settings));
    // The command supplies its own identity, and no other request arrives.
    let nobody = Authenticator::new(&Auth::Tokens(Vec::new()));
    let state = app_state(settings, &engine, nobody);
    (engine, http::build_router(&settings.http, state))
}

/// Converts the settings into those of the job.
fn job_retention(settings: config::Retention) -> Retention {
    Retention {
        history_days: Some(settings.history_days).filter(|days| *days > 0),
        idempotency_days: Some(settings.idempotency_days),
    }
}

/// Returns a host name that the service accepts.
fn accepted_host(settings: &Settings, address: SocketAddr) -> String {
    settings
        .http
        .allowed_hosts
        .first()
        .cloned()
        .unwrap_or_else(|| address.to_string())
}

/// Returns the router behind the Unix socket. Its clients do not know the accepted host names, so it sets one.
fn local_router(settings: &Settings, router: &Router, address: SocketAddr) -> Router {
    let host = HeaderValue::from_str(&accepted_host(settings, address)).ok();
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

/// Returns the identity of an owner who selects a project. A process that may connect to the socket owns the database,
/// and could create a token for that project.
fn chosen_project(request: &Request) -> Option<Identity> {
    let project = request.headers().get(PROJECT_HEADER)?.to_str().ok()?;
    is_credential_name(project).then(|| Identity(Arc::new(Scope::new(project, OWNER))))
}

/// Returns the name of the embedder and how to load it.
fn embedder_source(settings: &Settings) -> Option<(String, Provision)> {
    match &settings.embedding {
        Embedding::None => None,
        Embedding::Http {
            model,
            url,
            key,
            prefixes,
            ..
        } => {
            let options = HttpOptions {
                url: url.clone(),
                model: model.clone(),
                key: key.clone(),
                prefixes: text_prefixes(prefixes),
            };
            Some((model.clone(), Provision::Http(options)))
        }
        Embedding::Local { prefixes, .. } => {
            let plan = model::model_plan(settings)?;
            let terminal = std::io::stderr().is_terminal();
            let options = LocalOptions {
                prefixes: local_prefixes(prefixes, &plan.model),
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

fn configured_calibration(embedding: &Embedding) -> Option<Calibration> {
    match embedding {
        Embedding::None => None,
        Embedding::Local { calibration, .. } | Embedding::Http { calibration, .. } => calibration
            .map(|it| Calibration {
                offset: it.offset,
                scale: it.scale,
            }),
    }
}

/// The configured prefixes, or those of a known model.
fn local_prefixes(configured: &config::Prefixes, model: &str) -> Prefixes {
    let Prefixes { query, passage } = text_prefixes(configured);
    let known = find_model(model);
    let prompt =
        |of: fn(&KnownModel) -> Option<&'static str>| known.and_then(of).map(str::to_owned);
    Prefixes {
        query: query.or_else(|| prompt(|known| known.query_prompt)),
        passage: passage.or_else(|| prompt(|known| known.passage_prompt)),
    }
}

fn text_prefixes(prefixes: &config::Prefixes) -> Prefixes {
    Prefixes {
        query: prefixes.query.clone(),
        passage: prefixes.passage.clone(),
    }
}
