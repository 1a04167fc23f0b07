//! One connection: HTTP/1.1 or HTTP/2, its time-outs, and its end.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Server;
use crate::http::client::Peer;

/// Time for the header section of a request, from the moment it may come.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2: requests at once on a connection.
const MAX_STREAMS: u32 = 100;
/// HTTP/2: how often a connection is pinged, and the time for its answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which no request has begun for so long is told to end. It may
/// answer pings for ever, or not read its answers. Longer than any request takes.
const IDLE: Duration = Duration::from_secs(60);
/// Time for a connection that was told to end; then it is closed.
const GRACE: Duration = Duration::from_secs(10);
/// Time-outs are as exact as this.
const CHECK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of a header section; for HTTP/2, as RFC 9113 section 6.5.2 counts them.
const MAX_HEADER_SECTION: u32 = 64 * 1024;

/// The protocol settings of all connections.
pub(super) fn protocol_settings() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(PolledTimer)
        .header_read_timeout(HEADER_TIMEOUT)
        // Answers are short: copying a body behind its header section is cheaper
        // than sending the two as a list.
        .writev(false)
        .max_buf_size(MAX_HEADER_SECTION as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_SECTION)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    http
}

/// Serves a connection to its end: the client's, a time-out's, or the server's.
pub(super) async fn run(server: &Server, stream: TcpStream, peer: Peer) {
    let requests = AtomicU64::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        requests.fetch_add(1, Ordering::Relaxed);
        let answer = server.service.call(peer, request);
        async move { answer.await.map(without_needless_length) }
    });
    let io = TokioIo::new(stream);
    let mut connection = pin!(server.protocol.serve_connection(io, service));
    // Each request wakes this task, which then polls the token too, and polling a
    // token takes its lock. A child token has a lock of its own; with the server's
    // token itself all connections would wait for each other.
    let drain = server.drain.child_token();
    let mut drain = pin!(drain.cancelled());
    let mut check = interval_at(Instant::now() + CHECK_EVERY, CHECK_EVERY);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle = Idle::default();
    loop {
        tokio::select! {
            biased;
            // An error is the client's: it went away, or spoke no HTTP.
            _ = connection.as_mut() => return,
            () = drain.as_mut() => break,
            _ = check.tick() => {
                if idle.is_too_long(requests.load(Ordering::Relaxed)) {
                    break;
                }
            }
        }
    }
    if requests.load(Ordering::Relaxed) == 0 {
        // Nothing is under way; part of a header section is not waited for.
        return;
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection.as_mut() => {}
        () = server.cut_off.cancelled() => {}
        () = tokio::time::sleep(GRACE) => {}
    }
}

/// Takes away the `Content-Length` that axum gives every answer, where RFC 9110
/// section 8.6 allows none (204) or another one (304).
fn without_needless_length(mut response: Response) -> Response {
    if let StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED = response.status() {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}

/// Number of checks in a row at which no new request had begun.
#[derive(Default)]
struct Idle {
    requests: u64,
    checks: u32,
}

impl Idle {
    /// Called at each check with the number of requests so far. The first request
    /// must come as fast as its header section: before the first bytes tell
    /// HTTP/1.1 from HTTP/2, neither one's own time-outs count.
    fn is_too_long(&mut self, requests: u64) -> bool {
        if requests != self.requests {
            *self = Self {
                requests,
                checks: 0,
            };
            return false;
        }
        self.checks += 1;
        let limit = if requests == 0 { HEADER_TIMEOUT } else { IDLE };
        CHECK_EVERY * self.checks >= limit
    }
}

/// hyper's timer for HTTP/1.1, which limits the time of a header section. Its
/// futures break the rule that a pending future has a waker registered, and rely
/// on [`run`] instead: that polls the connection, and hyper in it the timer, every
/// [`CHECK_EVERY`], so a deadline is seen up to that much late. After the server
/// has told the connection to end there are no checks, and [`GRACE`] is the limit.
/// A timer of tokio's would be set and cancelled for each request, under a lock
/// that all connections share.
#[derive(Clone, Debug)]
struct PolledTimer;

#[derive(Debug)]
struct Deadline(std::time::Instant);

impl Timer for PolledTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(std::time::Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline(deadline))
    }
}

impl Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::time::Instant::now() < self.0 {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// The clock moves on by itself whenever all tasks wait, so the client
    /// answers each ping, and a minute is over at once.
    #[tokio::test(start_paused = true)]
    async fn an_http_2_connection_that_only_answers_pings_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let router = Router::new().fallback(|| async {});
        let server = super::super::serve(vec![listener], router.into(), CancellationToken::new());
        tokio::spawn(server);
        let (client, connection) = h2::client::handshake(stream.await.unwrap()).await.unwrap();
        let connection = tokio::spawn(connection);
        let began = Instant::now();
        let mut client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(Request::default(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        // A client that answers no ping is cut off after this long.
        assert!(PING_EVERY + PING_TIMEOUT < IDLE);
        let closed = tokio::time::timeout(IDLE + GRACE, connection).await;
        closed.unwrap().unwrap().unwrap();
        assert!(began.elapsed() >= IDLE - CHECK_EVERY);
        drop(client);
    }

    #[test]
    fn idle_time_counts_from_the_last_request() {
        let checks = |time: Duration| time.as_millis() / CHECK_EVERY.as_millis();
        let mut idle = Idle::default();
        for _ in 1..checks(HEADER_TIMEOUT) {
            assert!(!idle.is_too_long(0));
        }
        assert!(idle.is_too_long(0));
        for requests in [1, 2] {
            assert!(!idle.is_too_long(requests));
            for _ in 1..checks(IDLE) {
                assert!(!idle.is_too_long(requests));
            }
        }
        assert!(idle.is_too_long(2));
    }
}
