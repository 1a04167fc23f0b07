//! Reading a database without changing it, for commands. Each function blocks, on a
//! runtime of its own.

use std::thread;

use tokio::runtime::Builder;
use tokio_postgres::Row;

use super::connection::{Database, NOW, only};
use super::{
    Target, UntrustedRole, account_admin, audit, key_events, keys, planted, schema,
    service_settings,
};
use crate::clock::UnixTime;
use crate::store::{
    AccountDetails, AccountFilter, Inspection, KeyEvent, KeyRows, OpenError, SchemaState,
    SignInFilter, SignInRow, StoreError,
};

/// Defines a read of a database of this version; `None` when it has no table of the
/// service.
macro_rules! reads {
    ($($name:ident($($arg:ident: $type:ty),*) -> $found:ty = $read:path;)*) => {
        impl super::PostgresStore {
            $(pub fn $name(target: &Target $(, $arg: $type)*) -> Result<Option<$found>, OpenError> {
                read_only(target, async |database| $read(database $(, $arg)*).await)
            })*
        }
    };
}

reads! {
    read_keys() -> KeyRows = keys::all;
    read_history(limit: u32) -> Vec<KeyEvent> = key_events::latest;
    list_accounts(filter: &AccountFilter) -> Vec<AccountDetails> = account_admin::page;
    read_account(names: &[String; 2]) -> Option<AccountDetails> = account_admin::by_name;
    list_sign_ins(filter: &SignInFilter) -> Vec<SignInRow> = audit::page;
    recorded_settings() -> Vec<(String, String)> = service_settings::all;
}

/// State of the server, for `doctor`.
#[derive(Debug)]
pub struct ServerState {
    pub version: String,
    pub uses_tls: bool,
    pub synchronous_standbys: String,
    /// For sessions that do not set it; the service does.
    pub synchronous_commit: String,
    pub fsync: bool,
    /// Tables that the service may not read and write in full, separated by commas.
    pub lacking_rights: String,
    /// The next start makes tables, and this user may not.
    pub lacks_create: bool,
    pub untrusted_role: Option<UntrustedRole>,
    /// A pooler gives each transaction any session.
    pub shares_sessions: bool,
    /// Seconds since 1970.
    pub now: UnixTime,
}

impl super::PostgresStore {
    /// All keys of a database that a server is about to open; none when it is empty.
    /// Refuses a user whose rights do not suffice for that.
    pub fn peek_keys(target: &Target) -> Result<KeyRows, OpenError> {
        run(target, async |database| {
            schema::check_version(database).await?;
            let state = schema::state(database).await?;
            if let SchemaState::Unusable(why) = state {
                return Err(why);
            }
            schema::check_user(database, &state).await?;
            match state {
                SchemaState::Older { has: 0, .. } => Ok(KeyRows::default()),
                _ => keys::all(database).await.map_err(schema::engine),
            }
        })
    }

    pub fn server_state(target: &Target) -> Result<ServerState, OpenError> {
        let sql = format!(
            "SELECT current_setting('server_version') AS version,
                 current_setting('synchronous_standby_names') AS standbys,
                 current_setting('synchronous_commit') AS synchronous_commit,
                 current_setting('fsync') = 'on' AS fsync,
                 {NOW}"
        );
        run(target, async |database| {
            schema::check_version(database).await?;
            let lacks_create = match schema::state(database).await {
                Ok(state) => schema::lacks_create(database, &state).await,
                // The check of the schema says so.
                Err(_) => Ok(false),
            };
            let read = async {
                let rows = database.rows(&sql, &[]).await?;
                let row = only(&rows)?;
                let rights = ["SELECT", "INSERT", "UPDATE", "DELETE"];
                Ok(ServerState {
                    version: row.try_get("version")?,
                    uses_tls: target.uses_tls(),
                    synchronous_standbys: row.try_get("standbys")?,
                    synchronous_commit: row.try_get("synchronous_commit")?,
                    fsync: row.try_get("fsync")?,
                    lacking_rights: schema::lacking(database, &rights).await?,
                    lacks_create: lacks_create?,
                    untrusted_role: planted::find_untrusted_role(database).await?,
                    shares_sessions: shares_sessions(database).await?,
                    now: UnixTime::from_secs(row.try_get("now")?),
                })
            };
            read.await.map_err(schema::engine)
        })
    }

    /// `None` when it has no table of the service.
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

/// Is a pooler in transaction mode in between? Then a transaction of one connection takes
/// the session that another one has just used.
async fn shares_sessions(database: &Database) -> Result<bool, StoreError> {
    let sql = "SELECT pg_backend_pid() AS session";
    let session = |rows: Vec<Row>| Ok::<i32, StoreError>(only(&rows)?.try_get("session")?);
    let mut first = database.connection().await?;
    let mut second = database.connection().await?;
    second.rows(sql, &[]).await?;
    let before = session(first.rows(sql, &[]).await?)?;
    second.begin().await?;
    second.rows(sql, &[]).await?;
    Ok(session(first.rows(sql, &[]).await?)? != before)
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
