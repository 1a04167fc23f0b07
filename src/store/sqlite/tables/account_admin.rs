//! The tables `users`, `disabled_accounts` and `enabled_accounts`, as operators see and
//! change them.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};

use super::{SqliteStore, TextOrBlob, service_settings};
use crate::clock::{Clock, UnixTime};
use crate::store::sqlite::schema;
use crate::store::{
    AccountChange, AccountDetails, AccountFilter, AccountId, StateChange, StoreError,
};

/// Other programs may have stored times that are no text of a time.
const SELECT: &str = "SELECT u.id AS id, username, email, password_hash,
         CASE typeof(date_registered) WHEN 'text' THEN unixepoch(date_registered) END AS registered,
         CASE typeof(last_login) WHEN 'text' THEN unixepoch(last_login) END AS last_sign_in,
         d.at AS disabled_at, d.reason AS disabled_for, e.at AS enabled_at, e.reason AS enabled_for
     FROM users u LEFT JOIN disabled_accounts d ON d.user_id = u.id
         LEFT JOIN enabled_accounts e ON e.user_id = u.id AND d.user_id IS NULL";

impl SqliteStore {
    pub async fn change_account<E>(
        &self,
        names: [String; 2],
        change: AccountChange,
        clock: &Arc<dyn Clock>,
        check: impl FnOnce(Option<AccountDetails>, &AccountChange) -> Result<AccountDetails, E>
        + Send
        + 'static,
    ) -> Result<(AccountDetails, usize), E>
    where
        E: From<StoreError> + Send + 'static,
    {
        let clock = Arc::clone(clock);
        let step = move |conn: &Connection| {
            let found = by_name(conn, &names)?;
            match check(found, &change) {
                Ok(account) => {
                    let sign_ins = apply(conn, account.id, &change, clock.now())?;
                    Ok(Ok((account, sign_ins)))
                }
                Err(e) => Ok(Err(e)),
            }
        };
        self.write(step).await?
    }
}

/// Accounts in the order of their ids.
pub(in crate::store::sqlite) fn page(
    conn: &Connection,
    filter: &AccountFilter,
) -> Result<Vec<AccountDetails>, StoreError> {
    let wanted = "WHERE u.id > :after AND (NOT :disabled OR d.user_id IS NOT NULL)
             AND (:pattern IS NULL OR username LIKE :pattern OR email LIKE :pattern)
         ORDER BY u.id LIMIT :limit";
    let mut query = conn.prepare(&select(conn, wanted)?)?;
    let rows = query.query_map(
        named_params! {
            ":after": filter.after,
            ":disabled": filter.disabled,
            ":pattern": filter.pattern,
            ":limit": filter.limit,
        },
        read,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(in crate::store::sqlite) fn by_name(
    conn: &Connection,
    names: &[String; 2],
) -> Result<Option<AccountDetails>, StoreError> {
    let wanted = "WHERE username IN (?1, ?2) ORDER BY username = ?1 DESC LIMIT 1";
    let mut query = conn.prepare(&select(conn, wanted)?)?;
    Ok(query.query_row(names.each_ref(), read).optional()?)
}

fn select(conn: &Connection, wanted: &str) -> rusqlite::Result<String> {
    let mut with = Vec::new();
    for table in ["disabled_accounts", "enabled_accounts"] {
        // The service's next start will make the table.
        if !schema::has_table(conn, table)? {
            with.push(format!(
                "{table} AS (SELECT NULL AS user_id, NULL AS at, NULL AS reason)"
            ));
        }
    }
    let with = match with.is_empty() {
        true => String::new(),
        false => format!("WITH {}", with.join(", ")),
    };
    Ok(format!("{with} {SELECT} {wanted}"))
}

/// Returns the number of the account's sign-ins that it changed or deleted.
fn apply(
    conn: &Connection,
    id: AccountId,
    change: &AccountChange,
    now: UnixTime,
) -> rusqlite::Result<usize> {
    let id = id.0;
    match change {
        AccountChange::SetHash(hash) => conn.execute(
            "UPDATE users SET password_hash = ? WHERE id = ?",
            params![hash, id],
        )?,
        AccountChange::Disable { reason } => conn.execute(
            "INSERT OR ABORT INTO disabled_accounts (user_id, at, reason) VALUES (?, ?, ?)",
            params![id, now.as_secs(), reason],
        )?,
        AccountChange::Enable { reason } => {
            conn.execute("DELETE FROM disabled_accounts WHERE user_id = ?", [id])?;
            conn.execute(
                "INSERT OR REPLACE INTO enabled_accounts (user_id, at, reason) VALUES (?, ?, ?)",
                params![id, now.as_secs(), reason],
            )?
        }
        AccountChange::Delete { with_sign_ins } => {
            let sign_ins = match with_sign_ins {
                true => "DELETE FROM auth_logs WHERE user_id = ?",
                false => "UPDATE auth_logs SET user_id = NULL WHERE user_id = ?",
            };
            let sign_ins = conn.execute(sign_ins, [id])?;
            if *with_sign_ins {
                service_settings::mark_unerased(conn)?;
            }
            conn.execute("DELETE FROM users WHERE id = ?", [id])?;
            return Ok(sign_ins);
        }
    };
    Ok(0)
}

fn read(row: &Row<'_>) -> rusqlite::Result<AccountDetails> {
    let text = |name| {
        let value: Option<TextOrBlob> = row.get(name)?;
        Ok::<_, rusqlite::Error>(value.map(|value| String::from_utf8_lossy(&value.0).into_owned()))
    };
    let time =
        |name| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(name)?.map(UnixTime::from_secs));
    let change = |at, reason| {
        let (at, reason) = (time(at)?, text(reason)?);
        Ok::<_, rusqlite::Error>(at.map(|at| StateChange { at, reason }))
    };
    Ok(AccountDetails {
        id: AccountId(row.get("id")?),
        username: text("username")?.unwrap_or_default(),
        email: text("email")?,
        password_hash: text("password_hash")?.unwrap_or_default(),
        registered: time("registered")?,
        last_sign_in: time("last_sign_in")?,
        disabled: change("disabled_at", "disabled_for")?,
        enabled: change("enabled_at", "enabled_for")?,
    })
}
