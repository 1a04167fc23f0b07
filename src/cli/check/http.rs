//! The way in which a key set is served.

use std::collections::BTreeSet;

use std::time::Duration;

use crate::cli::fetch::{Client, Reply};
use crate::cli::report::Report;

const CHECK: &str = "http";
/// Shorter is hard on the issuer, longer on whoever must take a stolen key away.
const GOOD_AGE: std::ops::RangeInclusive<u64> = 30..=24 * 60 * 60;

/// The answer with the key set, if there is one.
pub(super) fn check(client: &Client, url: &str, report: &mut Report) -> Option<Reply> {
    let origin = [("Origin", "https://check.example")];
    let reply = match client.ask("GET", url, &origin, None) {
        Ok(reply) => redirected(client, url, reply, report)?,
        Err(why) => {
            let advice = "check the URL, the name, the network, and the certificate";
            report.fail(CHECK, format!("{url}: {why}"), advice);
            return None;
        }
    };
    if reply.status != 200 {
        let text = format!("{url} has status {}", reply.status);
        report.fail(CHECK, text, "answer with the key set and 200");
        return None;
    }
    report.ok(CHECK, format!("{url} answers"));
    kind(&reply, report);
    caching(client, url, &reply, report);
    head(client, url, &reply, report);
    addresses(client, url, report);
    Some(reply)
}

fn redirected(client: &Client, url: &str, reply: Reply, report: &mut Report) -> Option<Reply> {
    if !(300..400).contains(&reply.status) {
        return Some(reply);
    }
    let to = reply.header("location");
    let text = format!("{url} redirects (status {}) to {to:?}", reply.status);
    let advice = "give verifiers the URL that it redirects to: many follow none";
    if !url.starts_with("https://") || to.starts_with("http://") {
        report.fail(CHECK, text, advice);
        return None;
    }
    report.warn(CHECK, text, advice);
    match client.get(url) {
        Ok(reply) => Some(reply),
        Err(why) => {
            report.fail(CHECK, format!("{url}: {why}"), advice);
            None
        }
    }
}

fn kind(reply: &Reply, report: &mut Report) {
    let kind = reply.header("content-type");
    let plain = kind.split(';').next().unwrap_or_default().trim();
    if ["application/json", "application/jwk-set+json"].contains(&plain) {
        report.ok("content type", plain);
    } else {
        let text = format!("Content-Type is {kind:?}: some verifiers refuse it");
        report.warn("content type", text, "answer with application/json");
    }
    match reply.header("access-control-allow-origin") {
        "" => report.warn(
            "CORS",
            "no Access-Control-Allow-Origin: verifiers in browsers cannot read it",
            "answer with Access-Control-Allow-Origin: *",
        ),
        _ => report.ok("CORS", "verifiers in browsers can read it"),
    }
}

/// `max-age`, when the answer may be kept at all.
pub(super) fn max_age(caching: &str) -> Option<Duration> {
    let parts: Vec<_> = caching.split(',').map(str::trim).collect();
    if parts.iter().any(|it| ["no-store", "no-cache"].contains(it)) {
        return None;
    }
    let age = parts.iter().find_map(|it| it.strip_prefix("max-age="))?;
    Some(Duration::from_secs(age.parse().ok()?))
}

fn caching(client: &Client, url: &str, reply: &Reply, report: &mut Report) {
    const CHECK: &str = "caching";
    let caching = reply.header("cache-control");
    match max_age(caching) {
        Some(age) if GOOD_AGE.contains(&age.as_secs()) => {
            report.ok(CHECK, format!("kept for {} s", age.as_secs()));
        }
        Some(age) => report.warn(
            CHECK,
            format!("max-age is {} s", age.as_secs()),
            "between half a minute and a day: short enough to take a key away, long enough to spare the issuer",
        ),
        None => report.warn(
            CHECK,
            format!("Cache-Control is {caching:?}: verifiers fetch as they like"),
            "answer with public, max-age=300",
        ),
    }
    let etag = reply.header("etag");
    if etag.is_empty() {
        let text = "no ETag: each fetch transfers the whole set";
        report.warn(CHECK, text, "answer with one, such as a hash of the set");
        return;
    }
    // Weak tags do, as they are compared for If-None-Match (RFC 9110 section 13.1.2).
    match client.ask("GET", url, &[("If-None-Match", etag)], None) {
        Ok(again) if again.status == 304 && again.body.is_empty() => {
            report.ok(CHECK, "If-None-Match gets 304");
        }
        // The set has changed meanwhile, or each replica has tags of its own.
        Ok(again) if again.status == 200 && again.header("etag") != etag => report.warn(
            CHECK,
            "the ETag changes from one answer to the next",
            "make it of the set alone, so that all replicas have the same",
        ),
        Ok(again) => {
            let text = format!("If-None-Match gets status {}", again.status);
            report.warn(CHECK, text, "answer 304 without a body");
        }
        Err(why) => report.warn(CHECK, format!("If-None-Match: {why}"), "answer 304"),
    }
}

fn head(client: &Client, url: &str, reply: &Reply, report: &mut Report) {
    let advice = "answer HEAD as GET, without the body";
    match client.ask("HEAD", url, &[], None) {
        Ok(head) if head.status == reply.status => report.ok("HEAD", "answered as GET"),
        Ok(head) => report.warn("HEAD", format!("status {}", head.status), advice),
        Err(why) => report.warn("HEAD", why, advice),
    }
}

fn addresses(client: &Client, url: &str, report: &mut Report) {
    const CHECK: &str = "addresses";
    let addresses = match client.addresses(url) {
        Ok(addresses) => addresses,
        Err(why) => return report.warn(CHECK, why, "check the name"),
    };
    let mut sets = BTreeSet::new();
    for addr in &addresses {
        match client.ask("GET", url, &[], Some(*addr)) {
            Ok(reply) if reply.status == 200 => drop(sets.insert(reply.body)),
            Ok(reply) => report.warn(
                CHECK,
                format!("{} has status {}", addr.ip(), reply.status),
                "let all addresses of the name answer alike",
            ),
            // Perhaps this machine has no IPv6.
            Err(why) => report.warn(
                CHECK,
                format!("{}: {why}", addr.ip()),
                "let all addresses of the name answer, or take it out of the name",
            ),
        }
    }
    if sets.len() > 1 {
        report.fail(
            CHECK,
            format!("{} addresses have {} key sets", addresses.len(), sets.len()),
            "let all of them publish one set: a token by a key of one is refused elsewhere",
        );
    } else if sets.len() == 1 {
        let list: Vec<_> = addresses.iter().map(|addr| addr.ip().to_string()).collect();
        report.ok(CHECK, format!("one key set at {}", list.join(", ")));
    }
}
