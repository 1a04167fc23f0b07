//! Connections to one database file, all opened once and together: one for
//! writing, a pool for reading.

pub(super) mod file;
mod identity;
mod last_checkpoint;
mod processes;
mod read_pool;
pub(super) mod room;
pub(super) mod wal_check;
mod write_probe;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use super::{schema, take_over};
use crate::metrics::Commits;
use crate::store::{OpenError, StoreError};
use identity::{FileId, OpenFiles};
use read_pool::ReadPool;
use write_probe::WriteProbe;
use writer::Writer;

/// A statement waits this long for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A database in one SQLite file. Clones share it; [`close`](Self::close) ends it.
#[derive(Clone)]
pub struct SqliteStore {
    files: Arc<OpenFiles>,
    readers: ReadPool,
    writer: Writer,
    probe: Arc<WriteProbe>,
    room: Arc<room::Room>,
    schema_version: Arc<AtomicI64>,
}

impl SqliteStore {
    /// Opens the database at `path`, makes it when it is missing or empty, and
    /// brings its schema up to date. File and side files get mode 0600.
    ///
    /// Blocks: call it on a blocking thread.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_and_seal(path, false, |_| None)
    }

    /// The same. In a file that is no database of this service yet, keys for
    /// which `seal` has a sealed form get that; without `may_seal` they are refused.
    pub fn open_and_seal(
        path: &Path,
        may_seal: bool,
        seal: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Self, OpenError> {
        let replaced = || io::Error::other("it was replaced while it was opened");
        file::prepare(path)?;
        let before = FileId::of(path)?;
        wal_check::check(path)?;
        let mut conn = file::connect(path)?;
        take_over::seal_keys(&mut conn, may_seal, seal)?;
        schema::migrate(&mut conn)?;
        // SQLite has created the side files when the schema was read.
        let files = OpenFiles::at(path)?.ok_or_else(replaced)?;
        let readers = ReadPool::open(path)?;
        if before != Some(files.main) || files.changed()?.is_some() {
            return Err(replaced().into());
        }
        if let Some(whole) = wal_check::checkpoint(&conn)? {
            whole.begin_log(&conn)?;
        }
        let files = Arc::new(files);
        Ok(Self {
            writer: Writer::start(conn, Arc::clone(&files)).map_err(OpenError::Thread)?,
            files,
            readers,
            probe: Arc::default(),
            room: Arc::default(),
            schema_version: Arc::default(),
        })
    }

    pub fn commits(&self) -> &Arc<Commits> {
        self.writer.commits()
    }

    /// Returns after [`close`](Self::close), or when the database file is no longer the one at
    /// its path, has a planted trigger or view, or the writer thread has died.
    pub async fn ended(&self) {
        self.writer.ended().await;
    }

    /// Moves the write-ahead log into the database file.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
        // Another process that has the file open may need the reserve.
        let others = processes::with_open(self.files.main.inode).await;
        if others.is_none_or(|others| others == 0) {
            room::remove_reserve(self.files.real_path());
        }
    }

    /// Runs `query` on a connection of the read pool.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = Arc::clone(&self.files);
        let found = self.readers.read(move |conn| {
            let found = query(conn);
            // A row of a file that was moved away is no answer.
            files.check()?;
            found
        });
        self.end_if_replaced(found.await)
    }

    /// Runs `query` on this thread, which may block.
    pub(super) fn blocking_read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let found = self.readers.blocking_read(query);
        self.end_if_replaced(self.files.check().and(found))
    }

    /// Costs a read of the header where the schema is as it was before.
    pub fn blocking_check_schema(&self) -> Result<(), StoreError> {
        let planted = self.blocking_read(|conn| {
            let version = conn.pragma_query_value(None, "schema_version", |row| row.get(0))?;
            if self.schema_version.load(Ordering::Relaxed) == version {
                return Ok(None);
            }
            let planted = schema::planted(conn)?;
            self.schema_version.store(version, Ordering::Relaxed);
            Ok(planted)
        })?;
        if let Some(why) = planted {
            tracing::error!("the database cannot be used any more, so the service stops: {why}");
            self.writer.end();
        }
        Ok(())
    }

    /// Readers and writers go on meanwhile; where they are in the way, the next checkpoint moves
    /// the rest.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let moved = self.read(|conn| Ok(wal_check::checkpoint(conn)?)).await?;
        let Some(whole) = moved else { return Ok(()) };
        self.write(move |conn| Ok(whole.begin_log(conn)?)).await
    }

    fn end_if_replaced<T>(&self, found: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(found, Err(StoreError::Replaced)) {
            self.writer.end();
        }
        found
    }

    /// Runs `step` in a transaction of the writer connection and returns when
    /// that is on disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(step).await
    }
}
