//! `/health/live` reports whether the process works, `/health/ready` whether it can serve requests now.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::lifecycle::{Readiness, Supervisor};

#[derive(Clone)]
pub(super) struct Health {
    pub(super) readiness: Readiness,
    pub(super) supervisor: Supervisor,
}

/// Returns 200 while the request path and the essential loops make progress. A restart helps if it returns 503.
pub(super) async fn live(State(health): State<Health>) -> Response {
    let progress = health.supervisor.progress();
    if progress.is_fresh() {
        Json(json!({ "status": "live" })).into_response()
    } else {
        let body = json!({ "status": "stuck", "heartbeats": progress.to_string() });
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    }
}

/// Returns all checks, with 200 if every check is met and 503 otherwise. A restart does not help.
pub(super) async fn ready(State(health): State<Health>) -> Response {
    let report = health.readiness.report();
    let status = if report.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}
