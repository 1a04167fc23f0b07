//! The settings that are times, and the rules between them.

use std::time::Duration;

use super::{ConfigError, Name, Problems, Settings, name, values};
use crate::lifecycle::{Policy, PolicyParts};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = minutes(60);

/// A setting: name, default, least and largest value.
type Time = (Name, Duration, Duration, Duration);

const KEY_LIFETIME: Time = (name::KEY_LIFETIME, HOUR, minutes(1), days(365));
const TOKEN_LIFETIME: Time = (name::TOKEN_LIFETIME, minutes(30), SECOND, days(30));
const KEY_LEAD: Time = (name::KEY_LEAD, minutes(10), Duration::ZERO, days(30));
const CLOCK_SKEW: Time = (name::CLOCK_SKEW, minutes(1), Duration::ZERO, HOUR);
const KEY_RETENTION: Time = (name::KEY_RETENTION, days(7), Duration::ZERO, days(3650));
/// The default is lower with a shorter lead.
const JWKS_MAX_AGE: Time = (name::JWKS_MAX_AGE, minutes(5), Duration::ZERO, days(30));

/// The policy for keys, and `max-age` of the key set.
pub(super) fn read(settings: &Settings, problems: &mut Problems) -> Option<(Policy, Duration)> {
    let mut time = |(name, default, min, max)| {
        problems.note(values::duration(settings, name, default, min..=max))
    };
    let (lead, skew) = (time(KEY_LEAD), time(CLOCK_SKEW));
    let (key_lifetime, token_lifetime) = (time(KEY_LIFETIME), time(TOKEN_LIFETIME));
    let retention = time(KEY_RETENTION);
    let (name, default, min, max) = JWKS_MAX_AGE;
    let default = lead.map_or(default, |lead| default.min(lead));
    let max_age = time((name, default, min, max));
    let parts = PolicyParts {
        key_lifetime: key_lifetime?,
        token_lifetime: token_lifetime?,
        lead: lead?,
        skew: skew?,
        retention: retention?,
    };
    problems.note(fit_together(parts, max_age?))
}

fn fit_together(parts: PolicyParts, max_age: Duration) -> Result<(Policy, Duration), ConfigError> {
    let policy = Policy::new(parts).map_err(|e| {
        ConfigError::new(format!(
            "KEY_LIFETIME, KEY_LEAD, TOKEN_LIFETIME and CLOCK_SKEW do not fit together: {e}; lengthen KEY_LIFETIME or shorten the others"
        ))
    })?;
    if max_age > parts.lead {
        return Err(ConfigError::new(format!(
            "JWKS_MAX_AGE is {} s, longer than KEY_LEAD with {} s: a verifier could hold a key set without the key that signs; shorten JWKS_MAX_AGE or lengthen KEY_LEAD",
            max_age.as_secs(),
            parts.lead.as_secs()
        )));
    }
    Ok((policy, max_age))
}

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}
