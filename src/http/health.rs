//! `/health/live`: does the process work? `/health/ready`: can it do its job now?

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

/// 200 while the request path and the essential loops make progress. A restart helps when it is 503.
pub(super) async fn live(State(health): State<Health>) -> Response {
    let progress = health.supervisor.progress();
    if progress.is_fresh() {
        Json(json!({ "status": "live" })).into_response()
    } else {
        let body = json!({ "status": "stuck", "heartbeats": progress.to_string() });
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    }
}

/// 200 when every check is met, 503 otherwise, the checks in either case. A restart does not help when it is 503.
pub(super) async fn ready(State(health): State<Health>) -> Response {
    let report = health.readiness.report();
    let status = if report.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}
