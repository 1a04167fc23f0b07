//! The schedule tells what then happens; discovery tells what is true.

use std::time::Duration;

use axum::http::StatusCode;
use jwks_server::clock::UnixTime;
use serde_json::{Value, json};

use crate::long::times;
use crate::support::{START, TestApp};

const SCHEDULE: &str = "/.well-known/jwks-schedule.json";
const DAY: i64 = 86_400;

async fn schedule(app: &TestApp) -> Value {
    let reply = app.send("GET", SCHEDULE, &[], "").await;
    assert_eq!(reply.status, StatusCode::OK);
    reply.json()
}

fn epoch(moment: &Value) -> Option<i64> {
    moment["epoch"].as_i64()
}

/// The kid that signs now.
fn signer(app: &TestApp) -> String {
    let snapshot = app.state.keys.snapshot();
    let key = snapshot.signing(&app.state.policy, app.now());
    key.unwrap().kid().to_string()
}

async fn go_to(app: &mut TestApp, epoch: i64) {
    app.clock.step_to(UnixTime::from_secs(epoch));
    app.rotate().await;
}

/// From one announced moment to the next, checked at the second before it too.
#[tokio::test]
async fn what_the_schedule_foretells_happens_to_the_second_for_days() {
    let settings =
        "KEY_LIFETIME=12h\nTOKEN_LIFETIME=3h\nKEY_LEAD=1h\nCLOCK_SKEW=5m\nKEY_RETENTION=1d";
    let mut app = TestApp::with_settings(settings).await;
    let (mut turns, mut ends, mut births) = (0_i64, 0_i64, 0_i64);
    let days = i64::try_from(times(5, 60)).unwrap();
    while app.now().as_secs() < START.as_secs() + days * DAY {
        let foretold = schedule(&app).await;
        let keys = foretold["keys"].as_array().unwrap();
        let moments = keys.iter().flat_map(|key| {
            ["signs_from", "stops_signing", "unpublished_at"].map(|name| epoch(&key[name]))
        });
        let next = moments
            .chain([epoch(&foretold["next_rotation"])])
            .flatten()
            .filter(|&at| at > app.now().as_secs())
            .min()
            .unwrap();
        go_to(&mut app, next - 1).await;
        let (signed, published) = (signer(&app), app.published_kids().await);
        go_to(&mut app, next).await;
        let (signs, publishes) = (signer(&app), app.published_kids().await);
        for key in keys {
            let kid = key["kid"].as_str().unwrap().to_owned();
            if epoch(&key["signs_from"]) == Some(next) {
                assert!(signed != kid && signs == kid, "{kid} was to sign");
                turns += 1;
            }
            if epoch(&key["stops_signing"]) == Some(next) {
                assert!(signed == kid && signs != kid, "{kid} was to stop");
            }
            if epoch(&key["unpublished_at"]) == Some(next) {
                assert!(published.contains(&kid) && !publishes.contains(&kid));
                ends += 1;
            }
        }
        let new = publishes.iter().filter(|kid| !published.contains(kid));
        let foretold_birth = epoch(&foretold["next_rotation"]) == Some(next);
        assert_eq!(
            new.count(),
            usize::from(foretold_birth),
            "keys made at {next}"
        );
        births += i64::from(foretold_birth);
    }
    assert!(
        [turns, ends, births].iter().all(|&count| count > 2 * days),
        "{turns} {ends} {births}"
    );
}

#[tokio::test]
async fn the_schedule_has_states_times_twice_and_the_contract() {
    let app = TestApp::start().await;
    let kid = app.published_kids().await.remove(0);
    let expected = json!({
        "keys": [{
            "kid": kid,
            "state": "signing",
            "published_from": {"time": "2027-01-15T08:00:00Z", "epoch": 1_800_000_000},
            "signs_from": {"time": "2027-01-15T08:00:00Z", "epoch": 1_800_000_000},
            "stops_signing": {"time": "2027-01-15T08:29:00Z", "epoch": 1_800_001_740},
            "unpublished_at": {"time": "2027-01-15T09:00:00Z", "epoch": 1_800_003_600},
        }],
        "next_rotation": {"time": "2027-01-15T08:18:58Z", "epoch": 1_800_001_138},
        "contract": {
            "max_cache_seconds": 600,
            "min_notice_seconds": 600,
            "max_token_lifetime_seconds": 1800,
            "clock_skew_seconds": 60,
        },
    });
    assert_eq!(schedule(&app).await, expected);
}

/// Verifiers and caches must not get a new document each second.
#[tokio::test]
async fn a_key_that_is_overdue_keeps_the_time_at_which_it_was_due() {
    let app = TestApp::start().await;
    let due = epoch(&schedule(&app).await["next_rotation"]).unwrap();
    app.clock.step_to(UnixTime::from_secs(due + 60));
    let late = app.send("GET", SCHEDULE, &[], "").await;
    assert_eq!(epoch(&late.json()["next_rotation"]), Some(due));
    app.advance(Duration::from_secs(1));
    let known = [("if-none-match", late.header("etag"))];
    let again = app.send("GET", SCHEDULE, &known, "").await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn the_schedule_is_cached_and_shared_like_the_key_set() {
    let app = TestApp::start().await;
    let reply = app.send("GET", SCHEDULE, &[], "").await;
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("cache-control"), "public, max-age=300");
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    let known = [("if-none-match", reply.header("etag"))];
    let again = app.send("GET", SCHEDULE, &known, "").await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    let post = app.send("POST", SCHEDULE, &[], "").await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(post.header("allow"), "GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn discovery_is_there_with_an_issuer_and_says_only_what_is_true() {
    let app = TestApp::with_settings("ISSUER=https://issuer.example\nAUDIENCE=api").await;
    let expected = json!({
        "issuer": "https://issuer.example",
        "jwks_uri": "https://issuer.example/.well-known/jwks.json",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["iss", "sub", "iat", "exp", "jti", "aud"],
    });
    for name in ["openid-configuration", "oauth-authorization-server"] {
        let path = format!("/.well-known/{name}");
        assert_eq!(app.send("GET", &path, &[], "").await.json(), expected);
        let without = TestApp::start().await;
        let reply = without.send("GET", &path, &[], "").await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
    }
}

/// RFC 8414 section 3.1 puts the well-known part before the path, OpenID
/// Connect Discovery section 4 after it.
#[tokio::test]
async fn an_issuer_with_a_path_has_each_document_where_its_standard_wants_it() {
    let app = TestApp::with_settings("ISSUER=https://issuer.example/t/1/").await;
    let places = [
        "/t/1/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/t/1",
    ];
    for path in places {
        let metadata = app.send("GET", path, &[], "").await.json();
        assert_eq!(metadata["issuer"], "https://issuer.example/t/1/");
        let uri = metadata["jwks_uri"].as_str().unwrap();
        let below = uri.strip_prefix("https://issuer.example").unwrap();
        let set = app.send("GET", below, &[], "").await;
        assert_eq!(set.body, app.key_set().await.body);
    }
}
