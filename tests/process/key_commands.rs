//! Commands beside a service: they judge by its settings, and those that only
//! look change no file.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::SystemTime;

use rusqlite::params;
use serde_json::Value;

use crate::support::{
    Server, command, database, folder, fresh_key, refusal, run, sql, used_folder,
};

fn output(dir: &Path, args: &[&str]) -> Output {
    command(dir).args(args).output().unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Bytes and time of the last change of each file.
fn contents(dir: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let changed = entry.metadata().unwrap().modified().unwrap();
            (name, (fs::read(entry.path()).unwrap(), changed))
        })
        .collect()
}

#[test]
fn listing_changes_no_file_also_not_one_of_the_earlier_server() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/earlier_server.db");
    for dir in [used_folder(""), folder("")] {
        if !database(dir.path()).exists() {
            fs::copy(&fixture, database(dir.path())).unwrap();
        }
        let before = contents(dir.path());
        for args in [&["keys", "list"][..], &["keys", "history"], &["doctor"]] {
            output(dir.path(), args);
            assert!(contents(dir.path()) == before, "{args:?} changed a file");
        }
    }
}

#[test]
fn every_row_is_listed_also_one_that_cannot_be_read() {
    let dir = used_folder("");
    let row = "INSERT INTO keys (kid, key, exp) VALUES (9, 'x', 'soon')";
    sql(dir.path()).execute(row, []).unwrap();
    let table = text(output(dir.path(), &["keys", "list"]).stdout);
    let line = table.lines().find(|line| line.starts_with("9 ")).unwrap();
    assert!(line.contains("column exp"), "{line}");
    let json = text(output(dir.path(), &["keys", "list", "--json"]).stdout);
    let listed: Value = serde_json::from_str(&json).unwrap();
    let keys = listed["keys"].as_array().unwrap();
    assert!(keys.iter().any(|key| key["kid"] == "9"), "{json}");
}

#[test]
fn fr_58_a_row_of_the_wrong_type_is_counted_by_a_reencryption_which_fails() {
    let dir = used_folder("");
    let row = "INSERT INTO keys (kid, key, exp) SELECT 9, key, 'soon' FROM keys LIMIT 1";
    sql(dir.path()).execute(row, []).unwrap();
    let row = "INSERT INTO keys (kid, key, exp) VALUES (10, 5, 4000000000)";
    sql(dir.path()).execute(row, []).unwrap();
    let done = output(dir.path(), &["keys", "reencrypt", "--json"]);
    assert_eq!(done.status.code(), Some(1));
    let counts: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(counts["unreadable"], 2, "{counts}");
}

#[test]
fn what_a_terminal_would_obey_is_escaped_in_the_history() {
    let dir = used_folder("");
    let reason = "\u{1b}[31m\n\u{9b}1m\u{202e}x";
    let row = "INSERT INTO key_events (kid, event, at, reason) VALUES (1, 'revoked', 5, ?)";
    sql(dir.path()).execute(row, params![reason]).unwrap();
    for args in [&["keys", "history"][..], &["keys", "history", "--json"]] {
        let shown = text(output(dir.path(), args).stdout);
        let raw = |c: char| c != '\n' && reason.contains(c) && !c.is_ascii_graphic();
        assert!(!shown.contains(raw), "{shown:?}");
        assert!(shown.contains("202e"), "{shown}");
        if args.len() == 3 {
            let events: Value = serde_json::from_str(&shown).unwrap();
            let last = events["events"].as_array().unwrap().last().unwrap();
            assert_eq!(last["reason"], reason);
        }
    }
    let kid = "1";
    let revoke = ["keys", "revoke", kid, "--reason", "a\u{202e}b"];
    assert!(refusal(command(dir.path()).args(revoke), &[]).contains("--reason"));
}

#[test]
fn fr_58_no_more_than_sixteen_keys_are_published_by_hand() {
    let dir = folder("KEY_LIFETIME=24h");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    assert!(server.stop().success());
    for _ in 1..16 {
        assert_eq!(
            output(dir.path(), &["keys", "rotate"]).status.code(),
            Some(0)
        );
    }
    let refused = refusal(command(dir.path()).args(["keys", "rotate"]), &[]);
    assert!(
        refused.contains("16 keys are published already"),
        "{refused}"
    );
    let report = text(output(dir.path(), &["doctor"]).stdout);
    let warned = |line: &str| line.starts_with("warn") && line.contains("16 keys are published");
    assert!(report.lines().any(warned), "{report}");
}

#[test]
fn commands_judge_by_the_settings_of_the_service() {
    let dir = folder("");
    let mut start = command(dir.path());
    let server = Server::start_command(start.env("KEY_LEAD", "60s").env("JWKS_MAX_AGE", "10s"));
    // The key made last is the one that `rotate` makes.
    server.wait_for_log("a new expired key is in the database");
    let rotate = ["keys", "rotate", "--json"];
    let mut here = command(dir.path());
    let made = here
        .args(rotate)
        .env("KEY_LEAD", "3s")
        .env("JWKS_MAX_AGE", "1s");
    let made = made.output().unwrap();
    let said = text(made.stderr);
    assert!(
        said.contains("KEY_LEAD is 3s here, but the service runs by 60s"),
        "{said}"
    );
    let lead = "SELECT signs_from - created_at FROM key_times ORDER BY serial DESC LIMIT 1";
    assert_eq!(crate::support::number(dir.path(), lead), 62);
    // Its port is found too, though PORT=0 picked it.
    let report = text(output(dir.path(), &["doctor"]).stdout);
    assert!(report.contains(&server.addr.port().to_string()), "{report}");
    assert!(report.contains("the service is ready"), "{report}");
}

#[test]
fn another_file_is_read_instead_of_dotenv_by_every_command() {
    let dir = used_folder("");
    fs::rename(dir.path().join(".env"), dir.path().join("service.env")).unwrap();
    let file = ["--env-file", "service.env"];
    for args in [&["keys", "list"][..], &["keys", "rotate"], &["doctor"]] {
        let done = output(dir.path(), &[args, &file].concat());
        assert_eq!(
            done.status.code(),
            Some(0),
            "{args:?}: {}",
            text(done.stderr)
        );
        let missing = output(dir.path(), &[args, &["--env-file", "none"]].concat());
        assert_ne!(missing.status.code(), Some(0), "{args:?}");
    }
    assert!(Server::start(dir.path(), &file).stop().success());
}

#[test]
fn a_dotenv_that_others_may_write_is_warned_of_and_refused_in_production() {
    let dir = folder("");
    let file = dir.path().join(".env");
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let log = Server::start(dir.path(), &[]).stop_for_log();
    assert!(log.contains("may write to .env (mode 666)"), "{log}");
    let said = refusal(command(dir.path()).env("APP_ENV", "production"), &[]);
    assert!(said.contains("may write to .env (mode 666)"), "{said}");
    // The others might have chosen whose key set a token is verified against.
    for args in [
        &["keys", "list"][..],
        &["users", "list"],
        &["audit", "list"],
        &["backup", "copy"],
        &["health"],
        &["verify", "e30.e30.e30"],
    ] {
        let mut warned = command(dir.path());
        let warned = text(warned.args(args).output().unwrap().stderr);
        assert!(warned.contains("may write to .env (mode 666)"), "{warned}");
        let mut refused = command(dir.path());
        let refused = refused.args(args).env("APP_ENV", "production");
        let refused = refused.output().unwrap();
        assert_ne!(refused.status.code(), Some(0), "{args:?}");
        let said = text(refused.stderr);
        assert!(said.ends_with("chmod 600 .env\n"), "{said}");
        assert_eq!(text(refused.stdout), "", "{args:?}");
    }
    fs::remove_file(&file).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    assert!(refusal(&mut command(dir.path()), &[]).contains("not a regular file"));
}

/// SQLite rolls the whole transaction back then, as on a full disk.
#[test]
fn a_table_that_is_full_is_said_to_be() {
    let dir = used_folder("");
    let last =
        "INSERT INTO key_events (id, kid, event, at) VALUES (9223372036854775807, 5, 'created', 1)";
    sql(dir.path()).execute_batch(last).unwrap();
    let rotated = output(dir.path(), &["keys", "rotate"]);
    let said = text(rotated.stderr);
    assert!(said.contains("database or disk is full"), "{said}");
}

#[test]
fn doctor_knows_that_a_wrong_sealing_key_bars_the_start() {
    let dir = used_folder("");
    let mut doctor = command(dir.path());
    let report = doctor.arg("doctor").env("NOT_MY_KEY", fresh_key());
    let report = text(report.output().unwrap().stdout);
    assert!(
        report.contains("set the NOT_MY_KEY that the database was made with"),
        "{report}"
    );
    assert!(
        !report.contains("start it, which creates a key"),
        "{report}"
    );
    let start = run(command(dir.path()).env("NOT_MY_KEY", fresh_key()));
    assert_eq!(start.code, Some(2));
}

#[test]
fn settings_that_another_program_recorded_bar_no_command_and_are_escaped() {
    let dir = used_folder("");
    let planted = "\u{1b}[31m\u{202e}x";
    sql(dir.path())
        .execute("UPDATE service_settings SET value = ?", params![planted])
        .unwrap();
    let emergency = &["keys", "rotate", "--now", "--yes", "--reason", "leak"][..];
    for args in [&["keys", "list"][..], &["users", "list"], emergency] {
        let done = output(dir.path(), args);
        let said = text(done.stderr) + &text(done.stdout);
        assert!(done.status.success(), "{args:?}: {said}");
        assert!(said.contains("cannot be used"), "{args:?}: {said}");
        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{args:?}: {said:?}");
    }
    let set = "UPDATE service_settings SET value = '7s\u{202e}' WHERE name = 'CLOCK_SKEW'";
    sql(dir.path()).execute_batch(set).unwrap();
    let report = text(output(dir.path(), &["doctor"]).stdout);
    assert!(report.contains("cannot be used"), "{report}");
    assert!(!report.contains(['\u{1b}', '\u{202e}']), "{report:?}");
}
