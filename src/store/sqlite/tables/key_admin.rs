//! What operators do to the tables of keys, each step one transaction.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::key_events::{self, KeyEventKind};
use super::keys::{self, COLUMNS};
use super::{KeyRow, Store, StoreError};
use crate::clock::{Clock, UnixTime};
use crate::lifecycle::{KeySpan, Kid};

/// How many rows were encrypted anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Under the first key now, and not before.
    pub changed: usize,
    /// Under the first key already.
    pub unchanged: usize,
    /// Opened by no key, and left as they are.
    pub unreadable: usize,
}

/// What to do with the sealed form of one row.
pub enum Reseal {
    /// Put this in its place.
    Replace(Vec<u8>),
    /// It is as it should be.
    Keep,
    /// Nothing can be done for it.
    Unreadable,
}

impl Store {
    /// All keys, in the order of their making.
    pub async fn all_keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        self.read(|conn| {
            // Mistyped rows are the server's log's to report.
            let rows = all(conn)?.into_iter();
            rows.filter(|row| !matches!(row, Err(StoreError::BadRow(_))))
                .collect()
        })
        .await
    }

    /// Takes every key out of the set and puts a new one in. Returns the kids
    /// that left. Expired ones are revoked too: by a clock that is set back
    /// later they may not be expired.
    pub async fn replace_keys(
        &self,
        kid: Kid,
        sealed: Vec<u8>,
        reason: String,
        clock: Arc<dyn Clock>,
        span: impl FnOnce(UnixTime) -> KeySpan + Send + 'static,
    ) -> Result<Vec<Kid>, StoreError> {
        self
            .write(move |conn| {
                let now = clock.now();
                let present = keys::around(conn, now, usize::MAX)?;
                let mut gone = Vec::new();
                for row in present.iter().filter(|row| !row.times.revoked) {
                    let times = &row.times;
                    revoke(conn, times.kid, now, &reason)?;
                    if !times.is_expired_at(now) {
                        gone.push(times.kid);
                    }
                }
                keys::insert(conn, kid, &sealed, span(now))?;
                key_events::note(conn, kid, KeyEventKind::Created, now, None)?;
                Ok(gone)
            })
            .await
    }

    /// Takes one key out of the set if `allowed`, asked inside the transaction
    /// about the keys that have not expired, agrees.
    pub async fn revoke_key<E: Send + 'static>(
        &self,
        kid: Kid,
        reason: String,
        clock: Arc<dyn Clock>,
        allowed: impl FnOnce(&[KeyRow], UnixTime) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<(), E>, StoreError> {
        self
            .write(move |conn| {
                let now = clock.now();
                match allowed(&keys::around(conn, now, 0)?, now) {
                    Ok(()) => Ok(Ok(revoke(conn, kid, now, &reason)?)),
                    Err(e) => Ok(Err(e)),
                }
            })
            .await
    }

    /// Whether there is a row of this kid, of any age.
    pub async fn has_key(&self, kid: Kid) -> Result<bool, StoreError> {
        self.read(move |conn| {
            let mut query = conn.prepare_cached("SELECT 1 FROM keys WHERE kid = ?")?;
            let found: Option<i64> = query
                .query_row([kid.as_i64()], |row| row.get(0))
                .optional()?;
            Ok(found.is_some())
        })
        .await
    }

    /// Gives every row to `reseal` and writes what it returns, all in one
    /// transaction: either every row is as `reseal` wants it, or none is changed.
    pub async fn reseal_keys(
        &self,
        now: UnixTime,
        mut reseal: impl FnMut(Kid, &[u8]) -> Reseal + Send + 'static,
    ) -> Result<Resealed, StoreError> {
        self
            .write(move |conn| {
                let mut done = Resealed::default();
                for row in keys::all_without_times(conn)? {
                    let kid = row.times.kid;
                    match reseal(kid, &row.sealed) {
                        Reseal::Keep => done.unchanged += 1,
                        Reseal::Unreadable => done.unreadable += 1,
                        Reseal::Replace(sealed) => {
                            conn.prepare_cached("UPDATE keys SET key = ? WHERE kid = ?")?
                                .execute(params![sealed, kid.as_i64()])?;
                            key_events::note(conn, kid, KeyEventKind::Reencrypted, now, None)?;
                            done.changed += 1;
                        }
                    }
                }
                Ok(done)
            })
            .await
    }
}

/// All keys, each with its own failure.
pub(in crate::store) fn all(
    conn: &Connection,
) -> rusqlite::Result<Vec<Result<KeyRow, StoreError>>> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM keys k LEFT JOIN key_times t USING (kid)
         ORDER BY coalesce(t.serial, 0), k.exp, k.kid"
    ))?;
    let rows = query.query_map([], |row| Ok(keys::read(row)))?;
    rows.collect()
}

fn revoke(conn: &Connection, kid: Kid, now: UnixTime, reason: &str) -> rusqlite::Result<()> {
    // Readers that know only the columns of `keys` see it expired.
    conn.prepare_cached("UPDATE keys SET exp = min(exp, ?) WHERE kid = ?")?
        .execute(params![now.as_secs(), kid.as_i64()])?;
    key_events::note(conn, kid, KeyEventKind::Revoked, now, Some(reason))
}
