//! Passes messages to the protocol library.

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::message::{Arguments, Message};
use super::rpc_error::{self, RpcError};
use crate::mcp::Admission;

/// Passes one message to the protocol library and returns its answer.
pub(super) async fn forward_message(parts: &Parts, message: Message, next: Next) -> Response {
    let Message {
        id,
        body,
        arguments,
        notes,
        ..
    } = message;
    let mut parts = parts.clone();
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Arguments::Beside(arguments) = arguments {
        parts.extensions.insert(arguments);
    }
    if !notes.0.is_empty() {
        parts.extensions.insert(notes);
    }
    let admission: Option<Admission> = parts.extensions.get().cloned();
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if admission.is_some_and(|admission| admission.take_refusal()) {
        return RpcError::no_capacity().with_id(id).into_response();
    }
    rpc_error::from_plain_text(response, id).await
}
