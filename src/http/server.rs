//! Accepts connections within a bound, and drains them when told to stop.

mod connection;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Peer;
use super::service::Service;

/// Connections at once; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 10_000;
/// Time for requests that are under way when the service stops. Supervisors
/// kill after ten seconds; the rest is for closing the database.
const DRAIN: Duration = Duration::from_secs(7);
/// Pause when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `service` on all listeners until `stop`, then lets requests that are
/// under way end, for at most seven seconds.
pub async fn serve(listeners: Vec<TcpListener>, service: Service, stop: CancellationToken) {
    let server = Arc::new(Server {
        permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        protocol: connection::protocol_settings(),
        service,
        drain: CancellationToken::new(),
        cut_off: CancellationToken::new(),
    });
    let connections = TaskTracker::new();
    let accepting = TaskTracker::new();
    for listener in listeners {
        let accept = Arc::clone(&server).accept(listener, connections.clone());
        accepting.spawn(stop.clone().run_until_cancelled_owned(accept));
    }
    accepting.close();
    accepting.wait().await;
    server.drain.cancel();
    connections.close();
    let drained = tokio::time::timeout(DRAIN, connections.wait()).await;
    if drained.is_err() {
        tracing::warn!("{} connections are cut off", connections.len());
        server.cut_off.cancel();
        connections.wait().await;
    }
}

/// State that all connections share.
struct Server {
    permits: Arc<Semaphore>,
    protocol: auto::Builder<TokioExecutor>,
    service: Service,
    /// Tells connections to end after the requests that are under way.
    drain: CancellationToken,
    /// Tells connections to end now.
    cut_off: CancellationToken,
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener, connections: TaskTracker) {
        loop {
            match self.next(&listener).await {
                Ok((stream, peer, permit)) => {
                    let server = Arc::clone(&self);
                    connections.spawn(async move {
                        connection::run(&server, stream, peer).await;
                        drop(permit);
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
    ) -> io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, addr) = listener.accept().await?;
        // Answers are small and whole; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        Ok((stream, Peer(addr.ip()), permit))
    }
}

/// True when the client closed the connection before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
