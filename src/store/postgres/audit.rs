//! The table `auth_logs`, as operators read and prune it.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::connection::Database;
use crate::clock::UnixTime;
use crate::store::{AccountId, SignInFilter, SignInRow, StoreError};

const COLUMNS: &str = "a.id AS id, a.user_id AS user_id, a.request_ip AS client, username,
     extract(epoch FROM request_timestamp)::bigint AS at";

impl PostgresStore {
    pub async fn next_sign_ins(&self, past: i64, limit: u32) -> Result<Vec<SignInRow>, StoreError> {
        let limit = i64::from(limit);
        let rows = self
            .rows(
                &format!(
                    "SELECT {COLUMNS}
                     FROM (SELECT * FROM auth_logs WHERE id > $1 ORDER BY id LIMIT $2) a
                     LEFT JOIN users u ON u.id = a.user_id ORDER BY a.id"
                ),
                &[(&past, Type::INT8), (&limit, Type::INT8)],
            )
            .await?;
        rows.iter().map(read).collect()
    }

    pub async fn delete_sign_ins(&self, rows: Vec<SignInRow>) -> Result<usize, StoreError> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let clients: Vec<_> = rows.iter().map(|row| row.client.as_str()).collect();
        let times: Vec<_> = rows
            .iter()
            .map(|row| row.at.map(UnixTime::as_secs))
            .collect();
        let mut work = self.database.begin().await?;
        let outcome = work
            .rows(
                "DELETE FROM auth_logs a USING unnest($1, $2, $3) AS w (id, client, at)
                 WHERE a.id = w.id AND a.request_ip = w.client
                     AND extract(epoch FROM a.request_timestamp)::bigint = w.at
                 RETURNING a.id",
                &[
                    (&ids, Type::INT8_ARRAY),
                    (&clients, Type::TEXT_ARRAY),
                    (&times, Type::INT8_ARRAY),
                ],
            )
            .await;
        Ok(work.finish(outcome, 1).await?.len())
    }
}

/// Sign-ins that `filter` asks for.
pub(super) async fn page(
    database: &Database,
    filter: &SignInFilter,
) -> Result<Vec<SignInRow>, StoreError> {
    let (past, order, start) = match filter.newest_first {
        true => ("a.id < $1", "DESC", i64::MAX),
        false => ("a.id > $1", "ASC", i64::MIN),
    };
    let after = filter.past.unwrap_or(start);
    let account = filter.account.map(AccountId::as_i64);
    let since = filter.since.map(UnixTime::as_secs);
    let until = filter.until.map(UnixTime::as_secs);
    let limit = i64::from(filter.limit);
    let rows = database
        .rows(
            &format!(
                "SELECT {COLUMNS} FROM auth_logs a LEFT JOIN users u ON u.id = a.user_id
                 WHERE {past} AND ($2 IS NULL OR a.user_id = $2)
                     AND ($3 IS NULL OR a.request_ip = $3)
                     AND ($4 IS NULL OR request_timestamp >= to_timestamp($4) AT TIME ZONE 'UTC')
                     AND ($5 IS NULL OR request_timestamp < to_timestamp($5) AT TIME ZONE 'UTC')
                 ORDER BY a.id {order} LIMIT $6"
            ),
            &[
                (&after, Type::INT8),
                (&account, Type::INT8),
                (&filter.client, Type::TEXT),
                (&since, Type::INT8),
                (&until, Type::INT8),
                (&limit, Type::INT8),
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<SignInRow, StoreError> {
    let at: Option<i64> = row.try_get("at")?;
    let account: Option<i64> = row.try_get("user_id")?;
    Ok(SignInRow {
        id: row.try_get("id")?,
        at: at.map(UnixTime::from_secs),
        client: row.try_get("client")?,
        account: account.map(AccountId::from_row),
        username: row.try_get("username")?,
    })
}
