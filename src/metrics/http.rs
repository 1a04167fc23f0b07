//! Requests by route, method and status, and how long they took. Each thread
//! counts on memory of its own, as far as it goes round, so that threads that
//! answer at once do not wait for each other's cache lines.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};

use super::histogram::{Histogram, Recorded};

/// Threads that count apart; more share.
const SHARDS: usize = 8;
const METHODS: [&str; 8] = [
    "GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "other",
];
/// The statuses that there are, the most frequent first. 0 is for others.
const STATUSES: [u16; 16] = [
    200, 304, 201, 401, 429, 204, 400, 404, 405, 408, 409, 413, 415, 500, 503, 0,
];

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The key set, at any of its paths.
    KeySet,
    /// The times of the keys.
    Schedule,
    /// The discovery documents.
    Discovery,
    /// The description of the service.
    OpenApi,
    /// Sign-in.
    Auth,
    /// Sign-up.
    Register,
    /// Whether the process is alive.
    Healthz,
    /// Whether it can do its work.
    Readyz,
    /// A path at which there is nothing.
    Other,
}

impl Route {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::KeySet,
        Self::Schedule,
        Self::Discovery,
        Self::OpenApi,
        Self::Auth,
        Self::Register,
        Self::Healthz,
        Self::Readyz,
        Self::Other,
    ];

    /// The route of a path, as near as the path alone tells. An issuer's path
    /// may come before or after what is well known.
    pub fn of(path: &str) -> Self {
        match path {
            "/.well-known/jwks.json" => Self::KeySet,
            "/auth" => Self::Auth,
            "/register" => Self::Register,
            "/healthz" => Self::Healthz,
            "/readyz" => Self::Readyz,
            "/openapi.json" => Self::OpenApi,
            "/.well-known/jwks-schedule.json" => Self::Schedule,
            _ if path.ends_with("/.well-known/jwks.json") => Self::KeySet,
            _ if path.ends_with("/.well-known/openid-configuration")
                || path.starts_with("/.well-known/oauth-authorization-server") =>
            {
                Self::Discovery
            }
            _ => Self::Other,
        }
    }

    /// Whether programs ask for it all the time, so that a line in the log for
    /// each answer that is good would drown the rest.
    pub const fn is_polled(self) -> bool {
        matches!(self, Self::KeySet | Self::Healthz | Self::Readyz)
    }

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeySet => "key_set",
            Self::Schedule => "schedule",
            Self::Discovery => "discovery",
            Self::OpenApi => "openapi",
            Self::Auth => "auth",
            Self::Register => "register",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Other => "other",
        }
    }
}

/// Requests by what was asked for and what became of them.
#[derive(Debug)]
pub struct Http(Box<[Shard; SHARDS]>);

/// Apart from its neighbours by two cache lines, which are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    answers: [[[AtomicU64; STATUSES.len()]; METHODS.len()]; Route::ALL.len()],
    took: [Histogram; Route::ALL.len()],
    abandoned: [AtomicU64; Route::ALL.len()],
}

impl Default for Http {
    fn default() -> Self {
        Self(Box::new([const { Shard::new() }; SHARDS]))
    }
}

impl Shard {
    const fn new() -> Self {
        Self {
            answers: [const { [const { zeros() }; METHODS.len()] }; Route::ALL.len()],
            took: [const { Histogram::of_times() }; Route::ALL.len()],
            abandoned: zeros(),
        }
    }
}

const fn zeros<const N: usize>() -> [AtomicU64; N] {
    [const { AtomicU64::new(0) }; N]
}

impl Http {
    /// Counts an answer and the time from the request's head to the answer's.
    /// What is not found counts for [`Route::Other`], whatever the path looks like.
    pub fn answered(&self, route: Route, method: &Method, status: StatusCode, took: Duration) {
        let route = match status {
            StatusCode::NOT_FOUND => Route::Other,
            _ => route,
        } as usize;
        let shard = self.shard();
        shard.answers[route][method_index(method)][status_index(status)]
            .fetch_add(1, Ordering::Relaxed);
        shard.took[route].record_time(took);
    }

    /// Counts a request whose client went away before it was answered.
    pub fn abandoned(&self, route: Route) {
        self.shard().abandoned[route as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn shard(&self) -> &Shard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        // While a thread ends it may have none any more.
        &self.0[MINE.try_with(|mine| *mine).unwrap_or(0)]
    }

    /// The answers that there have been: route, method, status and number.
    pub(super) fn answers(&self) -> Vec<(Route, &'static str, u16, u64)> {
        let mut found = Vec::new();
        for route in Route::ALL {
            for (m, method) in METHODS.into_iter().enumerate() {
                for (s, status) in STATUSES.into_iter().enumerate() {
                    let number = self.sum(|shard| &shard.answers[route as usize][m][s]);
                    if number > 0 {
                        found.push((route, method, status, number));
                    }
                }
            }
        }
        found
    }

    /// How long the answers of a route took.
    pub(super) fn took(&self, route: Route) -> Recorded {
        let mut total = Recorded::default();
        for shard in self.0.iter() {
            shard.took[route as usize].add_to(&mut total);
        }
        total
    }

    pub(super) fn abandoned_of(&self, route: Route) -> u64 {
        self.sum(|shard| &shard.abandoned[route as usize])
    }

    fn sum<'a>(&'a self, of: impl Fn(&'a Shard) -> &'a AtomicU64) -> u64 {
        let shards = self.0.iter();
        shards.map(|shard| of(shard).load(Ordering::Relaxed)).sum()
    }
}

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::OPTIONS => 2,
        Method::POST => 3,
        Method::PUT => 4,
        Method::PATCH => 5,
        Method::DELETE => 6,
        _ => 7,
    }
}

fn status_index(status: StatusCode) -> usize {
    let status = status.as_u16();
    let known = STATUSES.iter().position(|&known| known == status);
    known.unwrap_or(STATUSES.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_routes_and_methods_are_their_places() {
        for (n, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, n);
        }
        for (n, name) in METHODS.into_iter().enumerate() {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(method_index(&method), n, "{name}");
        }
    }

    #[test]
    fn paths_are_told_apart_and_an_issuers_path_does_not_count() {
        for (path, route) in [
            ("/.well-known/jwks.json", Route::KeySet),
            ("/tenant/.well-known/jwks.json", Route::KeySet),
            ("/.well-known/jwks-schedule.json", Route::Schedule),
            ("/.well-known/openid-configuration", Route::Discovery),
            ("/tenant/.well-known/openid-configuration", Route::Discovery),
            (
                "/.well-known/oauth-authorization-server/tenant",
                Route::Discovery,
            ),
            ("/auth", Route::Auth),
            ("/register", Route::Register),
            ("/healthz", Route::Healthz),
            ("/readyz", Route::Readyz),
            ("/openapi.json", Route::OpenApi),
            ("/tenant/openapi.json", Route::Other),
            ("/auth/", Route::Other),
            ("/", Route::Other),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn what_all_threads_count_is_added_up_and_labels_stay_within_the_list() {
        let http = Http::default();
        let took = Duration::from_micros(10);
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| {
                    let odd = Method::from_bytes(b"X-CLIENTS-OWN").unwrap();
                    let teapot = StatusCode::IM_A_TEAPOT;
                    http.answered(Route::KeySet, &Method::GET, StatusCode::OK, took);
                    http.answered(Route::KeySet, &Method::GET, StatusCode::NOT_FOUND, took);
                    http.answered(Route::Auth, &odd, teapot, took);
                    http.abandoned(Route::Auth);
                });
            }
        });
        assert_eq!(
            http.answers(),
            [
                (Route::KeySet, "GET", 200, 16),
                (Route::Auth, "other", 0, 16),
                (Route::Other, "GET", 404, 16),
            ]
        );
        assert_eq!(http.took(Route::Auth).count, 16);
        assert_eq!(http.took(Route::Schedule).count, 0);
        assert_eq!(http.abandoned_of(Route::Auth), 16);
    }
}
