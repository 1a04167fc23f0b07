//! Argon2 parameters: those of new hashes, and those that a stored hash names.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Params, Version};

use super::imported::BcryptHash;

/// Lowest accepted memory, KiB, and number of passes: the OWASP password
/// storage cheat sheet's minimum for Argon2id with one lane.
pub const MIN_MEMORY_KIB: u32 = 19_456;
pub const MIN_PASSES: u32 = 2;
/// Highest accepted memory, KiB. A row of the database must not be able to
/// exhaust the machine.
pub const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// Highest accepted product of memory, KiB, and passes.
const MAX_COST: u32 = 1024 * 1024;
/// The most passes of a new hash: those that the lowest memory leaves.
pub const MAX_PASSES: u32 = MAX_COST / MIN_MEMORY_KIB;
pub const MAX_LANES: u32 = 64;

const SALT_LEN: usize = 16;
const HASH_LEN: usize = 32;

/// Parameters of new hashes, by which they cost what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    pub memory_kib: u32,
    pub passes: u32,
    /// Computed one after the other.
    pub lanes: u32,
}

impl Costs {
    pub const DEFAULT: Self = Self {
        memory_kib: MIN_MEMORY_KIB,
        passes: MIN_PASSES,
        lanes: 1,
    };

    /// True when hashes with these costs are strong enough to be made, and cheap
    /// enough to be verified later.
    pub fn are_acceptable(&self) -> bool {
        self.memory_kib >= MIN_MEMORY_KIB
            && self.passes >= MIN_PASSES
            && self.params().is_ok_and(|params| is_bounded(&params))
    }

    pub(super) fn params(&self) -> argon2::Result<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_LEN))
    }
}

/// The cost of verifying the hash `stored`, KiB times passes; `None` when it is
/// unreadable. Needs no memory, whatever the string asks for.
pub fn stored_cost(stored: &str) -> Option<u64> {
    if let Some(hash) = BcryptHash::parse(stored) {
        return Some(hash.cost());
    }
    Hash::parse(stored).map(|hash| cost(&hash.params))
}

/// Algorithm and parameters of the hash `stored`; `None` when it is unreadable.
pub fn describe(stored: &str) -> Option<String> {
    if let Some(hash) = BcryptHash::parse(stored) {
        return Some(format!("bcrypt cost={}", hash.rounds));
    }
    let Hash {
        algorithm, params, ..
    } = Hash::parse(stored)?;
    let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
    Some(format!("{} m={m},t={t},p={p}", algorithm.as_str()))
}

/// Why the hash `stored` is unreadable; `None` when it is readable. Repeats nothing of it
/// but its parameters.
pub fn fault(stored: &str) -> Option<String> {
    if stored_cost(stored).is_some() {
        return None;
    }
    if let Some(fault) = BcryptHash::fault(stored) {
        return Some(fault);
    }
    if !stored.starts_with("$argon2") {
        let text = "unknown kind of hash: it is no PHC string of Argon2 and no $2a$, $2b$ or $2y$ of bcrypt";
        return Some(text.to_owned());
    }
    let params = PasswordHash::new(stored).ok();
    let params = params.and_then(|it| Params::try_from(&it).ok());
    let Some(params) = params else {
        return Some("it begins as one of Argon2 and does not go on as one".to_owned());
    };
    let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
    Some(if m > MAX_MEMORY_KIB {
        format!("Argon2 with m={m}: over {MAX_MEMORY_KIB} KiB")
    } else if cost(&params) > u64::from(MAX_COST) {
        format!("Argon2 with m={m},t={t}: m times t is over {MAX_COST}")
    } else if p > MAX_LANES {
        format!("Argon2 with p={p}: over {MAX_LANES} lanes")
    } else if !params.data().is_empty() {
        "Argon2 with associated data, which is not known here".to_owned()
    } else {
        "Argon2 of an unknown version, or without salt or hash".to_owned()
    })
}

/// KiB times passes, to which the time of a hash is proportional.
pub(super) fn cost(params: &Params) -> u64 {
    u64::from(params.m_cost()) * u64::from(params.t_cost())
}

fn is_bounded(params: &Params) -> bool {
    params.m_cost() <= MAX_MEMORY_KIB
        && cost(params) <= u64::from(MAX_COST)
        && params.p_cost() <= MAX_LANES
}

/// A hash with all that it takes to compute it again.
pub(super) struct Hash {
    pub algorithm: Algorithm,
    pub version: Version,
    /// Among them the length of the output.
    pub params: Params,
    pub salt: Vec<u8>,
    pub output: Vec<u8>,
}

impl Hash {
    /// A hash of the current kind whose salt and output are zero. No password
    /// is known that fits it.
    pub(super) fn blank(params: Params) -> Self {
        Self {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params,
            salt: vec![0; SALT_LEN],
            output: vec![0; HASH_LEN],
        }
    }

    /// Reads a PHC string; `None` when it is no Argon2 hash, or is out of bounds.
    pub(super) fn parse(phc: &str) -> Option<Self> {
        let parsed = PasswordHash::new(phc).ok()?;
        let params = Params::try_from(&parsed).ok()?;
        // Computed without its associated data it would fit no password.
        if !params.data().is_empty() || !is_bounded(&params) {
            return None;
        }
        Some(Self {
            algorithm: Algorithm::new(parsed.algorithm).ok()?,
            // Strings from before version 0x13 name none.
            version: match parsed.version {
                Some(v) => Version::try_from(v).ok()?,
                None => Version::V0x10,
            },
            params,
            salt: parsed.salt.as_ref()?.as_ref().to_vec(),
            output: parsed.hash.as_ref()?.as_ref().to_vec(),
        })
    }

    /// True when a new hash with `params` would have the same parameters.
    pub(super) fn is_current(&self, params: &Params) -> bool {
        (self.algorithm, self.version) == (Algorithm::Argon2id, Version::V0x13)
            && self.params == *params
    }

    pub(super) fn to_phc(&self) -> Option<String> {
        let phc = PasswordHash {
            algorithm: self.algorithm.ident(),
            version: Some(self.version.into()),
            params: ParamsString::try_from(&self.params).ok()?,
            salt: Some(Salt::new(&self.salt).ok()?),
            hash: Some(Output::new(&self.output).ok()?),
        };
        Some(phc.to_string())
    }
}
