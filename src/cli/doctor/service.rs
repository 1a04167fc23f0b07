//! The port, and what answers there: whether it is this service, on this
//! database, and well.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

use super::configuration::Known;
use super::database;
use super::report::Report;
use crate::cli::fetch::{self, Answer};
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::config::{self, Config};
use crate::domain::key_admin;
use crate::domain::verification::KeySet;
use crate::store::Inspection;

const JWKS: &str = "/.well-known/jwks.json";
/// How far the clocks of service and doctor may be apart.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// What is with the port.
pub(super) struct Port {
    named: String,
    state: State,
}

enum State {
    /// `PORT=0`.
    Any,
    Free,
    Server(Server),
    /// Something listens there that is not this service, and why it is not.
    Other(String),
    /// It cannot be listened on.
    Unusable(String),
}

/// A server that answered with a key set.
pub(super) struct Server {
    base: String,
    answer: Answer,
    at: UnixTime,
    set: KeySet,
}

pub(super) fn look_at_port(runtime: &Runtime, host: &str, port: u16) -> Port {
    let state = match port {
        0 => State::Any,
        _ => match runtime.block_on(try_bind(host, port)) {
            Ok(()) => State::Free,
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                match Server::find(fetch::local_url(host, port, "")) {
                    Ok(server) => State::Server(server),
                    Err(why) => State::Other(why),
                }
            }
            Err(e) => State::Unusable(e.to_string()),
        },
    };
    Port {
        named: format!("HOST={} PORT={port}", config::shown(host)),
        state,
    }
}

impl Port {
    pub(super) fn is_ours(&self) -> bool {
        self.server().is_some()
    }

    pub(super) fn server(&self) -> Option<&Server> {
        match &self.state {
            State::Server(server) => Some(server),
            _ => None,
        }
    }

    pub(super) fn tell(&self, report: &mut Report) {
        let named = &self.named;
        match &self.state {
            State::Any => report.ok(
                "port",
                "PORT=0: each start picks one, so a running service is not looked for",
            ),
            State::Free => report.ok("port", format!("{named} is free; no service runs there")),
            State::Server(_) => report.ok("port", format!("{named}: a service answers")),
            State::Other(why) => report.fail(
                "port",
                format!("{named} is taken, but not by a service that is well: {why}"),
                "stop what is there, or set PORT; if it is the service, its log says more",
            ),
            State::Unusable(why) => report.fail(
                "port",
                format!("{named} cannot be listened on: {why}"),
                "set HOST to an address of this machine and PORT to one that this user may use",
            ),
        }
    }
}

/// Binds and lets go, without listening: nobody can connect meanwhile.
async fn try_bind(host: &str, port: u16) -> io::Result<()> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if !bare.eq_ignore_ascii_case("localhost") {
        for addr in tokio::net::lookup_host((bare, port)).await? {
            bind(addr)?;
        }
        return Ok(());
    }
    bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    match bind(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(e),
        // Or else a machine without IPv6.
        _ => Ok(()),
    }
}

fn bind(addr: SocketAddr) -> io::Result<()> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)
}

impl Server {
    fn find(base: String) -> Result<Self, String> {
        let answer = fetch::get(&format!("{base}{JWKS}"))?;
        let at = SystemClock::new().now();
        if answer.status != 200 {
            return Err(format!("its key set has status {}", answer.status));
        }
        let set = KeySet::parse(&answer.body).map_err(|e| format!("its key set: {e}"))?;
        Ok(Self {
            base,
            answer,
            at,
            set,
        })
    }
}

/// `look_again` takes a moment and reads the database anew.
pub(super) fn look(
    server: &Server,
    known: &Known,
    held: Option<&Inspection>,
    look_again: impl Fn() -> Option<Inspection>,
    report: &mut Report,
) {
    let config = known.config.as_ref();
    let mut apart = difference(&server.set, held, config);
    if apart.is_some() {
        // A key may have come or gone between the two looks.
        let held = look_again();
        apart = match Server::find(server.base.clone()) {
            Ok(again) => difference(&again.set, held.as_ref(), config),
            Err(why) => Some(why),
        };
    }
    match apart {
        None => report.ok("key set", "the service publishes the keys of this database"),
        Some(why) => report.fail(
            "key set",
            why,
            "see that the service was started in this folder with these settings, and restart it",
        ),
    }
    headers(server, config, report);
    sign_in(server, report);
    clocks(server, report);
}

/// How the key set differs from what the database should give: every key that
/// opens, and none that is not there.
fn difference(set: &KeySet, held: Option<&Inspection>, config: Option<&Config>) -> Option<String> {
    let Some(held) = held else {
        return Some(
            "a service runs, but there is no database here whose keys it could publish".to_owned(),
        );
    };
    let now = SystemClock::new().now();
    let rows: Vec<_> = database::rows(held)
        .filter(|row| row.times.is_published_at(now))
        .cloned()
        .collect();
    let there: BTreeSet<String> = set.kids().map(str::to_owned).collect();
    let may: BTreeSet<String> = rows.iter().map(|row| row.times.kid.to_string()).collect();
    let must: BTreeSet<String> = config.map_or(BTreeSet::new(), |config| {
        let statuses = key_admin::statuses(&rows, &config.secrets, &config.policy, now);
        let opened = statuses.iter().filter(|key| key.opened_by.is_ok());
        opened.map(|key| key.kid.to_string()).collect()
    });
    let listed = |kids: Vec<&String>| {
        kids.iter()
            .take(10)
            .map(|kid| format!("{kid:?}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let strange: Vec<_> = there.difference(&may).collect();
    let missing: Vec<_> = must.difference(&there).collect();
    match (strange.is_empty(), missing.is_empty()) {
        (true, true) => None,
        (false, _) => Some(format!(
            "the service publishes keys that this database does not: {}",
            listed(strange)
        )),
        (true, false) => Some(format!(
            "the service does not publish keys of this database: {}",
            listed(missing)
        )),
    }
}

fn headers(server: &Server, config: Option<&Config>, report: &mut Report) {
    let answer = &server.answer;
    let etag = answer.header("etag");
    let caching = answer.header("cache-control");
    let wrong: Vec<_> = [
        (
            "Content-Type",
            answer.header("content-type") == "application/json",
        ),
        (
            "ETag",
            etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'),
        ),
        ("Cache-Control", caching.starts_with("public, max-age=")),
        (
            "Access-Control-Allow-Origin",
            answer.header("access-control-allow-origin") == "*",
        ),
        (
            "X-Content-Type-Options",
            answer.header("x-content-type-options") == "nosniff",
        ),
    ]
    .into_iter()
    .filter_map(|(name, fine)| (!fine).then_some(name))
    .collect();
    let max_age = config.map(|c| format!("public, max-age={}", c.jwks_max_age.as_secs()));
    if !wrong.is_empty() {
        report.fail(
            "headers",
            format!(
                "of the key set, these are missing or odd: {}",
                wrong.join(", ")
            ),
            "see whether a proxy changes them, or another program has the port",
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
            "content type, ETag, caching, CORS and nosniff are as they should be",
        );
    }
}

/// With a name that nobody has: a refusal shows that accounts are looked up
/// and passwords checked, and leaves no trace in the database.
fn sign_in(server: &Server, report: &mut Report) {
    const ADVICE: &str = "the service's log says why";
    let word = uuid::Uuid::new_v4().to_string();
    let body = serde_json::json!({ "username": format!("nobody-{word}"), "password": word });
    match fetch::post(&format!("{}/auth", server.base), &body.to_string()) {
        Ok(answer) => match answer.status {
            401 => report.ok("sign-in", "an unknown name is refused with 401"),
            429 | 503 => report.warn(
                "sign-in",
                format!("the service is busy (status {})", answer.status),
                "try again in a moment",
            ),
            other => report.fail(
                "sign-in",
                format!("an unknown name gets status {other} in place of 401"),
                ADVICE,
            ),
        },
        Err(why) => report.fail("sign-in", why, ADVICE),
    }
}

fn clocks(server: &Server, report: &mut Report) {
    let Ok(date) = httpdate::parse_http_date(server.answer.header("date")) else {
        let text = "the service's answers have no readable Date";
        return report.warn("service clock", text, "see whether a proxy takes it out");
    };
    let since = date
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let theirs = UnixTime::from_secs(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let apart = theirs.until(server.at).max(server.at.until(theirs));
    let text = format!("the service's clock is {} s from this one", apart.as_secs());
    if apart > CLOCKS_APART {
        report.warn(
            "service clock",
            text,
            "keep both machines with a time service",
        );
    } else {
        report.ok("service clock", text);
    }
}
