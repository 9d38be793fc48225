//! Batches of JSON-RPC, which only revision 2025-03-26 of MCP has. Their messages are handled one after the other,
//! within the time and the size of one answer.

use std::collections::VecDeque;

use axum::body::{Bytes, to_bytes};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};

use super::answer_body;
use super::budget::{Budget, Exhausted, FREE_BYTES, Share};
use super::forward::forward_message;
use super::message::Message;
use super::rpc_error::{RpcError, SERVER_ERROR};

/// Maximum size of the answer to a batch. Later messages get an error.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Handles the messages. Notifications and responses have no answer.
pub(super) async fn run(
    parts: &Parts,
    messages: Vec<Result<Message, RpcError>>,
    deadline: Instant,
    next: Next,
    budget: &Budget,
) -> Response {
    let mut answers = Answers::new(budget);
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
    answers: &mut Answers<'_>,
) {
    let id = message.id.clone();
    // This service sends no requests, so a response of the client is ignored.
    if message.method.is_none() {
        return;
    }
    let error =
        |text: &'static str| RpcError::new(StatusCode::OK, SERVER_ERROR, text).with_id(id.clone());
    let refusal = if answers.is_exhausted {
        Some(
            "not carried out: the service is sending too many large answers; send it again in a few seconds",
        )
    } else if answers.size >= MAX_ANSWER_BYTES {
        Some("not carried out: the answers to this batch are too large; send it by itself")
    } else if Instant::now() >= deadline {
        Some("not carried out: the time for this batch is over; send it by itself")
    } else {
        None
    };
    if let Some(refusal) = refusal {
        if id.is_some() {
            answers.push_error(error(refusal));
        }
        return;
    }
    let answer = timeout_at(deadline, forward_message(parts, message, next)).await;
    if id.is_none() {
        return;
    }
    let Ok(answer) = answer else {
        let text = "no answer in the time for this batch; it may have taken effect";
        return answers.push_error(error(text));
    };
    let pushed = match to_bytes(answer.into_body(), MAX_ANSWER_BYTES).await {
        Ok(bytes) if serde_json::from_slice::<IgnoredAny>(&bytes).is_ok() => {
            answers.push(bytes).await.map_err(|Exhausted| {
                "carried out, but the service is sending too many large answers: repeat a reading call in a few seconds"
            })
        }
        Ok(_) => Err("the answer is not a single message; send it by itself"),
        Err(_) => Err("carried out, but the answer is too large for a batch; send it by itself"),
    };
    if let Err(text) = pushed {
        answers.push_error(error(text));
    }
}

/// The answers so far, as parts of a JSON array, with their share of the budget.
struct Answers<'b> {
    budget: &'b Budget,
    share: Option<Share>,
    /// Brackets, commas and answers. They are not joined, which would take the memory of all of them twice.
    parts: VecDeque<Bytes>,
    size: usize,
    /// Whether an answer found no room in the budget.
    is_exhausted: bool,
}

impl<'b> Answers<'b> {
    fn new(budget: &'b Budget) -> Self {
        Self {
            budget,
            share: None,
            parts: VecDeque::new(),
            size: 0,
            is_exhausted: false,
        }
    }

    async fn push(&mut self, answer: Bytes) -> Result<(), Exhausted> {
        if self.size + answer.len() > FREE_BYTES {
            match self.budget.answer(answer.len()).await {
                Ok(more) => match &mut self.share {
                    Some(share) => share.merge(more),
                    None => self.share = Some(more),
                },
                Err(exhausted) => {
                    self.is_exhausted = true;
                    return Err(exhausted);
                }
            }
        }
        self.append(answer);
        Ok(())
    }

    /// Adds an error, which is small: at most one for each message of the batch.
    fn push_error(&mut self, error: RpcError) {
        self.append(error.to_json().to_string().into());
    }

    fn append(&mut self, answer: Bytes) {
        self.size += answer.len();
        let mark: &'static [u8] = if self.parts.is_empty() { b"[" } else { b"," };
        self.parts.push_back(Bytes::from_static(mark));
        self.parts.push_back(answer);
    }

    fn into_response(mut self) -> Response {
        if self.parts.is_empty() {
            return StatusCode::ACCEPTED.into_response();
        }
        self.parts.push_back(Bytes::from_static(b"]"));
        let body = answer_body::from_parts(self.parts, self.share);
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
