//! Connections to the database file: one for writing, a pool for reading.

pub(super) mod file;
pub(super) mod identity;
pub(super) mod keeper;
pub(super) mod read_pool;
pub(super) mod unfinished;
pub(super) mod wal_check;
pub(super) mod write_probe;
pub(super) mod writer;

use super::{
    BUSY_TIMEOUT, KeyRow, OpenError, READER_WAIT, READERS, Store, StoreError, inspect, schema,
};
