//! An unknown name and a wrong password cost the same, counted exactly, also
//! where accounts have hashes of several kinds.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::StatusCode;
use jwks_server::crypto::password::Costs;
use jwks_server::crypto::password::pool::PasswordHasher;

use crate::support::TestApp;

/// KiB times passes of a new hash.
const NEW: u64 = 19_456 * 2;

/// KiB times passes that a sign-in with a wrong password or name costs.
async fn cost(app: &TestApp, name: &str) -> u64 {
    app.advance(Duration::from_millis(100));
    let before = app.state.accounts.work();
    let reply = app.sign_in("/auth", name, "wrong").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    app.state.accounts.work() - before
}

/// Makes accounts as another server would, with hashes of these costs.
async fn insert(app: &TestApp, names: &[String], (memory_kib, passes, lanes): (u32, u32, u32)) {
    let costs = Costs {
        memory_kib,
        passes,
        lanes,
    };
    let hasher = PasswordHasher::start(costs, 1).unwrap();
    let hash = hasher.hash("right".to_owned().into()).await.unwrap();
    let sql = app.sql();
    for name in names {
        sql.execute(
            "INSERT INTO users (username, password_hash) VALUES (?, ?)",
            [name, &hash],
        )
        .unwrap();
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

#[tokio::test]
async fn an_unknown_name_costs_what_a_wrong_password_does() {
    let app = TestApp::start().await;
    assert_eq!(cost(&app, "nobody").await, NEW);
    app.register("alice").await;
    app.state.accounts.learn_costs().await.unwrap();
    for name in ["alice", "nobody", "alice", "a\u{200b}b", "somebody"] {
        assert_eq!(cost(&app, name).await, NEW, "{name}");
    }
}

/// The file of the earlier server, just taken over.
#[tokio::test]
async fn where_all_hashes_are_old_every_unknown_name_costs_an_old_one() {
    let app = TestApp::start().await;
    insert(&app, &names("u", 3), (65_536, 3, 2)).await;
    for name in ["nobody", "u1", "somebody"] {
        assert_eq!(cost(&app, name).await, 65_536 * 3, "{name}");
    }
    // Its first sign-in gives it a new hash, and the others keep theirs.
    app.advance(Duration::from_secs(1));
    app.token("/auth", "u1", "right").await;
    assert_eq!(cost(&app, "u1").await, NEW);
    assert_eq!(cost(&app, "u2").await, 65_536 * 3);
}

#[tokio::test]
async fn unknown_names_cost_what_accounts_do_in_the_same_proportions() {
    let kinds = [(1024, 1, 1), (2048, 2, 1), (4096, 3, 2)];
    let app = TestApp::start().await;
    insert(&app, &names("a", 20), kinds[0]).await;
    insert(&app, &names("b", 20), kinds[1]).await;
    insert(&app, &names("c", 60), kinds[2]).await;
    let mut counts = HashMap::new();
    let unknown = names("nobody", 400);
    for name in &unknown {
        *counts.entry(cost(&app, name).await).or_insert(0) += 1;
    }
    let shares = kinds.map(|(memory, passes, _)| counts.remove(&u64::from(memory * passes)));
    assert_eq!(counts, HashMap::new());
    // 80, 80 and 240 are expected; these bounds are over seven deviations away.
    for (share, bounds) in shares.into_iter().zip([20..140, 20..140, 165..315]) {
        assert!(bounds.contains(&share.unwrap()), "{shares:?}");
    }
    // A name costs the same each time, after a restart too.
    let mut before = Vec::new();
    for name in &unknown[..20] {
        before.push(cost(&app, name).await);
    }
    let app = app.restart().await;
    for (name, before) in unknown.iter().zip(before) {
        assert_eq!(cost(&app, name).await, before, "{name}");
    }
}
