//! The database: its files, SQLite's own check, and its schema.

use std::path::Path;

use super::report::Report;
use crate::clock::UnixTime;
use crate::store::{Inspection, KeyRow, SchemaState, Store};

/// `None` when there is nothing to read keys from.
pub(super) fn look(path: &Path, report: &mut Report) -> Option<Inspection> {
    let shown = path.display();
    match Store::inspect(path) {
        Ok(None) => {
            let text = format!("there is no {shown} yet; the first start makes it");
            report.ok("database", text);
            None
        }
        Ok(Some(found)) => {
            modes(path, report);
            damages(path, &found, report);
            schema(&found, report);
            // Nothing is known of keys in another shape.
            (!matches!(found.schema, SchemaState::Unusable(_))).then_some(found)
        }
        Err(e) => {
            modes(path, report);
            report.fail(
                "database",
                format!("{shown} cannot be read: {e}"),
                "see that DATABASE_URL names the right file and that this user may read it, or restore a copy",
            );
            None
        }
    }
}

/// The latest moment that was written down.
pub(super) fn newest_moment(found: &Inspection) -> Option<UnixTime> {
    let created = rows(found).filter_map(|row| row.times.created_at);
    created.chain(found.last_sign_in).max()
}

/// The rows of `keys` that could be read.
pub(super) fn rows(found: &Inspection) -> impl Iterator<Item = &KeyRow> {
    found.keys.iter().filter_map(|row| row.as_ref().ok())
}

fn modes(path: &Path, report: &mut Report) {
    let files = match Store::file_modes(path) {
        Ok(files) => files,
        Err(e) => {
            let text = format!("its mode cannot be read: {e}");
            return report.warn("file modes", text, "see that this user may read it");
        }
    };
    let open: Vec<_> = files.iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
    if open.is_empty() {
        return report.ok(
            "file modes",
            "only their owner can read the database's files",
        );
    }
    for (path, mode) in open {
        let path = path.display();
        report.warn(
            "file modes",
            format!("others than its owner can use {path} (mode {mode:o})"),
            format!("chmod 600 {path}"),
        );
    }
}

fn damages(path: &Path, found: &Inspection, report: &mut Report) {
    if found.damages.is_empty() {
        return report.ok("database", format!("{} is whole", path.display()));
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
            format!("it is an older one: {has} of {needs} steps are made"),
            "keep a copy of the file; the next start of the service makes the others",
        ),
        SchemaState::Unusable(why) => report.fail(
            "schema",
            why.to_string(),
            "run the version that fits, or restore a copy",
        ),
    }
}
