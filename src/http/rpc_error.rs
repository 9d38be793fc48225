//! Errors of the transport as JSON-RPC errors, with the ID of the request if it could be read.

use std::borrow::Cow;

use axum::body::to_bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

// https://www.jsonrpc.org/specification#error_object
pub(super) const PARSE_ERROR: i64 = -32700;
pub(super) const INVALID_REQUEST: i64 = -32600;
pub(super) const INVALID_PARAMS: i64 = -32602;
pub(super) const SERVER_ERROR: i64 = -32000;

/// Longer than any sentence of the protocol library.
const MAX_ERROR_BYTES: usize = 16 * 1024;
/// Seconds after which a refused client may try again.
pub(super) const RETRY_SECONDS: &str = "2";

/// An error that answers one message.
#[derive(Debug)]
pub(super) struct RpcError {
    pub(super) status: StatusCode,
    pub(super) code: i64,
    pub(super) message: Cow<'static, str>,
    pub(super) id: Option<Value>,
}

impl RpcError {
    pub(super) fn new(
        status: StatusCode,
        code: i64,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            id: None,
        }
    }

    pub(super) fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, message)
    }

    /// Returns an answer in the style of the protocol library: the request was understood, so the status
    /// is 200.
    pub(super) fn invalid_params(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::OK, INVALID_PARAMS, message)
    }

    /// Returns the error for a service without free capacity.
    pub(super) fn busy(message: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, message)
    }

    /// Other requests use all the capacity.
    pub(super) fn no_capacity() -> Self {
        Self::busy(
            "the service is busy with other requests: nothing was done, try again in a few seconds",
        )
    }

    pub(super) fn with_id(mut self, id: Option<Value>) -> Self {
        self.id = id;
        self
    }

    /// Returns the message, for an answer by itself or as a part of a batch.
    pub(super) fn to_json(&self) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.id, "error": { "code": self.code, "message": self.message } })
    }
}

impl IntoResponse for RpcError {
    fn into_response(self) -> Response {
        let body = self.to_json().to_string();
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            body,
        )
            .into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        response
    }
}

/// Turns an error that the protocol library answered as plain text into a JSON-RPC error.
pub(super) async fn from_plain_text(response: Response, id: Option<Value>) -> Response {
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes() == b"application/json");
    if !(status.is_client_error() || status.is_server_error()) || is_json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_ERROR_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let code = if status == StatusCode::BAD_REQUEST {
        INVALID_REQUEST
    } else {
        SERVER_ERROR
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let body = RpcError::new(status, code, text)
        .with_id(id)
        .to_json()
        .to_string();
    (parts, body).into_response()
}
