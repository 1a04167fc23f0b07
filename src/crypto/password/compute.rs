//! Hashing and verification on one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::{Argon2, Block, Params};
use rand::TryRng as _;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use super::imported::BcryptHash;
use super::params::{Hash, MIN_PASSES, cost};
use super::{HashError, PasswordCheck};

/// The memory of one hashing thread, kept between hashes: page faults for
/// 19 MiB cost up to a quarter of the time of a hash.
pub(super) struct Workspace {
    /// Parameters of new hashes.
    params: Params,
    /// Not wiped after two or more passes, wiped after one: see [`Self::compute`].
    pub(super) blocks: Vec<Block>,
    /// KiB times passes that all threads have computed.
    computed: Arc<AtomicU64>,
}

impl Workspace {
    pub(super) fn new(params: Params, computed: Arc<AtomicU64>) -> Self {
        Self {
            params,
            blocks: Vec::new(),
            computed,
        }
    }

    /// Hashes `password` with a fresh salt into a PHC string.
    pub(super) fn hash(&mut self, password: &SecretString) -> Result<String, HashError> {
        let mut hash = Hash::blank(self.params.clone());
        rand::rngs::SysRng
            .try_fill_bytes(&mut hash.salt)
            .map_err(|_| HashError::Failed)?;
        hash.output = self.compute(password, &hash)?;
        hash.to_phc().ok_or(HashError::Failed)
    }

    /// Verifies `password` against the hash `stored`. Where there is none,
    /// or it is unreadable, the dummy hash costs as much as a current one does.
    pub(super) fn verify(
        &mut self,
        password: &SecretString,
        stored: Option<&str>,
    ) -> Result<PasswordCheck, HashError> {
        if let Some(hash) = stored.and_then(BcryptHash::parse) {
            self.computed.fetch_add(hash.cost(), Ordering::Relaxed);
            return Ok(match hash.fits(password) {
                true => PasswordCheck::Match {
                    replacement: BcryptHash::takes_whole(password)
                        .then(|| self.hash(password).ok())
                        .flatten(),
                },
                false => PasswordCheck::Mismatch,
            });
        }
        let Some(hash) = stored.and_then(Hash::parse) else {
            let dummy = Hash::blank(self.params.clone());
            std::hint::black_box(self.compute(password, &dummy)?);
            return Ok(stored.map_or(PasswordCheck::Mismatch, |_| PasswordCheck::Unreadable));
        };
        let output = self.compute(password, &hash)?;
        if !bool::from(output.ct_eq(&hash.output)) {
            return Ok(PasswordCheck::Mismatch);
        }
        let is_current = hash.is_current(&self.params);
        Ok(PasswordCheck::Match {
            // A hash that cannot be replaced now is good for another sign-in.
            replacement: (!is_current).then(|| self.hash(password).ok()).flatten(),
        })
    }

    /// The output for `password` with the parameters and the salt of `hash`.
    fn compute(&mut self, password: &SecretString, hash: &Hash) -> Result<Vec<u8>, HashError> {
        let params = &hash.params;
        self.reserve(params.block_count())?;
        let memory = &mut self.blocks[..params.block_count()];
        let mut output = vec![0; hash.output.len()];
        let computed = fill(
            hash,
            password.expose_secret().as_bytes(),
            memory,
            &mut output,
        );
        // Not wiped after two or more passes, because whoever reads the memory has to
        // compute a whole pass for each guess at the password; wiped after one, which
        // only old hashes have, because the first blocks are as they were computed from
        // the password, and a guess costs one step.
        if params.t_cost() < MIN_PASSES {
            memory.iter_mut().for_each(Block::zeroize);
        }
        if self.blocks.len() > self.params.block_count() {
            self.blocks = Vec::new();
        }
        computed.map_err(|_| HashError::Failed)?;
        self.computed.fetch_add(cost(params), Ordering::Relaxed);
        Ok(output)
    }

    fn reserve(&mut self, blocks: usize) -> Result<(), HashError> {
        if self.blocks.len() < blocks {
            let mut larger = Vec::new();
            let reserved = larger.try_reserve_exact(blocks);
            reserved.map_err(|_| HashError::NoMemory)?;
            #[cfg(feature = "simd-argon2")]
            argon2id_simd::prefer_huge_pages(larger.spare_capacity_mut());
            self.blocks = larger;
            self.blocks.resize(blocks, Block::new());
        }
        Ok(())
    }
}

fn fill(
    hash: &Hash,
    password: &[u8],
    memory: &mut [Block],
    output: &mut [u8],
) -> argon2::Result<()> {
    #[cfg(feature = "simd-argon2")]
    if (hash.algorithm, hash.version) == (argon2::Algorithm::Argon2id, argon2::Version::V0x13) {
        return argon2id_simd::hash_password_into_with_memory(
            &hash.params,
            password,
            &hash.salt,
            output,
            memory,
        );
    }
    Argon2::new(hash.algorithm, hash.version, hash.params.clone())
        .hash_password_into_with_memory(password, &hash.salt, output, memory)
}
