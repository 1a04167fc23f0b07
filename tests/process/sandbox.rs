//! `sandbox`: an issuer that does what a test asks of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use jwks_server::clock::{Clock as _, SystemClock, UnixTime};
use jwks_server::domain::verification::{Expectations, KeySet, cause, contents, verify};
use serde_json::{Value, json};

use crate::support::{Connection, JWKS, command};

struct Sandbox {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sandbox {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = command(dir.path());
        let command = command.args(["sandbox", "--port", "0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let addr = line
            .trim()
            .strip_prefix("http://")
            .unwrap()
            .parse()
            .unwrap();
        Self { child, addr }
    }

    fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut connection = Connection::open(self.addr);
        let reply = connection
            .try_send(method, path, &[], body.as_bytes())
            .unwrap();
        (
            reply.status,
            serde_json::from_str(&reply.text()).unwrap_or_default(),
        )
    }

    fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask("POST", path, body);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    fn token(&self, realm: &str, body: Value) -> String {
        let answer = self.post(&format!("/{realm}/sign"), body);
        answer["token"].as_str().unwrap().to_owned()
    }

    fn set(&self, realm: &str) -> (u16, Value) {
        self.ask("GET", &format!("/{realm}{JWKS}"), Value::Null)
    }

    /// True when a right verifier accepts the token by the set of this moment.
    fn is_good(&self, realm: &str, token: &str) -> bool {
        let (status, set) = self.set(realm);
        let expected = Expectations {
            issuer: Some(format!("http://{}/{realm}", self.addr)),
            audience: None,
            leeway: Duration::ZERO,
        };
        let now = SystemClock::new().now();
        let set = KeySet::parse(set.to_string().as_bytes());
        status == 200 && set.is_ok_and(|set| cause(&verify(token, &set, &expected, now)).is_none())
    }
}

#[test]
fn a_realm_signs_what_is_asked_and_knows_the_cases_of_the_trial() {
    let sandbox = Sandbox::start();
    let good = sandbox.token("a", json!({}));
    assert!(sandbox.is_good("a", &good));
    assert!(!sandbox.is_good("b", &good), "a realm has keys of its own");
    let asked = json!({"header": {"typ": "at+jwt"}, "claims": {"scope": "read", "aud": "api", "jti": null}});
    let (header, claims) = contents(&sandbox.token("a", asked)).unwrap();
    assert_eq!(
        (&header["typ"], &claims["scope"]),
        (&json!("at+jwt"), &json!("read"))
    );
    assert!(claims.get("jti").is_none());
    for fault in [
        "alg-none",
        "sig-stranger",
        "exp-past-1h",
        "iss-wrong",
        "jwk-embedded-es256",
    ] {
        let asked = json!({"fault": fault, "claims": {"aud": "api"}});
        assert!(!sandbox.is_good("a", &sandbox.token("a", asked)), "{fault}");
    }
    for (path, body) in [
        ("/a/sign", json!({"fault": "no-such"})),
        ("/a/sign", json!({"claim": {}})),
        ("/a/fault", json!({"fault": "no-such"})),
        ("/a/clock", json!({})),
        ("/a/rotate", json!({"alg": "HS256"})),
        ("/a.b/sign", json!({})),
    ] {
        let (status, answer) = sandbox.ask("POST", path, body);
        assert!(
            status == 400 && answer["error"].is_string(),
            "{path}: {answer}"
        );
    }
}

#[test]
fn keys_come_and_go_as_they_are_told_to() {
    let sandbox = Sandbox::start();
    let old = sandbox.token("a", json!({}));
    let signer = sandbox.post("/a/rotate", json!({}))["kid"].clone();
    let new = sandbox.token("a", json!({}));
    assert_eq!(contents(&new).unwrap().0["kid"], signer);
    assert!(sandbox.is_good("a", &old) && sandbox.is_good("a", &new));
    for (alg, kty) in [("ES256", "EC"), ("EdDSA", "OKP")] {
        let signer = sandbox.post("/a/rotate", json!({"alg": alg}))["kid"].clone();
        let (header, _) = contents(&sandbox.token("a", json!({}))).unwrap();
        assert_eq!((&header["alg"], &header["kid"]), (&json!(alg), &signer));
        let (_, set) = sandbox.set("a");
        let keys = set["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["kid"] == signer).unwrap();
        assert_eq!(key["kty"], kty);
    }
    sandbox.post("/a/rotate", json!({"alg": "RS256"}));
    assert!(sandbox.is_good("a", &new) && sandbox.is_good("a", &sandbox.token("a", json!({}))));
    sandbox.post("/a/emergency", Value::Null);
    assert!(!sandbox.is_good("a", &new), "all keys have left");
    assert_eq!(sandbox.set("a").1["keys"].as_array().unwrap().len(), 2);
    sandbox.post("/a/fault", json!({"fault": "stale"}));
    assert!(sandbox.is_good("a", &new), "the set from before");
}

#[test]
fn documents_have_the_headers_that_the_service_sends_them_with() {
    let sandbox = Sandbox::start();
    let get = |path: &str, known: &str| {
        let headers: &[_] = &[("If-None-Match", known)][..usize::from(!known.is_empty())];
        let mut connection = Connection::open(sandbox.addr);
        connection.try_send("GET", path, headers, b"").unwrap()
    };
    for path in [
        format!("/a{JWKS}"),
        "/a/.well-known/openid-configuration".to_owned(),
        "/.well-known/oauth-authorization-server/a".to_owned(),
    ] {
        let whole = get(&path, "");
        let header = |name| whole.header(name);
        assert_eq!(header("access-control-allow-origin"), "*", "{path}");
        assert_eq!(header("cache-control"), "public, max-age=300", "{path}");
        let etag = header("etag");
        assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
        for known in [etag, &format!("\"x\", W/{etag}"), "*"] {
            let same = get(&path, known);
            assert_eq!((same.status, &same.body[..]), (304, &b""[..]), "{known}");
            assert_eq!(same.header("etag"), etag);
        }
        assert_eq!(get(&path, "\"x\"").status, 200);
    }
    let etag = get(&format!("/a{JWKS}"), "").header("etag").to_owned();
    sandbox.post("/a/rotate", json!({}));
    assert_eq!(get(&format!("/a{JWKS}"), &etag).status, 200, "another set");
    sandbox.post("/a/fault", json!({"fault": "500"}));
    let failed = get(&format!("/a{JWKS}"), "*");
    assert_eq!(failed.status, 500);
    assert_eq!(failed.header("cache-control"), "no-store");
}

#[test]
fn a_page_cannot_reach_a_realm_by_a_name_of_its_own() {
    let sandbox = Sandbox::start();
    let path = format!("/a{JWKS}");
    let port = sandbox.addr.port();
    for (host, expected) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("LocalHost:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        (format!("rebound.example:{port}"), 421),
        ("127.0.0.1.example".to_owned(), 421),
        ("\u{e9}".to_owned(), 421),
    ] {
        let mut stream = std::net::TcpStream::connect(sandbox.addr).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{host}: {answer}"
        );
    }
}

#[test]
fn a_page_of_another_site_is_refused_whatever_it_asks_for() {
    let sandbox = Sandbox::start();
    let send = |method: &str, path: &str, header| {
        let mut connection = Connection::open(sandbox.addr);
        let reply = connection.try_send(method, path, &[header], b"");
        reply.unwrap().status
    };
    for (header, expected) in [
        (("Origin", "https://page.example"), 403),
        (("Origin", "null"), 403),
        (("Origin", "http://localhost:3000"), 200),
        (("Sec-Fetch-Site", "cross-site"), 403),
        (("Sec-Fetch-Site", "same-site"), 200),
        (("Sec-Fetch-Site", "same-origin"), 200),
        (("Sec-Fetch-Site", "none"), 200),
    ] {
        let document = format!("/a{JWKS}");
        let statuses = [("POST", "/a/fault"), ("DELETE", "/a"), ("GET", &document)]
            .map(|(method, path)| send(method, path, header));
        assert_eq!(statuses, [expected; 3], "{header:?}");
    }
}

#[test]
fn a_clock_at_the_end_of_time_breaks_nothing() {
    let sandbox = Sandbox::start();
    sandbox.post("/a/clock", json!({"now": i64::MAX}));
    let token = sandbox.token("a", json!({"fault": "nbf-ahead-1h"}));
    let (_, claims) = contents(&token).unwrap();
    assert_eq!(claims["nbf"], i64::MAX);
    sandbox.post("/a/clock", json!({"now": i64::MIN}));
    for path in ["/a/sign", "/a/rotate", "/a/emergency"] {
        sandbox.post(path, Value::Null);
    }
}

#[test]
fn a_fault_of_the_key_set_lasts_as_long_as_it_was_told_to() {
    let sandbox = Sandbox::start();
    sandbox.post("/a/fault", json!({"fault": "500", "times": 2}));
    let statuses = [0; 3].map(|_| sandbox.set("a").0);
    assert_eq!(statuses, [500, 500, 200]);
    sandbox.post("/a/fault", json!({"fault": "set-empty"}));
    assert_eq!(sandbox.set("a").1, json!({"keys": []}));
    assert_eq!(sandbox.set("a").1, json!({"keys": []}));
    sandbox.post("/a/fault", json!({}));
    assert_eq!(sandbox.set("a").1["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn the_clock_of_a_realm_moves_by_request_and_its_old_keys_leave_in_time() {
    let sandbox = Sandbox::start();
    sandbox.token("a", json!({}));
    sandbox.post("/a/rotate", json!({}));
    assert_eq!(sandbox.set("a").1["keys"].as_array().unwrap().len(), 3);
    let before = SystemClock::new().now() + Duration::from_secs(3600);
    let now = sandbox.post("/a/clock", json!({"advance": 3600}))["now"].as_i64();
    assert!(UnixTime::from_secs(now.unwrap()) >= before);
    assert_eq!(sandbox.set("a").1["keys"].as_array().unwrap().len(), 2);
    sandbox.post("/a/clock", json!({"now": 1_000_000_000}));
    let (_, claims) = contents(&sandbox.token("a", json!({}))).unwrap();
    let iat = claims["iat"].as_i64().unwrap();
    assert!((1_000_000_000..1_000_000_060).contains(&iat), "{iat}");
    let (_, claims) = contents(&sandbox.token("b", json!({}))).unwrap();
    assert!(
        claims["iat"].as_i64().unwrap() > 1_700_000_000,
        "a clock of its own"
    );
}

#[test]
fn requests_for_documents_are_listed_until_they_are_forgotten() {
    let sandbox = Sandbox::start();
    sandbox.set("a");
    sandbox.ask("GET", "/a/.well-known/openid-configuration", Value::Null);
    sandbox.ask("GET", "/a/elsewhere/jwks.json", Value::Null);
    let listed = |realm: &str| {
        let (_, answer) = sandbox.ask("GET", &format!("/{realm}/requests"), Value::Null);
        let requests = answer["requests"].as_array().unwrap().clone();
        requests
            .iter()
            .map(|it| it["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let documents = [
        JWKS,
        "/.well-known/openid-configuration",
        "/elsewhere/jwks.json",
    ];
    assert_eq!(listed("a"), documents);
    assert!(listed("b").is_empty());
    sandbox.ask("DELETE", "/a/requests", Value::Null);
    assert!(listed("a").is_empty());
    let (_, document) = sandbox.ask(
        "GET",
        "/.well-known/oauth-authorization-server/a",
        Value::Null,
    );
    assert_eq!(document["issuer"], format!("http://{}/a", sandbox.addr));
    let kid = sandbox.set("a").1["keys"][0]["kid"].clone();
    sandbox.ask("DELETE", "/a", Value::Null);
    assert_ne!(
        sandbox.set("a").1["keys"][0]["kid"],
        kid,
        "a realm of the same name is new"
    );
}

#[test]
fn the_description_has_each_path_and_each_path_answers() {
    let sandbox = Sandbox::start();
    let (_, description) = sandbox.ask("GET", "/openapi.json", Value::Null);
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 10);
    for (path, item) in paths {
        for method in item
            .as_object()
            .unwrap()
            .keys()
            .filter(|it| *it != "parameters")
        {
            let path = path.replace("{realm}", "a");
            let body = if path == "/a/clock" {
                json!({"advance": 0})
            } else {
                Value::Null
            };
            let (status, _) = sandbox.ask(&method.to_uppercase(), &path, body);
            assert_eq!(status, 200, "{method} {path}");
        }
    }
    assert_eq!(sandbox.ask("GET", "/a/other", Value::Null).0, 404);
    assert_eq!(sandbox.ask("PUT", "/a/sign", Value::Null).0, 404);
}

#[test]
fn realms_and_requests_have_a_limit() {
    let sandbox = Sandbox::start();
    // Names alone, as a realm has no keys before something is asked of it that needs them.
    let mut connection = Connection::open(sandbox.addr);
    for _ in 0..1001 {
        assert_eq!(
            connection
                .try_send("GET", &format!("/a{JWKS}"), &[], b"")
                .unwrap()
                .status,
            200
        );
    }
    let (_, answer) = sandbox.ask("GET", "/a/requests", Value::Null);
    assert_eq!(answer["requests"].as_array().unwrap().len(), 1000);
    assert_eq!(answer["forgotten"], 1);
    let large = vec![b' '; 300 * 1024];
    let mut connection = Connection::open(sandbox.addr);
    let reply = connection.try_send("POST", "/a/sign", &[], &large);
    assert!(reply.is_none_or(|reply| reply.status == 413));
}
