//! The schema: migrations, and the columns that a file must have before them.

use refinery::Migration;
use refinery::error::Kind;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use crate::store::copy::TABLES;
use crate::store::{OpenError, SchemaState};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The tables that other programs read, with their columns in order.
const SHARED_COLUMNS: [(&str, &str); 3] = [
    ("keys", "kid,key,exp"),
    (
        "users",
        "id,username,password_hash,email,date_registered,last_login",
    ),
    ("auth_logs", "id,request_ip,request_timestamp,user_id"),
];

/// The other ones.
fn own_tables() -> impl Iterator<Item = &'static str> {
    let is_shared = |table: &&str| SHARED_COLUMNS.iter().any(|(name, _)| name == table);
    TABLES.into_iter().filter(move |table| !is_shared(table))
}

/// The table in which refinery records the migrations.
const HISTORY: &str = "refinery_schema_history";

/// Attempts at a migration that fails: another process may have done the same at
/// the same time.
const ATTEMPTS: usize = 5;

/// Compares the schema with the one of this version, without changing it.
pub(super) fn state(conn: &Connection) -> rusqlite::Result<SchemaState> {
    // In one snapshot, or half of another process's migration may be seen.
    let _snapshot = conn
        .is_autocommit()
        .then(|| conn.unchecked_transaction())
        .transpose()?;
    // In this order: the columns of a planted view may be an error to ask for.
    let unfit = match planted(conn)? {
        None => differing_columns(conn)?,
        planted => planted,
    };
    if let Some(fault) = unfit {
        return Ok(SchemaState::Unusable(fault));
    }
    let runner = embedded::migrations::runner();
    let known = runner.get_migrations();
    let applied = match applied(conn) {
        Ok(applied) => applied,
        Err(e)
            if e.sqlite_error_code()
                .is_none_or(|code| code == ErrorCode::Unknown) =>
        {
            return Ok(SchemaState::Unusable(OpenError::History(e.to_string())));
        }
        Err(e) => return Err(e),
    };
    if let Some(fault) = fault(conn, &applied, known)? {
        return Ok(SchemaState::Unusable(fault));
    }
    if let Some((version, name, ..)) = applied.get(known.len()) {
        return Ok(SchemaState::Newer(format!("V{version}__{name}")));
    }
    if applied.len() < known.len() {
        return Ok(SchemaState::Older {
            has: applied.len(),
            needs: known.len(),
        });
    }
    let own = own_tables().map(|table| (table, "as this version makes them"));
    for (table, needed) in SHARED_COLUMNS.into_iter().chain(own) {
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

/// Why the tables are not those that the migrations of the record have made.
fn fault(
    conn: &Connection,
    applied: &[Applied],
    known: &[Migration],
) -> rusqlite::Result<Option<OpenError>> {
    if let Some(fault) = history_fault(applied, known) {
        return Ok(Some(fault));
    }
    let steps = match applied.len() {
        // Our tables without a record of them: wrong ones are named, else the record is.
        0 => known.len(),
        count => count,
    };
    let is_newer = applied.len() > known.len();
    let other = match differing_own_table(conn, steps, is_newer)? {
        None => unfit_shared_table(conn)?,
        other => other,
    };
    if let Some(what) = other {
        return Ok(Some(OpenError::OtherDefinition { what }));
    }
    let is_lost = applied.is_empty() && has_table(conn, "key_times")?;
    Ok(is_lost.then(|| OpenError::History("it is empty".to_owned())))
}

/// Why the record of migrations cannot be this version's, an older one's or a later one's.
fn history_fault(applied: &[Applied], known: &[Migration]) -> Option<OpenError> {
    for (version, name, checksum, applied_on) in applied {
        let mut known = known.iter();
        let step = known.find(|step| i64::from(step.version()) == *version);
        if step.is_some_and(|step| step.checksum().to_string() != *checksum) {
            let differs = format!("its step V{version}__{name} was another one");
            return Some(OpenError::Migration(differs));
        }
        // refinery panics on a time that it cannot read.
        if let Err(e) = humantime::parse_rfc3339(applied_on) {
            let what = format!("applied_on of V{version}__{name}: {e}");
            return Some(OpenError::History(what));
        }
    }
    let mut places = applied.iter().zip(1_i64..);
    let ((version, name, ..), expected) = places.find(|((version, ..), at)| version != at)?;
    let what = format!("V{version}__{name} is where V{expected} should be");
    Some(OpenError::History(what))
}

/// A migration that the file knows of: version, name, checksum, time.
type Applied = (i64, String, String, String);

fn applied(conn: &Connection) -> rusqlite::Result<Vec<Applied>> {
    if !has_table(conn, HISTORY)? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT version, name, checksum, applied_on FROM {HISTORY} ORDER BY version");
    let mut query = conn.prepare(&sql)?;
    let rows = query.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    rows.collect()
}

pub(super) fn has_table(conn: &Connection, table: &str) -> rusqlite::Result<bool> {
    Ok(!columns(conn, table)?.is_empty())
}

/// True when a version of this service has made tables in the file.
pub(super) fn is_own(conn: &Connection) -> rusqlite::Result<bool> {
    Ok(has_table(conn, HISTORY)? || has_table(conn, "key_times")?)
}

/// Brings the schema up to date, also when other processes do so at the same time.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    let runner = embedded::migrations::runner()
        .set_abort_missing(true)
        .set_abort_divergent(true)
        // One transaction for the steps and the record of them, or a kill in
        // between would leave a schema that no later start understands.
        .set_grouped(true);
    let mut attempt = 1;
    loop {
        match state(conn)? {
            SchemaState::Unusable(why) => return Err(why),
            SchemaState::Older { .. } => {}
            SchemaState::Current | SchemaState::Newer(_) => return Ok(()),
        }
        match runner.run(conn) {
            Ok(_) => return check(conn),
            Err(e) => match e.kind() {
                // The other process may be one of a later version.
                Kind::Connection(..) | Kind::MissingVersion(_) if attempt < ATTEMPTS => {
                    attempt += 1;
                }
                _ => return Err(OpenError::Migration(cause(&e))),
            },
        }
    }
}

/// Refuses a schema that this version cannot use or bring up to date.
pub(super) fn check(conn: &Connection) -> Result<(), OpenError> {
    match state(conn)? {
        SchemaState::Unusable(why) => Err(why),
        _ => Ok(()),
    }
}

/// A trigger or view that another program planted: a trigger would run with each of
/// our writes. Or an entry in no form that SQLite writes: it reads `TRIGGER`, a BLOB, and
/// text up to its first NUL as well, which the other queries here would not find.
pub(super) fn planted(conn: &Connection) -> rusqlite::Result<Option<OpenError>> {
    let sql = "SELECT CAST(type AS BLOB), CAST(name AS BLOB) FROM sqlite_schema
         WHERE type IS NOT 'table' AND type IS NOT 'index'
             OR typeof(name) <> 'text' OR typeof(tbl_name) <> 'text'
             OR instr(name, char(0)) OR instr(tbl_name, char(0))
             OR typeof(sql) NOT IN ('text', 'null')
         LIMIT 1";
    let text =
        |value: Option<Vec<u8>>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
    conn.query_row(sql, [], |row| {
        Ok(OpenError::Planted {
            kind: text(row.get(0)?).to_ascii_lowercase(),
            name: text(row.get(1)?),
        })
    })
    .optional()
}

/// A table of this service, or an index of one, that is not as the first `steps`
/// migrations make it, or an index that is missing. Later ones may alter it yet, and
/// where `is_newer` they have.
fn differing_own_table(
    conn: &Connection,
    steps: usize,
    is_newer: bool,
) -> rusqlite::Result<Option<String>> {
    let made = Connection::open_in_memory()?;
    let runner = embedded::migrations::runner();
    for step in runner.get_migrations().iter().take(steps) {
        made.execute_batch(step.sql().unwrap_or_default())?;
    }
    for table in own_tables() {
        let (found, needed) = (definitions(conn, table)?, definitions(&made, table)?);
        let is_extended = || is_newer && extends(&found, &needed);
        if !found.is_empty() && found != needed && !is_extended() {
            return Ok(Some(format!("table {table}, or an index of it,")));
        }
    }
    Ok(None)
}

/// Kind, name and text.
type Definition = [Option<String>; 3];

/// Do all of `needed` stand in `found`, with no more than columns added, and indexes that
/// refuse no row?
fn extends(found: &[Definition], needed: &[Definition]) -> bool {
    let is_there = |[kind, name, sql]: &Definition| {
        found.iter().any(|[found_kind, found_name, found_sql]| {
            (kind, name) == (found_kind, found_name) && has_more_columns(found_sql, sql)
        })
    };
    let is_new = |definition: &&Definition| !needed.iter().any(|it| it[1] == definition[1]);
    let is_harmless = |[_, _, sql]: &Definition| {
        let sql = sql.as_deref().unwrap_or_default();
        sql.starts_with("CREATE INDEX ")
    };
    needed.iter().all(is_there) && found.iter().filter(is_new).all(is_harmless)
}

/// ALTER TABLE ADD COLUMN puts text into the definition, and changes none.
fn has_more_columns(found: &Option<String>, needed: &Option<String>) -> bool {
    let (Some(found), Some(needed)) = (found, needed) else {
        return found == needed;
    };
    let same = |(a, b): &(u8, u8)| a == b;
    let start = found.bytes().zip(needed.bytes()).take_while(same).count();
    let ends = found.bytes().rev().zip(needed.bytes().rev());
    let end = ends.take_while(same).count();
    let Some(added) = found.len().checked_sub(needed.len()) else {
        return false;
    };
    let added = found.get(start..start + added).unwrap_or_default();
    let added = added.to_ascii_uppercase();
    start + end >= needed.len()
        && !["CHECK", "CONFLICT", "UNIQUE"]
            .iter()
            .any(|it| added.contains(it))
}

/// A table and its indexes.
fn definitions(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Definition>> {
    let mut query = conn.prepare(
        "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = ? COLLATE NOCASE ORDER BY name",
    )?;
    let rows = query.query_map([table], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    rows.collect()
}

/// A shared table that other programs may have made in other words, but with a rule
/// that would decide about our rows, or without one that we rely on.
fn unfit_shared_table(conn: &Connection) -> rusqlite::Result<Option<String>> {
    // SQLite tells of these in the text alone.
    let sql = "SELECT 'table ' || tbl_name FROM sqlite_schema
         WHERE type = 'table' AND lower(name) IN ('keys', 'users', 'auth_logs')
             AND (sql LIKE '%CONFLICT%' OR sql LIKE '%CHECK%' OR sql LIKE '%COLLATE%')
         UNION ALL
         SELECT 'column ' || c.name || ' of table ' || t.name
         FROM sqlite_schema t, pragma_table_xinfo(t.name) c
         WHERE t.type = 'table' AND lower(t.name) IN ('keys', 'users', 'auth_logs')
             AND (c.hidden <> 0 OR (c.cid = 0) <> (c.pk > 0)
                 OR (c.cid = 0 AND upper(c.type) <> 'INTEGER'))
         UNION ALL
         -- a unique index of other columns than it should have, a partial one, one of expressions
         SELECT 'index ' || i.name || ' of table ' || t.name
         FROM sqlite_schema t, pragma_index_list(t.name) i
         WHERE t.type = 'table' AND lower(t.name) IN ('keys', 'users', 'auth_logs')
             AND (i.partial OR EXISTS (SELECT 1 FROM pragma_index_xinfo(i.name) x
                     WHERE x.cid = -2 OR x.coll <> 'BINARY')
                 OR (i.[unique] AND (lower(t.name) <> 'users'
                     OR (SELECT group_concat(x.name) FROM pragma_index_info(i.name) x)
                         NOT IN ('username', 'email'))))
         UNION ALL
         SELECT 'foreign key of table ' || t.name
         FROM sqlite_schema t, pragma_foreign_key_list(t.name) f
         WHERE t.type = 'table' AND lower(t.name) IN ('keys', 'users', 'auth_logs')
             AND (lower(t.name), lower(f.[table]), f.[from], coalesce(f.[to], 'id'), f.on_update, f.on_delete)
                 <> ('auth_logs', 'users', 'user_id', 'id', 'NO ACTION', 'NO ACTION')
         UNION ALL
         SELECT 'table users without a unique ' || n.value
         FROM (SELECT 'username' AS value UNION ALL SELECT 'email') n
         WHERE EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND lower(name) = 'users')
             AND NOT EXISTS (SELECT 1 FROM pragma_index_list('users') i
                 WHERE i.[unique] AND NOT i.partial
                     AND (SELECT group_concat(x.name) FROM pragma_index_info(i.name) x) = n.value)
         LIMIT 1";
    conn.query_row(sql, [], |row| row.get(0)).optional()
}

fn differing_columns(conn: &Connection) -> rusqlite::Result<Option<OpenError>> {
    for (table, needed) in SHARED_COLUMNS {
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
pub(super) fn columns(conn: &Connection, table: &str) -> rusqlite::Result<String> {
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
