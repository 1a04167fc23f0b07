//! Counters of what the service does, for `/metrics`. A leaf: counting is a few
//! atomic additions without a lock, on memory that is there from the start, and
//! every label is one of a fixed list, never a client's text. What can be
//! looked up when somebody asks is no counter, see [`Gauges`].

mod histogram;
mod http;
mod page;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use histogram::Histogram;
pub use http::{Http, Route};
pub use page::{Gauges, KeysInState, page};

/// All counters of the process.
#[derive(Debug)]
pub struct Metrics {
    /// Requests and what became of them.
    pub http: Http,
    /// What became of sign-ins.
    pub sign_ins: SignIns,
    /// What the database was given to keep; the store counts it.
    pub commits: Arc<Commits>,
}

impl Metrics {
    /// All at zero, but for what the store has counted already.
    pub fn new(commits: Arc<Commits>) -> Self {
        Self {
            http: Http::default(),
            sign_ins: SignIns::default(),
            commits,
        }
    }
}

/// What became of a call of `/auth` that the quota let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// A token.
    Token,
    /// A token that is expired, as was asked for.
    ExpiredToken,
    /// Unknown name or wrong password.
    BadCredentials,
    /// No credentials that could be read.
    Malformed,
    /// Too many passwords were being checked.
    Overloaded,
    /// No database, no key or no memory at the moment.
    Unavailable,
    /// A fault of ours.
    Failed,
    /// It took too long, or the client went away.
    Abandoned,
}

impl SignIn {
    const ALL: [Self; 8] = [
        Self::Token,
        Self::ExpiredToken,
        Self::BadCredentials,
        Self::Malformed,
        Self::Overloaded,
        Self::Unavailable,
        Self::Failed,
        Self::Abandoned,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::ExpiredToken => "expired_token",
            Self::BadCredentials => "bad_credentials",
            Self::Malformed => "malformed",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Sign-ins by what became of them.
#[derive(Debug, Default)]
pub struct SignIns([AtomicU64; SignIn::ALL.len()]);

impl SignIns {
    /// Counts one.
    pub fn ended(&self, how: SignIn) {
        self.0[how as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |how: SignIn| self.0[how as usize].load(Ordering::Relaxed);
        SignIn::ALL
            .into_iter()
            .map(move |how| (how.name(), count(how)))
    }
}

/// Transactions of the one writer.
#[derive(Debug)]
pub struct Commits {
    committed: AtomicU64,
    failed: AtomicU64,
    last_failed: AtomicBool,
    writes: Histogram,
    took: Histogram,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            committed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_failed: AtomicBool::new(false),
            writes: Histogram::of_sizes(),
            took: Histogram::of_times(),
        }
    }
}

impl Commits {
    /// Counts a transaction of so many writes, from its begin to its end.
    pub fn ended(&self, committed: bool, writes: usize, took: Duration) {
        let count = if committed {
            &self.committed
        } else {
            &self.failed
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.last_failed.store(!committed, Ordering::Relaxed);
        self.writes
            .record(u64::try_from(writes).unwrap_or(u64::MAX));
        self.took.record_time(took);
    }

    /// Whether the latest transaction came to nothing.
    pub fn last_failed(&self) -> bool {
        self.last_failed.load(Ordering::Relaxed)
    }
}
