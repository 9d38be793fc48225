//! The body of a large answer. It is sent in pieces, so that sent pieces are freed early, and it holds its share of
//! the budget until everything is sent.

use std::collections::VecDeque;
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
             reading call in a few seconds, or ask for less at once",
        );
        return axum::response::IntoResponse::into_response(error.with_id(id.cloned()));
    };
    let (parts, body) = response.into_parts();
    let bytes = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    Response::from_parts(parts, from_parts(VecDeque::from([bytes]), Some(share)))
}

/// A body of these parts that holds its share until all of it was sent.
pub(super) fn from_parts(parts: VecDeque<Bytes>, share: Option<Share>) -> Body {
    let size = parts.iter().map(Bytes::len).sum();
    Body::new(PiecewiseBody {
        parts,
        size,
        _share: share,
    })
}

struct PiecewiseBody {
    parts: VecDeque<Bytes>,
    /// Bytes of all parts.
    size: usize,
    _share: Option<Share>,
}

impl PiecewiseBody {
    fn next_piece(&mut self) -> Option<Bytes> {
        while self.parts.front().is_some_and(Bytes::is_empty) {
            self.parts.pop_front();
        }
        let part = self.parts.front_mut()?;
        let length = part.len().min(PIECE);
        self.size -= length;
        Some(Bytes::copy_from_slice(&part.split_to(length)))
    }
}

impl HttpBody for PiecewiseBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.next_piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.size == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_become_one_body_in_pieces() {
        let large = Bytes::from(vec![b'x'; 2 * PIECE + 1]);
        let parts = [
            Bytes::from_static(b"["),
            large,
            Bytes::new(),
            Bytes::from_static(b"]"),
        ];
        let mut expected = Vec::new();
        parts
            .iter()
            .for_each(|part| expected.extend_from_slice(part));
        let body = from_parts(VecDeque::from(parts), None);
        assert_eq!(body.size_hint().exact(), Some(expected.len() as u64));
        assert_eq!(body.collect().await.unwrap().to_bytes(), expected);
        assert!(from_parts(VecDeque::new(), None).is_end_stream());
    }
}
