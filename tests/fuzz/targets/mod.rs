//! The fuzz targets: each takes bytes that somebody else may choose, gives
//! them to the service, and panics when something is wrong with the outcome.

mod forwarded;
mod hashes;
#[path = "../../shared/manual_clock.rs"]
mod manual_clock;
mod requests;
mod sealed;
mod settings;

/// A target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A request through the front door: path, headers, body.
    Requests,
    /// The file `.env`.
    Settings,
    /// Sealed keys: what is in the column `keys.key`, and `NOT_MY_KEY` itself.
    Sealed,
    /// PHC strings: what is in the column `users.password_hash`.
    Hashes,
    /// `X-Forwarded-For`.
    Forwarded,
}

impl Target {
    pub const ALL: [Self; 5] = [
        Self::Requests,
        Self::Settings,
        Self::Sealed,
        Self::Hashes,
        Self::Forwarded,
    ];

    /// Its name, which is that of its folder in the corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Settings => "settings",
            Self::Sealed => "sealed",
            Self::Hashes => "hashes",
            Self::Forwarded => "forwarded",
        }
    }

    /// Changed copies that a core tries in a second, without optimisation.
    #[allow(dead_code, reason = "libFuzzer goes by the clock")]
    pub fn runs_in_a_second(self) -> u64 {
        match self {
            Self::Requests => 4000,
            Self::Settings => 600,
            Self::Sealed => 30_000,
            Self::Hashes => 100_000,
            Self::Forwarded => 40_000,
        }
    }

    #[allow(dead_code, reason = "only libFuzzer's half looks targets up")]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    pub fn run(self, data: &[u8]) {
        match self {
            Self::Requests => requests::run(data),
            Self::Settings => settings::run(data),
            Self::Sealed => sealed::run(data),
            Self::Hashes => hashes::run(data),
            Self::Forwarded => forwarded::run(data),
        }
    }
}
