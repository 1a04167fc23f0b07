//! The quota on `/auth`, and which address it counts by.

use std::time::Duration;

use axum::http::StatusCode;

use crate::support::{JSON, Reply, TestApp};

const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

/// A call that costs no hash: the quota comes before the body.
async fn call_from(app: &TestApp, peer: &str, headers: &[(&str, &str)]) -> u16 {
    let mut all = vec![JSON];
    all.extend_from_slice(headers);
    let reply = app.send_from(peer, "POST", "/auth", &all, "{}").await;
    reply.status.as_u16()
}

async fn call(app: &TestApp) -> u16 {
    call_from(app, "192.0.2.1", &[]).await
}

/// Number of `calls` in a row that are let in.
async fn let_in(app: &TestApp, peer: &str, calls: usize) -> usize {
    let mut count = 0;
    for _ in 0..calls {
        count += usize::from(call_from(app, peer, &[]).await == 400);
    }
    count
}

#[track_caller]
fn is_429(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(
        reply.error(),
        "too many calls from this address; wait as long as Retry-After says"
    );
}

#[tokio::test]
async fn fr_01_ten_sign_ins_a_tenth_apart_pass_and_the_eleventh_at_once_is_429() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    for n in 0..10 {
        if n > 0 {
            app.advance(TENTH);
        }
        app.token("/auth", "alice", &password).await;
    }
    is_429(&app.sign_in("/auth", "alice", &password).await);
    // No stretch of a second: the first call counts for all of it.
    app.advance(Duration::from_millis(99));
    is_429(&app.sign_in("/auth", "alice", &password).await);
    app.advance(Duration::from_millis(1));
    app.token("/auth", "alice", &password).await;
    is_429(&app.sign_in("/auth", "alice", &password).await);
}

#[tokio::test]
async fn fr_01_no_stretch_of_a_second_holds_more_than_ten_after_an_idle_spell() {
    let app = TestApp::start().await;
    app.advance(Duration::from_secs(3600));
    let mut admitted = Vec::new();
    for step in 0..500_u64 {
        if call(&app).await == 400 {
            admitted.push(step * 10);
        }
        app.advance(Duration::from_millis(10));
    }
    for ten in admitted.windows(11) {
        assert!(ten[10] - ten[0] >= 1000, "{ten:?}");
    }
    assert_eq!(admitted.len(), 50);
}

#[tokio::test]
async fn fr_01_who_stays_within_ten_a_second_is_never_refused() {
    let app = TestApp::start().await;
    for _ in 0..100 {
        assert_eq!(call(&app).await, 400);
        app.advance(TENTH);
    }
    // In a burst a second as well.
    for _ in 0..10 {
        app.advance(SECOND);
        assert_eq!(let_in(&app, "192.0.2.1", 10).await, 10);
    }
}

#[tokio::test]
async fn fr_01_refused_calls_do_not_lengthen_the_wait() {
    let app = TestApp::start().await;
    assert_eq!(let_in(&app, "192.0.2.1", 10).await, 10);
    for _ in 0..99 {
        app.advance(Duration::from_millis(10));
        assert_eq!(call(&app).await, 429);
    }
    app.advance(Duration::from_millis(10));
    assert_eq!(let_in(&app, "192.0.2.1", 20).await, 10);
}

#[tokio::test]
async fn fr_05_waiting_as_long_as_retry_after_says_is_enough_and_all_ten_come_back() {
    let app = TestApp::start().await;
    for _ in 0..10 {
        assert_eq!(let_in(&app, "192.0.2.1", 14).await, 10);
        let refused = app.send("POST", "/auth", &[JSON], "{}").await;
        is_429(&refused);
        let wait = refused.header("retry-after").parse().unwrap();
        app.advance(Duration::from_secs(wait));
    }
}

#[tokio::test]
async fn fr_05_the_configured_rate_is_calls_a_second() {
    let app = TestApp::with_settings("AUTH_RATE=3").await;
    for _ in 0..3 {
        assert_eq!(let_in(&app, "192.0.2.1", 5).await, 3);
        app.advance(SECOND);
    }
}

#[tokio::test]
async fn a_set_clock_does_not_open_or_close_the_quota() {
    let app = TestApp::start().await;
    assert_eq!(let_in(&app, "192.0.2.1", 10).await, 10);
    app.clock.step_to(app.now() + Duration::from_secs(60));
    assert_eq!(call(&app).await, 429);
    app.clock.step_to(app.now() - Duration::from_secs(120));
    app.advance(SECOND);
    assert_eq!(call(&app).await, 400);
}

#[tokio::test]
async fn every_call_counts_whatever_becomes_of_it_and_the_quota_comes_before_the_body() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    for body in [" ", "{", "{}", "x", "[]"] {
        let reply = app.send("POST", "/auth", &[JSON], body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    }
    let large = "x".repeat(20_000);
    let reply = app.send("POST", "/auth", &[JSON], large.clone()).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let xml = [("content-type", "text/xml")];
    let reply = app.send("POST", "/auth", &xml, "x").await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let reply = app.sign_in("/auth", "alice", "x").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    app.token("/auth", "alice", &password).await;
    app.token("/auth?expired", "alice", &password).await;
    is_429(&app.send("POST", "/auth", &[JSON], large).await);
    is_429(&app.send("POST", "/auth", &xml, "x").await);
    is_429(&app.sign_in("/auth?expired", "alice", &password).await);
}

#[tokio::test]
async fn fr_36_each_address_has_one_quota_of_its_own() {
    let app = TestApp::start().await;
    assert_eq!(let_in(&app, "192.0.2.1", 12).await, 10);
    assert_eq!(let_in(&app, "192.0.2.2", 12).await, 10);
    assert_eq!(let_in(&app, "2001:db8::1", 12).await, 10);
    assert_eq!(call(&app).await, 429);
}

#[tokio::test]
async fn sign_ups_have_a_quota_of_their_own() {
    let app = TestApp::with_settings("REGISTER_RATE=3").await;
    let sign_up = async |peer: &str, method: &str| {
        let reply = app
            .send_from(peer, method, "/register", &[JSON], "{}")
            .await;
        if reply.status == 429 {
            is_429(&reply);
        }
        reply.status.as_u16()
    };
    for _ in 0..2 {
        for expected in [400, 400, 400, 429, 429] {
            assert_eq!(sign_up("192.0.2.1", "POST").await, expected);
        }
        assert_eq!(sign_up("192.0.2.1", "GET").await, 405);
        assert_eq!(sign_up("192.0.2.2", "POST").await, 400);
        assert_eq!(let_in(&app, "192.0.2.1", 12).await, 10);
        app.advance(SECOND);
    }
}

#[tokio::test]
async fn fr_36_nothing_but_auth_and_register_is_limited_and_nothing_else_counts() {
    let app = TestApp::start().await;
    for n in 0..10 {
        app.register(&format!("u{n}")).await;
    }
    for _ in 0..50 {
        assert_eq!(app.key_set().await.status, StatusCode::OK);
        let reply = app.send("POST", "/nope", &[], "").await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(let_in(&app, "192.0.2.1", 12).await, 10);
    for _ in 0..50 {
        assert_eq!(app.key_set().await.status, StatusCode::OK);
        let reply = app.send("POST", "/auth/", &[], "").await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
    }
    app.advance(SECOND);
    app.register("last").await;
}

#[tokio::test]
async fn an_ipv6_client_counts_with_all_of_its_64_and_a_mapped_one_as_ipv4() {
    let app = TestApp::start().await;
    for n in 1..=10 {
        let peer = format!("2001:db8:0:7:{n:x}::{n:x}");
        assert_eq!(call_from(&app, &peer, &[]).await, 400);
    }
    assert_eq!(call_from(&app, "2001:db8:0:7:ffff::1", &[]).await, 429);
    assert_eq!(call_from(&app, "2001:db8:0:8::1", &[]).await, 400);
    assert_eq!(let_in(&app, "::ffff:192.0.2.1", 10).await, 10);
    assert_eq!(call(&app).await, 429);
    assert_eq!(call_from(&app, "::ffff:192.0.2.2", &[]).await, 400);
}

#[tokio::test]
async fn without_trusted_proxies_x_forwarded_for_is_ignored() {
    let app = TestApp::start().await;
    for n in 0..10 {
        let client = format!("198.51.100.{n}");
        let headers = [
            ("x-forwarded-for", client.as_str()),
            ("forwarded", "for=203.0.113.1"),
        ];
        assert_eq!(call_from(&app, "192.0.2.1", &headers).await, 400);
    }
    let headers = [("x-forwarded-for", "198.51.100.77")];
    assert_eq!(call_from(&app, "192.0.2.1", &headers).await, 429);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_it_names_counts_and_is_logged() {
    let app = TestApp::with_settings("TRUSTED_PROXIES=10.0.0.0/8,fd00::/8").await;
    let password = app.register("alice").await;
    let body = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    for (peer, forwarded) in [
        ("10.0.0.1", "198.51.100.1"),
        // Left of the first address that is not trusted, all may be forged.
        ("10.0.0.2", "203.0.113.9, 198.51.100.2, 10.1.1.1"),
        ("fd00::1", "2001:db8::5"),
        ("10.0.0.1", "[2001:db8::6]:443"),
        ("10.0.0.1", "::ffff:198.51.100.3"),
        ("10.0.0.1", "198.51.100.4, nonsense"),
        // Not a trusted proxy.
        ("192.0.2.7", "198.51.100.5"),
    ] {
        let headers = [JSON, ("x-forwarded-for", forwarded)];
        let reply = app
            .send_from(peer, "POST", "/auth", &headers, body.clone())
            .await;
        assert_eq!(reply.status, StatusCode::OK);
    }
    assert_eq!(
        app.rows("SELECT request_ip FROM auth_logs ORDER BY id"),
        [
            "198.51.100.1",
            "198.51.100.2",
            "2001:db8::5",
            "2001:db8::6",
            "198.51.100.3",
            "10.0.0.1",
            "192.0.2.7",
        ]
    );
    app.advance(SECOND);
    let one = [("x-forwarded-for", "198.51.100.1")];
    for proxy in 1..=10 {
        let status = call_from(&app, &format!("10.0.0.{proxy}"), &one).await;
        assert_eq!(status, 400);
    }
    assert_eq!(call_from(&app, "10.0.0.99", &one).await, 429);
    let other = [("x-forwarded-for", "198.51.100.2")];
    assert_eq!(call_from(&app, "10.0.0.1", &other).await, 400);
}
