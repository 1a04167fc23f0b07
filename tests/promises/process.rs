//! One process of the service, less its sockets: its own store, ring, rotation
//! and issuer over a file that it may share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwks_server::clock::{Clock as _, ManualClock, UnixTime};
use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::domain::key_admin::KeyOperations;
use jwks_server::domain::key_ring::{Document, KeyRing};
use jwks_server::domain::rotation::{Rotation, RotationError};
use jwks_server::domain::tokens::{TokenIssuer, TokenKind};
use jwks_server::lifecycle::{self, Policy, PolicyParts};
use jwks_server::store::Store;
use serde_json::Value;

use crate::history::Life;
use crate::secrets::{Entries, sealing_keys};
use crate::source::{Maker, Mishap, Source, Workshop};

/// A key set as a verifier reads it: the modulus of each kid.
pub type KeySet = BTreeMap<i64, String>;

pub struct Process {
    pub parts: PolicyParts,
    pub policy: Policy,
    pub rotation: Rotation,
    pub ring: Arc<KeyRing>,
    pub store: Store,
    /// When it last looked at the database, by the clock.
    pub looked: Option<UnixTime>,
    /// What was in the database then, and whether this process can use it.
    pub seen: BTreeMap<i64, Life>,
    /// The keys that it had opened before its latest tick.
    opened: BTreeSet<i64>,
    /// What it was given as `NOT_MY_KEY`.
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
    /// Starts as number `who` with nothing in memory.
    pub fn start(
        path: &Path,
        who: usize,
        parts: PolicyParts,
        entries: Entries,
        clock: &Arc<ManualClock>,
        workshop: &Arc<Workshop>,
    ) -> Self {
        let store = Store::open(path).unwrap();
        let policy = Policy::new(parts).unwrap();
        let sealing_keys = sealing_keys(&entries);
        let maker = Maker {
            who,
            policy: parts,
            entry: entries[0],
        };
        let ring = Arc::new(KeyRing::default());
        let source = Arc::new(Source {
            workshop: Arc::clone(workshop),
            clock: Arc::clone(clock),
            store: store.clone(),
            maker,
            mishap: Mutex::default(),
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
            looked: None,
            seen: BTreeMap::new(),
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

    /// What an operator does from within this process.
    pub fn operations(&self) -> KeyOperations {
        KeyOperations::new(
            self.store.clone(),
            Arc::clone(&self.sealing_keys),
            Arc::clone(&self.source) as _,
            self.policy,
            Arc::clone(&self.clock) as _,
        )
    }

    /// The next key made in this process meets `mishap`.
    pub fn prepare(&self, mishap: Mishap) {
        *self.source.mishap.lock().unwrap() = Some(mishap);
    }

    /// A tick, after which no mishap is left over.
    pub async fn tick(&mut self) -> Result<UnixTime, RotationError> {
        let done = self.start_tick().await;
        self.source.mishap.lock().unwrap().take();
        done
    }

    /// A tick that may be cut off.
    pub fn start_tick(&mut self) -> impl Future<Output = Result<UnixTime, RotationError>> {
        self.opened = self.in_memory();
        self.rotation.tick()
    }

    /// What `rows` are to this process after its latest tick, which ended at
    /// `now`: a row that does not open any more is as good as before to a
    /// process that has the key in memory. Which expired keys it keeps there
    /// is its own affair.
    pub fn view(&self, rows: &BTreeMap<i64, Life>, now: UnixTime) -> BTreeMap<i64, Life> {
        let kept = self.in_memory();
        self.view_of(rows, |kid, row| now < row.exp || kept.contains(kid))
    }

    /// The same, with all expired keys that it may have kept until its latest tick.
    pub fn widest_view(&self, rows: &BTreeMap<i64, Life>) -> BTreeMap<i64, Life> {
        self.view_of(rows, |_, _| true)
    }

    fn view_of(
        &self,
        rows: &BTreeMap<i64, Life>,
        is_kept: impl Fn(&i64, &Life) -> bool,
    ) -> BTreeMap<i64, Life> {
        let is_sound = |kid, row: &Life| {
            row.opens_under(&self.entries)
                || (row.typed && self.opened.contains(kid) && is_kept(kid, row))
        };
        rows.iter()
            .map(|(kid, row)| {
                let sound = is_sound(kid, row);
                (*kid, Life { sound, ..*row })
            })
            .collect()
    }

    /// The rows that its next tick can use.
    pub fn useful(&self, rows: &BTreeMap<i64, Life>) -> Vec<i64> {
        let kept = self.in_memory();
        let is_useful = |(kid, row): &(&i64, &Life)| {
            row.opens_under(&self.entries) || (row.typed && kept.contains(kid))
        };
        let useful = rows.iter().filter(is_useful);
        useful.map(|(kid, _)| *kid).collect()
    }

    fn in_memory(&self) -> BTreeSet<i64> {
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

    /// When a token that is signed at `now` ends.
    pub fn token_end(&self, now: UnixTime) -> Option<UnixTime> {
        let snapshot = self.ring.snapshot();
        let key = snapshot.signing(&self.policy, now)?;
        Some(lifecycle::token_times(key.times(), &self.policy, now).1)
    }

    /// The kid of the key that signs expired tokens at `now`.
    pub fn expired_signer(&self, now: UnixTime) -> Option<i64> {
        let snapshot = self.ring.snapshot();
        Some(snapshot.last_expired(now)?.kid().as_i64())
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

    /// Whether its signature is good under a key of `set`.
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
