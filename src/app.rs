//! The parts put together: what handlers share, and a run from the first look
//! at the database to the last drained connection.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::http::HeaderValue;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, UnixTime};
use crate::config::{Config, Supervision};
use crate::crypto::password::pool::PasswordHasher;
use crate::crypto::rsa::KeySource;
use crate::domain::accounts::Accounts;
use crate::domain::issuer::Issuer;
use crate::domain::keys::{self, KeyRing};
use crate::domain::lifecycle::Policy;
use crate::domain::pulse::Pulse;
use crate::domain::readiness::Readiness;
use crate::domain::rotation::Rotation;
use crate::domain::tokens::TokenIssuer;
use crate::http::client::TrustedProxies;
use crate::http::{self, SlidingLog};
use crate::metrics::Metrics;
use crate::notify::Reporter;
use crate::server;
use crate::store::Store;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How often clients that have been quiet are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What the key is for that deals costs to names without an account.
const STAND_INS: &str = "stand-ins for unknown names";

/// One state for all requests, which only count its users.
pub type SharedState = Arc<AppState>;

/// What all handlers share.
pub struct AppState {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The keys.
    pub keys: Arc<KeyRing>,
    /// Sign-up and sign-in.
    pub accounts: Accounts,
    /// Tokens.
    pub tokens: TokenIssuer,
    /// The quota on `/auth`.
    pub quota: SlidingLog,
    /// Whose `X-Forwarded-For` counts.
    pub proxies: Arc<TrustedProxies>,
    /// The times that keys follow.
    pub policy: Policy,
    /// Whether all of this works.
    pub readiness: Readiness,
    /// How the rotation of keys fares.
    pub pulse: Arc<Pulse>,
    /// When the service was started.
    pub started_at: UnixTime,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who issues, if that is configured.
    pub issuer: Option<Issuer>,
    /// Whether tokens carry `aud`.
    pub has_audience: bool,
    /// `Cache-Control` of the key set and of what belongs to it.
    pub document_caching: HeaderValue,
}

/// A service that is ready to run: its handlers' state and its rotation.
pub struct App {
    /// What handlers share.
    pub state: SharedState,
    /// The loop that makes keys, not started yet.
    pub rotation: Rotation,
    store: Store,
}

impl App {
    /// Wires the parts. `hashing_threads`: how many passwords are hashed at once.
    pub fn new(
        config: Config,
        store: Store,
        clock: Arc<dyn Clock>,
        source: Arc<dyn KeySource>,
        hashing_threads: usize,
    ) -> io::Result<Self> {
        let keys = Arc::new(KeyRing::default());
        let (secrets, now) = (Arc::clone(&config.secrets), Arc::clone(&clock));
        store.accept_other(move |rows| keys::are_ours(rows, &secrets, now.now()));
        let rotation = Rotation::new(
            store.clone(),
            Arc::clone(&keys),
            Arc::clone(&config.secrets),
            source,
            config.policy,
            Arc::clone(&clock),
        );
        let hasher = PasswordHasher::start(config.costs, hashing_threads)?;
        let state = Arc::new(AppState {
            accounts: Accounts::new(store.clone(), hasher, config.secrets.derive(STAND_INS)),
            tokens: TokenIssuer::new(
                Arc::clone(&keys),
                config.policy,
                config
                    .issuer
                    .as_ref()
                    .map(|issuer| issuer.as_str().to_owned()),
                config.audience.clone(),
            ),
            policy: config.policy,
            readiness: Readiness::new(
                store.clone(),
                Arc::clone(&keys),
                Arc::clone(rotation.pulse()),
                config.policy,
                Arc::clone(&clock),
            ),
            pulse: Arc::clone(rotation.pulse()),
            started_at: clock.now(),
            metrics: Arc::new(Metrics::new(Arc::clone(store.commits()))),
            has_audience: config.audience.is_some(),
            issuer: config.issuer,
            quota: SlidingLog::new(config.auth_rate, Arc::clone(&clock)),
            proxies: Arc::new(TrustedProxies::new(config.trusted_proxies)),
            document_caching: http::caching(config.jwks_max_age),
            keys,
            clock,
        });
        Ok(Self {
            state,
            rotation,
            store,
        })
    }

    /// Who tells the service manager how the service fares.
    fn reporter(&self, supervision: Supervision) -> Reporter {
        Reporter {
            supervision,
            keys: Arc::clone(&self.state.keys),
            policy: self.state.policy,
            clock: Arc::clone(&self.state.clock),
            pulse: Arc::clone(&self.state.pulse),
        }
    }

    /// Serves until `stop`, with the keys rotating beside it. When it returns,
    /// connections are drained, all tasks have ended and the database file is
    /// complete. An error means that a part that must not end has ended.
    pub async fn run(
        self,
        listeners: Listeners,
        supervision: Supervision,
        stop: CancellationToken,
    ) -> Result<(), DiedEarly> {
        let serving = CancellationToken::new();
        let behind = CancellationToken::new();
        let mut front = Parts::default();
        let service = http::service(&self.state);
        front.start(
            "the server",
            server::serve(listeners.service, service, serving.clone()),
        );
        if !listeners.metrics.is_empty() {
            let metrics = http::metrics_service(Arc::clone(&self.state));
            front.start(
                "the server for metrics",
                server::serve(listeners.metrics, metrics, serving.clone()),
            );
        }
        front.start(
            "the report to the service manager",
            self.reporter(supervision).run(serving.clone()),
        );
        let mut back = Parts::default();
        let quota = self.state.quota.clone();
        back.start("the key rotation", self.rotation.run(behind.clone()));
        back.start("the sweeping of quotas", sweep(quota, behind.clone()));
        back.start(
            "the watch on what passwords cost",
            watch_costs(Arc::clone(&self.state), behind.clone()),
        );
        drop(self.state);
        let died = tokio::select! {
            () = stop.cancelled() => None,
            part = front.first_to_end() => Some(part),
            part = back.first_to_end() => Some(part),
            () = self.store.ended() => Some("the writing of the database"),
        };
        // Keys go on rotating until the last request is answered.
        serving.cancel();
        front.all_end().await;
        behind.cancel();
        back.all_end().await;
        self.store.close().await;
        died.map_or(Ok(()), |part| Err(DiedEarly(part)))
    }
}

/// Tasks that run beside each other, by name.
#[derive(Default)]
struct Parts(Vec<(&'static str, JoinHandle<()>)>);

impl Parts {
    fn start(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.0.push((name, tokio::spawn(part)));
    }

    /// Waits until one of them ends, which none should, and names it.
    async fn first_to_end(&mut self) -> &'static str {
        std::future::poll_fn(|cx| {
            let mut tasks = self.0.iter_mut();
            match tasks.position(|(_, task)| Pin::new(task).poll(cx).is_ready()) {
                Some(ended) => Poll::Ready(self.0.swap_remove(ended).0),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Waits for those that are left. A panic has been logged.
    async fn all_end(self) {
        for (_, task) in self.0 {
            let _ = task.await;
        }
    }
}

/// Sockets to serve on.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub service: Vec<TcpListener>,
    /// For whoever reads the metrics; none, when nobody should.
    pub metrics: Vec<TcpListener>,
}

/// A part of the service ended before it was told to; the log says why.
#[derive(Debug, thiserror::Error)]
#[error("{0} has ended unexpectedly")]
pub struct DiedEarly(&'static str);

/// Opens sockets for `host`: an address, or a name all of whose addresses are
/// taken. `localhost` means both loopback addresses, as far as the machine has
/// them. Port 0 picks one for all.
///
/// Must be called within a Tokio runtime. Looking a name up blocks.
pub fn bind(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.eq_ignore_ascii_case("localhost") {
        return bind_loopback(port);
    }
    let mut listeners = Vec::new();
    let mut port = port;
    for mut addr in (bare, port).to_socket_addrs()? {
        addr.set_port(port);
        let listener = listen(addr)?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

fn bind_loopback(port: u16) -> io::Result<Vec<TcpListener>> {
    /// Ports that the system picks for IPv4 may be taken for IPv6.
    const PICKS: usize = 16;
    let mut picks = if port == 0 { PICKS } else { 1 };
    loop {
        picks -= 1;
        let v4 = listen(SocketAddr::from(([127, 0, 0, 1], port)))?;
        let both = v4.local_addr()?.port();
        match listen(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], both))) {
            Ok(v6) => return Ok(vec![v4, v6]),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && picks > 0 => {}
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Err(e),
            // A machine without IPv6.
            Err(_) => return Ok(vec![v4]),
        }
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Begins when there are keys, or should be: a start has no time for it before.
/// The first sign-in does not wait for it, but looks by itself.
async fn watch_costs(state: SharedState, stop: CancellationToken) {
    let keys = state.keys.wait_for(&*state.clock, |snapshot, now| {
        snapshot.published(now).map(|_| ())
    });
    if stop.run_until_cancelled(keys).await.is_some() {
        let accounts = state.accounts.clone();
        drop(state);
        accounts.watch_costs(stop).await;
    }
}

async fn sweep(quota: SlidingLog, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => quota.sweep(),
        }
    }
}
