//! A row of `keys` with its times, for both engines: the one list of its columns, the
//! query that selects them, and how they are read; and what is read together with it.

use super::{BadRow, StoreError};
use crate::clock::UnixTime;
use crate::lifecycle::{AdoptedTimes, KeySpan, KeyTimes, Kid};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub times: KeyTimes,
    /// Fernet token.
    pub sealed: Vec<u8>,
    /// Was it in the file when that was taken over from an earlier server?
    pub is_of_earlier_server: bool,
    /// Is `keys.exp` later than the longest `KEY_LIFETIME` allows?
    pub exp_is_too_late: bool,
    /// Of a key of an earlier server, once it was opened.
    pub thumbprint_kid: Option<Kid>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRows {
    pub rows: Vec<KeyRow>,
    /// Rows with a value of the wrong type, which give no key.
    pub bad: Vec<BadRow>,
    /// All of another issuer, whatever rows of `keys` were asked for.
    pub adopted: Vec<AdoptedRow>,
}

/// A row of `adopted_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedRow {
    pub kid: String,
    pub times: AdoptedTimes,
    /// Fernet token.
    pub sealed: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct NewKey {
    pub kid: Kid,
    /// Fernet token.
    pub sealed: Vec<u8>,
    pub span: KeySpan,
}

/// All columns of a key, as [`KeyRow::read`] takes them by name.
pub(super) const SELECT_KEY: &str =
    "SELECT k.kid AS kid, k.key AS key, k.exp AS exp, t.serial AS serial,
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
        (SELECT CAST(value AS BIGINT) FROM service_settings
            WHERE name = 'longest_key_lifetime') AS longest
    FROM keys k LEFT JOIN key_times t ON t.kid = k.kid
        LEFT JOIN earlier_keys o ON o.kid = k.kid";

/// The same from databases that the next start will migrate, newest schema first: for
/// lists, and to see that `NOT_MY_KEY` fits. The first one that a database has all columns
/// of is used.
pub(super) const SELECT_KEY_OF_EARLIER_SCHEMA: [&str; 1] = [
    // Of an earlier server, where nothing was revoked.
    "SELECT kid, key, exp, NULL AS serial,
        NULL AS created_at, NULL AS signs_from, FALSE AS revoked, FALSE AS withdrawn,
        TRUE AS is_of_earlier_server, NULL AS thumbprint, NULL AS longest FROM keys",
];

/// The order in which keys were made.
pub(super) const IN_ORDER: &str = "ORDER BY coalesce(t.serial, 0), k.exp, k.kid";

/// A row of either engine. The error names the table; none for NULL.
pub(super) trait Columns {
    fn integer(&self, table: &'static str, name: &'static str) -> Result<Option<i64>, StoreError>;
    fn flag(&self, name: &'static str) -> Result<bool, StoreError>;
    fn bytes(&self, table: &'static str, name: &'static str) -> Result<Vec<u8>, StoreError>;
}

impl KeyRow {
    pub(super) fn read(row: &impl Columns) -> Result<Self, StoreError> {
        let kid = row.integer("keys", "kid")?.unwrap_or(0);
        let missing = || BadRow {
            table: "keys",
            column: "exp".into(),
            row: kid,
        };
        let seconds = |name| row.integer("key_times", name);
        let created_at = match seconds("created_at") {
            // Only shown, so no reason to leave the key out.
            Err(StoreError::BadRow(_)) => None,
            created_at => created_at?,
        };
        let exp = row.integer("keys", "exp")?.ok_or_else(missing)?;
        let latest = latest_end(exp, created_at, row.integer("service_settings", "longest")?);
        Ok(Self {
            times: KeyTimes {
                kid: Kid::from_row(kid),
                serial: seconds("serial")?.unwrap_or(0),
                created_at: created_at.map(UnixTime::from_secs),
                signs_from: seconds("signs_from")?.map(UnixTime::from_secs),
                expires_at: UnixTime::from_secs(exp.min(latest)),
                revoked: row.flag("revoked")?,
                withdrawn: row.flag("withdrawn")?,
            },
            sealed: row.bytes("keys", "key")?,
            is_of_earlier_server: row.flag("is_of_earlier_server")?,
            exp_is_too_late: latest < exp,
            thumbprint_kid: row
                .integer("earlier_keys", "thumbprint")?
                .map(Kid::from_row),
        })
    }
}

/// Latest time until which a key with times may be published, whatever its `exp` says:
/// another program can set that without knowing `NOT_MY_KEY`.
fn latest_end(exp: i64, created_at: Option<i64>, longest: Option<i64>) -> i64 {
    let bounds = created_at.zip(longest);
    bounds.map_or(exp, |(at, longest)| at.saturating_add(longest))
}

impl NewKey {
    /// Columns of its row in `key_times`, and their values.
    pub(super) fn times(&self) -> ([&'static str; 3], [i64; 3]) {
        let KeySpan {
            created_at,
            signs_from,
            expires_at: _,
        } = self.span;
        (
            ["kid", "created_at", "signs_from"],
            [
                self.kid.as_i64(),
                created_at.as_secs(),
                signs_from.as_secs(),
            ],
        )
    }
}
