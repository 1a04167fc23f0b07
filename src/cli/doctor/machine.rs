//! Checks of the machine: its clock, its disk, and the time of a password hash.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::cli::report::Report;
use crate::clock::{Clock, UnixTime};
use crate::config::Config;
use crate::domain::{database, hash_timing};

/// Outside of the years 2025 to 2099 the clock is wrong.
const PLAUSIBLE: std::ops::Range<i64> = 1_735_689_600..4_102_444_800;
/// Tolerated lead of a stored time, as when two machines write.
const AHEAD: Duration = Duration::from_secs(60);
/// Seconds; more than a clock is slewed by while the checks run.
const STEP: i64 = 2;
/// Bytes: enough for the side files and the sign-ins of some days.
const LOW_DISK: u64 = 100 * 1024 * 1024;
/// A tenth of a second, less the rest of a sign-in.
const SLOW_HASH: Duration = Duration::from_millis(80);

/// `began`: both readings of the clock before the other checks. `newest`: the
/// latest time in the database.
pub(super) fn clock(
    clock: &dyn Clock,
    began: (UnixTime, Duration),
    newest: Option<UnixTime>,
    report: &mut Report,
) {
    const ADVICE: &str = "set the clock, and keep it right with a time service";
    let now = clock.now();
    let shown = now.rfc3339();
    let passed = clock.monotonic().saturating_sub(began.1).as_secs();
    let expected = began.0 + Duration::from_secs(passed);
    if !PLAUSIBLE.contains(&now.as_secs()) {
        report.fail("clock", format!("it shows {shown}"), ADVICE);
    } else if let Some(newest) = newest.filter(|&newest| now + AHEAD < newest) {
        report.warn(
            "clock",
            format!(
                "it shows {shown}, but the database has a row of {}: it is behind, or was ahead then",
                newest.rfc3339()
            ),
            "compare it with a time service; if it is right now, nothing is to be done: keys that were dated ahead are moved back",
        );
    } else if (now.as_secs() - expected.as_secs()).abs() > STEP {
        report.warn("clock", "it was set while this command ran", ADVICE);
    } else {
        let after = newest.map_or("", |_| ", after all times in the database");
        report.ok("clock", format!("it shows {shown}{after}"));
    }
}

pub(super) fn disk(database: &Path, report: &mut Report) {
    if let Some(bytes) = database::large_wal(database) {
        let text = format!("the write-ahead log has {} MiB", bytes / (1024 * 1024));
        let advice = "end the program that has been reading the database for long";
        report.warn("disk", text, advice);
    }
    let parent = database.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = parent.unwrap_or(Path::new("."));
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let text = format!("{} MiB are free for the database", free / (1024 * 1024));
            if free < LOW_DISK {
                let advice = "free some space: below 64 MiB nobody can sign up, on a full disk nobody can sign in";
                report.warn("disk", text, advice);
            } else {
                report.ok("disk", text);
            }
        }
        Err(e) => report.fail(
            "disk",
            format!(
                "the folder {} of the database cannot be used: {e}",
                dir.display()
            ),
            "create it, or set DATABASE_URL",
        ),
    }
}

/// Ten sign-ins a second, one after the other, must fit.
pub(super) fn password_hash(runtime: &Runtime, config: &Config, report: &mut Report) {
    const CHECK: &str = "password hash";
    let costs = config.accounts.costs;
    match runtime.block_on(hash_timing::measure(costs)) {
        Ok(took) => {
            let text = format!(
                "one takes {} ms ({} KiB, {} passes, {} lanes)",
                took.as_millis(),
                costs.memory_kib,
                costs.passes,
                costs.lanes
            );
            if took > SLOW_HASH {
                report.warn(
                    CHECK,
                    format!("{text}: too slow for ten sign-ins a second"),
                    "lower ARGON2_MEMORY_KIB or ARGON2_PASSES, or use a faster machine",
                );
            } else {
                report.ok(CHECK, text);
            }
        }
        Err(e) => report.fail(
            CHECK,
            e,
            "give the machine more memory, or lower ARGON2_MEMORY_KIB",
        ),
    }
}
