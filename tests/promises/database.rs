//! The database file of a simulation: rows that the observer finds in it, rows that
//! other programs damage, files that are replaced or copied.

use std::collections::BTreeMap;

use jwks_server::clock::{Clock as _, UnixTime};
use rusqlite::{Connection, params};

use crate::observer::{ALWAYS, Creation, KeyRecord, promise};
use crate::schedule::RowFault;
use crate::sealing_keys::opened_by;
use crate::simulation::Simulation;

/// Reason there is a new key.
#[derive(Clone, Copy)]
pub enum Reason {
    /// The process that made it found that it was due.
    WasDue,
    /// An operator asked for it.
    Rotated,
    /// An operator had all others go.
    Emergency,
}

/// A row as it was before anyone touched it.
pub struct Original {
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

impl Original {
    pub fn of(sealed: Vec<u8>, plain: &[u8]) -> Self {
        let plain = plain.to_vec();
        Self { sealed, plain }
    }
}

/// A row of `keys` that the observer has not seen before.
struct NewRow {
    kid: i64,
    exp: UnixTime,
    signs_from: UnixTime,
    sealed: Vec<u8>,
}

impl Simulation {
    /// Reads the database: rows that are new were made at this moment. Returns the
    /// number of new keys that may sign.
    pub fn observe(&mut self, reason: Reason) -> Result<usize, String> {
        let there = self.exps();
        self.observer
            .rows
            .retain(|kid, _| there.iter().any(|row| row.0 == *kid));
        for (kid, exp) in &there {
            let Some(known) = self.observer.rows.get_mut(kid) else {
                continue;
            };
            // A row that was dated by a clock ahead goes back with it.
            promise!(
                known.exp == *exp || self.clock_went_back && *exp < known.exp,
                "the service changed the end of {kid} from {} to {exp}",
                known.exp
            );
            let by = exp.until(known.exp);
            known.exp = *exp;
            if known.signs_from != ALWAYS {
                known.signs_from = known.signs_from - by;
            }
        }
        let mut may_sign = 0;
        for row in self.new_rows() {
            may_sign += usize::from(self.add_row(row, reason)?);
        }
        Ok(may_sign)
    }

    /// Adds a row to those that are known. Returns true when it may sign.
    fn add_row(&mut self, row: NewRow, reason: Reason) -> Result<bool, String> {
        let now = self.now();
        let Some(maker) = self.stock.maker_of(row.kid) else {
            return Err(format!("nobody made {}", row.kid));
        };
        let rows = match reason {
            Reason::WasDue => self.processes[maker.who].own_rows(&self.observer.rows, now),
            Reason::Rotated => self.observer.rows.clone(),
            Reason::Emergency => BTreeMap::new(),
        };
        let could_sign = |(_, other): &(&i64, &KeyRecord)| other.may_sign() && now < other.exp;
        let others = rows.iter().filter(could_sign);
        let creation = Creation {
            at: self.clock.monotonic(),
            lead: maker.policy.lead,
            skew: maker.policy.skew,
            others: others.map(|(kid, other)| (*kid, other.exp)).collect(),
            clock_was_set: false,
        };
        let mut record = KeyRecord {
            signs_from: row.signs_from,
            exp: row.exp,
            intact: true,
            entry: maker.entry,
            revoked: false,
            has_right_types: true,
            number: self.order.len(),
        };
        promise!(
            row.exp <= now || row.exp == now + maker.policy.key_lifetime,
            "{} was made at {now} to end at {}",
            row.kid,
            row.exp
        );
        promise!(
            !self.originals.contains_key(&row.kid),
            "promise 6: {} was given twice",
            row.kid
        );
        let mut entries = vec![maker.entry];
        if !matches!(reason, Reason::WasDue) {
            entries.clone_from(&self.sealing);
        }
        let opened = opened_by(self.newest_entry, &row.sealed);
        let Some((entry, plain)) = opened.filter(|(entry, _)| entries.contains(entry)) else {
            return Err(format!("{} is under none of {entries:?}", row.kid));
        };
        record.entry = entry;
        self.observer.rows.insert(row.kid, record);
        self.observer.creations.insert(row.kid, creation);
        self.order.push(row.kid);
        self.originals
            .insert(row.kid, Original::of(row.sealed, &plain));
        Ok(now < row.exp)
    }

    fn exps(&self) -> Vec<(i64, UnixTime)> {
        let sql = "SELECT kid, CAST(exp AS INTEGER) FROM keys";
        let mut query = self.sql.prepare_cached(sql).unwrap();
        let rows = query.query_map([], |row| {
            Ok((row.get(0)?, UnixTime::from_secs(row.get(1)?)))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// In the order in which they were made.
    fn new_rows(&self) -> Vec<NewRow> {
        let sql = "SELECT kid, CAST(key AS BLOB), CAST(exp AS INTEGER), signs_from FROM keys
             JOIN key_times USING (kid) ORDER BY serial";
        let mut query = self.sql.prepare_cached(sql).unwrap();
        let rows = query.query_map([], |row| {
            Ok(NewRow {
                kid: row.get(0)?,
                sealed: row.get(1)?,
                exp: UnixTime::from_secs(row.get(2)?),
                signs_from: UnixTime::from_secs(row.get(3)?),
            })
        });
        let is_new = |row: &NewRow| !self.observer.rows.contains_key(&row.kid);
        rows.unwrap().map(Result::unwrap).filter(is_new).collect()
    }

    pub fn damage(&mut self, damage: RowFault, row: usize) {
        let Some(kid) = self.pick(row) else {
            return;
        };
        match damage {
            RowFault::Garbage => self.put(kid, b"gAAAAABgarbage"),
            RowFault::KeyOf(other) => self.put_key_of(kid, other),
            RowFault::Delete => {
                self.execute("DELETE FROM keys WHERE kid = ?", kid);
                self.observer.rows.remove(&kid);
            }
            RowFault::EndIn(secs) => self.end_in(kid, secs),
            RowFault::HalfSecond => self.spoil(
                "UPDATE keys SET exp = CAST(exp AS INTEGER) + 0.5 WHERE kid = ?",
                kid,
            ),
            RowFault::NumberAsKey => self.spoil("UPDATE keys SET key = 42 WHERE kid = ?", kid),
            RowFault::LoseTimes => self.lose_times(kid),
        }
    }

    fn spoil(&mut self, sql: &str, kid: i64) {
        self.execute(sql, kid);
        self.reread(kid);
    }

    /// Notes whether a row that was changed has the right types, and the key that was
    /// made for it.
    pub fn reread(&mut self, kid: i64) {
        let sql = "SELECT typeof(exp) = 'integer', typeof(key) IN ('text', 'blob'),
            CAST(key AS BLOB) FROM keys WHERE kid = ?";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (exp, key, sealed): (bool, bool, Vec<u8>) =
            self.sql.query_row(sql, [kid], read).unwrap();
        let row = self.observer.rows.get_mut(&kid).unwrap();
        row.has_right_types = exp && key;
        row.intact = false;
        if let Some((entry, plain)) = opened_by(self.newest_entry, &sealed)
            && row.has_right_types
        {
            row.intact = plain == self.originals[&kid].plain;
            row.entry = entry;
        }
    }

    fn put(&mut self, kid: i64, sealed: &[u8]) {
        let sql = "UPDATE keys SET key = ?, exp = CAST(exp AS INTEGER) WHERE kid = ?";
        self.sql.execute(sql, params![sealed, kid]).unwrap();
        self.reread(kid);
    }

    /// Not in a row without times of ours: there the service cannot tell
    /// the key that belongs to the kid.
    fn put_key_of(&mut self, kid: i64, other: usize) {
        let Some(other) = self.pick(other) else {
            return;
        };
        if self.observer.rows[&kid].signs_from != ALWAYS {
            let sql = "SELECT key FROM keys WHERE kid = ?";
            let sealed = self.sql.query_row(sql, [other], |row| row.get(0));
            // The other row may hold a number, see `RowFault::NumberAsKey`.
            self.put(kid, &sealed.unwrap_or_else(|_| Vec::new()));
        }
    }

    fn end_in(&mut self, kid: i64, secs: i64) {
        let exp = self.now().as_secs() + secs;
        let sql = "UPDATE keys SET exp = ? WHERE kid = ?";
        self.sql.execute(sql, [exp, kid]).unwrap();
        let row = self.observer.rows.get_mut(&kid).unwrap();
        if row.signs_from >= row.exp {
            // A key that was made expired has no promised lead when it comes back into the set.
            self.observer.creations.remove(&kid);
        }
        row.exp = UnixTime::from_secs(exp);
        self.reread(kid);
    }

    /// Only of an intact row: see [`put_key_of`](Self::put_key_of).
    fn lose_times(&mut self, kid: i64) {
        if self.observer.rows[&kid].intact {
            self.execute("DELETE FROM key_times WHERE kid = ?", kid);
            self.observer.rows.get_mut(&kid).unwrap().signs_from = ALWAYS;
            self.observer.creations.remove(&kid);
        }
    }

    pub fn repair(&mut self) {
        let damaged = self.observer.rows.iter().filter(|(_, row)| !row.intact);
        for kid in damaged.map(|(kid, _)| *kid).collect::<Vec<_>>() {
            let sealed = self.originals[&kid].sealed.clone();
            self.put(kid, &sealed);
        }
    }

    fn execute(&self, sql: &str, kid: i64) {
        self.sql.execute(sql, [kid]).unwrap();
    }

    /// All processes end, and start without their database.
    pub async fn new_file(&mut self) {
        for process in &self.processes {
            process.store.clone().close().await;
        }
        self.files += 1;
        self.observer.rows.clear();
        self.observer.revoked.clear();
        let parts: Vec<_> = self.processes.iter().map(|p| p.parts).collect();
        let parts = parts.into_iter().enumerate();
        self.processes = parts.map(|(who, p)| self.start(who, p)).collect();
        self.sql = Connection::open(self.path()).unwrap();
    }

    /// Goes on with a copy of the file and of its write-ahead log, as a killed process
    /// leaves them.
    pub fn copy_file(&mut self) {
        let old = self.path();
        self.files += 1;
        let new = self.path();
        std::fs::copy(&old, &new).unwrap();
        let wal = |path: &std::path::Path| path.with_extension("db-wal");
        if wal(&old).exists() {
            std::fs::copy(wal(&old), wal(&new)).unwrap();
        }
        self.sql = Connection::open(&new).unwrap();
    }
}
