//! A body that is awaited under a permit, and what becomes of it when its request is
//! answered before it has all come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::permits::{Holder, Permit, Usage};

/// Bounds on reading what is left of a body when its request is answered.
const MAX_DISCARDED: usize = 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// A body, as the permits know it. Its eviction drops the sender, which the receiver sees.
pub(super) struct AwaitedBody {
    since: Instant,
    _evicted: oneshot::Sender<()>,
}

impl AwaitedBody {
    pub(super) fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, evicted) = oneshot::channel();
        let since = Instant::now();
        let body = Self {
            since,
            _evicted: sender,
        };
        (body, evicted)
    }
}

impl Holder for AwaitedBody {
    fn usage(&self) -> Usage {
        Usage::Busy(self.since)
    }

    fn evict(self) {}
}

/// Reads and drops the rest, within bounds; true when that was all. Many clients send
/// the whole body before they read the response. No permit is held meanwhile: nothing
/// is kept of what is dropped.
pub(super) async fn discard(mut body: Incoming) -> bool {
    let rest = async {
        let mut left = MAX_DISCARDED;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return true };
            let size = frame.data_ref().map_or(0, Bytes::len);
            let Some(less) = left.checked_sub(size) else {
                return false;
            };
            left = less;
        }
        true
    };
    tokio::time::timeout(DISCARD_TIMEOUT, rest)
        .await
        .unwrap_or(false)
}

/// With the end of its sender when the permit is taken away.
pub(super) type BodyPermit = (Permit<AwaitedBody>, oneshot::Receiver<()>);

/// Error of a body whose permit is taken away for another's.
#[derive(Debug, thiserror::Error)]
#[error("too many requests are being received at the moment")]
pub(in crate::http) struct Evicted;

/// A body that comes back when the service drops it unread, and whether any of it was asked for.
pub(super) struct ReturnedBody {
    /// None once it has ended.
    inner: Option<Incoming>,
    /// None also once it is evicted.
    permit: Option<BodyPermit>,
    is_begun: bool,
    return_to: Option<oneshot::Sender<(Incoming, bool)>>,
}

impl ReturnedBody {
    pub(super) fn new(
        body: Incoming,
        permit: BodyPermit,
    ) -> (Self, oneshot::Receiver<(Incoming, bool)>) {
        let (return_to, returned) = oneshot::channel();
        let body = Self {
            inner: Some(body),
            permit: Some(permit),
            is_begun: false,
            return_to: Some(return_to),
        };
        (body, returned)
    }
}

impl Body for ReturnedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        self.is_begun = true;
        let Some(body) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(frame) = frame {
            if !matches!(frame, Some(Ok(_))) {
                self.inner = None;
                self.permit = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if let Some((_, evicted)) = &mut self.permit {
            let _ = ready!(Pin::new(evicted).poll(cx));
            self.permit = None;
        }
        Poll::Ready(Some(Err(Evicted.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for ReturnedBody {
    fn drop(&mut self) {
        self.permit = None;
        if let (Some(body), Some(return_to)) = (self.inner.take(), self.return_to.take())
            && !body.is_end_stream()
        {
            let _ = return_to.send((body, self.is_begun));
        }
    }
}
