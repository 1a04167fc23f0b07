//! The schema: migrations, and what a file must look like before they touch it.

use std::io;
use std::path::{Path, PathBuf};

use refinery::error::Kind;
use rusqlite::Connection;

use super::connection::wal_check;
use super::inspect;
use super::tables::keys::{self, KeyRow};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The tables that other programs read, with their columns in order.
const CONTRACT: [(&str, &str); 3] = [
    ("keys", "kid,key,exp"),
    (
        "users",
        "id,username,password_hash,email,date_registered,last_login",
    ),
    ("auth_logs", "id,request_ip,request_timestamp,user_id"),
];

/// How often a migration is looked at again when it fails: another process may
/// have done the same at the same time.
const ATTEMPTS: usize = 5;

/// Why a database could not be opened. Each says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be made or read.
    #[error("it cannot be opened: {0}")]
    File(#[source] io::Error),
    /// SQLite could not make sense of it, or it is locked.
    #[error("SQLite cannot use it: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file system cannot carry write-ahead logging.
    #[error("it cannot be switched to write-ahead logging (its journal mode stays {0})")]
    NoWal(String),
    /// A later release of this service has changed the schema.
    #[error("a newer version of this service has changed it ({0}); run that version")]
    Newer(String),
    /// A table of the contract has other columns.
    #[error("its table {table} has the columns ({found}) where this service needs ({needed})")]
    OtherShape {
        /// The table.
        table: &'static str,
        /// The columns that are there.
        found: String,
        /// The columns of the contract.
        needed: &'static str,
    },
    /// A migration failed.
    #[error("its schema cannot be brought up to date: {0}")]
    Migration(String),
    /// The log beside the file is not its own.
    #[error(
        "the log {0} is of another database or of another time of this one; move it away to go on without what it holds, or put the file back that it belongs to"
    )]
    OtherLog(PathBuf),
    /// The writer's thread could not be started.
    #[error("the writing thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// How the schema of a file stands to the one of this version.
#[derive(Debug)]
pub enum SchemaState {
    /// It is the same.
    Current,
    /// Steps are missing, which the next start of the service makes up for.
    Older {
        /// How many were made.
        has: usize,
        /// How many there are.
        needs: usize,
    },
    /// The service would refuse it, and says why.
    Unusable(OpenError),
}

/// Looks at the schema without changing it.
pub(in crate::store) fn state(conn: &Connection) -> rusqlite::Result<SchemaState> {
    match check_shapes(conn) {
        Err(OpenError::Sqlite(e)) => return Err(e),
        Err(e) => return Ok(SchemaState::Unusable(e)),
        Ok(()) => {}
    }
    let runner = embedded::migrations::runner();
    let known = runner.get_migrations();
    let applied = applied(conn)?;
    for (version, name, checksum) in &applied {
        let Some(step) = known
            .iter()
            .find(|step| i64::from(step.version()) == *version)
        else {
            let newer = OpenError::Newer(format!("V{version}__{name}"));
            return Ok(SchemaState::Unusable(newer));
        };
        if step.checksum().to_string() != *checksum {
            let differs = format!("its step V{version}__{name} was another one");
            return Ok(SchemaState::Unusable(OpenError::Migration(differs)));
        }
    }
    if applied.len() < known.len() {
        return Ok(SchemaState::Older {
            has: applied.len(),
            needs: known.len(),
        });
    }
    for (table, needed) in CONTRACT {
        if !has_table(conn, table)? {
            let found = "none".to_owned();
            return Ok(SchemaState::Unusable(OpenError::OtherShape {
                table,
                found,
                needed,
            }));
        }
    }
    Ok(SchemaState::Current)
}

/// The migrations that the file knows of: version, name, checksum.
fn applied(conn: &Connection) -> rusqlite::Result<Vec<(i64, String, String)>> {
    const TABLE: &str = "refinery_schema_history";
    if !has_table(conn, TABLE)? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT version, name, checksum FROM {TABLE} ORDER BY version");
    let mut query = conn.prepare(&sql)?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

pub(in crate::store) fn has_table(conn: &Connection, table: &str) -> rusqlite::Result<bool> {
    Ok(!columns(conn, table)?.is_empty())
}

/// Brings the schema up to date, whatever other processes do meanwhile.
pub(in crate::store) fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    check_shapes(conn)?;
    let runner = embedded::migrations::runner()
        .set_abort_missing(true)
        .set_abort_divergent(true)
        // One transaction for the steps and the record of them, or a kill in
        // between would leave a schema that no later start understands.
        .set_grouped(true);
    let mut attempt = 1;
    loop {
        match runner.run(conn) {
            Ok(_) => return check_shapes(conn),
            Err(e) => match e.kind() {
                Kind::MissingVersion(found) => return Err(OpenError::Newer(found.to_string())),
                Kind::Connection(..) if attempt < ATTEMPTS => attempt += 1,
                _ => return Err(OpenError::Migration(cause(&e))),
            },
        }
    }
}

/// See [`Store::peek_keys`](super::Store::peek_keys).
pub(in crate::store) fn peek_keys(path: &Path) -> Result<Vec<KeyRow>, OpenError> {
    wal_check::check(path)?;
    let keys = inspect::read_only(path, |conn| {
        check_shapes(conn)?;
        if columns(conn, "keys")?.is_empty() {
            return Ok(Vec::new());
        }
        Ok(keys::all_without_times(conn)?)
    })?;
    Ok(keys.unwrap_or_default())
}

fn check_shapes(conn: &Connection) -> Result<(), OpenError> {
    for (table, needed) in CONTRACT {
        let found = columns(conn, table)?;
        if !found.is_empty() && found != needed {
            return Err(OpenError::OtherShape {
                table,
                found,
                needed,
            });
        }
    }
    Ok(())
}

/// The names of a table's columns, in order; empty when there is no such table.
fn columns(conn: &Connection, table: &str) -> rusqlite::Result<String> {
    let sql = "SELECT coalesce(group_concat(name), '') FROM (SELECT name FROM pragma_table_info(?) ORDER BY cid)";
    conn.query_row(sql, [table], |row| row.get(0))
}

/// What SQLite says, or else the innermost error: the outer ones quote whole
/// migrations.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    use rusqlite::Error::{SqlInputError, SqliteFailure};
    match error.downcast_ref() {
        Some(SqliteFailure(_, Some(msg)) | SqlInputError { msg, .. }) => msg.clone(),
        _ => error.source().map_or_else(|| error.to_string(), cause),
    }
}
