//! Checks of the keys: each one opens, under which entry of `NOT_MY_KEY`, and
//! signing goes on.

use std::time::Duration;

use crate::cli::report::Report;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::domain::bad_key::BadKey;
use crate::domain::database::{self, Inspection};
use crate::domain::key_admin::{KeyStatus, MAX_PUBLISHED};
use crate::lifecycle::Stage;

/// Bad keys that get a line each.
const MAX_LISTED: usize = 10;
/// A server creates a key at once when it is due, or tries again each second.
const LATE: Duration = Duration::from_secs(60);

/// `running`: a service rotates these keys.
pub(super) fn check(
    found: &Inspection,
    config: &Config,
    now: UnixTime,
    running: bool,
    report: &mut Report,
) {
    let review = database::review_keys(found, &config.keys.sealing_keys, &config.keys.policy, now);
    let statuses = &review.statuses;
    unreadable(found, report);
    unopened(statuses, report);
    if found.keys.bad.is_empty() && statuses.iter().all(|key| key.opened_by.is_ok()) {
        let text = format!("all {} open and match their kid", statuses.len());
        report.ok("keys", text);
    }
    older_entries(statuses, report);
    set_size(statuses, report);
    if none_opens(statuses, report) {
        return;
    }
    signing(statuses, running, report);
    rotation(review.next_due, now, running, report);
}

fn unreadable(found: &Inspection, report: &mut Report) {
    for error in found.keys.bad.iter().take(MAX_LISTED) {
        let advice = "restore the row from a copy, or delete it";
        report.fail("keys", error.to_string(), advice);
    }
}

fn unopened(statuses: &[KeyStatus], report: &mut Report) {
    const ADVICE: &str =
        "add the entry it was made with to NOT_MY_KEY, or restore the row from a copy";
    let bad: Vec<_> = statuses
        .iter()
        .filter_map(|key| key.opened_by.as_ref().err().map(|why| (key, why)))
        .collect();
    for (key, why) in bad.iter().take(MAX_LISTED) {
        let (kid, stage) = (&key.kid, key.stage.name());
        let text = format!("key {kid} ({stage}) cannot be used: {why}");
        if key.stage.is_published() {
            report.fail("keys", text, ADVICE);
        } else {
            report.warn("keys", format!("{text}; it is not needed"), ADVICE);
        }
    }
    if bad.len() > MAX_LISTED {
        let text = format!("{} more cannot be used", bad.len() - MAX_LISTED);
        report.fail("keys", text, "see `keys list`");
    }
}

fn older_entries(statuses: &[KeyStatus], report: &mut Report) {
    let is_older = |key: &&KeyStatus| matches!(key.opened_by, Ok(1..));
    match statuses.iter().filter(is_older).count() {
        0 => report.ok("encryption", "no key needs an older entry of NOT_MY_KEY"),
        n => report.warn(
            "encryption",
            format!(
                "{n} of {} keys are under an older entry of NOT_MY_KEY",
                statuses.len()
            ),
            "run `keys reencrypt`, then remove the older entries",
        ),
    }
}

fn published(statuses: &[KeyStatus]) -> impl Iterator<Item = &KeyStatus> {
    statuses.iter().filter(|key| key.stage.is_published())
}

fn set_size(statuses: &[KeyStatus], report: &mut Report) {
    let count = published(statuses).count();
    if count >= MAX_PUBLISHED {
        report.warn(
            "key set",
            format!("{count} keys are published; some verifiers stop reading large key sets"),
            "rotate less often, or set a shorter KEY_LIFETIME or TOKEN_LIFETIME",
        );
    }
}

/// A start is refused then, so it would not help.
fn none_opens(statuses: &[KeyStatus], report: &mut Report) -> bool {
    let is_refused = published(statuses).next().is_some()
        && published(statuses).all(|key| matches!(key.opened_by, Err(BadKey::NotOpened)));
    if is_refused {
        report.fail(
            "signing",
            "NOT_MY_KEY opens none of the published keys, so a start is refused",
            "set the NOT_MY_KEY that the database was made with",
        );
    }
    is_refused
}

fn signing(statuses: &[KeyStatus], running: bool, report: &mut Report) {
    const CHECK: &str = "signing";
    match statuses.iter().find(|key| key.stage == Stage::Signing) {
        Some(key) => report.ok(CHECK, format!("key {} can sign now", key.kid)),
        None if running => report.fail(
            CHECK,
            "no key can sign now, though the service runs",
            "its log says why",
        ),
        None => report.warn(
            CHECK,
            "no key can sign now, and no service runs",
            "start it, which creates a key at once",
        ),
    }
}

fn rotation(next: Option<UnixTime>, now: UnixTime, running: bool, report: &mut Report) {
    const CHECK: &str = "rotation";
    match next.filter(|&next| now < next + LATE) {
        Some(next) => report.ok(CHECK, format!("the next key is due at {}", next.rfc3339())),
        None if running => report.fail(
            CHECK,
            "the next key is overdue, though the service runs",
            "its log says why",
        ),
        None => report.warn(
            CHECK,
            "the next key is overdue, since no service runs",
            "start it",
        ),
    }
}
