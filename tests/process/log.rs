//! The log: its lines, and secrets that are in none of them.

use std::fs;

use serde_json::Value;

use crate::http2;
use crate::support::{
    Connection, DATABASE, JSON, JWKS, Server, command, credentials, folder, used_folder,
};

fn key_in(dir: &std::path::Path) -> String {
    let text = fs::read_to_string(dir.join(".env")).unwrap();
    let key = text
        .lines()
        .find_map(|line| line.strip_prefix("NOT_MY_KEY="));
    key.unwrap().to_owned()
}

#[test]
fn a_key_set_that_was_fetched_is_a_line_only_when_debug_is_asked_for() {
    for (env, lines) in [
        ("", 0),
        ("APP_ENV=production", 0),
        ("RUST_LOG=debug", 1),
        ("APP_ENV=production\nRUST_LOG=debug", 1),
    ] {
        let dir = used_folder(env);
        let server = Server::start(dir.path(), &[]);
        // The first one may wait for keys, and goes another way then.
        assert_eq!(server.key_set().status, 200);
        let id = ("x-request-id", "the-fetch");
        let mut connection = Connection::open(server.addr);
        assert_eq!(connection.send("GET", JWKS, &[id], b"").status, 200);
        let id = ("x-request-id", "not-there");
        assert_eq!(connection.send("GET", "/nope", &[id], b"").status, 404);
        let log = server.stop_for_log();
        let of = |id| log.lines().filter(|line| line.contains(id)).count();
        assert_eq!((of("the-fetch"), of("not-there")), (lines, 1), "{log}");
        // The same fields in both lines.
        let fields = ["method=GET path=", "\"method\":\"GET\",\"path\":"];
        let has_fields = |line: &&str| fields.iter().any(|it| line.contains(it));
        let answered = log.lines().filter(|line| line.contains("answered"));
        assert_eq!(answered.filter(has_fields).count(), 2 * lines + 1, "{log}");
    }
}

#[test]
fn neither_passwords_nor_tokens_nor_keys_are_logged_at_any_level() {
    for mode in ["development", "production"] {
        let dir = folder(&format!("RUST_LOG=trace\nAPP_ENV={mode}"));
        let server = Server::start(dir.path(), &["--demo-user", "demo:demo-secret-1"]);
        let password = server.register("alice");
        let reply = server.sign_in("/auth", "alice", &password);
        let expired = server.sign_in("/auth?expired", "alice", &password);
        let wrong = server.sign_in("/auth", "alice", "wrong-secret-2");
        assert_eq!(
            (reply.status, expired.status, wrong.status),
            (200, 200, 401)
        );
        // base64 of "alice:basic-secret-3"
        let basic = ("Authorization", "Basic YWxpY2U6YmFzaWMtc2VjcmV0LTM=");
        assert_eq!(server.send("POST", "/auth", &[basic], b"").status, 401);
        let bearer = ("Authorization", "Bearer bearer-secret-4");
        let mut connection = Connection::open(server.addr);
        assert_eq!(connection.send("GET", JWKS, &[bearer], b"").status, 200);
        let twice = br#"{"username":"a","password":"twice-secret-5","password":"x"}"#;
        assert_eq!(server.send("POST", "/auth", &[JSON], twice).status, 400);
        let cut = br#"{"username":"a","password":"cut-secret-6"#;
        assert_eq!(server.send("POST", "/auth", &[JSON], cut).status, 400);
        let query = "/auth?password=query-secret-7";
        assert_eq!(server.send("POST", query, &[JSON], b"{}").status, 400);
        let http2 = async {
            let client = http2::connect(server.addr).await;
            let basic = [("authorization", "Basic YWxpY2U6YmFzaWMtc2VjcmV0LTM=")];
            let sent = http2::send_with(client.clone(), "POST", "/auth", &basic, Vec::new());
            assert_eq!(sent.await.0, 401);
            let body = credentials("alice", &password);
            let sent = http2::send_with(client, "POST", "/auth", &[], body);
            assert_eq!(sent.await.0, 200);
        };
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.enable_all().build().unwrap().block_on(http2);
        let tokens = [&reply, &expired].map(|r| r.json()["token"].as_str().unwrap().to_owned());
        let log = server.stop_for_log();
        // The traces of other crates are not let through.
        assert!(log.contains("DEBUG"), "not at level trace: {log}");
        let key = key_in(dir.path());
        for secret in [
            password.as_str(),
            tokens[0].as_str(),
            tokens[0].rsplit('.').next().unwrap(),
            tokens[1].as_str(),
            key.as_str(),
            key.trim_end_matches('='),
            "demo-secret-1",
            "wrong-secret-2",
            "YWxpY2U6YmFzaWMtc2VjcmV0LTM",
            "basic-secret-3",
            "bearer-secret-4",
            "twice-secret-5",
            "cut-secret-6",
            "query-secret-7",
            "PRIVATE KEY",
            "$argon2",
            "gAAAA",
        ] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
    }
}

#[test]
fn names_are_escaped_in_the_log() {
    for mode in ["development", "production"] {
        let dir = folder(&format!("RUST_LOG=trace\nAPP_ENV={mode}"));
        let server = Server::start(dir.path(), &[]);
        let name = "evil\u{1b}[31m\n2030-01-01T00:00:00Z  INFO forged\r\u{7}\u{202e}x";
        assert_eq!(server.key_set().status, 200);
        // Such as an earlier server may have stored.
        let sql = rusqlite::Connection::open(dir.path().join(DATABASE)).unwrap();
        let insert = "INSERT INTO users (username, password_hash) VALUES (?, 'x')";
        sql.execute(insert, [name]).unwrap();
        assert_eq!(server.sign_in("/auth", name, "x").status, 401);
        let line = server.wait_for_log("sign-in refused");
        assert!(line.contains("evil"), "{line}");
        assert!(line.contains("forged"), "the name was torn: {line}");
        server.send("GET", "/x\u{9b}31mRED\u{202e}\u{2028}", &[], b"");
        server.wait_for_log("31mRED");
        let log = server.stop_for_log();
        for raw in ['\u{1b}', '\r', '\u{7}', '\u{202e}', '\u{9b}', '\u{2028}'] {
            assert!(!log.contains(raw), "{raw:?}: {log:?}");
        }
        assert!(!log.lines().any(|line| line.starts_with("2030-")), "{log}");
    }
}

#[test]
fn every_answer_carries_the_request_id_of_its_line_in_the_log() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let ask = |id: &str| {
        let headers = [("X-Request-Id", id)];
        let reply = server.send("GET", "/nope", &headers, b"");
        assert_eq!(reply.status, 404);
        reply.header("x-request-id").to_owned()
    };
    assert_eq!(ask("probe-1.a_B"), "probe-1.a_B");
    let line = server.wait_for_log("probe-1.a_B");
    for part in ["answered", "method=GET", "/nope", "status=404", "127.0.0.1"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let long = "x".repeat(65);
    let mut made = Vec::new();
    for bad in ["", "a b", "a\"b", "a=b", "\u{e9}", &long] {
        let id = ask(bad);
        assert_eq!(id.len(), 36, "{bad:?}: {id}");
        server.wait_for_log(&id);
        made.push(id);
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 6);
}

#[test]
fn a_failed_sign_in_is_logged_with_address_name_and_request_id() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    server.register("mallory");
    let mut connection = Connection::from_address(server.addr, [127, 0, 0, 7].into());
    let headers = [JSON, ("X-Request-Id", "probe-2")];
    let body = credentials("mallory", "guess");
    assert_eq!(
        connection.send("POST", "/auth", &headers, &body).status,
        401
    );
    let line = server.wait_for_log("sign-in refused");
    for part in ["127.0.0.7", "mallory", "probe-2"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn in_production_every_line_is_a_json_object_and_key_sets_are_not_logged() {
    for (name, value) in [("APP_ENV", "production"), ("FLASK_ENV", "production")] {
        let dir = used_folder("");
        let server = Server::start_command(command(dir.path()).env(name, value));
        let password = server.register("alice");
        assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
        assert_eq!(server.key_set().status, 200);
        let log = server.stop_for_log();
        let lines: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        let answered: Vec<_> = lines
            .iter()
            .filter(|l| l["message"] == "answered")
            .collect();
        let paths: Vec<_> = answered
            .iter()
            .map(|l| l["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["/register", "/auth"]);
        for line in lines {
            assert!(
                ["INFO", "WARN"].contains(&line["level"].as_str().unwrap()),
                "{line}"
            );
        }
    }
}
