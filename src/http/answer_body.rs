//! The body of a large answer. It is sent in pieces, so that sent pieces are freed early, and it holds its share of
//! the budget until everything is sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use serde_json::Value;

use super::budget::{Budget, FREE_BYTES, Share};
use super::rpc_error::RpcError;

/// Size of a piece in bytes. Each piece is a copy, because a slice would keep the whole answer in memory until its
/// last piece was sent.
const PIECE: usize = 32 * 1024;

/// Waits for a share of the budget for a large answer. Small answers and streams pass at once.
pub(super) async fn bound(response: Response, budget: &Budget, id: Option<&Value>) -> Response {
    let Some(size) = response
        .body()
        .size_hint()
        .exact()
        .and_then(|size| usize::try_from(size).ok())
    else {
        return response;
    };
    if size <= FREE_BYTES {
        return response;
    }
    let Ok(share) = budget.answer(size).await else {
        let error = RpcError::busy(
            "the service is sending too many large answers at the moment; what was called has been done. Repeat a \
             reading call in some seconds, or ask for less at once",
        );
        return axum::response::IntoResponse::into_response(error.with_id(id.cloned()));
    };
    let (parts, body) = response.into_parts();
    let bytes = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    Response::from_parts(parts, with_share(bytes, Some(share)))
}

/// Creates a body that holds its share until all of it was sent.
pub(super) fn with_share(bytes: Bytes, share: Option<Share>) -> Body {
    match share {
        Some(share) => Body::new(PiecewiseBody {
            rest: bytes,
            _share: share,
        }),
        None => Body::from(bytes),
    }
}

struct PiecewiseBody {
    rest: Bytes,
    _share: Share,
}

impl HttpBody for PiecewiseBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        let piece = Bytes::copy_from_slice(&self.rest.split_to(length));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
