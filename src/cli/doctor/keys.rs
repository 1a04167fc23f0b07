//! The keys: whether each one opens, under which entry of `NOT_MY_KEY`, and
//! whether signing goes on.

use std::time::Duration;

use super::database;
use super::report::Report;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::domain::key_admin::{self, KeyStatus};
use crate::lifecycle::KeyTimes;
use crate::lifecycle::{self, Stage};
use crate::store::{Inspection, KeyRow};

/// Bad keys that get a line each.
const LISTED: usize = 10;
/// A server makes a key at once when it is due, or tries again each second.
const LATE: Duration = Duration::from_secs(60);

/// `running`: whether a server looks after them.
pub(super) fn look(
    found: &Inspection,
    config: &Config,
    now: UnixTime,
    running: bool,
    report: &mut Report,
) {
    let rows: Vec<_> = database::rows(found).cloned().collect();
    let statuses = key_admin::statuses(&rows, &config.secrets, &config.policy, now);
    unreadable(found, report);
    unopened(&statuses, report);
    if rows.len() == found.keys.len() && statuses.iter().all(|key| key.opened_by.is_ok()) {
        report.ok(
            "keys",
            format!("all {} open and match their kid", rows.len()),
        );
    }
    older_entries(&statuses, report);
    let usable: Vec<_> = usable(&rows, &statuses).collect();
    signing(&statuses, running, report);
    rotation(&usable, config, now, running, report);
}

fn unreadable(found: &Inspection, report: &mut Report) {
    let errors = found.keys.iter().filter_map(|row| row.as_ref().err());
    for error in errors.take(LISTED) {
        report.fail(
            "keys",
            error.to_string(),
            "restore the row from a copy, or delete it",
        );
    }
}

fn unopened(statuses: &[KeyStatus], report: &mut Report) {
    const ADVICE: &str =
        "add the entry it was made with to NOT_MY_KEY, or restore the row from a copy";
    let bad = || {
        let all = statuses.iter();
        all.filter_map(|key| key.opened_by.as_ref().err().map(|why| (key, why)))
    };
    for (key, why) in bad().take(LISTED) {
        let (kid, stage) = (key.kid, key.stage.name());
        if matches!(key.stage, Stage::Expired | Stage::Revoked) {
            let text = format!("key {kid} is of no use, and not needed as it is {stage}: {why}");
            report.warn("keys", text, ADVICE);
        } else {
            let text = format!("key {kid} ({stage}) is of no use: {why}");
            report.fail("keys", text, ADVICE);
        }
    }
    let more = bad().count().saturating_sub(LISTED);
    if more > 0 {
        let text = format!("{more} more are of no use");
        report.fail("keys", text, "see `keys list`");
    }
}

fn older_entries(statuses: &[KeyStatus], report: &mut Report) {
    let older = statuses
        .iter()
        .filter(|key| matches!(key.opened_by, Ok(1..)));
    match older.count() {
        0 => report.ok("encryption", "no key needs an older entry of NOT_MY_KEY"),
        n => report.warn(
            "encryption",
            format!(
                "{n} of {} keys are under an older entry of NOT_MY_KEY",
                statuses.len()
            ),
            "run `keys reencrypt`, then take the older entries out",
        ),
    }
}

fn usable<'a>(
    rows: &'a [KeyRow],
    statuses: &'a [KeyStatus],
) -> impl Iterator<Item = KeyTimes> + 'a {
    rows.iter()
        .zip(statuses)
        .filter(|(_, status)| status.opened_by.is_ok())
        .map(|(row, _)| row.times)
}

fn signing(statuses: &[KeyStatus], running: bool, report: &mut Report) {
    let signer = statuses.iter().find(|key| key.stage == Stage::Signing);
    match signer {
        Some(key) => report.ok("signing", format!("key {} can sign now", key.kid)),
        None if running => report.fail(
            "signing",
            "no key can sign now, though the service runs",
            "its log says why",
        ),
        None => report.warn(
            "signing",
            "no key can sign now, and no service runs",
            "start it, which makes a key at once",
        ),
    }
}

fn rotation(
    usable: &[KeyTimes],
    config: &Config,
    now: UnixTime,
    running: bool,
    report: &mut Report,
) {
    let policy = &config.policy;
    let next = lifecycle::next_due(usable, policy, now);
    let late = next.is_none_or(|next| next + LATE <= now);
    match (late, running) {
        (false, _) => {
            let at = next.unwrap_or(now).rfc3339();
            report.ok("rotation", format!("the next key is due at {at}"));
        }
        (true, true) => report.fail(
            "rotation",
            "the next key is overdue, though the service runs",
            "its log says why",
        ),
        (true, false) => report.warn(
            "rotation",
            "the next key is overdue, since no service runs",
            "start it",
        ),
    }
}
