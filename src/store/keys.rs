//! The tables `keys` and `key_times`: sealed private keys and their times.

use std::fmt;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, StoreError};
use crate::clock::UnixTime;

/// The number of a key: the column `keys.kid`, and its decimal string in
/// tokens and in the key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid(i64);

impl Kid {
    /// The kid of a key of this service: the first 53 bits of its thumbprint
    /// (RFC 7638), a number that also JavaScript reads exactly.
    pub fn from_thumbprint(print: &[u8; 32]) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&print[..8]);
        Self((u64::from_be_bytes(first) >> 11).cast_signed())
    }

    /// The kid of a row.
    pub const fn from_row(kid: i64) -> Self {
        Self(kid)
    }

    /// The value of the column.
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a key is published and signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// Which key.
    pub kid: Kid,
    /// Grows with each key that is made, whatever the clock says; 0 for the
    /// keys of the earlier server.
    pub serial: i64,
    /// The first second in which it may sign; none for a key of the earlier
    /// server, which may sign at once. At or after `expires_at`: it never signs.
    pub signs_from: Option<UnixTime>,
    /// The first second in which it is no longer published.
    pub expires_at: UnixTime,
}

/// A row of `keys` with its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its times.
    pub times: KeyTimes,
    /// The Fernet token.
    pub sealed: Vec<u8>,
}

/// The times that a new key gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpan {
    /// Start of publication.
    pub created_at: UnixTime,
    /// See [`KeyTimes::signs_from`].
    pub signs_from: UnixTime,
    /// See [`KeyTimes::expires_at`].
    pub expires_at: UnixTime,
}

impl Store {
    /// The keys that have not expired at `now`, and up to `expired` of those
    /// that have, latest first. In order of their expiry.
    pub async fn keys_around(
        &self,
        now: UnixTime,
        expired: usize,
    ) -> Result<Vec<KeyRow>, StoreError> {
        self.read(move |conn| around(conn, now, expired)).await
    }

    /// Inserts a key if `due`, asked inside the transaction about the same
    /// keys that [`keys_around`](Self::keys_around) gives, says which times it
    /// gets. `false`: it was not due any more, which is what happens when
    /// another process has done the same.
    pub async fn insert_key_if_due(
        &self,
        kid: Kid,
        sealed: Vec<u8>,
        now: UnixTime,
        expired: usize,
        due: impl FnOnce(&[KeyTimes]) -> Option<KeySpan> + Send + 'static,
    ) -> Result<bool, StoreError> {
        self.writer
            .write(move |conn| {
                let times: Vec<_> = around(conn, now, expired)?
                    .into_iter()
                    .map(|row| row.times)
                    .collect();
                let Some(span) = due(&times) else {
                    return Ok(false);
                };
                insert(conn, kid, &sealed, span)?;
                Ok(true)
            })
            .await
    }

    /// Deletes the keys that expired before `before`, except `keep`, and times
    /// whose key something else has deleted. Returns how many keys went.
    pub async fn prune_keys(
        &self,
        before: UnixTime,
        keep: Option<Kid>,
    ) -> Result<usize, StoreError> {
        self.writer
            .write(move |conn| {
                let gone = conn.execute(
                    "DELETE FROM keys WHERE exp < ? AND kid IS NOT ?",
                    params![before.as_secs(), keep.map(Kid::as_i64)],
                )?;
                conn.execute(
                    "DELETE FROM key_times WHERE kid NOT IN (SELECT kid FROM keys)",
                    [],
                )?;
                Ok(gone)
            })
            .await
    }

    /// Whether [`prune_keys`](Self::prune_keys) would delete a key.
    pub async fn can_prune_keys(
        &self,
        before: UnixTime,
        keep: Option<Kid>,
    ) -> Result<bool, StoreError> {
        self.read(move |conn| {
            let found: Option<i64> = conn
                .prepare_cached("SELECT 1 FROM keys WHERE exp < ? AND kid IS NOT ? LIMIT 1")?
                .query_row(params![before.as_secs(), keep.map(Kid::as_i64)], |row| {
                    row.get(0)
                })
                .optional()?;
            Ok(found.is_some())
        })
        .await
    }
}

/// Every key of a database whose schema may be older.
pub(super) fn all(conn: &Connection, has_times: bool) -> rusqlite::Result<Vec<KeyRow>> {
    let sql = if has_times {
        "SELECT k.kid, k.key, k.exp, t.signs_from, t.serial FROM keys k LEFT JOIN key_times t USING (kid) ORDER BY k.exp, k.kid"
    } else {
        "SELECT kid, key, exp, NULL, NULL FROM keys ORDER BY exp, kid"
    };
    let mut query = conn.prepare(sql)?;
    let rows = query.query_map([], |row| Ok(read(row)))?;
    // A row that cannot be read is no reason to refuse the others here.
    rows.filter_map(|row| row.map(Result::ok).transpose())
        .collect()
}

fn around(conn: &Connection, now: UnixTime, expired: usize) -> Result<Vec<KeyRow>, StoreError> {
    let mut query = conn.prepare_cached(
        "SELECT k.kid, k.key, k.exp, t.signs_from, t.serial FROM (
             SELECT * FROM keys WHERE exp > ?1
             UNION ALL
             SELECT * FROM (SELECT * FROM keys WHERE exp <= ?1 ORDER BY exp DESC, kid DESC LIMIT ?2)
         ) k LEFT JOIN key_times t USING (kid) ORDER BY k.exp, k.kid",
    )?;
    let rows = query.query_map(
        params![now.as_secs(), i64::try_from(expired).unwrap_or(i64::MAX)],
        |row| Ok(read(row)),
    )?;
    rows.map(|row| row?).collect()
}

fn read(row: &Row<'_>) -> Result<KeyRow, StoreError> {
    let kid: i64 = row.get(0)?;
    let bad = |column| StoreError::BadRow {
        table: "keys",
        column,
        row: kid,
    };
    let sealed = match row.get_ref(1)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        _ => return Err(bad("key")),
    };
    Ok(KeyRow {
        times: KeyTimes {
            kid: Kid(kid),
            serial: row.get::<_, Option<i64>>(4)?.unwrap_or(0),
            signs_from: row.get::<_, Option<i64>>(3)?.map(UnixTime::from_secs),
            expires_at: UnixTime::from_secs(row.get(2).map_err(|_| bad("exp"))?),
        },
        sealed,
    })
}

fn insert(conn: &Connection, kid: Kid, sealed: &[u8], span: KeySpan) -> rusqlite::Result<()> {
    // Readers of the source look for this statement on one line.
    conn.prepare_cached("INSERT INTO keys (kid, key, exp) VALUES (?, ?, ?)")?
        .execute(params![kid.as_i64(), sealed, span.expires_at.as_secs()])?;
    conn.prepare_cached("INSERT INTO key_times (kid, created_at, signs_from) VALUES (?, ?, ?)")?
        .execute(params![
            kid.as_i64(),
            span.created_at.as_secs(),
            span.signs_from.as_secs()
        ])?;
    Ok(())
}
