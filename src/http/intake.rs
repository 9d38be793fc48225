//! The path of a POST to `/mcp` from its head to its answer: the body is read within limits, scanned, admitted by the
//! budget and parsed once, and each of its messages is passed to the protocol library.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer_body;
use super::auth::Authenticator;
use super::batch;
use super::body_scan::{BodyScan, Excess, MAX_CONTAINERS, MAX_DEPTH, MAX_VALUES};
use super::budget::{Budget, Exhausted, FREE_BYTES, Share};
use super::forward::forward_message;
use super::host::HostPolicy;
use super::message::{self, Message, Messages};
use super::probe::Unqueued;
use super::rpc_error::{self, PARSE_ERROR, RpcError, SERVER_ERROR};
use crate::mcp::{Identity, MemoryServer};

/// A body without new bytes for this time is abandoned.
const STALL: Duration = Duration::from_secs(10);
/// A body that is refused anyway is answered after this time without new bytes, because its rest is only read for the ID.
const REFUSED_STALL: Duration = Duration::from_millis(500);
/// Maximum number of bytes of a refused body that are still read, so that its client sees the answer with the ID from
/// its end.
const MAX_DRAINED: usize = 16 * 1024 * 1024;
/// Larger bodies are parsed on threads for blocking work.
const PARSED_HERE: usize = 64 * 1024;
/// The Accept header that the protocol library requires. The answer is always JSON.
const ACCEPT: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// The parts that handle a request.
pub(super) struct Intake {
    pub(super) server: MemoryServer,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) hosts: Arc<HostPolicy>,
    pub(super) budget: Budget,
    pub(super) max_body_bytes: usize,
    pub(super) request_timeout: Duration,
}

/// A complete body.
struct Received {
    bytes: Vec<u8>,
    scan: BodyScan,
    share: Option<Share>,
}

/// The part of a body that arrived so far.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    share: Option<Share>,
}

impl Collected {
    /// Adds new bytes. `wanted` is the announced size of the body, if there is one.
    async fn push(
        &mut self,
        frame: &[u8],
        wanted: usize,
        budget: &Budget,
    ) -> Result<(), Exhausted> {
        let needed = self.bytes.len() + frame.len();
        if needed > FREE_BYTES && needed > self.bytes.capacity() {
            // A body that did not announce its size grows in steps.
            let capacity = wanted.max(needed).max(self.bytes.capacity() * 3 / 2);
            let held = if self.share.is_some() {
                self.bytes.capacity()
            } else {
                0
            };
            let more = budget.receive(capacity - held).await?;
            match &mut self.share {
                Some(share) => share.merge(more),
                None => self.share = Some(more),
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(frame);
        Ok(())
    }
}

/// Takes the request apart and answers it.
pub(super) async fn take_in(
    State(intake): State<Arc<Intake>>,
    mut request: Request,
    next: Next,
) -> Response {
    request.headers_mut().insert(header::ACCEPT, ACCEPT);
    if request.method() != Method::POST {
        return rpc_error::from_plain_text(next.run(request).await, None).await;
    }
    if !intake.hosts.allows_origin(request.headers()) {
        let message = "this Origin header is not allowed: add it to MEMORY_ALLOWED_ORIGINS if its pages may use the memory";
        return RpcError::new(StatusCode::FORBIDDEN, SERVER_ERROR, message).into_response();
    }
    if !has_json(request.headers()) {
        let message = "the body must be JSON: send the header `Content-Type: application/json`";
        return RpcError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, SERVER_ERROR, message)
            .into_response();
    }
    if is_compressed(request.headers()) {
        let message = "the body must not be compressed: leave out the header `Content-Encoding`";
        return RpcError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, SERVER_ERROR, message)
            .into_response();
    }
    let deadline = Instant::now() + intake.request_timeout;
    let (parts, body) = request.into_parts();
    let received = match intake.receive(&parts.headers, body, deadline).await {
        Ok(received) => received,
        Err(error) => return error.into_response(),
    };
    intake.answer(parts, received, deadline, next).await
}

impl Intake {
    async fn answer(
        &self,
        mut parts: Parts,
        received: Received,
        deadline: Instant,
        next: Next,
    ) -> Response {
        let Received { bytes, scan, share } = received;
        let id = scan.id();
        let _call = if parts.extensions.get::<Unqueued>().is_some() {
            None
        } else {
            match self.budget.call(bytes.len(), &scan).await {
                Ok(call) => Some(call),
                Err(_) => return RpcError::no_capacity().with_id(id).into_response(),
            }
        };
        let messages = match parse(bytes, scan, &parts.headers).await {
            Ok(messages) => messages,
            Err(error) => return error.with_id(id).into_response(),
        };
        drop(share);
        if self.writes_without_right(&parts, &messages) {
            return self
                .authenticator
                .refuse_write(parts.headers.get(header::HOST));
        }
        // Dropped when the answer has its share of the budget.
        let admission = self.budget.admission();
        parts.extensions.insert(admission.clone());
        match messages {
            Messages::Single(Err(error)) => error.into_response(),
            Messages::Single(Ok(message)) => {
                let id = message.id.clone();
                let response = forward_message(&parts, message, next).await;
                answer_body::bound(response, &self.budget, id.as_ref()).await
            }
            Messages::Batch(messages) => {
                batch::run(&parts, messages, deadline, next, &self.budget).await
            }
        }
    }

    /// Reads and scans the body. An error has the ID as far as it was read.
    async fn receive(
        &self,
        headers: &HeaderMap,
        body: Body,
        deadline: Instant,
    ) -> Result<Received, RpcError> {
        let announced = announced_size(&body);
        if self.is_refused_unread(announced, headers) {
            return Err(self.too_large());
        }
        let mut scan = BodyScan::default();
        let collected = self.collect(body, announced, &mut scan, deadline).await;
        match collected {
            Ok((bytes, share)) => Ok(Received { bytes, scan, share }),
            Err(error) => Err(error.with_id(scan.id())),
        }
    }

    async fn collect(
        &self,
        mut body: Body,
        announced: usize,
        scan: &mut BodyScan,
        deadline: Instant,
    ) -> Result<(Vec<u8>, Option<Share>), RpcError> {
        let (mut collected, mut total) = (Collected::default(), 0_usize);
        let mut refusal = (announced > self.max_body_bytes).then(|| self.too_large());
        loop {
            let stall = if refusal.is_some() {
                REFUSED_STALL
            } else {
                STALL
            };
            let frame = match next_frame(&mut body, deadline, stall).await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                // The first problem is the reason of the refusal.
                Err(error) => return Err(refusal.unwrap_or(error)),
            };
            total = total.saturating_add(frame.len());
            scan.push(&frame);
            if refusal.is_some() {
                // The bytes are discarded, so that the client sees the answer and the ID at the end is found.
                if total > self.max_body_bytes.saturating_add(MAX_DRAINED) {
                    break;
                }
                continue;
            }
            refusal = if total > self.max_body_bytes {
                Some(self.too_large())
            } else if let Some(excess) = scan.excess() {
                Some(too_much(excess))
            } else {
                let wanted = announced.clamp(total, self.max_body_bytes);
                collected
                    .push(&frame, wanted, &self.budget)
                    .await
                    .err()
                    .map(|Exhausted| RpcError::no_capacity())
            };
            if refusal.is_some() {
                collected = Collected::default();
            }
        }
        match refusal {
            Some(refusal) => Err(refusal),
            None => Ok((collected.bytes, collected.share)),
        }
    }

    /// Whether a body is refused before any of it is read: it is far too large, or its client waits for permission to
    /// send it.
    fn is_refused_unread(&self, announced: usize, headers: &HeaderMap) -> bool {
        let is_too_large = announced > self.max_body_bytes;
        let is_far_too_large = announced > self.max_body_bytes.saturating_add(MAX_DRAINED);
        is_far_too_large || is_too_large && headers.contains_key(header::EXPECT)
    }

    fn too_large(&self) -> RpcError {
        let message = format!(
            "the body is larger than {} bytes (MEMORY_MAX_BODY_BYTES). `remember` takes up to 500 items, together at \
             most {}: split the items into several calls",
            self.max_body_bytes,
            readable_size(self.max_body_bytes)
        );
        RpcError::new(StatusCode::PAYLOAD_TOO_LARGE, SERVER_ERROR, message)
    }

    /// Returns whether a message is a change by a caller who may only read.
    fn writes_without_right(&self, parts: &Parts, messages: &Messages) -> bool {
        if parts
            .extensions
            .get::<Identity>()
            .is_none_or(|Identity(scope)| scope.may_write())
        {
            return false;
        }
        let writes = |message: &Message| {
            let Some(tool) = &message.tool else {
                return false;
            };
            message
                .arguments
                .with(|arguments| self.server.writes(tool, Some(arguments)))
        };
        match messages {
            Messages::Single(message) => message.as_ref().is_ok_and(writes),
            Messages::Batch(messages) => messages.iter().flatten().any(writes),
        }
    }
}

/// The size that the head of a request announces; 0 if it announces none.
fn announced_size(body: &Body) -> usize {
    let size = body.size_hint().exact().unwrap_or(0);
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// The next bytes of the body, which must arrive within `stall`.
async fn next_frame(
    body: &mut Body,
    deadline: Instant,
    stall: Duration,
) -> Result<Option<axum::body::Bytes>, RpcError> {
    loop {
        let frame = match timeout_at(deadline, timeout(stall, body.frame())).await {
            Ok(Ok(None)) => return Ok(None),
            Ok(Ok(Some(Ok(frame)))) => frame,
            Ok(Ok(Some(Err(_)))) => {
                let message =
                    "the body ended early, or its chunks are not framed as HTTP/1.1 requires";
                return Err(RpcError::new(StatusCode::BAD_REQUEST, PARSE_ERROR, message));
            }
            Ok(Err(_)) | Err(_) => {
                let message = "the body did not arrive in time: nothing was done";
                return Err(RpcError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    SERVER_ERROR,
                    message,
                ));
            }
        };
        // Trailers are ignored.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

async fn parse(bytes: Vec<u8>, scan: BodyScan, headers: &HeaderMap) -> Result<Messages, RpcError> {
    let version = headers
        .get("mcp-protocol-version")
        .and_then(|version| version.to_str().ok())
        .map(str::to_owned);
    if bytes.len() <= PARSED_HERE {
        return Ok(message::parse(bytes, &scan, version.as_deref()));
    }
    let work = move || message::parse(bytes, &scan, version.as_deref());
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        RpcError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            SERVER_ERROR,
            "the body could not be parsed: this is a defect",
        )
    })
}

fn has_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    kind.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/json")
}

fn is_compressed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.is_empty() && !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn too_much(excess: Excess) -> RpcError {
    let what = match excess {
        Excess::Depth => {
            format!("the body is nested too deeply: at most {MAX_DEPTH} levels are accepted")
        }
        Excess::Containers => {
            format!(
                "the body has too many objects and arrays: at most {MAX_CONTAINERS} are accepted, send fewer at once"
            )
        }
        Excess::Values => {
            format!(
                "the body has too many values: at most {MAX_VALUES} are accepted, send fewer at once"
            )
        }
    };
    RpcError::new(StatusCode::PAYLOAD_TOO_LARGE, SERVER_ERROR, what)
}

fn readable_size(bytes: usize) -> String {
    const MIB: usize = 1024 * 1024;
    if bytes.is_multiple_of(MIB) {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{bytes} bytes")
    }
}
