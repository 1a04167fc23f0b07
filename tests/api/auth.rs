//! `POST /auth`: the ways to send credentials, and the token.

use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jwks_server::crypto::rsa::{PrivateKey, PublicKey};
use jwks_server::domain::names::Username;
use serde_json::json;

use crate::support::{FORM, JSON, Reply, START, TestApp};

const WRONG: &str = "unknown username or wrong password";
const NO_CREDENTIALS: &str =
    "no credentials: send username and password as JSON, as a form or by HTTP Basic";
const BASIC: &str = r#"Basic realm="jwks-server", charset="UTF-8""#;
const GOOD_JSON: &str = r#"{"username":"userABC","password":"pass:w+rd 1"}"#;
const GOOD_FORM: &str = "username=userABC&password=pass:w%2Brd+1";

/// An app with an account whose password is known beforehand.
async fn app() -> TestApp {
    app_with("").await
}

async fn app_with(env: &str) -> TestApp {
    let app = TestApp::with_settings(env).await;
    let name = Username::parse("userABC").unwrap();
    let made = app
        .state
        .accounts
        .ensure(name, "pass:w+rd 1".to_owned().into(), START);
    assert!(made.await.unwrap());
    app
}

fn basic(credentials: impl AsRef<[u8]>) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

async fn auth(app: &TestApp, headers: &[(&str, &str)], body: &str) -> Reply {
    app.advance(Duration::from_millis(100));
    app.send("POST", "/auth", headers, body.to_owned()).await
}

#[tokio::test]
async fn credentials_are_taken_as_json_as_a_form_and_by_basic() {
    let app = app().await;
    let good = basic("userABC:pass:w+rd 1");
    let lower = good.replacen("Basic", "bASIC", 1);
    for (headers, body) in [
        (&[JSON][..], GOOD_JSON),
        (&[], GOOD_JSON),
        (&[FORM], GOOD_JSON),
        (&[FORM], GOOD_FORM),
        (
            &[FORM],
            "x&password=pass%3aw%2brd%201&y=z&user%6eame=userABC",
        ),
        (&[("authorization", &good)], ""),
        (&[("authorization", &lower)], ""),
        // Without a body its label says nothing.
        (
            &[("authorization", &good), ("content-type", "text/xml")],
            "",
        ),
    ] {
        let reply = auth(&app, headers, body).await;
        assert_eq!(reply.status, StatusCode::OK, "{headers:?} {body}");
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.header("cache-control"), "no-store");
        let json = reply.json();
        assert_eq!(json, json!({"token": json["token"].as_str().unwrap()}));
    }
}

#[tokio::test]
async fn a_body_beats_a_header() {
    let app = app().await;
    let good = basic("userABC:pass:w+rd 1");
    let wrong = r#"{"username":"userABC","password":"x"}"#;
    let reply = auth(&app, &[JSON, ("authorization", &good)], wrong).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    let reply = auth(&app, &[FORM, ("authorization", &good)], "username=x").await;
    assert_eq!(reply.error(), "password is missing");
    for header in ["Basic !", &basic("userABC:x"), &basic("nobody")] {
        let reply = auth(&app, &[JSON, ("authorization", header)], GOOD_JSON).await;
        assert_eq!(reply.status, StatusCode::OK, "{header}");
    }
}

#[tokio::test]
async fn an_unknown_authorization_scheme_is_ignored() {
    let app = app().await;
    for header in ["Bearer 0123abcd", "Digest username=\"x\"", "Basic", "x", ""] {
        let headers = [JSON, ("authorization", header)];
        let reply = auth(&app, &headers, GOOD_JSON).await;
        assert_eq!(reply.status, StatusCode::OK, "{header}");
        let reply = auth(&app, &[("authorization", header)], "").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{header}");
        assert_eq!(reply.error(), NO_CREDENTIALS);
    }
}

#[tokio::test]
async fn fr_48_a_401_has_the_challenge_of_basic_unless_the_credentials_came_in_the_body() {
    let app = app().await;
    let wrong = basic("userABC:x");
    let wrong = ("authorization", wrong.as_str());
    let body = r#"{"username":"userABC","password":"x"}"#;
    for (headers, body, challenge) in [
        (&[][..], "", BASIC),
        (&[JSON], "", BASIC),
        (&[("authorization", "Bearer x")], "", BASIC),
        (&[wrong], "", BASIC),
        (&[JSON, wrong], "{}", BASIC),
        // Browsers open a login box at a challenge of Basic.
        (&[JSON], body, r#"Body realm="jwks-server""#),
        (&[JSON, wrong], body, r#"Body realm="jwks-server""#),
        (
            &[FORM],
            "username=a&password=b",
            r#"Body realm="jwks-server""#,
        ),
    ] {
        let reply = auth(&app, headers, body).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{headers:?} {body}");
        let sent = reply.header("www-authenticate");
        assert_eq!(sent, challenge, "{headers:?} {body}");
    }
}

#[tokio::test]
async fn fr_54_a_body_without_credentials_leaves_those_of_basic() {
    let app = app().await;
    let good = basic("userABC:pass:w+rd 1");
    let good = ("authorization", good.as_str());
    for (label, body) in [
        (JSON, "{}"),
        (JSON, "null"),
        (JSON, "\u{feff}{}"),
        (JSON, r#"{"grant_type":"client_credentials"}"#),
        (FORM, "grant_type=client_credentials"),
        (FORM, "{}"),
        (FORM, "null"),
        (FORM, "\r\n"),
        (("x-label", "none"), "{}"),
        (("x-label", "none"), "null"),
        (("x-label", "none"), "\n"),
    ] {
        let reply = auth(&app, &[label, good], body).await;
        assert_eq!(reply.status, StatusCode::OK, "{label:?} {body:?}");
    }
    let reply = auth(&app, &[JSON, good], "{").await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let reply = auth(&app, &[JSON], "{}").await;
    assert_eq!(reply.error(), "username is missing");
}

#[tokio::test]
async fn what_editors_and_shells_add_to_a_body_is_dropped() {
    let app = app().await;
    let identity = ("content-encoding", "Identity");
    for (headers, body) in [
        (&[JSON][..], format!("\u{feff}{GOOD_JSON}")),
        (&[], format!("\u{feff}{GOOD_JSON}\r\n")),
        (&[FORM], format!("\u{feff}{GOOD_JSON}")),
        (&[FORM], format!("{GOOD_FORM}\n")),
        (&[FORM], format!("\u{feff}{GOOD_FORM}\r\n\r\n")),
        (&[JSON, identity], GOOD_JSON.to_owned()),
        (&[FORM, identity], GOOD_FORM.to_owned()),
    ] {
        let reply = auth(&app, headers, &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{headers:?} {body:?}");
    }
    let packed = [JSON, identity, ("content-encoding", "gzip")];
    let reply = auth(&app, &packed, GOOD_JSON).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn basic_credentials_that_cannot_be_read_are_400() {
    let app = app().await;
    for header in [
        "Basic !".to_owned(),
        "Basic dXNlckFCQzp4=".to_owned(),
        basic("no colon"),
        basic(b"\xff:x"),
    ] {
        let reply = auth(&app, &[("authorization", &header)], "").await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{header}");
        assert_eq!(
            reply.error(),
            "the Basic credentials are not base64 of username:password in UTF-8"
        );
    }
}

#[tokio::test]
async fn an_unknown_name_and_a_wrong_password_get_the_same_answer() {
    let app = app().await;
    let mut seen = Vec::new();
    for (name, password) in [
        ("userABC", "x"),
        ("userABC", ""),
        ("userABC", "pass:w+rd 1 "),
        ("userabc", "pass:w+rd 1"),
        ("nobody", "pass:w+rd 1"),
        ("", ""),
        ("not a\u{0}name", "x"),
        (&"n".repeat(5000), "x"),
    ] {
        app.advance(Duration::from_millis(100));
        let mut reply = app.sign_in("/auth", name, password).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name}");
        assert_eq!(reply.error(), WRONG);
        reply.headers.remove("x-request-id");
        seen.push(reply.headers);
    }
    assert!(seen.iter().all(|headers| *headers == seen[0]));
}

#[tokio::test]
async fn fr_08_control_characters_in_name_or_password_are_401() {
    let app = app().await;
    for text in [
        "a\0b",
        "x\ny",
        "x\u{1b}[31m",
        "\u{202e}gnp",
        "ali\u{200b}ce",
        "a\u{7f}",
    ] {
        for (name, password) in [(text, "x"), ("userABC", text)] {
            app.advance(Duration::from_millis(100));
            let reply = app.sign_in("/auth", name, password).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{text:?}");
            assert_eq!(reply.error(), WRONG);
        }
    }
}

#[tokio::test]
async fn a_password_over_a_kibibyte_is_400() {
    let app = app().await;
    let reply = app.sign_in("/auth", "userABC", &"p".repeat(1025)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.error(), "password is longer than 1024 bytes");
    let reply = app.sign_in("/auth", "userABC", &"p".repeat(1024)).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_has_exactly_the_header_and_claims_of_the_contract() {
    let app = app().await;
    let token = app.token("/auth", "userABC", "pass:w+rd 1").await;
    let kid = app.published_kids().await.remove(0);
    assert_eq!(
        token.header(),
        json!({"alg": "RS256", "typ": "JWT", "kid": kid})
    );
    let claims = token.claims();
    let jti = claims["jti"].as_str().unwrap();
    assert!(uuid::Uuid::parse_str(jti).is_ok());
    let now = START.as_secs();
    assert_eq!(
        claims,
        json!({"sub": "userABC", "iat": now, "exp": now + 1800, "jti": jti})
    );
    let next = app.token("/auth", "userABC", "pass:w+rd 1").await;
    assert_ne!(next.claims()["jti"], jti);
}

#[tokio::test]
async fn issuer_and_audience_are_in_every_token_when_configured() {
    let env = "ISSUER=https://issuer.example.com\nAUDIENCE=https://api.example.com";
    let app = TestApp::with_settings(env).await;
    let password = app.register("alice").await;
    for path in ["/auth", "/auth?expired"] {
        let claims = app.token(path, "alice", &password).await.claims();
        assert_eq!(claims["iss"], "https://issuer.example.com");
        assert_eq!(claims["aud"], "https://api.example.com");
        assert_eq!(claims.as_object().unwrap().len(), 6);
    }
}

#[tokio::test]
async fn several_audiences_are_an_array() {
    let app = TestApp::with_settings("AUDIENCE='https://a.example, api,'").await;
    let password = app.register("alice").await;
    let claims = app.token("/auth", "alice", &password).await.claims();
    assert_eq!(claims["aud"], json!(["https://a.example", "api"]));
}

#[tokio::test]
async fn a_token_lives_as_long_as_configured() {
    let app = TestApp::with_settings("TOKEN_LIFETIME=90s").await;
    let password = app.register("alice").await;
    let token = app.token("/auth", "alice", &password).await;
    assert_eq!(token.time("exp"), START + Duration::from_secs(90));
}

#[tokio::test]
async fn the_parameter_expired_counts_with_any_value_once_or_often() {
    let app = app().await;
    let live = app.published_kids().await;
    for (path, expired) in [
        ("/auth?expired", true),
        ("/auth?expired=", true),
        ("/auth?expired=true", true),
        ("/auth?expired=false", true),
        ("/auth?expired=0&expired=1&expired", true),
        ("/auth?x=1&expired", true),
        ("/auth?e%78pired=1", true),
        ("/auth?", false),
        ("/auth?x=expired", false),
        ("/auth?expired2", false),
        ("/auth?Expired", false),
        ("/auth?&&=", false),
    ] {
        app.advance(Duration::from_millis(100));
        let token = app.token(path, "userABC", "pass:w+rd 1").await;
        assert_eq!(!live.contains(&token.kid()), expired, "{path}");
        assert_eq!(token.time("exp") < app.now(), expired, "{path}");
    }
}

#[tokio::test]
async fn asking_for_an_expired_token_needs_credentials_too() {
    let app = app().await;
    let reply = app.sign_in("/auth?expired", "userABC", "x").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    let reply = app.send("POST", "/auth?expired", &[], "").await;
    assert_eq!(reply.error(), NO_CREDENTIALS);
    let reply = app.sign_in("/auth?expired", "userABC", "pass:w+rd 1").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("cache-control"), "no-store");
}

/// The public half of a key in the database.
fn stored_key(app: &TestApp, kid: &str) -> PublicKey {
    let sql = "SELECT key FROM keys WHERE kid = ";
    let sealed = app.rows(&format!("{sql}{kid}")).remove(0);
    let pem = app.sealing_keys.open(sealed.as_bytes()).unwrap();
    PrivateKey::from_pem(&pem).unwrap().public().clone()
}

#[tokio::test]
async fn fr_31_an_expired_token_is_long_expired_and_signed_by_the_key_that_expired_last() {
    let mut app = app().await;
    for step in 0..4 {
        let token = app.token("/auth?expired", "userABC", "pass:w+rd 1").await;
        let last = app.rows(&format!(
            "SELECT kid, exp FROM keys WHERE exp <= {} ORDER BY exp DESC LIMIT 1",
            app.now()
        ));
        let (kid, key_exp) = last[0].split_once('|').unwrap();
        assert_eq!(token.kid(), kid, "step {step}");
        assert!(!app.published_kids().await.contains(&token.kid()));
        let hour_ago = app.now() - Duration::from_secs(3600);
        let exp = token.time("exp");
        assert_eq!(
            exp.as_secs(),
            key_exp.parse::<i64>().unwrap().min(hour_ago.as_secs())
        );
        assert_eq!(token.time("iat"), exp - Duration::from_secs(1800));
        let key = stored_key(&app, kid);
        assert!(token.is_signed_by(&key.n, &key.e));
        if step == 1 {
            app = app.restart().await;
        } else {
            // At first the key that was made expired, later one that was live.
            app.advance(Duration::from_secs(3000));
            app.rotate().await;
        }
    }
    assert_eq!(
        app.rows("SELECT count(*) FROM keys WHERE exp > 1800000000 AND exp < 1800009000"),
        ["2"]
    );
}

/// Takes the five seconds that a request waits for a key.
#[tokio::test]
async fn without_a_key_to_sign_auth_is_503_and_not_401() {
    let app = app().await;
    app.advance(Duration::from_secs(3600));
    let (live, expired) = tokio::join!(
        app.sign_in("/auth", "userABC", "pass:w+rd 1"),
        app.sign_in("/auth?expired", "userABC", "pass:w+rd 1"),
    );
    assert_eq!(live.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(live.header("retry-after"), "2");
    assert_eq!(live.error(), "no key is ready to sign at the moment");
    assert_eq!(expired.status, StatusCode::OK);
    assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["1"]);
}

#[tokio::test]
async fn a_page_whose_name_dns_leads_to_a_loopback_address_is_refused() {
    let app = app_with("ISSUER=https://issuer.example/a").await;
    for (host, status) in [
        ("localhost:8080", 200),
        ("app.localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("ISSUER.example", 200),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("192.0.2.7:8080", 403),
    ] {
        let origin = format!("http://{host}");
        let headers = [("host", host), ("origin", &origin), JSON];
        let reply = auth(&app, &headers, GOOD_JSON).await;
        assert_eq!(reply.status, status, "{host}");
        app.advance(Duration::from_secs(1));
    }
    // curl and the like send no Origin, and may be led to it by any name.
    let reply = auth(&app, &[("host", "evil.example"), JSON], GOOD_JSON).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn what_a_browser_sends_for_a_page_of_another_origin_is_refused() {
    let app = app_with("HOST=0.0.0.0").await;
    let host = ("host", "issuer.example:8080");
    for (headers, status) in [
        (&[host][..], 200),
        (&[host, ("origin", "http://issuer.example:8080")], 200),
        // A proxy that leaves the port out.
        (
            &[
                ("host", "issuer.example"),
                ("origin", "https://ISSUER.example:8443"),
            ],
            200,
        ),
        (
            &[
                host,
                ("sec-fetch-site", "same-origin"),
                ("origin", "https://proxied.example"),
            ],
            200,
        ),
        (&[host, ("sec-fetch-site", "none")], 200),
        (&[host, ("origin", "https://other.example")], 403),
        (
            &[host, ("origin", "https://issuer.example.other.example")],
            403,
        ),
        (&[host, ("origin", "null")], 403),
        (&[("origin", "https://issuer.example")], 403),
        (
            &[
                host,
                ("sec-fetch-site", "same-site"),
                ("origin", "http://issuer.example:3000"),
            ],
            403,
        ),
        (&[host, ("sec-fetch-site", "cross-site")], 403),
    ] {
        let reply = auth(&app, &[headers, &[JSON]].concat(), GOOD_JSON).await;
        assert_eq!(reply.status, status, "{headers:?}");
        let sign_up = r#"{"username":"x"}"#;
        let reply = app
            .send("POST", "/register", &[headers, &[JSON]].concat(), sign_up)
            .await;
        assert_eq!(reply.status == 403, status == 403, "{headers:?}");
    }
    // Such calls are not counted: a page could use up the quota of its visitor.
    app.advance(Duration::from_secs(1));
    for _ in 0..20 {
        let headers = [host, JSON, ("sec-fetch-site", "cross-site")];
        assert_eq!(auth(&app, &headers, GOOD_JSON).await.status, 403);
    }
    assert_eq!(auth(&app, &[host, JSON], GOOD_JSON).await.status, 200);
    // HTTP/2 has no Host.
    for (origin, status) in [("https://issuer.example", 200), ("https://a.example", 403)] {
        app.advance(Duration::from_millis(100));
        let target = "http://issuer.example/auth";
        let headers = [JSON, ("origin", origin)];
        let reply = app.send("POST", target, &headers, GOOD_JSON).await;
        assert_eq!(reply.status, status, "{origin}");
    }
}
