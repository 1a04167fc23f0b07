//! `check` on this service and on servers whose faults are known.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::left_out::left_out;
use crate::support::{JWKS, PATIENCE, Server, command, folder, outer_address, own_address};

const EC_X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
const EC_Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
const FINE: [(&str, &str); 4] = [
    ("Content-Type", "application/json"),
    ("Cache-Control", "public, max-age=300"),
    ("Access-Control-Allow-Origin", "*"),
    ("ETag", "\"1\""),
];

/// Exit code, and the findings of `--json` as lines.
fn check(args: &[&str]) -> (Option<i32>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path());
    let done = command.arg("check").args(args).arg("--json").output();
    let done = done.unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
    let line = |it: &Value| format!("{} {}: {}", it["result"], it["check"], it["found"]);
    let findings = report["findings"].as_array().into_iter().flatten();
    let lines = findings.map(|it| line(it).replace('"', "")).collect();
    (done.status.code(), lines)
}

fn failures(lines: &[String]) -> Vec<&String> {
    let failed = lines.iter().filter(|it| it.starts_with("fail "));
    failed.collect()
}

type Answer = (u16, Vec<(&'static str, String)>, String);

/// The authority of a server that answers by what `answer` makes of each request.
fn server(
    listener: TcpListener,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> String {
    let addr = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                let mut head = String::new();
                let mut reader = BufReader::new(&stream);
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap_or(0) == 0 {
                        return;
                    }
                }
                let (status, headers, body) = answer(&head);
                let mut text = format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
                for (name, value) in headers {
                    text += &format!("{name}: {value}\r\n");
                }
                let has_body = !head.starts_with("HEAD ") && status != 304;
                text += &format!("Content-Length: {}\r\n\r\n", body.len());
                let _ = (&stream).write_all(text.as_bytes());
                if has_body {
                    let _ = (&stream).write_all(body.as_bytes());
                }
            });
        }
    });
    addr
}

fn local() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Serves a key set as it should be served.
fn fine(head: &str, body: &str) -> Answer {
    let status = if head.contains("if-none-match") {
        304
    } else {
        200
    };
    let headers = FINE.map(|(name, value)| (name, value.to_owned())).to_vec();
    let body = if status == 304 { "" } else { body };
    (status, headers, body.to_owned())
}

fn rsa() -> Value {
    let n = format!("v{}w", "A".repeat(340));
    json!({"kty": "RSA", "kid": "a", "use": "sig", "alg": "RS256", "n": n, "e": "AQAB"})
}

fn with(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

#[test]
fn the_service_itself_has_no_finding() {
    let host = own_address().to_string();
    let issuer = format!("http://{host}:8791");
    let dir = folder(&format!("ISSUER={issuer}\nHOST={host}"));
    let server = Server::start_command(command(dir.path()).env("PORT", "8791"));
    let name = format!("user-{}", uuid::Uuid::new_v4());
    let password = server.register(&name);
    let token = server.sign_in("/auth", &name, &password).json()["token"].clone();
    for url in [issuer.clone(), format!("{issuer}{JWKS}")] {
        let (code, lines) = check(&[&url, "--token", token.as_str().unwrap()]);
        assert_eq!(code, Some(0), "{lines:#?}");
        assert!(lines.iter().all(|it| it.starts_with("ok ")), "{lines:#?}");
        assert!(lines.len() >= 9, "{lines:#?}");
        let last = "ok token: its key is in the set and verifies it";
        assert_eq!(lines.last().unwrap(), last);
    }
    let expired = server.sign_in("/auth?expired", &name, &password).json()["token"].clone();
    let (code, lines) = check(&[&issuer, "--token", expired.as_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(
        lines.last().unwrap().starts_with("fail token: unknown key"),
        "{lines:#?}"
    );
}

#[test]
fn each_fault_of_a_document_is_named() {
    let ec = json!({"kty": "EC", "kid": "e", "use": "sig", "alg": "ES256", "crv": "P-256", "x": EC_X, "y": EC_Y});
    let set = |keys: Value| json!({ "keys": keys }).to_string();
    let one = |key: Value| set(json!([key]));
    let many: Vec<_> = (0..101)
        .map(|n| with(rsa(), "kid", n.to_string().into()))
        .collect();
    for (body, expected) in [
        (one(rsa()), "ok document: 1 keys"),
        (set(json!([rsa(), ec])), "ok verifiers"),
        ("<html>".to_owned(), "fail document: it is not JSON"),
        ("[]".to_owned(), "fail document: it is not a JSON object"),
        (set(json!([])), "fail document: the set has no key"),
        (set(json!([1])), "fail document: 1 entries are no objects"),
        (one(with(rsa(), "d", "AQAB".into())), "fail secrets"),
        (
            set(json!([rsa(), {"kty": "oct", "kid": "o", "k": "AQAB"}])),
            "fail secrets",
        ),
        (
            one(with(rsa(), "kid", 1.into())),
            "fail kid: key number 1: kid is not a string",
        ),
        (one(with(rsa(), "kid", Value::Null)), "fail kid"),
        (set(json!([rsa(), rsa()])), "warn kid: 2 keys have the kid"),
        (
            one(with(rsa(), "n", "AQAB".into())),
            "fail numbers: key \\a\\: n has 17 bits",
        ),
        (
            one(with(rsa(), "n", "AQ==".into())),
            "fail numbers: key \\a\\: n is not base64url",
        ),
        (
            one(with(
                rsa(),
                "n",
                format!("AA{}", rsa()["n"].as_str().unwrap()).into(),
            )),
            "fail numbers",
        ),
        (
            one(with(rsa(), "e", "AQAC".into())),
            "fail numbers: key \\a\\: e must be odd",
        ),
        (
            one(with(ec.clone(), "y", EC_X.into())),
            "fail numbers: key \\e\\: the point is not on its curve",
        ),
        (
            one(with(ec.clone(), "x", "AQAB".into())),
            "fail numbers: key \\e\\: x and y must have 32 bytes",
        ),
        (
            one(with(rsa(), "alg", "ES256".into())),
            "fail use: key \\a\\: alg \\ES256\\ is not",
        ),
        (one(with(rsa(), "use", "xyz".into())), "fail use"),
        (
            one(with(rsa(), "key_ops", json!(["encrypt"]))),
            "fail use: key \\a\\: key_ops do not have verify",
        ),
        (
            one(with(
                with(rsa(), "use", "enc".into()),
                "key_ops",
                json!(["verify"]),
            )),
            "fail use: key \\a\\: key_ops have verify, and use is enc",
        ),
        (
            one(with(rsa(), "key_ops", json!(["verify", "verify"]))),
            "fail use: key \\a\\: key_ops has an operation twice",
        ),
        (
            set(json!([ec, rsa()])),
            "warn verifiers: a key of another kty before",
        ),
        (
            set(json!([rsa(), {"kty": "XYZ", "kid": "x", "use": "sig", "alg": "XY"}])),
            "warn verifiers: a key of an unknown kty",
        ),
        (set(json!(many)), "warn verifiers: 101 keys"),
        (
            one(with(rsa(), "x5c", "x".repeat(60_000).into())),
            "warn verifiers: 6",
        ),
    ] {
        let served = body.clone();
        let addr = server(local(), move |head| fine(head, &served));
        let (code, lines) = check(&[&format!("http://{addr}/jwks")]);
        assert!(
            lines.iter().any(|it| it.starts_with(expected)),
            "{expected}: {lines:#?}"
        );
        let fails = lines.iter().any(|it| it.starts_with("fail "));
        assert_eq!(code, Some(i32::from(fails)), "{lines:#?}");
    }
}

#[test]
fn each_fault_of_a_server_is_named() {
    let set = json!({ "keys": [rsa()] }).to_string();
    let header = |name: &'static str, value: &'static str| {
        move |mut answer: Answer| {
            answer.1.retain(|(it, _)| *it != name);
            if !value.is_empty() {
                answer.1.push((name, value.to_owned()));
            }
            answer
        }
    };
    type Change = Box<dyn Fn(Answer) -> Answer + Send + Sync>;
    let cases: Vec<(Change, &str)> = vec![
        (
            Box::new(header("Content-Type", "text/html")),
            "warn content type",
        ),
        (
            Box::new(header("Access-Control-Allow-Origin", "")),
            "warn CORS",
        ),
        (
            Box::new(header("Cache-Control", "")),
            "warn caching: Cache-Control is",
        ),
        (
            Box::new(header("Cache-Control", "max-age=604800")),
            "warn caching: max-age is 604800 s",
        ),
        (
            Box::new(header("ETag", "W/\"1\"")),
            "ok caching: If-None-Match gets 304",
        ),
        (Box::new(header("ETag", "")), "warn caching: no ETag"),
        (
            Box::new(|(_, headers, body)| (200, headers, body)),
            "warn caching: If-None-Match gets status 200",
        ),
        (
            Box::new(|(_, headers, body)| (500, headers, body)),
            "fail http",
        ),
        (
            Box::new(|(_, mut headers, body)| {
                headers.push(("Location", "http://127.0.0.1:1/".to_owned()));
                (302, headers, body)
            }),
            "fail http",
        ),
    ];
    for (change, expected) in cases {
        let set = set.clone();
        let addr = server(local(), move |head| change(fine(head, &set)));
        let (_, lines) = check(&[&format!("http://{addr}/jwks")]);
        assert!(
            lines.iter().any(|it| it.starts_with(expected)),
            "{expected}: {lines:#?}"
        );
    }
    let (code, lines) = check(&["http://127.0.0.1:1/jwks"]);
    assert!(
        code == Some(1) && lines[0].starts_with("fail http"),
        "{lines:#?}"
    );
    assert_eq!(check(&["jwks.json"]).0, Some(2));
}

#[test]
fn an_issuer_is_what_its_documents_say() {
    let listener = local();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (key_set, url) = (format!("{base}/jwks"), base.clone());
    server(listener, move |head| {
        let path = head.split(' ').nth(1).unwrap();
        let issuer = match path {
            "/jwks" => return fine(head, &json!({ "keys": [rsa()] }).to_string()),
            "/.well-known/openid-configuration" => url.clone(),
            "/.well-known/oauth-authorization-server" => format!("{url}/"),
            _ => return (404, vec![], String::new()),
        };
        fine(
            head,
            &json!({"issuer": issuer, "jwks_uri": key_set}).to_string(),
        )
    });
    let (code, lines) = check(&[&base]);
    assert_eq!(code, Some(1), "{lines:#?}");
    let discovery: Vec<_> = lines
        .iter()
        .filter(|it| it.contains(" discovery: "))
        .collect();
    assert_eq!(discovery.len(), 3, "{lines:#?}");
    assert!(discovery[0].starts_with("ok ") && discovery[1].starts_with("fail "));
    assert!(discovery[2].ends_with("the two documents have different issuers or key sets"));
    assert!(
        lines.iter().any(|it| it.starts_with("ok document")),
        "{lines:#?}"
    );
}

#[test]
fn when_the_documents_name_no_key_set_nothing_else_is_asked() {
    let listener = local();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let issuer = base.clone();
    server(listener, move |head| {
        match head.contains("GET /.well-known/") {
            true => fine(head, &json!({ "issuer": issuer }).to_string()),
            false => (404, vec![], String::new()),
        }
    });
    let (code, lines) = check(&[&base]);
    assert_eq!(code, Some(1), "{lines:#?}");
    let path = "/.well-known/openid-configuration";
    let expected = format!("fail discovery: {base}{path} names no jwks_uri");
    assert_eq!(failures(&lines), [&expected]);
}

#[test]
fn a_document_from_elsewhere_sends_no_request_to_this_machine() {
    let Some(ip) = outer_address() else {
        return left_out("a jwks_uri on this machine", "there is no other address");
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let inner = server(local(), move |head| {
        count.fetch_add(1, Ordering::Relaxed);
        fine(head, &json!({ "keys": [rsa()] }).to_string())
    });
    let port = inner.rsplit(':').next().unwrap();
    for host in ["0.0.0.0", "[::ffff:127.0.0.1]", "127.1", "127.0.0.1"] {
        let uri = format!("http://{host}:{port}/jwks");
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let issuer = base.clone();
        server(listener, move |head| match head.contains("/.well-known/") {
            true => {
                let document = json!({"issuer": issuer, "jwks_uri": uri});
                fine(head, &document.to_string())
            }
            false => (404, vec![], String::new()),
        });
        let (code, lines) = check(&[&base]);
        assert_eq!(code, Some(1), "{lines:#?}");
        let document = format!("{base}/.well-known/openid-configuration");
        let why = "has a jwks_uri on the machine of whoever reads it";
        let expected = format!("fail discovery: {document} {why}");
        assert_eq!(failures(&lines), [&expected], "{host}");
        assert_eq!(asked.load(Ordering::Relaxed), 0, "{host}");
    }
}

#[test]
fn a_watch_names_a_key_that_signs_too_early_one_that_leaves_too_soon_and_an_empty_set() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let (path, looks) = (file.clone(), AtomicUsize::new(0));
    let text = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // The other checks ask five times before the first look.
    let addr = server(local(), move |head| {
        let kids: &[&str] = match looks.fetch_add(1, Ordering::SeqCst) {
            0..=5 => &["a"],
            7 => &[],
            _ => &["b"],
        };
        let kid = kids.first().unwrap_or(&"b");
        let header = text(json!({"alg": "RS256", "kid": kid}));
        let claims = text(json!({"exp": 4_102_444_800_i64}));
        std::fs::write(&path, format!("{header}.{claims}.AAAA")).unwrap();
        let key = |kid: &&str| with(rsa(), "kid", (*kid).into());
        let keys: Vec<_> = kids.iter().map(key).collect();
        fine(head, &json!({ "keys": keys }).to_string())
    });
    let (line, url) = (
        format!("cat {}", file.display()),
        format!("http://{addr}/jwks"),
    );
    let times = ["--watch", "3s", "--every", "100ms"];
    let (code, lines) = check(&[&[&url, "--token-command", &line][..], &times].concat());
    assert_eq!(code, Some(1));
    let watch: Vec<_> = lines.iter().filter(|it| it.contains(" watch: ")).collect();
    for expected in [
        "fail watch: key \\a\\ left ",
        "fail watch: key \\b\\ signed ",
        "fail watch: the set had no key at 1 of",
    ] {
        assert!(
            watch.iter().any(|it| it.starts_with(expected)),
            "{expected}: {lines:#?}"
        );
    }
}

#[test]
fn a_command_for_tokens_that_hangs_or_never_stops_printing_is_a_finding() {
    let set = json!({ "keys": [rsa()] }).to_string();
    let addr = server(local(), move |head| fine(head, &set));
    let url = format!("http://{addr}/jwks");
    for (line, expected) in [
        ("sleep 60", "did not end within 10 s"),
        ("yes", "it is over 65536 bytes"),
        ("exit 3", "ended with exit status: 3"),
    ] {
        let (code, lines) = check(&[&url, "--token-command", line]);
        assert_eq!(code, Some(1), "{lines:#?}");
        let last = lines.last().unwrap();
        assert!(last.starts_with("fail token: --token-command"), "{last}");
        assert!(last.ends_with(expected), "{last}");
    }
}

#[test]
fn a_command_for_tokens_that_fails_during_a_watch_is_said_with_its_error() {
    let set = json!({ "keys": [rsa()] }).to_string();
    let addr = server(local(), move |head| fine(head, &set));
    let times = ["--watch", "300ms", "--every", "100ms"];
    let url = format!("http://{addr}/jwks");
    let (_, lines) = check(&[&[&url, "--token-command", "exit 3"][..], &times].concat());
    let is_said = |line: &String| {
        line.starts_with("warn watch: no token at ")
            && line.ends_with(" the last: --token-command ended with exit status: 3")
    };
    assert!(lines.iter().any(is_said), "{lines:#?}");
    let is_wrong = |line: &String| line.contains("no key set for an answer");
    assert!(!lines.iter().any(is_wrong), "{lines:#?}");
}

#[test]
fn an_interrupted_check_leaves_nothing_of_its_command_for_tokens() {
    let set = json!({ "keys": [rsa()] }).to_string();
    let addr = server(local(), move |head| fine(head, &set));
    let dir = tempfile::tempdir().unwrap();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = command(dir.path());
        command.args(["check", &format!("http://{addr}/jwks"), "--token-command"]);
        command.arg("echo begun >&2; sleep 300; true");
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(stderr.read_line(&mut line)));
        // What still runs holds standard error open.
        assert!(matches!(end.recv_timeout(PATIENCE), Ok(Ok(0))));
    }
}

#[test]
fn a_set_that_was_made_to_be_slow_is_checked_at_once() {
    let operations: Vec<_> = (0..100_000).collect();
    let body = json!({ "keys": [with(rsa(), "key_ops", json!(operations))] }).to_string();
    let addr = server(local(), move |head| fine(head, &body));
    let started = std::time::Instant::now();
    let (code, lines) = check(&[&format!("http://{addr}/jwks")]);
    assert_eq!(code, Some(1), "{lines:#?}");
    let expected = "fail use: key \\a\\: key_ops has more operations than there are";
    assert!(lines.iter().any(|it| it == expected), "{lines:#?}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
