//! `GET /.well-known/jwks.json`: the document, its caching, who may read it.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::{TestApp, send_to};

const PATH: &str = "/.well-known/jwks.json";

/// Long enough for a second key to be published beside the first.
const TO_SECOND_KEY: Duration = Duration::from_secs(1140);

fn without_request_id(mut headers: HeaderMap) -> HeaderMap {
    assert_eq!(
        headers.remove("access-control-expose-headers").unwrap(),
        "ETag"
    );
    headers
}

#[tokio::test]
async fn fr_20_every_key_has_exactly_the_six_members_also_the_optional_ones() {
    let mut app = TestApp::start().await;
    app.advance(TO_SECOND_KEY);
    app.rotate().await;
    let set = app.key_set().await;
    let json = set.json();
    let keys = json["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    let members: Vec<_> = keys
        .iter()
        .map(|key| {
            let (kid, n) = (key["kid"].as_str().unwrap(), key["n"].as_str().unwrap());
            format!(
                r#"{{"kty":"RSA","use":"sig","alg":"RS256","kid":"{kid}","n":"{n}","e":"AQAB"}}"#
            )
        })
        .collect();
    // Byte for byte, so that nothing else is in it either.
    assert_eq!(set.text(), format!(r#"{{"keys":[{}]}}"#, members.join(",")));
}

#[tokio::test]
async fn fr_45_modulus_and_token_are_unpadded_base64url_of_256_bytes() {
    let mut app = TestApp::start().await;
    app.advance(TO_SECOND_KEY);
    app.rotate().await;
    for key in app.key_set().await.json()["keys"].as_array().unwrap() {
        let text = key["n"].as_str().unwrap();
        let n = URL_SAFE_NO_PAD.decode(text).unwrap();
        assert_eq!((text.len(), n.len()), (342, 256));
        assert!(n[0] >= 0x80);
    }
    let password = app.register("alice").await;
    for path in ["/auth", "/auth?expired"] {
        let token = app.token(path, "alice", &password).await;
        let parts: Vec<_> = token.0.split('.').collect();
        let bytes: Vec<_> = parts
            .iter()
            .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
            .collect();
        assert_eq!(bytes.len(), 3);
        assert_eq!(bytes[2].len(), 256);
    }
}

#[tokio::test]
async fn a_kid_is_the_first_53_bits_of_the_keys_thumbprint() {
    let app = TestApp::start().await;
    let key = app.key_set().await.json()["keys"][0].clone();
    let n = key["n"].as_str().unwrap();
    // RFC 7638 section 3.2: the required members in lexical order.
    let members = format!(r#"{{"e":"AQAB","kty":"RSA","n":"{n}"}}"#);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, members.as_bytes());
    let first = u64::from_be_bytes(digest.as_ref()[..8].try_into().unwrap());
    let kid = (first >> 11).to_string();
    assert_eq!(key["kid"], kid.as_str());
    let rows = app.rows("SELECT kid FROM keys ORDER BY exp DESC LIMIT 1");
    assert_eq!(rows, [kid]);
}

#[tokio::test]
async fn the_key_set_is_json_that_anyone_may_cache_and_read() {
    let app = TestApp::start().await;
    let set = app.key_set().await;
    assert_eq!(set.status, StatusCode::OK);
    assert_eq!(set.header("content-type"), "application/json");
    assert_eq!(set.header("cache-control"), "public, max-age=300");
    assert_eq!(set.header("access-control-allow-origin"), "*");
    assert_eq!(set.header("x-content-type-options"), "nosniff");
    let tag = set.header("etag");
    let inner = tag.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
    assert!(inner.len() >= 16 && !inner.contains('"'), "{tag}");
}

#[tokio::test]
async fn the_cache_time_is_the_configured_one() {
    let app = TestApp::with_settings("JWKS_MAX_AGE=42s").await;
    let set = app.key_set().await;
    assert_eq!(set.header("cache-control"), "public, max-age=42");
}

#[tokio::test]
async fn fr_24_head_has_the_headers_of_get_and_no_body() {
    let app = TestApp::start().await;
    let get = app.key_set().await;
    let head = app.send("HEAD", PATH, &[], "").await;
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.text(), "");
    // The connection gives GET its length; there both are compared again.
    let mut expected = without_request_id(get.headers);
    expected.insert("content-length", get.body.len().into());
    assert_eq!(without_request_id(head.headers), expected);
}

#[tokio::test]
async fn a_tag_that_names_the_set_is_answered_304_without_a_body() {
    let app = TestApp::start().await;
    let set = app.key_set().await;
    let tag = set.header("etag");
    for value in [
        tag.to_owned(),
        format!("W/{tag}"),
        "*".to_owned(),
        format!(r#""a", W/"b" ,{tag}"#),
        format!("{tag}, \"z\""),
    ] {
        for method in ["GET", "HEAD"] {
            let headers = [("if-none-match", value.as_str())];
            let reply = app.send(method, PATH, &headers, "").await;
            assert_eq!(reply.status, StatusCode::NOT_MODIFIED, "{value}");
            assert_eq!(reply.text(), "");
            assert_eq!(reply.header("etag"), tag);
            assert_eq!(reply.header("cache-control"), "public, max-age=300");
            assert_eq!(reply.header("access-control-allow-origin"), "*");
            assert_eq!(reply.header("content-type"), "");
        }
    }
    // A list may come as several lines.
    let lines = [("if-none-match", "\"a\""), ("if-none-match", tag)];
    let reply = app.send("GET", PATH, &lines, "").await;
    assert_eq!(reply.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_tag_that_does_not_name_the_set_is_answered_with_the_set() {
    let app = TestApp::start().await;
    let set = app.key_set().await;
    let tag = set.header("etag");
    for value in [
        "",
        "\"\"",
        "\"another\"",
        tag.trim_matches('"'),
        &tag[..tag.len() - 1],
        &format!("w/{tag}"),
    ] {
        let reply = app.send("GET", PATH, &[("if-none-match", value)], "").await;
        assert_eq!(reply.status, StatusCode::OK, "{value}");
        assert_eq!(reply.body, set.body);
    }
}

#[tokio::test]
async fn a_preflight_from_another_page_is_allowed_what_the_key_set_answers() {
    let app = TestApp::start().await;
    let asked = [
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "if-none-match"),
    ];
    let reply = app.send("OPTIONS", PATH, &asked, "").await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    assert_eq!(reply.text(), "");
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
        ("access-control-allow-headers", "*"),
        ("access-control-max-age", "86400"),
        ("allow", "GET, HEAD, OPTIONS"),
    ] {
        assert_eq!(reply.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn the_set_keeps_its_bytes_and_tag_over_ticks_and_a_restart() {
    let mut app = TestApp::start().await;
    app.advance(TO_SECOND_KEY);
    app.rotate().await;
    let before = app.key_set().await;
    app.rotate().await;
    let same = app.key_set().await;
    let after = app.restart().await.key_set().await;
    for later in [same, after] {
        assert_eq!(later.text(), before.text());
        assert_eq!(later.header("etag"), before.header("etag"));
    }
}

#[tokio::test]
async fn a_new_key_changes_the_tag() {
    let mut app = TestApp::start().await;
    let before = app.key_set().await;
    app.advance(TO_SECOND_KEY);
    app.rotate().await;
    let headers = [("if-none-match", before.header("etag"))];
    let after = app.send("GET", PATH, &headers, "").await;
    assert_eq!(after.status, StatusCode::OK);
    assert_ne!(after.header("etag"), before.header("etag"));
    assert_ne!(after.text(), before.text());
}

#[tokio::test]
async fn a_key_leaves_the_set_in_the_second_it_expires_without_any_tick() {
    let mut app = TestApp::start().await;
    let first = app.published_kids().await;
    app.advance(TO_SECOND_KEY);
    app.rotate().await;
    let both = app.published_kids().await;
    let tag = app.key_set().await.header("etag").to_owned();
    assert_eq!((both.len(), &both[..1]), (2, &first[..]));
    app.advance(Duration::from_secs(3600 - 1140 - 1));
    assert_eq!(app.published_kids().await, both);
    app.advance(Duration::from_secs(1));
    assert_eq!(app.published_kids().await, both[1..]);
    assert_ne!(app.key_set().await.header("etag"), tag);
}

/// Tokio's paused clock advances when all tasks wait, so the five
/// seconds are not spent.
#[tokio::test(start_paused = true)]
async fn without_a_usable_key_the_set_is_503_and_never_empty() {
    let app = TestApp::start().await;
    app.advance(Duration::from_secs(3600));
    for method in ["GET", "HEAD"] {
        let reply = app.send(method, PATH, &[], "").await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.header("retry-after"), "2");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(reply.header("etag"), "");
        if method == "GET" {
            assert_eq!(reply.error(), "no key is published at the moment");
        }
    }
}

#[tokio::test]
async fn requests_before_the_first_key_wait_for_it() {
    let mut app = TestApp::without_keys(tempfile::tempdir().unwrap(), "");
    let state = app.state.clone();
    // `join!` polls in this order, so the request is there first.
    let (early, _) = tokio::join!(
        send_to(&state, "192.0.2.1", "GET", PATH, &[], ""),
        app.rotate()
    );
    assert_eq!(early.status, StatusCode::OK);
    assert_eq!(early.text(), app.key_set().await.text());
}

/// RFC 9110 section 13.1.1: by strong comparison.
#[tokio::test]
async fn a_key_set_that_if_match_does_not_name_is_412() {
    let app = TestApp::start().await;
    let etag = app.key_set().await.header("etag").to_owned();
    for (tags, status) in [
        (etag.clone(), 200),
        (format!("\"x\", {etag}"), 200),
        ("*".to_owned(), 200),
        ("\"x\"".to_owned(), 412),
        (format!("W/{etag}"), 412),
        (String::new(), 412),
    ] {
        let path = "/.well-known/jwks.json";
        let reply = app.send("GET", path, &[("if-match", &tags)], "").await;
        assert_eq!(reply.status, status, "{tags}");
        let both = [("if-match", tags.as_str()), ("if-none-match", "*")];
        let reply = app.send("GET", path, &both, "").await;
        assert_eq!(
            reply.status,
            if status == 200 { 304 } else { 412 },
            "{tags}"
        );
    }
}
