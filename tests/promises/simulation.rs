//! A simulation: one database, the processes on it, a clock, and an observer,
//! which plays the steps of a schedule and checks the promises after each.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use jwks_server::clock::{Clock as _, UnixTime};
use jwks_server::lifecycle::{Kid, PolicyParts};
use tempfile::TempDir;

use crate::database::{Original, Reason};
use crate::engine::Engine;
use crate::key_source::{GenerationFault, KeyStock};
use crate::manual_clock::ManualClock;
use crate::observer::{ALWAYS, Checked, KeyRecord, Observer, lead_with_margin, promise};
use crate::process::Process;
use crate::schedule::{Edge, Schedule, Step, Who, policy};
use crate::sealing_keys::{in_use, sealing_keys};
use crate::sql::Sql;
use crate::sql::Value::{Bytes, Integer};

/// The beginning of test time: 2027-01-15T08:00:00Z.
pub const START: UnixTime = UnixTime::from_secs(1_800_000_000);

/// A directory of its own, in memory where that can be had: each commit is
/// synced, and no disk is tested here.
pub fn temp_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.unwrap()
}

pub struct Simulation {
    pub engine: Engine,
    pub clock: Arc<ManualClock>,
    pub stock: Arc<KeyStock>,
    pub processes: Vec<Process>,
    pub sql: Sql,
    pub observer: Observer,
    /// The kids in the order in which they were made.
    pub order: Vec<i64>,
    pub originals: BTreeMap<i64, Original>,
    /// The newest entry of `NOT_MY_KEY`.
    pub newest_entry: usize,
    /// Those under which an operator's next key may be sealed.
    pub sealing: Vec<usize>,
    /// The clock was set back, ever.
    pub clock_went_back: bool,
    /// The time before the current step.
    began: UnixTime,
}

/// Plays a schedule on a file. `Err` names the step and the promise that it broke.
pub async fn play(schedule: &Schedule) -> Checked {
    play_on(Engine::sqlite(), schedule).await
}

/// The same on an empty database of either engine.
pub async fn play_on(engine: Engine, schedule: &Schedule) -> Checked {
    let mut simulation = Simulation::new(engine, schedule).await;
    let mut played = Ok(());
    for (n, step) in schedule.steps.iter().enumerate() {
        played = simulation.play(step).await.map_err(|e| {
            let at = simulation.now().as_secs() - START.as_secs();
            format!("step {n}, {step:?}, ends at {at} s: {e}")
        });
        if played.is_err() {
            break;
        }
    }
    for (who, process) in simulation.processes.into_iter().enumerate() {
        simulation.engine.close(who, process.store).await;
    }
    played
}

impl Simulation {
    async fn new(engine: Engine, schedule: &Schedule) -> Self {
        let mut simulation = Self {
            sql: engine.sql(),
            clock: engine.clock(),
            engine,
            stock: Arc::default(),
            processes: Vec::new(),
            observer: Observer::default(),
            order: Vec::new(),
            originals: BTreeMap::new(),
            newest_entry: 0,
            sealing: Vec::new(),
            clock_went_back: false,
            began: START,
        };
        for (n, row) in schedule.rows.iter().enumerate() {
            simulation.add_legacy_row(n, row.ends_in);
        }
        for (who, n) in schedule.processes.iter().enumerate() {
            let process = simulation.start(who, policy(*n)).await;
            simulation.processes.push(process);
        }
        simulation
    }

    fn add_legacy_row(&mut self, n: usize, ends_in: i64) {
        let kid = i64::try_from(n).unwrap() + 1;
        let key = self.stock.next();
        let thumbprint = Kid::from_thumbprint(&key.public().thumbprint()).as_i64();
        let plain = key.to_pem();
        let sealed = sealing_keys(&[0]).seal(plain.as_bytes());
        let exp = START.as_secs() + ends_in;
        let sql = "INSERT INTO keys (kid, key, exp) VALUES ($1, $2, $3)";
        let row = [Integer(kid), Bytes(sealed.clone()), Integer(exp)];
        self.sql.rows(sql, &row);
        // As if it had been there when the file was taken over.
        let sql = "INSERT INTO earlier_keys (kid, thumbprint) VALUES ($1, $2)";
        self.sql.rows(sql, &[Integer(kid), Integer(thumbprint)]);
        self.originals
            .insert(kid, Original::of(sealed, plain.as_bytes()));
        self.order.push(kid);
        let record = KeyRecord {
            signs_from: ALWAYS,
            exp: UnixTime::from_secs(exp),
            intact: true,
            entry: 0,
            revoked: false,
            has_right_types: true,
            number: n,
        };
        self.observer.rows.insert(kid, record);
    }

    pub async fn start(&self, who: Who, parts: PolicyParts) -> Process {
        let (store, entries) = (self.engine.open(who).await, in_use(self.newest_entry));
        Process::over(store, who, parts, entries, &self.clock, &self.stock)
    }

    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    async fn play(&mut self, step: &Step) -> Checked {
        self.began = self.now();
        match step {
            Step::Pass(secs) => self.pass(*secs),
            Step::PassUntil(edge, row, more) => self.pass_until(*edge, *row, *more),
            Step::Jump(secs) => self.jump(*secs),
            Step::Tick(who) => self.tick(who % self.processes.len()).await?,
            Step::TickTogether => self.tick_together().await?,
            Step::TickWith(fault, who) => {
                self.tick_with(fault, who % self.processes.len()).await?;
            }
            Step::Kill(who, waits) => self.kill(who % self.processes.len(), *waits).await?,
            Step::Restart(who, policy) => {
                self.restart(who % self.processes.len(), *policy).await;
            }
            Step::RowFault(damage, row) => self.damage(*damage, *row),
            Step::Repair => self.repair(),
            Step::NewDatabase => self.new_database().await,
            Step::CutOff(who, waits) => self.cut_off(who % self.processes.len(), *waits).await?,
            Step::Reconnect(who) => self.reconnect(who % self.processes.len()),
            Step::RotateTogether => self.rotate_together().await?,
            Step::EmergencyMeanwhile(who) => {
                self.emergency_meanwhile(who % self.processes.len()).await?;
            }
            Step::Operate(operation, by, is_told) => {
                self.operate(*operation, *by, *is_told).await?
            }
        }
        self.check_events()?;
        let (now, elapsed) = (self.now(), self.clock.monotonic());
        for process in &self.processes {
            self.observer.check(process, now, elapsed).await?;
            self.observer
                .check_thumbprints(&process.key_set(now), |kid| kid < 100)?;
        }
        Ok(())
    }

    /// Somebody sets the clock; no time goes by.
    fn jump(&mut self, secs: i64) {
        let to = UnixTime::from_secs(self.now().as_secs() + secs);
        self.clock.step_to(to);
        for process in &self.processes {
            process.settles_from.set(None);
        }
        self.clock_went_back |= secs < 0;
        for creation in self.observer.creations.values_mut() {
            creation.clock_was_set = true;
        }
    }

    fn pass(&self, secs: i64) {
        let secs = u64::try_from(secs).unwrap_or(0);
        self.clock.advance(Duration::from_secs(secs));
    }

    fn pass_until(&self, edge: Edge, row: usize, more: i64) {
        let parts = &self.processes[0].parts;
        let Some(kid) = self.pick(row) else {
            return;
        };
        let key = self.observer.rows[&kid];
        let signs_until = key.exp - parts.token_lifetime - parts.skew;
        let moment = match edge {
            Edge::SignsFrom => key.signs_from,
            Edge::NextDue => signs_until - lead_with_margin(parts),
            Edge::EndOfSigning => signs_until,
            Edge::Expiry => key.exp,
            Edge::Deletion => key.exp + parts.retention,
        };
        let wait = moment.as_secs().saturating_sub(self.now().as_secs());
        // No waiting for the end of a key that lasts for years.
        self.pass((wait.saturating_add(more)).min(8 * 86_400));
    }

    /// A row by its number, in the order in which they were made.
    pub fn pick(&self, row: usize) -> Option<i64> {
        let is_there = |kid: &&i64| self.observer.rows.contains_key(*kid);
        let rows: Vec<_> = self.order.iter().filter(is_there).collect();
        rows.get(row % rows.len().max(1)).map(|kid| **kid)
    }

    /// The processes that are not cut off.
    pub fn connected(&self) -> Vec<Who> {
        let all = 0..self.processes.len();
        all.filter(|who| !self.processes[*who].is_cut_off).collect()
    }

    /// A tick that must go well, or fail while the process is cut off.
    pub async fn tick(&mut self, who: Who) -> Checked {
        let ticked = self.processes[who].tick().await;
        if self.processes[who].is_cut_off {
            promise!(ticked.is_err(), "it ticks without a connection");
            let added = self.observe(Reason::WasDue)?;
            promise!(added == 0, "a tick without a connection added {added} keys");
            return Ok(());
        }
        promise!(ticked.is_ok(), "promise 1: a tick failed: {ticked:?}");
        let added = self.after_tick(&[who])?;
        promise!(added <= 1, "a tick added {added} keys");
        self.observer.check_ticked(&self.processes[who], self.now())
    }

    async fn tick_together(&mut self) -> Checked {
        let connected = self.connected();
        let alike = |who: &Who| (self.processes[*who].parts, &self.processes[*who].entries);
        let all_alike = connected
            .windows(2)
            .all(|pair| alike(&pair[0]) == alike(&pair[1]));
        let were_alike = self.are_alike(&connected);
        let before = self.observer.rows.clone();
        let ticks = join_all(self.processes.iter_mut().map(Process::tick)).await;
        for (process, ticked) in self.processes.iter().zip(&ticks) {
            promise!(
                ticked.is_ok() != process.is_cut_off,
                "promise 7: ticks failed: {ticks:?}"
            );
        }
        let added = self.after_tick(&connected)?;
        promise!(
            !all_alike || added <= 1,
            "promise 7: ticks at once added {added} keys to {before:?}"
        );
        for who in &connected {
            let signs = self.processes[*who].signer(self.now()).is_some();
            promise!(signs, "promise 1: no key signs after ticks at once");
        }
        self.tick_again(&connected, were_alike).await
    }

    /// Another round at the same moment finds nothing to do.
    ///
    /// Unless the processes have not had the same damaged keys in memory, as
    /// `were_alike` says: then they may not agree on which of the expired ones
    /// is the last, that is, the one to keep.
    async fn tick_again(&mut self, all: &[Who], were_alike: bool) -> Checked {
        let are_alike = were_alike && self.are_alike(all);
        for who in all {
            let now = self.now();
            let rows = |rows: &BTreeMap<i64, KeyRecord>| -> Vec<i64> {
                let matters = |(_, row): &(&i64, &KeyRecord)| are_alike || now < row.exp;
                rows.iter().filter(matters).map(|(kid, _)| *kid).collect()
            };
            let before = rows(&self.observer.rows);
            self.tick(*who).await?;
            let is_same = rows(&self.observer.rows) == before;
            promise!(is_same, "promise 7: the second of two ticks did something");
        }
        Ok(())
    }

    /// True when the processes can all use the same rows.
    fn are_alike(&self, all: &[Who]) -> bool {
        let readable_kids = |who: &Who| self.processes[*who].readable_kids(&self.observer.rows);
        all.windows(2)
            .all(|pair| readable_kids(&pair[0]) == readable_kids(&pair[1]))
    }

    /// Lets the observer read the database after ticks of `who`, and checks the rows
    /// that they deleted. Returns the number of added keys that may sign.
    pub fn after_tick(&mut self, who: &[Who]) -> Result<usize, String> {
        let now = self.now();
        let before = self.observer.rows.clone();
        let added = self.observe(Reason::WasDue)?;
        self.check_deleted(who, &before)?;
        for who in who {
            let process = &mut self.processes[*who];
            process.last_load = Some(now);
            process.rows = process.own_rows(&self.observer.rows, now);
        }
        Ok(added)
    }

    /// A tick that may fail; its process goes on, unless it has lost the database.
    async fn tick_with(&mut self, fault: &GenerationFault, who: Who) -> Checked {
        if self.processes[who].is_cut_off {
            return self.tick(who).await;
        }
        let process = &mut self.processes[who];
        process.prepare(fault.clone());
        let ticked = process.tick().await;
        self.after_tick(&[who])?;
        if ticked.is_ok() {
            self.observer
                .check_ticked(&self.processes[who], self.now())?;
        }
        let must_go_well = matches!(fault, GenerationFault::Slow(_));
        promise!(
            ticked.is_ok() || !must_go_well,
            "promise 1: a slow tick failed: {ticked:?}"
        );
        if matches!(fault, GenerationFault::StoreCloses) {
            self.restart(who, None).await;
        }
        Ok(())
    }

    /// Ends a process when its tick waits for the n-th time. Were it the only
    /// one, then the next finds the files as they were at that moment.
    async fn kill(&mut self, who: Who, waits: usize) -> Checked {
        cut_off(waits, self.processes[who].start_tick()).await;
        if self.processes.len() == 1 {
            self.engine.copy_file();
            self.sql = self.engine.sql();
        }
        // A write that it has begun is over before another process reads.
        let store = self.processes[who].store.clone();
        self.engine.close(who, store).await;
        let before = self.observer.rows.clone();
        self.observe(Reason::WasDue)?;
        self.check_deleted(&[who], &before)?;
        self.restart(who, None).await;
        Ok(())
    }

    /// Each row that is gone was one that a process of `who` may delete.
    pub fn check_deleted(&self, who: &[Who], before: &BTreeMap<i64, KeyRecord>) -> Checked {
        let now = self.now();
        let after = &self.observer.rows;
        // A row that was dated ahead may have moved back and be over at once.
        let may_have_moved = |kid: &i64| self.clock_went_back && self.began < before[kid].exp;
        let verdicts = |kid, who: &Who| {
            let process = &self.processes[*who];
            let over = now - process.parts.retention;
            let own_rows = |rows| process.own_rows(rows, now);
            let pairs = [
                (own_rows(before), own_rows(after)),
                // It may have had more in memory when it deleted the row.
                (process.widest_rows(before), process.widest_rows(after)),
            ];
            pairs.map(|(before, after)| Observer::check_deleted(kid, &before, &after, over, now))
        };
        let gone = before.keys().filter(|kid| !after.contains_key(kid));
        for kid in gone.filter(|kid| !may_have_moved(kid)) {
            let verdicts: Vec<_> = who.iter().flat_map(|who| verdicts(*kid, who)).collect();
            let best = verdicts.iter().find(|kept| kept.is_ok());
            best.unwrap_or(&verdicts[0]).clone()?;
        }
        Ok(())
    }

    /// One that is cut off can connect again.
    async fn restart(&mut self, who: Who, other: Option<usize>) {
        let parts = other.map_or(self.processes[who].parts, policy);
        self.reconnect(who);
        // Between two processes on one database, the old one ends first.
        let store = self.processes[who].store.clone();
        self.engine.close(who, store).await;
        self.processes[who] = self.start(who, parts).await;
    }
}

/// Polls until `step` is done or has waited `waits` times, then drops it.
pub async fn cut_off<T>(waits: usize, step: impl Future<Output = T>) -> Option<T> {
    wait_at_most(waits, pin!(step)).await
}

/// Polls until `step` is done or has waited `waits` times.
pub async fn wait_at_most<T>(
    waits: usize,
    mut step: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut left = waits;
    std::future::poll_fn(|context| {
        left = left.saturating_sub(1);
        match step.as_mut().poll(context) {
            Poll::Pending if left > 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
            Poll::Ready(done) => Poll::Ready(Some(done)),
        }
    })
    .await
}
