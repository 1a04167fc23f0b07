//! Checks of the port and of the service that answers there.

use std::io;
use std::time::{Duration, SystemTime};

use crate::cli::fetch::{self, Reply};
use crate::cli::health;
use crate::cli::report::Report;
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::config::{self, Config};
use crate::domain::database::{self, Difference, Inspection};
use crate::domain::verification::KeySet;
use crate::http::listen;

const JWKS: &str = "/.well-known/jwks.json";
/// Tolerated difference between the clocks of service and doctor.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);

/// The configured port.
pub(super) struct Port {
    name: String,
    state: State,
}

enum State {
    /// `PORT=0`.
    Any,
    Free,
    Server(Server),
    /// Another program listens there, or a service that fails; and why.
    Other(String),
    /// Nothing can listen there.
    Unusable(String),
}

/// A service that answered with a key set.
pub(super) struct Server {
    base: String,
    reply: Reply,
    at: UnixTime,
    set: KeySet,
}

pub(super) fn find(host: &str, port: u16) -> Port {
    let state = match port {
        0 => State::Any,
        // Bound without listening, so that nobody can connect meanwhile.
        _ => match listen::bind(host, port) {
            Ok(_) => State::Free,
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                match Server::request(fetch::local_url(host, port, "")) {
                    Ok(server) => State::Server(server),
                    Err(why) => State::Other(why),
                }
            }
            Err(e) => State::Unusable(e.to_string()),
        },
    };
    Port {
        name: format!("HOST={} PORT={port}", config::redacted(host)),
        state,
    }
}

impl Port {
    pub(super) fn server(&self) -> Option<&Server> {
        match &self.state {
            State::Server(server) => Some(server),
            _ => None,
        }
    }

    pub(super) fn check(&self, report: &mut Report) {
        let name = &self.name;
        match &self.state {
            State::Any => report.ok(
                "port",
                "PORT=0: each start picks one, so a running service cannot be found",
            ),
            State::Free => report.ok("port", format!("{name} is free; no service runs there")),
            State::Server(_) => report.ok("port", format!("{name}: a service answers")),
            State::Other(why) => report.fail(
                "port",
                format!("{name} is in use, but not by a service that answers as it should: {why}"),
                "stop the program that uses it, or set PORT; if it is the service, see its log",
            ),
            State::Unusable(why) => report.fail(
                "port",
                format!("{name} cannot be listened on: {why}"),
                "set HOST to an address of this machine and PORT to one that this user may use",
            ),
        }
    }
}

impl Server {
    fn request(base: String) -> Result<Self, String> {
        let reply = fetch::get(&format!("{base}{JWKS}"))?;
        let at = SystemClock::new().now();
        if reply.status != 200 {
            return Err(format!("its key set has status {}", reply.status));
        }
        let set = KeySet::parse(&reply.body).map_err(|e| format!("its key set: {e}"))?;
        Ok(Self {
            base,
            reply,
            at,
            set,
        })
    }
}

/// `inspect_again` waits a moment first.
pub(super) fn check(
    server: &Server,
    config: Option<&Config>,
    inspection: Option<&Inspection>,
    inspect_again: impl Fn() -> Option<Inspection>,
    report: &mut Report,
) {
    let mut different = difference(&server.set, inspection, config);
    if different.is_some() {
        // A key may have come or gone between the request and the inspection.
        let inspection = inspect_again();
        different = match Server::request(server.base.clone()) {
            Ok(again) => difference(&again.set, inspection.as_ref(), config),
            Err(why) => Some(why),
        };
    }
    match different {
        None => report.ok("key set", "the service publishes the keys of this database"),
        Some(why) => report.fail(
            "key set",
            why,
            "check that the service was started in this folder with these settings, and restart it",
        ),
    }
    headers(server, config, report);
    ready(server, report);
    unknown_name(server, report);
    clocks(server, report);
}

fn difference(
    set: &KeySet,
    inspection: Option<&Inspection>,
    config: Option<&Config>,
) -> Option<String> {
    let Some(found) = inspection else {
        return Some(
            "a service runs, but there is no database here whose keys it could publish".to_owned(),
        );
    };
    let sealing_keys = config.map(|config| &*config.keys.sealing_keys);
    let listed = |kids: Vec<String>| {
        let kids: Vec<_> = kids.iter().take(10).map(|kid| format!("{kid:?}")).collect();
        kids.join(", ")
    };
    match database::difference(set, found, sealing_keys, SystemClock::new().now())? {
        Difference::Extra(kids) => Some(format!(
            "the service publishes keys that this database does not: {}",
            listed(kids)
        )),
        Difference::Missing(kids) => Some(format!(
            "the service does not publish keys of this database: {}",
            listed(kids)
        )),
    }
}

fn headers(server: &Server, config: Option<&Config>, report: &mut Report) {
    let reply = &server.reply;
    let etag = reply.header("etag");
    let caching = reply.header("cache-control");
    let fixed = [
        ("Content-Type", "application/json"),
        ("Access-Control-Allow-Origin", "*"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    let differs = |&(name, value): &(&str, &str)| reply.header(name) != value;
    let mut wrong: Vec<_> = fixed
        .into_iter()
        .filter(differs)
        .map(|(name, _)| name)
        .collect();
    if !(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"')) {
        wrong.push("ETag");
    }
    if !caching.starts_with("public, max-age=") {
        wrong.push("Cache-Control");
    }
    let max_age = config.map(|c| format!("public, max-age={}", c.keys.jwks_max_age.as_secs()));
    if !wrong.is_empty() {
        report.fail(
            "headers",
            format!(
                "missing or wrong in the response with the key set: {}",
                wrong.join(", ")
            ),
            "check whether a proxy changes them, or another program has the port",
        );
    } else if max_age.is_some_and(|wanted| wanted != caching) {
        report.warn(
            "headers",
            format!("Cache-Control is {caching:?}, which is not what JWKS_MAX_AGE says now"),
            "restart the service, which has older settings",
        );
    } else {
        report.ok(
            "headers",
            "content type, ETag, caching, CORS and nosniff are right",
        );
    }
}

fn ready(server: &Server, report: &mut Report) {
    const CHECK: &str = "readiness";
    match health::readiness(&server.base, fetch::TIMEOUT) {
        Ok(None) => report.ok(CHECK, "the service is ready"),
        Ok(Some(warning)) => report.warn(
            CHECK,
            format!("the service is ready, but {warning}"),
            "see the service's log: if the address there is your proxy, add it to TRUSTED_PROXIES",
        ),
        Err(why) => report.fail(CHECK, why, "the service's log says why"),
    }
}

/// Signs in with an unused name: a refusal shows that accounts are looked up and
/// passwords checked, and leaves no row but that of the quota on PostgreSQL.
fn unknown_name(server: &Server, report: &mut Report) {
    const ADVICE: &str = "the service's log says why";
    let random = uuid::Uuid::new_v4().to_string();
    let body = serde_json::json!({ "username": format!("nobody-{random}"), "password": random });
    match fetch::post(&format!("{}/auth", server.base), &body.to_string()) {
        Ok(reply) => match reply.status {
            401 => report.ok("sign-in", "an unknown name is refused with 401"),
            429 | 503 => report.warn(
                "sign-in",
                format!("the service is busy (status {})", reply.status),
                "try again in a moment",
            ),
            other => report.fail(
                "sign-in",
                format!("an unknown name gets status {other} instead of 401"),
                ADVICE,
            ),
        },
        Err(why) => report.fail("sign-in", why, ADVICE),
    }
}

fn clocks(server: &Server, report: &mut Report) {
    let Ok(date) = httpdate::parse_http_date(server.reply.header("date")) else {
        let text = "the service's responses have no readable Date";
        return report.warn("service clock", text, "check whether a proxy removes it");
    };
    let since = date
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let theirs = UnixTime::from_secs(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let apart = theirs.until(server.at).max(server.at.until(theirs));
    let text = format!(
        "the service's clock differs by {} s from this one",
        apart.as_secs()
    );
    if apart > MAX_CLOCK_DIFFERENCE {
        report.warn(
            "service clock",
            text,
            "set the clocks of both machines with a time service",
        );
    } else {
        report.ok("service clock", text);
    }
}
