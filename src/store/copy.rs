//! A move between the engines: the tables, and their rows in a form that both know. One
//! batch of rows is in memory at a time, and the copy is one transaction.

use super::{BadRow, KeyRows, Location, OpenError, StoreError};

/// Rows of a batch.
pub(in crate::store) const BATCH: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Int,
    Text,
    Bytes,
    /// `YYYY-MM-DD HH:MM:SS`, UTC.
    Time,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

pub(in crate::store) type Rows = Vec<Vec<Value>>;

/// A table as PostgreSQL's catalogue and SQLite's have it.
#[derive(Debug)]
pub(in crate::store) struct Table {
    pub(in crate::store) name: &'static str,
    /// The first one is the primary key.
    pub(in crate::store) columns: Vec<(String, Kind)>,
    /// The engine numbers the rows, and never twice with one number.
    pub(in crate::store) is_numbered: bool,
}

/// All tables that both engines have, a table after those that it refers to.
pub(in crate::store) const TABLES: [&str; 12] = [
    "keys",
    "users",
    "auth_logs",
    "key_times",
    "key_events",
    "withdrawn_keys",
    "earlier_keys",
    "service_settings",
    "disabled_accounts",
    "enabled_accounts",
    "adopted_keys",
    "adopted_key_events",
];

impl Table {
    /// Names of the columns, separated by commas.
    pub(in crate::store) fn names(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(
        "one of the two databases is a file of SQLite and the other one is on PostgreSQL: for a copy on the same engine use `backup`, or pg_dump"
    )]
    SameEngine,
    #[error("there is no database {0} to copy: set DATABASE_URL")]
    Missing(Location),
    #[error("the schema of {0} is an older one: start the service once with this version")]
    Older(Location),
    #[error("the database {at} cannot be used: {error}")]
    Unusable { at: Location, error: OpenError },
    #[error("{0} is not empty, its table {1} has rows: name another database")]
    NotEmpty(Location, &'static str),
    #[error(
        "{0} is in use by {1}: stop it first, or add --live-ok, and what it writes from now on is not in the copy"
    )]
    InUse(Location, String),
    #[error("{0}: correct or delete it")]
    Row(#[from] BadRow),
    #[error(
        "row {row} of {table} refers to a row that is not there, which another program has deleted: delete it or set the column to NULL"
    )]
    Dangling { table: String, row: i64 },
    #[error(
        "only one of the two databases has the column {column} of table {table}, so it cannot be copied: drop it"
    )]
    OneSided { table: &'static str, column: String },
    #[error("the copy was refused: {0}")]
    Checked(String),
    #[error("nothing was copied: {0}")]
    Failed(String),
    #[error("it is not known whether all was copied or nothing: {0}")]
    Unknown(String),
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BadRow(row) => Self::Row(row),
            StoreError::Unavailable(why)
            | StoreError::Refused(why)
            | StoreError::NotPermitted(why)
            | StoreError::NoData(why) => Self::Failed(why),
            other => Self::Failed(other.to_string()),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Numbers of rows, by table.
    pub rows: Vec<(&'static str, u64)>,
    /// Keys that do not open.
    pub unopened: usize,
}

/// Parts of a copy that the caller decides on or shows.
pub struct CopyCallbacks<'a> {
    /// Gets the keys of the source and of the copy, and returns the number of those that
    /// do not open. A refusal leaves the target empty.
    pub check: &'a (dyn Fn(&KeyRows, &KeyRows) -> Result<usize, String> + Sync),
    /// Gets the number of rows of a table that were copied so far.
    pub progress: &'a (dyn Fn(&str, u64) + Sync),
}
