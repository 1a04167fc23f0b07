//! Steps of replicas alone: connections that are lost, and operations on one replica
//! while others work.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::database::Reason;
use crate::observer::{Checked, KeyRecord, promise};
use crate::process::Process;
use crate::schedule::Who;
use crate::simulation::{Simulation, wait_at_most};

impl Simulation {
    /// The tick may end well or not, whatever it has written.
    pub async fn cut_off(&mut self, who: Who, waits: usize) -> Checked {
        if self.processes[who].is_cut_off {
            return self.tick(who).await;
        }
        let before = self.observer.rows.clone();
        let loaded = Arc::clone(&self.processes[who].ring.snapshot());
        let ticked = {
            let mut tick = pin!(self.processes[who].start_tick());
            let done = wait_at_most(waits, tick.as_mut()).await;
            self.engine.allow(who, false);
            match done {
                Some(ticked) => ticked,
                None => tick.await,
            }
        };
        self.processes[who].is_cut_off = true;
        if ticked.is_ok() {
            self.after_tick(&[who])?;
            return self.observer.check_ticked(&self.processes[who], self.now());
        }
        self.observe(Reason::WasDue)?;
        self.check_deleted(&[who], &before)?;
        let has_loaded = !Arc::ptr_eq(&loaded, &self.processes[who].ring.snapshot());
        if has_loaded {
            self.note_loaded(who, before);
        }
        Ok(())
    }

    /// A tick loaded the keys, and failed before it had loaded what it wrote.
    fn note_loaded(&mut self, who: Who, mut before: BTreeMap<i64, KeyRecord>) {
        let now = self.now();
        let process = &mut self.processes[who];
        let kids = process.in_memory();
        before.extend(&self.observer.rows);
        before.retain(|kid, _| kids.contains(kid));
        process.last_load = Some(now);
        process.rows = process.own_rows(&before, now);
    }

    pub fn reconnect(&mut self, who: Who) {
        if self.processes[who].is_cut_off {
            self.engine.allow(who, true);
            self.processes[who].is_cut_off = false;
        }
    }

    /// Each adds the key that it was asked for.
    pub async fn rotate_together(&mut self) -> Checked {
        let connected = self.connected();
        if !self.can_all_seal(&connected) {
            return Ok(());
        }
        let operations = connected
            .iter()
            .map(|who| self.processes[*who].operations());
        let operations: Vec<_> = operations.collect();
        let rotated = join_all(operations.iter().map(|it| it.rotate())).await;
        let added = self.observe(Reason::Rotated)?;
        promise!(
            added == connected.len() && rotated.iter().all(Result::is_ok),
            "promise 7: rotations at once added {added} keys: {rotated:?}"
        );
        for (kid, signs_from) in rotated.into_iter().flatten() {
            let row = self.observer.rows.get(&kid.as_i64());
            promise!(
                row.is_some_and(|row| row.signs_from == signs_from),
                "{kid} is said to sign from {signs_from}, and is {row:?}"
            );
        }
        Ok(())
    }

    /// All keys from before go, and a key that a tick makes before it too.
    pub async fn emergency_meanwhile(&mut self, who: Who) -> Checked {
        let connected = self.connected();
        if self.processes[who].is_cut_off || !self.can_all_seal(&connected) {
            return Ok(());
        }
        let before = self.observer.rows.clone();
        let operations = self.processes[who].operations();
        let replaced = operations.emergency_rotate("leaked".into());
        let processes = self.processes.iter_mut().filter(|it| !it.is_cut_off);
        let ticks = join_all(processes.map(Process::tick));
        let (replaced, ticked) = tokio::join!(replaced, ticks);
        promise!(
            ticked.iter().all(Result::is_ok),
            "promise 1: ticks failed in an emergency: {ticked:?}"
        );
        let (new, _) = replaced.map_err(|e| format!("no emergency: {e}"))?;
        let (now, revoked) = (self.now(), self.sql_revoked());
        for (kid, row) in &mut self.observer.rows {
            if revoked.contains_key(kid) && self.observer.revoked.insert(*kid) {
                row.exp = row.exp.min(now);
            }
        }
        let there = self.order.len();
        self.observe(Reason::Emergency)?;
        self.check_deleted(&connected, &before)?;
        let Some(number) = self.observer.rows.get(&new.as_i64()).map(|row| row.number) else {
            return Err(format!("{new} was not added"));
        };
        promise!(number >= there, "{new} was there before");
        let rows = self.observer.rows.iter();
        let older = rows.filter(|(_, row)| !row.revoked && row.number < number);
        for kid in older.map(|(kid, _)| *kid).collect::<Vec<_>>() {
            promise!(revoked.contains_key(&kid), "{kid} survives an emergency");
            self.note_revoked(kid);
        }
        self.sign_with(new).await
    }

    /// True when each of them opens a key that is published, so that its next key can be
    /// sealed under that key's entry of `NOT_MY_KEY`; or when none is published.
    fn can_all_seal(&mut self, all: &[Who]) -> bool {
        let now = self.now();
        let rows = self.observer.rows.values();
        let published: Vec<_> = rows.filter(|row| row.is_published(now)).collect();
        let opens = |who: &Who| {
            let entries = &self.processes[*who].entries;
            published.iter().any(|row| row.opens_under(entries))
        };
        let can_seal = published.is_empty() || all.iter().all(opens);
        self.sealing = (0..=self.newest_entry).collect();
        can_seal
    }
}
