//! The writer of sign-ins: those that arrive during a commit are gathered into the next
//! transaction (group commit).

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio_postgres::types::{ToSql, Type};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::PostgresStore;
use super::connection::{Database, Transaction, only};
use super::keys;
use crate::store::{Recorded, SignInRecord, StoreError};

/// Sign-ins in the queue; more callers wait to get into it.
pub(super) const QUEUE: usize = 1024;
/// Sign-ins in one transaction.
const BATCH: usize = 64;

/// A sign-in with a caller who waits for its outcome.
pub(super) struct Queued {
    record: SignInRecord,
    answer: oneshot::Sender<Result<Recorded, StoreError>>,
}

impl PostgresStore {
    pub async fn record_sign_in(&self, record: SignInRecord) -> Result<Recorded, StoreError> {
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
                Ok(written) if written.get(index) == Some(&true) => Ok(Recorded::Written),
                Ok(_) => Ok(Recorded::AccountChanged),
                Err(e) => Err(e.clone()),
            };
            let _ = queued.answer.send(answer);
        }
    }
}

/// Which records were written. In most cases all, with one statement; when it fails since an
/// account was changed, the others are written.
async fn commit(database: &Database, records: &[&SignInRecord]) -> Result<Vec<bool>, StoreError> {
    let began = Instant::now();
    let columns = Columns::of(records);
    if records.iter().all(|record| record.is_plain()) {
        let id = Uuid::new_v4();
        match database
            .commit_at_once(id, RECORD, &columns.params(&Some(id)))
            .await
        {
            Err(StoreError::NoData(_)) => {}
            outcome => {
                database.count(&outcome, records.len(), began);
                return outcome.map(|()| vec![true; records.len()]);
            }
        }
    }
    let mut work = database.begin().await?;
    let outcome = write(&mut work, records, &columns).await;
    work.finish(outcome, records.len()).await
}

const RECORD: &str = "SELECT record_sign_ins($1, $2, $3, $4, $5, $6) AS written";

/// Records, as the arrays that PostgreSQL gets.
struct Columns<'a> {
    ids: Vec<i64>,
    names: Vec<&'a str>,
    hashes: Vec<&'a str>,
    clients: Vec<String>,
    times: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(records: &[&'a SignInRecord]) -> Self {
        let records = records.iter();
        Self {
            ids: records.clone().map(|r| r.account.as_i64()).collect(),
            names: records.clone().map(|r| r.username.as_str()).collect(),
            hashes: records.clone().map(|r| r.password_hash.as_str()).collect(),
            clients: records.clone().map(|r| r.client.to_string()).collect(),
            times: records.map(|r| r.at.as_secs()).collect(),
        }
    }

    fn params<'b>(&'b self, commit: &'b Option<Uuid>) -> [(&'b (dyn ToSql + Sync), Type); 6] {
        [
            (commit, Type::UUID),
            (&self.ids, Type::INT8_ARRAY),
            (&self.names, Type::TEXT_ARRAY),
            (&self.hashes, Type::TEXT_ARRAY),
            (&self.clients, Type::TEXT_ARRAY),
            (&self.times, Type::INT8_ARRAY),
        ]
    }
}

impl SignInRecord {
    /// Nothing but the sign-in is written.
    fn is_plain(&self) -> bool {
        self.new_hash.is_none() && self.first_use.is_none() && self.withdraw.is_none()
    }
}

async fn write(
    work: &mut Transaction<'_>,
    records: &[&SignInRecord],
    columns: &Columns<'_>,
) -> Result<Vec<bool>, StoreError> {
    let rows = work.rows(RECORD, &columns.params(&None)).await?;
    let written: Vec<bool> = only(&rows)?.try_get("written")?;
    let (mut first_use, mut withdraw) = (Vec::new(), Vec::new());
    for (record, _) in records
        .iter()
        .zip(&written)
        .filter(|(_, written)| **written)
    {
        if let Some(new_hash) = &record.new_hash {
            let sql = "UPDATE users SET password_hash = $1 WHERE id = $2";
            let id = record.account.as_i64();
            let params = &[(new_hash as _, Type::TEXT), (&id as _, Type::INT8)];
            work.rows(sql, params).await?;
        }
        first_use.extend(record.first_use.map(|kid| (kid, record.at)));
        let kids = record.withdraw.into_iter().flatten();
        withdraw.extend(kids.map(|kid| (kid, record.at)));
    }
    keys::mark(work, &first_use, &withdraw).await?;
    Ok(written)
}
