//! All the SQL. It sees sealed keys and password hashes, never a private key or
//! a password. Callers get whole steps: what is more than one statement here is
//! one transaction. Reads use a pool of connections; all writes go through the
//! one writer, a thread that commits what has gathered.

mod accounts;
mod file;
mod inspect;
mod key_admin;
mod key_events;
mod keys;
mod probe;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deadpool_sqlite::{Config, Hook, HookError, Pool, PoolConfig, Runtime, Timeouts};
use rusqlite::{Connection, ErrorCode};

pub use accounts::{AccountId, AccountRow, NewAccountRow, SignInRecord};
pub use inspect::Inspection;
pub use key_admin::{Reseal, Resealed};
pub use key_events::{KeyEvent, KeyEventKind};
pub use keys::{KeyRow, KeySpan, KeyTimes, Kid};
pub use schema::{OpenError, SchemaState};
use writer::Writer;

use crate::metrics::Commits;

/// How long a statement waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for reading, and how long a read waits for one of them.
const READERS: usize = 4;
const READER_WAIT: Duration = Duration::from_secs(5);

/// The database. Clones share it; [`close`](Self::close) ends it.
#[derive(Clone, Debug)]
pub struct Store {
    readers: Pool,
    writer: Writer,
    probe: Arc<probe::SharedProbe>,
}

/// Why a step was not done. Nothing of it is in the database, unless it says so.
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
        let mut conn = file::connect(path)?;
        schema::migrate(&mut conn)?;
        Ok(Self {
            readers: reader_pool(path),
            writer: Writer::start(conn).map_err(OpenError::Thread)?,
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
        let conn = self
            .readers
            .get()
            .await
            .map_err(|e| StoreError::Unavailable(e.to_string()))?;
        conn.interact(move |conn| query(conn))
            .await
            .map_err(|e| StoreError::Unavailable(e.to_string()))?
    }
}

fn reader_pool(path: &Path) -> Pool {
    let config = Config {
        path: PathBuf::from(file::uri(path)),
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
    let pool = builder
        .post_create(Hook::async_fn(|conn, _| {
            Box::pin(async move {
                conn.interact(file::set_up_reader)
                    .await
                    .map_err(|e| HookError::message(e.to_string()))?
                    .map_err(HookError::Backend)
            })
        }))
        .build();
    match pool {
        Ok(pool) => pool,
        // `build` fails only for timeouts without a runtime; one is set above.
        Err(e) => unreachable!("{e}"),
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
