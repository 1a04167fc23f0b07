//! Prepared keys in place of fresh ones, and faults while one is made.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use jwks_server::crypto::rsa::{KeyError, KeySource, PrivateKey};
use jwks_server::lifecycle::Kid;
use jwks_server::lifecycle::PolicyParts;
use jwks_server::store::Store;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};

use crate::manual_clock::ManualClock;
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

/// The keys of one simulation: the next one, and the maker of each.
#[derive(Default)]
pub struct KeyStock {
    /// Number of keys after which the first comes again; none: no key comes twice.
    repeat_after: Option<usize>,
    taken: AtomicUsize,
    makers: Mutex<HashMap<i64, Maker>>,
}

/// The process or operator that made a key.
#[derive(Clone, Copy)]
pub struct Maker {
    /// The number of the process; of no use for a key that an operator asked for.
    pub who: usize,
    pub policy: PolicyParts,
    /// The entry of `NOT_MY_KEY` that seals it.
    pub entry: usize,
}

impl KeyStock {
    pub fn repeating(keys: usize) -> Self {
        Self {
            repeat_after: Some(keys),
            ..Self::default()
        }
    }

    pub fn next(&self) -> PrivateKey {
        let n = self.taken.fetch_add(1, Ordering::Relaxed);
        let n = self.repeat_after.map_or(n, |repeat_after| n % repeat_after);
        PrivateKey::from_pem(pem(n).as_bytes()).unwrap()
    }

    pub fn maker_of(&self, kid: i64) -> Option<Maker> {
        self.makers.lock().unwrap().get(&kid).copied()
    }
}

/// A fault while the next key is made.
#[derive(Clone, Debug)]
pub enum GenerationFault {
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
    pub stock: Arc<KeyStock>,
    pub clock: Arc<ManualClock>,
    pub store: Store,
    pub maker: Maker,
    pub fault: Mutex<Option<GenerationFault>>,
}

impl KeySource for Source {
    fn generate(&self) -> Result<PrivateKey, KeyError> {
        let fault = self.fault.lock().unwrap().take();
        match fault {
            None => {}
            Some(GenerationFault::Slow(secs)) => self.clock.advance(Duration::from_secs(secs)),
            Some(GenerationFault::Fails) => return Err(KeyError::NotMade("no randomness".into())),
            // Unlike `panic!` it prints nothing.
            Some(GenerationFault::Panics) => std::panic::resume_unwind(Box::new("on purpose")),
            Some(GenerationFault::StoreCloses) => {
                tokio::runtime::Handle::current().block_on(self.store.clone().close());
            }
        }
        let key = self.stock.next();
        let kid = Kid::from_thumbprint(&key.public().thumbprint()).as_i64();
        let mut makers = self.stock.makers.lock().unwrap();
        makers.insert(kid, self.maker);
        Ok(key)
    }
}
