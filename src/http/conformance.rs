//! A switch for tests of debug builds: serves the fixtures of the official conformance suite on the same router.

use std::str::FromStr;

use axum::Router;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;

use crate::mcp::{ConformanceServer, MemoryServer};

/// How the fixtures are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conformance {
    /// As everything else: no sessions, answers as JSON where nothing else has to be said.
    Stateless,
    /// With sessions and streams. Revision 2025-11-25 knows no other way for a server to ask its client something in the
    /// middle of a call, which no tool of ours does and four scenarios of the suite want to see.
    Sessions,
}

impl FromStr for Conformance {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "stateless" => Ok(Self::Stateless),
            "sessions" => Ok(Self::Sessions),
            _ => Err("stateless or sessions is expected".to_owned()),
        }
    }
}

pub(super) fn endpoint<S: Clone + Send + Sync + 'static>(
    mode: Conformance,
    server: MemoryServer,
    protocol: StreamableHttpServerConfig,
) -> Router<S> {
    let server = ConformanceServer::new(server);
    match mode {
        Conformance::Stateless => super::endpoint(server, NeverSessionManager::default(), protocol),
        Conformance::Sessions => {
            let protocol = protocol.with_legacy_session_mode(true).with_json_response(false);
            super::endpoint(server, LocalSessionManager::default(), protocol)
        }
    }
}
