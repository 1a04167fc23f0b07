//! A connection while somebody has it: statements with a time limit, and the end of one
//! that is dropped before its answer.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio::runtime::Handle;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::target::Target;
use crate::store::StoreError;

/// A caller waits this long for a connection, and for the answer to each statement.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// Parameters of a statement with their types, so that it needs no name.
pub(super) type Params<'a> = [(&'a (dyn ToSql + Sync), Type)];

/// A connection of the pool. One that is dropped within a statement or a transaction is
/// closed, which rolls back.
pub(super) struct Connection {
    /// None once it was dropped.
    object: Option<Object>,
    target: Arc<Target>,
    /// No statement and no transaction is open.
    pub(super) is_idle: bool,
    /// A statement was sent, and not answered.
    is_waiting: bool,
    /// A statement may take this long.
    pub(super) timeout: Duration,
}

impl Connection {
    pub(super) fn new(object: Object, target: &Arc<Target>) -> Self {
        Self {
            object: Some(object),
            target: Arc::clone(target),
            is_idle: true,
            is_waiting: false,
            timeout: TIMEOUT,
        }
    }

    pub(super) async fn rows(
        &mut self,
        sql: &str,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let was_idle = std::mem::replace(&mut self.is_idle, false);
        let object = self.object.as_ref().ok_or_else(|| timed_out(TIMEOUT))?;
        self.is_waiting = true;
        let answer = tokio::time::timeout(self.timeout, object.query_typed(sql, params)).await;
        let answer = answer.map_err(|_| timed_out(self.timeout))?;
        self.is_waiting = false;
        self.is_idle = was_idle && !object.is_closed() && !ends_session(&answer);
        Ok(answer?)
    }

    /// Statements without parameters.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        let was_idle = std::mem::replace(&mut self.is_idle, false);
        let object = self.object.as_ref().ok_or_else(|| timed_out(TIMEOUT))?;
        self.is_waiting = true;
        let answer = tokio::time::timeout(self.timeout, object.batch_execute(sql)).await;
        let answer = answer.map_err(|_| timed_out(self.timeout))?;
        self.is_waiting = false;
        self.is_idle = was_idle && !object.is_closed() && !ends_session(&answer);
        Ok(answer?)
    }

    /// Begins a transaction whose COMMIT is not looked up.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        self.is_idle = false;
        self.batch("BEGIN").await
    }

    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        self.batch("COMMIT").await?;
        self.is_idle = true;
        Ok(())
    }
}

/// Is the session of no use any more? Its server is a standby now, shuts down, or is gone:
/// another host is asked.
fn ends_session<T>(answer: &Result<T, tokio_postgres::Error>) -> bool {
    use tokio_postgres::error::SqlState;
    let code = answer.as_ref().err().and_then(|e| e.code());
    code.is_some_and(|code| {
        *code == SqlState::READ_ONLY_SQL_TRANSACTION
            || *code == SqlState::ADMIN_SHUTDOWN
            || code.code().starts_with("08")
    })
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.is_idle
            && let Some(object) = self.object.take()
        {
            let client = Object::take(object);
            if self.is_waiting
                && let Ok(runtime) = Handle::try_current()
            {
                // Or it would wait for its lock on the server, however long that takes.
                let (token, target) = (client.cancel_token(), Arc::clone(&self.target));
                runtime.spawn(async move {
                    let _ = tokio::time::timeout(TIMEOUT, target.cancel(&token)).await;
                });
            }
        }
    }
}

pub(super) fn timed_out(after: Duration) -> StoreError {
    StoreError::Unavailable(format!("it has not answered within {after:?}"))
}
