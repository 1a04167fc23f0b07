//! The store on PostgreSQL, which several replicas share. Each write is a transaction;
//! whoever changes keys locks the row of `key_version` first. Only unnamed statements,
//! row locks and SET LOCAL: it works behind pgbouncer in transaction mode.

mod account_admin;
mod accounts;
mod adopted_keys;
mod audit;
mod calls;
mod connection;
mod copy;
mod error;
mod health;
mod hosts;
mod inspect;
mod key_events;
mod keys;
mod planted;
mod poll;
mod schema;
mod service_settings;
mod session;
mod sign_ins;
mod target;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;

use crate::metrics::Commits;
use crate::store::{OpenError, SchemaState, StoreError};
use connection::Database;
pub use inspect::ServerState;
pub use planted::UntrustedRole;
use session::Params;
use sign_ins::Queued;
pub use target::{PgEnvironment, Target};

/// A database on PostgreSQL. Clones share it; [`close`](Self::close) ends it.
#[derive(Clone)]
pub struct PostgresStore {
    database: Arc<Database>,
    sign_ins: mpsc::Sender<Queued>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    stop: CancellationToken,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date.
    pub async fn open(target: &Target) -> Result<Self, OpenError> {
        let database = Arc::new(Database::connect(target)?);
        schema::migrate(&database).await?;
        schema::check_rights(&database).await?;
        match planted::find_untrusted_role(&database).await {
            Ok(None) => {}
            Ok(Some(found)) => tracing::warn!("{}: {}", found.what, found.advice),
            Err(e) => tracing::warn!("other roles were not looked at: {e}"),
        }
        poll::once(&database).await.map_err(schema::engine)?;
        // What was put in front of the tables before the poll has noted them.
        if let SchemaState::Unusable(why) = schema::state(&database).await? {
            return Err(why);
        }
        let stop = CancellationToken::new();
        let (sign_ins, queue) = mpsc::channel(sign_ins::QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(poll::run(Arc::clone(&database), stop.clone()));
        tasks.spawn(calls::keep(Arc::clone(&database), stop.clone()));
        tasks.spawn(sign_ins::run(Arc::clone(&database), queue, stop.clone()));
        Ok(Self {
            database,
            sign_ins,
            tasks: Arc::new(Mutex::new(tasks)),
            stop,
        })
    }

    pub fn commits(&self) -> &Arc<Commits> {
        &self.database.commits
    }

    pub async fn ended(&self) {
        self.sign_ins.closed().await;
    }

    pub async fn close(self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
        self.database.close();
    }

    /// Rows of one statement, which changes nothing.
    async fn rows(&self, sql: &str, params: &Params<'_>) -> Result<Vec<Row>, StoreError> {
        self.database.rows(sql, params).await
    }
}
