//! Commands of operators on keys, beside a running service.

use std::sync::Arc;
use std::time::Duration;

use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::domain::database;
use jwks_server::domain::key_admin::{self, KeyOperations, KeyStatus, RevokeError};
use jwks_server::domain::rotation::RotationError;
use jwks_server::lifecycle::Kid;
use jwks_server::lifecycle::Stage;
use jwks_server::store::KeyEventKind;

use crate::support::TestApp;

const LEAD: Duration = Duration::from_secs(602);

fn operations(app: &TestApp) -> KeyOperations {
    operations_with(app, Arc::clone(&app.sealing_keys))
}

fn operations_with(app: &TestApp, sealing_keys: Arc<SealingKeys>) -> KeyOperations {
    KeyOperations {
        store: app.store.clone(),
        sealing_keys,
        source: Arc::clone(&app.stock) as _,
        policy: app.state.policy,
        clock: Arc::clone(&app.clock) as _,
    }
}

fn kid(text: &str) -> Kid {
    Kid::from_row(text.parse().unwrap())
}

fn signer(app: &TestApp) -> String {
    let snapshot = app.state.keys.snapshot();
    let key = snapshot.signing(&app.state.policy, app.now());
    key.unwrap().kid().to_string()
}

async fn statuses(app: &TestApp) -> Vec<KeyStatus> {
    let keys = app.store.all_keys().await.unwrap();
    key_admin::statuses(&keys, &app.sealing_keys, &app.state.policy, app.now())
}

async fn stages(app: &TestApp) -> Vec<Stage> {
    let list = statuses(app).await;
    list.into_iter().map(|key| key.stage).collect()
}

#[tokio::test]
async fn a_rotated_key_is_published_now_and_signs_after_the_lead() {
    let mut app = TestApp::start().await;
    let first = signer(&app);
    let (new, signs_from) = operations(&app).rotate().await.unwrap();
    assert_eq!(signs_from, app.now() + LEAD);
    app.rotate().await;
    assert!(app.published_kids().await.contains(&new.to_string()));
    app.advance(LEAD - Duration::from_secs(1));
    app.rotate().await;
    assert_eq!(signer(&app), first);
    app.advance(Duration::from_secs(1));
    assert_eq!(signer(&app), new.to_string());
    assert_eq!(
        stages(&app).await,
        [Stage::Retiring, Stage::Expired, Stage::Signing]
    );
}

#[tokio::test]
async fn an_emergency_takes_every_key_out_and_a_new_one_signs_at_once() {
    let mut app = TestApp::start().await;
    operations(&app).rotate().await.unwrap();
    app.rotate().await;
    let before = app.published_kids().await;
    let (new, mut gone) = operations(&app)
        .emergency_rotate("leak".into())
        .await
        .unwrap();
    gone.sort();
    let mut expected = before.clone();
    expected.sort();
    assert_eq!(gone, expected);
    app.rotate().await;
    assert_eq!(app.published_kids().await, [new.to_string()]);
    assert_eq!(signer(&app), new.to_string());
}

#[tokio::test]
async fn a_revoked_key_stays_out_when_the_clock_goes_back() {
    let app = TestApp::start().await;
    let leaked = app.published_kids().await;
    operations(&app)
        .emergency_rotate("leak".into())
        .await
        .unwrap();
    app.clock.step_to(app.now() - Duration::from_secs(86_400));
    let mut app = app.restart().await;
    app.rotate().await;
    let kids = app.published_kids().await;
    assert!(!kids.is_empty() && !kids.contains(&leaked[0]));
    assert_ne!(signer(&app), leaked[0]);
}

/// By a clock that was ahead, keys had expired that have not.
#[tokio::test]
async fn a_key_that_was_expired_at_an_emergency_stays_out_when_the_clock_goes_back() {
    let mut app = TestApp::start().await;
    let leaked = app.published_kids().await;
    let made = app.now();
    app.advance(Duration::from_secs(2 * 3600));
    app.rotate().await;
    let ahead = app.published_kids().await;
    let (new, gone) = operations(&app)
        .emergency_rotate("leak".into())
        .await
        .unwrap();
    assert_eq!(gone, ahead);
    app.clock.step_to(made + Duration::from_secs(60));
    app.rotate().await;
    let kids = app.published_kids().await;
    assert!(kids.contains(&new.to_string()) && !kids.contains(&leaked[0]));
    assert_ne!(signer(&app), leaked[0]);
}

#[tokio::test]
async fn revoking_the_signer_hands_over_to_the_key_that_is_there() {
    let mut app = TestApp::start().await;
    let first = signer(&app);
    let (next, _) = operations(&app).rotate().await.unwrap();
    operations(&app)
        .revoke(kid(&first), "leak".into())
        .await
        .unwrap();
    app.rotate().await;
    assert_eq!(app.published_kids().await, [next.to_string()]);
    assert_eq!(signer(&app), next.to_string());
}

#[tokio::test]
async fn revoking_is_refused_with_words_where_nothing_would_be_left() {
    let app = TestApp::start().await;
    let only = kid(&signer(&app));
    let refused = |outcome: Result<(), RevokeError>| outcome.unwrap_err().to_string();
    let keys = operations(&app);
    assert_eq!(
        refused(keys.revoke(only, "x".into()).await),
        format!(
            "key {only} is the only one that can sign, and no other would be left: use `keys rotate --now`, which makes a new one"
        )
    );
    assert_eq!(
        refused(keys.revoke(Kid::from_row(7), "x".into()).await),
        "there is no key 7; `keys list` shows all"
    );
    let expired = app
        .rows("SELECT kid FROM keys ORDER BY exp LIMIT 1")
        .remove(0);
    assert_eq!(
        refused(keys.revoke(kid(&expired), "x".into()).await),
        format!("key {expired} is not published any more")
    );
    let events = app.rows("SELECT count(*) FROM key_events WHERE event = 'revoked'");
    assert_eq!(events, ["0"]);
}

/// A key that no entry of NOT_MY_KEY opens cannot sign, so it is nothing that
/// would be left.
#[tokio::test]
async fn a_key_that_does_not_open_is_no_reason_to_revoke_the_last_good_one() {
    let app = TestApp::start().await;
    let only = kid(&signer(&app));
    app.execute("INSERT INTO keys (kid, key, exp) VALUES (9, 'broken', 1900000000)");
    let outcome = operations(&app).revoke(only, "x".into()).await;
    assert!(matches!(outcome, Err(RevokeError::LastOne(_))));
}

#[tokio::test]
async fn the_history_tells_what_happened_and_why() {
    let mut app = TestApp::start().await;
    let password = app.register("alice").await;
    let first = kid(&signer(&app));
    for _ in 0..2 {
        app.token("/auth", "alice", &password).await;
    }
    let (new, _) = operations(&app)
        .emergency_rotate("a leak".into())
        .await
        .unwrap();
    app.rotate().await;
    let history = |limit| database::key_history(&app.location(), limit).unwrap();
    let events = history(10);
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.kid.clone(), event.kind, event.reason.as_deref()))
        .collect();
    let expired = told[1].0.clone();
    let (first, new) = (first.to_string(), new.to_string());
    assert_eq!(
        told,
        [
            (first.clone(), KeyEventKind::Created, None),
            (expired.clone(), KeyEventKind::Created, None),
            (first.clone(), KeyEventKind::FirstSigned, None),
            (first, KeyEventKind::Revoked, Some("a leak")),
            (expired, KeyEventKind::Revoked, Some("a leak")),
            (new, KeyEventKind::Created, None),
        ]
    );
    assert_eq!(history(1), events[5..]);
}

#[tokio::test]
async fn a_deleted_key_leaves_its_event() {
    let mut app = TestApp::start().await;
    app.advance(Duration::from_secs(8 * 86_400));
    app.rotate().await;
    let events = app.rows("SELECT event FROM key_events WHERE event = 'deleted'");
    assert_eq!(events, ["deleted"]);
}

/// The key of a `NOT_MY_KEY` that the servers do not have would be of no use to them.
#[tokio::test]
async fn a_new_key_is_sealed_under_the_entry_that_the_servers_have() {
    let app = TestApp::start().await;
    let old = std::fs::read_to_string(app.database().with_file_name("key")).unwrap();
    let new = SealingKeys::generate();
    let both = Arc::new(SealingKeys::parse(&format!("{},{old}", new.as_str())).unwrap());
    let (rotated, _) = operations_with(&app, both).rotate().await.unwrap();
    let statuses = statuses(&app).await;
    let row = statuses
        .iter()
        .find(|key| key.kid == rotated.to_string())
        .unwrap();
    assert!(matches!(row.opened_by, Ok(0)));
}

#[tokio::test]
async fn with_a_key_that_opens_nothing_no_key_is_rotated_or_replaced() {
    let app = TestApp::start().await;
    let before = app.rows("SELECT kid, exp FROM keys");
    let other = Arc::new(SealingKeys::parse(&SealingKeys::generate()).unwrap());
    let keys = operations_with(&app, other);
    let refusals = [
        keys.rotate().await.map(drop),
        keys.emergency_rotate("leak".into()).await.map(drop),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Err(RotationError::OtherSealingKey)));
    }
    assert_eq!(app.rows("SELECT kid, exp FROM keys"), before);
}
