//! The observer: a record of each key, token and revocation, from the database, the
//! clock and the answers of the processes alone; and the promises, checked against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jwks_server::clock::UnixTime;
use jwks_server::crypto::rsa::PublicKey;
use jwks_server::lifecycle::Kid;
use jwks_server::lifecycle::PolicyParts;

use crate::process::{KeySet, Process, Token};

/// An error says which promise is broken, and how.
pub type Checked = Result<(), String>;

/// Ends the function with a message unless the condition holds.
macro_rules! promise {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}
pub(crate) use promise;

/// Before every moment that a test knows.
pub const ALWAYS: UnixTime = UnixTime::from_secs(i64::MIN);

/// Time that is added to the lead because times are cut to seconds.
pub const MARGIN: Duration = Duration::from_secs(2);
/// Within this time every running server has a new key in its set.
const FOLLOWS: Duration = Duration::from_secs(1);

/// Time from the making of a key until it signs.
pub fn lead_with_margin(parts: &PolicyParts) -> Duration {
    parts.lead + MARGIN
}

/// A key in the database, as it looks from the outside.
#[derive(Clone, Copy, Debug)]
pub struct KeyRecord {
    /// The first moment at which it may sign, as it is stored; at or after `exp`
    /// when never.
    pub signs_from: UnixTime,
    pub exp: UnixTime,
    /// The row holds the key that was made for it, whatever it is sealed with.
    /// In the rows of a process: it can open it, or has it in memory.
    pub intact: bool,
    /// The entry of `NOT_MY_KEY` that an intact row is sealed with.
    pub entry: usize,
    /// An operator has taken it out of the set.
    pub revoked: bool,
    /// The values in its row have the types that they should have.
    pub has_right_types: bool,
    /// Grows with each key that is made.
    pub number: usize,
}

impl KeyRecord {
    /// True when a process with these entries that has not opened it yet can.
    pub fn opens_under(&self, entries: &[usize]) -> bool {
        self.intact && entries.contains(&self.entry)
    }

    /// True while it is in the key set of processes that can open it.
    pub fn is_published(&self, now: UnixTime) -> bool {
        !self.revoked && now < self.exp
    }

    pub fn may_sign(&self) -> bool {
        self.intact && !self.revoked && self.signs_from < self.exp
    }

    /// True when no other key is needed until the next could sign: full tokens can be
    /// signed all the while. A key that lasts for longer than the policy
    /// gives, or from a clock that was ahead, must not hold the next one up.
    fn covers_lead(&self, parts: &PolicyParts, now: UnixTime) -> bool {
        let (start, latest) = match self.signs_from {
            ALWAYS => (self.exp - parts.key_lifetime, now),
            signs_from => (signs_from, now + lead_with_margin(parts)),
        };
        let end = self.exp.min(start + parts.key_lifetime);
        let signs_until = end - parts.token_lifetime - parts.skew;
        self.intact
            && !self.revoked
            && start <= latest
            && now + lead_with_margin(parts) < signs_until
    }

    /// True when it may sign at `now` by its stored times.
    pub fn signs_by(&self, now: UnixTime) -> bool {
        self.intact && self.is_published(now) && self.signs_from <= now
    }
}

/// The making of a key, as far as promise 4 asks for it.
pub struct Creation {
    /// The moment at which the observer found its row, by a clock that nobody sets.
    pub at: Duration,
    /// The lead and the clock skew of the policy that it was made under.
    pub lead: Duration,
    pub skew: Duration,
    /// The keys that its maker could have signed with instead, and their ends.
    /// None at a first start, after an outage or in an emergency.
    pub others: Vec<(i64, UnixTime)>,
    /// The clock was set since, so that no stored time tells how long it has been published.
    pub clock_was_set: bool,
}

impl Creation {
    /// True when the key has been in each server's key set for its lead at `moment`,
    /// which is by the same clock as `at`.
    fn had_lead(&self, moment: Duration) -> bool {
        self.clock_was_set || self.at + FOLLOWS + self.lead <= moment
    }
}

#[derive(Default)]
pub struct Observer {
    /// The rows of the database by kid.
    pub rows: BTreeMap<i64, KeyRecord>,
    /// The key that each kid has named, ever, in any file.
    names: BTreeMap<i64, String>,
    /// All that were revoked in this file, also those whose rows are gone.
    pub revoked: BTreeSet<i64>,
    /// Of the keys with times of their own.
    pub creations: BTreeMap<i64, Creation>,
    tokens: Vec<Token>,
}

impl Observer {
    /// Checks all that a process gives out at this moment, and at the edges of its
    /// keys if it does not read the database until then.
    ///
    /// `elapsed` is the present by the clock that nobody sets.
    pub async fn check(&mut self, process: &Process, now: UnixTime, elapsed: Duration) -> Checked {
        self.check_moment(process, now, elapsed)?;
        self.check_tokens(process, now)?;
        // One that is cut off cannot record a sign-in, so it answers none with a token.
        if !process.is_cut_off && process.signer(now).is_some() {
            let token = process.issue().await;
            check_token(process, &token, now)?;
            self.tokens.push(token);
        }
        for moment in edges(process, now) {
            let ahead = Duration::from_secs(moment.as_secs().abs_diff(now.as_secs()));
            self.check_moment(process, moment, elapsed + ahead)
                .map_err(|e| format!("without a look until {moment}, {e}"))?;
        }
        Ok(())
    }

    /// Checks the state right after a tick that went well.
    pub fn check_ticked(&self, process: &Process, now: UnixTime) -> Checked {
        promise!(
            process.signer(now).is_some(),
            "promise 1: no key signs after a tick"
        );
        let expired = process.expired_signer(now);
        promise!(expired.is_some(), "no key signs expired tokens");
        let set = process.key_set(now);
        promise!(
            expired.is_none_or(|kid| !set.contains_key(&kid)),
            "the key of expired tokens is published"
        );
        let is_there = |(_, row): &(&i64, &KeyRecord)| row.intact && row.is_published(now);
        let rows = &process.rows;
        let unexpired = rows.iter().filter(is_there).map(|(kid, _)| kid);
        promise!(
            unexpired.eq(set.keys()),
            "the key set {:?} is not what is in the database: {:?}",
            set.keys(),
            rows
        );
        let covers = |row: &KeyRecord| row.covers_lead(&process.parts, now);
        promise!(
            rows.values().any(covers),
            "promise 1: no key signs full tokens for the next lead: {:?}",
            rows
        );
        let over = now - process.parts.retention;
        let over = |(kid, row): &(&i64, &KeyRecord)| row.exp < over && expired != Some(**kid);
        let over = self.rows.iter().find(over);
        promise!(
            over.is_none() || !process.is_settled(),
            "{over:?} was not deleted"
        );
        let is_over = |row: &&KeyRecord| row.exp <= now;
        let past = self.rows.values().filter(is_over).count();
        promise!(
            0 < past && past < self.rows.len(),
            "the contract: no row in the past, or none in the future: {:?}",
            self.rows
        );
        Ok(())
    }

    /// Checks the published keys and the signer of one moment.
    fn check_moment(&mut self, process: &Process, now: UnixTime, elapsed: Duration) -> Checked {
        let set = process.key_set(now);
        for (kid, n) in &*set {
            self.check_name(*kid, n)?;
            let exp = process.rows.get(kid).map(|key| key.exp);
            promise!(
                exp.is_some_and(|exp| now < exp),
                "promise 5: {kid}, which expired at {exp:?}, is published"
            );
            promise!(
                !process.rows[kid].revoked,
                "{kid}, which was revoked, is published"
            );
        }
        let Some(kid) = process.signer(now) else {
            let could = set.keys().find(|kid| process.rows[*kid].may_sign());
            promise!(
                could.is_none(),
                "promise 1: {could:?} could sign and does not"
            );
            return Ok(());
        };
        promise!(
            set.contains_key(&kid),
            "promise 9: {kid} signs, published is {:?}",
            set.keys()
        );
        let key = process.rows[&kid];
        promise!(key.signs_from < key.exp, "{kid} was not made to sign");
        self.check_lead(process, kid, now, elapsed)?;
        check_length(process, &set, kid, now)
    }

    /// Promise 4: whoever signs has been published for the lead, unless none of
    /// the keys that were there when it was made can sign any more.
    fn check_lead(&self, process: &Process, kid: i64, now: UnixTime, elapsed: Duration) -> Checked {
        let Some(creation) = self.creations.get(&kid) else {
            return Ok(());
        };
        let set = process.key_set(now);
        let skew = creation.skew.max(process.parts.skew);
        let can_sign = |(other, exp): &&(i64, UnixTime)| {
            let known = process.rows.get(other);
            let lasts = |key: &KeyRecord| now < (*exp).min(key.exp) - skew;
            set.contains_key(other) && known.is_some_and(|key| key.may_sign() && lasts(key))
        };
        let other = creation.others.iter().find(can_sign);
        promise!(
            creation.had_lead(elapsed) || other.is_none(),
            "promise 4: {kid} signs {:?} after it was made, though {other:?} can",
            elapsed - creation.at
        );
        Ok(())
    }

    /// Promise 6.
    fn check_name(&mut self, kid: i64, n: &str) -> Checked {
        let named = self.names.entry(kid).or_insert_with(|| n.to_owned());
        promise!(named == n, "promise 6: {kid} names two keys");
        Ok(())
    }

    /// Promise 3: each unexpired token verifies against the process' key set.
    ///
    /// Not asked of a process that has not read the database while the
    /// key's row was there (it was made later, or deleted: by this test, or by
    /// a tick that was allowed to), or that found the row damaged by this
    /// test, or shortened by it to less than the token, or revoked; nor of one whose clock
    /// was set back to before the key's end after it read last.
    fn check_tokens(&self, process: &Process, now: UnixTime) -> Checked {
        let set = process.key_set(now);
        for token in self.tokens.iter().filter(|token| now < token.exp) {
            let Some(key) = process.rows.get(&token.kid) else {
                continue;
            };
            let is_owed = key.intact
                && !key.revoked
                && token.exp <= key.exp
                && process
                    .last_load
                    .is_some_and(|last_load| last_load < key.exp);
            promise!(
                !is_owed || set.contains_key(&token.kid),
                "promise 3: a token of {} until {} does not verify",
                token.kid,
                token.exp
            );
        }
        Ok(())
    }

    /// Checks that a row that a tick at `now` deleted had expired before `over`, and
    /// was not the last to expire of those that can be used.
    pub fn check_deleted(
        kid: i64,
        before: &BTreeMap<i64, KeyRecord>,
        after: &BTreeMap<i64, KeyRecord>,
        over: UnixTime,
        now: UnixTime,
    ) -> Checked {
        let rank = |(kid, row): (&i64, &KeyRecord)| (row.exp, *kid);
        let usable = |(_, row): &(&i64, &KeyRecord)| row.intact && !row.is_published(now);
        let last = before.iter().chain(after).filter(usable).map(rank).max();
        let exp = before[&kid].exp;
        promise!(exp < over, "{kid} was deleted too early");
        promise!(
            last != Some((exp, kid)),
            "{kid} was deleted, the last that expired"
        );
        Ok(())
    }

    /// A kid of this service is that of its key's thumbprint.
    pub fn check_thumbprints(&self, set: &Arc<KeySet>, is_legacy: impl Fn(i64) -> bool) -> Checked {
        for (kid, n) in set.iter().filter(|(kid, _)| !is_legacy(**kid)) {
            let key = PublicKey {
                n: n.clone(),
                e: "AQAB".into(),
            };
            let named = Kid::from_thumbprint(&key.thumbprint()).as_i64();
            promise!(named == *kid, "promise 6: {kid} is published for {named}");
        }
        Ok(())
    }
}

/// Promise 2: a token ends before its key, and leaves the clock skew to verifiers
/// unless no key that may sign lasts for long enough.
fn check_length(process: &Process, set: &KeySet, kid: i64, now: UnixTime) -> Checked {
    let (parts, key) = (&process.parts, process.rows[&kid]);
    let end = process.token_end(now).unwrap_or(now);
    let full = now + parts.token_lifetime;
    promise!(
        now < end && end <= full && end <= key.exp,
        "promise 2: a token from {now} until {end} of {kid} that ends at {}",
        key.exp
    );
    let lasts = |kid: &&i64| {
        let key = process.rows[*kid];
        key.signs_by(now) && full + parts.skew <= key.exp
    };
    let better = set.keys().find(lasts);
    promise!(
        full + parts.skew <= key.exp || better.is_none(),
        "promise 2: {kid} signs until {end}, though {better:?} lasts longer"
    );
    Ok(())
}

/// A token is what its process says it signs, and good.
fn check_token(process: &Process, token: &Token, now: UnixTime) -> Checked {
    promise!(
        token.verifies_against(&process.key_set(now)),
        "promise 3: a new token does not verify"
    );
    let said = (process.signer(now), process.token_end(now));
    promise!(
        token.iat == now && said == (Some(token.kid), Some(token.exp)),
        "a token from {} until {} of {} at {now}, not {said:?}",
        token.iat,
        token.exp,
        token.kid
    );
    Ok(())
}

/// The seconds around the moments at which something changes for a key.
fn edges(process: &Process, now: UnixTime) -> Vec<UnixTime> {
    let ends_before = process.parts.token_lifetime + process.parts.skew;
    let second = std::time::Duration::from_secs(1);
    let mut moments: Vec<_> = process
        .rows
        .values()
        .flat_map(|key| [key.signs_from, key.exp - ends_before, key.exp])
        .flat_map(|edge| [edge - second, edge, edge + second])
        .filter(|moment| now < *moment)
        .collect();
    moments.sort();
    moments.dedup();
    moments
}
