//! The database of a simulation: a file, or PostgreSQL.

use std::path::PathBuf;
use std::sync::Arc;

use jwks_server::store::Store;
use tempfile::TempDir;

use crate::empty_database::EMPTY;
use crate::manual_clock::ManualClock;
use crate::postgres::{Postgres, REPLICAS};
use crate::simulation::{START, temp_dir};
use crate::sql::Sql;

pub enum Engine {
    Sqlite {
        dir: TempDir,
        /// Number of the file in use.
        file: usize,
    },
    Postgres(Arc<Postgres>),
}

impl Engine {
    pub fn sqlite() -> Self {
        let engine = Self::Sqlite {
            dir: temp_dir(),
            file: 0,
        };
        std::fs::write(engine.path(), &*EMPTY).unwrap();
        engine
    }

    /// Processes that share the database, at most.
    pub fn processes(&self) -> usize {
        match self {
            Self::Sqlite { .. } => 2,
            Self::Postgres(_) => REPLICAS,
        }
    }

    pub fn clock(&self) -> Arc<ManualClock> {
        Arc::new(match self {
            Self::Sqlite { .. } => ManualClock::new(START),
            Self::Postgres(postgres) => postgres.clock(),
        })
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite { dir, file } => dir.path().join(format!("{file}.db")),
            Self::Postgres(_) => PathBuf::new(),
        }
    }

    /// A connection of the observer's own.
    pub fn sql(&self) -> Sql {
        match self {
            Self::Sqlite { .. } => Sql::open(&self.path()),
            Self::Postgres(postgres) => Sql::Postgres(postgres.client.clone()),
        }
    }

    pub async fn open(&self, user: usize) -> Store {
        match self {
            Self::Sqlite { .. } => Store::open(&self.path()).unwrap(),
            Self::Postgres(postgres) => postgres.open(user).await,
        }
    }

    /// Returns when all that `user` has begun is over.
    pub async fn close(&self, user: usize, store: Store) {
        match self {
            Self::Sqlite { .. } => store.close().await,
            Self::Postgres(postgres) => postgres.close(user, store).await,
        }
    }

    /// May the user connect to the server? There is none on SQLite.
    pub fn allow(&self, user: usize, may: bool) {
        if let Self::Postgres(postgres) = self {
            postgres.allow(user, may);
        }
    }

    /// Goes on with an empty database, to which nobody is connected yet.
    pub fn renew(&mut self) {
        match self {
            Self::Sqlite { file, .. } => *file += 1,
            Self::Postgres(postgres) => postgres.clear(),
        }
    }

    /// Goes on with a copy of the file and of its write-ahead log, as a killed process
    /// leaves them.
    pub fn copy_file(&mut self) {
        let old = self.path();
        let Self::Sqlite { file, .. } = self else {
            return;
        };
        *file += 1;
        let new = self.path();
        std::fs::copy(&old, &new).unwrap();
        let wal = |path: &std::path::Path| path.with_extension("db-wal");
        if wal(&old).exists() {
            std::fs::copy(wal(&old), wal(&new)).unwrap();
        }
    }
}
