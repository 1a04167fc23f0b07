//! `--watch`: looks again and again; what is right over time is `watch.rs`.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use super::token::{Tokens, kid_and_exp};
use super::watch::Watch;
use crate::cli::fetch::Client;
use crate::cli::report::Report;
use crate::clock::{Clock as _, SystemClock};
use crate::domain::verification::KeySet;

pub(super) struct Plan {
    pub(super) duration: Duration,
    pub(super) every: Duration,
    /// Time for which caches hold the set.
    pub(super) max_age: Duration,
}

pub(super) fn watch(
    client: &Client,
    url: &str,
    plan: &Plan,
    tokens: &mut Tokens,
    report: &mut Report,
) {
    let mut watch = Watch::new(plan.max_age, plan.every);
    let is_shown = std::io::stderr().is_terminal();
    let since = Instant::now();
    loop {
        look(client, url, &mut watch);
        if tokens.are_fresh() {
            token(tokens, &mut watch);
        }
        let left = plan.duration.saturating_sub(since.elapsed());
        if is_shown {
            // A terminal that went away ends no watch.
            let _ = write!(std::io::stderr(), "\r\x1b[K{} s left", left.as_secs());
        }
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(plan.every));
    }
    if is_shown {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    report.extend(watch.findings());
}

fn look(client: &Client, url: &str, watch: &mut Watch) {
    let addresses = client.addresses(url).unwrap_or_default();
    let mut sets = Vec::new();
    for addr in addresses {
        let reply = client.ask("GET", url, &[], Some(addr));
        let set = reply.ok().filter(|reply| reply.status == 200);
        match set.and_then(|reply| KeySet::parse(&reply.body).ok()) {
            Some(set) => sets.push(set.kids().map(str::to_owned).collect::<BTreeSet<_>>()),
            None => watch.failed(),
        }
    }
    watch.set(&sets, SystemClock::new().now());
}

fn token(tokens: &Tokens, watch: &mut Watch) {
    let contents = |token: String| {
        let why = "what it printed is no token with a kid and an exp";
        kid_and_exp(&token).ok_or_else(|| why.to_owned())
    };
    match tokens.next().map(|token| token.and_then(contents)) {
        Some(Ok((kid, exp))) => watch.token(&kid, exp, SystemClock::new().now()),
        Some(Err(why)) => watch.no_token(why),
        None => {}
    }
}
