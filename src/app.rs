//! Wires the parts of the service, runs them beside each other, and awaits every
//! task at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::password::PasswordHasher;
use crate::crypto::rsa::KeySource;
use crate::domain::accounts::Accounts;
use crate::domain::audit::Retention;
use crate::domain::issuer;
use crate::domain::key_ring::KeyRing;
use crate::domain::readiness::Readiness;
use crate::domain::rotation::Rotation;
use crate::domain::shared_quota::SharedQuota;
use crate::domain::sign_in::SignIn;
use crate::domain::tokens::TokenIssuer;
use crate::http::client_addr::TrustedProxies;
use crate::http::listen::Listeners;
use crate::http::server;
use crate::http::state::{AppState, SharedState};
use crate::http::{self, Quota, Refusals, SlidingLog};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::systemd::{Reporter, Supervision};

/// Interval at which quiet clients are removed from the quota and the refusals.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// A service that is ready to run.
pub struct App {
    pub state: SharedState,
    pub rotation: Rotation,
    retention: Option<Retention>,
    store: Store,
}

impl App {
    /// `hashing_threads`: number of passwords that are hashed at once.
    pub fn new(
        config: Config,
        store: Store,
        clock: Arc<dyn Clock>,
        source: Arc<dyn KeySource>,
        hashing_threads: usize,
    ) -> io::Result<Self> {
        let keys = Arc::new(KeyRing::default());
        let rotation = Rotation::new(
            store.clone(),
            Arc::clone(&keys),
            Arc::clone(&config.keys.sealing_keys),
            source,
            config.keys.policy,
            Arc::clone(&clock),
        );
        let hasher = PasswordHasher::start(config.accounts.costs, hashing_threads)?;
        let issuer = config.tokens.issuer.as_ref();
        let tokens = TokenIssuer::new(
            Arc::clone(&keys),
            config.keys.policy,
            issuer.map(|issuer| issuer.as_str().to_owned()),
            config.tokens.audience.clone(),
        );
        let retention = config.accounts.audit_retention.map(|keep_for| Retention {
            store: store.clone(),
            clock: Arc::clone(&clock),
            keep_for,
        });
        let quota = |name, rate| Quota {
            name,
            log: SlidingLog::new(rate, Arc::clone(&clock)),
            shared: SharedQuota {
                store: store.clone(),
            },
        };
        let state = Arc::new(AppState {
            accounts: Accounts {
                store: store.clone(),
                hasher: hasher.clone(),
            },
            sign_in: SignIn {
                store: store.clone(),
                hasher,
                tokens,
            },
            policy: config.keys.policy,
            readiness: Readiness {
                store: store.clone(),
                keys: Arc::clone(&keys),
                heartbeat: Arc::clone(rotation.heartbeat()),
                policy: config.keys.policy,
                clock: Arc::clone(&clock),
            },
            heartbeat: Arc::clone(rotation.heartbeat()),
            metrics: Metrics::new(store.commits(), clock.now().as_secs()),
            audience: config.tokens.audience,
            issuer: config.tokens.issuer,
            auth_quota: quota("auth", config.accounts.auth_rate),
            register_quota: quota("register", config.accounts.register_rate),
            is_local: issuer::is_loopback(&config.network.host)
                && config.network.trusted_proxies.is_empty(),
            proxies: Arc::new(TrustedProxies::new(config.network.trusted_proxies)),
            refusals: Refusals::default(),
            jwks_max_age: config.keys.jwks_max_age,
            document_caching: http::caching(config.keys.jwks_max_age),
            keys,
            clock,
        });
        Ok(Self {
            state,
            rotation,
            retention,
            store,
        })
    }

    fn reporter(&self, supervision: Supervision) -> Reporter {
        Reporter {
            supervision,
            keys: Arc::clone(&self.state.keys),
            policy: self.state.policy,
            clock: Arc::clone(&self.state.clock),
            heartbeat: Arc::clone(&self.state.heartbeat),
        }
    }

    /// Serves until `stop`. When it returns, connections are drained, its tasks have
    /// ended and the database is closed; only streams of an HTTP/2 connection that was
    /// cut off may still be ending. An error names a task that ended by itself.
    pub async fn run(
        self,
        listeners: Listeners,
        supervision: Supervision,
        stop: CancellationToken,
    ) -> Result<(), DiedEarly> {
        let stop_serving = CancellationToken::new();
        let stop_background = CancellationToken::new();
        let mut serving = Tasks::default();
        let service = http::service(&self.state);
        let is_loopback = |at: io::Result<SocketAddr>| at.is_ok_and(|at| at.ip().is_loopback());
        let mut addresses = listeners.metrics.iter().map(TcpListener::local_addr);
        let metrics = http::metrics_service(Arc::clone(&self.state), addresses.all(is_loopback));
        let with = |service: http::Service| move |listener| (listener, service.clone());
        let for_clients = listeners.service.into_iter().map(with(service));
        let for_metrics = listeners.metrics.into_iter().map(with(metrics));
        serving.start(
            "the server",
            server::serve(
                for_clients.chain(for_metrics).collect(),
                Arc::clone(&self.state.proxies),
                Arc::clone(&self.state.clock),
                stop_serving.clone(),
            ),
        );
        serving.start(
            "the report to the service manager",
            self.reporter(supervision).run(stop_serving.clone()),
        );
        let mut background = Tasks::default();
        let state = Arc::clone(&self.state);
        background.start(
            "the key rotation",
            self.rotation.run(stop_background.clone()),
        );
        background.start("the sweep", sweep(state, stop_background.clone()));
        if let Some(retention) = self.retention {
            background.start(
                "the pruning of sign-ins",
                retention.run(stop_background.clone()),
            );
        }
        drop(self.state);
        let died = tokio::select! {
            () = stop.cancelled() => None,
            task = serving.first_to_end() => Some(task),
            task = background.first_to_end() => Some(task),
            () = self.store.ended() => Some("the use of the database"),
        };
        // Keys go on rotating until the last request is answered.
        stop_serving.cancel();
        serving.all_ended().await;
        stop_background.cancel();
        background.all_ended().await;
        self.store.close().await;
        died.map_or(Ok(()), |task| Err(DiedEarly(task)))
    }
}

/// Tasks that run beside each other and return their names.
#[derive(Default)]
struct Tasks(JoinSet<&'static str>);

impl Tasks {
    fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        // Spawned apart, so that a task that panics is named too.
        let task = tokio::spawn(task);
        self.0.spawn(async move {
            let _ = task.await;
            name
        });
    }

    async fn all_ended(&mut self) {
        while self.0.join_next().await.is_some() {}
    }

    /// Waits until one of them ends, which none should, and names it.
    async fn first_to_end(&mut self) -> &'static str {
        match self.0.join_next().await {
            Some(name) => name.unwrap_or("a task"),
            None => std::future::pending().await,
        }
    }
}

/// A task ended by itself; the log says why.
#[derive(Debug, thiserror::Error)]
#[error("{0} has ended unexpectedly")]
pub struct DiedEarly(&'static str);

async fn sweep(state: SharedState, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(SWEEP_EVERY))
        .await
        .is_some()
    {
        state.auth_quota.log.sweep();
        state.register_quota.log.sweep();
        state.refusals.sweep(state.clock.monotonic());
    }
    state.refusals.sweep(Duration::MAX);
}
