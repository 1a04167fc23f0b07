//! A connection's bytes: when they come, what hyper answers by itself, and how it is
//! closed while the client still sends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::activity::Activity;
use super::date::date;
use crate::clock::Clock;
use crate::http::service::NO_SNIFF;

/// End of the answers that hyper gives to what it cannot parse, byte for byte: behind the
/// status line and, but for HTTP/1.0, [`CLOSE`]. With other bytes the tests of refusals
/// in `tests/process/connections.rs` fail.
const HYPER_ERROR_END: &[u8] = b"\r\ncontent-length: 0\r\n\r\n";
/// hyper's 431 also stands for a Content-Length that it cannot count, above 2^64 - 3;
/// which of them it was it does not tell.
const TOO_LARGE: &str =
    "the header section is over 16 KiB or has over 100 fields, or its Content-Length is too large";
const CLOSE: &[u8] = b"\r\nconnection: close";
/// Bounds on reading from a client that is still sending when its connection is
/// closed: closing with unread bytes resets it, and the client may never see the answer.
const LINGER: Duration = Duration::from_secs(5);
const MAX_LINGERING: usize = 32 * 1024 * 1024;

pub(super) struct Stream {
    tcp: TcpStream,
    activity: Arc<Activity>,
    clock: Arc<dyn Clock>,
    /// Bytes that are still to be written in place of an answer of hyper's.
    refusal: Option<Vec<u8>>,
    linger: Option<Pin<Box<Sleep>>>,
    lingered: usize,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, activity: Arc<Activity>, clock: Arc<dyn Clock>) -> Self {
        Self {
            tcp,
            activity,
            clock,
            refusal: None,
            linger: None,
            lingered: 0,
        }
    }

    /// The same answer as `original`, which is hyper's, with the headers of every response
    /// and a body.
    fn refusal(&self, original: &[u8]) -> Vec<u8> {
        let status = original.split(|&b| b == b'\r').next().unwrap_or_default();
        let why = match status.get(9..12) {
            Some(b"431") => TOO_LARGE,
            Some(b"414") => "the request target is too long",
            _ => "this is not a request of HTTP/1.1",
        };
        let body = format!(r#"{{"error":"{why}"}}"#);
        let date = date(self.clock.now());
        let (name, value) = NO_SNIFF;
        let fields = [
            "\r\ncontent-type: application/json\r\ndate: ".as_bytes(),
            date.as_bytes(),
            format!("\r\n{name}: ").as_bytes(),
            value.as_bytes(),
            format!("\r\ncontent-length: {}", body.len()).as_bytes(),
            b"\r\nconnection: close\r\n\r\n",
        ]
        .concat();
        [status, &fields, body.as_bytes()].concat()
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let timer = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = [0; 8192];
        while self.lingered < MAX_LINGERING {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                break;
            }
            self.lingered += buf.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

/// Start of an answer of hyper's own at the end of `buf`.
fn hyper_error(buf: &[u8]) -> Option<usize> {
    let before = buf.strip_suffix(HYPER_ERROR_END)?;
    let before = before.strip_suffix(CLOSE).unwrap_or(before);
    let version = b"HTTP/1.";
    let mut parts = before.windows(version.len());
    let at = parts.rposition(|part| part == version)?;
    // Answers of the service's have more fields.
    (!before[at..].contains(&b'\r')).then_some(at)
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.activity.read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(at) = hyper_error(buf) else {
            return Pin::new(&mut self.tcp).poll_write(cx, buf);
        };
        // The answers to what was sent ahead come first.
        if at > 0 {
            return Pin::new(&mut self.tcp).poll_write(cx, &buf[..at]);
        }
        let mut rest = match self.refusal.take() {
            Some(rest) => rest,
            None => self.refusal(buf),
        };
        self.activity.lingers.store(true, Ordering::Relaxed);
        while !rest.is_empty() {
            match Pin::new(&mut self.tcp).poll_write(cx, &rest) {
                Poll::Ready(Ok(n)) => drop(rest.drain(..n)),
                other => {
                    self.refusal = Some(rest);
                    return other;
                }
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
        }
        if self.activity.lingers.load(Ordering::Relaxed) {
            return self.poll_linger(cx);
        }
        Poll::Ready(Ok(()))
    }
}
