//! `TestApp`: the service as the binary wires it, without sockets. Requests
//! carry the peer address that the server would put there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt as _;
use jwks_server::app::App;
use jwks_server::clock::{Clock as _, UnixTime};
use jwks_server::config::{Config, Settings};
use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::crypto::rsa::{KeyError, KeySource, PrivateKey, Rsa2048};
use jwks_server::domain::database::Location;
use jwks_server::domain::rotation::Rotation;
use jwks_server::http::client_addr::Peer;
use jwks_server::http::state::SharedState;
use jwks_server::store::Store;
use serde_json::Value;
use tempfile::TempDir;

use crate::empty_database::EMPTY;
use crate::manual_clock::ManualClock;

/// Start of test time: 2027-01-15T08:00:00Z.
pub const START: UnixTime = UnixTime::from_secs(1_800_000_000);
pub const JSON: (&str, &str) = ("content-type", "application/json");
pub const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Keys from a stock that all tests of the process share: each app takes them
/// in the same order, so only the longest-lived one has to make some. Within
/// one database no key comes twice.
#[derive(Default)]
pub struct Stock {
    taken: AtomicUsize,
}

impl Stock {
    /// Leaves out the next keys of the stock.
    pub fn skip(&self, keys: usize) {
        self.taken.fetch_add(keys, Ordering::Relaxed);
    }
}

impl KeySource for Stock {
    fn generate(&self) -> Result<PrivateKey, KeyError> {
        static MADE: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);
        let n = self.taken.fetch_add(1, Ordering::Relaxed);
        let mut made = MADE.lock().unwrap();
        while made.len() <= n {
            made.push(Rsa2048.generate()?.to_pem().to_string());
        }
        PrivateKey::from_pem(made[n].as_bytes())
    }
}

pub struct TestApp {
    pub clock: Arc<ManualClock>,
    pub state: SharedState,
    pub rotation: Rotation,
    pub sealing_keys: Arc<SealingKeys>,
    pub store: Store,
    pub stock: Arc<Stock>,
    dir: TempDir,
}

impl TestApp {
    /// A new database at [`START`], after its first tick.
    pub async fn start() -> Self {
        Self::with_settings("").await
    }

    /// The same with more lines for `.env`.
    pub async fn with_settings(env: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("keys.db"), &*EMPTY).unwrap();
        let mut app = Self::without_keys(dir, env);
        app.rotate().await;
        app
    }

    /// Over the database `keys.db` of `dir`, whose `.env` is made when it is
    /// missing, before any tick.
    pub fn without_keys(dir: TempDir, env: &str) -> Self {
        Self::at(dir, env, Arc::new(ManualClock::new(START)))
    }

    /// The same with a clock that other apps may share.
    pub fn at(dir: TempDir, env: &str, clock: Arc<ManualClock>) -> Self {
        crate::log::install();
        let key_file = dir.path().join("key");
        if !key_file.exists() {
            std::fs::write(&key_file, SealingKeys::generate().as_str()).unwrap();
        }
        let key = std::fs::read_to_string(&key_file).unwrap();
        // Most tests sign up as many as they need in one moment.
        let text = format!("NOT_MY_KEY={key}\nREGISTER_RATE=1000\n{env}\n");
        let settings = Settings::from_parts([], Some(&text));
        let config = Config::from_settings(&settings.unwrap()).unwrap();
        let sealing_keys = Arc::clone(&config.keys.sealing_keys);
        let store = Store::open(&dir.path().join("keys.db")).unwrap();
        let source = Arc::new(Stock::default());
        let stock = Arc::clone(&source);
        let app = App::new(config, store.clone(), Arc::clone(&clock) as _, source, 2).unwrap();
        Self {
            stock,
            clock,
            state: app.state,
            rotation: app.rotation,
            sealing_keys,
            store,
            dir,
        }
    }

    /// Ends the service as a clean stop does and hands over its folder.
    pub async fn stop(self) -> TempDir {
        self.store.close().await;
        self.dir
    }

    /// Stops it and starts it again on the same database, at the same moment.
    pub async fn restart(self) -> Self {
        let clock = Arc::clone(&self.clock);
        let taken = self.stock.taken.load(Ordering::Relaxed);
        let mut app = Self::at(self.stop().await, "", clock);
        app.stock.skip(taken);
        app.rotate().await;
        app
    }

    pub fn location(&self) -> Location {
        Location::Sqlite(self.database())
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("keys.db")
    }

    /// Another program's connection to the database.
    pub fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.database()).unwrap()
    }

    /// The rows of a query as text, the way the `sqlite3` program prints them:
    /// columns parted by `|`, NULL as nothing.
    pub fn rows(&self, query: &str) -> Vec<String> {
        let sql = self.sql();
        let mut query = sql.prepare(query).unwrap();
        let columns = query.column_count();
        let rows = query.query_map([], |row| {
            let values = (0..columns).map(|i| row.get(i).map(text));
            Ok(values.collect::<Result<Vec<_>, _>>()?.join("|"))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// Changes the database as another program would.
    pub fn execute(&self, statements: &str) {
        self.sql().execute_batch(statements).unwrap();
    }

    pub async fn rotate(&mut self) -> UnixTime {
        self.rotation.tick().await.unwrap()
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Sends a request from 192.0.2.1.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        self.send_from("192.0.2.1", method, path, headers, body)
            .await
    }

    pub async fn send_from(
        &self,
        peer: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        send_to(&self.state, peer, method, path, headers, body).await
    }

    pub async fn key_set(&self) -> Reply {
        self.send("GET", "/.well-known/jwks.json", &[], "").await
    }

    /// The kids in the key set, in its order.
    pub async fn published_kids(&self) -> Vec<String> {
        let set = self.key_set().await.json();
        let keys = set["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Registers a name and returns the password.
    pub async fn register(&self, name: &str) -> String {
        let body = format!(r#"{{"username":"{name}","email":"{name}@example.com"}}"#);
        let reply = self.send("POST", "/register", &[JSON], body).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
        reply.json()["password"].as_str().unwrap().to_owned()
    }

    pub async fn sign_in(&self, path: &str, name: &str, password: &str) -> Reply {
        let body = serde_json::json!({"username": name, "password": password});
        self.send("POST", path, &[JSON], body.to_string()).await
    }

    /// Signs in at `path`, which must work, and returns the token.
    pub async fn token(&self, path: &str, name: &str, password: &str) -> Token {
        let reply = self.sign_in(path, name, password).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        Token(reply.json()["token"].as_str().unwrap().to_owned())
    }
}

/// [`TestApp::send_from`] while the rest of the app is in use.
pub async fn send_to(
    state: &SharedState,
    peer: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let peer = Peer(peer.parse().unwrap());
    let request = request.body(body.into()).unwrap();
    let answered = jwks_server::http::service(state).call(peer, request);
    let Ok(response) = answered.await;
    Reply::read(response).await
}

/// Sends a request to the listener for metrics.
pub async fn send_to_metrics(state: &SharedState, method: &str, path: &str) -> Reply {
    let request = Request::builder().method(method).uri(path);
    let service = jwks_server::http::metrics_service(Arc::clone(state), true);
    let request = request.body(Body::empty()).unwrap();
    let peer = Peer([127, 0, 0, 1].into());
    let Ok(response) = service.call(peer, request).await;
    Reply::read(response).await
}

/// The page of metrics.
pub async fn metrics(state: &SharedState) -> String {
    send_to_metrics(state, "GET", "/metrics").await.text()
}

fn text(value: rusqlite::types::Value) -> String {
    use rusqlite::types::Value;
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text,
        Value::Blob(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    async fn read(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The text of an error, which must be JSON with one member.
    #[track_caller]
    pub fn error(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json");
        let json = self.json();
        let members = json.as_object().unwrap();
        assert_eq!(members.len(), 1, "{json}");
        members["error"].as_str().unwrap().to_owned()
    }
}

pub struct Token(pub String);

impl Token {
    pub fn header(&self) -> Value {
        self.part(0)
    }

    pub fn claims(&self) -> Value {
        self.part(1)
    }

    pub fn kid(&self) -> String {
        self.header()["kid"].as_str().unwrap().to_owned()
    }

    pub fn time(&self, claim: &str) -> UnixTime {
        UnixTime::from_secs(self.claims()[claim].as_i64().unwrap())
    }

    /// True when the signature is good under the key that the set names.
    pub fn verifies_against(&self, set: &Value) -> bool {
        let kid = self.kid();
        let key = set["keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|k| k["kid"] == kid.as_str());
        key.is_some_and(|key| {
            self.is_signed_by(key["n"].as_str().unwrap(), key["e"].as_str().unwrap())
        })
    }

    pub fn is_signed_by(&self, n: &str, e: &str) -> bool {
        let key = jsonwebtoken::DecodingKey::from_rsa_components(n, e).unwrap();
        let (message, signature) = self.0.rsplit_once('.').unwrap();
        let rs256 = jsonwebtoken::Algorithm::RS256;
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, rs256).unwrap()
    }

    fn part(&self, n: usize) -> Value {
        let part = self.0.split('.').nth(n).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }
}
