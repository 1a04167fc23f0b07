//! Contracts of keys.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jwks_server::clock::{Clock, SystemClock, UnixTime};
use jwks_server::domain::database;
use jwks_server::lifecycle::{KeySpan, Kid};
use jwks_server::store::{
    KeyChange, KeyEventKind, KeyRows, KeySelection, NewAdoptedKey, NewKey, Recorded, SignInRecord,
    Store, StoreError,
};

use crate::accounts::sign_in;
use crate::engine::Engine;

const MINUTE: Duration = Duration::from_secs(60);

fn now() -> UnixTime {
    SystemClock::new().now()
}

fn key(kid: i64, expires_at: UnixTime) -> NewKey {
    NewKey {
        kid: Kid::from_row(kid),
        sealed: format!("sealed {kid}").into_bytes(),
        span: KeySpan {
            created_at: now() - MINUTE,
            signs_from: now() - MINUTE,
            expires_at,
        },
    }
}

fn inserting(key: NewKey) -> KeyChange {
    KeyChange {
        insert: Some(key),
        ..KeyChange::default()
    }
}

async fn change(store: &Store, change: KeyChange) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let decide = move |_: &KeyRows, _| Ok::<_, StoreError>((change, ()));
    store
        .change_keys(KeySelection::All, &clock, decide)
        .await
        .unwrap();
}

fn kids(rows: &KeyRows) -> Vec<i64> {
    rows.rows.iter().map(|row| row.times.kid.as_i64()).collect()
}

pub async fn a_key_is_read_as_it_was_written(engine: &Engine) {
    let store = engine.store().await;
    let live = key(7, now() + 10 * MINUTE);
    change(store, inserting(live.clone())).await;
    change(store, inserting(key(5, now() - MINUTE))).await;
    change(store, inserting(key(6, now() - 2 * MINUTE))).await;
    let all = store.all_keys().await.unwrap();
    assert_eq!(kids(&all), [7, 5, 6]);
    let row = &all.rows[0];
    assert_eq!(row.sealed, live.sealed);
    assert_eq!(row.times.expires_at, live.span.expires_at);
    assert_eq!(row.times.signs_from, Some(live.span.signs_from));
    assert_eq!(row.times.created_at, Some(live.span.created_at));
    assert!(!row.times.revoked && !row.times.withdrawn && !row.is_of_earlier_server);
    assert_eq!(kids(&store.keys_at(now(), 0).await.unwrap()), [7]);
    assert_eq!(kids(&store.keys_at(now(), 1).await.unwrap()), [5, 7]);
    assert_eq!(kids(&store.keys_at(now(), 9).await.unwrap()), [6, 5, 7]);
    change(
        store,
        KeyChange {
            reencrypt: vec![(Kid::from_row(7), b"anew".to_vec())],
            retime: vec![(
                Kid::from_row(5),
                KeySpan {
                    expires_at: now() - 3 * MINUTE,
                    ..live.span
                },
            )],
            ..KeyChange::default()
        },
    )
    .await;
    let all = store.all_keys().await.unwrap();
    assert_eq!(all.rows[0].sealed, b"anew");
    assert_eq!(kids(&store.keys_at(now(), 9).await.unwrap()), [5, 6, 7]);
}

pub async fn a_refused_change_changes_nothing(engine: &Engine) {
    let store = engine.store().await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let before = store.change_counter().await.unwrap();
    let decide = |_: &KeyRows, _| Err::<(KeyChange, ()), _>(StoreError::Refused("no".to_owned()));
    let refused = store.change_keys(KeySelection::All, &clock, decide).await;
    assert!(matches!(refused, Err(StoreError::Refused(why)) if why == "no"));
    // A key that is there already, after another one in the same change.
    change(store, inserting(key(1, now()))).await;
    let decide = |_: &KeyRows, _| {
        let change = KeyChange {
            revoke: vec![Kid::from_row(1)],
            ..inserting(key(1, now()))
        };
        Ok::<_, StoreError>((change, ()))
    };
    let refused = store.change_keys(KeySelection::All, &clock, decide).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists)));
    assert!(!store.all_keys().await.unwrap().rows[0].times.revoked);
    assert_eq!(store.change_counter().await.unwrap(), before + 1);
}

pub async fn of_many_that_find_a_key_due_one_inserts_it(engine: &Engine) {
    let stores = [engine.store().await.clone(), engine.open().await];
    let inserted = number_that_insert_a_due_key(&stores).await;
    assert_eq!(inserted, 1);
    assert_eq!(engine.count("SELECT count(*) FROM keys"), 1);
    let [_, second] = stores;
    second.close().await;
}

/// Of many calls at once, each of which inserts a key if it finds none.
pub async fn number_that_insert_a_due_key(stores: &[Store; 2]) -> usize {
    let all = (0..24).map(|i| {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let selection = KeySelection::Unexpired { and_expired: 0 };
        let store = &stores[i % 2];
        async move {
            let decide = move |rows: &KeyRows, now: UnixTime| {
                let is_due = rows.rows.is_empty();
                let kid = i64::try_from(i).unwrap() + 1;
                let insert = is_due.then(|| key(kid, now + MINUTE));
                let change = KeyChange {
                    insert,
                    ..KeyChange::default()
                };
                Ok::<_, StoreError>((change, is_due))
            };
            store.change_keys(selection, &clock, decide).await.unwrap()
        }
    });
    let inserted = join_all(all).await;
    inserted.into_iter().filter(|inserted| *inserted).count()
}

pub async fn a_revoked_key_stays_revoked(engine: &Engine) {
    let store = engine.store().await;
    change(store, inserting(key(1, now() + 10 * MINUTE))).await;
    let revoke = KeyChange {
        revoke: vec![Kid::from_row(1)],
        reason: "drill".to_owned(),
        ..KeyChange::default()
    };
    change(store, revoke.clone()).await;
    let revoked_at = store.all_keys().await.unwrap().rows[0].times.expires_at;
    assert!(revoked_at <= now());
    change(store, revoke).await;
    let row = store.all_keys().await.unwrap().rows.remove(0);
    assert!(row.times.revoked);
    assert_eq!(row.times.expires_at, revoked_at);
    let events = database::key_history(&engine.location(), 9).unwrap();
    let shown: Vec<_> = events
        .iter()
        .map(|event| (event.kind, event.reason.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            (KeyEventKind::Created, None),
            (KeyEventKind::Revoked, Some("drill"))
        ]
    );
}

pub async fn what_others_must_see_moves_the_counter_and_nothing_else_does(engine: &Engine) {
    let store = engine.store().await;
    let other = engine.open().await;
    let mut last = other.change_counter().await.unwrap();
    let mut moved = async || {
        let counter = other.change_counter().await.unwrap();
        assert!(counter >= last);
        std::mem::replace(&mut last, counter) != counter
    };
    change(store, inserting(key(1, now() + MINUTE))).await;
    assert!(moved().await, "a key");
    change(store, KeyChange::default()).await;
    assert!(!moved().await, "nothing");
    let alice = engine.account("alice").await;
    store.record_sign_in(sign_in(&alice)).await.unwrap();
    assert!(!moved().await, "a sign-in");
    let first_use = SignInRecord {
        first_use: Some(Kid::from_row(1)),
        ..sign_in(&alice)
    };
    store.record_sign_in(first_use.clone()).await.unwrap();
    assert!(moved().await, "the first use of a key");
    store.record_sign_in(first_use).await.unwrap();
    assert!(!moved().await, "its first use by another replica");
    let withdraw = SignInRecord {
        withdraw: Some([Kid::from_row(2), Kid::from_row(2)]),
        ..sign_in(&alice)
    };
    store.record_sign_in(withdraw.clone()).await.unwrap();
    assert!(moved().await, "a key that is withdrawn");
    store.record_sign_in(withdraw).await.unwrap();
    assert!(!moved().await, "a key that was withdrawn before");
    other.close().await;
}

pub async fn a_withdrawn_key_stays_out(engine: &Engine) {
    let store = engine.store().await;
    change(store, inserting(key(1, now() - MINUTE))).await;
    let alice = engine.account("alice").await;
    let withdraw = SignInRecord {
        withdraw: Some([Kid::from_row(1), Kid::from_row(1)]),
        ..sign_in(&alice)
    };
    assert_eq!(
        store.record_sign_in(withdraw.clone()).await.unwrap(),
        Recorded::Written
    );
    assert_eq!(
        store.record_sign_in(withdraw).await.unwrap(),
        Recorded::Written
    );
    assert!(store.all_keys().await.unwrap().rows[0].times.withdrawn);
}

pub async fn pruning_keeps_the_key_that_is_named(engine: &Engine) {
    let store = engine.store().await;
    for kid in 1..=3 {
        change(store, inserting(key(kid, now() - 10 * MINUTE))).await;
    }
    change(store, inserting(key(4, now() + MINUTE))).await;
    let (before, keep) = (now() - MINUTE, Some(Kid::from_row(2)));
    assert!(store.can_prune_keys(before, keep).await.unwrap());
    assert_eq!(store.prune_keys(before, keep, now()).await.unwrap(), 2);
    assert!(!store.can_prune_keys(before, keep).await.unwrap());
    assert_eq!(kids(&store.all_keys().await.unwrap()), [2, 4]);
    assert_eq!(engine.count("SELECT count(*) FROM key_times"), 2);
}

pub async fn the_longest_lifetime_stays_recorded(engine: &Engine) {
    let store = engine.store().await;
    let record = async |port: &str, lifetime| {
        let settings = vec![("PORT".to_owned(), port.to_owned())];
        store.record_settings(settings, lifetime).await.unwrap();
    };
    record("1", 20 * MINUTE).await;
    record("2", 10 * MINUTE).await;
    let found = database::recorded_settings(&engine.location()).unwrap();
    assert_eq!(found, [("PORT".to_owned(), "2".to_owned())]);
    // Another program makes it later than any setting has allowed.
    change(store, inserting(key(1, now() + 60 * MINUTE))).await;
    let row = store.all_keys().await.unwrap().rows.remove(0);
    assert!(row.exp_is_too_late);
    assert_eq!(
        row.times.expires_at,
        row.times.created_at.unwrap() + 20 * MINUTE
    );
}

fn adopting(kid: &str, until: UnixTime) -> KeyChange {
    let key = NewAdoptedKey {
        kid: kid.to_owned(),
        sealed: format!("sealed {kid}").into_bytes(),
        until,
    };
    KeyChange {
        adopt: vec![key],
        reason: "moving".to_owned(),
        ..KeyChange::default()
    }
}

pub async fn an_adopted_key_is_kept_until_its_end_and_a_revoked_one_never_comes_back(
    engine: &Engine,
) {
    let store = engine.store().await;
    let until = now() + 10 * MINUTE;
    let before = store.change_counter().await.unwrap();
    change(store, adopting("a \u{1f511}", until)).await;
    change(store, adopting("b", until)).await;
    assert_ne!(store.change_counter().await.unwrap(), before);
    for rows in [
        store.all_keys().await.unwrap(),
        store.keys_at(now(), 0).await.unwrap(),
    ] {
        let row = &rows.adopted[0];
        assert_eq!((&*row.kid, row.times.until), ("a \u{1f511}", until));
        assert_eq!(row.sealed, "sealed a \u{1f511}".as_bytes());
        assert!(row.times.is_published_at(now()));
    }
    let revoke = KeyChange {
        revoke_adopted: vec!["b".to_owned()],
        reason: "leak".to_owned(),
        ..KeyChange::default()
    };
    let before = store.change_counter().await.unwrap();
    change(store, revoke).await;
    assert_ne!(store.change_counter().await.unwrap(), before);
    let reencrypt = KeyChange {
        reencrypt_adopted: vec![("a \u{1f511}".to_owned(), b"anew".to_vec())],
        ..KeyChange::default()
    };
    change(store, reencrypt).await;
    // Another end, and one that is past.
    change(store, adopting("a \u{1f511}", now() - 5 * MINUTE)).await;
    let adopted = store.all_keys().await.unwrap().adopted;
    assert!(adopted.iter().all(|row| !row.times.is_published_at(now())));
    // Not after the clock was set back either.
    let of_b = adopted.iter().find(|row| row.kid == "b").unwrap();
    assert!(!of_b.times.is_published_at(now() - 10 * MINUTE));
    assert!(store.can_prune_keys(now() - MINUTE, None).await.unwrap());
    let pruned = store.prune_keys(now() - MINUTE, None, now()).await;
    assert_eq!(pruned.unwrap(), 1);
    assert!(!store.can_prune_keys(now() - MINUTE, None).await.unwrap());
    assert_eq!(engine.count("SELECT count(*) FROM adopted_keys"), 1);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let again = move |_: &KeyRows, _| Ok::<_, StoreError>((adopting("b", until), ()));
    let refused = store.change_keys(KeySelection::All, &clock, again).await;
    assert!(
        matches!(refused, Err(StoreError::Revoked(_))),
        "{refused:?}"
    );
    let events = database::key_history(&engine.location(), 9).unwrap();
    let shown = events.iter().map(|event| (&*event.kid, event.kind));
    let mut shown: Vec<_> = shown.map(|(kid, kind)| (&kid[..1], kind.name())).collect();
    shown.sort_unstable();
    let expected = [
        ("a", "adopted"),
        ("a", "adopted"),
        ("a", "deleted"),
        ("b", "adopted"),
        ("b", "revoked"),
    ];
    assert_eq!(shown, expected);
    // Nor when its row and the events of that time are gone.
    engine.count(
        "INSERT INTO adopted_key_events (id, kid, event, at) VALUES (30000, 'c', 'adopted', 1)
         RETURNING 1",
    );
    let pruned = store.prune_keys(now() + MINUTE, None, now()).await;
    assert_eq!(pruned.unwrap(), 1);
    let old = "SELECT count(*) FROM adopted_key_events WHERE id < 20000";
    assert_eq!(engine.count(old), 1);
    let again = move |_: &KeyRows, _| Ok::<_, StoreError>((adopting("b", until), ()));
    let refused = store.change_keys(KeySelection::All, &clock, again).await;
    assert!(
        matches!(refused, Err(StoreError::Revoked(_))),
        "{refused:?}"
    );
}
