//! The writer of sign-ins: those that arrive during a commit are gathered into the next
//! transaction (group commit), which writes them with two statements.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

use super::Store;
use super::connection::{Database, Transaction};
use super::keys;
use crate::store::{SignInRecord, StoreError};

/// Sign-ins in the queue; more callers wait to get into it.
pub(super) const QUEUE: usize = 1024;
/// Sign-ins in one transaction.
const BATCH: usize = 64;

/// A sign-in with a caller who waits for its outcome.
pub(super) struct Queued {
    record: SignInRecord,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

impl Store {
    /// Writes the row of `auth_logs` and `last_login`, and replaces the account's
    /// hash unless that has changed meanwhile. False, with nothing written, when
    /// the account was deleted or disabled since it was read.
    pub async fn record_sign_in(&self, record: SignInRecord) -> Result<bool, StoreError> {
        self.database.health.check()?;
        let closed = || StoreError::Unavailable("it is closed".to_owned());
        let (answer, answered) = oneshot::channel();
        let queued = Queued { record, answer };
        self.sign_ins.send(queued).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

pub(super) async fn run(
    database: Arc<Database>,
    mut queue: mpsc::Receiver<Queued>,
    stop: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let taken = tokio::select! {
            biased;
            taken = queue.recv_many(&mut batch, BATCH) => taken,
            () = stop.cancelled(), if !queue.is_closed() => {
                // What is in the queue is still written.
                queue.close();
                continue;
            }
        };
        if taken == 0 {
            return;
        }
        batch.retain(|queued| !queued.answer.is_closed());
        if batch.is_empty() {
            continue;
        }
        let records: Vec<_> = batch.iter().map(|queued| &queued.record).collect();
        let outcome = commit(&database, &records).await;
        for (index, queued) in batch.drain(..).enumerate() {
            let answer = match &outcome {
                Ok(written) => Ok(written.contains(&index)),
                Err(e) => Err(e.clone()),
            };
            let _ = queued.answer.send(answer);
        }
    }
}

/// Indexes of the records that were written.
async fn commit(
    database: &Database,
    records: &[&SignInRecord],
) -> Result<HashSet<usize>, StoreError> {
    let mut work = database.begin().await?;
    let outcome = write(&mut work, records).await;
    work.finish(outcome, records.len()).await
}

async fn write(
    work: &mut Transaction<'_>,
    records: &[&SignInRecord],
) -> Result<HashSet<usize>, StoreError> {
    let ids: Vec<_> = records.iter().map(|r| r.account.as_i64()).collect();
    let names: Vec<_> = records.iter().map(|r| r.username.as_str()).collect();
    let clients: Vec<_> = records.iter().map(|r| r.client.to_string()).collect();
    let times: Vec<_> = records.iter().map(|r| r.at.as_secs()).collect();
    // In one order, so that replicas do not wait for each other in a circle. A statement
    // of its own: the next one sees what those have written that it waited for.
    work.rows(
        "SELECT 1 FROM users WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
        &[(&ids, Type::INT8_ARRAY)],
    )
    .await?;
    let rows = work
        .rows(
            "WITH written AS MATERIALIZED (
                 SELECT r.n, r.client, to_timestamp(r.at) AT TIME ZONE 'UTC' AS at, u.id
                 FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS r (id, name, client, at, n)
                     JOIN users u ON u.id = r.id AND u.username = r.name
                 WHERE NOT EXISTS (SELECT 1 FROM disabled_accounts d WHERE d.user_id = u.id)
             ), logged AS (
                 INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
                 SELECT client, at, id FROM written ORDER BY n
             ), marked AS (
                 UPDATE users SET last_login = latest.at
                 FROM (SELECT id, max(at) AS at FROM written GROUP BY id) latest
                 WHERE users.id = latest.id
             )
             SELECT n FROM written",
            &[
                (&ids, Type::INT8_ARRAY),
                (&names, Type::TEXT_ARRAY),
                (&clients, Type::TEXT_ARRAY),
                (&times, Type::INT8_ARRAY),
            ],
        )
        .await?;
    let mut written = HashSet::new();
    for row in rows {
        let n: i64 = row.try_get("n")?;
        written.extend(usize::try_from(n - 1));
    }
    let (mut first_use, mut withdraw) = (Vec::new(), Vec::new());
    for (index, record) in records.iter().enumerate() {
        if !written.contains(&index) {
            continue;
        }
        if let Some((old, new)) = &record.new_hash {
            let sql = "UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3";
            work.rows(
                sql,
                &[
                    (new, Type::TEXT),
                    (&ids[index], Type::INT8),
                    (old, Type::TEXT),
                ],
            )
            .await?;
        }
        first_use.extend(record.first_use.map(|kid| (kid, record.at)));
        let kids = record.withdraw.into_iter().flatten();
        withdraw.extend(kids.map(|kid| (kid, record.at)));
    }
    keys::mark(work, &first_use, &withdraw).await?;
    Ok(written)
}
