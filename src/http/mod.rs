//! The HTTP face: `/mcp`, `/health/live`, `/health/ready`, `/metrics`; identity, limits, timeouts; the listener.
//!
//! Depends on `mcp`, `engine`, `lifecycle`, `domain` and the types of `config`. Owns the invariant that nobody reaches a tool
//! without an identity.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
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
mod health;
mod host;
mod intake;
mod listener;
mod message;
mod metrics;
mod oauth;
mod probe;
mod refusal_log;
mod rpc_error;

pub use auth::Gate;
pub use control::{ControlSocket, reachable_path};
#[cfg(debug_assertions)]
pub use fault::Fault;
pub use listener::{Listener, MAX_CONNECTIONS};
pub use oauth::OAuth;
pub use probe::self_probe;

/// How long a browser may remember what it was allowed.
const PREFLIGHT_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// What the router is made of.
pub struct Parts {
    /// The tools.
    pub server: MemoryServer,
    /// What they work with.
    pub engine: Arc<Engine>,
    /// Who may use them.
    pub gate: Gate,
    /// What `/health/ready` says.
    pub readiness: Readiness,
    /// Knows the heartbeats, which `/health/live` judges, and ends open streams.
    pub supervisor: Supervisor,
    /// Names requests.
    pub clock: Arc<dyn Clock>,
    /// What tests let fail.
    #[cfg(debug_assertions)]
    pub fault: Fault,
    /// Whether the fixtures of the conformance suite are served beside the tools.
    #[cfg(debug_assertions)]
    pub conformance: bool,
}

/// The router with all of its layers.
pub fn router(settings: &Http, parts: Parts) -> Router {
    let mut protocol = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(&settings.allowed_hosts)
        .with_allowed_origins(&settings.allowed_origins)
        .enforce_origin_validation()
        .with_max_request_body_bytes(settings.max_body_bytes)
        // Not the token of the stop: it would take the answer from requests which a drain lets end.
        .with_cancellation_token(parts.supervisor.aborting().clone());
    // Streams carry nothing here: a client that opens one learns at once that there is none to wait for.
    protocol.sse_retry = None;
    let server = parts.server;
    let gate = Arc::new(parts.gate);
    let hosts = Arc::new(host::HostPolicy::new(settings, gate.refusals().clone()));
    let intake = Arc::new(intake::Intake {
        server: server.clone(),
        gate: Arc::clone(&gate),
        hosts: Arc::clone(&hosts),
        budget: budget::Budget::new(settings.max_body_bytes),
        max_body_bytes: settings.max_body_bytes,
        request_timeout: settings.request_timeout,
    });
    let metrics = metrics::Metrics::new(
        parts.engine,
        server.calls().clone(),
        gate.refusals().clone(),
        parts.readiness.clone(),
    );
    let health = health::Health {
        readiness: parts.readiness,
        supervisor: parts.supervisor,
    };
    // Bodies and tools have their own limits, and answer in the words of the protocol. This one is for everything else,
    // and allows for the waits for a share of the budget.
    let timeout = settings.request_timeout * 2 + std::time::Duration::from_secs(20);
    #[cfg(debug_assertions)]
    let mcp = if parts.conformance {
        conformance::endpoints(server, protocol)
    } else {
        endpoint("/mcp", server, NeverSessionManager::default(), protocol)
    };
    #[cfg(not(debug_assertions))]
    let mcp = endpoint("/mcp", server, NeverSessionManager::default(), protocol);
    #[cfg(debug_assertions)]
    let mcp = mcp.layer(middleware::from_fn_with_state(
        Arc::new(parts.fault),
        fault::inject,
    ));
    let mcp = mcp
        .layer(middleware::from_fn_with_state(intake, intake::take_in))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&gate),
            auth::authenticate,
        ));
    let mcp = if settings.allowed_origins.is_empty() {
        mcp
    } else {
        mcp.layer(sharing(&settings.allowed_origins))
    };
    let metadata = get(oauth::metadata)
        .with_state(gate)
        .layer(public_sharing());
    let metrics = get(metrics::metrics).with_state(metrics);
    mcp.route(oauth::METADATA_PATH, metadata.clone())
        .route(&format!("{}/mcp", oauth::METADATA_PATH), metadata.clone())
        .route(&format!("{}/mcp/", oauth::METADATA_PATH), metadata)
        .route("/metrics", metrics)
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .with_state(health)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(hosts, host::check_host))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            timeout,
        ))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(parts.clock, name_request))
}

/// An address of MCP, with and without a slash at its end, not yet guarded by anything.
fn endpoint<S, H, M>(
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

/// Lets pages of the allowed origins read the answers. Outside of authentication: a browser asks before it shows a token.
fn sharing(origins: &[String]) -> CorsLayer {
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

/// Lets pages of every origin read what is public.
fn public_sharing() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET])
        .allow_headers(Any)
        .max_age(PREFLIGHT_AGE)
}

/// Gives the request an ID, which the answer and the log carry, and closes the connection after a refusal.
async fn name_request(
    State(clock): State<Arc<dyn Clock>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id: Arc<str> = clock.new_id().to_string().into();
    request.extensions_mut().insert(RequestId(id.clone()));
    let has_body = !request.body().is_end_stream();
    let mut response = next.run(request).await;
    // Who refuses a request may not have read its body, and then the connection ends with the answer. A client that is
    // not told would send its next request into the void.
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

async fn not_found() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "there is nothing here; MCP is at /mcp, health at /health/live and /health/ready, figures at /metrics",
    )
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response<Body> {
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "this is a defect of the service; its log has the place under the request's id",
    )
}

/// An error in JSON with a sentence on what to do.
fn problem(status: StatusCode, sentence: &str) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        json!({ "error": sentence }).to_string(),
    )
        .into_response()
}
