//! Checks of the database: its files, SQLite's own check, and its schema.

use std::path::Path;

use crate::cli::report::Report;
use crate::domain::database::{self, Inspection, SchemaState};

/// `None` when there are no keys to check.
pub(super) fn check(path: &Path, report: &mut Report) -> Option<Inspection> {
    let shown = path.display();
    writable(path, report);
    match database::inspect(path) {
        Ok(None) => {
            let text = format!("there is no {shown} yet; the first start creates it");
            report.ok("database", text);
            None
        }
        Ok(Some(found)) => {
            modes(path, report);
            damages(path, &found, report);
            schema(&found, report);
            // The keys of an unknown schema are not read.
            (!matches!(found.schema, SchemaState::Unusable(_))).then_some(found)
        }
        Err(e) => {
            modes(path, report);
            report.fail(
                "database",
                format!("{shown} cannot be read: {e}"),
                "check that DATABASE_URL names the right file and that this user may read it, or restore a copy",
            );
            None
        }
    }
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

fn damages(path: &Path, found: &Inspection, report: &mut Report) {
    if found.damages.is_empty() {
        return report.ok("database", format!("{} is intact", path.display()));
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
        SchemaState::Unusable(why) => report.fail(
            "schema",
            why.to_string(),
            "do what it says; failing that, run the version that it belongs to, or restore a copy",
        ),
    }
}
