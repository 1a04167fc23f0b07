//! A move to PostgreSQL from a file of SQLite, and back.

use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, error::SqlState};

use super::connection::{Database, only};
use super::session::Connection;
use super::{Target, adopted_keys, calls, inspect, keys, schema};
use crate::store::copy::{
    BATCH, Copied, CopyCallbacks, CopyError, Kind, Rows, TABLES, Table, Value,
};
use crate::store::sqlite::CopyFile;
use crate::store::{KeyRows, Location, OpenError, SchemaState, StoreError};

/// A statement of a copy may take this long.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The same for the server, and times as SQLite has them.
const SETTINGS: &str = "SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '5s';
     SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL datestyle = 'ISO, YMD'";
/// By which the sessions of a copy differ from those of servers.
const NAME: &str = "jwks-server db copy";

impl super::PostgresStore {
    /// Copies all rows of `file` into the empty database `target`.
    pub(in crate::store) fn copy_in(
        target: &Target,
        file: CopyFile,
        callbacks: &CopyCallbacks<'_>,
    ) -> Result<Copied, CopyError> {
        on(target, async |database| {
            let file = file;
            schema::migrate(database).await.map_err(at(target))?;
            let mut work = database.begin().await?;
            work.connection.timeout = TIMEOUT;
            let filled = fill(&mut work.connection, target, &file, callbacks).await;
            match filled {
                Ok(copied) => match work.finish(Ok(copied), 1).await {
                    Ok(copied) => Ok(copied),
                    Err(StoreError::Unknown(why)) => Err(CopyError::Unknown(why)),
                    Err(e) => Err(e.into()),
                },
                // Dropping it rolls back.
                Err(e) => Err(e),
            }
        })
    }

    /// Copies all rows of the database `source` into the file that `open` makes.
    pub(in crate::store) fn copy_out(
        source: &Target,
        live_ok: bool,
        open: impl FnOnce() -> Result<CopyFile, CopyError> + Send,
        callbacks: &CopyCallbacks<'_>,
    ) -> Result<Copied, CopyError> {
        on(source, async |database| {
            let location = || Location::Postgres(Box::new(source.clone()));
            schema::check_version(database).await.map_err(at(source))?;
            match schema::state(database).await.map_err(at(source))? {
                SchemaState::Current => {}
                SchemaState::Older { has: 0, .. } => return Err(CopyError::Missing(location())),
                SchemaState::Older { .. } => return Err(CopyError::Older(location())),
                SchemaState::Newer(step) => return Err(at(source)(OpenError::Newer(step))),
                SchemaState::Unusable(error) => return Err(at(source)(error)),
            }
            let mut connection = database.connection().await?;
            connection.begin().await?;
            connection.timeout = TIMEOUT;
            let begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
            connection.batch(&format!("{begin}; {SETTINGS}")).await?;
            if !live_ok {
                let lock = format!("LOCK TABLE {} IN SHARE MODE", all_tables());
                connection.batch(&lock).await.map_err(locked(&location()))?;
                in_use(&mut connection, source).await?;
            }
            let file = open()?;
            let copied = drain(&mut connection, &file, callbacks).await?;
            file.commit()?;
            Ok(copied)
        })
    }
}

/// Runs `work` on a thread and connections of its own.
fn on<T: Send>(
    target: &Target,
    work: impl AsyncFnOnce(&Database) -> Result<T, CopyError> + Send,
) -> Result<T, CopyError> {
    let target = &target.named(NAME);
    let done = inspect::run(target, async |database| Ok(work(database).await));
    done.map_err(at(target))?
}

fn at(target: &Target) -> impl Fn(OpenError) -> CopyError {
    |error| CopyError::Unusable {
        at: Location::Postgres(Box::new(target.clone())),
        error,
    }
}

fn all_tables() -> String {
    TABLES.join(", ")
}

/// Columns of all tables, which SQLite must have too.
async fn tables(connection: &mut Connection, file: &CopyFile) -> Result<Vec<Table>, CopyError> {
    let sql = "SELECT a.attname::text AS name, a.atttypid::regtype::text AS type,
             i.indrelid IS NOT NULL AND a.attidentity <> '' AS is_numbered
         FROM pg_attribute a LEFT JOIN pg_index i
             ON i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY i.indrelid IS NULL, a.attnum";
    let mut tables = Vec::new();
    for name in TABLES {
        let mut table = Table {
            name,
            columns: Vec::new(),
            is_numbered: false,
        };
        for row in connection.rows(sql, &[(&name, Type::TEXT)]).await? {
            let (column, kind, is_numbered) = described(name, &row)?;
            table.columns.push((column, kind));
            table.is_numbered |= is_numbered;
        }
        file.check_columns(&table)?;
        tables.push(table);
    }
    Ok(tables)
}

fn described(table: &str, row: &Row) -> Result<(String, Kind, bool), StoreError> {
    let name: String = row.try_get("name")?;
    let kind = match row.try_get::<_, &str>("type")? {
        "bigint" => Kind::Int,
        "text" => Kind::Text,
        "bytea" => Kind::Bytes,
        "timestamp without time zone" => Kind::Time,
        other => {
            let why = format!("{table}.{name} is of type {other}, which SQLite has not");
            return Err(StoreError::Refused(why));
        }
    };
    Ok((name, kind, row.try_get("is_numbered")?))
}

/// The lock was not given, since another session writes.
fn locked(location: &Location) -> impl Fn(StoreError) -> CopyError {
    |error| match error {
        StoreError::Unavailable(why) if why.contains(SqlState::LOCK_NOT_AVAILABLE.code()) => {
            CopyError::InUse(location.clone(), "a session that writes".to_owned())
        }
        other => other.into(),
    }
}

/// Refuses when a server polls the database: each does so twice a second. A pooler may
/// give its session another name, so those that have called in count too.
async fn in_use(connection: &mut Connection, source: &Target) -> Result<(), CopyError> {
    let sessions = "SELECT count(*) AS number FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = $1
             AND (state <> 'idle' OR state_change > clock_timestamp() - interval '5 seconds')";
    let params = &[(&source.name() as _, Type::TEXT)];
    let users = match number(&connection.rows(sessions, params).await?)? {
        0 => match number(&connection.rows(calls::COUNT_REPLICAS, &[]).await?)? {
            0 => return Ok(()),
            replicas => format!("{replicas} replicas of the service"),
        },
        sessions => format!("{sessions} sessions of a server"),
    };
    Err(CopyError::InUse(
        Location::Postgres(Box::new(source.clone())),
        users,
    ))
}

async fn fill(
    connection: &mut Connection,
    target: &Target,
    file: &CopyFile,
    callbacks: &CopyCallbacks<'_>,
) -> Result<Copied, CopyError> {
    let location = Location::Postgres(Box::new(target.clone()));
    // A server that starts meanwhile can read, and finds the tables empty or full.
    let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", all_tables());
    connection.batch(SETTINGS).await?;
    connection.batch(&lock).await.map_err(locked(&location))?;
    for name in TABLES {
        let sql = format!("SELECT 1 FROM {name} LIMIT 1");
        if !connection.rows(&sql, &[]).await?.is_empty() {
            return Err(CopyError::NotEmpty(location, name));
        }
    }
    let mut copied = Copied::default();
    for table in &tables(connection, file).await? {
        let (mut past, mut count) = (i64::MIN, 0);
        loop {
            let rows = file.batch(table, &mut past)?;
            if rows.is_empty() {
                break;
            }
            insert(connection, table, &rows).await?;
            count += rows.len() as u64;
            (callbacks.progress)(table.name, count);
        }
        if table.is_numbered {
            set_next_number(connection, table, file.next_number(table)?).await?;
        }
        copied.rows.push((table.name, count));
    }
    // A server that runs already loads the keys.
    let announce = "UPDATE key_version SET version = version + 1";
    connection.rows(announce, &[]).await?;
    let copy = all_keys(connection).await?;
    copied.unopened = (callbacks.check)(&file.keys()?, &copy).map_err(CopyError::Checked)?;
    Ok(copied)
}

async fn all_keys(connection: &mut Connection) -> Result<KeyRows, StoreError> {
    let rows = connection.rows(&keys::select_all(), &[]).await?;
    keys::collect(&rows, &connection.rows(adopted_keys::SELECT, &[]).await?)
}

async fn insert(connection: &mut Connection, table: &Table, rows: &Rows) -> Result<(), CopyError> {
    let columns: Vec<_> = (0..table.columns.len())
        .map(|index| column(rows, index, table.columns[index].1))
        .collect();
    let params: Vec<_> = columns
        .iter()
        .map(|(values, of)| (&**values as &(dyn ToSql + Sync), of.clone()))
        .collect();
    let marks: Vec<_> = (1..=columns.len()).map(|n| format!("${n}")).collect();
    let values = table.columns.iter().map(|(name, kind)| match kind {
        Kind::Time => format!("{name}::timestamp"),
        _ => name.clone(),
    });
    let sql = format!(
        "INSERT INTO {} ({names}) SELECT {} FROM unnest({}) AS r ({names})",
        table.name,
        values.collect::<Vec<_>>().join(", "),
        marks.join(", "),
        names = table.names(),
    );
    connection.rows(&sql, &params).await?;
    Ok(())
}

/// Values of one column, and the type of their array.
fn column<'a>(rows: &'a Rows, index: usize, kind: Kind) -> (Box<dyn ToSql + Sync + 'a>, Type) {
    let values = rows.iter().map(|row| &row[index]);
    match kind {
        Kind::Int => {
            let numbers = values.map(|value| match value {
                Value::Int(number) => Some(*number),
                _ => None,
            });
            (Box::new(numbers.collect::<Vec<_>>()), Type::INT8_ARRAY)
        }
        Kind::Text | Kind::Time => {
            let texts = values.map(|value| match value {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            });
            (Box::new(texts.collect::<Vec<_>>()), Type::TEXT_ARRAY)
        }
        Kind::Bytes => {
            let bytes = values.map(|value| match value {
                Value::Bytes(bytes) => Some(bytes.as_slice()),
                _ => None,
            });
            (Box::new(bytes.collect::<Vec<_>>()), Type::BYTEA_ARRAY)
        }
    }
}

async fn drain(
    connection: &mut Connection,
    file: &CopyFile,
    callbacks: &CopyCallbacks<'_>,
) -> Result<Copied, CopyError> {
    let mut copied = Copied::default();
    for table in &tables(connection, file).await? {
        let columns = table.columns.iter().map(|(name, kind)| match kind {
            Kind::Time => format!("{name}::text AS {name}"),
            _ => name.clone(),
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let (name, order) = (table.name, &table.columns[0].0);
        let declare =
            format!("DECLARE {name}_rows CURSOR FOR SELECT {columns} FROM {name} ORDER BY {order}");
        connection.batch(&declare).await?;
        let fetch = format!("FETCH {BATCH} FROM {name}_rows");
        let mut count = 0;
        loop {
            let rows = connection.rows(&fetch, &[]).await?;
            if rows.is_empty() {
                break;
            }
            let rows = rows.iter().map(|row| values(row, table));
            let rows: Rows = rows.collect::<Result<_, StoreError>>()?;
            file.insert(table, &rows)?;
            count += rows.len() as u64;
            (callbacks.progress)(name, count);
        }
        if table.is_numbered {
            let sequence = sequence(connection, table).await?;
            let sql = format!("SELECT last_value + is_called::int AS number FROM {sequence}");
            let next = number(&connection.rows(&sql, &[]).await?)?;
            file.set_next_number(table, next)?;
        }
        copied.rows.push((name, count));
    }
    let source = all_keys(connection).await?;
    copied.unopened = (callbacks.check)(&source, &file.keys()?).map_err(CopyError::Checked)?;
    Ok(copied)
}

fn values(row: &Row, table: &Table) -> Result<Vec<Value>, StoreError> {
    let columns = table.columns.iter();
    let values = columns.map(|(name, kind)| {
        let name = name.as_str();
        let value = match kind {
            Kind::Int => row.try_get::<_, Option<i64>>(name)?.map(Value::Int),
            Kind::Text | Kind::Time => row.try_get::<_, Option<String>>(name)?.map(Value::Text),
            Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(name)?.map(Value::Bytes),
        };
        Ok(value.unwrap_or(Value::Null))
    });
    values.collect()
}

/// Name of the sequence that numbers the rows.
async fn sequence(connection: &mut Connection, table: &Table) -> Result<String, StoreError> {
    let sql = "SELECT pg_get_serial_sequence($1, $2) AS name";
    let params = &[
        (&table.name as _, Type::TEXT),
        (&table.columns[0].0 as _, Type::TEXT),
    ];
    Ok(only(&connection.rows(sql, params).await?)?.try_get("name")?)
}

/// No row gets a smaller number than `next`, nor one that was copied.
async fn set_next_number(
    connection: &mut Connection,
    table: &Table,
    next: i64,
) -> Result<(), StoreError> {
    let sequence = sequence(connection, table).await?;
    let (name, column) = (table.name, &table.columns[0].0);
    let sql = format!("SELECT greatest($1, max({column}) + 1) AS number FROM {name}");
    let next = number(&connection.rows(&sql, &[(&next, Type::INT8)]).await?)?;
    // Unlike setval, it is undone with the transaction.
    let restart = format!("ALTER SEQUENCE {sequence} RESTART WITH {next}");
    connection.batch(&restart).await
}

fn number(rows: &[Row]) -> Result<i64, StoreError> {
    Ok(only(rows)?.try_get("number")?)
}
