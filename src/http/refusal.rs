//! Refusals of the transport in the words of the protocol: rmcp answers them as plain text, and takes a body which is no
//! JSON for one of a wrong media type.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

// https://www.jsonrpc.org/specification#error_object
const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const SERVER_ERROR: i64 = -32000;

/// Longer than any sentence.
const MOST_BYTES: usize = 16 * 1024;
/// How rmcp begins when the body is not a message.
const NO_MESSAGE: &str = "fail to deserialize request body ";

/// Words an error of plain text as a JSON-RPC error without id, as MCP allows it.
pub(super) async fn word(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let json = HeaderValue::from_static("application/json");
    if !(status.is_client_error() || status.is_server_error())
        || response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| *kind == json)
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, MOST_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let (status, code, sentence) = match text.strip_prefix(NO_MESSAGE) {
        // JSON, but not of one of the forms that a message has.
        Some(reason) if reason.contains("did not match") => {
            (StatusCode::BAD_REQUEST, INVALID_REQUEST, "the body is JSON, but not a JSON-RPC message".to_owned())
        }
        Some(reason) => (StatusCode::BAD_REQUEST, PARSE_ERROR, format!("the body is not JSON: {reason}")),
        None if status == StatusCode::BAD_REQUEST => (status, INVALID_REQUEST, text.into_owned()),
        None => (status, SERVER_ERROR, text.into_owned()),
    };
    parts.status = status;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, json);
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": sentence } });
    (parts, body.to_string()).into_response()
}
