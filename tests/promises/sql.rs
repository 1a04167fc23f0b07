//! The observer's own connection to the database, on either engine. Statements number
//! their parameters from $1, each for the first time in that order.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};
use tokio::runtime;
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Integer(i64),
    Bytes(Vec<u8>),
    /// A number with a fraction. PostgreSQL has none in these tables.
    Real(f64),
}

pub type Row = Vec<Value>;

pub enum Sql {
    Sqlite(Connection),
    Postgres(Client),
}

impl Sql {
    pub fn open(path: &Path) -> Self {
        Self::Sqlite(Connection::open(path).unwrap())
    }

    /// True when no row can hold a value of another type than its column's.
    pub fn has_typed_columns(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    pub fn rows(&self, sql: &str, params: &[Value]) -> Vec<Row> {
        match self {
            Self::Sqlite(connection) => {
                let mut query = connection.prepare_cached(sql).unwrap();
                let columns = query.column_count();
                let read = |row: &rusqlite::Row<'_>| {
                    let value = |n| row.get_ref(n).map(Value::of);
                    (0..columns).map(value).collect()
                };
                let rows = query.query_map(params_from_iter(params), read);
                rows.unwrap().map(Result::unwrap).collect()
            }
            Self::Postgres(client) => client.rows(sql, params),
        }
    }

    /// Pairs of a kid and another integer, of which a fraction is cut.
    pub fn integers<T: FromIterator<(i64, i64)>>(&self, sql: &str) -> T {
        let rows = self.rows(sql, &[]);
        rows.iter()
            .map(|row| (row[0].integer(), row[1].integer()))
            .collect()
    }
}

impl Value {
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Integer(n) => Self::Integer(n),
            ValueRef::Real(n) => Self::Real(n),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
            ValueRef::Null => panic!("a column is NULL"),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the fraction is cut")]
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(n) => *n,
            Self::Real(n) => *n as i64,
            Self::Bytes(_) => panic!("{self:?} is no number"),
        }
    }

    /// Nothing when it is a number.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(n) => ValueRef::Integer(*n),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Real(n) => ValueRef::Real(*n),
        }))
    }
}

/// A connection to PostgreSQL on a thread of its own, so that callers may block.
#[derive(Clone)]
pub struct Client(mpsc::Sender<Asked>);

type Param = dyn tokio_postgres::types::ToSql + Sync;
type Asked = (String, Vec<Value>, mpsc::Sender<Vec<Row>>);

impl Client {
    pub fn connect(url: String) -> Self {
        let (sender, asked) = mpsc::channel::<Asked>();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                tokio::spawn(connection);
                for (sql, params, answer) in asked {
                    let rows = Self::answer(&client, &sql, &params).await;
                    answer.send(rows).unwrap();
                }
            });
        });
        Self(sender)
    }

    pub fn rows(&self, sql: &str, params: &[Value]) -> Vec<Row> {
        let (answer, answered) = mpsc::channel();
        let asked = (sql.to_owned(), params.to_vec(), answer);
        self.0.send(asked).unwrap();
        answered.recv().unwrap()
    }

    async fn answer(client: &tokio_postgres::Client, sql: &str, params: &[Value]) -> Vec<Row> {
        let typed = |value: &Value| match value {
            Value::Integer(n) => (Box::new(*n) as Box<Param>, Type::INT8),
            Value::Bytes(bytes) => (Box::new(bytes.clone()) as _, Type::BYTEA),
            Value::Real(_) => panic!("{value:?} fits no column"),
        };
        let params: Vec<_> = params.iter().map(typed).collect();
        let params: Vec<(&Param, _)> = params
            .iter()
            .map(|(value, kind)| (&**value, kind.clone()))
            .collect();
        let rows = client.query_typed(sql, &params).await;
        let rows = rows.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let value = |row: &tokio_postgres::Row, n: usize| match *row.columns()[n].type_() {
            Type::INT8 => Value::Integer(row.get(n)),
            _ => Value::Bytes(row.get(n)),
        };
        rows.iter()
            .map(|row| (0..row.len()).map(|n| value(row, n)).collect())
            .collect()
    }
}
