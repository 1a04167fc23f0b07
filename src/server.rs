//! Connections: accepts them within a bound, speaks HTTP/1.1 and HTTP/2 on
//! them, closes those that waste time, and drains them when told to stop.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::http::client::Peer;

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
/// Bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
/// How long to wait when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `service` on all listeners until `stop`, then lets requests that are
/// under way end, for at most seven seconds.
pub async fn serve<S>(listeners: Vec<TcpListener>, service: S, stop: CancellationToken)
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let connections = TaskTracker::new();
    let cut_off = CancellationToken::new();
    let server = Arc::new(Server {
        places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        http: http(),
        service,
        stop: stop.clone(),
        cut_off: cut_off.clone(),
    });
    let accepting = TaskTracker::new();
    for listener in listeners {
        let (server, connections) = (Arc::clone(&server), connections.clone());
        accepting.spawn(async move { server.accept(listener, &connections).await });
    }
    accepting.close();
    accepting.wait().await;
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("{} connections are cut off", connections.len());
        cut_off.cancel();
        connections.wait().await;
    }
}

struct Server<S> {
    places: Arc<Semaphore>,
    http: auto::Builder<TokioExecutor>,
    service: S,
    stop: CancellationToken,
    cut_off: CancellationToken,
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    http
}

impl<S> Server<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    async fn accept(self: Arc<Self>, listener: TcpListener, connections: &TaskTracker) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = self.next(&listener) => accepted,
            };
            match accepted {
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
        let started = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request: Request<Incoming>| {
            started.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            self.service.clone().oneshot(request)
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // The first bytes decide between HTTP/1.1 and HTTP/2, before either
        // one's own time-outs begin.
        let first = tokio::time::sleep(HEADER_TIMEOUT);
        tokio::pin!(first);
        let stopping = self.stop.cancelled();
        tokio::pin!(stopping);
        let mut waiting_for_first = true;
        let mut draining = false;
        loop {
            tokio::select! {
                // Errors here are the client's: it went away or spoke no HTTP.
                _ = connection.as_mut() => return,
                () = &mut stopping, if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut first, if waiting_for_first => {
                    waiting_for_first = false;
                    if !started.load(Ordering::Relaxed) {
                        return;
                    }
                }
                () = self.cut_off.cancelled() => return,
            }
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
