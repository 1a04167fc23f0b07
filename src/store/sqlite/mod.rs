//! The store on SQLite. Each method is atomic, however many statements it has: a read
//! of the read pool is a transaction, a write is a savepoint in a transaction of the
//! writer connection, which up to 64 writes share.

mod backup;
mod connection;
mod copy;
mod erase;
mod inspect;
mod restore;
mod schema;
mod tables;
mod take_over;

use rusqlite::ErrorCode;
use rusqlite::ffi::{
    SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE, SQLITE_READONLY_ROLLBACK,
};

use super::{OpenError, StoreError};
pub use connection::SqliteStore;
pub(in crate::store) use copy::CopyFile;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
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
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match extended_code(&error) {
            Some(SQLITE_READONLY_ROLLBACK) => Self::HotJournal,
            _ => Self::Engine(error.to_string()),
        }
    }
}

fn is_unique_violation(error: &rusqlite::Error) -> bool {
    matches!(
        extended_code(error),
        Some(SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY)
    )
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|e| e.extended_code)
}
