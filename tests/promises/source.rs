//! Keys from a stock, and what may go wrong while one is made.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use jwks_server::clock::ManualClock;
use jwks_server::crypto::rsa::{KeyError, KeySource, PrivateKey};
use jwks_server::lifecycle::Kid;
use jwks_server::lifecycle::PolicyParts;
use jwks_server::store::Store;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};

use crate::seed::seed;

/// Prepared keys, shared by all tests of the process. Making one takes 40 ms,
/// reading it a fraction of one.
static MADE: LazyLock<Mutex<Vec<Arc<String>>>> = LazyLock::new(Mutex::default);

/// The seed of this run's schedules and keys.
pub static SEED: LazyLock<u64> = LazyLock::new(|| seed("PROPTEST_RNG_SEED"));

/// Key `n` of the stock, as PEM: it follows from the seed too, since the kid
/// decides between keys that are equally good.
pub fn pem(n: usize) -> Arc<String> {
    let mut made = MADE.lock().unwrap();
    while made.len() <= n {
        let mut random = StdRng::seed_from_u64(SEED.wrapping_add(made.len() as u64));
        let key = rsa::PrivateKey::new(&mut random, 2048).unwrap();
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        made.push(Arc::new(pem.to_string()));
    }
    Arc::clone(&made[n])
}

/// What one world knows of the making of keys: which comes next, and who made it.
#[derive(Default)]
pub struct Workshop {
    /// After how many keys the first comes again; none: no key comes twice.
    round: Option<usize>,
    taken: AtomicUsize,
    makers: Mutex<HashMap<i64, Maker>>,
}

/// Who made a key.
#[derive(Clone, Copy)]
pub struct Maker {
    /// The number of the process; of no use for a key that an operator asked for.
    pub who: usize,
    pub policy: PolicyParts,
    /// The entry of `NOT_MY_KEY` that seals it.
    pub entry: usize,
}

impl Workshop {
    pub fn with_round(keys: usize) -> Self {
        Self {
            round: Some(keys),
            ..Self::default()
        }
    }

    pub fn next(&self) -> PrivateKey {
        let n = self.taken.fetch_add(1, Ordering::Relaxed);
        let n = self.round.map_or(n, |round| n % round);
        PrivateKey::from_pem(pem(n).as_bytes()).unwrap()
    }

    pub fn maker_of(&self, kid: i64) -> Option<Maker> {
        self.makers.lock().unwrap().get(&kid).copied()
    }
}

/// What happens the next time a key is made.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// It takes some seconds, or the machine is suspended meanwhile.
    Slow(u64),
    /// There is no randomness.
    Fails,
    /// The thread dies.
    Panics,
    /// The database goes away.
    StoreCloses,
}

/// The source of one process.
pub struct Source {
    pub workshop: Arc<Workshop>,
    pub clock: Arc<ManualClock>,
    pub store: Store,
    pub maker: Maker,
    pub mishap: Mutex<Option<Mishap>>,
}

impl KeySource for Source {
    fn generate(&self) -> Result<PrivateKey, KeyError> {
        let mishap = self.mishap.lock().unwrap().take();
        match mishap {
            None => {}
            Some(Mishap::Slow(secs)) => self.clock.advance(Duration::from_secs(secs)),
            Some(Mishap::Fails) => return Err(KeyError::NotMade("no randomness".into())),
            // Unlike `panic!` it prints nothing.
            Some(Mishap::Panics) => std::panic::resume_unwind(Box::new("on purpose")),
            Some(Mishap::StoreCloses) => {
                tokio::runtime::Handle::current().block_on(self.store.clone().close());
            }
        }
        let key = self.workshop.next();
        let kid = Kid::from_thumbprint(&key.public().thumbprint()).as_i64();
        let mut makers = self.workshop.makers.lock().unwrap();
        makers.insert(kid, self.maker);
        Ok(key)
    }
}
