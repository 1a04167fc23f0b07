//! Keys that lie in the clear in a file of an earlier server.

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::schema;
use crate::store::OpenError;

/// Replaces them by their sealed forms. Only in a file that has no table of this
/// service yet: later such a key may have been planted. Whoever can write the file can
/// also drop those tables, so it is refused unless `may_seal`.
pub(super) fn seal_keys(
    conn: &mut Connection,
    may_seal: bool,
    seal: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<(), OpenError> {
    // Overwrites what is replaced.
    conn.execute_batch("PRAGMA secure_delete = ON")?;
    let tx = conn.transaction()?;
    if schema::is_own(&tx)? || !schema::has_table(&tx, "keys")? {
        return Ok(());
    }
    let mut query = tx
        .prepare("SELECT kid, CAST(key AS BLOB) FROM keys WHERE typeof(key) IN ('text', 'blob')")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, Zeroizing::new(row.get(1)?))))?;
    let stored: Vec<(i64, Zeroizing<Vec<u8>>)> = rows.collect::<Result<_, _>>()?;
    drop(query);
    let mut sealed = 0;
    for (kid, key) in stored {
        if let Some(key) = seal(&key) {
            if !may_seal {
                return Err(OpenError::ClearKeys);
            }
            sealed += tx.execute("UPDATE keys SET key = ? WHERE kid = ?", params![key, kid])?;
        }
    }
    tx.commit()?;
    if sealed > 0 {
        tracing::warn!(
            "{sealed} private keys lay in the clear in the database and are encrypted under the first entry of NOT_MY_KEY now; copies of the file still have them"
        );
    }
    Ok(())
}
