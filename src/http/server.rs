//! Connections: accepts them within a bound, speaks HTTP/1.1 and HTTP/2 on
//! them, closes those that waste time, and drains them when told to stop.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::rt::{Sleep, Timer};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Peer;

/// Connections at once; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 10_000;
/// How long the head of a request may take, from the moment it may come.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests that are under way get to end when the service stops:
/// of ten seconds, what is left for closing the database.
const DRAIN: Duration = Duration::from_secs(7);
/// HTTP/2: requests at once on a connection, and how its life is checked.
const MAX_STREAMS: u32 = 100;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which no request has begun for so long is told to end, and
/// cut off when it does not: it may answer pings for ever, or not read its
/// answers. Longer than any request takes.
const IDLE: Duration = Duration::from_secs(60);
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How often each connection is looked at; its time-outs are as exact as this.
const CHECK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of a request's head; for HTTP/2, as RFC 9113 section 6.5.2 counts them.
const MAX_HEAD: u32 = 64 * 1024;
/// How long to wait when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `service` on all listeners until `stop`, then lets requests that are
/// under way end, for at most seven seconds.
pub async fn serve<S, B>(listeners: Vec<TcpListener>, service: S, stop: CancellationToken)
where
    S: Service<(Peer, Request<Incoming>), Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let connections = TaskTracker::new();
    let server = Arc::new(Server {
        places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        http: http(),
        service,
        is_draining: AtomicBool::new(false),
        drain: CancellationToken::new(),
        cut_off: CancellationToken::new(),
    });
    let accepting = TaskTracker::new();
    for listener in listeners {
        let (server, connections) = (Arc::clone(&server), connections.clone());
        let stop = stop.clone();
        accepting.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = server.accept(listener, &connections) => {}
            }
        });
    }
    accepting.close();
    accepting.wait().await;
    server.is_draining.store(true, Ordering::Release);
    server.drain.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("{} connections are cut off", connections.len());
        server.cut_off.cancel();
        connections.wait().await;
    }
}

struct Server<S> {
    places: Arc<Semaphore>,
    http: auto::Builder<TokioExecutor>,
    service: S,
    /// Set before `drain` is cancelled.
    is_draining: AtomicBool,
    drain: CancellationToken,
    cut_off: CancellationToken,
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(CheckedTimer)
        .header_read_timeout(HEADER_TIMEOUT)
        // Answers are short: copying one behind its head is cheaper than
        // sending the two as a list.
        .writev(false)
        .max_buf_size(MAX_HEAD as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    http
}

impl<S, B> Server<S>
where
    S: Service<(Peer, Request<Incoming>), Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    async fn accept(self: Arc<Self>, listener: TcpListener, connections: &TaskTracker) {
        loop {
            match self.next(&listener).await {
                Ok((stream, peer, place)) => {
                    let server = Arc::clone(&self);
                    connections.spawn(async move {
                        server.connection(stream, peer).await;
                        drop(place);
                    });
                }
                Err(e) if is_the_clients(&e) => {}
                Err(e) => {
                    tracing::error!("no connection can be accepted: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn next(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, Peer, tokio::sync::OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, addr) = listener.accept().await?;
        // Answers are small and whole; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        Ok((stream, Peer(addr.ip()), place))
    }

    async fn connection(&self, stream: TcpStream, peer: Peer) {
        let begun = AtomicU64::new(0);
        let service = self.service.clone();
        let service = service_fn(|request| {
            begun.fetch_add(1, Ordering::Relaxed);
            service.call((peer, request))
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let mut check = pin!(tokio::time::sleep(CHECK_EVERY));
        let mut drain = pin!(self.drain.cancelled());
        let mut idle = Idle::default();
        let mut watcher: Option<Waker> = None;
        let is_over = poll_fn(|cx| {
            // Errors here are the client's: it went away or spoke no HTTP.
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            // Each request wakes this task, and polling `drain` takes a lock
            // that all connections share. So `drain` and `check` are polled to
            // leave them the task's waker, and then when they have something to say.
            let is_watched = watcher.as_ref().is_some_and(|w| w.will_wake(cx.waker()));
            if is_watched && !self.is_draining.load(Ordering::Acquire) && !check.is_elapsed() {
                return Poll::Pending;
            }
            watcher = Some(cx.waker().clone());
            if drain.as_mut().poll(cx).is_ready() {
                // Nothing was asked: what is there of a head is not waited for.
                return Poll::Ready(begun.load(Ordering::Relaxed) == 0);
            }
            while check.as_mut().poll(cx).is_ready() {
                let begun = begun.load(Ordering::Relaxed);
                if idle.is_too_long(begun) {
                    return Poll::Ready(begun == 0);
                }
                check.as_mut().reset(Instant::now() + CHECK_EVERY);
            }
            Poll::Pending
        });
        if is_over.await {
            return;
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection.as_mut() => {}
            () = self.cut_off.cancelled() => {}
            () = tokio::time::sleep(LAST_WORDS) => {}
        }
    }
}

/// How long no request has begun, in checks.
#[derive(Default)]
struct Idle {
    begun: u64,
    checks: u32,
}

impl Idle {
    /// Called at each check with the number of requests that have begun. The
    /// first one must come as fast as its head: before the first bytes tell
    /// HTTP/1.1 from HTTP/2, neither one's own time-outs count.
    fn is_too_long(&mut self, begun: u64) -> bool {
        if begun != self.begun {
            *self = Self { begun, checks: 0 };
            return false;
        }
        self.checks += 1;
        let limit = if begun == 0 { HEADER_TIMEOUT } else { IDLE };
        CHECK_EVERY * self.checks >= limit
    }
}

/// hyper's timer for HTTP/1.1, which times the heads of requests. It wakes
/// nobody: a connection is polled at each check anyway, and a timer of its own
/// for each request would be set and taken back under a lock of the runtime.
/// There are no checks once the service stops, and no heads to wait for either.
#[derive(Clone, Debug)]
struct CheckedTimer;

#[derive(Debug)]
struct Deadline(std::time::Instant);

impl Timer for CheckedTimer {
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

/// Whether a connection was given up before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers whatever comes.
    #[derive(Clone)]
    struct Anything;

    impl Service<(Peer, Request<Incoming>)> for Anything {
        type Response = Response<String>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn call(&self, _: (Peer, Request<Incoming>)) -> Self::Future {
            std::future::ready(Ok(Response::default()))
        }
    }

    async fn serve_anything() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(serve(vec![listener], Anything, CancellationToken::new()));
        addr
    }

    /// The clock moves on by itself whenever all tasks wait, so the client
    /// answers each ping, and a minute is over at once.
    #[tokio::test(start_paused = true)]
    async fn an_http_2_connection_that_only_answers_pings_is_closed() {
        let stream = TcpStream::connect(serve_anything().await).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let begun = Instant::now();
        let mut client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(Request::default(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        // Who answers no ping is cut off after this long.
        assert!(PING_EVERY + PING_TIMEOUT < IDLE);
        let closed = tokio::time::timeout(IDLE + LAST_WORDS, connection).await;
        closed.unwrap().unwrap().unwrap();
        assert!(begun.elapsed() >= IDLE - CHECK_EVERY);
        drop(client);
    }

    #[test]
    fn what_is_idle_is_counted_from_the_last_request() {
        let checks = |time: Duration| time.as_millis() / CHECK_EVERY.as_millis();
        let mut idle = Idle::default();
        for _ in 1..checks(HEADER_TIMEOUT) {
            assert!(!idle.is_too_long(0));
        }
        assert!(idle.is_too_long(0));
        for begun in [1, 2] {
            assert!(!idle.is_too_long(begun));
            for _ in 1..checks(IDLE) {
                assert!(!idle.is_too_long(begun));
            }
        }
        assert!(idle.is_too_long(2));
    }
}
