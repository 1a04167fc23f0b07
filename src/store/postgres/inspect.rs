//! Reading a database without changing it, for commands. Each function blocks, on a
//! runtime of its own.

use std::thread;

use tokio::runtime::Builder;

use super::connection::{Database, only};
use super::{Target, account_admin, audit, key_events, keys, schema, service_settings};
use crate::clock::UnixTime;
use crate::store::{
    AccountDetails, AccountFilter, Inspection, KeyEvent, KeyRows, OpenError, SchemaState,
    SignInFilter, SignInRow, StoreError,
};

/// Defines a read of a database of this version; `None` when it has no table of the
/// service.
macro_rules! reads {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $found:ty = $read:path;)*) => {
        impl super::Store {
            $($(#[$doc])*
            pub fn $name(target: &Target $(, $arg: $type)*) -> Result<Option<$found>, OpenError> {
                read_only(target, async |database| $read(database $(, $arg)*).await)
            })*
        }
    };
}

reads! {
    /// All keys.
    read_keys() -> KeyRows = keys::all;
    /// The latest `limit` events.
    read_history(limit: u32) -> Vec<KeyEvent> = key_events::latest;
    /// The accounts that `filter` asks for.
    list_accounts(filter: &AccountFilter) -> Vec<AccountDetails> = account_admin::page;
    /// The account named `names[0]`, failing that `names[1]`.
    read_account(names: &[String; 2]) -> Option<AccountDetails> = account_admin::by_name;
    /// The sign-ins that `filter` asks for.
    list_sign_ins(filter: &SignInFilter) -> Vec<SignInRow> = audit::page;
    /// Settings that the service recorded.
    recorded_settings() -> Vec<(String, String)> = service_settings::all;
}

/// State of the server, for `doctor`.
#[derive(Debug)]
pub struct ServerState {
    pub version: String,
    pub uses_tls: bool,
    pub synchronous_standbys: String,
    pub fsync: bool,
    /// The service may write to all of its tables.
    pub may_write: bool,
    /// Seconds since 1970.
    pub now: UnixTime,
}

impl super::Store {
    /// Asks the server about itself.
    pub fn server_state(target: &Target) -> Result<ServerState, OpenError> {
        let sql = "SELECT current_setting('server_version') AS version,
                 current_setting('synchronous_standby_names') AS standbys,
                 current_setting('fsync') = 'on' AS fsync,
                 coalesce((SELECT bool_and(has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE'))
                     FROM pg_class c WHERE c.relkind = 'r' AND c.relname IN
                         ('keys', 'users', 'auth_logs', 'key_times', 'key_events', 'key_version')
                     AND pg_table_is_visible(c.oid)), TRUE) AS may_write,
                 floor(extract(epoch FROM clock_timestamp()))::bigint AS now";
        run(target, async |database| {
            schema::check_version(database).await?;
            let read = async {
                let rows = database.rows(sql, &[]).await?;
                let row = only(&rows)?;
                Ok(ServerState {
                    version: row.try_get("version")?,
                    uses_tls: target.uses_tls(),
                    synchronous_standbys: row.try_get("standbys")?,
                    fsync: row.try_get("fsync")?,
                    may_write: row.try_get("may_write")?,
                    now: UnixTime::from_secs(row.try_get("now")?),
                })
            };
            read.await.map_err(schema::engine)
        })
    }

    /// Inspects a database; `None` when it has no table of the service.
    pub fn inspect(target: &Target) -> Result<Option<Inspection>, OpenError> {
        run(target, async |database| {
            schema::check_version(database).await?;
            let schema = schema::state(database).await?;
            if matches!(schema, SchemaState::Older { has: 0, .. }) {
                return Ok(None);
            }
            let keys = match schema {
                SchemaState::Unusable(_) => KeyRows::default(),
                _ => keys::all(database).await.map_err(schema::engine)?,
            };
            let latest = SignInFilter {
                newest_first: true,
                limit: 1,
                ..SignInFilter::default()
            };
            let latest = audit::page(database, &latest)
                .await
                .map_err(schema::engine)?;
            let last_sign_in: Option<UnixTime> = latest.first().and_then(|row| row.at);
            Ok(Some(Inspection {
                damages: Vec::new(),
                schema,
                keys,
                last_sign_in,
            }))
        })
    }
}

fn read_only<T: Send>(
    target: &Target,
    read: impl AsyncFnOnce(&Database) -> Result<T, StoreError> + Send,
) -> Result<Option<T>, OpenError> {
    run(target, async |database: &Database| {
        schema::check_version(database).await?;
        match schema::state(database).await? {
            SchemaState::Older { has: 0, .. } => Ok(None),
            SchemaState::Unusable(why) => Err(why),
            _ => read(database).await.map(Some).map_err(schema::engine),
        }
    })
}

/// On a thread of its own: the caller's may be one of a runtime.
pub(super) fn run<T: Send>(
    target: &Target,
    work: impl AsyncFnOnce(&Database) -> Result<T, OpenError> + Send,
) -> Result<T, OpenError> {
    let work = || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(OpenError::Thread)?;
        runtime.block_on(async {
            let database = Database::connect(target)?;
            work(&database).await
        })
    };
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(_) => Err(OpenError::Server(
            "the thread that reads it ended".to_owned(),
            "try again",
        )),
    })
}
