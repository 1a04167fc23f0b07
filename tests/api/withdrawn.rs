//! Keys that must stay out of the key set for good, whatever the clock says and
//! whatever another program writes that does not know `NOT_MY_KEY`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::crypto::rsa::KeySource as _;
use jwks_server::domain::database::{self, Location};
use jwks_server::domain::key_admin::KeyOperations;
use jwks_server::lifecycle::Kid;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::manual_clock::ManualClock;
use crate::support::{START, Stock, TestApp};

const HOUR: Duration = Duration::from_secs(3600);
/// The service takes a clock that is behind its keys for right after this time.
const BEHIND_FOR: Duration = Duration::from_secs(300);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[tokio::test]
async fn the_kid_of_an_expired_token_is_never_published_again() {
    let mut app = TestApp::start().await;
    let password = app.register("alice").await;
    let live = app.published_kids().await;
    app.advance(2 * HOUR);
    app.rotate().await;
    let expired = app.token("/auth?expired", "alice", &password).await;
    assert_eq!(expired.kid(), live[0]);
    let marked = app.rows("SELECT kid FROM withdrawn_keys");
    assert_eq!(marked, live);
    app.token("/auth?expired", "alice", &password).await;
    assert_eq!(app.rows("SELECT kid FROM withdrawn_keys"), marked);
    app.clock.step_to(START);
    // Not even before the next tick.
    assert!(!app.published_kids().await.contains(&live[0]));
    app.rotate().await;
    assert!(!app.published_kids().await.contains(&live[0]));
    let mut app = app.restart().await;
    app.rotate().await;
    let set = app.key_set().await.json();
    assert!(!expired.verifies_against(&set), "{set}");
    assert!(
        app.token("/auth", "alice", &password)
            .await
            .verifies_against(&set)
    );
}

#[tokio::test]
async fn a_process_follows_when_another_has_withdrawn_a_key() {
    let mut app = TestApp::start().await;
    let password = app.register("alice").await;
    let before = app.store.change_counter().await.unwrap();
    app.token("/auth?expired", "alice", &password).await;
    assert!(app.store.change_counter().await.unwrap() > before);
    app.rotate().await;
}

#[tokio::test]
async fn a_revoked_key_stays_out_under_another_kid() {
    let mut app = TestApp::start().await;
    let leaked = app.published_kids().await.remove(0);
    let emergency = operations(&app);
    emergency.emergency_rotate("leak".into()).await.unwrap();
    app.rotate().await;
    let published = app.published_kids().await;
    let end = START.as_secs() + 86_400;
    app.execute(&format!(
        "INSERT INTO keys (kid, key, exp) SELECT 5, key, {end} FROM keys WHERE kid = {leaked}"
    ));
    app.rotate().await;
    assert_eq!(app.published_kids().await, published);
    let app = app.restart().await;
    assert_eq!(app.published_kids().await, published);
}

#[tokio::test]
async fn an_index_of_another_program_makes_no_revocation_or_withdrawal_fail_silently() {
    let mut app = TestApp::start().await;
    let password = app.register("alice").await;
    app.execute(
        "CREATE UNIQUE INDEX by_kind ON key_events (event) WHERE event = 'revoked';
         INSERT INTO key_events (kid, event, at) VALUES (1, 'revoked', 0);
         CREATE UNIQUE INDEX one ON withdrawn_keys ((1));
         INSERT INTO withdrawn_keys (kid, at) VALUES (1, 0)",
    );
    let before = app.published_kids().await;
    let replaced = operations(&app).emergency_rotate("leak".into()).await;
    assert!(replaced.is_err());
    app.rotate().await;
    assert_eq!(app.published_kids().await, before);
    let refused = app.sign_in("/auth?expired", "alice", &password).await;
    assert_eq!(refused.status, 500);
}

#[tokio::test]
async fn a_clock_that_is_behind_for_a_while_ends_no_key() {
    let mut app = TestApp::start().await;
    let password = app.register("alice").await;
    let token = app.token("/auth", "alice", &password).await;
    app.clock.step_to(START - YEAR);
    for _ in 0..4 {
        app.rotate().await;
        let set = app.key_set().await.json();
        assert!(token.verifies_against(&set), "{set}");
        app.advance(Duration::from_secs(60));
    }
    app.clock.step_to(START + Duration::from_secs(240));
    app.rotate().await;
    let set = app.key_set().await.json();
    assert!(token.verifies_against(&set), "{set}");
    // The time that it was behind before does not count.
    app.clock.step_to(START - YEAR);
    app.rotate().await;
    app.advance(Duration::from_secs(240));
    app.rotate().await;
    app.clock.step_to(START + Duration::from_secs(500));
    app.rotate().await;
    let set = app.key_set().await.json();
    assert!(token.verifies_against(&set), "{set}");
}

#[tokio::test]
async fn a_clock_that_is_ahead_for_a_while_deletes_and_withdraws_no_live_key() {
    let mut app = TestApp::start().await;
    let password = app.register("alice").await;
    let live = app.token("/auth", "alice", &password).await;
    app.advance(Duration::from_secs(600));
    app.rotate().await;
    app.clock.step_to(START + YEAR);
    for _ in 0..2 {
        let expired = app.token("/auth?expired", "alice", &password).await;
        assert_ne!(expired.kid(), live.kid());
        assert!(expired.claims()["exp"].as_i64().unwrap() < START.as_secs());
        app.rotate().await;
        app.advance(Duration::from_secs(120));
    }
    app.clock.step_to(START + Duration::from_secs(900));
    app.rotate().await;
    let set = app.key_set().await.json();
    assert!(live.verifies_against(&set), "{set}");
}

#[tokio::test]
async fn a_clock_that_was_a_year_ahead_leaves_no_key_published_for_longer_than_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(START + YEAR));
    let mut app = TestApp::at(dir, "", clock);
    app.rotate().await;
    for _ in 0..6 {
        app.advance(Duration::from_secs(1200));
        app.rotate().await;
    }
    let ahead = app.published_kids().await;
    app.clock.step_to(START);
    app.rotate().await;
    let kept = app.published_kids().await;
    assert!(ahead.iter().all(|kid| kept.contains(kid)), "{kept:?}");
    app.advance(BEHIND_FOR);
    app.rotate().await;
    let longest = app.rows("SELECT max(exp) FROM keys")[0]
        .parse::<i64>()
        .unwrap();
    assert!(longest <= START.as_secs() + 3600, "{longest}");
    app.advance(HOUR);
    app.rotate().await;
    let after = app.published_kids().await;
    assert!(!after.is_empty() && !after.iter().any(|kid| ahead.contains(kid)));
}

fn operations(app: &TestApp) -> KeyOperations {
    KeyOperations {
        store: app.store.clone(),
        sealing_keys: Arc::clone(&app.sealing_keys),
        source: Arc::clone(&app.stock) as _,
        policy: app.state.policy,
        clock: Arc::clone(&app.clock) as _,
    }
}

/// A file of the earlier server with the same key under two kids, and another.
fn earlier(dir: &TempDir, sealing_keys: &SealingKeys) {
    let stock = Stock::default();
    stock.skip(5);
    let [twin, other] = [(); 2].map(|()| stock.generate().unwrap().to_pem());
    let sql = Connection::open(dir.path().join("keys.db")).unwrap();
    sql.execute_batch(
        "CREATE TABLE keys (kid INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, exp INTEGER NOT NULL)",
    )
    .unwrap();
    for pem in [&twin, &twin, &other] {
        let sealed = sealing_keys.seal(pem.as_bytes());
        let row = params![sealed, START.as_secs() + 86_400];
        sql.execute("INSERT INTO keys (key, exp) VALUES (?, ?)", row)
            .unwrap();
    }
}

async fn take_over(path: &Path, sealing_keys: &Arc<SealingKeys>) {
    let store = database::open(&Location::Sqlite(path.to_owned()), sealing_keys, true)
        .await
        .unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_revoked_key_of_the_earlier_server_stays_out_under_its_other_kids() {
    let dir = tempfile::tempdir().unwrap();
    let key = SealingKeys::generate();
    std::fs::write(dir.path().join("key"), key.as_str()).unwrap();
    let sealing_keys = Arc::new(SealingKeys::parse(&key).unwrap());
    earlier(&dir, &sealing_keys);
    take_over(&dir.path().join("keys.db"), &sealing_keys).await;
    let mut app = TestApp::without_keys(dir, "");
    app.rotate().await;
    assert_eq!(app.published_kids().await[1..], ["1", "2", "3"]);
    let operations = operations(&app);
    let revoked = operations.revoke(Kid::from_row(1), "leak".into());
    revoked.await.unwrap();
    app.rotate().await;
    assert_eq!(app.published_kids().await[1..], ["3"]);
    app.execute("UPDATE keys SET key = (SELECT key FROM keys WHERE kid = 1) WHERE kid = 3");
    let app = app.restart().await;
    let kids = app.published_kids().await;
    assert!(kids.len() == 1 && kids[0].len() > 10, "{kids:?}");
}
