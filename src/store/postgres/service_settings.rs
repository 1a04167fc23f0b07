//! The table `service_settings`: what the service runs by, for commands.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::PostgresStore;
use super::connection::Database;
use crate::store::{LONGEST_KEY_LIFETIME as LONGEST, StoreError};

impl PostgresStore {
    pub async fn record_settings(
        &self,
        settings: Vec<(String, String)>,
        key_lifetime: Duration,
    ) -> Result<(), StoreError> {
        let lifetime = i64::try_from(key_lifetime.as_secs()).unwrap_or(i64::MAX);
        let (names, values): (Vec<_>, Vec<_>) = settings.into_iter().unzip();
        let mut work = self.database.begin().await?;
        let outcome = async {
            work.rows(
                "INSERT INTO service_settings (name, value)
                 SELECT $1, greatest($2, (SELECT max(k.exp - t.created_at)
                     FROM keys k JOIN key_times t ON t.kid = k.kid))::text
                 ON CONFLICT (name) DO UPDATE
                     SET value = greatest(service_settings.value::bigint, $2)::text",
                &[(&LONGEST, Type::TEXT), (&lifetime, Type::INT8)],
            )
            .await?;
            work.rows(
                "DELETE FROM service_settings WHERE name <> $1 AND NOT name = ANY($2)",
                &[(&LONGEST, Type::TEXT), (&names, Type::TEXT_ARRAY)],
            )
            .await?;
            work.rows(
                "INSERT INTO service_settings (name, value) SELECT * FROM unnest($1, $2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                &[(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)],
            )
            .await
            .map(drop)
        };
        let outcome = outcome.await;
        work.finish(outcome, 1).await
    }
}

pub(super) async fn all(database: &Database) -> Result<Vec<(String, String)>, StoreError> {
    let sql = "SELECT name, value FROM service_settings WHERE name <> $1";
    let rows = database.rows(sql, &[(&LONGEST, Type::TEXT)]).await?;
    let settings = rows
        .iter()
        .map(|row| Ok((row.try_get("name")?, row.try_get("value")?)));
    settings.collect()
}
