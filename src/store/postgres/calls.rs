//! The table `calls`: times of each client's latest calls that were let in, by any
//! replica; each replica also calls in here. Unlogged: it is empty after a crash, and
//! costs no sync of the disk.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::PostgresStore;
use super::connection::{Database, only};
use crate::client_key::ClientKey;
use crate::store::{Admission, StoreError};

/// Quota under which replicas call in.
const REPLICA: &str = "replica";
/// Number of the replicas that have called in during the last ten seconds.
pub(super) const COUNT_REPLICAS: &str = "SELECT count(*) AS number FROM calls
     WHERE quota = 'replica' AND at[1] > clock_timestamp() - interval '10 seconds'";
const PRESENCE_EVERY: Duration = Duration::from_secs(4);
/// Calls between two sweeps.
const SWEEP_EVERY: u32 = 8;
/// Clients that a statement of the sweep deletes.
const STEP: i64 = 10_000;

impl PostgresStore {
    pub async fn admit_call(
        &self,
        quota: &str,
        client: ClientKey,
        rate: usize,
    ) -> Result<Admission, StoreError> {
        self.database.health.check()?;
        let client = Uuid::from_u128(client.to_bits());
        let rate = i32::try_from(rate).unwrap_or(i32::MAX);
        let rows = self
            .database
            .quota_rows(
                "SELECT is_admitted, wait FROM admit_call($1, $2, $3)",
                &[
                    (&quota, Type::TEXT),
                    (&client, Type::UUID),
                    (&rate, Type::INT4),
                ],
            )
            .await?;
        let row = only(&rows)?;
        Ok(match row.try_get("is_admitted")? {
            true => Admission::Admitted,
            false => {
                let wait: i64 = row.try_get("wait")?;
                Admission::Wait(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
            }
        })
    }

    /// Replicas that have called in lately, this one too.
    pub async fn replicas(&self) -> Result<usize, StoreError> {
        let rows = self.rows(COUNT_REPLICAS, &[]).await?;
        let number: i64 = only(&rows)?.try_get("number")?;
        Ok(usize::try_from(number).unwrap_or(0))
    }
}

/// Calls in for this replica, and deletes what is old here and in `commits`. Apart from
/// the poll, which may not wait for a connection behind these.
pub(super) async fn keep(database: Arc<Database>, stop: CancellationToken) {
    let replica = Uuid::new_v4();
    let mut rounds = 0_u32;
    loop {
        // What fails is left for the next time.
        let _ = record_presence(&database, replica).await;
        if rounds % SWEEP_EVERY == SWEEP_EVERY - 1 {
            let _ = sweep(&database).await;
            let _ = database.forget_commits().await;
        }
        rounds = rounds.wrapping_add(1);
        let pause = tokio::time::sleep(PRESENCE_EVERY);
        if stop.run_until_cancelled(pause).await.is_none() {
            break;
        }
    }
    let sql = "DELETE FROM calls WHERE quota = $1 AND client = $2";
    let _ = database.rows(sql, &row_of(&replica)).await;
}

async fn record_presence(database: &Database, replica: Uuid) -> Result<(), StoreError> {
    let sql = "INSERT INTO calls (quota, client, admitted, at)
         VALUES ($1, $2, TRUE, ARRAY[clock_timestamp()])
         ON CONFLICT (quota, client) DO UPDATE SET at = EXCLUDED.at";
    database.rows(sql, &row_of(&replica)).await.map(drop)
}

fn row_of(replica: &Uuid) -> [(&(dyn ToSql + Sync), Type); 2] {
    [(&REPLICA, Type::TEXT), (replica, Type::UUID)]
}

/// Deletes the clients that have been quiet for a while.
async fn sweep(database: &Database) -> Result<(), StoreError> {
    let sql = "WITH quiet AS (DELETE FROM calls WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM calls
             WHERE at[cardinality(at)] < clock_timestamp() - interval '10 seconds'
             LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1)
         SELECT count(*) AS number FROM quiet";
    loop {
        let rows = database.rows(sql, &[(&STEP, Type::INT8)]).await?;
        let deleted: i64 = only(&rows)?.try_get("number")?;
        if deleted < STEP {
            return Ok(());
        }
    }
}
