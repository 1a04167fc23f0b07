//! The machine: its clock, its disk, and how long a password takes on it.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::report::Report;
use crate::clock::{Clock, UnixTime};
use crate::crypto::password::{self, Costs, PasswordHasher};

/// Of years outside of these, the clock is wrong: 2025 to 2099.
const PLAUSIBLE: std::ops::Range<i64> = 1_735_689_600..4_102_444_800;
/// How far ahead a row may be, as when two machines write.
const AHEAD: Duration = Duration::from_secs(60);
/// More than a change of speed makes out, while the doctor looks.
const STEP: i64 = 2;
/// Room for the side files and for a while of sign-ins, bytes.
const LOW_DISK: u64 = 100 * 1024 * 1024;
/// Ten sign-ins a second, one after the other, and some time for the rest.
const SLOW_HASH: Duration = Duration::from_millis(80);

/// `began`: both readings of the clock before the other checks. `newest`: the
/// latest moment in the database.
pub(super) fn clock(
    clock: &dyn Clock,
    began: (UnixTime, Duration),
    newest: Option<UnixTime>,
    report: &mut Report,
) {
    const ADVICE: &str = "set the clock, and keep it with a time service";
    let now = clock.now();
    let shown = now.rfc3339();
    let passed = clock.monotonic().saturating_sub(began.1).as_secs();
    let expected = began.0 + Duration::from_secs(passed);
    if !PLAUSIBLE.contains(&now.as_secs()) {
        report.fail("clock", format!("it says {shown}"), ADVICE);
    } else if let Some(newest) = newest.filter(|&newest| now + AHEAD < newest) {
        report.fail(
            "clock",
            format!(
                "it says {shown}, but the database has a row of {}",
                newest.rfc3339()
            ),
            ADVICE,
        );
    } else if (now.as_secs() - expected.as_secs()).abs() > STEP {
        report.warn("clock", "it was set while this command ran", ADVICE);
    } else {
        let after = newest.map_or("", |_| ", after all that is written down");
        report.ok("clock", format!("it says {shown}{after}"));
    }
}

pub(super) fn disk(database: &Path, report: &mut Report) {
    let parent = database.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = parent.unwrap_or(Path::new("."));
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let text = format!("{} MiB are free for the database", free / (1024 * 1024));
            if free < LOW_DISK {
                report.warn("disk", text, "make room: with none, nobody can sign in");
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
            "make it, or set DATABASE_URL",
        ),
    }
}

/// On one thread, as a client has it that signs in over and over.
pub(super) fn password_hash(runtime: &Runtime, costs: Costs, report: &mut Report) {
    const CHECK: &str = "password hash";
    let measured = PasswordHasher::start(costs, 1).map_err(|e| e.to_string());
    let measured = measured.and_then(|hasher| {
        let once = || -> Result<Duration, String> {
            let began = Instant::now();
            let password = password::generate().ok_or("the system has no random numbers")?;
            let hashed = runtime.block_on(hasher.hash(password));
            hashed.map(|_| began.elapsed()).map_err(|e| e.to_string())
        };
        // The first one also gets its memory from the system.
        let first = once()?;
        if first > SLOW_HASH {
            Ok(first.min(once()?))
        } else {
            Ok(first)
        }
    });
    match measured {
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
                    format!("{text}: ten sign-ins a second would not fit"),
                    "lower ARGON2_MEMORY_KIB or ARGON2_PASSES, or use a quicker machine",
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
