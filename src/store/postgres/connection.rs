//! The pools of connections, and transactions whose outcome is known before anything is
//! answered.

use std::sync::Arc;
use std::time::Instant;

use deadpool_postgres::{Pool, PoolError, Runtime, TimeoutType, Timeouts};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::health::Health;
use super::session::{Connection, Params, TIMEOUT, timed_out};
use super::target::Target;
use crate::clock::UnixTime;
use crate::metrics::Commits;
use crate::store::{OpenError, StoreError};

/// Connections for sign-ins, sign-ups and keys.
const CONNECTIONS: usize = 5;
/// Others for the quotas, and one for the poll: a flood of one kind of call does not keep
/// the others from the database.
const FOR_QUOTAS: usize = 2;
const FOR_POLLS: usize = 1;
/// Column `now` of a SELECT: the database's clock in whole seconds, of this moment and not of
/// the transaction's beginning.
pub(super) const NOW: &str = "floor(extract(epoch FROM clock_timestamp()))::bigint AS now";

/// What the tasks of a store share with it.
pub(super) struct Database {
    pool: Pool,
    quotas: Pool,
    polls: Pool,
    target: Arc<Target>,
    pub(super) health: Health,
    pub(super) commits: Arc<Commits>,
}

impl Database {
    pub(super) fn connect(target: &Target) -> Result<Self, OpenError> {
        Ok(Self {
            pool: pool(target, CONNECTIONS)?,
            quotas: pool(target, FOR_QUOTAS)?,
            polls: pool(target, FOR_POLLS)?,
            target: Arc::new(target.clone()),
            health: Health::new(target.clock_tolerance()),
            commits: Arc::default(),
        })
    }

    pub(super) fn close(&self) {
        for pool in [&self.pool, &self.quotas, &self.polls] {
            pool.close();
        }
    }

    /// Closes the connections that nobody uses: the host that they lead to may be gone,
    /// and each would cost a caller the time to find that out.
    pub(super) fn drop_idle(&self) {
        for pool in [&self.pool, &self.quotas, &self.polls] {
            pool.retain(|_, _| false);
        }
    }

    /// Tells why no connection can be made, and what to do.
    pub(super) async fn try_to_connect(&self) -> Result<(), OpenError> {
        let within = self.target.connects_within();
        let timeouts = Timeouts {
            create: Some(within),
            ..self.pool.timeouts()
        };
        match self.pool.timeout_get(&timeouts).await {
            Ok(_) => Ok(()),
            Err(PoolError::Backend(e)) => Err(e.into()),
            Err(PoolError::Timeout(_)) => Err(OpenError::Server(
                format!("no host has answered within {within:?}"),
                "check that PostgreSQL runs and can be reached from here",
            )),
            Err(e) => Err(OpenError::Server(e.to_string(), "check DATABASE_URL")),
        }
    }

    pub(super) async fn rows(
        &self,
        sql: &str,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        self.connection().await?.rows(sql, params).await
    }

    /// The same for the quotas.
    pub(super) async fn quota_rows(
        &self,
        sql: &str,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        connect(&self.quotas, &self.target)
            .await?
            .rows(sql, params)
            .await
    }

    /// The same for the poll.
    pub(super) async fn poll_rows(
        &self,
        sql: &str,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        connect(&self.polls, &self.target)
            .await?
            .rows(sql, params)
            .await
    }

    pub(super) async fn connection(&self) -> Result<Connection, StoreError> {
        connect(&self.pool, &self.target).await
    }

    /// Begins a transaction that is on disk, also on synchronous standbys, once it was
    /// committed. Each of its statements sees what others have committed before it, whatever
    /// the server's default is: whoever waits for a lock decides by the rows that its last
    /// holder has written.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        let began = Instant::now();
        let id = Uuid::new_v4();
        let mut connection = self.connection().await?;
        // A replica that is cut off may not hold its locks for long.
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED;
             SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = '2s';
             SET LOCAL idle_in_transaction_session_timeout = '5s';
             INSERT INTO commits (id) VALUES ('{id}')"
        );
        connection.is_idle = false;
        connection.batch(&begin).await?;
        Ok(Transaction {
            database: self,
            connection,
            id,
            began,
        })
    }

    /// Runs a statement that is a transaction by itself, and inserts `id` into `commits`.
    /// Its rows may be lost, its outcome is not.
    pub(super) async fn commit_at_once(
        &self,
        id: Uuid,
        sql: &str,
        params: &Params<'_>,
    ) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let answer = connection.rows(sql, params).await;
        // Ends the statement if it was not answered.
        drop(connection);
        match answer {
            Ok(_) => Ok(()),
            Err(StoreError::Unavailable(why)) => {
                // A replica that is cut off need not wait once more.
                let cut_off = |_| StoreError::Unknown(why.clone());
                self.health.check().map_err(cut_off)?;
                self.look_up(id, StoreError::Unavailable(why)).await
            }
            Err(e) => Err(e),
        }
    }

    /// Success when the transaction was committed whose end has failed so.
    async fn look_up(&self, id: Uuid, error: StoreError) -> Result<(), StoreError> {
        match self.was_committed(id).await? {
            true => Ok(()),
            false => Err(error.or_later()),
        }
    }

    /// Counts a transaction of so many writes.
    pub(super) fn count<T>(&self, outcome: &Result<T, StoreError>, writes: usize, began: Instant) {
        let is_kept = !matches!(
            outcome,
            Err(StoreError::Unavailable(_)
                | StoreError::Unknown(_)
                | StoreError::Refused(_)
                | StoreError::NotPermitted(_)
                | StoreError::NoData(_))
        );
        self.commits.ended(is_kept, writes, began.elapsed());
    }

    /// Outcome of a transaction whose COMMIT was not answered. The insertion waits for it
    /// while it is in progress; once it was inserted here, it can commit no more. A session
    /// that was terminated while it waited for a standby has committed on the primary
    /// alone, so a row is written in either case, whose commit waits for the standby.
    async fn was_committed(&self, id: Uuid) -> Result<bool, StoreError> {
        let sql = "INSERT INTO commits (id)
             SELECT $1 WHERE set_config('synchronous_commit', 'on', TRUE) = 'on'
             ON CONFLICT (id) DO UPDATE SET at = commits.at - interval '1 second'
             RETURNING at = now() AS inserted";
        let inserted = async {
            let rows = self.rows(sql, &[(&id, Type::UUID)]).await?;
            Ok::<bool, StoreError>(only(&rows)?.try_get("inserted")?)
        };
        match inserted.await {
            Ok(inserted) => Ok(!inserted),
            Err(e) => Err(StoreError::Unknown(e.to_string())),
        }
    }

    /// Deletes the ids of transactions whose outcome nobody waits for any more.
    pub(super) async fn forget_commits(&self) -> Result<(), StoreError> {
        let sql = "DELETE FROM commits WHERE at < now() - interval '5 minutes'";
        self.rows(sql, &[]).await.map(drop)
    }
}

fn pool(target: &Target, size: usize) -> Result<Pool, OpenError> {
    Pool::builder(target.manager())
        .max_size(size)
        .wait_timeout(Some(TIMEOUT))
        .create_timeout(Some(TIMEOUT))
        .recycle_timeout(Some(TIMEOUT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| OpenError::Server(e.to_string(), "correct DATABASE_URL"))
}

async fn connect(pool: &Pool, target: &Arc<Target>) -> Result<Connection, StoreError> {
    let object = pool.get().await.map_err(|e| match e {
        // Nothing was asked yet: rights and passwords can be put right.
        PoolError::Backend(e) => StoreError::from(e).or_later(),
        PoolError::Timeout(TimeoutType::Wait) => {
            StoreError::Unavailable("all connections are in use".to_owned())
        }
        PoolError::Timeout(_) => timed_out(TIMEOUT),
        e => StoreError::Unavailable(e.to_string()),
    })?;
    Ok(Connection::new(object, target))
}

/// A transaction; rolled back when it is dropped.
pub(super) struct Transaction<'a> {
    database: &'a Database,
    pub(super) connection: Connection,
    id: Uuid,
    began: Instant,
}

impl Transaction<'_> {
    pub(super) async fn rows(
        &mut self,
        sql: &str,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        self.connection.rows(sql, params).await
    }

    /// Commits after `Ok`, rolls back after an error. `writes`: steps in it.
    pub(super) async fn finish<T>(
        mut self,
        outcome: Result<T, StoreError>,
        writes: usize,
    ) -> Result<T, StoreError> {
        let end = match outcome {
            Ok(_) => "COMMIT",
            Err(_) => "ROLLBACK",
        };
        let ended = self.connection.batch(end).await;
        self.connection.is_idle = ended.is_ok();
        let outcome = match (outcome, ended) {
            (Ok(value), Ok(())) => Ok(value),
            (Err(e), _) => Err(e),
            (Ok(value), Err(e)) => {
                let committed = self.database.look_up(self.id, e).await;
                committed.map(|()| value)
            }
        };
        self.database.count(&outcome, writes, self.began);
        outcome
    }
}

pub(super) fn only(rows: &[Row]) -> Result<&Row, StoreError> {
    let missing = || StoreError::Refused("a statement has returned no row".to_owned());
    rows.first().ok_or_else(missing)
}

pub(super) fn time(rows: &[Row], column: &str) -> Result<UnixTime, StoreError> {
    Ok(UnixTime::from_secs(only(rows)?.try_get(column)?))
}
