//! The tables `keys` and `key_times`: sealed private keys and their times.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::key_events::{self, KeyEventKind};
use super::{BadRow, Store, StoreError};
use crate::clock::{Clock, UnixTime};
use crate::lifecycle::{KeySpan, KeyTimes, Kid};

/// A row of `keys` with its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its times.
    pub times: KeyTimes,
    /// The Fernet token.
    pub sealed: Vec<u8>,
}

impl Store {
    /// The keys that have not expired at `now`, and up to `expired` of those
    /// that have, latest first. In order of their expiry. With them, the kids
    /// of rows that hold values of the wrong type, which count nowhere.
    pub async fn keys_around(
        &self,
        now: UnixTime,
        expired: usize,
    ) -> Result<(Vec<KeyRow>, Vec<Kid>), StoreError> {
        self.read(move |conn| Ok((around(conn, now, expired)?, mistyped(conn)?)))
            .await
    }

    /// Inserts a key if `due`, asked inside the transaction about the same
    /// keys that [`keys_around`](Self::keys_around) gives, says which times it
    /// gets. The clock is read there too: the transaction may have waited for
    /// a lock, and times count from when the key is there. `false`: it was not due any more, which is what happens when
    /// another process has done the same.
    pub async fn insert_key_if_due(
        &self,
        kid: Kid,
        sealed: Vec<u8>,
        expired: usize,
        clock: Arc<dyn Clock>,
        due: impl FnOnce(&[KeyTimes], UnixTime) -> Option<KeySpan> + Send + 'static,
    ) -> Result<bool, StoreError> {
        self
            .write(move |conn| {
                let now = clock.now();
                let times: Vec<_> = around(conn, now, expired)?
                    .into_iter()
                    .map(|row| row.times)
                    .collect();
                let Some(span) = due(&times, now) else {
                    return Ok(false);
                };
                insert(conn, kid, &sealed, span)?;
                key_events::note(conn, kid, KeyEventKind::Created, now, None)?;
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
        now: UnixTime,
    ) -> Result<usize, StoreError> {
        self
            .write(move |conn| {
                let mut query = conn.prepare_cached(
                    "DELETE FROM keys WHERE exp < ? AND kid IS NOT ? RETURNING kid",
                )?;
                let gone: Vec<i64> = query
                    .query_map(params![before.as_secs(), keep.map(Kid::as_i64)], |row| {
                        row.get(0)
                    })?
                    .collect::<Result<_, _>>()?;
                for &kid in &gone {
                    key_events::note(conn, Kid::from_row(kid), KeyEventKind::Deleted, now, None)?;
                }
                conn.execute(
                    "DELETE FROM key_times WHERE kid NOT IN (SELECT kid FROM keys)",
                    [],
                )?;
                key_events::prune(conn)?;
                Ok(gone.len())
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

/// Every key of a database whose schema may be older, so without its times.
pub(in crate::store) fn all_without_times(conn: &Connection) -> rusqlite::Result<Vec<KeyRow>> {
    let mut query =
        conn.prepare("SELECT kid, key, exp, NULL, NULL, 0, NULL FROM keys ORDER BY exp, kid")?;
    let rows = query.query_map([], |row| Ok(read(row)))?;
    // A row that cannot be read is no reason to refuse the others here.
    rows.filter_map(|row| row.map(Result::ok).transpose())
        .collect()
}

/// SQLite lets other programs store anything anywhere; a text in `exp` would
/// even count as later than every time.
const WELL_TYPED: &str = "typeof(k.exp) = 'integer' AND typeof(k.key) IN ('text', 'blob')
    AND typeof(t.signs_from) IN ('integer', 'null')";
/// Kids of mistyped rows that are named at most.
const MOST_MISTYPED: i64 = 16;

fn mistyped(conn: &Connection) -> Result<Vec<Kid>, StoreError> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT k.kid FROM keys k LEFT JOIN key_times t USING (kid)
         WHERE NOT ({WELL_TYPED}) ORDER BY k.kid LIMIT ?"
    ))?;
    let kids = query.query_map([MOST_MISTYPED], |row| row.get(0).map(Kid::from_row))?;
    Ok(kids.collect::<Result<_, _>>()?)
}

/// The columns that [`read`] takes, of `keys k` joined with its times.
pub(in crate::store) const COLUMNS: &str =
    "k.kid AS kid, k.key, k.exp AS exp, t.signs_from, t.serial,
    EXISTS (SELECT 1 FROM key_events e WHERE e.kid = k.kid AND e.event = 'revoked'
            -- the words of the partial index, without which the whole table is read
            AND e.event IN ('first_signed', 'revoked')),
    t.created_at";

pub(in crate::store) fn around(
    conn: &Connection,
    now: UnixTime,
    expired: usize,
) -> Result<Vec<KeyRow>, StoreError> {
    let mut query = conn.prepare_cached(&format!(
        "WITH sound AS (
             SELECT {COLUMNS} FROM keys k LEFT JOIN key_times t USING (kid) WHERE {WELL_TYPED}
         )
         SELECT * FROM sound WHERE exp > ?1
         UNION ALL
         SELECT * FROM (SELECT * FROM sound WHERE exp <= ?1 ORDER BY exp DESC, kid DESC LIMIT ?2)
         ORDER BY exp, kid"
    ))?;
    let rows = query.query_map(
        params![now.as_secs(), i64::try_from(expired).unwrap_or(i64::MAX)],
        |row| Ok(read(row)),
    )?;
    rows.map(|row| row?).collect()
}

pub(in crate::store) fn read(row: &Row<'_>) -> Result<KeyRow, StoreError> {
    let kid: i64 = row.get(0)?;
    let bad = |column| StoreError::from(BadRow {
        table: "keys",
        column,
        row: kid,
    });
    let bad_time = |column| StoreError::from(BadRow {
        table: "key_times",
        column,
        row: kid,
    });
    let signs_from: Option<i64> = row.get(3).map_err(|_| bad_time("signs_from"))?;
    // Only shown, so no reason to leave the key out.
    let created_at: Option<i64> = row.get(6).unwrap_or_default();
    let serial: Option<i64> = row.get(4).map_err(|_| bad_time("serial"))?;
    let sealed = match row.get_ref(1)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        _ => return Err(bad("key")),
    };
    Ok(KeyRow {
        times: KeyTimes {
            kid: Kid::from_row(kid),
            serial: serial.unwrap_or(0),
            created_at: created_at.map(UnixTime::from_secs),
            signs_from: signs_from.map(UnixTime::from_secs),
            expires_at: UnixTime::from_secs(row.get(2).map_err(|_| bad("exp"))?),
            revoked: row.get(5)?,
        },
        sealed,
    })
}

/// Inserts a key with its times; the event is the caller's to note.
pub(in crate::store) fn insert(
    conn: &Connection,
    kid: Kid,
    sealed: &[u8],
    span: KeySpan,
) -> rusqlite::Result<()> {
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
