//! Passes messages to the protocol library.

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::message::{Arguments, Message};
use super::rpc_error;

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
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    rpc_error::from_plain_text(response, id).await
}
