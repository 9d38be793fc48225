//! A switch for tests of debug builds: serves the fixtures of the official conformance suite on the same router.

use axum::Router;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;

use crate::mcp::{ConformanceServer, MemoryServer};

/// The fixtures at `/mcp`, served as everything else, and at `/mcp/sessions`, with sessions and streams: revision
/// 2025-11-25 knows no other way for a server to ask its client something in the middle of a call, which no tool of ours
/// does and four scenarios of the suite want to see.
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
