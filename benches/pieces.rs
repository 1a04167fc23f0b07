//! The pieces of a request, each by itself: `cargo bench`. The whole, beside
//! what it is compared with, is measured by `benches/run.py`.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should stop"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use jwks_server::app::App;
use jwks_server::clock::{Clock, SystemClock};
use jwks_server::config::{Config, Settings};
use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::crypto::rsa::Rsa2048;
use jwks_server::domain::key_ring::KeyRing;
use jwks_server::domain::tokens::TokenKind;
use jwks_server::http::client_addr::{ClientAddr, Peer};
use jwks_server::metrics::RequestMetrics;
use jwks_server::store::{NewAccountRow, SignInRecord, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Tokens and sign-ins that are on their way at once.
const AT_ONCE: usize = 32;

struct Bench {
    app: App,
    store: Store,
    sealing_keys: Arc<SealingKeys>,
    clock: Arc<dyn Clock>,
    /// One thread for requests and one for signatures.
    runtime: Runtime,
    /// Removed with its database when the benchmark ends.
    _dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let key = SealingKeys::generate();
        let env = format!("NOT_MY_KEY={}\nAUTH_RATE=1000\n", key.as_str());
        let settings = Settings::from_parts([], Some(&env)).unwrap();
        let config = Config::from_settings(&settings).unwrap();
        let sealing_keys = Arc::clone(&config.keys.sealing_keys);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (app, store) = runtime.block_on(async {
            let store = Store::open(&dir.path().join("keys.db")).unwrap();
            let source = Arc::new(Rsa2048);
            let mut app = App::new(config, store.clone(), Arc::clone(&clock), source, 1).unwrap();
            app.rotation.tick().await.unwrap();
            (app, store)
        });
        Self {
            app,
            store,
            sealing_keys,
            clock,
            runtime,
            _dir: dir,
        }
    }

    /// Closes the database, which needs the runtime.
    fn end(self) {
        let _entered = self.runtime.enter();
        drop((self.app, self.store));
    }
}

fn limiter(c: &mut Criterion) {
    let bench = Bench::new();
    let quota = &bench.app.state.auth_quota;
    let mut group = c.benchmark_group("limiter");
    for clients in [1u32, 100_000] {
        let mut n = 0u32;
        group.bench_function(format!("decision, {clients} clients"), |b| {
            b.iter(|| {
                n = (n + 1) % clients;
                let addr = Ipv4Addr::from(0x0a00_0000 + n);
                black_box(quota.admit(ClientAddr(IpAddr::V4(addr))))
            });
        });
    }
    group.finish();
    bench.end();
}

fn requests(c: &mut Criterion) {
    let bench = Bench::new();
    let service = jwks_server::http::service(&bench.app.state);
    let peer = Peer(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let send = |method: &str, path: &str, body: &'static str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let answer = service.call(peer, request);
        bench.runtime.block_on(answer).unwrap()
    };
    let mut group = c.benchmark_group("request");
    group.bench_function("key set", |b| {
        b.iter(|| black_box(send("GET", "/.well-known/jwks.json", "")));
    });
    // Refused after the last field was read, so the body is what is measured.
    let body =
        r#"{"username":"alice","password":"f5e750ff-ebd1-44ce-a0d8-f13dffb7fc75","email":7}"#;
    group.bench_function("body parsed and refused", |b| {
        b.iter(|| black_box(send("POST", "/register", body)));
    });
    group.finish();
    drop(service);
    bench.end();
}

/// One answer counted: the families' look-ups and the histogram's lock. Beside
/// "request/key set" it tells the metrics' share of that request.
fn metrics(c: &mut Criterion) {
    let http = RequestMetrics::default();
    let took = Duration::from_micros(20);
    c.benchmark_group("metrics")
        .bench_function("an answer of the key set", |b| {
            b.iter(|| http.answered(black_box("/.well-known/jwks.json"), "GET", 200, took));
        });
}

fn tokens(c: &mut Criterion) {
    let bench = Bench::new();
    let tokens = &bench.app.state.sign_in.tokens;
    let mut group = c.benchmark_group("token");
    group.throughput(Throughput::Elements(AT_ONCE as u64));
    group.bench_function("made and signed", |b| {
        b.iter(|| {
            bench.runtime.block_on(async {
                let one = || tokens.issue(TokenKind::Live, "alice".to_owned(), &*bench.clock);
                black_box(join_all((0..AT_ONCE).map(|_| one())).await)
            })
        });
    });
    group.finish();
    bench.end();
}

fn snapshots(c: &mut Criterion) {
    let bench = Bench::new();
    let rows = bench
        .runtime
        .block_on(bench.store.keys_at(bench.clock.now(), 1))
        .unwrap()
        .rows;
    let mut group = c.benchmark_group("snapshot");
    group.bench_function("load, all keys new", |b| {
        b.iter_batched(
            || (KeyRing::default(), rows.clone()),
            |(ring, rows)| black_box(ring.load(rows, Vec::new(), &bench.sealing_keys)),
            BatchSize::SmallInput,
        );
    });
    let ring = KeyRing::default();
    ring.load(rows.clone(), Vec::new(), &bench.sealing_keys);
    group.bench_function("load, nothing new", |b| {
        b.iter_batched(
            || rows.clone(),
            |rows| black_box(ring.load(rows, Vec::new(), &bench.sealing_keys)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("published set", |b| {
        b.iter(|| black_box(ring.snapshot().published(bench.clock.now()).is_some()));
    });
    group.finish();
    bench.end();
}

fn commits(c: &mut Criterion) {
    let bench = Bench::new();
    let account = bench.runtime.block_on(async {
        let row = NewAccountRow {
            username: "alice".to_owned(),
            email: None,
            password_hash: "-".to_owned(),
        };
        bench
            .store
            .insert_account(row, bench.clock.now())
            .await
            .unwrap();
        let found = bench
            .store
            .account_by_name("alice".to_owned(), "alice".to_owned())
            .await
            .unwrap();
        found.unwrap().id
    });
    let mut group = c.benchmark_group("commit");
    for at_once in [1, AT_ONCE] {
        group.throughput(Throughput::Elements(at_once as u64));
        group.bench_function(format!("{at_once} sign-ins at once"), |b| {
            b.iter(|| {
                bench.runtime.block_on(async {
                    let one = || {
                        bench.store.record_sign_in(SignInRecord {
                            account,
                            username: "alice".to_owned(),
                            password_hash: "-".to_owned(),
                            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                            at: bench.clock.now(),
                            new_hash: None,
                            first_use: None,
                            withdraw: None,
                        })
                    };
                    black_box(join_all((0..at_once).map(|_| one())).await)
                })
            });
        });
    }
    group.finish();
    bench.end();
}

criterion_group! {
    name = pieces;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = limiter, requests, metrics, tokens, snapshots, commits
}
criterion_main!(pieces);
