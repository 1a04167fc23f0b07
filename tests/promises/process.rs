//! One process of the service, without sockets: its own store, ring, rotation
//! and issuer over a file that it may share.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwks_server::clock::{Clock as _, StepWatch, UnixTime};
use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::domain::document::Document;
use jwks_server::domain::key_admin::KeyOperations;
use jwks_server::domain::key_ring::KeyRing;
use jwks_server::domain::rotation::{Rotation, RotationError};
use jwks_server::domain::tokens::{TokenIssuer, TokenKind};
use jwks_server::lifecycle::{self, Policy, PolicyParts};
use jwks_server::store::Store;
use serde_json::Value;

use crate::key_source::{GenerationFault, KeyStock, Maker, Source};
use crate::manual_clock::ManualClock;
use crate::observer::KeyRecord;
use crate::sealing_keys::{Entries, sealing_keys};

/// A key set as a verifier reads it: the modulus of each kid.
pub type KeySet = BTreeMap<i64, String>;

pub struct Process {
    pub parts: PolicyParts,
    pub policy: Policy,
    pub rotation: Rotation,
    pub ring: Arc<KeyRing>,
    pub store: Store,
    /// The time by its clock at which it last read the database.
    pub last_load: Option<UnixTime>,
    /// Monotonic time of the first good tick since the clock was set; see `is_settled`.
    pub settles_from: Cell<Option<Duration>>,
    /// The rows of the database then; intact are those that this process can use.
    pub rows: BTreeMap<i64, KeyRecord>,
    /// Its connections to PostgreSQL are lost, and it can make none.
    pub is_cut_off: bool,
    /// The keys that it had opened before its latest tick.
    opened: BTreeSet<i64>,
    /// The entries of its `NOT_MY_KEY`.
    pub entries: Entries,
    sealing_keys: Arc<SealingKeys>,
    source: Arc<Source>,
    issuer: TokenIssuer,
    clock: Arc<ManualClock>,
    /// Key sets by their entity tags.
    read: Mutex<BTreeMap<Vec<u8>, Arc<KeySet>>>,
}

/// A live token, as read from its text.
#[derive(Clone, Debug)]
pub struct Token {
    pub kid: i64,
    pub iat: UnixTime,
    pub exp: UnixTime,
    text: String,
}

impl Process {
    /// Starts as number `who` on a file, with nothing in memory.
    pub fn start(
        path: &Path,
        who: usize,
        parts: PolicyParts,
        entries: Entries,
        clock: &Arc<ManualClock>,
        stock: &Arc<KeyStock>,
    ) -> Self {
        let store = Store::open(path).unwrap();
        Self::over(store, who, parts, entries, clock, stock)
    }

    /// The same on either engine.
    pub fn over(
        store: Store,
        who: usize,
        parts: PolicyParts,
        entries: Entries,
        clock: &Arc<ManualClock>,
        stock: &Arc<KeyStock>,
    ) -> Self {
        let policy = Policy::new(parts).unwrap();
        let sealing_keys = sealing_keys(&entries);
        let maker = Maker {
            who,
            policy: parts,
            entry: entries[0],
        };
        let ring = Arc::new(KeyRing::default());
        let source = Arc::new(Source {
            stock: Arc::clone(stock),
            clock: Arc::clone(clock),
            store: store.clone(),
            maker,
            fault: Mutex::default(),
        });
        let rotation = Rotation::new(
            store.clone(),
            Arc::clone(&ring),
            Arc::clone(&sealing_keys),
            Arc::clone(&source) as _,
            policy,
            Arc::clone(clock) as _,
        );
        Self {
            issuer: TokenIssuer::new(Arc::clone(&ring), policy, None, None),
            clock: Arc::clone(clock),
            last_load: None,
            settles_from: Cell::default(),
            rows: BTreeMap::new(),
            is_cut_off: false,
            opened: BTreeSet::new(),
            read: Mutex::default(),
            parts,
            policy,
            rotation,
            ring,
            store,
            entries,
            sealing_keys,
            source,
        }
    }

    /// Operations from within this process.
    pub fn operations(&self) -> KeyOperations {
        KeyOperations {
            store: self.store.clone(),
            sealing_keys: Arc::clone(&self.sealing_keys),
            source: Arc::clone(&self.source) as _,
            policy: self.policy,
            clock: Arc::clone(&self.clock) as _,
        }
    }

    /// The next key made in this process meets `fault`.
    pub fn prepare(&self, fault: GenerationFault) {
        *self.source.fault.lock().unwrap() = Some(fault);
    }

    /// True at a tick when an earlier one was long ago and nobody has set the clock since.
    pub fn is_settled(&self) -> bool {
        let mono = self.clock.monotonic();
        let since = self.settles_from.get().unwrap_or(mono);
        self.settles_from.set(Some(since));
        mono >= since + StepWatch::SETTLES_AFTER
    }

    /// A tick, after which no fault is left over.
    pub async fn tick(&mut self) -> Result<UnixTime, RotationError> {
        let done = self.start_tick().await;
        self.source.fault.lock().unwrap().take();
        done
    }

    /// A tick that may be cut off.
    pub fn start_tick(&mut self) -> impl Future<Output = Result<UnixTime, RotationError>> {
        self.opened = self.in_memory();
        self.rotation.tick()
    }

    /// `rows` as this process can use them after its latest tick, which ended at
    /// `now`: a row that does not open any more is as good as before to a
    /// process that has the key in memory. Which expired keys it keeps there
    /// is its own affair.
    pub fn own_rows(
        &self,
        rows: &BTreeMap<i64, KeyRecord>,
        now: UnixTime,
    ) -> BTreeMap<i64, KeyRecord> {
        let kept = self.in_memory();
        self.rows_with(rows, |kid, row| now < row.exp || kept.contains(kid))
    }

    /// The same, with all expired keys that it may have kept until its latest tick.
    pub fn widest_rows(&self, rows: &BTreeMap<i64, KeyRecord>) -> BTreeMap<i64, KeyRecord> {
        self.rows_with(rows, |_, _| true)
    }

    fn rows_with(
        &self,
        rows: &BTreeMap<i64, KeyRecord>,
        is_kept: impl Fn(&i64, &KeyRecord) -> bool,
    ) -> BTreeMap<i64, KeyRecord> {
        let is_intact = |kid, row: &KeyRecord| {
            row.opens_under(&self.entries)
                || (row.has_right_types && self.opened.contains(kid) && is_kept(kid, row))
        };
        rows.iter()
            .map(|(kid, row)| {
                let intact = is_intact(kid, row);
                (*kid, KeyRecord { intact, ..*row })
            })
            .collect()
    }

    /// The rows that its next tick can use.
    pub fn readable_kids(&self, rows: &BTreeMap<i64, KeyRecord>) -> Vec<i64> {
        let kept = self.in_memory();
        let is_readable = |(kid, row): &(&i64, &KeyRecord)| {
            row.opens_under(&self.entries) || (row.has_right_types && kept.contains(kid))
        };
        let readable_kids = rows.iter().filter(is_readable);
        readable_kids.map(|(kid, _)| *kid).collect()
    }

    pub fn in_memory(&self) -> BTreeSet<i64> {
        let snapshot = self.ring.snapshot();
        let kids = snapshot.times().iter().map(|key| key.kid.as_i64());
        kids.collect()
    }

    /// The key set that it gives out at `now`.
    pub fn key_set(&self, now: UnixTime) -> Arc<KeySet> {
        let snapshot = self.ring.snapshot();
        let Some(set) = snapshot.published(now) else {
            return Arc::default();
        };
        let mut read = self.read.lock().unwrap();
        if read.len() > 100 {
            read.clear();
        }
        let known = read.entry(set.etag.to_vec());
        Arc::clone(known.or_insert_with(|| Arc::new(parse(set))))
    }

    /// The kid that signs at `now`.
    pub fn signer(&self, now: UnixTime) -> Option<i64> {
        let snapshot = self.ring.snapshot();
        let key = snapshot.signing(&self.policy, now)?;
        Some(key.kid().as_i64())
    }

    /// The end of a token that is signed at `now`.
    pub fn token_end(&self, now: UnixTime) -> Option<UnixTime> {
        let snapshot = self.ring.snapshot();
        let key = snapshot.signing(&self.policy, now)?;
        Some(lifecycle::token_times(key.times(), &self.policy, now).1)
    }

    /// The kid of the key that signs expired tokens at `now`.
    pub fn expired_signer(&self, now: UnixTime) -> Option<i64> {
        let snapshot = self.ring.snapshot();
        let earliest = self.ring.reading(&*self.clock).earliest;
        Some(snapshot.expired(now, earliest)?.0.kid().as_i64())
    }

    /// A live token, for which there must be a key.
    pub async fn issue(&self) -> Token {
        let clock = &*self.clock;
        let issued = self.issuer.issue(TokenKind::Live, "alice".into(), clock);
        let issued = issued.await.unwrap();
        let (text, at) = (issued.token, issued.at);
        assert_eq!(at, clock.now());
        Token::parse(text)
    }
}

impl Token {
    fn parse(text: String) -> Self {
        let part = |n: usize| -> Value {
            let part = text.split('.').nth(n).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let claims = part(1);
        let time = |name: &str| UnixTime::from_secs(claims[name].as_i64().unwrap());
        Self {
            kid: part(0)["kid"].as_str().unwrap().parse().unwrap(),
            iat: time("iat"),
            exp: time("exp"),
            text,
        }
    }

    /// True when its signature is good under a key of `set`.
    pub fn verifies_against(&self, set: &KeySet) -> bool {
        let Some(n) = set.get(&self.kid) else {
            return false;
        };
        let key = jsonwebtoken::DecodingKey::from_rsa_components(n, "AQAB").unwrap();
        let (message, signature) = self.text.rsplit_once('.').unwrap();
        let rs256 = jsonwebtoken::Algorithm::RS256;
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, rs256).unwrap()
    }
}

fn parse(set: &Document) -> KeySet {
    let json: Value = serde_json::from_slice(&set.body).unwrap();
    let keys = json["keys"].as_array().unwrap();
    let parsed: KeySet = keys
        .iter()
        .map(|key| {
            let kid = key["kid"].as_str().unwrap().parse().unwrap();
            (kid, key["n"].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(parsed.len(), keys.len(), "a kid is twice in {json}");
    parsed
}
