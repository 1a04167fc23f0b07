//! The writer: what is run, answered, and given up.

use std::sync::mpsc::channel;

use futures_util::FutureExt as _;

use super::*;
use crate::store::SqliteStore;

#[tokio::test]
async fn a_step_whose_caller_goes_away_before_its_turn_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let writer = SqliteStore::open(&dir.path().join("keys.db"))
        .unwrap()
        .writer;
    let (begin, began) = oneshot::channel();
    let (release, released) = channel::<()>();
    let busy = tokio::spawn({
        let writer = writer.clone();
        async move {
            let step = move |_: &Connection| {
                let _ = begin.send(());
                let _ = released.recv();
                Ok(())
            };
            writer.write(step).await
        }
    });
    began.await.unwrap();
    let (ran, runs) = channel();
    let asked = writer.write(move |_| Ok(ran.send(())));
    assert!(asked.now_or_never().is_none());
    drop(release);
    busy.await.unwrap().unwrap();
    writer.write(|_| Ok(())).await.unwrap();
    assert!(runs.try_recv().is_err());
}

/// Takes the five seconds that anyone waits for a lock.
#[tokio::test]
async fn a_young_write_goes_on_waiting_for_a_lock_when_an_old_one_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    let writer = SqliteStore::open(&path).unwrap().writer;
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = writer.write(|_| Ok(()));
    let second = writer.write(|_| Ok(()));
    let old = async { tokio::join!(first, second) };
    let young = async {
        tokio::time::sleep(BUSY_TIMEOUT / 2).await;
        writer.write(|_| Ok(())).await
    };
    let gone = async {
        for given_up in <[_; 2]>::from(old.await) {
            let why = given_up.unwrap_err();
            assert!(matches!(why, StoreError::Unavailable(_)), "{why}");
        }
        other.execute_batch("COMMIT").unwrap();
    };
    let (written, ()) = tokio::join!(young, gone);
    written.unwrap();
}

#[tokio::test]
async fn a_commit_into_a_file_that_was_moved_meanwhile_is_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("keys.db"), dir.path().join("away.db"));
    let store = SqliteStore::open(&path).unwrap();
    let step = move |conn: &Connection| {
        conn.execute_batch("INSERT INTO users (username, password_hash) VALUES ('alice', 'none')")?;
        std::fs::rename(path, away).map_err(|e| StoreError::Unavailable(e.to_string()))
    };
    let outcome = store.write(step).await;
    assert!(matches!(outcome, Err(StoreError::Replaced)), "{outcome:?}");
    store.ended().await;
}

#[tokio::test]
async fn it_has_ended_once_it_is_closed_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let writer = SqliteStore::open(&dir.path().join("keys.db"))
        .unwrap()
        .writer;
    writer.write(|_| Ok(())).await.unwrap();
    assert!(writer.ended().now_or_never().is_none());
    writer.clone().close().await;
    assert!(writer.ended().now_or_never().is_some());
    let refused = writer.write(|_| Ok(())).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)));
}
