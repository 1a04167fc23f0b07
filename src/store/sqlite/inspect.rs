//! Reading a database of any age without changing it: no migration, no
//! checkpoint, no side files made.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::connection::room::LARGE_WAL;
use super::connection::{file, wal_check};
use super::tables::{account_admin, audit, key_events, keys, service_settings};
use super::{SqliteStore, schema};
use crate::clock::UnixTime;
use crate::store::{
    AccountDetails, AccountFilter, Inspection, KeyEvent, KeyRows, OpenError, SchemaState,
    SignInFilter, SignInRow, StoreError,
};

/// Damages that are named; more do not help.
const MAX_DAMAGES: u32 = 10;

impl SqliteStore {
    pub fn inspect(path: &Path) -> Result<Option<Inspection>, OpenError> {
        read_only(path, inspect)
    }

    /// Sealed keys of a database that may be of any age, or missing, read before
    /// [`open`](Self::open) changes anything. A hot journal is rolled back, as by
    /// any program that opens the file.
    ///
    /// Blocks: call it on a blocking thread.
    pub fn peek_keys(path: &Path) -> Result<KeyRows, OpenError> {
        if let Some(not_regular) = file::obstacles(path).into_iter().find(is_final) {
            return Err(not_regular);
        }
        wal_check::check(path)?;
        match Self::read_keys(path) {
            Err(OpenError::HotJournal) => keys_of(&file::connect_reader(path)?),
            found => Ok(found?.unwrap_or_default()),
        }
    }

    pub fn read_keys(path: &Path) -> Result<Option<KeyRows>, OpenError> {
        read_table(path, "keys", keys::of_any_schema)
    }

    pub fn read_history(path: &Path, limit: u32) -> Result<Option<Vec<KeyEvent>>, OpenError> {
        read_table(path, "key_events", |conn| key_events::latest(conn, limit))
    }

    pub fn list_accounts(
        path: &Path,
        filter: &AccountFilter,
    ) -> Result<Option<Vec<AccountDetails>>, OpenError> {
        read_table(path, "users", |conn| account_admin::page(conn, filter))
    }

    pub fn read_account(
        path: &Path,
        names: &[String; 2],
    ) -> Result<Option<Option<AccountDetails>>, OpenError> {
        read_table(path, "users", |conn| account_admin::by_name(conn, names))
    }

    pub fn list_sign_ins(
        path: &Path,
        filter: &SignInFilter,
    ) -> Result<Option<Vec<SignInRow>>, OpenError> {
        read_table(path, "users", |conn| audit::page(conn, filter))
    }

    pub fn is_unerased(path: &Path) -> Result<bool, OpenError> {
        let found = read_only(path, |conn| Ok(service_settings::is_unerased(conn)?))?;
        Ok(found.unwrap_or_default())
    }

    pub fn recorded_settings(path: &Path) -> Result<Vec<(String, String)>, OpenError> {
        let found = read_only(path, |conn| Ok(service_settings::all(conn)?))?;
        Ok(found.unwrap_or_default())
    }

    pub fn obstacles(path: &Path) -> Vec<OpenError> {
        file::obstacles(path)
    }

    pub fn large_wal(path: &Path) -> Option<u64> {
        let size = file::size(&file::side_file(&file::real(path), "-wal"));
        (size > LARGE_WAL).then_some(size)
    }

    pub fn file_modes(path: &Path) -> io::Result<Vec<(PathBuf, u32)>> {
        let mut found = Vec::new();
        for path in file::with_side_files(path) {
            match fs::symlink_metadata(&path) {
                Ok(meta) => found.push((path, meta.permissions().mode() & 0o777)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }
}

/// Is it a reason to refuse a start, and not one that the start mends? It makes files
/// writable, but no folder.
fn is_final(obstacle: &OpenError) -> bool {
    !matches!(obstacle, OpenError::NotWritable { path, .. } if path.is_file())
}

/// Runs `query` in one transaction, perhaps twice; `None` when the database is
/// missing or empty.
fn read_only<T>(
    path: &Path,
    query: impl Fn(&Connection) -> Result<T, OpenError>,
) -> Result<Option<T>, OpenError> {
    match path.metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(OpenError::File(e)),
        // A pipe would be waited for.
        Ok(meta) if !meta.is_file() => return Err(OpenError::NotRegular(path.to_owned())),
        Ok(meta) if meta.len() == 0 => return Ok(None),
        Ok(_) => {}
    }
    // Side files are beside the file that symbolic links lead to.
    let path = &fs::canonicalize(path)?;
    let unused = is_unused(path)?;
    let found = file::connect_read_only(path, unused).map_err(OpenError::from);
    let found = found.and_then(|conn| query(&conn));
    if unused && !is_unused(path)? {
        // A server has started during the read, which may have mixed two states.
        return query(&file::connect_read_only(path, false)?).map(Some);
    }
    found.map(Some)
}

/// Runs `query` on a sound schema; finds nothing where that is older than `table`.
fn read_table<T: Default>(
    path: &Path,
    table: &str,
    query: impl Fn(&Connection) -> Result<T, StoreError>,
) -> Result<Option<T>, OpenError> {
    read_only(path, |conn| {
        schema::check(conn)?;
        match schema::has_table(conn, table)? {
            true => query(conn).map_err(|e| OpenError::Engine(e.to_string())),
            false => Ok(T::default()),
        }
    })
}

/// True when no program has this database in write-ahead mode open: its side
/// files are missing, and an ordinary connection would make them.
fn is_unused(path: &Path) -> io::Result<bool> {
    /// Offsets of the two file format numbers, and their values in write-ahead
    /// mode.
    const FORMATS: std::ops::Range<usize> = 18..20;
    const WAL: [u8; 2] = [2, 2];
    let mut header = [0; FORMATS.end];
    let is_wal = match File::open(path)?.read_exact(&mut header) {
        Ok(()) => header[FORMATS] == WAL,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(e) => return Err(e),
    };
    Ok(is_wal && !file::side_file(path, "-wal").exists())
}

fn inspect(conn: &Connection) -> Result<Inspection, OpenError> {
    let schema = schema::state(conn)?;
    Ok(Inspection {
        keys: match schema {
            SchemaState::Unusable(_) => KeyRows::default(),
            _ => keys_of(conn)?,
        },
        damages: damages(conn)?,
        last_sign_in: last_sign_in(conn)?,
        schema,
    })
}

fn keys_of(conn: &Connection) -> Result<KeyRows, OpenError> {
    keys::of_any_schema(conn).map_err(|e| OpenError::Engine(e.to_string()))
}

fn damages(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = conn.prepare(&format!("PRAGMA quick_check({MAX_DAMAGES})"))?;
    let lines = query.query_map([], |row| row.get::<_, String>(0))?;
    lines
        .filter(|line| !line.as_ref().is_ok_and(|line| line == "ok"))
        .collect()
}

fn last_sign_in(conn: &Connection) -> rusqlite::Result<Option<UnixTime>> {
    if !schema::has_table(conn, "auth_logs")? {
        return Ok(None);
    }
    // Times have no index, but mostly come in the order of the ids.
    let latest: Option<i64> = conn.query_row(
        "SELECT max(unixepoch(request_timestamp))
         FROM (SELECT request_timestamp FROM auth_logs ORDER BY id DESC LIMIT 1000)",
        [],
        |row| row.get(0),
    )?;
    Ok(latest.map(UnixTime::from_secs))
}
