//! The metadata of the protected resource (RFC 9728), which leads clients to the issuer. It is public.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{OAuth, READ, WRITE};
use crate::http::problem::{describe_problem, not_found};

pub(in crate::http) async fn metadata(
    State(oauth): State<Option<Arc<OAuth>>>,
    headers: HeaderMap,
) -> Response {
    let Some(oauth) = oauth else {
        return not_found().await;
    };
    let Some(resource) = oauth.resource_url(headers.get(header::HOST)) else {
        return describe_problem(StatusCode::BAD_REQUEST, "the Host header is not valid");
    };
    let body = json!({
        "resource": resource,
        "authorization_servers": [oauth.settings.issuer],
        "scopes_supported": [READ, WRITE],
        "bearer_methods_supported": ["header"],
        "resource_name": "Cognitive memory",
    });
    ([(header::CACHE_CONTROL, "max-age=300")], Json(body)).into_response()
}
