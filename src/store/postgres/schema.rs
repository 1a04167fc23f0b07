//! Migrations, and what the server must be.

use tokio_postgres::types::Type;

use super::connection::{Database, only};
use super::error::GRANT_CREATE;
use super::planted;
use crate::store::copy::TABLES;
use crate::store::{OpenError, SchemaState, StoreError};

/// Names and statements, in order. One that was released is never changed.
const MIGRATIONS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/postgres_migrations.rs"));
/// Attempts: another replica may do the same at the same time.
const ATTEMPTS: usize = 5;
/// The first one with all that is used here.
const OLDEST_VERSION: i32 = 13;
const GRANT: &str =
    "grant the user SELECT, INSERT, UPDATE and DELETE on all tables, and EXECUTE on all functions";
const MORE_IN_ITS_LOG: &str = "the log of PostgreSQL says more";

/// Tables beside those that both engines have.
const OF_REPLICAS: [&str; 3] = ["key_version", "commits", "calls"];

/// Tables that a server writes to.
pub(super) fn written() -> Vec<&'static str> {
    [&TABLES[..], &OF_REPLICAS].concat()
}

/// Functions that a server calls.
pub(super) const CALLED: [&str; 2] = [
    "admit_call(text, uuid, integer)",
    "record_sign_ins(uuid, bigint[], text[], text[], text[], bigint[])",
];

/// Tables for which the user lacks one of `rights`, in a statement's words, and functions
/// that it may not call; those that are not there are left out.
pub(super) async fn lacking(database: &Database, rights: &[&str]) -> Result<String, StoreError> {
    let rows = database
        .rows(
            "SELECT coalesce(string_agg(DISTINCT name, ', '), '') AS names FROM (
                 SELECT t AS name FROM pg_catalog.unnest($1) AS t, pg_catalog.unnest($2) AS r
                 WHERE to_regclass(t) IS NOT NULL AND NOT has_table_privilege(to_regclass(t)::oid, r)
                 UNION SELECT split_part(f, '(', 1) FROM pg_catalog.unnest($3) AS f
                 WHERE to_regprocedure(f) IS NOT NULL
                     AND NOT has_function_privilege(to_regprocedure(f)::oid, 'EXECUTE')
             ) lacking",
            &[
                (&written(), Type::TEXT_ARRAY),
                (&rights, Type::TEXT_ARRAY),
                (&CALLED.as_slice(), Type::TEXT_ARRAY),
            ],
        )
        .await?;
    Ok(only(&rows)?.try_get("names")?)
}

/// Refuses a user who may not do what is done when a server opens a database in this state.
pub(super) async fn check_user(database: &Database, state: &SchemaState) -> Result<(), OpenError> {
    if lacks_create(database, state).await.map_err(engine)? {
        let text = "the user may not make the tables of its schema";
        return Err(OpenError::Server(text.to_owned(), GRANT_CREATE));
    }
    // Later it is a warning: a role that was added does not bar an emergency.
    if let SchemaState::Older { has: 0, .. } = state
        && let Some(found) = planted::find_untrusted_role(database)
            .await
            .map_err(engine)?
    {
        return Err(OpenError::Server(found.what, found.advice));
    }
    check_rights(database).await
}

/// Are there tables and functions to make, and may the user not make any?
pub(super) async fn lacks_create(
    database: &Database,
    state: &SchemaState,
) -> Result<bool, StoreError> {
    if !matches!(state, SchemaState::Older { .. }) {
        return Ok(false);
    }
    // Without USAGE on any schema of the path there is no current one.
    let sql =
        "SELECT coalesce(has_schema_privilege(current_schema()::text, 'CREATE'), FALSE) AS may";
    let may: bool = only(&database.rows(sql, &[]).await?)?.try_get("may")?;
    Ok(!may)
}

/// Refuses a user who may not read and add rows, or call functions.
pub(super) async fn check_rights(database: &Database) -> Result<(), OpenError> {
    let lacking = lacking(database, &["SELECT", "INSERT"]).await;
    match lacking.map_err(engine)? {
        names if names.is_empty() => Ok(()),
        names => Err(OpenError::Server(
            format!("the user may not use {names}"),
            GRANT,
        )),
    }
}

/// Brings the schema up to date, also when other replicas do so at the same time.
pub(super) async fn migrate(database: &Database) -> Result<(), OpenError> {
    check_version(database).await?;
    for attempt in 1..=ATTEMPTS {
        match state(database).await? {
            SchemaState::Current | SchemaState::Newer(_) => return Ok(()),
            SchemaState::Unusable(why) => return Err(why),
            SchemaState::Older { .. } => {}
        }
        // Two that create one table at once fail in several ways.
        if let Err(e) = apply_missing(database).await
            && attempt == ATTEMPTS
        {
            return Err(OpenError::Server(
                format!("its schema cannot be brought up to date: {e}"),
                GRANT_CREATE,
            ));
        }
    }
    Err(OpenError::Migration("it stays incomplete".to_owned()))
}

pub(super) async fn check_version(database: &Database) -> Result<(), OpenError> {
    database.try_to_connect().await?;
    let sql = "SELECT current_setting('server_version_num')::int / 10000 AS version";
    let version: i32 = async { Ok(only(&database.rows(sql, &[]).await?)?.try_get("version")?) }
        .await
        .map_err(engine)?;
    match version < OLDEST_VERSION {
        true => Err(OpenError::Server(
            format!("its version {version} is too old"),
            "use PostgreSQL 13 or newer",
        )),
        false => Ok(()),
    }
}

/// Compares the schema with the one of this version, without changing it.
pub(super) async fn state(database: &Database) -> Result<SchemaState, OpenError> {
    let sql = "SELECT to_regclass('schema_migrations') IS NOT NULL AS found";
    let found: bool = async { Ok(only(&database.rows(sql, &[]).await?)?.try_get("found")?) }
        .await
        .map_err(engine)?;
    let names = [&written()[..], &["schema_migrations"]].concat();
    let found_planted = planted::find(database, &names, &CALLED).await;
    if let Some(why) = found_planted.map_err(engine)? {
        return Ok(SchemaState::Unusable(why));
    }
    let has = match found {
        true => applied(database).await?,
        false => Vec::new(),
    };
    let known: Vec<_> = MIGRATIONS.iter().map(|(name, _)| *name).collect();
    if let Some(other) = has.iter().zip(&known).find(|(has, known)| has != *known) {
        let text = format!("it has the step {} where {} should be", other.0, other.1);
        return Ok(SchemaState::Unusable(OpenError::History(text)));
    }
    if let Some(later) = has.get(known.len()) {
        return Ok(SchemaState::Newer(later.clone()));
    }
    Ok(match has.len() < known.len() {
        true => SchemaState::Older {
            has: has.len(),
            needs: known.len(),
        },
        false => SchemaState::Current,
    })
}

async fn applied(database: &Database) -> Result<Vec<String>, OpenError> {
    let rows = database.rows("SELECT name FROM schema_migrations ORDER BY version", &[]);
    let names = async {
        let rows = rows.await?;
        let names = rows.iter().map(|row| row.try_get("name"));
        Ok(names.collect::<Result<_, _>>()?)
    };
    names.await.map_err(engine)
}

/// One transaction; the lock has other replicas wait, who then find the work done.
async fn apply_missing(database: &Database) -> Result<(), StoreError> {
    let mut connection = database.connection().await?;
    connection
        .batch(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 version BIGINT PRIMARY KEY,
                 name TEXT NOT NULL,
                 applied_on TIMESTAMPTZ NOT NULL DEFAULT now())",
        )
        .await?;
    connection.begin().await?;
    connection
        .batch("LOCK TABLE schema_migrations IN EXCLUSIVE MODE")
        .await?;
    let count = "SELECT count(*) AS steps FROM schema_migrations";
    let steps: i64 = only(&connection.rows(count, &[]).await?)?.try_get("steps")?;
    let steps = usize::try_from(steps).unwrap_or(usize::MAX);
    for (index, (name, statements)) in MIGRATIONS.iter().enumerate().skip(steps) {
        connection.batch(statements).await?;
        let version = i64::try_from(index + 1).unwrap_or(i64::MAX);
        connection
            .rows(
                "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)",
                &[(&version, Type::INT8), (name, Type::TEXT)],
            )
            .await?;
    }
    connection.commit().await
}

pub(super) fn engine(error: StoreError) -> OpenError {
    match error {
        StoreError::NotPermitted(why) => OpenError::Server(why, GRANT),
        StoreError::Unavailable(why) | StoreError::Refused(why) => {
            OpenError::Server(why, MORE_IN_ITS_LOG)
        }
        other => OpenError::Server(other.to_string(), MORE_IN_ITS_LOG),
    }
}
