//! Operations on the keys: rotate, replace all, revoke, reencrypt; each with the
//! outcome that it must have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jwks_server::domain::key_admin::{KeyOperations, Reencrypted, RevokeError};
use jwks_server::domain::rotation::RotationError;
use jwks_server::lifecycle::{Kid, Policy};
use jwks_server::store::{Store, StoreError};

use crate::database::Reason;
use crate::key_source::{Maker, Source};
use crate::observer::{Checked, KeyRecord, promise};
use crate::postgres::OPERATOR;
use crate::schedule::{By, Operation, Who};
use crate::sealing_keys::{Entries, in_use, opened_by, sealing_keys};
use crate::simulation::{Simulation, cut_off};
use crate::sql::Row;
use crate::sql::Value::{Bytes, Integer};

/// An operator's process, with its entries of `NOT_MY_KEY`.
struct Operator {
    operations: KeyOperations,
    entries: Entries,
    /// The wait in which it is killed.
    cut: Option<usize>,
}

impl Operator {
    /// Result of `step`; none if it was cut off.
    async fn run<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        match self.cut {
            Some(waits) => cut_off(waits, step).await,
            None => Some(step.await),
        }
    }
}

impl Simulation {
    pub async fn operate(&mut self, operation: Operation, by: By, is_told: bool) -> Checked {
        let is_new_entry = matches!((operation, by), (Operation::Reencrypt, By::Another(_)));
        self.newest_entry += usize::from(is_new_entry);
        match by {
            By::Process(who) if !self.processes[who % self.processes.len()].is_cut_off => {
                let operator = self.within(who % self.processes.len());
                self.carry_out(operation, operator, None).await?;
            }
            by => {
                let cut = match by {
                    By::Process(_) => None,
                    By::Another(cut) => cut,
                };
                let store = self.engine.open(OPERATOR).await;
                let operator = self.another(&store, cut);
                self.carry_out(operation, operator, Some(store)).await?;
            }
        }
        if is_told {
            for who in 0..self.processes.len() {
                self.tick(who).await?;
            }
        }
        Ok(())
    }

    /// One within a process.
    fn within(&self, who: Who) -> Operator {
        let process = &self.processes[who];
        Operator {
            operations: process.operations(),
            entries: process.entries.clone(),
            cut: None,
        }
    }

    /// One with a process of its own, under the policy of the first.
    fn another(&self, store: &Store, cut: Option<usize>) -> Operator {
        let (policy, entries) = (self.processes[0].parts, in_use(self.newest_entry));
        let source = Source {
            stock: Arc::clone(&self.stock),
            clock: Arc::clone(&self.clock),
            store: store.clone(),
            maker: Maker {
                who: usize::MAX,
                policy,
                entry: entries[0],
            },
            fault: Mutex::default(),
        };
        let operations = KeyOperations {
            store: store.clone(),
            sealing_keys: sealing_keys(&entries),
            source: Arc::new(source),
            policy: Policy::new(policy).unwrap(),
            clock: Arc::clone(&self.clock) as _,
        };
        Operator {
            operations,
            entries,
            cut,
        }
    }

    async fn carry_out(&mut self, what: Operation, by: Operator, own: Option<Store>) -> Checked {
        match what {
            Operation::Rotate => self.rotate(by, own).await,
            Operation::Emergency => self.emergency_rotate(by, own).await,
            Operation::Revoke(row) => self.revoke(row, by, own).await,
            Operation::Reencrypt => self.reencrypt(by, own).await,
        }
    }

    /// The entries under which the operator's next key may be sealed: those that
    /// published keys are under already. None when it opens not one of them.
    fn choose_sealing(&mut self, by: &Operator) -> bool {
        let now = self.now();
        let rows = self.observer.rows.values();
        let published: Vec<_> = rows
            .filter(|row| row.has_right_types && row.is_published(now))
            .collect();
        let opened = published.iter().filter(|row| row.opens_under(&by.entries));
        self.sealing = match published.is_empty() {
            true => vec![by.entries[0]],
            false => opened.map(|row| row.entry).collect(),
        };
        !self.sealing.is_empty()
    }

    /// The new key is announced like any other.
    async fn rotate(&mut self, by: Operator, own: Option<Store>) -> Checked {
        let can_seal = self.choose_sealing(&by);
        let rotated = by.run(by.operations.rotate()).await;
        self.end(own).await;
        let added = self.observe(Reason::Rotated)?;
        let Some(rotated) = rotated else {
            promise!(added <= 1, "{added} keys were added");
            return Ok(());
        };
        if let Err(RotationError::OtherSealingKey) = rotated {
            promise!(!can_seal && added == 0, "a rotation was refused");
            return Ok(());
        }
        let (kid, signs_from) = rotated.map_err(|e| format!("no rotation: {e}"))?;
        promise!(added == 1, "a rotation added {added} keys");
        promise!(
            self.order.last() == Some(&kid.as_i64()),
            "{kid} was not added"
        );
        promise!(
            signs_from == self.observer.rows[&kid.as_i64()].signs_from,
            "{kid} is said to sign from {signs_from}"
        );
        Ok(())
    }

    /// All go, and the new key signs at once. Marked are expired ones too, and rows
    /// with values of the wrong type.
    async fn emergency_rotate(&mut self, by: Operator, own: Option<Store>) -> Checked {
        let (now, can_seal) = (self.now(), self.choose_sealing(&by));
        let replaced = by
            .run(by.operations.emergency_rotate("leaked".into()))
            .await;
        self.end(own).await;
        let rows = self.observer.rows.iter();
        let marked = rows.filter(|(_, row)| !row.revoked);
        let is_there = |row: &KeyRecord| row.has_right_types && row.is_published(now);
        let (marked, there): (Vec<_>, Vec<_>) = marked
            .map(|(kid, row)| (*kid, is_there(row).then_some(*kid)))
            .unzip();
        let there: Vec<_> = there.into_iter().flatten().collect();
        if let Some(Err(RotationError::OtherSealingKey)) = replaced {
            let added = self.observe(Reason::Emergency)?;
            promise!(!can_seal && added == 0, "an emergency was refused");
            return Ok(());
        }
        let was_done = replaced.is_some() || self.sql_revoked().keys().any(|k| marked.contains(k));
        if was_done {
            for kid in &marked {
                self.note_revoked(*kid);
            }
        }
        let added = self.observe(Reason::Emergency)?;
        let Some(replaced) = replaced else {
            let expected = added == usize::from(was_done) || marked.is_empty();
            promise!(expected, "an emergency was half done: {added} keys more");
            return Ok(());
        };
        let (new, gone) = replaced.map_err(|e| format!("no emergency: {e}"))?;
        let gone = gone.iter().map(|kid| kid.parse::<i64>().unwrap());
        let mut gone: Vec<_> = gone.collect();
        gone.sort_unstable();
        promise!(gone == there, "{gone:?} went, {there:?} were there");
        promise!(added == 1, "an emergency added {added} keys");
        self.sign_with(new).await
    }

    /// Ticks, after which each process signs with a key that signs at once.
    pub async fn sign_with(&mut self, new: Kid) -> Checked {
        let now = self.now();
        for who in self.connected() {
            self.tick(who).await?;
            let (process, rows) = (&self.processes[who], &self.observer.rows);
            let new = rows[&new.as_i64()];
            // A process that could not open it has made another, just now.
            let signs = |kid| rows[&kid].number >= new.number && rows[&kid].signs_from <= now;
            // Under another policy the rest of its life may be within the clock skew.
            let can_sign = new.opens_under(&process.entries) && now < new.exp - process.parts.skew;
            promise!(
                !can_sign || process.signer(now).is_some_and(signs),
                "{new:?} does not sign at once: {rows:?}"
            );
        }
        Ok(())
    }

    /// Refused when nothing would be left to sign, and only then.
    async fn revoke(&mut self, row: usize, by: Operator, own: Option<Store>) -> Checked {
        let kid = self.pick(row).unwrap_or(-1);
        let revoking = by.operations.revoke(kid, "leaked".into());
        let revoked = by.run(revoking).await;
        self.end(own).await;
        let may = self.may_revoke(kid, &by.entries);
        match (&revoked, may) {
            (None, _)
            | (Some(Ok(())), Ok(()))
            | (Some(Err(RevokeError::Unknown(_))), Err("unknown"))
            | (Some(Err(RevokeError::NotPublished(_))), Err("not published"))
            | (Some(Err(RevokeError::LastOne(_))), Err("the last")) => {}
            _ => return Err(format!("revoking {kid}: {revoked:?}, expected {may:?}")),
        }
        let cut_late = revoked.is_none()
            && !self.observer.revoked.contains(&kid)
            && self.sql_revoked().contains_key(&kid);
        promise!(!cut_late || may.is_ok(), "{kid} was revoked: {may:?}");
        if cut_late || matches!(revoked, Some(Ok(()))) {
            self.note_revoked(kid);
        }
        let added = self.observe(Reason::WasDue)?;
        promise!(added == 0, "revoking added {added} keys");
        Ok(())
    }

    fn may_revoke(&self, kid: i64, entries: &[usize]) -> Result<(), &'static str> {
        let now = self.now();
        let key = self.observer.rows.get(&kid).ok_or("unknown")?;
        if !key.has_right_types || !key.is_published(now) {
            return Err("not published");
        }
        let rest = self
            .observer
            .rows
            .iter()
            .filter(|(other, _)| **other != kid);
        let can_sign =
            |row: &KeyRecord| row.opens_under(entries) && row.may_sign() && row.is_published(now);
        rest.map(|(_, row)| row)
            .any(can_sign)
            .then_some(())
            .ok_or("the last")
    }

    pub fn note_revoked(&mut self, kid: i64) {
        let now = self.now();
        let row = self.observer.rows.get_mut(&kid).unwrap();
        row.revoked = true;
        row.exp = row.exp.min(now);
        self.observer.revoked.insert(kid);
        // An `exp` of the wrong type was later than now.
        self.reread(kid);
    }

    /// All that opened opens under the first entry alone, or nothing has changed.
    async fn reencrypt(&mut self, by: Operator, own: Option<Store>) -> Checked {
        let before = self.sealed();
        let done: Option<Result<Reencrypted, StoreError>> = by.run(by.operations.reencrypt()).await;
        self.end(own).await;
        let after = self.sealed();
        promise!(before.len() == after.len(), "rows have come or gone");
        let was_done = done.is_some() || before != after;
        let mut count = Reencrypted {
            unreadable: self.observer.rows.len() - before.len(),
            ..Reencrypted::default()
        };
        for (kid, old) in &before {
            let new = &after[kid];
            match opened_by(self.newest_entry, old).filter(|(n, _)| by.entries.contains(n)) {
                Some((entry, plain)) if entry != by.entries[0] => {
                    let moved = opened_by(self.newest_entry, new) == Some((by.entries[0], plain));
                    promise!(moved || !was_done, "{kid} was lost, or left behind");
                    count.changed += 1;
                }
                opened => {
                    promise!(old == new, "{kid} was changed without need");
                    count.unchanged += usize::from(opened.is_some());
                    count.unreadable += usize::from(opened.is_none());
                }
            }
        }
        if let Some(done) = done {
            let done = done.map_err(|e| format!("not encrypted anew: {e}"))?;
            promise!(done == count, "{done:?} were said to be {count:?}");
        }
        for kid in self.observer.rows.keys().copied().collect::<Vec<_>>() {
            let was_intact = self.observer.rows[&kid].intact;
            self.reread(kid);
            let is_intact = self.observer.rows[&kid].intact;
            promise!(was_intact == is_intact, "{kid} was lost");
        }
        Ok(())
    }

    /// The sealed keys of rows whose values have the right types.
    fn sealed(&self) -> BTreeMap<i64, Vec<u8>> {
        let rows = self.sql.rows("SELECT kid, key, exp FROM keys", &[]);
        let read = |row: Row| match &row[..] {
            [Integer(kid), Bytes(sealed), Integer(_)] => Some((*kid, sealed.clone())),
            _ => None,
        };
        rows.into_iter().filter_map(read).collect()
    }

    /// Number of times that the history says of each key that it was revoked.
    pub fn sql_revoked(&self) -> BTreeMap<i64, i64> {
        self.count_events("revoked")
    }

    fn count_events(&self, event: &str) -> BTreeMap<i64, i64> {
        self.sql.integers(&format!(
            "SELECT kid, count(*) FROM key_events WHERE event = '{event}' GROUP BY kid"
        ))
    }

    /// The history has each thing that happens once to a key, once.
    pub fn check_events(&self) -> Checked {
        let revoked = self.sql_revoked();
        promise!(
            revoked.keys().eq(&self.observer.revoked) && revoked.values().all(|n| *n == 1),
            "revoked are {:?}, but the history has {revoked:?}",
            self.observer.revoked
        );
        let created = self.count_events("created");
        let deleted = self.count_events("deleted");
        let is_legacy = |kid: &i64| *kid < 100;
        let mut ours = self.observer.rows.keys().filter(|kid| !is_legacy(kid));
        promise!(
            ours.all(|kid| created.contains_key(kid)) && created.values().all(|n| *n == 1),
            "the history does not have each key created once: {created:?}"
        );
        promise!(
            deleted.values().all(|n| *n == 1)
                && !deleted
                    .keys()
                    .any(|kid| self.observer.rows.contains_key(kid)),
            "the history does not have each key deleted once: {deleted:?}"
        );
        Ok(())
    }

    /// The process of an operator ends.
    async fn end(&self, own: Option<Store>) {
        if let Some(store) = own {
            self.engine.close(OPERATOR, store).await;
        }
    }
}
