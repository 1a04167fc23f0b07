//! The table `users`, as sign-ups and sign-ins use it.

use tokio_postgres::types::Type;

use super::PostgresStore;
use super::connection::Transaction;
use crate::clock::UnixTime;
use crate::store::{AccountId, AccountRow, NewAccountRow, StoreError};

impl PostgresStore {
    pub async fn account_by_name(
        &self,
        exact: String,
        prepared: String,
    ) -> Result<Option<AccountRow>, StoreError> {
        self.database.health.check()?;
        // Text of PostgreSQL has no NUL, so no account is named so.
        if exact.contains('\0') {
            return Ok(None);
        }
        let rows = self
            .rows(
                "SELECT id, username, password_hash,
                     EXISTS (SELECT 1 FROM disabled_accounts d WHERE d.user_id = u.id) AS is_disabled
                 FROM users u
                 WHERE username IN ($1, $2) ORDER BY username = $1 DESC LIMIT 1",
                &[(&exact, Type::TEXT), (&prepared, Type::TEXT)],
            )
            .await?;
        let account = rows.first().map(|row| {
            Ok(AccountRow {
                id: AccountId(row.try_get("id")?),
                username: row.try_get("username")?,
                password_hash: row.try_get("password_hash")?,
                is_disabled: row.try_get("is_disabled")?,
            })
        });
        account.transpose()
    }

    pub async fn insert_account(
        &self,
        account: NewAccountRow,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.database.health.check()?;
        let mut work = self.database.begin().await?;
        let outcome = match insert(&mut work, &account, now).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::AlreadyExists),
            Err(e) => Err(e),
        };
        work.finish(outcome, 1).await
    }

    pub async fn insert_accounts(
        &self,
        accounts: Vec<NewAccountRow>,
        now: UnixTime,
        only_check: bool,
    ) -> Result<Vec<usize>, StoreError> {
        let mut work = self.database.begin().await?;
        let mut taken = Vec::new();
        let outcome = async {
            for (index, account) in accounts.iter().enumerate() {
                if !insert(&mut work, account, now).await? {
                    taken.push(index);
                }
            }
            match taken.is_empty() && !only_check {
                true => Ok(()),
                // Rolls back.
                false => Err(StoreError::AlreadyExists),
            }
        };
        let outcome = outcome.await;
        match work.finish(outcome, accounts.len()).await {
            Err(StoreError::AlreadyExists) => Ok(taken),
            done => done.map(|()| taken),
        }
    }
}

/// False when the name or a form of the address is taken.
async fn insert(
    work: &mut Transaction<'_>,
    account: &NewAccountRow,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let (email, other_form) = account.email.clone().unzip();
    let now = now.as_secs();
    let rows = work
        .rows(
            "INSERT INTO users (username, password_hash, email, date_registered)
             SELECT $1, $2, $3, to_timestamp($4) AT TIME ZONE 'UTC'
             WHERE NOT EXISTS (SELECT 1 FROM users WHERE email = $5)
             ON CONFLICT DO NOTHING RETURNING id",
            &[
                (&account.username, Type::TEXT),
                (&account.password_hash, Type::TEXT),
                (&email, Type::TEXT),
                (&now, Type::INT8),
                (&other_form, Type::TEXT),
            ],
        )
        .await?;
    Ok(!rows.is_empty())
}
