//! HTTP: `/mcp`, `/health/live`, `/health/ready` and `/metrics`; authentication, limits and timeouts; the listener.
//!
//! Depends on `mcp`, `engine`, `lifecycle`, `domain` and the types of `config`. Invariant: no tool is reachable without
//! an identity.

use std::sync::Arc;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};
use tower_http::timeout::TimeoutLayer;

use crate::config::Http;
use crate::domain::Clock;
use crate::engine::Engine;
use crate::lifecycle::{Readiness, Supervisor};
use crate::mcp::{MemoryServer, RequestId};

mod answer_body;
mod auth;
mod batch;
mod body_scan;
mod budget;
#[cfg(debug_assertions)]
mod conformance;
mod connection;
mod control;
#[cfg(debug_assertions)]
mod fault;
mod forward;
mod health;
mod host;
mod intake;
mod lingering;
mod listener;
mod message;
mod metrics;
mod oauth;
mod probe;
mod problem;
mod refusal_log;
mod rpc_error;

pub use auth::Authenticator;
pub use control::{ControlSocket, reachable_path};
#[cfg(debug_assertions)]
pub use fault::Fault;
pub use listener::{Listener, MAX_CONNECTIONS};
pub use oauth::OAuth;
pub use probe::self_probe;

/// The time for which a browser may cache the answer to a preflight request.
const PREFLIGHT_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// The parts that the router connects.
pub struct AppState {
    /// Serves the tools.
    pub server: MemoryServer,
    /// Counts memories for `/metrics`.
    pub engine: Arc<Engine>,
    /// Identifies callers.
    pub authenticator: Authenticator,
    /// Answers `/health/ready`.
    pub readiness: Readiness,
    /// Has the heartbeats for `/health/live`, and ends open streams.
    pub supervisor: Supervisor,
    /// Generates request IDs.
    pub clock: Arc<dyn Clock>,
    /// Faults that tests inject.
    #[cfg(debug_assertions)]
    pub fault: Fault,
    /// Whether to serve the fixtures of the conformance suite next to the tools.
    #[cfg(debug_assertions)]
    pub conformance: bool,
}

/// Builds the router with all its layers.
pub fn build_router(settings: &Http, parts: AppState) -> Router {
    let mut protocol = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(&settings.allowed_hosts)
        .with_allowed_origins(&settings.allowed_origins)
        .enforce_origin_validation()
        .with_max_request_body_bytes(settings.max_body_bytes)
        // Not the token of the stop, which would abort the requests that a drain lets finish.
        .with_cancellation_token(parts.supervisor.aborting().clone());
    // Streams are never used here, so a client that opens one is refused at once.
    protocol.sse_retry = None;
    let server = parts.server;
    let authenticator = Arc::new(parts.authenticator);
    let hosts = Arc::new(host::HostPolicy::new(
        settings,
        authenticator.refusals().clone(),
    ));
    let intake = Arc::new(intake::Intake {
        server: server.clone(),
        authenticator: Arc::clone(&authenticator),
        hosts: Arc::clone(&hosts),
        budget: budget::Budget::new(settings.max_body_bytes),
        max_body_bytes: settings.max_body_bytes,
        request_timeout: settings.request_timeout,
    });
    let metrics = metrics::Metrics::new(
        parts.engine,
        server.calls().clone(),
        authenticator.refusals().clone(),
        parts.readiness.clone(),
    );
    let health = health::Health {
        readiness: parts.readiness,
        supervisor: parts.supervisor,
    };
    // Bodies and tools have their own limits and answer by the protocol. This limit applies to everything else,
    // including waits for a share of the budget.
    let timeout = settings.request_timeout * 2 + std::time::Duration::from_secs(20);
    #[cfg(debug_assertions)]
    let mcp = if parts.conformance {
        conformance::endpoints(server, protocol)
    } else {
        mcp_endpoint("/mcp", server, NeverSessionManager::default(), protocol)
    };
    #[cfg(not(debug_assertions))]
    let mcp = mcp_endpoint("/mcp", server, NeverSessionManager::default(), protocol);
    #[cfg(debug_assertions)]
    let mcp = mcp.layer(middleware::from_fn_with_state(
        Arc::new(parts.fault),
        fault::inject,
    ));
    let mcp = mcp
        .layer(middleware::from_fn_with_state(intake, intake::take_in))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&authenticator),
            auth::require_identity,
        ));
    let mcp = if settings.allowed_origins.is_empty() {
        mcp
    } else {
        mcp.layer(origin_sharing(&settings.allowed_origins))
    };
    let metadata = get(oauth::metadata)
        .with_state(authenticator.oauth().cloned())
        .layer(public_sharing());
    let metrics = get(metrics::metrics).with_state(metrics);
    mcp.route(oauth::METADATA_PATH, metadata.clone())
        .route(&format!("{}/mcp", oauth::METADATA_PATH), metadata.clone())
        .route(&format!("{}/mcp/", oauth::METADATA_PATH), metadata)
        .route("/metrics", metrics)
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .with_state(health)
        .fallback(problem::not_found)
        .layer(middleware::from_fn_with_state(hosts, host::check_host))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            timeout,
        ))
        .layer(CatchPanicLayer::custom(|_| problem::internal_error()))
        .layer(middleware::from_fn_with_state(parts.clock, name_request))
}

/// Serves MCP at an address, with and without a slash at its end, without authentication.
fn mcp_endpoint<S, H, M>(
    path: &str,
    server: H,
    sessions: M,
    protocol: StreamableHttpServerConfig,
) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    H: ServerHandler + Clone,
    M: SessionManager,
{
    let service =
        StreamableHttpService::new(move || Ok(server.clone()), Arc::new(sessions), protocol);
    Router::new()
        .route_service(path, service.clone())
        .route_service(&format!("{path}/"), service)
}

/// Lets pages of the allowed origins read the answers. A browser asks before it sends a token, so this comes before
/// authentication.
fn origin_sharing(origins: &[String]) -> CorsLayer {
    let header = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(
            origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok()),
        ))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // Revisions of the protocol add headers, some of them named by tools.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            header::WWW_AUTHENTICATE,
            header::RETRY_AFTER,
            header("mcp-session-id"),
            header("mcp-protocol-version"),
            header("x-request-id"),
        ])
        .max_age(PREFLIGHT_AGE)
}

/// Lets pages of every origin read public data.
fn public_sharing() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET])
        .allow_headers(Any)
        .max_age(PREFLIGHT_AGE)
}

/// Gives the request an ID for the answer and the log, and closes the connection after a refusal.
async fn name_request(
    State(clock): State<Arc<dyn Clock>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id: Arc<str> = clock.new_id().to_string().into();
    request.extensions_mut().insert(RequestId(id.clone()));
    let has_body = !request.body().is_end_stream();
    let mut response = next.run(request).await;
    // If the body of a refused request was not read, the connection ends with the answer. The client must know, or it
    // would lose its next request.
    if has_body && response.status().as_u16() >= 400 {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}
