//! A realm of the sandbox: its keys, its clock, its fault and the requests to it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::TrialError;
use super::forge::{Forge, LIFETIME, jwk, kid};
use super::page::{Page, done, refused};
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::crypto::curves::CurveKey;
use crate::crypto::rsa::{KeySource as _, Rsa2048};

/// Requests of a realm that are kept; older ones are counted.
const MAX_REQUESTS: usize = 1000;
/// Keys that left in a rotation and are still in the set.
const MAX_RETIRING: usize = 16;

pub(super) struct Realm {
    pub(super) forge: Forge,
    /// Signs in place of the first key of `forge`.
    pub(super) curve: Option<CurveKey>,
    /// Keys of before the last rotations, with the time until which they stay.
    pub(super) retiring: Vec<(Value, UnixTime)>,
    /// Seconds by which its clock is ahead.
    pub(super) ahead: i64,
    pub(super) fault: Option<Fault>,
    /// The key set before the last change of the keys.
    pub(super) stale: String,
    pub(super) requests: VecDeque<Value>,
    pub(super) forgotten: usize,
}

/// What is served in place of the key set.
pub(super) struct Fault {
    /// Number of the case; `None` for the key set before the last change.
    pub(super) case: Option<usize>,
    /// Answers that it is served for; without end when there is none.
    pub(super) times: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SetClock {
    now: Option<i64>,
    advance: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rotate {
    alg: Option<String>,
}

impl Realm {
    pub(super) fn now(&self) -> UnixTime {
        let now = SystemClock::new().now().as_secs();
        UnixTime::from_secs(now.saturating_add(self.ahead))
    }

    pub(super) fn key_set(&self, now: UnixTime) -> String {
        let mut keys: Vec<_> = self.forge.keys.iter().map(|key| jwk(key)).collect();
        keys.extend(self.curve.iter().map(CurveKey::jwk));
        let retiring = self.retiring.iter().filter(|(_, until)| now < *until);
        keys.extend(retiring.map(|(key, _)| key.clone()));
        json!({ "keys": keys }).to_string()
    }

    pub(super) fn set_clock(&mut self, asked: &SetClock) -> Result<Page, Page> {
        self.ahead = match (asked.now, asked.advance) {
            (Some(now), None) => now.saturating_sub(SystemClock::new().now().as_secs()),
            (None, Some(advance)) => self.ahead.saturating_add(advance),
            _ => return Err(refused(400, "give either now or advance, in seconds")),
        };
        Ok(done(&json!({ "now": self.now().as_secs() })))
    }

    /// The announced key signs, or a new one of another kind; the old one stays until its
    /// tokens have expired.
    pub(super) fn rotate(&mut self, asked: &Rotate, now: UnixTime) -> Result<Page, Page> {
        let stale = self.key_set(now);
        let until = now + LIFETIME;
        let old = match &self.curve {
            Some(key) => key.jwk(),
            None => jwk(&self.forge.keys[0]),
        };
        match asked.alg.as_deref() {
            None | Some("RS256") if self.curve.is_some() => self.curve = None,
            None | Some("RS256") => {
                let new = Rsa2048.generate().map_err(TrialError::from)?.into();
                let first = std::mem::replace(&mut self.forge.keys[1], new);
                self.forge.keys[0] = first;
            }
            Some(alg) => {
                let made = CurveKey::generate(alg);
                let made = made.ok_or_else(|| refused(400, "alg is RS256, ES256 or EdDSA"))?;
                self.curve = Some(made.map_err(TrialError::from)?);
            }
        }
        self.stale = stale;
        self.retiring.retain(|(_, until)| now < *until);
        if self.retiring.len() == MAX_RETIRING {
            self.retiring.remove(0);
        }
        let stays = self.forge.keys.iter().any(|key| jwk(key) == old);
        if !stays {
            self.retiring.push((old, until));
        }
        Ok(self.signer())
    }

    /// All keys leave the set at once.
    pub(super) fn emergency(&mut self, now: UnixTime) -> Result<Page, Page> {
        let new = || Ok::<_, TrialError>(Arc::new(Rsa2048.generate()?));
        let keys = [new()?, new()?];
        self.stale = self.key_set(now);
        self.forge.keys = keys;
        self.retiring.clear();
        self.curve = None;
        Ok(self.signer())
    }

    fn signer(&self) -> Page {
        let kid = match &self.curve {
            Some(key) => key.jwk()["kid"].clone(),
            None => kid(&self.forge.keys[0]).into(),
        };
        done(&json!({ "kid": kid }))
    }

    pub(super) fn note(&mut self, method: &str, path: &str, now: UnixTime) {
        if self.requests.len() == MAX_REQUESTS {
            self.requests.pop_front();
            self.forgotten += 1;
        }
        let request = json!({"method": method, "path": path, "at": now.as_secs()});
        self.requests.push_back(request);
    }
}
