//! Contracts of accounts and sign-ins.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures_util::future::join_all;
use jwks_server::clock::{Clock, SystemClock, UnixTime};
use jwks_server::domain::database;
use jwks_server::store::{
    AccountChange, AccountDetails, AccountRow, NewAccountRow, Recorded, SignInFilter, SignInRecord,
    SignInRow, StoreError,
};

use crate::engine::{Engine, account};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

pub fn sign_in(account: &AccountRow) -> SignInRecord {
    SignInRecord {
        account: account.id,
        username: account.username.clone(),
        password_hash: account.password_hash.clone(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        at: NOW,
        new_hash: None,
        first_use: None,
        withdraw: None,
    }
}

/// Returns the number of sign-ins that were changed or deleted.
/// The account as it was before, and the number of sign-ins that were changed.
async fn change(engine: &Engine, name: &str, change: AccountChange) -> (AccountDetails, usize) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let names = [name.to_owned(), name.to_owned()];
    let found = engine
        .store()
        .await
        .change_account(names, change, &clock, |found, _| {
            found.ok_or(StoreError::AlreadyExists)
        });
    found.await.unwrap()
}

pub async fn an_account_is_found_by_its_exact_name_first(engine: &Engine) {
    engine.account("Alice").await;
    engine.account("alice").await;
    let store = engine.store().await;
    let find = async |exact: &str, prepared: &str| {
        let found = store.account_by_name(exact.into(), prepared.into()).await;
        found.unwrap().map(|row| row.username)
    };
    assert_eq!(find("Alice", "alice").await.unwrap(), "Alice");
    assert_eq!(find("ALICE", "alice").await.unwrap(), "alice");
    assert_eq!(find("ALICE", "ALICE").await, None);
    assert_eq!(find("a\0b", "a\0b").await, None);
    let shown = database::account(&engine.location(), "alice")
        .unwrap()
        .unwrap();
    assert_eq!((shown.registered, shown.last_sign_in), (Some(NOW), None));
}

pub async fn a_name_or_a_form_of_an_address_is_given_once(engine: &Engine) {
    let store = engine.store().await;
    let add = async |name: &str, email| {
        let outcome = store.insert_account(account(name, email), NOW).await;
        match outcome {
            Ok(()) => true,
            Err(StoreError::AlreadyExists) => false,
            Err(e) => panic!("{e}"),
        }
    };
    assert!(add("a", Some(("a@x.example", "A@x.example"))).await);
    assert!(!add("a", Some(("b@x.example", "b@x.example"))).await);
    assert!(!add("b", Some(("a@x.example", "a@x.example"))).await);
    assert!(!add("b", Some(("A@x.example", "a@x.example"))).await);
    assert!(add("b", None).await);
    assert!(add("c", None).await);
    assert_eq!(engine.count("SELECT count(*) FROM users"), 3);
}

pub async fn of_many_accounts_all_or_none_are_added(engine: &Engine) {
    engine.account("taken").await;
    let store = engine.store().await;
    let rows = ["one", "taken", "two"].map(|name| account(name, None));
    let insert = async |rows: &[NewAccountRow], only_check| {
        let taken = store.insert_accounts(rows.to_vec(), NOW, only_check).await;
        taken.unwrap()
    };
    for only_check in [true, false] {
        assert_eq!(insert(&rows, only_check).await, [1]);
        assert_eq!(engine.count("SELECT count(*) FROM users"), 1);
    }
    let rows = ["one", "two"].map(|name| account(name, None));
    assert_eq!(insert(&rows, true).await, [0; 0]);
    assert_eq!(engine.count("SELECT count(*) FROM users"), 1);
    let taken = insert(&rows, false).await;
    assert_eq!(taken, [0; 0]);
    assert_eq!(engine.count("SELECT count(*) FROM users"), 3);
}

pub async fn the_last_word_on_an_account_is_kept_with_its_reason(engine: &Engine) {
    engine.account("alice").await;
    let disable = |reason: &str| AccountChange::Disable {
        reason: reason.to_owned(),
    };
    let enable = |reason: Option<&str>| AccountChange::Enable {
        reason: reason.map(str::to_owned),
    };
    // Disabled and why, or enabled and why: before each change.
    for (next, disabled, enabled) in [
        (disable("left"), None, None),
        (enable(Some("is back")), Some("left"), None),
        (disable("left again"), None, Some(Some("is back"))),
        (enable(None), Some("left again"), None),
        (disable("for good"), None, Some(None)),
    ] {
        let (found, _) = change(engine, "alice", next).await;
        let reason = found.disabled.and_then(|it| it.reason);
        assert_eq!(reason.as_deref(), disabled);
        let reason = found.enabled.map(|it| it.reason);
        assert_eq!(reason.as_ref().map(Option::as_deref), enabled);
    }
}

pub async fn a_sign_in_of_a_disabled_or_deleted_account_leaves_nothing(engine: &Engine) {
    let (kept, gone) = (engine.account("kept").await, engine.account("gone").await);
    let store = engine.store().await;
    let disable = AccountChange::Disable {
        reason: "left".to_owned(),
    };
    change(engine, "kept", disable).await;
    change(
        engine,
        "gone",
        AccountChange::Delete {
            with_sign_ins: false,
        },
    )
    .await;
    assert_eq!(
        store.record_sign_in(sign_in(&kept)).await.unwrap(),
        Recorded::AccountChanged
    );
    assert_eq!(
        store.record_sign_in(sign_in(&gone)).await.unwrap(),
        Recorded::AccountChanged
    );
    assert!(engine.sign_ins().await.is_empty());
    let found = store.account_by_name("kept".into(), "kept".into()).await;
    assert!(found.unwrap().unwrap().is_disabled);
    // Those that are written in one transaction with it do not suffer.
    let other = engine.account("other").await;
    let mixed = [&other, &kept, &other, &gone, &other].map(sign_in);
    let written = join_all(mixed.map(|record| store.record_sign_in(record))).await;
    let written: Vec<_> = written.into_iter().map(Result::unwrap).collect();
    let (done, gone) = (Recorded::Written, Recorded::AccountChanged);
    assert_eq!(written, [done, gone, done, gone, done]);
    assert_eq!(engine.sign_ins().await.len(), 3);
    let with_sign_ins = AccountChange::Delete {
        with_sign_ins: true,
    };
    assert_eq!(change(engine, "other", with_sign_ins).await.1, 3);
    let enable = AccountChange::Enable { reason: None };
    change(engine, "kept", enable).await;
    assert_eq!(
        store.record_sign_in(sign_in(&kept)).await.unwrap(),
        Recorded::Written
    );
    assert_eq!(
        engine.sign_ins().await,
        [SignInRow {
            id: engine.sign_ins().await[0].id,
            at: Some(NOW),
            client: "127.0.0.1".to_owned(),
            account: Some(kept.id),
            username: Some("kept".to_owned()),
        }]
    );
    change(
        engine,
        "kept",
        AccountChange::Delete {
            with_sign_ins: false,
        },
    )
    .await;
    assert_eq!(engine.sign_ins().await[0].account, None);
}

pub async fn a_sign_in_by_a_hash_that_was_replaced_meanwhile_leaves_nothing(engine: &Engine) {
    let alice = engine.account("alice").await;
    let store = engine.store().await;
    let with_hash = |old: &str| SignInRecord {
        password_hash: old.to_owned(),
        new_hash: Some("new".to_owned()),
        ..sign_in(&alice)
    };
    let hash = async || {
        let found = store.account_by_name("alice".into(), "alice".into()).await;
        found.unwrap().unwrap().password_hash
    };
    assert_eq!(
        store.record_sign_in(with_hash("other")).await.unwrap(),
        Recorded::AccountChanged
    );
    assert_eq!(hash().await, "hash");
    assert!(engine.sign_ins().await.is_empty());
    assert_eq!(
        store.record_sign_in(with_hash("hash")).await.unwrap(),
        Recorded::Written
    );
    assert_eq!(hash().await, "new");
    // Also beside others in one transaction, and where nothing but the sign-in is written.
    let other = engine.account("other").await;
    let mixed = [&other, &alice, &other].map(sign_in);
    let written = join_all(mixed.map(|record| store.record_sign_in(record))).await;
    let written: Vec<_> = written.into_iter().map(Result::unwrap).collect();
    let (done, changed) = (Recorded::Written, Recorded::AccountChanged);
    assert_eq!(written, [done, changed, done]);
    assert_eq!(engine.sign_ins().await.len(), 3);
}

pub async fn each_of_many_sign_ins_at_once_leaves_its_row(engine: &Engine) {
    let accounts = [engine.account("a").await, engine.account("b").await];
    let stores = [engine.store().await.clone(), engine.open().await];
    let all = (0..300).map(|i| stores[i % 2].record_sign_in(sign_in(&accounts[i / 2 % 2])));
    for outcome in join_all(all).await {
        assert_eq!(outcome.unwrap(), Recorded::Written);
    }
    assert_eq!(engine.count("SELECT count(*) FROM auth_logs"), 300);
    let committed = "SELECT count(*) FROM users WHERE last_login IS NOT NULL";
    assert_eq!(engine.count(committed), 2);
    // The second one is closed first: SQLite's last connection empties its log.
    let [_, second] = stores;
    second.close().await;
}

pub async fn of_many_that_take_a_name_at_once_one_gets_it(engine: &Engine) {
    let stores = [engine.store().await.clone(), engine.open().await];
    let all = (0..20).map(|i| stores[i % 2].insert_account(account("alice", None), NOW));
    let outcomes = join_all(all).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let others = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    for other in others {
        assert!(matches!(other, StoreError::AlreadyExists), "{other}");
    }
    let [_, second] = stores;
    second.close().await;
}

pub async fn sign_ins_are_pruned_by_id_time_and_address(engine: &Engine) {
    let alice = engine.account("alice").await;
    let store = engine.store().await;
    for _ in 0..3 {
        assert_eq!(
            store.record_sign_in(sign_in(&alice)).await.unwrap(),
            Recorded::Written
        );
    }
    let rows = engine.sign_ins().await;
    let mut other = rows[1].clone();
    other.client = "192.0.2.1".to_owned();
    let deleted = store.delete_sign_ins(vec![rows[0].clone(), other]).await;
    assert_eq!(deleted.unwrap(), 1);
    assert_eq!(engine.sign_ins().await, rows[1..]);
    let filter = SignInFilter {
        newest_first: true,
        since: Some(NOW),
        account: Some(alice.id),
        limit: 1,
        ..SignInFilter::default()
    };
    let listed = database::list_sign_ins(&engine.location(), &filter).unwrap();
    assert_eq!(listed, rows[2..]);
    let before = SignInFilter {
        until: Some(NOW),
        limit: 9,
        ..SignInFilter::default()
    };
    let listed = database::list_sign_ins(&engine.location(), &before).unwrap();
    assert!(listed.is_empty());
}
