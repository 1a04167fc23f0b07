//! The tables `users`, `disabled_accounts` and `enabled_accounts`, as operators see and
//! change them.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::connection::{Database, NOW, Transaction, time};
use crate::clock::UnixTime;
use crate::store::{
    AccountChange, AccountDetails, AccountFilter, AccountId, StateChange, StoreError,
};

const SELECT: &str = "SELECT u.id AS id, username, email, password_hash,
         extract(epoch FROM date_registered)::bigint AS registered,
         extract(epoch FROM last_login)::bigint AS last_sign_in,
         d.at AS disabled_at, d.reason AS disabled_for, e.at AS enabled_at, e.reason AS enabled_for
     FROM users u LEFT JOIN disabled_accounts d ON d.user_id = u.id
         LEFT JOIN enabled_accounts e ON e.user_id = u.id AND d.user_id IS NULL";

impl PostgresStore {
    pub async fn change_account<E>(
        &self,
        names: [String; 2],
        change: AccountChange,
        check: impl FnOnce(Option<AccountDetails>, &AccountChange) -> Result<AccountDetails, E> + Send,
    ) -> Result<(AccountDetails, usize), E>
    where
        E: From<StoreError> + Send,
    {
        let mut work = self.database.begin().await?;
        let outcome = async {
            // Sign-ins wait, and find the account changed.
            let lock = format!("SELECT {NOW} FROM users WHERE username IN ($1, $2) FOR UPDATE");
            let [exact, prepared] = &names;
            let params = &[(exact as _, Type::TEXT), (prepared as _, Type::TEXT)];
            let locked = work.rows(&lock, params).await?;
            let found = work.rows(&by_name_sql(), params).await?;
            let found = found.first().map(read).transpose()?;
            match check(found, &change) {
                Ok(account) => {
                    let now = time(&locked, "now")?;
                    let sign_ins = apply(&mut work, account.id, &change, now).await?;
                    Ok(Ok((account, sign_ins)))
                }
                Err(e) => Ok(Err(e)),
            }
        };
        let outcome = outcome.await;
        work.finish(outcome, 1).await?
    }
}

/// Accounts in the order of their ids.
pub(super) async fn page(
    database: &Database,
    filter: &AccountFilter,
) -> Result<Vec<AccountDetails>, StoreError> {
    let limit = i64::from(filter.limit);
    let rows = database
        .rows(
            &format!(
                // LIKE of SQLite takes A and a for the same.
                "{SELECT} WHERE u.id > $1 AND (NOT $2 OR d.user_id IS NOT NULL)
                     AND ($3 IS NULL OR username ILIKE $3 OR email ILIKE $3)
                 ORDER BY u.id LIMIT $4"
            ),
            &[
                (&filter.after, Type::INT8),
                (&filter.disabled, Type::BOOL),
                (&filter.pattern, Type::TEXT),
                (&limit, Type::INT8),
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

pub(super) async fn by_name(
    database: &Database,
    names: &[String; 2],
) -> Result<Option<AccountDetails>, StoreError> {
    let [exact, prepared] = names;
    let params = &[(exact as _, Type::TEXT), (prepared as _, Type::TEXT)];
    let rows = database.rows(&by_name_sql(), params).await?;
    rows.first().map(read).transpose()
}

fn by_name_sql() -> String {
    format!("{SELECT} WHERE username IN ($1, $2) ORDER BY username = $1 DESC LIMIT 1")
}

/// Returns the number of the account's sign-ins that it changed or deleted.
async fn apply(
    work: &mut Transaction<'_>,
    id: AccountId,
    change: &AccountChange,
    now: UnixTime,
) -> Result<usize, StoreError> {
    let (id, now) = (id.as_i64(), now.as_secs());
    match change {
        AccountChange::SetHash(hash) => {
            let sql = "UPDATE users SET password_hash = $1 WHERE id = $2";
            work.rows(sql, &[(hash, Type::TEXT), (&id, Type::INT8)])
                .await?
        }
        AccountChange::Disable { reason } => {
            let sql = "INSERT INTO disabled_accounts (user_id, at, reason) VALUES ($1, $2, $3)";
            work.rows(
                sql,
                &[(&id, Type::INT8), (&now, Type::INT8), (reason, Type::TEXT)],
            )
            .await?
        }
        AccountChange::Enable { reason } => {
            let sql = "WITH before AS (DELETE FROM disabled_accounts WHERE user_id = $1)
                INSERT INTO enabled_accounts (user_id, at, reason) VALUES ($1, $2, $3)
                ON CONFLICT (user_id) DO UPDATE SET at = excluded.at, reason = excluded.reason";
            work.rows(
                sql,
                &[(&id, Type::INT8), (&now, Type::INT8), (reason, Type::TEXT)],
            )
            .await?
        }
        AccountChange::Delete { with_sign_ins } => {
            let sign_ins = match with_sign_ins {
                true => "DELETE FROM auth_logs WHERE user_id = $1",
                false => "UPDATE auth_logs SET user_id = NULL WHERE user_id = $1",
            };
            let sign_ins =
                format!("WITH done AS ({sign_ins} RETURNING 1) SELECT count(*) AS count FROM done");
            let done = work.rows(&sign_ins, &[(&id, Type::INT8)]).await?;
            let count: i64 = done.first().map_or(Ok(0), |row| row.try_get("count"))?;
            let sql = "DELETE FROM users WHERE id = $1";
            work.rows(sql, &[(&id, Type::INT8)]).await?;
            return Ok(usize::try_from(count).unwrap_or(0));
        }
    };
    Ok(0)
}

fn read(row: &Row) -> Result<AccountDetails, StoreError> {
    let time = |column| {
        let seconds: Option<i64> = row.try_get(column)?;
        Ok::<_, StoreError>(seconds.map(UnixTime::from_secs))
    };
    let change = |at, reason| {
        let (at, reason) = (time(at)?, row.try_get(reason)?);
        Ok::<_, StoreError>(at.map(|at| StateChange { at, reason }))
    };
    Ok(AccountDetails {
        id: AccountId(row.try_get("id")?),
        username: row.try_get("username")?,
        email: row.try_get("email")?,
        password_hash: row.try_get("password_hash")?,
        registered: time("registered")?,
        last_sign_in: time("last_sign_in")?,
        disabled: change("disabled_at", "disabled_for")?,
        enabled: change("enabled_at", "enabled_for")?,
    })
}
