//! Metrics of the service, in prometheus-client's types. Each label has a bounded
//! set of values (routes, known methods, status codes), never a client's text.

mod requests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use strum::{IntoStaticStr, VariantArray};

pub use requests::RequestMetrics;

/// One label, name and value.
pub type Label = [(&'static str, &'static str); 1];

/// Upper bounds of buckets, in seconds: from a fetch of the key set (tens of
/// microseconds) over a sign-in (tens of milliseconds) to the longest time-out.
const SECONDS: [f64; 17] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0,
];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// All metrics of the process, registered once.
pub struct Metrics {
    pub requests: RequestMetrics,
    pub sign_ins: SignIns,
    pub current: Current,
    registry: Registry,
}

impl Metrics {
    /// `commits` is the store's, which exists before the metrics.
    pub fn new(commits: &Commits, started_at: i64) -> Self {
        let requests = RequestMetrics::default();
        let sign_ins = SignIns::default();
        let current = Current::default();
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("jwks_build", "Version of the program", build);
        let start = Gauge::<i64>::default();
        start.set(started_at);
        registry.register(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970",
            start,
        );
        requests.register(&mut registry);
        registry.register(
            "jwks_sign_ins",
            "Calls of POST /auth that the quota let in, by outcome",
            sign_ins.0.clone(),
        );
        current.register(&mut registry);
        commits.register(&mut registry);
        Self {
            requests,
            sign_ins,
            current,
            registry,
        }
    }

    /// All metrics in the Prometheus text format, and its content type.
    pub fn page(&self) -> (&'static str, String) {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        (prometheus_text::CONTENT_TYPE, text)
    }
}

macro_rules! current {
    ($($field:ident: $metric:ty = $name:literal, $help:literal;)*) => {
        /// Values that other parts of the service keep. `http/metrics_page.rs` copies them
        /// here before each page.
        #[derive(Debug, Default)]
        pub struct Current {
            $(pub $field: $metric,)*
        }

        impl Current {
            fn register(&self, registry: &mut Registry) {
                $(registry.register($name, $help, self.$field.clone());)*
            }
        }
    };
}

current! {
    quota_refusals: Counter = "jwks_quota_refusals",
        "Calls that the quotas of POST /auth and POST /register have refused";
    quota_clients: Gauge = "jwks_quota_clients",
        "Client addresses that the quotas remember";
    hashing_queue: Family<Label, Gauge> = "jwks_hashing_queue_length",
        "Passwords that wait for a hashing thread";
    keys: Family<Label, Gauge> = "jwks_keys",
        "Keys in memory, by stage: all in the key set, and the latest that are not";
    keys_next_change: Family<Label, Gauge> = "jwks_keys_next_change_seconds",
        "Seconds until the first key of the stage leaves it; negative when overdue";
    next_key: Gauge = "jwks_next_key_seconds",
        "Seconds until the next key is due; negative when overdue";
    rotation_failures: Counter = "jwks_rotation_failures",
        "Rotation ticks that have failed";
    wal_bytes: Gauge = "jwks_wal_bytes",
        "Size of the write-ahead log of the database";
    disk_low: Gauge = "jwks_disk_low",
        "1 when too little is left on the disk for new accounts";
    rotation_failing: Gauge = "jwks_rotation_failing",
        "1 when the latest rotation tick has failed";
}

/// Outcome of a call of `POST /auth` that the quota let in; its label in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SignInOutcome {
    Token,
    /// An expired token, which was asked for.
    ExpiredToken,
    BadCredentials,
    Malformed,
    /// The hashing queue was full.
    Overloaded,
    /// No database, no key or no memory at the moment.
    Unavailable,
    /// A fault of the service.
    Failed,
    /// It took too long, or the connection ended first.
    Abandoned,
}

impl SignInOutcome {
    fn label(self) -> Label {
        [("outcome", self.into())]
    }
}

/// Sign-ins by outcome, each of which is on the page from the start.
#[derive(Debug)]
pub struct SignIns(Family<Label, Counter>);

impl Default for SignIns {
    fn default() -> Self {
        let family = Family::default();
        for outcome in SignInOutcome::VARIANTS {
            let _ = family.get_or_create(&outcome.label());
        }
        Self(family)
    }
}

impl SignIns {
    pub fn ended(&self, how: SignInOutcome) {
        self.0.get_or_create(&how.label()).inc();
    }

    pub fn count(&self, how: SignInOutcome) -> u64 {
        self.0.get_or_create(&how.label()).get()
    }
}

/// Transactions that write.
#[derive(Debug)]
pub struct Commits {
    outcomes: Family<Label, Counter>,
    committed: Counter,
    failed: Counter,
    last_failed: AtomicBool,
    writes: Histogram,
    took: Histogram,
}

impl Default for Commits {
    fn default() -> Self {
        let outcomes = Family::<Label, Counter>::default();
        Self {
            committed: outcomes.get_or_create_owned(&[("outcome", "committed")]),
            failed: outcomes.get_or_create_owned(&[("outcome", "failed")]),
            outcomes,
            last_failed: AtomicBool::new(false),
            writes: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
            took: seconds(),
        }
    }
}

impl Commits {
    /// Counts a transaction of so many writes, from BEGIN to the end of COMMIT.
    pub fn ended(&self, committed: bool, writes: usize, took: Duration) {
        let count = if committed {
            &self.committed
        } else {
            &self.failed
        };
        count.inc();
        self.last_failed.store(!committed, Ordering::Relaxed);
        self.writes
            .observe(u32::try_from(writes).unwrap_or(u32::MAX).into());
        self.took.observe(took.as_secs_f64());
    }

    /// Numbers of those that committed and that failed.
    pub fn counts(&self) -> (u64, u64) {
        (self.committed.get(), self.failed.get())
    }

    pub fn last_failed(&self) -> bool {
        self.last_failed.load(Ordering::Relaxed)
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "jwks_commits",
            "Transactions that write to the database, by outcome",
            self.outcomes.clone(),
        );
        registry.register(
            "jwks_commit_writes",
            "Writes in one transaction",
            self.writes.clone(),
        );
        registry.register(
            "jwks_commit_duration_seconds",
            "Time of a transaction, until it is on disk",
            self.took.clone(),
        );
    }
}
