//! The database of a simulation: rows that the observer finds in it, rows that other
//! programs damage, a database that is replaced.

use std::collections::BTreeMap;

use jwks_server::clock::{Clock as _, UnixTime};

use crate::observer::{ALWAYS, Creation, KeyRecord, promise};
use crate::schedule::RowFault;
use crate::sealing_keys::opened_by;
use crate::simulation::Simulation;
use crate::sql::Value::{Bytes, Integer};

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
        let rows: Vec<_> = self.sql.integers("SELECT kid, exp FROM keys");
        rows.into_iter()
            .map(|(kid, exp)| (kid, UnixTime::from_secs(exp)))
            .collect()
    }

    /// In the order in which they were made.
    fn new_rows(&self) -> Vec<NewRow> {
        let sql = "SELECT kid, key, exp, signs_from FROM keys
             JOIN key_times USING (kid) ORDER BY serial";
        let rows = self.sql.rows(sql, &[]);
        let rows = rows.iter().map(|row| NewRow {
            kid: row[0].integer(),
            sealed: row[1].bytes().to_vec(),
            exp: UnixTime::from_secs(row[2].integer()),
            signs_from: UnixTime::from_secs(row[3].integer()),
        });
        let is_new = |row: &NewRow| !self.observer.rows.contains_key(&row.kid);
        rows.filter(is_new).collect()
    }

    pub fn damage(&mut self, damage: RowFault, row: usize) {
        let Some(kid) = self.pick(row) else {
            return;
        };
        match damage {
            RowFault::Garbage => self.put(kid, b"gAAAAABgarbage"),
            RowFault::KeyOf(other) => self.put_key_of(kid, other),
            RowFault::Delete => {
                self.execute("DELETE FROM keys WHERE kid = $1", kid);
                self.observer.rows.remove(&kid);
            }
            RowFault::EndIn(secs) => self.end_in(kid, secs),
            RowFault::HalfSecond | RowFault::NumberAsKey if self.sql.has_typed_columns() => {}
            RowFault::HalfSecond => self.spoil(
                "UPDATE keys SET exp = CAST(exp AS INTEGER) + 0.5 WHERE kid = $1",
                kid,
            ),
            RowFault::NumberAsKey => self.spoil("UPDATE keys SET key = 42 WHERE kid = $1", kid),
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
        let sql = "SELECT key, exp FROM keys WHERE kid = $1";
        let read = self.sql.rows(sql, &[Integer(kid)]).remove(0);
        let (key, exp) = (matches!(read[0], Bytes(_)), matches!(read[1], Integer(_)));
        let row = self.observer.rows.get_mut(&kid).unwrap();
        row.has_right_types = exp && key;
        row.intact = false;
        if let Some((entry, plain)) = opened_by(self.newest_entry, read[0].bytes())
            && row.has_right_types
        {
            row.intact = plain == self.originals[&kid].plain;
            row.entry = entry;
        }
    }

    fn put(&mut self, kid: i64, sealed: &[u8]) {
        let sql = "UPDATE keys SET key = $1, exp = CAST(exp AS BIGINT) WHERE kid = $2";
        self.sql.rows(sql, &[Bytes(sealed.to_vec()), Integer(kid)]);
        self.reread(kid);
    }

    /// Not in a row without times of ours: there the service cannot tell
    /// the key that belongs to the kid.
    fn put_key_of(&mut self, kid: i64, other: usize) {
        let Some(other) = self.pick(other) else {
            return;
        };
        if self.observer.rows[&kid].signs_from != ALWAYS {
            let sql = "SELECT key FROM keys WHERE kid = $1";
            // The other row may hold a number, see `RowFault::NumberAsKey`.
            let sealed = self.sql.rows(sql, &[Integer(other)]);
            self.put(kid, sealed[0][0].bytes());
        }
    }

    fn end_in(&mut self, kid: i64, secs: i64) {
        let exp = self.now().as_secs() + secs;
        let sql = "UPDATE keys SET exp = $1 WHERE kid = $2";
        self.sql.rows(sql, &[Integer(exp), Integer(kid)]);
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
            self.execute("DELETE FROM key_times WHERE kid = $1", kid);
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
        self.sql.rows(sql, &[Integer(kid)]);
    }

    /// All processes end, and start without their database.
    pub async fn new_database(&mut self) {
        for (who, process) in self.processes.iter().enumerate() {
            self.engine.close(who, process.store.clone()).await;
        }
        self.engine.renew();
        self.observer.rows.clear();
        self.observer.revoked.clear();
        let parts: Vec<_> = self.processes.iter().map(|p| p.parts).collect();
        for (who, parts) in parts.into_iter().enumerate() {
            self.processes[who] = self.start(who, parts).await;
        }
        self.sql = self.engine.sql();
    }
}
