//! The tables `users` and `auth_logs`: accounts and their sign-ins.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{SqliteStore, TextOrBlob, column, key_events, keys};
use crate::clock::UnixTime;
use crate::store::{
    AccountId, AccountRow, BadRow, KeyEventKind, NewAccountRow, Recorded, SignInRecord, StoreError,
};

impl SqliteStore {
    pub async fn account_by_name(
        &self,
        exact: String,
        prepared: String,
    ) -> Result<Option<AccountRow>, StoreError> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT id, username, password_hash,
                     id IN (SELECT user_id FROM disabled_accounts) AS is_disabled
                 FROM users
                 WHERE username IN (?1, ?2) ORDER BY username = ?1 DESC LIMIT 1",
            )?
            .query_row([exact, prepared], |row| Ok(read(row)))
            .optional()?
            .transpose()
        })
        .await
    }

    pub async fn insert_account(
        &self,
        account: NewAccountRow,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.write(move |conn| match insert(conn, &account, now)? {
            true => Ok(()),
            false => Err(StoreError::AlreadyExists),
        })
        .await
    }

    pub async fn insert_accounts(
        &self,
        accounts: Vec<NewAccountRow>,
        now: UnixTime,
        only_check: bool,
    ) -> Result<Vec<usize>, StoreError> {
        self.write(move |conn| {
            let mut taken = Vec::new();
            let mut find = conn.prepare(
                "SELECT EXISTS (SELECT 1 FROM users WHERE username = ?)
                     OR EXISTS (SELECT 1 FROM users WHERE email IN (?, ?))",
            )?;
            for (index, account) in accounts.iter().enumerate() {
                let (email, other_form) = account.email.clone().unzip();
                let values = params![account.username, email, other_form];
                if find.query_row(values, |row| row.get(0))? {
                    taken.push(index);
                }
            }
            if taken.is_empty() && !only_check {
                for account in &accounts {
                    insert(conn, account, now)?;
                }
            }
            Ok(taken)
        })
        .await
    }

    pub async fn record_sign_in(&self, record: SignInRecord) -> Result<Recorded, StoreError> {
        self.write(move |conn| write_sign_in(conn, &record)).await
    }
}

/// False when another account has the other form of the address.
fn insert(conn: &Connection, account: &NewAccountRow, now: UnixTime) -> rusqlite::Result<bool> {
    let (email, other_form) = account.email.clone().unzip();
    let inserted = conn
        .prepare_cached(
            "INSERT OR ABORT INTO users (username, password_hash, email, date_registered)
             SELECT ?, ?, ?, datetime(?, 'unixepoch')
             WHERE NOT EXISTS (SELECT 1 FROM users WHERE email = ?)",
        )?
        .execute(params![
            account.username,
            account.password_hash,
            email,
            now.as_secs(),
            other_form
        ])?;
    Ok(inserted > 0)
}

fn write_sign_in(conn: &Connection, record: &SignInRecord) -> Result<Recorded, StoreError> {
    let (id, at) = (record.account.0, record.at.as_secs());
    let client = record.client.to_string();
    let logged = conn
        .prepare_cached(
            "INSERT OR ABORT INTO auth_logs (request_ip, request_timestamp, user_id)
             SELECT ?, datetime(?, 'unixepoch'), id
             FROM users WHERE id = ? AND CAST(username AS TEXT) = ?
                 AND CAST(password_hash AS TEXT) = ? AND id NOT IN (SELECT user_id FROM disabled_accounts)",
        )?
        .execute(params![client, at, id, record.username, record.password_hash])?;
    if logged == 0 {
        return Ok(Recorded::AccountChanged);
    }
    conn.prepare_cached("UPDATE users SET last_login = datetime(?, 'unixepoch') WHERE id = ?")?
        .execute(params![at, id])?;
    if let Some(new_hash) = &record.new_hash {
        conn.prepare_cached("UPDATE users SET password_hash = ? WHERE id = ?")?
            .execute(params![new_hash, id])?;
    }
    if let Some(kid) = record.first_use {
        key_events::insert(conn, kid, KeyEventKind::FirstSigned, record.at, None)?;
    }
    for kid in record.withdraw.into_iter().flatten() {
        keys::withdraw(conn, kid, record.at)?;
    }
    Ok(Recorded::Written)
}

fn read(row: &Row<'_>) -> Result<AccountRow, StoreError> {
    let id: i64 = row.get("id")?;
    let username = text(row, "username", id)?.ok_or(BadRow {
        table: "users",
        column: "username".into(),
        row: id,
    })?;
    Ok(AccountRow {
        id: AccountId(id),
        username,
        // No password matches an empty hash; the caller logs it.
        password_hash: text(row, "password_hash", id)?.unwrap_or_default(),
        is_disabled: row.get("is_disabled")?,
    })
}

/// `None` when the column holds no text.
fn text(row: &Row<'_>, name: &'static str, id: i64) -> Result<Option<String>, StoreError> {
    match column(row, "users", name, id) {
        Ok(TextOrBlob(bytes)) => Ok(String::from_utf8(bytes).ok()),
        Err(StoreError::BadRow(_)) => Ok(None),
        Err(e) => Err(e),
    }
}
