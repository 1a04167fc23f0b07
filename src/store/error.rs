//! Errors of the store, the same for any engine.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

/// Reason for which a step was not done, or for `Unknown` may have been. Nothing of it is
/// in the database at the path; in a file that was moved away within the step it may be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The state of the file, the disk or this store, not the step, is the reason: a
    /// lock, a full or read-only disk, a damaged file, or the store is closed.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The service ends; the log has said so once. On PostgreSQL: its tables or functions.
    #[error("the database was deleted, moved or replaced while in use")]
    Replaced,
    #[error("a row with this unique value exists already")]
    AlreadyExists,
    #[error(transparent)]
    BadRow(#[from] BadRow),
    #[error("the database refused a statement: {0}")]
    Refused(String),
    #[error("the database does not permit it: {0}")]
    NotPermitted(String),
    /// A function of PostgreSQL lacks a row that it needs.
    #[error("a row was changed or deleted meanwhile: {0}")]
    NoData(String),
    /// The answer to a COMMIT was lost, and nobody could say more.
    #[error("the outcome of a transaction is unknown: {0}")]
    Unknown(String),
    #[error("key {0:?} was revoked and is never published again")]
    Revoked(String),
}

impl StoreError {
    /// For a step that is tried again by whoever asked for it: what the database refuses
    /// now, such as for want of a right, it may take then.
    pub fn or_later(self) -> Self {
        match self {
            Self::Refused(why) | Self::NotPermitted(why) | Self::NoData(why) => {
                Self::Unavailable(why)
            }
            other => other,
        }
    }
}

/// A row that another program filled with a value of the wrong type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of table {table} holds a value of the wrong type in row {row}")]
pub struct BadRow {
    pub table: &'static str,
    pub column: Cow<'static, str>,
    /// Primary key of the row.
    pub row: i64,
}

/// Reason for which a database was not opened. Each says what to do where that is
/// known.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("it cannot be opened: {0}")]
    File(#[from] io::Error),
    #[error("{0} is not a regular file")]
    NotRegular(PathBuf),
    #[error("{0} is a symbolic link, which is never followed beside a database: remove it")]
    LinkedSideFile(PathBuf),
    #[error(
        "{path} belongs to user {owner} and this process runs as user {user}: run it as the owner, or change the owner"
    )]
    OtherOwner {
        path: PathBuf,
        owner: u32,
        user: u32,
    },
    #[error("this user may not write to {path}: {error}")]
    NotWritable { path: PathBuf, error: io::Error },
    #[error("SQLite cannot use it: {0}")]
    Engine(String),
    #[error("{0}: {1}")]
    Server(String, &'static str),
    #[error(
        "a hot journal lies beside it, left by a program that was killed while it wrote; the next start of the service rolls it back"
    )]
    HotJournal,
    #[error("it cannot be switched to write-ahead logging (its journal mode stays {0})")]
    NoWal(String),
    #[error("a newer version of this service has changed it ({0}); run that version")]
    Newer(String),
    #[error("its table {table} has the columns ({found}) where this service needs ({needed})")]
    OtherColumns {
        table: &'static str,
        found: String,
        needed: &'static str,
    },
    #[error(
        "it has the {kind} {name:?}, which is not of this service and may change what is written: find out who made it, then drop it"
    )]
    Planted { kind: String, name: String },
    #[error(
        "its {what} is not as this service needs it and may change what is written: find out who made it, then restore a copy"
    )]
    OtherDefinition { what: String },
    #[error(
        "private keys lie in it in the clear, as an early stage of the earlier server left them. Whoever can write the file may have put them there. If they are yours, start once with APP_ENV=development, which encrypts them; if not, restore a copy"
    )]
    ClearKeys,
    #[error("its record of migrations is damaged ({0}): restore a copy")]
    History(String),
    #[error("its schema cannot be brought up to date: {0}")]
    Migration(String),
    #[error(
        "the write-ahead log {0} belongs to another database or to another state of this one; move it away to go on without what it holds, or put the file back that it belongs to"
    )]
    ForeignWal(PathBuf),
    #[error("the writer thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}
