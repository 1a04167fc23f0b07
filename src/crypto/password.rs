//! Passwords: made as UUIDv4, stored as Argon2id hashes in PHC strings
//! (RFC 9106). The work runs on threads of its own, see [`pool`]; this file
//! holds what is computed there.

mod params;
pub mod pool;
mod room;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Argon2, Block};
use rand::TryRng as _;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

pub use params::Recipe;
use params::{MAX_COST, MAX_LANES, Stored};

/// The least memory that is accepted, KiB: the floor of OWASP's password
/// storage cheat sheet for two passes and one lane.
pub const MIN_MEMORY_KIB: u32 = 19_456;
/// The least number of passes that is accepted.
pub const MIN_PASSES: u32 = 2;
/// A longer password is refused before anything is spent on it, bytes.
pub const MAX_PASSWORD_LEN: usize = 1024;

/// Stored hashes that ask for more, KiB, are computed one at a time.
const LARGE_KIB: u32 = 128 * 1024;

const SALT_LEN: usize = 16;
const HASH_LEN: usize = 32;

/// How much work a new hash is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes; they are computed one after the other.
    pub lanes: u32,
}

impl Costs {
    /// The default, which is the floor.
    pub const DEFAULT: Self = Self {
        memory_kib: MIN_MEMORY_KIB,
        passes: MIN_PASSES,
        lanes: 1,
    };

    /// Whether these costs are at or over the floor and within what this
    /// service would later accept from its own database.
    pub fn are_acceptable(&self) -> bool {
        self.memory_kib >= MIN_MEMORY_KIB
            && self.passes >= MIN_PASSES
            && (1..=MAX_LANES).contains(&self.lanes)
            && self.memory_kib >= 8 * self.lanes
            && u64::from(self.memory_kib) * u64::from(self.passes) <= MAX_COST
    }
}

/// What a password turned out to be, held against a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the password. `outdated`: the hash has other costs than new ones get.
    Match {
        /// Whether the stored hash should be replaced.
        outdated: bool,
    },
    /// It is another password.
    Mismatch,
    /// The stored text is no hash that this service computes.
    Unreadable,
}

/// What a password is held against.
#[derive(Clone, Debug)]
pub enum Against {
    /// The PHC string of an account.
    Stored(String),
    /// Nothing, for a name that has no account: the work of this recipe is
    /// done all the same.
    Nothing(Recipe),
}

/// A password as this service makes it: UUIDv4 (RFC 9562), 122 random bits
/// from the system. None when that has none to give.
pub fn generate() -> Option<SecretString> {
    let mut random = Zeroizing::new([0; 16]);
    rand::rngs::SysRng.try_fill_bytes(&mut *random).ok()?;
    let uuid = uuid::Builder::from_random_bytes(*random).into_uuid();
    Some(uuid.hyphenated().to_string().into())
}

/// The memory of one hashing thread, kept between hashes: faulting 19 MiB in
/// afresh costs up to a quarter of the time.
struct Workspace {
    /// What new hashes get.
    costs: Costs,
    blocks: Vec<Block>,
    /// Held by the one thread that computes a large hash.
    large: Arc<Mutex<()>>,
    /// KiB times passes that were computed here.
    work: u64,
}

impl Workspace {
    fn new(costs: Costs, large: Arc<Mutex<()>>) -> Self {
        Self {
            costs,
            blocks: Vec::new(),
            large,
            work: 0,
        }
    }

    /// Hashes `password` with a fresh salt into a PHC string.
    fn hash(&mut self, password: &SecretString) -> Option<String> {
        let mut salt = [0; SALT_LEN];
        rand::rngs::SysRng.try_fill_bytes(&mut salt).ok()?;
        let recipe = Recipe::new(self.costs);
        let mut out = [0; HASH_LEN];
        self.fill(recipe, password, &salt, &mut out).ok()?;
        let params = recipe.params(HASH_LEN).ok()?;
        let phc = PasswordHash {
            algorithm: recipe.algorithm.ident(),
            version: Some(recipe.version.into()),
            params: ParamsString::try_from(&params).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(Output::new(&out).ok()?),
        };
        Some(phc.to_string())
    }

    /// Holds `password` against a hash, or does as much for nothing.
    fn verify(&mut self, password: &SecretString, against: &Against) -> Result<Verdict, NoMemory> {
        let stored = match against {
            Against::Stored(stored) => stored,
            Against::Nothing(recipe) => {
                self.burn(password, *recipe)?;
                return Ok(Verdict::Mismatch);
            }
        };
        let Some(known) = Stored::parse(stored) else {
            // As much work as any other answer, or the time would tell.
            self.burn(password, Recipe::new(self.costs))?;
            return Ok(Verdict::Unreadable);
        };
        let mut out = vec![0; known.hash.len()];
        match self.fill(known.recipe, password, &known.salt, &mut out) {
            Err(Uncomputed::NoMemory) => Err(NoMemory),
            Err(Uncomputed::Impossible) => Ok(Verdict::Unreadable),
            Ok(()) if bool::from(out.ct_eq(&known.hash)) => Ok(Verdict::Match {
                outdated: !known.is_current(self.costs),
            }),
            Ok(()) => Ok(Verdict::Mismatch),
        }
    }

    /// Does the work of a verification that nobody can pass.
    fn burn(&mut self, password: &SecretString, recipe: Recipe) -> Result<(), NoMemory> {
        let mut out = [0; HASH_LEN];
        let computed = self.fill(recipe, password, &[0; SALT_LEN], &mut out);
        std::hint::black_box(out);
        match computed {
            Err(Uncomputed::NoMemory) => Err(NoMemory),
            _ => Ok(()),
        }
    }

    fn fill(
        &mut self,
        recipe: Recipe,
        password: &SecretString,
        salt: &[u8],
        out: &mut [u8],
    ) -> Result<(), Uncomputed> {
        let params = recipe
            .params(out.len())
            .map_err(|_| Uncomputed::Impossible)?;
        let blocks = params.block_count();
        let large = Arc::clone(&self.large);
        let _alone = if recipe.costs.memory_kib > LARGE_KIB.max(self.costs.memory_kib) {
            Some(alone_with(recipe.costs.memory_kib, &large)?)
        } else {
            None
        };
        self.reserve(blocks)?;
        let password = password.expose_secret().as_bytes();
        let memory = &mut self.blocks[..blocks];
        let is_usual = recipe == Recipe::new(recipe.costs);
        let is_done = is_usual && argon2id_simd::hash(&params, password, salt, out, memory);
        let computed = is_done
            || Argon2::new(recipe.algorithm, recipe.version, params)
                .hash_password_into_with_memory(password, salt, out, memory)
                .is_ok();
        // What two passes leave behind is as hard to guess from as one pass is.
        // After a single one, which only old hashes have, the first blocks are
        // next to the password.
        if recipe.costs.passes < MIN_PASSES {
            self.blocks[..blocks].iter_mut().for_each(Block::zeroize);
        }
        self.trim();
        if !computed {
            return Err(Uncomputed::Impossible);
        }
        self.work += recipe.work();
        Ok(())
    }

    fn reserve(&mut self, blocks: usize) -> Result<(), Uncomputed> {
        if self.blocks.len() < blocks {
            let mut larger = Vec::new();
            let reserved = larger.try_reserve_exact(blocks);
            reserved.map_err(|_| Uncomputed::NoMemory)?;
            argon2id_simd::prefer_huge_pages(larger.spare_capacity_mut());
            self.blocks = larger;
            self.blocks.resize(blocks, Block::new());
        }
        Ok(())
    }

    /// Gives memory back that is more than new hashes need.
    fn trim(&mut self) {
        let recipe = Recipe::new(self.costs);
        let keep = recipe.params(HASH_LEN).map_or(0, |p| p.block_count());
        if self.blocks.len() > keep {
            self.blocks = Vec::new();
        }
    }
}

/// The right to compute a large hash. It may ask for a gigabyte: where there is
/// none, or another has it, only its own sign-in fails.
fn alone_with(kib: u32, large: &Mutex<()>) -> Result<MutexGuard<'_, ()>, Uncomputed> {
    let alone = match large.try_lock() {
        Ok(alone) => alone,
        Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(Uncomputed::NoMemory),
    };
    let is_room = room::is_there(kib.into());
    is_room.then_some(alone).ok_or(Uncomputed::NoMemory)
}

/// There was not enough memory for a hash.
struct NoMemory;

/// Why there is no hash.
enum Uncomputed {
    NoMemory,
    /// The parameters contradict each other.
    Impossible,
}
