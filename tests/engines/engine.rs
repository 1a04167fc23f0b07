//! A database of its own on one of the engines.

use std::path::PathBuf;
use std::sync::Arc;

use jwks_server::domain::database::{Location, Target};
use jwks_server::store::{NewAccountRow, PgEnvironment, PostgresStore, SignInRow, Store};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::cluster::Cluster;

pub struct Engine {
    at: Place,
    store: OnceCell<Store>,
}

enum Place {
    Sqlite(TempDir),
    Postgres(Box<Target>, String, Arc<Cluster>),
}

impl Engine {
    pub fn sqlite() -> Self {
        Self {
            at: Place::Sqlite(tempfile::tempdir().unwrap()),
            store: OnceCell::new(),
        }
    }

    pub async fn postgres() -> Option<Self> {
        let cluster = Cluster::shared()?;
        let port = cluster.port;
        Some(Self::at_port(cluster, port))
    }

    pub async fn pgbouncer() -> Option<Self> {
        let cluster = Cluster::shared()?;
        let port = cluster.pgbouncer_port;
        Some(Self::at_port(cluster, port))
    }

    fn at_port(cluster: Arc<Cluster>, port: u16) -> Self {
        let name = cluster.create_database();
        Self {
            at: Place::Postgres(Box::new(target(port, &name)), name, cluster),
            store: OnceCell::new(),
        }
    }

    /// The store of the first server.
    pub async fn store(&self) -> &Store {
        self.store.get_or_init(|| self.open()).await
    }

    /// That of another server.
    pub async fn open(&self) -> Store {
        match &self.at {
            Place::Sqlite(_) => Store::open(&self.path()).unwrap(),
            Place::Postgres(target, ..) => {
                Store::Postgres(PostgresStore::open(target).await.unwrap())
            }
        }
    }

    fn path(&self) -> PathBuf {
        match &self.at {
            Place::Sqlite(dir) => dir.path().join("keys.db"),
            Place::Postgres(..) => PathBuf::new(),
        }
    }

    pub fn location(&self) -> Location {
        match &self.at {
            Place::Sqlite(_) => Location::Sqlite(self.path()),
            Place::Postgres(target, ..) => Location::Postgres(target.clone()),
        }
    }

    /// A number that another program reads.
    pub fn count(&self, sql: &str) -> i64 {
        match &self.at {
            Place::Sqlite(_) => {
                let conn = rusqlite::Connection::open(self.path()).unwrap();
                conn.query_row(sql, [], |row| row.get(0)).unwrap()
            }
            Place::Postgres(_, name, cluster) => cluster.sql(name, sql).parse().unwrap(),
        }
    }

    /// Adds an account and returns its row.
    pub async fn account(&self, name: &str) -> jwks_server::store::AccountRow {
        let store = self.store().await;
        let row = account(name, None);
        let now = jwks_server::clock::UnixTime::from_secs(1_800_000_000);
        store.insert_account(row, now).await.unwrap();
        let found = store.account_by_name(name.into(), name.into()).await;
        found.unwrap().unwrap()
    }

    pub async fn sign_ins(&self) -> Vec<SignInRow> {
        let found = self.store().await.next_sign_ins(i64::MIN, 10_000).await;
        found.unwrap()
    }
}

pub fn target(port: u16, database: &str) -> Target {
    let url = format!("postgres://postgres@127.0.0.1:{port}/{database}");
    Target::parse(&url, &PgEnvironment::default()).unwrap()
}

pub fn account(name: &str, email: Option<(&str, &str)>) -> NewAccountRow {
    NewAccountRow {
        username: name.to_owned(),
        email: email.map(|(address, other)| (address.to_owned(), other.to_owned())),
        password_hash: "hash".to_owned(),
    }
}
