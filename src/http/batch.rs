//! Batches of JSON-RPC, which only revision 2025-03-26 of MCP has. Their messages are handled one after the other,
//! within the time and the size of one answer.

use axum::body::to_bytes;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};

use super::forward::forward_message;
use super::message::Message;
use super::rpc_error::{RpcError, SERVER_ERROR};

/// Longest answer to a batch. Later messages get an error.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Handles the messages. Notifications and responses have no answer.
pub(super) async fn run(
    parts: &Parts,
    messages: Vec<Result<Message, RpcError>>,
    deadline: Instant,
    next: Next,
) -> Response {
    let mut answers = Answers::default();
    for message in messages {
        match message {
            Err(error) => answers.push_error(error),
            Ok(message) => run_one(parts, message, deadline, next.clone(), &mut answers).await,
        }
    }
    answers.into_response()
}

async fn run_one(
    parts: &Parts,
    message: Message,
    deadline: Instant,
    next: Next,
    answers: &mut Answers,
) {
    let id = message.id.clone();
    // This service sends no requests, so a response of the client is ignored.
    if message.method.is_none() {
        return;
    }
    let error =
        |text: &'static str| RpcError::new(StatusCode::OK, SERVER_ERROR, text).with_id(id.clone());
    if answers.bytes >= MAX_ANSWER_BYTES {
        if id.is_some() {
            answers.push_error(error(
                "not carried out: the answers to this batch are too large; send it by itself",
            ));
        }
        return;
    }
    if Instant::now() >= deadline {
        if id.is_some() {
            answers.push_error(error(
                "not carried out: the time for this batch is over; send it by itself",
            ));
        }
        return;
    }
    let answer = timeout_at(deadline, forward_message(parts, message, next)).await;
    if id.is_none() {
        return;
    }
    let Ok(answer) = answer else {
        answers.push_error(error(
            "no answer in the time for this batch; it may have taken effect",
        ));
        return;
    };
    match to_bytes(answer.into_body(), MAX_ANSWER_BYTES).await {
        Ok(bytes) if serde_json::from_slice::<IgnoredAny>(&bytes).is_ok() => answers.push(&bytes),
        Ok(_) => answers.push_error(error(
            "the answer is not a single message; send it by itself",
        )),
        Err(_) => answers.push_error(error(
            "carried out, but the answer is too large for a batch; send it by itself",
        )),
    }
}

/// The answers so far, as the elements of a JSON array.
#[derive(Default)]
struct Answers {
    bytes: usize,
    elements: Vec<u8>,
}

impl Answers {
    fn push(&mut self, answer: &[u8]) {
        self.elements
            .push(if self.elements.is_empty() { b'[' } else { b',' });
        self.elements.extend_from_slice(answer);
        self.bytes = self.elements.len();
    }

    fn push_error(&mut self, error: RpcError) {
        self.push(error.to_json().to_string().as_bytes());
    }
}

impl IntoResponse for Answers {
    fn into_response(mut self) -> Response {
        if self.elements.is_empty() {
            return StatusCode::ACCEPTED.into_response();
        }
        self.elements.push(b']');
        ([(header::CONTENT_TYPE, "application/json")], self.elements).into_response()
    }
}
