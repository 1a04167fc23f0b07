//! The read pool: a fixed number of connections, all opened with the writer
//! connection. None is opened later, when another file may be at the path:
//! SQLite would read it through the write-ahead log of the first one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::file;
use crate::store::StoreError;

const CONNECTIONS: u32 = 4;
/// A read waits this long for a connection.
const WAIT: Duration = Duration::from_secs(5);

/// Clones share the connections.
#[derive(Clone)]
pub(super) struct ReadPool {
    /// `None` after a close. A read that panicked leaves its connection sound: it changes
    /// nothing.
    connections: Arc<[Mutex<Option<Connection>>]>,
    permits: Arc<Semaphore>,
}

impl ReadPool {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let open = |_| open(path).map(|conn| Mutex::new(Some(conn)));
        Ok(Self {
            connections: (0..CONNECTIONS).map(open).collect::<Result<_, _>>()?,
            permits: Arc::new(Semaphore::new(CONNECTIONS as usize)),
        })
    }

    /// Runs `query` on a blocking thread.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = tokio::time::timeout(WAIT, permit)
            .await
            .map_err(|_| StoreError::Unavailable("all read connections are in use".to_owned()))?
            .map_err(|_| closed())?;
        let pool = self.clone();
        let read = tokio::task::spawn_blocking(move || pool.run(permit, query));
        read.await
            .map_err(|e| StoreError::Unavailable(e.to_string()))?
    }

    /// Runs `query` on this thread, which may block. Fails when all connections are in use.
    pub(super) fn blocking_read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        self.run(
            permit.map_err(|e| StoreError::Unavailable(e.to_string()))?,
            query,
        )
    }

    fn run<T>(
        &self,
        // Dropped last, so whoever gets the permit next finds the connection unlocked.
        _permit: OwnedSemaphorePermit,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let free = self.connections.iter().find_map(Mutex::try_lock);
        let conn = free.as_ref().and_then(|conn| conn.as_ref());
        query(conn.ok_or_else(closed)?)
    }

    /// Waits for reads in progress, refuses later ones, and closes.
    pub(super) async fn close(self) {
        let all = tokio::time::timeout(WAIT, self.permits.acquire_many(CONNECTIONS)).await;
        self.permits.close();
        drop(all);
        let connections = self.connections;
        let close = move || {
            connections
                .iter()
                .filter_map(Mutex::try_lock)
                .for_each(|mut conn| *conn = None)
        };
        let _ = tokio::task::spawn_blocking(close).await;
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let conn = file::connect_reader(path)?;
    // SQLite moves the write-ahead log into the database file when the last
    // connection closes. That must be the writer connection, which first checks
    // whether the file is still the same one, see last_checkpoint.rs.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // SQLite opens the write-ahead log at the first read.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(conn)
}
