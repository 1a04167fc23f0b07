//! The listener for metrics.

use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use crate::support::{Connection, DATABASE, PATIENCE, Server, command, files, folder, refusal};

/// The address of a server's metrics.
pub fn address(server: &Server) -> SocketAddr {
    let line = server.wait_for_log("metrics are at http://");
    let (_, rest) = line.split_once("metrics are at http://").unwrap();
    rest.split_once("/metrics").unwrap().0.parse().unwrap()
}

pub fn page(addr: SocketAddr) -> String {
    let reply = Connection::open(addr).send("GET", "/metrics", &[], b"");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

/// The page as soon as it has this line.
fn page_with(addr: SocketAddr, line: &str) -> String {
    let began = Instant::now();
    loop {
        let page = page(addr);
        if page.lines().any(|found| found == line) {
            return page;
        }
        assert!(began.elapsed() < PATIENCE, "{line}: {page}");
    }
}

#[track_caller]
pub fn has(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|found| found == *line), "{line}: {page}");
    }
}

#[test]
fn they_are_off_unless_asked_for() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.send("GET", "/metrics", &[], b"").status, 404);
    let log = server.stop_for_log();
    assert!(!log.contains("metrics are at"), "{log}");
}

#[test]
fn they_are_at_their_address_and_only_there_and_stop_with_the_service() {
    let dir = folder("METRICS_ADDR=127.0.0.1:0");
    let server = Server::start(dir.path(), &[]);
    let addr = address(&server);
    assert_ne!(addr.port(), server.addr.port());
    server.wait_for_log(&format!("a page of them is at http://{addr}/"));
    let password = server.register("alice");
    for _ in 0..3 {
        assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    }
    assert_eq!(server.sign_in("/auth", "alice", "x").status, 401);
    // The expired key is the second one to be made.
    let text = page_with(addr, "jwks_keys{state=\"expired\"} 1");
    has(
        &text,
        &[
            "jwks_sign_ins_total{outcome=\"token\"} 3",
            "jwks_sign_ins_total{outcome=\"bad_credentials\"} 1",
            "jwks_quota_refusals_total 0",
            "jwks_hashing_queue_length{queue=\"sign_in\"} 0",
            "jwks_keys{state=\"signing\"} 1",
            "jwks_commits_total{outcome=\"failed\"} 0",
            "jwks_rotation_failures_total 0",
        ],
    );
    // The settings, two keys, an account, three sign-ins; the mark of a log, unless a read
    // kept the last one from being moved.
    let writes = text
        .lines()
        .find_map(|line| line.strip_prefix("jwks_commit_writes_sum "));
    assert!(matches!(writes, Some("7.0" | "8.0")), "{writes:?}");
    // Neither names nor addresses nor keys.
    for word in ["alice", "127.0.0.1", &*password] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    let other = Connection::open(addr).send("GET", "/.well-known/jwks.json", &[], b"");
    assert_eq!(other.status, 404);
    assert_eq!(server.send("GET", "/metrics", &[], b"").status, 404);
    // A connection that stays open does not hold up the stop.
    let mut idle = Connection::open(addr);
    assert_eq!(idle.send("GET", "/metrics", &[], b"").status, 200);
    assert!(server.stop().success());
    assert!(idle.read_to_end().is_empty());
    assert_eq!(files(dir.path()), [".env", DATABASE]);
}

#[test]
fn a_page_whose_name_dns_leads_to_their_loopback_address_is_refused() {
    for (addr, foreign) in [("127.0.0.1:0", 403), ("0.0.0.0:0", 200)] {
        let dir = folder(&format!("METRICS_ADDR={addr}"));
        let server = Server::start(dir.path(), &[]);
        let mut connection = Connection::open(address(&server));
        for (host, status) in [
            ("127.0.0.1:9100", 200),
            ("[::1]:9100", 200),
            ("localhost:9100", 200),
            ("evil.example:9100", foreign),
            ("127.0.0.1.evil.example", foreign),
        ] {
            let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
            connection.write(request.as_bytes());
            assert_eq!(connection.read_reply("GET").status, status, "{host}");
        }
    }
}

#[test]
fn a_taken_port_is_refused_in_one_line_before_anything_is_made() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let dir = folder("");
    let text = refusal(command(dir.path()).env("METRICS_ADDR", &taken), &[]);
    let line = format!("METRICS_ADDR={taken} cannot be listened on");
    assert!(text.contains(&line), "{text}");
    assert_eq!(files(dir.path()), [".env"]);
}

#[test]
fn an_address_that_is_none_is_refused_with_its_value() {
    for value in ["9100", "localhost", "127.0.0.1:x", "::1:9100"] {
        let dir = folder("");
        let text = refusal(command(dir.path()).env("METRICS_ADDR", value), &[]);
        assert!(text.contains(&format!("METRICS_ADDR={value:?}")), "{text}");
        assert_eq!(files(dir.path()), [".env"]);
    }
}

#[test]
fn requests_are_counted_by_route_method_and_status_and_no_text_of_a_client_gets_in() {
    let dir = folder("METRICS_ADDR=127.0.0.1:0");
    let server = Server::start(dir.path(), &[]);
    let addr = address(&server);
    for (method, path, status, times) in [
        ("GET", "/.well-known/jwks.json", 200, 3),
        ("HEAD", "/.well-known/jwks.json", 200, 1),
        ("POST", "/.well-known/jwks.json", 405, 1),
        ("GET", "/.well-known/jwks-schedule.json", 200, 1),
        ("POST", "/register", 415, 1),
        ("GET", "/auth", 405, 2),
        ("GET", "/healthz", 200, 2),
        ("GET", "/readyz", 200, 1),
        ("GET", "/secret-1", 404, 1),
        ("GET", "/secret-2/.well-known/jwks.json", 404, 1),
        ("SECRET-3", "/auth", 405, 1),
    ] {
        for _ in 0..times {
            let reply = server.send(method, path, &[], b"x");
            assert_eq!(reply.status, status, "{method} {path}");
        }
    }
    let text = page(addr);
    let mut counted: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("jwks_http_requests_total"))
        .collect();
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            r#"{route="/.well-known/jwks-schedule.json",method="GET",code="200"} 1"#,
            r#"{route="/.well-known/jwks.json",method="GET",code="200"} 3"#,
            r#"{route="/.well-known/jwks.json",method="HEAD",code="200"} 1"#,
            r#"{route="/.well-known/jwks.json",method="POST",code="405"} 1"#,
            r#"{route="/auth",method="GET",code="405"} 2"#,
            r#"{route="/auth",method="other",code="405"} 1"#,
            r#"{route="/healthz",method="GET",code="200"} 2"#,
            r#"{route="/readyz",method="GET",code="200"} 1"#,
            r#"{route="/register",method="POST",code="415"} 1"#,
            r#"{route="other",method="GET",code="404"} 2"#,
        ]
    );
    has(
        &text,
        &[
            "jwks_http_request_duration_seconds_count{route=\"/.well-known/jwks.json\"} 5",
            "jwks_http_request_duration_seconds_bucket{route=\"/.well-known/jwks.json\",le=\"+Inf\"} 5",
        ],
    );
    assert!(!text.to_lowercase().contains("secret"), "{text}");
}
