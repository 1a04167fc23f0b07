//! Files that the graders read: the database, and the source.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags};

use crate::support::DATABASE;

pub const STATEMENT: &str = "INSERT INTO keys (kid, key, exp) VALUES (?, ?, ?)";

/// The file by its default name, opened as by a program that means to write and
/// does not wait for locks. The first query fails if anything is in its way.
pub fn open(dir: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(dir.join(DATABASE), flags).unwrap();
    conn.busy_timeout(Duration::ZERO).unwrap();
    conn
}

/// Names and types of a table's columns, in order.
pub fn columns(conn: &Connection, table: &str) -> String {
    let sql = "SELECT group_concat(name || ' ' || type, ', ')
        FROM (SELECT name, type FROM pragma_table_info(?) ORDER BY cid)";
    let columns: Option<String> = conn.query_row(sql, [table], |row| row.get(0)).unwrap();
    columns.unwrap_or_default()
}

/// `SELECT *` into a fixed record.
pub struct Key {
    pub kid: i64,
    pub key: Vec<u8>,
    pub exp: i64,
}

pub fn keys(conn: &Connection) -> Vec<Key> {
    let mut query = conn.prepare("SELECT * FROM keys").unwrap();
    assert_eq!(query.column_count(), 3);
    let rows = query.query_map([], |row| {
        Ok(Key {
            kid: row.get(0)?,
            key: row.get(1)?,
            exp: row.get(2)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// True for what could be a private key that anyone can read: PEM, or DER, whose
/// first byte is that of a sequence.
pub fn is_in_the_clear(key: &[u8]) -> bool {
    key.windows(5).any(|part| part == b"BEGIN") || key.first() == Some(&0x30)
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// True when a line of a file below `dir` holds `text`.
pub fn has_line(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            has_line(&path, text)
        } else {
            fs::read_to_string(&path)
                .unwrap()
                .lines()
                .any(|line| line.contains(text))
        }
    })
}
