//! A part of the service that ends before it is told to takes the whole service
//! down, with an error that names it: half a service must not look alive.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jwks_server::app::App;
use jwks_server::clock::{Clock, UnixTime};
use jwks_server::config::{Config, Settings};
use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::http::listen::{Listeners, listen};
use jwks_server::store::Store;
use jwks_server::systemd::Supervision;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::manual_clock::ManualClock;
use crate::support::{START, Stock, send_to};

/// A clock whose reader panics once it is broken.
struct Fragile {
    clock: ManualClock,
    is_time_of_day_broken: AtomicBool,
    is_monotonic_broken: AtomicBool,
}

impl Clock for Fragile {
    fn now(&self) -> UnixTime {
        panic_if(&self.is_time_of_day_broken);
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        panic_if(&self.is_monotonic_broken);
        self.clock.monotonic()
    }
}

fn panic_if(broken: &AtomicBool) {
    if broken.load(Ordering::Relaxed) {
        // Unlike `panic!` it prints nothing.
        resume_unwind(Box::new("on purpose"));
    }
}

/// A service that has answered a request.
struct Running {
    run: JoinHandle<Result<(), String>>,
    clock: Arc<Fragile>,
    store: Store,
    stop: CancellationToken,
    _dir: TempDir,
}

impl Running {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = format!("NOT_MY_KEY={}", SealingKeys::generate().as_str());
        let settings = Settings::from_parts([], Some(&env)).unwrap();
        let config = Config::from_settings(&settings).unwrap();
        let store = Store::open(&dir.path().join("keys.db")).unwrap();
        let clock = Arc::new(Fragile {
            clock: ManualClock::new(START),
            is_time_of_day_broken: AtomicBool::default(),
            is_monotonic_broken: AtomicBool::default(),
        });
        let source = Arc::new(Stock::default());
        let app = App::new(config, store.clone(), Arc::clone(&clock) as _, source, 1).unwrap();
        let (state, stop) = (Arc::clone(&app.state), CancellationToken::new());
        let listeners = Listeners {
            service: listen("127.0.0.1", 0).unwrap(),
            metrics: Vec::new(),
        };
        let running = app.run(listeners, Supervision::default(), stop.clone());
        let run = tokio::spawn(async { running.await.map_err(|e| e.to_string()) });
        let path = "/.well-known/jwks.json";
        let reply = send_to(&state, "192.0.2.1", "GET", path, &[], "").await;
        assert_eq!(reply.status, 200);
        Self {
            run,
            clock,
            store,
            stop,
            _dir: dir,
        }
    }

    async fn ended(self) -> Result<(), String> {
        let limit = Duration::from_secs(60);
        let ended = tokio::time::timeout(limit, self.run).await;
        ended.unwrap().unwrap()
    }
}

#[tokio::test]
async fn without_a_key_rotation_the_service_ends_with_an_error() {
    let running = Running::start().await;
    running
        .clock
        .is_time_of_day_broken
        .store(true, Ordering::Relaxed);
    let error = running.ended().await.unwrap_err();
    assert!(error.contains("has ended unexpectedly"), "{error}");
}

#[tokio::test]
async fn without_the_sweeping_of_quotas_the_service_ends_with_an_error() {
    let running = Running::start().await;
    running
        .clock
        .is_monotonic_broken
        .store(true, Ordering::Relaxed);
    // Past the next sweep.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(15)).await;
    tokio::time::resume();
    let error = running.ended().await.unwrap_err();
    assert!(error.contains("has ended unexpectedly"), "{error}");
}

#[tokio::test]
async fn without_a_writer_of_the_database_the_service_ends_with_an_error() {
    let running = Running::start().await;
    running.store.clone().close().await;
    let error = running.ended().await.unwrap_err();
    assert!(error.contains("database"), "{error}");
}

#[tokio::test]
async fn a_service_that_is_told_to_stop_ends_without_an_error() {
    let running = Running::start().await;
    running.stop.cancel();
    assert_eq!(running.ended().await, Ok(()));
}
