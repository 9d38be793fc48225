//! A switch for tests of debug builds: serves the fixtures of the official conformance suite on the same router.

use axum::Router;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;

use crate::mcp::{ConformanceServer, MemoryServer};

/// Serves the fixtures at `/mcp`, like everything else, and at `/mcp/sessions` with sessions and streams. Revision
/// 2025-11-25 has no other way for a server to question its client during a call. No tool of ours does that, but four
/// scenarios of the suite require it.
pub(super) fn endpoints<S: Clone + Send + Sync + 'static>(
    server: MemoryServer,
    protocol: StreamableHttpServerConfig,
) -> Router<S> {
    let server = ConformanceServer::new(server);
    let with_sessions = protocol
        .clone()
        .with_legacy_session_mode(true)
        .with_json_response(false);
    super::mcp_endpoint(
        "/mcp",
        server.clone(),
        NeverSessionManager::default(),
        protocol,
    )
    .merge(super::mcp_endpoint(
        "/mcp/sessions",
        server,
        LocalSessionManager::default(),
        with_sessions,
    ))
}
