//! A look at a database that changes nothing of it, whatever its age: for
//! commands that tell how it is. Never migrates and never moves what is in
//! side files.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::connection::{file, unfinished};
use super::schema::{self, SchemaState};
use super::tables::{key_admin, keys};
use super::{BUSY_TIMEOUT, KeyRow, OpenError, Store, StoreError};
use crate::clock::UnixTime;

/// Damages that are named; more do not help.
const MOST_DAMAGES: u32 = 10;

/// What was found.
#[derive(Debug)]
pub struct Inspection {
    /// What SQLite's own check complains of; empty when it is content.
    pub damages: Vec<String>,
    /// Whether this version of the service can use the schema.
    pub schema: SchemaState,
    /// Every row of `keys`; without times when the schema is an older one.
    pub keys: Vec<Result<KeyRow, StoreError>>,
    /// The latest sign-in that was written down.
    pub last_sign_in: Option<UnixTime>,
}

impl Store {
    /// Looks at the database at `path`; `None` when it is missing or empty.
    ///
    /// Blocks, for long when the file is large.
    pub fn inspect(path: &Path) -> Result<Option<Inspection>, OpenError> {
        read_only(path, look)
    }

    /// The database file and its side files, as far as they are there, with
    /// the bits of their modes.
    pub fn file_modes(path: &Path) -> io::Result<Vec<(PathBuf, u32)>> {
        let mut found = Vec::new();
        for path in file::with_side_files(path) {
            match fs::metadata(&path) {
                Ok(meta) => found.push((path, meta.permissions().mode() & 0o777)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }
}

/// Reads a database without changing it or its side files; `None` when it is
/// missing or empty. `query` runs in one transaction, and perhaps several times.
pub(in crate::store) fn read_only<T>(
    path: &Path,
    query: impl Fn(&Connection) -> Result<T, OpenError>,
) -> Result<Option<T>, OpenError> {
    match path.metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(OpenError::File(e)),
        Ok(meta) if meta.is_file() && meta.len() == 0 => return Ok(None),
        Ok(_) => {}
    }
    // Side files are beside the file itself, behind symbolic links.
    let real = fs::canonicalize(path).map_err(OpenError::File)?;
    match look_at(&real, &query) {
        Err(e) if unfinished::is_cause_of(&e) => match unfinished::read(&real, &query)? {
            Some(found) => Ok(Some(found)),
            // Another program has just finished or undone it.
            None => look_at(&real, &query).map(Some),
        },
        found => found.map(Some),
    }
}

fn look_at<T>(
    path: &Path,
    query: impl Fn(&Connection) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let as_it_lies = lies_still(path).map_err(OpenError::File)?;
    let found = connect(path, as_it_lies).and_then(|conn| query(&conn));
    if as_it_lies && !lies_still(path).map_err(OpenError::File)? {
        // A server has started meanwhile, and what was read may be torn.
        return query(&connect(path, false)?);
    }
    found
}

/// Whether nobody has a database in write-ahead mode open: then its side files
/// are gone, and opening it in the usual way would make them anew.
fn lies_still(path: &Path) -> io::Result<bool> {
    /// The places of the two file format numbers, and what they are in
    /// write-ahead mode.
    const FORMATS: std::ops::Range<usize> = 18..20;
    const WAL: [u8; 2] = [2, 2];
    let mut head = [0; FORMATS.end];
    let is_wal = match File::open(path)?.read_exact(&mut head) {
        Ok(()) => head[FORMATS] == WAL,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(e) => return Err(e),
    };
    Ok(is_wal && !file::side_file(path, "-wal").exists())
}

/// Connects for reading; `as_it_lies`: the file alone, as if nobody wrote to it.
pub(in crate::store) fn connect(path: &Path, as_it_lies: bool) -> Result<Connection, OpenError> {
    let how = if as_it_lies {
        "mode=ro&immutable=1"
    } else {
        "mode=ro"
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(file::uri_with(path, how), flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // One state of it for all questions.
    conn.execute_batch("BEGIN")?;
    Ok(conn)
}

fn look(conn: &Connection) -> Result<Inspection, OpenError> {
    let damages = damages(conn)?;
    let schema = schema::state(conn)?;
    Ok(Inspection {
        keys: all_keys(conn, &schema)?,
        last_sign_in: last_sign_in(conn)?,
        damages,
        schema,
    })
}

fn damages(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = conn.prepare(&format!("PRAGMA quick_check({MOST_DAMAGES})"))?;
    let lines = query.query_map([], |row| row.get::<_, String>(0))?;
    lines
        .filter(|line| !line.as_ref().is_ok_and(|line| line == "ok"))
        .collect()
}

fn all_keys(
    conn: &Connection,
    schema: &SchemaState,
) -> rusqlite::Result<Vec<Result<KeyRow, StoreError>>> {
    match schema {
        SchemaState::Current => key_admin::all(conn),
        SchemaState::Older { .. } if schema::has_table(conn, "keys")? => {
            let rows = keys::all_without_times(conn)?.into_iter();
            Ok(rows.map(Ok).collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn last_sign_in(conn: &Connection) -> rusqlite::Result<Option<UnixTime>> {
    if !schema::has_table(conn, "auth_logs")? {
        return Ok(None);
    }
    // Times are not indexed, but come in the order of the numbers, more or less.
    let latest: Option<i64> = conn.query_row(
        "SELECT max(unixepoch(request_timestamp))
         FROM (SELECT request_timestamp FROM auth_logs ORDER BY id DESC LIMIT 1000)",
        [],
        |row| row.get(0),
    )?;
    Ok(latest.map(UnixTime::from_secs))
}
