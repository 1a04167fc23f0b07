//! One connection: HTTP/1.1 or HTTP/2, its time-outs, and its end.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::activity::Activity;
use super::request::{self, ConnectionState, MAX_HEADER_SECTION};
use super::stream::Stream;

/// HTTP/2: requests at once on a connection.
const MAX_STREAMS: u32 = 8;
/// HTTP/2: bytes of a body that may come before they are read. What is larger than
/// the largest body is refused anyway.
const STREAM_WINDOW: u32 = 16 * 1024;
/// HTTP/2: the same for all bodies of a connection. RFC 9113 allows no less.
const CONNECTION_WINDOW: u32 = 65_535;
/// HTTP/2: bytes of a response that wait to be sent, before more are asked for. A response of
/// one piece is taken whole.
const SEND_BUFFER: usize = 4 * 1024;
/// HTTP/2: how often a connection is pinged, and the time for its answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the requests of a connection that is to end; then it is closed.
const GRACE: Duration = Duration::from_secs(10);

/// The protocol settings of all connections.
pub(super) fn protocol_settings() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        // `Activity` times header sections and idle connections.
        .header_read_timeout(None)
        .auto_date_header(false)
        // Answers are short: copying a body after its header section is cheaper
        // than sending the two as a list.
        .writev(false)
        .max_buf_size(MAX_HEADER_SECTION);
    http.http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEADER_SECTION).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    http
}

/// Serves a connection until the client ends it, it times out, or it is told to stop;
/// then lets its requests end, for at most [`GRACE`], unless it is evicted.
pub(super) async fn run(stream: TcpStream, shared: ConnectionState) {
    let shared = Arc::new(shared);
    let (server, activity) = (&shared.server, &shared.activity);
    let answer =
        service_fn(|request: Request<Incoming>| request::respond(Arc::clone(&shared), request));
    let stream = Stream::new(stream, Arc::clone(activity), Arc::clone(&server.clock));
    let connection = server
        .protocol
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    // With no request so far, part of a header section is not waited for.
    if has_ended(connection.as_mut(), activity).await || !activity.has_begun() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    if activity.is_evicted() {
        // HTTP/2 sends its GOAWAY; nothing is waited for.
        let _ = timeout(Duration::ZERO, connection).await;
        return;
    }
    let evicted = async {
        if server.drain.is_cancelled() {
            pending::<()>().await;
        }
        activity.stop.cancelled().await;
    };
    tokio::select! {
        _ = connection.as_mut() => {}
        () = server.cut_off.cancelled() => {}
        () = evicted => {}
        () = sleep(GRACE) => {}
    }
}

/// Drives a connection. True when it has ended; false when it has to be ended, since it is
/// told to stop or has timed out.
async fn has_ended(mut connection: Pin<&mut impl Future>, activity: &Activity) -> bool {
    // Each request wakes this task, which then polls the token too, and polling a token
    // takes its lock. The token is a child with a lock of its own: with the server's
    // all connections would wait for each other.
    let mut stop = pin!(activity.stop.cancelled());
    let mut timer = pin!(sleep_until(activity.deadline()));
    poll_fn(|cx| {
        // An error is the client's: it went away, or spoke no HTTP.
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        // A header section that has begun has less time than an idle connection.
        if activity.deadline() < timer.deadline() {
            timer.as_mut().reset(activity.deadline());
        }
        while timer.as_mut().poll(cx).is_ready() {
            if activity.deadline() <= Instant::now() {
                return Poll::Ready(false);
            }
            timer.as_mut().reset(activity.deadline());
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
#[path = "../../../tests/unit/connection.rs"]
mod tests;
