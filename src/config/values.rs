//! Readers of single settings: parsing, bounds and messages.

use std::fmt::Display;
use std::fs::File;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{ConfigError, Name, Settings, name};
use crate::crypto::password::{
    Costs, MAX_LANES, MAX_MEMORY_KIB, MAX_PASSES, MIN_MEMORY_KIB, MIN_PASSES,
};
use crate::domain::database::{Location, PgEnvironment, Target};

/// Of a name in the DNS (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 255;

/// A value for messages, with "..." for anything that could be a sealing key which
/// was put into the wrong variable: a Fernet key has 43 of these characters in a row.
pub(crate) fn redacted(value: &str) -> String {
    let may_be_of_a_key = |c: char| c.is_ascii_alphanumeric() || "-_+/".contains(c);
    let mut text = String::new();
    for word in value.split_inclusive(|c| !may_be_of_a_key(c)) {
        let end = word.find(|c| !may_be_of_a_key(c)).unwrap_or(word.len());
        text.push_str(if end < 40 { &word[..end] } else { "..." });
        text.push_str(&word[end..]);
    }
    text
}

/// An address, perhaps in brackets, or a name.
pub(super) fn host(settings: &Settings) -> Result<String, ConfigError> {
    let text = settings.get(name::HOST).unwrap_or("localhost");
    if !could_be_a_host(text) {
        return Err(ConfigError::new(format!(
            "HOST={:?} is neither an address, such as 127.0.0.1 or ::1, nor a host name",
            redacted(text)
        )));
    }
    Ok(text.to_owned())
}

fn could_be_a_host(text: &str) -> bool {
    let is_in_either = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    text.len() <= MAX_HOST && text.chars().all(is_in_either)
}

pub(super) fn number<T>(
    settings: &Settings,
    name: Name,
    default: T,
    allowed: RangeInclusive<T>,
) -> Result<T, ConfigError>
where
    T: FromStr + PartialOrd + Display,
{
    let Some(text) = settings.get(name) else {
        return Ok(default);
    };
    text.parse()
        .ok()
        .filter(|value| allowed.contains(value))
        .ok_or_else(|| {
            ConfigError::new(format!(
                "{name}={:?} is not a whole number from {} to {}",
                redacted(text),
                allowed.start(),
                allowed.end()
            ))
        })
}

pub(super) fn duration(
    settings: &Settings,
    name: Name,
    default: Duration,
    allowed: RangeInclusive<Duration>,
) -> Result<Duration, ConfigError> {
    let Some(text) = settings.get(name) else {
        return Ok(default);
    };
    let refuse = |why: String| ConfigError::new(format!("{name}={:?} is {why}", redacted(text)));
    let value = humantime::parse_duration(text)
        .map_err(|_| refuse("not a time with a unit, such as 90s, 10m, 1h or 7d".to_owned()))?;
    if value.subsec_nanos() != 0 {
        return Err(refuse("not in whole seconds".to_owned()));
    }
    if !allowed.contains(&value) {
        return Err(refuse(format!(
            "out of range: {} to {}",
            humantime::format_duration(*allowed.start()),
            in_days(*allowed.end())
        )));
    }
    Ok(value)
}

/// Time for which sign-ins are kept; none: for ever.
pub(super) fn audit_retention(settings: &Settings) -> Result<Option<Duration>, ConfigError> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let allowed = DAY..=DAY * 36_500;
    let name = name::AUDIT_RETENTION;
    settings
        .get(name)
        .map(|_| duration(settings, name, DAY, allowed))
        .transpose()
}

/// `DATABASE_URL` alone, valid whatever the other settings are: `sqlite:PATH` or
/// `sqlite://PATH`, which is not decoded, or `postgres://…`.
pub fn database(settings: &Settings) -> Result<Location, ConfigError> {
    let url = settings
        .get(name::DATABASE_URL)
        .unwrap_or("sqlite:totally_not_my_privateKeys.db");
    database_at(settings, "DATABASE_URL", url)
}

/// The database at `url`; errors name `source`, such as `--to`.
pub fn database_at(settings: &Settings, source: &str, url: &str) -> Result<Location, ConfigError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return postgres(settings, source, url);
    }
    let path = url
        .strip_prefix("sqlite:")
        .map(|rest| rest.strip_prefix("//").unwrap_or(rest))
        .filter(|path| !path.is_empty() && *path != ":memory:" && !path.contains('?'));
    path.map(|path| Location::Sqlite(path.into())).ok_or_else(|| {
        // The rest may hold a password for another kind of database.
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        ConfigError::new(format!(
            "{source}={:?}... is not understood: it is sqlite:PATH of a file, such as sqlite:keys.db or sqlite:///var/lib/jwks/keys.db, or postgres://user@host/database",
            redacted(scheme)
        ))
    })
}

fn postgres(settings: &Settings, source: &str, url: &str) -> Result<Location, ConfigError> {
    let default_file = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass"));
    // As libpq does, one that is not asked for and cannot be read is left alone.
    let default_file = default_file.filter(|path| path.is_file() && File::open(path).is_ok());
    let password_file = settings.get(name::PGPASSFILE).map(Path::new);
    let environment = PgEnvironment {
        password: settings.get(name::PGPASSWORD),
        password_file: password_file.or(default_file.as_deref()),
        root_certificates: settings.get(name::PGSSLROOTCERT).map(Path::new),
    };
    let target = Target::parse(url, &environment).map_err(|why| {
        ConfigError::new(format!(
            "{source}=postgres://... cannot be used: {why}; it is postgres://user@host1,host2/database"
        ))
    })?;
    Ok(Location::Postgres(Box::new(target)))
}

pub(super) fn networks(settings: &Settings) -> Result<Vec<IpNet>, ConfigError> {
    let list = settings.get(name::TRUSTED_PROXIES).unwrap_or_default();
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let net = entry.parse().ok();
            net.or_else(|| entry.parse::<std::net::IpAddr>().map(IpNet::from).ok())
                .map(without_mapping)
                .ok_or_else(|| {
                    ConfigError::new(format!(
                        "TRUSTED_PROXIES: {:?} is not a network such as 10.0.0.0/8 or an address",
                        redacted(entry)
                    ))
                })
        })
        .collect()
}

/// Addresses are compared as IPv4 where IPv6 only maps it.
fn without_mapping(net: IpNet) -> IpNet {
    let v4 = match net {
        IpNet::V6(net) => net.addr().to_ipv4_mapped(),
        IpNet::V4(_) => None,
    };
    let length = net.prefix_len().checked_sub(96);
    let mapped = v4
        .zip(length)
        .and_then(|(v4, length)| Ipv4Net::new(v4, length).ok());
    mapped.map_or(net, IpNet::from)
}

pub(super) fn costs(settings: &Settings) -> Result<Costs, ConfigError> {
    let default = Costs::DEFAULT;
    let costs = Costs {
        memory_kib: number(
            settings,
            name::ARGON2_MEMORY_KIB,
            default.memory_kib,
            MIN_MEMORY_KIB..=MAX_MEMORY_KIB,
        )?,
        passes: number(
            settings,
            name::ARGON2_PASSES,
            default.passes,
            MIN_PASSES..=MAX_PASSES,
        )?,
        lanes: number(settings, name::ARGON2_LANES, default.lanes, 1..=MAX_LANES)?,
    };
    if !costs.are_acceptable() {
        return Err(ConfigError::new(
            "ARGON2_MEMORY_KIB times ARGON2_PASSES is over 1048576 (1 GiB in one pass); lower one of them",
        ));
    }
    Ok(costs)
}

/// Calls a second and client address.
pub(super) fn rate(settings: &Settings, name: Name) -> Result<NonZeroU32, ConfigError> {
    // Evaluated by the compiler: a zero here would not build.
    const DEFAULT: NonZeroU32 = NonZeroU32::new(10).unwrap();
    const MAX: NonZeroU32 = NonZeroU32::new(1000).unwrap();
    number(settings, name, DEFAULT, NonZeroU32::MIN..=MAX)
}

/// `HOST:PORT`, where an IPv6 address stands in brackets.
pub(super) fn metrics(settings: &Settings) -> Result<Option<(String, u16)>, ConfigError> {
    let Some(text) = settings.get(name::METRICS_ADDR) else {
        return Ok(None);
    };
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let is_whole = (host.starts_with('[') && host.ends_with(']')) || !host.contains(':');
        let is_one = is_whole && !host.is_empty() && could_be_a_host(host);
        is_one.then_some((host.to_owned(), port.parse().ok()?))
    });
    parts.map(Some).ok_or_else(|| {
        ConfigError::new(format!(
            "METRICS_ADDR={:?} is not an address and a port, such as 127.0.0.1:9100 or [::1]:9100",
            redacted(text)
        ))
    })
}

/// Levels, for all or by target. `Targets` alone would take a misspelt level for a
/// target and turn off the log of all others.
pub(super) fn log_filter(settings: &Settings) -> Result<Option<Targets>, ConfigError> {
    let Some(text) = settings.get(name::RUST_LOG) else {
        return Ok(None);
    };
    let entries: Vec<_> = text.split(',').map(str::trim).collect();
    let is_clear = |entry: &&str| entry.contains('=') || entry.parse::<LevelFilter>().is_ok();
    let filter = if entries.iter().all(is_clear) {
        entries.join(",").parse().ok()
    } else {
        None
    };
    filter.map(Some).ok_or_else(|| {
        ConfigError::new(format!(
            "RUST_LOG={:?} is not understood: it is a level such as info, or a list such as info,jwks_server=debug",
            redacted(text)
        ))
    })
}

fn in_days(longest: Duration) -> String {
    let days = longest.as_secs() / 86_400;
    if days > 0 {
        format!("{days}days")
    } else {
        humantime::format_duration(longest).to_string()
    }
}
