//! Errors in JSON, each with a sentence that states the next step.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Returns an error with a sentence.
pub(super) fn describe_problem(status: StatusCode, sentence: &str) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        json!({ "error": sentence }).to_string(),
    )
        .into_response()
}

pub(super) async fn not_found() -> Response {
    describe_problem(
        StatusCode::NOT_FOUND,
        "unknown path; MCP is at /mcp, health at /health/live and /health/ready, metrics at /metrics",
    )
}

pub(super) fn internal_error() -> Response {
    describe_problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the service has a defect; its log has the details under the ID of this request",
    )
}
