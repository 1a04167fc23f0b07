//! The times that can be set, and the rules that hold them together.

use std::time::Duration;

use super::{ConfigError, Settings, values};
use crate::lifecycle::{Policy, PolicyParts};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A variable with its default, its least and its largest value.
type Time = (&'static str, Duration, Duration, Duration);

const KEY_LIFETIME: Time = ("KEY_LIFETIME", HOUR, MINUTE, times(365, DAY));
const TOKEN_LIFETIME: Time = ("TOKEN_LIFETIME", times(30, MINUTE), SECOND, times(30, DAY));
const KEY_LEAD: Time = (
    "KEY_LEAD",
    times(10, MINUTE),
    Duration::ZERO,
    times(30, DAY),
);
const CLOCK_SKEW: Time = ("CLOCK_SKEW", MINUTE, Duration::ZERO, HOUR);
const KEY_RETENTION: Time = (
    "KEY_RETENTION",
    times(7, DAY),
    Duration::ZERO,
    times(3650, DAY),
);
/// Its default is never over the lead.
const JWKS_MAX_AGE: Time = (
    "JWKS_MAX_AGE",
    times(5, MINUTE),
    Duration::ZERO,
    times(30, DAY),
);

/// The policy for keys, and how long the key set may be cached.
pub(super) fn policy(settings: &Settings) -> Result<(Policy, Duration), ConfigError> {
    let time = |time| read(settings, time);
    let lead = time(KEY_LEAD)?;
    let policy = Policy::new(PolicyParts {
        key_lifetime: time(KEY_LIFETIME)?,
        token_lifetime: time(TOKEN_LIFETIME)?,
        lead,
        skew: time(CLOCK_SKEW)?,
        retention: time(KEY_RETENTION)?,
    })
    .map_err(|e| {
        ConfigError::new(format!(
            "KEY_LIFETIME, KEY_LEAD, TOKEN_LIFETIME and CLOCK_SKEW do not fit together: {e}; lengthen KEY_LIFETIME or shorten the others"
        ))
    })?;
    let (name, default, least, most) = JWKS_MAX_AGE;
    let max_age = time((name, default.min(lead), least, most))?;
    if max_age > lead {
        return Err(ConfigError::new(format!(
            "JWKS_MAX_AGE is {} s, longer than KEY_LEAD with {} s: a verifier could hold a key set without the key that signs; shorten JWKS_MAX_AGE or lengthen KEY_LEAD",
            max_age.as_secs(),
            lead.as_secs()
        )));
    }
    Ok((policy, max_age))
}

/// All that is wrong with them: each one that cannot be read, or else that
/// they do not fit together.
pub(super) fn problems(settings: &Settings) -> Vec<ConfigError> {
    let all = [
        KEY_LIFETIME,
        TOKEN_LIFETIME,
        KEY_LEAD,
        CLOCK_SKEW,
        KEY_RETENTION,
        JWKS_MAX_AGE,
    ];
    let mut found: Vec<_> = all
        .into_iter()
        .filter_map(|time| read(settings, time).err())
        .collect();
    if found.is_empty() {
        found.extend(policy(settings).err());
    }
    found
}

fn read(settings: &Settings, (name, default, least, most): Time) -> Result<Duration, ConfigError> {
    values::duration(settings, name, default, least..=most)
}

const fn times(n: u64, unit: Duration) -> Duration {
    Duration::from_secs(n * unit.as_secs())
}
