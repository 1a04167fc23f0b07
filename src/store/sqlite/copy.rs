//! A file that is copied to another engine, or made from one. Each is one transaction of
//! a connection of its own.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::connection::{file, wal_check};
use super::tables::keys;
use super::{SqliteStore, schema};
use crate::store::copy::{BATCH, CopyError, Kind, Rows, TABLES, Table, Value};
use crate::store::{BadRow, KeyRows, Location, OpenError, SchemaState, StoreError};

pub(in crate::store) struct CopyFile {
    conn: Connection,
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl CopyFile {
    /// The database at `path`, to read. Unless `live_ok`, nobody can write to it meanwhile.
    pub(in crate::store) fn source(path: &Path, live_ok: bool) -> Result<Self, CopyError> {
        let at = || Location::Sqlite(path.to_owned());
        let unusable = |error| CopyError::Unusable { at: at(), error };
        if !path.metadata().is_ok_and(|meta| meta.len() > 0) {
            return Err(CopyError::Missing(at()));
        }
        if !live_ok {
            // Before the file is opened: closing one of its descriptors frees all locks.
            in_use(path)?;
        }
        let real = &file::real(path);
        wal_check::check(real).map_err(unusable)?;
        let conn = file::connect_reader(real)?;
        let begin = match live_ok {
            true => "BEGIN",
            false => "PRAGMA query_only = OFF; BEGIN IMMEDIATE; PRAGMA query_only = ON",
        };
        conn.execute_batch(begin)?;
        match schema::state(&conn)? {
            SchemaState::Current => {}
            SchemaState::Older { .. } => return Err(CopyError::Older(at())),
            SchemaState::Newer(step) => return Err(unusable(OpenError::Newer(step))),
            SchemaState::Unusable(error) => return Err(unusable(error)),
        }
        dangling(&conn)?;
        Ok(Self { conn })
    }

    /// A new database at `path`, or an empty one that is there.
    pub(in crate::store) fn target(path: &Path) -> Result<Self, CopyError> {
        let at = || Location::Sqlite(path.to_owned());
        let unusable = |error| CopyError::Unusable { at: at(), error };
        let real = &file::real(path);
        file::prepare(real).map_err(unusable)?;
        wal_check::check(real).map_err(unusable)?;
        let mut conn = file::connect(real).map_err(unusable)?;
        // A database of something else is not given tables before it is refused.
        if let Some(table) = has_rows(&conn)? {
            return Err(CopyError::NotEmpty(at(), table));
        }
        schema::migrate(&mut conn).map_err(unusable)?;
        conn.execute_batch("BEGIN IMMEDIATE")?;
        match has_rows(&conn)? {
            Some(table) => Err(CopyError::NotEmpty(at(), table)),
            None => Ok(Self { conn }),
        }
    }

    /// Refuses a column that only one of the two databases has.
    pub(in crate::store) fn check_columns(&self, table: &Table) -> Result<(), CopyError> {
        let found = schema::columns(&self.conn, table.name)?;
        let found: HashSet<_> = found.split(',').collect();
        let known = table.columns.iter().map(|(name, _)| name.as_str());
        match found.symmetric_difference(&known.collect()).min() {
            None => Ok(()),
            Some(column) => Err(CopyError::OneSided {
                table: table.name,
                column: (*column).to_owned(),
            }),
        }
    }

    /// The next rows after the one with this number, which grows.
    pub(in crate::store) fn batch(&self, table: &Table, past: &mut i64) -> Result<Rows, CopyError> {
        let sql = format!(
            "SELECT rowid, {} FROM {} WHERE rowid > ? ORDER BY rowid LIMIT {BATCH}",
            table.names(),
            table.name
        );
        let mut query = self.conn.prepare_cached(&sql)?;
        let mut found = query.query([*past])?;
        let mut rows = Rows::new();
        while let Some(row) = found.next()? {
            *past = row.get(0)?;
            let columns = table.columns.iter().enumerate();
            let values = columns.map(|(index, (column, kind))| {
                let found = row.get_ref(index + 1)?;
                value(found, *kind).ok_or_else(|| {
                    CopyError::Row(BadRow {
                        table: table.name,
                        column: column.clone().into(),
                        row: *past,
                    })
                })
            });
            rows.push(values.collect::<Result<_, _>>()?);
        }
        Ok(rows)
    }

    pub(in crate::store) fn insert(&self, table: &Table, rows: &Rows) -> Result<(), CopyError> {
        let marks = vec!["?"; table.columns.len()].join(", ");
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({marks})",
            table.name,
            table.names()
        );
        let mut insert = self.conn.prepare_cached(&sql)?;
        for row in rows {
            insert.execute(params_from_iter(row))?;
        }
        Ok(())
    }

    /// Number of the next row.
    pub(in crate::store) fn next_number(&self, table: &Table) -> Result<i64, CopyError> {
        let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?";
        let last: i64 = self.conn.query_row(sql, [table.name], |row| row.get(0))?;
        Ok(last.saturating_add(1))
    }

    /// No row gets a smaller number than `next`, nor one that was copied.
    pub(in crate::store) fn set_next_number(
        &self,
        table: &Table,
        next: i64,
    ) -> Result<(), CopyError> {
        let next = next.max(self.next_number(table)?);
        if next <= 1 {
            return Ok(());
        }
        let sql = "DELETE FROM sqlite_sequence WHERE name = ?";
        self.conn.execute(sql, [table.name])?;
        self.conn.execute(
            "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)",
            (table.name, next - 1),
        )?;
        Ok(())
    }

    pub(in crate::store) fn keys(&self) -> Result<KeyRows, CopyError> {
        Ok(keys::of_any_schema(&self.conn)?)
    }

    /// On disk when this returns.
    pub(in crate::store) fn commit(self) -> Result<(), CopyError> {
        self.conn.execute_batch("COMMIT")?;
        // Moves the write-ahead log into the file.
        self.conn
            .close()
            .map_err(|(_, e)| CopyError::Failed(e.to_string()))
    }
}

fn in_use(path: &Path) -> Result<(), CopyError> {
    let at = || Location::Sqlite(path.to_owned());
    let unusable = |error| CopyError::Unusable { at: at(), error };
    match SqliteStore::used_by(path).map_err(|e| unusable(OpenError::File(e)))? {
        None => Ok(()),
        Some(process) => Err(CopyError::InUse(at(), process)),
    }
}

fn has_rows(conn: &Connection) -> Result<Option<&'static str>, CopyError> {
    for name in TABLES {
        if schema::has_table(conn, name)? {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {name})");
            if conn.query_row(&sql, [], |row| row.get(0))? {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}

/// Refuses rows that refer to others which are not there: another program may delete
/// those without a check.
fn dangling(conn: &Connection) -> Result<(), CopyError> {
    let mut query = conn.prepare("PRAGMA foreign_key_check")?;
    let mut found = query.query([])?;
    match found.next()? {
        None => Ok(()),
        Some(row) => Err(CopyError::Dangling {
            table: row.get(0)?,
            row: row.get(1)?,
        }),
    }
}

/// None when it is not of the kind.
fn value(found: ValueRef<'_>, kind: Kind) -> Option<Value> {
    Some(match (found, kind) {
        (ValueRef::Null, _) => Value::Null,
        (ValueRef::Integer(number), Kind::Int) => Value::Int(number),
        (ValueRef::Blob(bytes) | ValueRef::Text(bytes), Kind::Bytes) => Value::Bytes(bytes.into()),
        (ValueRef::Text(text), Kind::Text | Kind::Time) => {
            let text = str::from_utf8(text).ok()?;
            // Text of PostgreSQL has no NUL, and it reads more as a time than a time.
            let is_time = || humantime::parse_rfc3339_weak(text).is_ok();
            if text.contains('\0') || kind == Kind::Time && !is_time() {
                return None;
            }
            Value::Text(text.to_owned())
        }
        _ => return None,
    })
}
