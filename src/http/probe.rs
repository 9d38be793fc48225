//! The self-probe: a real MCP request through the real router, which needs no database.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::domain::Scope;
use crate::lifecycle::{Probe, TaskError};
use crate::mcp::Identity;

const REQUEST: &str = r#"{"jsonrpc":"2.0","id":"self-probe","method":"tools/list"}"#;

/// An extension of requests that need no share of the budget: the watchdog tests whether the service works, even if
/// it is busy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unqueued;

/// Asks `router` for the list of tools and checks that it answers with one.
#[must_use]
pub fn self_probe(router: Router, host: String) -> Probe {
    let identity = Identity(Arc::new(Scope::new("self-probe", "self-probe")));
    Probe::new(move || {
        let (router, host, identity) = (router.clone(), host.clone(), identity.clone());
        async move { ask(router, &host, identity).await }
    })
}

async fn ask(router: Router, host: &str, identity: Identity) -> Result<(), TaskError> {
    let mut request = Request::post("/mcp")
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .body(Body::from(REQUEST))?;
    request.extensions_mut().insert(identity);
    request.extensions_mut().insert(Unqueued);
    let response = router.oneshot(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    if answer["result"]["tools"]
        .as_array()
        .is_some_and(|tools| !tools.is_empty())
    {
        return Ok(());
    }
    let start: String = String::from_utf8_lossy(&body).chars().take(200).collect();
    Err(format!("tools/list answered {status}: {start}").into())
}
