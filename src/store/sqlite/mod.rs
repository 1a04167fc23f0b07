//! All the SQL. It sees sealed keys and password hashes, never a private key or
//! a password. Callers get whole steps: what is more than one statement here is
//! one transaction. Reads use a pool of connections; all writes go through the
//! one writer, a thread that commits what has gathered.

mod connection;
mod inspect;
mod schema;
mod tables;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_sqlite::{HookError, Pool, PoolError};
use rusqlite::{Connection, ErrorCode};

use connection::identity::Place;
use connection::keeper::{Keeper, Readers};
use connection::writer::Writer;
use connection::{file, read_pool, write_probe};
pub use inspect::Inspection;
pub use schema::{OpenError, SchemaState};
pub use tables::accounts::{AccountId, AccountRow, NewAccountRow, SignInRecord};
pub use tables::key_admin::{Reseal, Resealed};
pub use tables::key_events::{KeyEvent, KeyEventKind};
pub use tables::keys::KeyRow;

use crate::metrics::Commits;

/// How long a statement waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for reading, and how long a read waits for one of them.
const READERS: usize = 4;
const READER_WAIT: Duration = Duration::from_secs(5);

/// The database. Clones share it; [`close`](Self::close) ends it.
#[derive(Clone)]
pub struct Store {
    readers: Pool,
    writer: Writer,
    probe: Arc<write_probe::SharedProbe>,
    place: Place,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// Why a step was not done. Nothing of it is in the database at the path; in a
/// file that was moved away within the step it may be.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the database, the disk is full or read-only, or
    /// the file went away: it may work again later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A name or an address that must be unique is there already.
    #[error("there is such a row already")]
    AlreadyExists,
    /// A row breaks a rule of ours.
    #[error("column {column} of table {table} holds something unexpected in row {row}")]
    BadRow {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: i64,
    },
    /// Anything else SQLite says.
    #[error("the database refused a statement: {0}")]
    Sqlite(rusqlite::Error),
}

impl Store {
    /// Opens the database at `path`, makes it when it is missing or empty, and
    /// brings its schema up to date. File and side files get mode 0600.
    ///
    /// Blocks: call it on a blocking thread.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        file::prepare(path)?;
        let (place, conn) = Place::open(path)?;
        let readers = read_pool::pool(&place);
        let keeper = Keeper::new(conn, place.clone(), Readers::of(&readers));
        Ok(Self {
            readers,
            writer: Writer::start(keeper).map_err(OpenError::Thread)?,
            place,
            probe: Arc::default(),
        })
    }

    /// The sealed keys of a database that may be of any age, or missing:
    /// looks at it without changing it, before [`open`](Self::open) does.
    ///
    /// Blocks: call it on a blocking thread.
    pub fn peek_keys(path: &Path) -> Result<Vec<KeyRow>, OpenError> {
        schema::peek_keys(path)
    }

    /// The transactions that have written, or tried to.
    pub fn commits(&self) -> &Arc<Commits> {
        self.writer.commits()
    }

    /// Lets another database that is put in the place of this one, while it is
    /// open, be taken when `accepts` likes its keys. Without this, none is.
    pub fn accept_other(&self, accepts: impl Fn(Vec<KeyRow>) -> bool + Send + Sync + 'static) {
        self.place.set_accepts(Box::new(accepts));
    }

    /// Returns when writing has come to an end: after [`close`](Self::close),
    /// or because its thread has died.
    pub async fn ended(&self) {
        self.writer.ended().await;
    }

    /// Answers what is queued, takes no more, moves everything from the side
    /// files into the database file and closes it.
    pub async fn close(self) {
        self.readers.close();
        self.writer.close().await;
    }

    /// Runs `query` on a connection for reading.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.try_read(query).await? {
            Ok(read) => read,
            Err(query) => {
                // The writer finds out what to do about it.
                self.writer.write(|_| Ok(())).await?;
                let gone = "its file has just been replaced";
                self.try_read(query)
                    .await?
                    .unwrap_or_else(|_| Err(StoreError::Unavailable(gone.into())))
            }
        }
    }

    /// Gives the query back when the database that is open is no longer the
    /// one at the path.
    async fn try_read<T: Send + 'static, Q>(
        &self,
        query: Q,
    ) -> Result<Result<Result<T, StoreError>, Q>, StoreError>
    where
        Q: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let unavailable = |e: &dyn std::fmt::Display| StoreError::Unavailable(e.to_string());
        let conn = match self.readers.get().await {
            Ok(conn) => conn,
            // It was replaced while it was opened.
            Err(PoolError::PostCreateHook(HookError::Message(_))) => return Ok(Err(query)),
            // A file that is gone cannot be opened either.
            Err(PoolError::Backend(_) | PoolError::PostCreateHook(_)) if !self.holds().await => {
                return Ok(Err(query));
            }
            Err(e) => return Err(unavailable(&e)),
        };
        read_pool::ask(&conn, &self.place, query).await
    }

    /// Whether the database that is open is the one at the path.
    async fn holds(&self) -> bool {
        let place = self.place.clone();
        let looked = tokio::task::spawn_blocking(move || place.holds(&place.open_now())).await;
        looked.unwrap_or(false)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        match code {
            Some(ErrorCode::ConstraintViolation) if is_unique_violation(&error) => {
                Self::AlreadyExists
            }
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory,
            ) => Self::Unavailable(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

fn is_unique_violation(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error().map(|e| e.extended_code),
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY)
    )
}
