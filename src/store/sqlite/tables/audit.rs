//! The table `auth_logs`, as operators read and prune it.

use rusqlite::{Connection, Row, named_params, params};

use super::{SqliteStore, TextOrBlob};
use crate::clock::UnixTime;
use crate::store::{AccountId, SignInFilter, SignInRow, StoreError};

/// Other programs may have stored times that are no text of a time.
const COLUMNS: &str = "a.id AS id, a.user_id AS user_id, a.request_ip AS client, username,
     CASE typeof(request_timestamp) WHEN 'text' THEN unixepoch(request_timestamp) END AS at";

impl SqliteStore {
    pub async fn next_sign_ins(&self, past: i64, limit: u32) -> Result<Vec<SignInRow>, StoreError> {
        self.read(move |conn| {
            let mut query = conn.prepare_cached(&format!(
                "SELECT {COLUMNS}
                 FROM (SELECT * FROM auth_logs WHERE id > ? ORDER BY id LIMIT ?) a
                 LEFT JOIN users u ON u.id = a.user_id ORDER BY a.id"
            ))?;
            let rows = query.query_map(params![past, limit], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    pub async fn delete_sign_ins(&self, rows: Vec<SignInRow>) -> Result<usize, StoreError> {
        self.write(move |conn| {
            let mut delete = conn.prepare_cached(
                "DELETE FROM auth_logs WHERE id = ? AND CAST(request_ip AS TEXT) = ?
                     AND unixepoch(request_timestamp) = ?",
            )?;
            let mut deleted = 0;
            for row in rows {
                deleted +=
                    delete.execute(params![row.id, row.client, row.at.map(UnixTime::as_secs)])?;
            }
            Ok(deleted)
        })
        .await
    }
}

/// Sign-ins that `filter` asks for.
pub(in crate::store::sqlite) fn page(
    conn: &Connection,
    filter: &SignInFilter,
) -> Result<Vec<SignInRow>, StoreError> {
    let (past, order, start) = match filter.newest_first {
        true => ("a.id < :past", "DESC", i64::MAX),
        false => ("a.id > :past", "ASC", i64::MIN),
    };
    let mut query = conn.prepare(&format!(
        "SELECT {COLUMNS} FROM auth_logs a LEFT JOIN users u ON u.id = a.user_id
         WHERE {past} AND (:account IS NULL OR a.user_id = :account)
             AND (:client IS NULL OR a.request_ip = :client)
             AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until)
         ORDER BY a.id {order} LIMIT :limit"
    ))?;
    let rows = query.query_map(
        named_params! {
            ":past": filter.past.unwrap_or(start),
            ":account": filter.account.map(AccountId::as_i64),
            ":client": filter.client,
            ":since": filter.since.map(UnixTime::as_secs),
            ":until": filter.until.map(UnixTime::as_secs),
            ":limit": filter.limit,
        },
        read,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<SignInRow> {
    let text = |name| {
        let value: Option<TextOrBlob> = row.get(name)?;
        Ok::<_, rusqlite::Error>(value.map(|value| String::from_utf8_lossy(&value.0).into_owned()))
    };
    // Another program may have stored any type.
    let account: Option<i64> = row.get("user_id").unwrap_or_default();
    Ok(SignInRow {
        id: row.get("id")?,
        at: row.get::<_, Option<i64>>("at")?.map(UnixTime::from_secs),
        client: text("client")?.unwrap_or_default(),
        account: account.map(AccountId::from_row),
        username: text("username")?,
    })
}
