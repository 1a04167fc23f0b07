//! The tables `users` and `auth_logs`: accounts and their sign-ins.

use std::fmt;
use std::net::IpAddr;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::key_events::{self, KeyEventKind};
use super::{BadRow, Store, StoreError};
use crate::clock::UnixTime;
use crate::lifecycle::Kid;

/// The number of an account: the column `users.id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountId(i64);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What sign-in needs of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Its number.
    pub id: AccountId,
    /// Its name as stored.
    pub username: String,
    /// The PHC string.
    pub password_hash: String,
}

/// A new account.
#[derive(Clone, Debug)]
pub struct NewAccountRow {
    /// A name that no other account has.
    pub username: String,
    /// An address that no other account has, or none.
    pub email: Option<String>,
    /// The PHC string.
    pub password_hash: String,
}

/// A sign-in that is about to be answered with a token.
#[derive(Clone, Debug)]
pub struct SignInRecord {
    /// Whose.
    pub account: AccountId,
    /// The account's name as stored.
    pub username: String,
    /// From where.
    pub client: IpAddr,
    /// When.
    pub at: UnixTime,
    /// A hash that takes the place of an outdated one: (old, new).
    pub new_hash: Option<(String, String)>,
    /// The key of the token, if it may be the first that the key has signed.
    pub first_use: Option<Kid>,
}

impl Store {
    /// The account named `exact`; failing that, the one named `prepared`.
    pub async fn account_by_name(
        &self,
        exact: String,
        prepared: String,
    ) -> Result<Option<AccountRow>, StoreError> {
        self.read(move |conn| {
            let row = conn
                .prepare_cached(
                    "SELECT id, username, password_hash FROM users
                     WHERE username IN (?1, ?2) ORDER BY username = ?1 DESC LIMIT 1",
                )?
                .query_row([exact, prepared], |row| Ok(read(row)))
                .optional()?;
            row.transpose()
        })
        .await
    }

    /// Adds an account. [`StoreError::AlreadyExists`] when its name or its
    /// address is taken.
    pub async fn insert_account(
        &self,
        account: NewAccountRow,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self
            .write(move |conn| {
                conn.prepare_cached(
                    "INSERT INTO users (username, password_hash, email, date_registered)
                     VALUES (?, ?, ?, datetime(?, 'unixepoch'))",
                )?
                .execute(params![
                    account.username,
                    account.password_hash,
                    account.email,
                    now.as_secs()
                ])?;
                Ok(())
            })
            .await
    }

    /// Writes the log row and the account's last sign-in, and replaces its hash
    /// unless that has changed meanwhile. On disk when it returns. False, and
    /// nothing is written, when there is no such account any more: another
    /// program has deleted it, or a backup took the database's place.
    pub async fn record_sign_in(&self, record: SignInRecord) -> Result<bool, StoreError> {
        self
            .write(move |conn| write_sign_in(conn, &record))
            .await
    }
}

fn write_sign_in(conn: &Connection, record: &SignInRecord) -> Result<bool, StoreError> {
    let (id, at) = (record.account.0, record.at.as_secs());
    let client = record.client.to_string();
    let logged = conn
        .prepare_cached(
            "INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
             SELECT ?, datetime(?, 'unixepoch'), id
             FROM users WHERE id = ? AND CAST(username AS TEXT) = ?",
        )?
        .execute(params![client, at, id, record.username])?;
    if logged == 0 {
        return Ok(false);
    }
    conn.prepare_cached("UPDATE users SET last_login = datetime(?, 'unixepoch') WHERE id = ?")?
        .execute(params![at, id])?;
    if let Some((old, new)) = &record.new_hash {
        conn.prepare_cached(
            "UPDATE users SET password_hash = ? WHERE id = ? AND CAST(password_hash AS TEXT) = ?",
        )?
        .execute(params![new, id, old])?;
    }
    if let Some(kid) = record.first_use {
        key_events::note(conn, kid, KeyEventKind::FirstSigned, record.at, None)?;
    }
    Ok(true)
}

fn read(row: &Row<'_>) -> Result<AccountRow, StoreError> {
    let id: i64 = row.get(0)?;
    Ok(AccountRow {
        id: AccountId(id),
        username: text(row, 1).ok_or(StoreError::from(BadRow {
            table: "users",
            column: "username",
            row: id,
        }))?,
        // An unreadable hash fits no password; the caller says so in the log.
        password_hash: text(row, 2).unwrap_or_default(),
    })
}

/// Text, however another program stored it.
fn text(row: &Row<'_>, column: usize) -> Option<String> {
    match row.get_ref(column).ok()? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}
