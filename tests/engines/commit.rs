//! A COMMIT whose answer is lost.

use jwks_server::clock::{Clock as _, SystemClock};
use jwks_server::store::{PostgresStore, Recorded, Store, StoreError};

use crate::accounts::sign_in;
use crate::cluster::Cluster;
use crate::engine::{account, target};
use crate::keys::number_that_insert_a_due_key;
use crate::proxy::{Fault, Proxy};

#[tokio::test]
async fn a_commit_whose_answer_is_lost_counts_as_what_it_was() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let proxy = Proxy::start(cluster.port).await;
    let store = PostgresStore::open(&target(proxy.port, &name)).await;
    let store = Store::Postgres(store.unwrap());
    let now = SystemClock::new().now();
    let find = async |name: &str| {
        let found = store.account_by_name(name.into(), name.into()).await;
        found.unwrap()
    };

    proxy.set(Fault::CutAfterCommit);
    store
        .insert_account(account("alice", None), now)
        .await
        .unwrap();
    proxy.set(Fault::CutBeforeCommit);
    let lost = store.insert_account(account("bob", None), now).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    proxy.set(Fault::None);
    let alice = find("alice").await.unwrap();
    assert_eq!(find("bob").await, None);
    assert_eq!(cluster.sql(&name, "SELECT count(*) FROM users"), "1");

    proxy.set(Fault::CutAfterCommit);
    assert_eq!(
        store.record_sign_in(sign_in(&alice)).await.unwrap(),
        Recorded::Written
    );
    proxy.set(Fault::CutBeforeCommit);
    let lost = store.record_sign_in(sign_in(&alice)).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert_eq!(cluster.sql(&name, "SELECT count(*) FROM auth_logs"), "1");
}

#[tokio::test]
async fn replicas_that_open_an_empty_database_at_once_all_succeed() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    for _ in 0..5 {
        let target = target(cluster.port, &cluster.create_database());
        let open = || PostgresStore::open(&target);
        let (a, b, c) = tokio::join!(open(), open(), open());
        for store in [a, b, c] {
            store.unwrap().close().await;
        }
    }
}

#[tokio::test]
async fn of_many_that_find_a_key_due_one_inserts_it_whatever_isolation_is_the_default() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let isolation = "SET default_transaction_isolation = 'serializable'";
    cluster.sql(&name, &format!("ALTER DATABASE \"{name}\" {isolation}"));
    let target = target(cluster.port, &name);
    let open = async || Store::Postgres(PostgresStore::open(&target).await.unwrap());
    let stores = [open().await, open().await];
    assert_eq!(number_that_insert_a_due_key(&stores).await, 1);
}

#[tokio::test]
async fn sessions_that_are_terminated_are_replaced() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let store = PostgresStore::open(&target(cluster.port, &name)).await;
    let store = Store::Postgres(store.unwrap());
    for _ in 0..5 {
        store.all_keys().await.unwrap();
        let terminate = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'
                 AND pid <> pg_backend_pid()"
        );
        cluster.sql(&name, &terminate);
        // At most the calls that meet a session of before.
        let mut failed = 0;
        while let Err(e) = store.all_keys().await {
            assert!(matches!(e, StoreError::Unavailable(_)), "{e}");
            failed += 1;
            assert!(failed <= 8, "{e}");
        }
    }
}
