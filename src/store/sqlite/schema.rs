//! The schema: migrations, and the columns that a file must have before them.

use refinery::error::Kind;
use rusqlite::Connection;

use crate::store::{OpenError, SchemaState};

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

/// Attempts at a migration that fails: another process may have done the same at
/// the same time.
const ATTEMPTS: usize = 5;

/// Compares the schema with the one of this version, without changing it.
pub(super) fn state(conn: &Connection) -> rusqlite::Result<SchemaState> {
    if let Some(other) = other_columns(conn)? {
        return Ok(SchemaState::Unusable(other));
    }
    let runner = embedded::migrations::runner();
    let known = runner.get_migrations();
    let applied = applied(conn)?;
    for (version, name, checksum) in &applied {
        let mut known = known.iter();
        let Some(step) = known.find(|step| i64::from(step.version()) == *version) else {
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
            return Ok(SchemaState::Unusable(OpenError::OtherColumns {
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

pub(super) fn has_table(conn: &Connection, table: &str) -> rusqlite::Result<bool> {
    Ok(!columns(conn, table)?.is_empty())
}

/// Brings the schema up to date, also when other processes do so at the same time.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    check_columns(conn)?;
    let runner = embedded::migrations::runner()
        .set_abort_missing(true)
        .set_abort_divergent(true)
        // One transaction for the steps and the record of them, or a kill in
        // between would leave a schema that no later start understands.
        .set_grouped(true);
    let mut attempt = 1;
    loop {
        match runner.run(conn) {
            Ok(_) => return check_columns(conn),
            Err(e) => match e.kind() {
                Kind::MissingVersion(found) => return Err(OpenError::Newer(found.to_string())),
                Kind::Connection(..) if attempt < ATTEMPTS => attempt += 1,
                _ => return Err(OpenError::Migration(cause(&e))),
            },
        }
    }
}

/// The tables may be missing, but not have other columns than the contract says.
pub(super) fn check_columns(conn: &Connection) -> Result<(), OpenError> {
    match other_columns(conn)? {
        Some(other) => Err(other),
        None => Ok(()),
    }
}

fn other_columns(conn: &Connection) -> rusqlite::Result<Option<OpenError>> {
    for (table, needed) in CONTRACT {
        let found = columns(conn, table)?;
        if !found.is_empty() && found != needed {
            return Ok(Some(OpenError::OtherColumns {
                table,
                found,
                needed,
            }));
        }
    }
    Ok(None)
}

/// The names of a table's columns, in order; empty when there is no such table.
fn columns(conn: &Connection, table: &str) -> rusqlite::Result<String> {
    let sql = "SELECT coalesce(group_concat(name), '') FROM (SELECT name FROM pragma_table_info(?) ORDER BY cid)";
    conn.query_row(sql, [table], |row| row.get(0))
}

/// The message of SQLite, or else the innermost error: the outer ones quote whole
/// migrations.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    use rusqlite::Error::{SqlInputError, SqliteFailure};
    match error.downcast_ref() {
        Some(SqliteFailure(_, Some(msg)) | SqlInputError { msg, .. }) => msg.clone(),
        _ => error.source().map_or_else(|| error.to_string(), cause),
    }
}
