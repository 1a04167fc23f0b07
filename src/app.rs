//! The parts put together: what handlers share, and a run from the first look
//! at the database to the last drained connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::password::PasswordHasher;
use crate::crypto::rsa::KeySource;
use crate::domain::accounts::Accounts;
use crate::domain::key_ring::{self, KeyRing};
use crate::domain::readiness::Readiness;
use crate::domain::rotation::Rotation;
use crate::domain::sign_in::SignIn;
use crate::domain::tokens::TokenIssuer;
use crate::http::client::TrustedProxies;
use crate::http::listen::Listeners;
use crate::http::server;
use crate::http::state::{AppState, SharedState};
use crate::http::{self, SlidingLog};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::systemd::{Reporter, Supervision};

/// How often clients that have been quiet are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

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
        store.accept_other(move |rows| key_ring::are_ours(rows, &secrets, now.now()));
        let rotation = Rotation::new(
            store.clone(),
            Arc::clone(&keys),
            Arc::clone(&config.secrets),
            source,
            config.policy,
            Arc::clone(&clock),
        );
        let hasher = PasswordHasher::start(config.costs, hashing_threads)?;
        let issuer = config.issuer.as_ref();
        let tokens = TokenIssuer::new(
            Arc::clone(&keys),
            config.policy,
            issuer.map(|issuer| issuer.as_str().to_owned()),
            config.audience.clone(),
        );
        let state = Arc::new(AppState {
            accounts: Accounts::new(store.clone(), hasher.clone()),
            sign_in: SignIn::new(store.clone(), hasher, tokens),
            policy: config.policy,
            readiness: Readiness::new(
                store.clone(),
                Arc::clone(&keys),
                Arc::clone(rotation.heartbeat()),
                config.policy,
                Arc::clone(&clock),
            ),
            heartbeat: Arc::clone(rotation.heartbeat()),
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
            heartbeat: Arc::clone(&self.state.heartbeat),
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

/// A part of the service ended before it was told to; the log says why.
#[derive(Debug, thiserror::Error)]
#[error("{0} has ended unexpectedly")]
pub struct DiedEarly(&'static str);

async fn sweep(quota: SlidingLog, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => quota.sweep(),
        }
    }
}
