//! Accepts connections within a bound, and drains them at the stop.

mod activity;
mod awaited_body;
mod connection;
mod date;
mod permits;
mod request;
mod stream;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client_addr::{ClientAddr, Peer, TrustedProxies};
use super::large_response::LargeResponseSlot;
use super::service::Service;
use crate::clock::Clock;
use activity::Activity;
use awaited_body::AwaitedBody;
pub(super) use awaited_body::Evicted;
use permits::{LEAVING, Permits};
use request::ConnectionState;

/// Connections at once, as far as the limit of open files allows. A flood of them takes up
/// to 70 KiB each.
const MAX_CONNECTIONS: usize = 1024;
/// Requests at once whose bodies may be awaited: each may take 16 KiB of memory for
/// its body, and as much again for what it came in.
const MAX_BODIES: usize = 512;
/// Open files that are kept for the database, the log and the listeners.
const RESERVED_FILES: u64 = 48;
/// Time for requests that are under way when the service stops. Many supervisors kill after
/// ten seconds; the rest is for closing the database. That takes up to 11 s more only while
/// another program holds a lock on it, for which the systemd unit and `compose.yaml` allow 25.
const DRAIN: Duration = Duration::from_secs(7);
/// Pause when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves each listener's service until `stop`, then lets requests that are under
/// way end, for at most seven seconds.
pub async fn serve(
    listeners: Vec<(TcpListener, Service)>,
    proxies: Arc<TrustedProxies>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let server = Arc::new(Server {
        permits: Permits::new(max_connections()),
        bodies: Permits::new(MAX_BODIES),
        protocol: connection::protocol_settings(),
        proxies,
        clock,
        drain: CancellationToken::new(),
        cut_off: CancellationToken::new(),
        accept_fails: AtomicBool::new(false),
    });
    let connections = TaskTracker::new();
    let accepting = TaskTracker::new();
    for (listener, service) in listeners {
        let accept = Arc::clone(&server).accept(listener, service, connections.clone());
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
    permits: Permits<Arc<Activity>>,
    bodies: Permits<AwaitedBody>,
    protocol: auto::Builder<TokioExecutor>,
    proxies: Arc<TrustedProxies>,
    clock: Arc<dyn Clock>,
    /// Tells connections to end after the requests that are under way.
    drain: CancellationToken,
    /// Tells connections to end now.
    cut_off: CancellationToken,
    accept_fails: AtomicBool,
}

impl Server {
    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        service: Service,
        connections: TaskTracker,
    ) {
        loop {
            let accepted = listener.accept().await;
            if let Err(e) = &accepted
                && is_client_abort(e)
            {
                continue;
            }
            self.log_accept_change(accepted.as_ref().err());
            let Ok((stream, addr)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Answers are small and whole; waiting to fill a packet only delays them.
            let _ = stream.set_nodelay(true);
            let peer = Peer(addr.ip());
            let address = ClientAddr(peer.0.to_canonical());
            let client = (!self.proxies.trusts(address.0)).then(|| address.key());
            let activity = Arc::new(Activity::new(self.drain.child_token()));
            let permit = self.permits.acquire(client, Arc::clone(&activity)).await;
            let shared = ConnectionState {
                server: Arc::clone(&self),
                service: service.clone(),
                peer,
                activity,
                large_response_slot: client.is_some().then(LargeResponseSlot::default),
            };
            connections.spawn(async move {
                // Released also when the connection panics.
                let _permit = permit;
                connection::run(stream, shared).await;
            });
        }
    }

    /// Logs that connections can no longer be accepted, or can be again: each once.
    fn log_accept_change(&self, error: Option<&io::Error>) {
        let fails = error.is_some();
        if self.accept_fails.load(Ordering::Relaxed) == fails
            || self.accept_fails.swap(fails, Ordering::Relaxed) == fails
        {
            return;
        }
        match error {
            Some(e) => tracing::error!("no connection can be accepted: {e}"),
            None => tracing::info!("connections are accepted again"),
        }
    }
}

fn max_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let allowed = usize::try_from(files.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX);
    (allowed - allowed / LEAVING).clamp(1, MAX_CONNECTIONS)
}

/// True when the client closed the connection before it was accepted.
fn is_client_abort(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
