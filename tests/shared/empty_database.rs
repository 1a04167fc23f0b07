use std::sync::LazyLock;

use jwks_server::store::Store;
use rusqlite::Connection;

/// An empty database of this schema. Writing it is quicker than migrating.
pub static EMPTY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let (made, copy) = (dir.path().join("made.db"), dir.path().join("copy.db"));
    let _store = Store::open(&made).unwrap();
    // Part of it is still in the write-ahead log.
    let sql = Connection::open(&made).unwrap();
    sql.execute("VACUUM INTO ?", [copy.to_str()]).unwrap();
    std::fs::read(&copy).unwrap()
});
