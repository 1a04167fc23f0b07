//! Passwords: made as UUIDv4, stored as Argon2id hashes in PHC strings
//! (RFC 9106). The work runs on threads of its own, see [`pool`]; this file
//! holds what is computed there.

pub mod pool;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand::TryRng as _;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

/// The least memory that is accepted, KiB: the floor of OWASP's password
/// storage cheat sheet for two passes and one lane.
pub const MIN_MEMORY_KIB: u32 = 19_456;
/// The least number of passes that is accepted.
pub const MIN_PASSES: u32 = 2;
/// A longer password is refused before anything is spent on it, bytes.
pub const MAX_PASSWORD_LEN: usize = 1024;

/// Stored hashes that ask for more than this are not computed, KiB times
/// passes: 1 GiB in one pass. A row must not be able to stop the service.
const MAX_COST: u64 = 1024 * 1024;
const MAX_LANES: u32 = 64;
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

    fn params(self) -> Result<Params, argon2::Error> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_LEN))
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

/// A password as this service makes it: UUIDv4 (RFC 9562), 122 random bits
/// from the system.
pub fn generate() -> SecretString {
    uuid::Uuid::new_v4().hyphenated().to_string().into()
}

/// The memory of one hashing thread, kept between hashes: faulting 19 MiB in
/// afresh costs up to a quarter of the time.
#[derive(Default)]
struct Workspace(Vec<Block>);

impl Workspace {
    /// Hashes `password` with a fresh salt into a PHC string.
    fn hash(&mut self, password: &SecretString, costs: Costs) -> Option<String> {
        let mut salt = [0; SALT_LEN];
        rand::rngs::SysRng.try_fill_bytes(&mut salt).ok()?;
        let params = costs.params().ok()?;
        let mut out = [0; HASH_LEN];
        self.fill(
            Algorithm::Argon2id,
            Version::V0x13,
            params.clone(),
            password,
            &salt,
            &mut out,
        )
        .ok()?;
        let phc = PasswordHash {
            algorithm: argon2::ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(Output::new(&out).ok()?),
        };
        Some(phc.to_string())
    }

    /// Holds `password` against the PHC string `stored`.
    fn verify(
        &mut self,
        password: &SecretString,
        stored: &str,
        costs: Costs,
    ) -> Result<Verdict, NoMemory> {
        let Some(known) = Stored::parse(stored) else {
            // As much work as any other answer, or the time would tell.
            self.burn(password, costs)?;
            return Ok(Verdict::Unreadable);
        };
        let mut out = vec![0; known.hash.len()];
        let computed = self.fill(
            known.algorithm,
            known.version,
            known.params.clone(),
            password,
            &known.salt,
            &mut out,
        );
        match computed {
            Err(Uncomputed::NoMemory) => Err(NoMemory),
            Err(Uncomputed::Impossible) => Ok(Verdict::Unreadable),
            Ok(()) if bool::from(out.ct_eq(&known.hash)) => Ok(Verdict::Match {
                outdated: !known.has(costs),
            }),
            Ok(()) => Ok(Verdict::Mismatch),
        }
    }

    /// Does the work of a verification that nobody can pass.
    fn burn(&mut self, password: &SecretString, costs: Costs) -> Result<(), NoMemory> {
        let Ok(params) = costs.params() else {
            return Ok(());
        };
        let mut out = [0; HASH_LEN];
        let computed = self.fill(
            Algorithm::Argon2id,
            Version::V0x13,
            params,
            password,
            &[0; SALT_LEN],
            &mut out,
        );
        std::hint::black_box(out);
        match computed {
            Err(Uncomputed::NoMemory) => Err(NoMemory),
            _ => Ok(()),
        }
    }

    fn fill(
        &mut self,
        algorithm: Algorithm,
        version: Version,
        params: Params,
        password: &SecretString,
        salt: &[u8],
        out: &mut [u8],
    ) -> Result<(), Uncomputed> {
        let blocks = params.block_count();
        if let Some(missing) = blocks.checked_sub(self.0.len()) {
            // A stored hash may ask for a gigabyte; where there is none, only
            // its own sign-in fails.
            let reserved = self.0.try_reserve_exact(missing);
            reserved.map_err(|_| Uncomputed::NoMemory)?;
            self.0.resize(blocks, Block::new());
        }
        Argon2::new(algorithm, version, params)
            .hash_password_into_with_memory(
                password.expose_secret().as_bytes(),
                salt,
                out,
                &mut self.0[..blocks],
            )
            .map_err(|_| Uncomputed::Impossible)
    }

    /// Gives back memory beyond what new hashes need.
    fn trim(&mut self, costs: Costs) {
        let keep = costs.params().map_or(0, |p| p.block_count());
        if self.0.len() > keep {
            self.0.truncate(keep);
            self.0.shrink_to_fit();
        }
    }
}

/// There was not enough memory for a hash.
struct NoMemory;

/// Why there is no hash.
enum Uncomputed {
    NoMemory,
    /// The parameters contradict each other.
    Impossible,
}

/// A stored hash whose costs are sane.
struct Stored {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Stored {
    fn parse(phc: &str) -> Option<Self> {
        let parsed = PasswordHash::new(phc).ok()?;
        let params = Params::try_from(&parsed).ok()?;
        let cost = u64::from(params.m_cost()) * u64::from(params.t_cost());
        if cost > MAX_COST || params.p_cost() > MAX_LANES {
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
            hash: parsed.hash.as_ref()?.as_ref().to_vec(),
        })
    }

    fn has(&self, costs: Costs) -> bool {
        self.algorithm == Algorithm::Argon2id
            && self.version == Version::V0x13
            && self.hash.len() == HASH_LEN
            && self.params.m_cost() == costs.memory_kib
            && self.params.t_cost() == costs.passes
            && self.params.p_cost() == costs.lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(password: &str, stored: &str) -> Verdict {
        let verdict =
            Workspace::default().verify(&password.to_owned().into(), stored, Costs::DEFAULT);
        verdict.unwrap_or_else(|NoMemory| panic!("no memory"))
    }

    #[test]
    fn a_new_hash_says_its_costs_and_fits_its_password_only() {
        let password = generate();
        let phc = Workspace::default()
            .hash(&password, Costs::DEFAULT)
            .unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_eq!(
            verify(password.expose_secret(), &phc),
            Verdict::Match { outdated: false }
        );
        assert_eq!(verify("other", &phc), Verdict::Mismatch);
    }

    /// Made by argon2-cffi 25.1.0 over the reference implementation, from "correct horse":
    /// all three kinds, both versions, several lanes and lengths.
    #[test]
    fn hashes_of_other_programs_are_accepted_and_outdated() {
        let outdated = Verdict::Match { outdated: true };
        for phc in FOREIGN {
            assert_eq!(verify("correct horse", phc), outdated, "{phc}");
            assert_eq!(verify("correct horsf", phc), Verdict::Mismatch, "{phc}");
        }
    }

    #[test]
    fn an_absurd_or_broken_hash_is_unreadable() {
        for phc in [
            "",
            "password123",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA",
            "$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=1024,t=1025,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=18$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=19456,t=0,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=19456,t=2,p=1$c2E$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$scrypt$ln=16,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(verify("x", phc), Verdict::Unreadable, "{phc}");
        }
    }

    #[test]
    fn memory_that_one_foreign_hash_needed_is_given_back() {
        let mut space = Workspace::default();
        let verdict = space.verify(
            &"correct horse".to_owned().into(),
            FOREIGN[0],
            Costs::DEFAULT,
        );
        assert!(verdict.is_ok());
        assert_eq!(space.0.len(), 65_536);
        space.trim(Costs::DEFAULT);
        assert_eq!(space.0.len(), 19_456);
    }

    const FOREIGN: [&str; 4] = [
        "$argon2id$v=19$m=65536,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$Bts/9u/MNL5Rz4t+uOvVNPdkTFQA7SkSWpwcFp+YUnw",
        "$argon2i$v=19$m=1024,t=3,p=4$AAECAwQFBgcICQoLDA0ODw$bATvYJNoLF35C2ZIR4HyihJ88n6E/5EjYwf9jBZdBmc",
        "$argon2d$v=19$m=2048,t=1,p=1$AAECAwQFBgc$NjFf6d8j06kaH7NGu344Ng",
        "$argon2id$v=16$m=1024,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$97ZRxno/lMKTYcC6BeTrFyQbdZ2ulrOoj20T2qUVf7eYkNQ6Q+3IhmRjHTVVKb/G35C8ltwZSLd51wIeO038wA",
    ];
}
