//! Refuses changes by holders of access tokens that may only read, in the words of OAuth: a client that is told
//! `insufficient_scope` asks its issuer for more. The tools refuse them, too, whoever asks.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;

use super::auth::Gate;
use super::problem;
use crate::mcp::{Identity, MemoryServer};

#[derive(Clone)]
pub(super) struct Guard {
    pub(super) server: MemoryServer,
    pub(super) gate: Arc<Gate>,
    pub(super) limit: usize,
}

pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let may_write = request.extensions().get::<Identity>().is_none_or(|Identity(scope)| scope.may_write());
    if may_write {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, guard.limit).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than MEMORY_MAX_BODY_BYTES, or broke off");
    };
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let messages = message.as_array().map_or(std::slice::from_ref(&message), Vec::as_slice);
    let writes = |message: &Value| {
        let params = &message["params"];
        let changes = |tool| guard.server.writes(tool, params["arguments"].as_object());
        message["method"] == "tools/call" && params["name"].as_str().is_some_and(changes)
    };
    if messages.iter().any(writes) {
        return guard.gate.refuse_write(parts.headers.get(header::HOST));
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}
