//! Checks of the database: its files, SQLite's own check, and its schema.

use std::path::Path;
use std::time::Duration;

use crate::cli::report::Report;
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::domain::database::{self, Inspection, Location, SchemaState, ServerState};

const ON_SERVER: &str = "do what it says; the log of PostgreSQL says more";

/// `None` when there are no keys to check.
pub(super) fn check(
    at: &Location,
    clock_tolerance: Option<Duration>,
    report: &mut Report,
) -> Option<Inspection> {
    if let Some(path) = at.file() {
        writable(path, report);
    }
    match database::server_state(at) {
        None => {}
        Some(Ok(state)) => server(&state, clock_tolerance, report),
        Some(Err(e)) => {
            let text = format!("{at} cannot be used: {e}");
            report.fail("server", text, ON_SERVER);
            return None;
        }
    }
    match database::inspect(at) {
        Ok(None) => {
            let text = format!("there is no {at} yet; the first start creates it");
            report.ok("database", text);
            None
        }
        Ok(Some(found)) => {
            if let Some(path) = at.file() {
                modes(path, report);
            }
            damages(at, &found, report);
            schema(&found, report);
            // The keys of an unknown schema are not read.
            (!matches!(found.schema, SchemaState::Unusable(_))).then_some(found)
        }
        Err(e) => {
            let advice = match at.file() {
                Some(path) => {
                    modes(path, report);
                    "check that DATABASE_URL names the right file and that this user may read it, or restore a copy"
                }
                None => ON_SERVER,
            };
            report.fail("database", format!("{at} cannot be read: {e}"), advice);
            None
        }
    }
}

fn server(state: &ServerState, clock_tolerance: Option<Duration>, report: &mut Report) {
    report.ok("server", format!("PostgreSQL {}", state.version));
    let tls = match state.uses_tls {
        true => "the connection is encrypted, and the server's name was verified",
        false => "the connection is not encrypted",
    };
    report.ok("tls", tls);
    durability(state, report);
    standbys(&state.synchronous_standbys, report);
    let pooler = match state.shares_sessions {
        true => "one in transaction mode is in between",
        false => "each connection has a session of its own",
    };
    report.ok("pooler", pooler);
    rights(state, report);
    match &state.untrusted_role {
        None => report.ok(
            "other roles",
            "none may make tables or functions that would be taken for this service's",
        ),
        Some(found) => report.fail("other roles", &*found.what, found.advice),
    }
    if let Some(tolerance) = clock_tolerance {
        clock(state.now, tolerance, report);
    }
}

fn durability(state: &ServerState, report: &mut Report) {
    const CHECK: &str = "durability";
    if !state.fsync {
        let text = "fsync is off: a crash loses what was answered";
        return report.fail(CHECK, text, "set fsync = on in postgresql.conf");
    }
    let commit = &state.synchronous_commit;
    report.ok(
        CHECK,
        format!(
            "fsync is on; synchronous_commit is {commit}, which the service sets on for what it writes"
        ),
    );
}

fn standbys(names: &str, report: &mut Report) {
    const CHECK: &str = "standbys";
    if !names.is_empty() {
        return report.ok(CHECK, format!("synchronous standbys: {names}"));
    }
    report.warn(
        CHECK,
        "there is no synchronous standby: a failover loses the latest answers",
        "set synchronous_standby_names when there is a standby",
    );
}

fn rights(state: &ServerState, report: &mut Report) {
    const CHECK: &str = "rights";
    if state.lacks_create {
        let text = "this user may not make the tables that the next start needs";
        let advice = "grant it CREATE and USAGE on the schema";
        return report.fail(CHECK, text, advice);
    }
    let lacking = &state.lacking_rights;
    if lacking.is_empty() {
        let text = "this user may read and write all tables, and call all functions";
        return report.ok(CHECK, text);
    }
    report.fail(
        CHECK,
        format!("this user may not read, add, change and delete rows of, or call, {lacking}"),
        "grant SELECT, INSERT, UPDATE and DELETE on all tables, and EXECUTE on all functions",
    );
}

fn clock(there: UnixTime, tolerance: Duration, report: &mut Report) {
    const CHECK: &str = "database clock";
    let ahead = SystemClock::new().now().as_secs() - there.as_secs();
    if ahead.unsigned_abs() <= tolerance.as_secs() {
        return report.ok(CHECK, format!("it differs by {ahead} s"));
    }
    report.fail(
        CHECK,
        format!("this machine's clock is {ahead} s ahead of it"),
        "set both right, and keep them so with a time service",
    );
}

fn writable(path: &Path, report: &mut Report) {
    const CHECK: &str = "write access";
    let obstacles = database::obstacles(path);
    if obstacles.is_empty() {
        let text = "this user may write to the database, its side files and its folder";
        return report.ok(CHECK, text);
    }
    for obstacle in obstacles {
        let advice = "run doctor as the service's user; then correct the owner (chown) or the mode (files 600, folder 700)";
        report.fail(CHECK, obstacle.to_string(), advice);
    }
}

fn modes(path: &Path, report: &mut Report) {
    const CHECK: &str = "file modes";
    let files = match database::file_modes(path) {
        Ok(files) => files,
        Err(e) => {
            let text = format!("they cannot be read: {e}");
            return report.warn(CHECK, text, "check that this user may read the folder");
        }
    };
    let open: Vec<_> = files.iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
    if open.is_empty() {
        return report.ok(CHECK, "only their owner can read the database's files");
    }
    for (path, mode) in open {
        let path = path.display();
        report.warn(
            CHECK,
            format!("{path} is open to users other than its owner (mode {mode:o})"),
            format!("chmod 600 {path}"),
        );
    }
}

fn damages(at: &Location, found: &Inspection, report: &mut Report) {
    if found.damages.is_empty() {
        return report.ok("database", format!("{at} is intact"));
    }
    report.fail(
        "database",
        format!("it is damaged: {}", found.damages.join("; ")),
        "stop the service, keep a copy of the file, and restore the last good one",
    );
}

fn schema(found: &Inspection, report: &mut Report) {
    match &found.schema {
        SchemaState::Current => report.ok("schema", "it is that of this version"),
        SchemaState::Older { has, needs } => report.warn(
            "schema",
            format!("it is an older one: {has} of {needs} migrations are applied"),
            "keep a copy of the file; the next start of the service applies the others",
        ),
        SchemaState::Newer(step) => report.warn(
            "schema",
            format!("a later version has changed it ({step}); this one works with it"),
            "finish the upgrade, or go back with a copy of before",
        ),
        SchemaState::Unusable(why) => report.fail(
            "schema",
            why.to_string(),
            "do what it says; failing that, run the version that it belongs to, or restore a copy",
        ),
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/doctor_database.rs"]
mod tests;
