//! Files that are not what they should be: owners, modes, links, pipes, and what
//! another program has put into the database.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::{DATABASE, Server, command, database, folder, run, sql, used_folder};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The last line of a start that was refused before it listened.
fn refused(dir: &Path) -> String {
    let ended = run(&mut command(dir));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(!ended.stderr.contains("listening"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended.stderr.lines().last().unwrap().to_owned()
}

/// The failures of `doctor`.
fn failures(dir: &Path) -> String {
    let output = command(dir).arg("doctor").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let failures: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("fail"))
        .collect();
    failures.join("\n")
}

#[test]
fn a_pipe_or_a_device_as_database_is_refused_at_once() {
    let dir = folder("");
    let made = Command::new("mkfifo").arg(database(dir.path())).status();
    assert!(made.unwrap().success());
    assert!(refused(dir.path()).contains("is not a regular file"));
    let dir = folder("DATABASE_URL=sqlite:/dev/null");
    assert!(refused(dir.path()).contains("/dev/null is not a regular file"));
}

#[test]
fn fr_55_a_database_is_made_behind_a_link_to_a_file_that_is_not_there_yet() {
    let dir = folder("");
    fs::create_dir(dir.path().join("data")).unwrap();
    symlink("data/keys.db", database(dir.path())).unwrap();
    let server = Server::start(dir.path(), &[]);
    server.register("alice");
    let made = dir.path().join("data/keys.db");
    assert_eq!(mode(&made), 0o600);
    assert!(server.stop().success());
    assert!(
        fs::symlink_metadata(database(dir.path()))
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn a_side_file_that_is_a_link_is_refused_and_what_it_leads_to_is_left() {
    let victim = tempfile::NamedTempFile::new().unwrap();
    chmod(victim.path(), 0o644);
    for end in ["-wal", "-shm", "-journal"] {
        let dir = used_folder("");
        let side = format!("{DATABASE}{end}");
        symlink(victim.path(), dir.path().join(&side)).unwrap();
        let said = refused(dir.path());
        assert!(said.contains(&side) && said.contains("link"), "{said}");
        assert_eq!(mode(victim.path()), 0o644, "{end}");
        assert!(failures(dir.path()).contains(&side));
    }
}

#[test]
fn a_file_of_another_owner_is_refused() {
    let dir = folder("");
    fs::write(database(dir.path()), "").unwrap();
    if chown(database(dir.path()), Some(54_321), None).is_err() {
        return crate::left_out::left_out("another owner", "only root gives files away");
    }
    let said = refused(dir.path());
    assert!(said.contains("belongs to user 54321"), "{said}");
    assert!(failures(dir.path()).contains("belongs to user 54321"));
}

#[test]
fn fr_50_a_database_that_is_read_only_is_given_back_to_its_owner() {
    let dir = used_folder("");
    chmod(&database(dir.path()), 0o400);
    let server = Server::start(dir.path(), &[]);
    server.register("alice");
    assert_eq!(mode(&database(dir.path())), 0o600);
    let log = server.stop_for_log();
    assert!(
        log.contains("could not be written to, and has mode 600 now"),
        "{log}"
    );
}

#[test]
fn fr_49_a_folder_that_cannot_be_written_to_is_named() {
    let dir = used_folder("");
    for path in [database(dir.path()), dir.path().join(".env")] {
        if chown(path, Some(54_321), None).is_err() {
            return crate::left_out::left_out("another owner", "only root gives files away");
        }
    }
    chmod(dir.path(), 0o755);
    let as_owner = |args: &[&str]| {
        let mut start = Command::new("setpriv");
        start.args(["--reuid=54321", "--clear-groups", "--"]);
        // The folder of the build may be closed to others.
        let copy = dir.path().join("jwks-server");
        fs::copy(crate::support::program(), &copy).unwrap();
        crate::support::clear_env(start.arg(copy).args(args)).current_dir(dir.path());
        start.env("PATH", "/usr/bin:/bin").output().unwrap()
    };
    let start = as_owner(&[]);
    let text = String::from_utf8(start.stderr).unwrap();
    assert_eq!(start.status.code(), Some(2), "{text}");
    let folder = "this user may not write to .";
    assert!(text.lines().last().unwrap().contains(folder), "{text}");
    let report = String::from_utf8(as_owner(&["doctor"]).stdout).unwrap();
    let failed = report
        .lines()
        .any(|line| line.starts_with("fail") && line.contains(folder));
    assert!(failed, "{report}");
}

#[test]
fn what_another_program_planted_in_the_schema_is_refused_by_name() {
    for (sql_text, what) in [
        (
            "CREATE TRIGGER steal AFTER INSERT ON auth_logs BEGIN UPDATE users SET password_hash = ''; END",
            "the trigger \"steal\"",
        ),
        (
            "CREATE VIEW look AS SELECT * FROM users",
            "the view \"look\"",
        ),
        (
            "ALTER TABLE keys RENAME TO others; CREATE VIEW keys AS SELECT kid, key, exp FROM gone",
            "the view \"keys\"",
        ),
        // SQLite runs these two like any other.
        (
            "PRAGMA writable_schema = 1;
             INSERT INTO sqlite_schema VALUES ('TRIGGER', 'steal', 'auth_logs', 0,
                 'CREATE TRIGGER steal AFTER INSERT ON auth_logs BEGIN DELETE FROM users; END')",
            "the trigger \"steal\"",
        ),
        (
            "PRAGMA writable_schema = 1;
             INSERT INTO sqlite_schema VALUES (CAST('trigger' AS BLOB), 'steal', 'auth_logs', 0,
                 'CREATE TRIGGER steal AFTER INSERT ON auth_logs BEGIN DELETE FROM users; END')",
            "the trigger \"steal\"",
        ),
        // The check of the service's own tables would not see this one.
        (
            "PRAGMA writable_schema = 1;
             UPDATE sqlite_schema SET tbl_name = CAST(tbl_name AS BLOB) WHERE name = 'withdrawn_keys'",
            "the table \"withdrawn_keys\"",
        ),
        (
            "CREATE UNIQUE INDEX one ON withdrawn_keys ((1))",
            "its table withdrawn_keys, or an index of it, is not",
        ),
    ] {
        let dir = used_folder("");
        sql(dir.path()).execute_batch(sql_text).unwrap();
        assert!(refused(dir.path()).contains(what));
        assert!(failures(dir.path()).contains("find out who made it"));
    }
}

#[test]
fn a_trigger_that_is_planted_while_the_service_runs_ends_it() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let table = "CREATE TABLE of_another_program (a)";
    sql(dir.path()).execute_batch(table).unwrap();
    let trigger = "CREATE TRIGGER steal AFTER INSERT ON auth_logs BEGIN UPDATE users SET password_hash = ''; END";
    sql(dir.path()).execute_batch(trigger).unwrap();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the trigger \"steal\""), "{log}");
    assert!(refused(dir.path()).contains("the trigger \"steal\""));
}

#[test]
fn a_damaged_record_of_migrations_is_one_line_and_reported_by_doctor() {
    for (change, what) in [
        (
            "UPDATE refinery_schema_history SET applied_on = 'yesterday'",
            "applied_on",
        ),
        (
            "UPDATE refinery_schema_history SET version = 'one' WHERE version = 1",
            "version",
        ),
        (
            "DELETE FROM refinery_schema_history WHERE version = 2",
            "where V2 should be",
        ),
        ("DELETE FROM refinery_schema_history", "it is empty"),
    ] {
        let dir = used_folder("");
        sql(dir.path()).execute_batch(change).unwrap();
        let said = refused(dir.path());
        assert!(
            said.contains("its record of migrations is damaged"),
            "{change}: {said}"
        );
        assert!(said.contains(what) || what.len() < 12, "{change}: {said}");
        assert!(failures(dir.path()).contains("its record of migrations is damaged"));
    }
}
