//! How a stored hash is computed, apart from its salt: all that the time of a
//! verification depends on.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Params, Version};

use super::{Costs, HASH_LEN};

/// Stored hashes that ask for more than this are not computed, KiB times
/// passes: 1 GiB in one pass. A row must not be able to stop the service.
pub(super) const MAX_COST: u64 = 1024 * 1024;
pub(super) const MAX_LANES: u32 = 64;

/// The kind of Argon2 and the costs of a hash, within what this service computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) costs: Costs,
}

impl Recipe {
    /// How new hashes with these costs are computed.
    pub const fn new(costs: Costs) -> Self {
        Self {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            costs,
        }
    }

    /// How the PHC string `stored` was computed; none when it is no hash that
    /// this service computes. Costs no memory, whatever the string asks for.
    pub fn of(stored: &str) -> Option<Self> {
        Stored::parse(stored).map(|stored| stored.recipe)
    }

    /// KiB times passes, to which the time is in proportion.
    pub fn work(&self) -> u64 {
        u64::from(self.costs.memory_kib) * u64::from(self.costs.passes)
    }

    /// A text that no other recipe has.
    pub fn label(&self) -> String {
        let Self {
            algorithm,
            version,
            costs,
        } = self;
        let version = u32::from(*version);
        let Costs {
            memory_kib,
            passes,
            lanes,
        } = costs;
        format!("{algorithm},v={version},m={memory_kib},t={passes},p={lanes}")
    }

    /// The parameters for a hash of so many bytes.
    pub(super) fn params(&self, hash_len: usize) -> Result<Params, argon2::Error> {
        let Costs {
            memory_kib,
            passes,
            lanes,
        } = self.costs;
        Params::new(memory_kib, passes, lanes, Some(hash_len))
    }
}

/// A stored hash whose costs are sane.
pub(super) struct Stored {
    pub(super) recipe: Recipe,
    pub(super) salt: Vec<u8>,
    pub(super) hash: Vec<u8>,
}

impl Stored {
    pub(super) fn parse(phc: &str) -> Option<Self> {
        let parsed = PasswordHash::new(phc).ok()?;
        let params = Params::try_from(&parsed).ok()?;
        // Computed without its associated data it would fit no password.
        if !params.data().is_empty() {
            return None;
        }
        let recipe = Recipe {
            algorithm: Algorithm::new(parsed.algorithm).ok()?,
            // Strings from before version 0x13 name none.
            version: match parsed.version {
                Some(v) => Version::try_from(v).ok()?,
                None => Version::V0x10,
            },
            costs: Costs {
                memory_kib: params.m_cost(),
                passes: params.t_cost(),
                lanes: params.p_cost(),
            },
        };
        if recipe.work() > MAX_COST || recipe.costs.lanes > MAX_LANES {
            return None;
        }
        Some(Self {
            recipe,
            salt: parsed.salt.as_ref()?.as_ref().to_vec(),
            hash: parsed.hash.as_ref()?.as_ref().to_vec(),
        })
    }

    /// Whether it is computed as new hashes with these costs are.
    pub(super) fn is_current(&self, costs: Costs) -> bool {
        self.recipe == Recipe::new(costs) && self.hash.len() == HASH_LEN
    }
}
