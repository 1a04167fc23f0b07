//! A request, written as in HTTP/1.1 but for the line ends: the first line with
//! method and path, header lines, an empty line, the body.

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use jwks_server::app::App;
use jwks_server::clock::UnixTime;
use jwks_server::config::{Config, Settings};
use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::crypto::rsa::Rsa2048;
use jwks_server::http::client_addr::Peer;
use jwks_server::http::state::SharedState;
use jwks_server::store::Store;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::manual_clock::ManualClock;

/// The service with its keys, and with a database that is closed: a sign-in
/// ends there, before its password costs 20 ms.
struct Service {
    runtime: Runtime,
    clock: Arc<ManualClock>,
    state: SharedState,
    _dir: TempDir,
}

static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_800_000_000)));
    let state = runtime.block_on(async {
        let key = SealingKeys::generate();
        let env = format!(
            "NOT_MY_KEY={}\nISSUER=https://issuer.example/a\nAUTH_RATE=1000\nTRUSTED_PROXIES=127.0.0.0/8",
            key.as_str()
        );
        let settings = Settings::from_parts([], Some(&env)).unwrap();
        let config = Config::from_settings(&settings).unwrap();
        let store = Store::open(&dir.path().join("keys.db")).unwrap();
        let time = Arc::clone(&clock);
        let mut app = App::new(config, store.clone(), time, Arc::new(Rsa2048), 1).unwrap();
        app.rotation.tick().await.unwrap();
        store.close().await;
        app.state
    });
    Service {
        runtime,
        clock,
        state,
        _dir: dir,
    }
});

pub fn run(data: &[u8]) {
    let Some(request) = read(data) else { return };
    let service = &*SERVICE;
    // So that the quota lets it in, but keys stay what they are.
    service.clock.advance(Duration::from_millis(1));
    let _guard = service.runtime.enter();
    let peer = Peer(std::net::Ipv4Addr::LOCALHOST.into());
    let answer = pin!(jwks_server::http::service(&service.state).call(peer, request));
    // A request that is not answered at once waits for a password to be hashed: the
    // request was good, and is given up.
    match answer.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => check(response),
        Poll::Pending => {}
    }
}

fn check(response: Response<Body>) {
    let (head, body) = response.into_parts();
    let status = head.status.as_u16();
    let expected = [
        200, 204, 304, 400, 401, 403, 404, 405, 408, 412, 413, 415, 429, 431, 501, 503,
    ];
    assert!(expected.contains(&status), "{head:?}");
    assert_eq!(head.headers["x-content-type-options"], "nosniff");
    assert!(!head.headers.contains_key("server"));
    // A cache gives its copy to other clients, who have other ids.
    let caching = head.headers.get("cache-control");
    let is_kept = caching.is_some_and(|value| value.as_bytes().starts_with(b"public"));
    assert_eq!(head.headers.contains_key("x-request-id"), !is_kept);
    let body = pin!(body.collect());
    let Poll::Ready(Ok(body)) = body.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the body of {head:?} is not there");
    };
    let body = body.to_bytes();
    assert!(body.len() < 4096);
    if status >= 400 && !body.is_empty() {
        let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(error["error"].is_string(), "{error}");
    }
}

fn read(data: &[u8]) -> Option<Request<Body>> {
    let mut lines = data.split_inclusive(|&b| b == b'\n');
    let mut taken = 0;
    let first = lines.next()?;
    taken += first.len();
    let (method, path) = std::str::from_utf8(first)
        .ok()?
        .trim_end()
        .split_once(' ')?;
    let mut request = Request::builder()
        .method(method.parse::<Method>().ok()?)
        .uri(path.parse::<Uri>().ok()?);
    for line in lines {
        taken += line.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|&b| b == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    request.body(Body::from(data[taken..].to_vec())).ok()
}
