//! The statements, a file for each table or two. Columns are read by name.

pub(super) mod account_admin;
mod accounts;
mod adopted_keys;
pub(super) mod audit;
pub(super) mod key_events;
pub(super) mod keys;
pub(super) mod service_settings;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Error, Row};

use super::SqliteStore;
use crate::store::{BadRow, StoreError};

/// Value of a column, or [`BadRow`] when another program stored one of another
/// type, which SQLite allows. `key`: the row's primary key.
fn column<T: FromSql>(
    row: &Row<'_>,
    table: &'static str,
    column: &'static str,
    key: i64,
) -> Result<T, StoreError> {
    row.get(column).map_err(|e| match e {
        Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..) => BadRow {
            table,
            column: column.into(),
            row: key,
        }
        .into(),
        e => e.into(),
    })
}

/// Bytes that another program may have stored as text or as a blob.
struct TextOrBlob(Vec<u8>);

impl FromSql for TextOrBlob {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Self(bytes.to_vec())),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}
