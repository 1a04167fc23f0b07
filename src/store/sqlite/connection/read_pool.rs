//! The connections for reading, each tied to the file that was open when it was made.

use std::path::PathBuf;

use deadpool_sqlite::{
    Config, Hook, HookError, Metrics, Object, Pool, PoolConfig, Runtime, Timeouts,
};
use rusqlite::Connection;

use super::identity::Place;
use super::{READER_WAIT, READERS, StoreError, file};

pub(in crate::store) fn pool(place: &Place) -> Pool {
    let config = Config {
        path: PathBuf::from(file::uri(place.path())),
        pool: Some(PoolConfig {
            max_size: READERS,
            timeouts: Timeouts {
                wait: Some(READER_WAIT),
                ..Timeouts::default()
            },
            ..PoolConfig::default()
        }),
    };
    let Ok(builder) = config.builder(Runtime::Tokio1);
    let (opened_in, used_in) = (place.clone(), place.clone());
    let pool = builder
        .post_create(Hook::async_fn(move |conn, _| {
            let place = opened_in.clone();
            Box::pin(async move {
                conn.interact(move |conn| tie(conn, &place))
                    .await
                    .map_err(|e| HookError::message(e.to_string()))?
            })
        }))
        .pre_recycle(Hook::sync_fn(move |_, metrics: &Metrics| {
            match used_in.is_current(metrics.created) {
                true => Ok(()),
                false => Err(HookError::message("it belongs to an earlier file")),
            }
        }))
        .build();
    match pool {
        Ok(pool) => pool,
        // `build` fails only for timeouts without a runtime; one is set above.
        Err(e) => unreachable!("{e}"),
    }
}

/// Runs `query` on a connection, or gives it back when that is no longer one
/// to the file at the path.
pub(in crate::store) async fn ask<T: Send + 'static, Q>(
    conn: &Object,
    place: &Place,
    query: Q,
) -> Result<Result<Result<T, StoreError>, Q>, StoreError>
where
    Q: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
{
    let (place, created) = (place.clone(), Object::metrics(conn).created);
    conn.interact(move |conn| {
        if place.holds_since(created) {
            Ok(query(conn))
        } else {
            Err(query)
        }
    })
    .await
    .map_err(|e| StoreError::Unavailable(e.to_string()))
}

/// Opens the connection anew, so that it is known to belong to what is open:
/// when the pool opened it, another file may have been at the path.
fn tie(conn: &mut Connection, place: &Place) -> Result<(), HookError> {
    let open = place.open_now();
    *conn = file::connect_reader(place.path()).map_err(HookError::Backend)?;
    match place.holds(&open) {
        true => Ok(()),
        false => Err(HookError::message("another file is there")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::store::Store;

    fn users(conn: &Connection) -> Result<i64, StoreError> {
        Ok(conn.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?)
    }

    /// A store on a file with one user, and a copy of that file without one.
    async fn store(dir: &Path) -> (Store, PathBuf) {
        let (path, other) = (dir.join("keys.db"), dir.join("other.db"));
        let store = Store::open(&path).unwrap();
        store.accept_other(|_| true);
        let insert_and_copy = format!(
            "INSERT INTO keys (kid, key, exp) VALUES (1, 'sealed', 42);
             VACUUM INTO '{}';
             INSERT INTO users (username, password_hash) VALUES ('alice', 'none');",
            other.display()
        );
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(&insert_and_copy).unwrap();
        (store, other)
    }

    /// Puts the other file in its place, and has the writer go over to it.
    async fn replace(store: &Store, other: &Path) {
        fs::rename(other, store.place.path()).unwrap();
        store.writer.write(|_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_was_opened_before_the_file_was_replaced_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (store, other) = store(dir.path()).await;
        let mut conn = file::connect_reader(store.place.path()).unwrap();
        assert_eq!(users(&conn).unwrap(), 1);
        replace(&store, &other).await;
        tie(&mut conn, &store.place).unwrap();
        assert_eq!(users(&conn).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_connection_that_was_taken_before_the_file_was_replaced_is_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (store, other) = store(dir.path()).await;
        let conn = store.readers.get().await.unwrap();
        let asked = ask(&conn, &store.place, users).await.unwrap();
        assert_eq!(asked.ok().unwrap().unwrap(), 1);
        replace(&store, &other).await;
        assert!(ask(&conn, &store.place, users).await.unwrap().is_err());
        assert_eq!(store.read(users).await.unwrap(), 0);
    }
}
