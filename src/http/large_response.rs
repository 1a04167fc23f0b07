//! Large responses that are made for one request: the pages for people, and the metrics. A
//! client of HTTP/2 may ask for several at once and read none of them, so that each stays
//! in memory; a connection has one at a time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::ApiError;

/// Bytes that HTTP/2 gets at once. It keeps a few of these, and asks for more when the client
/// has taken them. Pieces of less than 1,024 bytes it gathers in its own buffer.
const PIECE: usize = 1000;

/// Longest wait for the response before.
const WAIT: Duration = Duration::from_secs(2);

/// The one such response that a connection of HTTP/2 may have, among the extensions of its
/// requests. Clones share it.
#[derive(Clone)]
pub(super) struct LargeResponseSlot(Arc<Semaphore>);

/// Permission to send one.
pub(super) struct LargeResponse(Option<OwnedSemaphorePermit>);

impl Default for LargeResponseSlot {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl LargeResponse {
    /// Waits while another one of the connection is not sent, for a moment; then it is a 503.
    /// Without a slot there is no bound: a connection of HTTP/1.1 has one response at a time,
    /// and a trusted proxy of HTTP/2 has none either.
    pub(super) async fn acquire(
        slot: Option<Extension<LargeResponseSlot>>,
    ) -> Result<Self, ApiError> {
        let Some(Extension(LargeResponseSlot(slot))) = slot else {
            return Ok(Self(None));
        };
        match timeout(WAIT, slot.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Self(Some(permit))),
            _ => Err(ApiError::busy(
                "another page is on its way on this connection: read it first",
            )),
        }
    }

    /// Keeps the permit until the last piece of the response is handed over.
    pub(super) async fn send(self, response: Response) -> Response {
        let Self(Some(permit)) = self else {
            return response;
        };
        let (head, body) = response.into_parts();
        let Ok(whole) = body.collect().await else {
            return ApiError::Internal.into_response();
        };
        let pieces = Pieces {
            rest: whole.to_bytes(),
            permit: Some(permit),
        };
        Response::from_parts(head, Body::new(pieces))
    }
}

struct Pieces {
    rest: Bytes,
    /// Released with the last piece.
    permit: Option<OwnedSemaphorePermit>,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let length = self.rest.len().min(PIECE);
        // Copied, or each piece would keep the whole.
        let piece = (length > 0).then(|| Bytes::copy_from_slice(&self.rest.split_to(length)));
        if self.rest.is_empty() {
            self.permit = None;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
