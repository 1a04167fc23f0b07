//! Help texts of the commands. After a change that is meant, run
//! `INSTA_UPDATE=always cargo test --test process help` and look at the difference.

use std::net::TcpListener;
use std::process::Command;

use crate::left_out::left_out;
use crate::support::{command, files, folder, on_terminal, program, refusal};

#[test]
fn every_command_has_a_help_that_does_not_change_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        "",
        "serve",
        "keygen",
        "keys",
        "keys list",
        "keys rotate",
        "keys revoke",
        "keys history",
        "keys adopt",
        "keys reencrypt",
        "users",
        "users list",
        "users show",
        "users add",
        "users import",
        "users reset",
        "users disable",
        "users enable",
        "users delete",
        "audit",
        "audit list",
        "audit export",
        "audit prune",
        "backup",
        "restore",
        "db",
        "db copy",
        "verify",
        "doctor",
        "health",
        "trial",
        "check",
        "sandbox",
        "man",
        "completions",
    ] {
        let args = words.split_whitespace().chain(["--help"]);
        let out = command(dir.path()).args(args).output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{words}");
        let text = String::from_utf8(out.stdout).unwrap();
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(80), "{words}: {text}");
        let codes = text.split_once("Exit codes:\n").map(|(_, codes)| codes);
        assert!(codes.is_some_and(|it| it.contains(" 0  ")), "{text}");
        let name = format!("jwks-server {words}").trim().replace(' ', "_");
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn a_command_or_an_option_that_is_misspelt_is_answered_with_the_right_one() {
    let dir = folder("");
    for (words, meant) in [
        (
            "kyes list",
            "unknown command: did you mean keys? See --help",
        ),
        (
            "keys lsit",
            "unknown command: did you mean list? See --help",
        ),
        ("verfiy", "unknown command: did you mean verify? See --help"),
        (
            "keys list --jsno",
            "unknown option --jsno: did you mean --json? See --help",
        ),
        (
            "serve --prot 80",
            "unknown option --prot: PORT is set in the environment or in .env",
        ),
        (
            "--key-lead=1h",
            "unknown option --key-lead: KEY_LEAD is set in the environment",
        ),
        (
            "--secret-of-mine",
            "unknown option --secret-of-mine; see --help",
        ),
        ("nothing-like-it", "unknown command; see --help"),
    ] {
        let text = refusal(command(dir.path()).args(words.split(' ')), &[]);
        assert!(text.contains(meant), "{words}: {text}");
    }
}

#[test]
fn one_key_or_one_user_is_understood_as_well_as_several() {
    let dir = folder("");
    for words in [
        "key list --help",
        "keys list --help",
        "user list --help",
        "users list --help",
    ] {
        let out = command(dir.path()).args(words.split(' ')).output().unwrap();
        assert!(out.status.success(), "{words}");
    }
}

#[test]
fn every_command_has_a_manual_page_that_man_shows_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let wrote = command(dir.path()).args(["man", "--dir", "."]).output();
    assert!(wrote.unwrap().status.success());
    let page = command(dir.path()).arg("man").output().unwrap().stdout;
    let main = dir.path().join("jwks-server.1");
    assert_eq!(page, std::fs::read(main).unwrap());
    let pages = files(dir.path());
    for name in ["jwks-server-serve.1", "jwks-server-keys-list.1"] {
        assert!(pages.iter().any(|page| page == name), "{pages:?}");
    }
    if Command::new("man").arg("--version").output().is_err() {
        return left_out("man --warnings", "man is not installed");
    }
    for page in pages {
        let mut man = Command::new("man");
        man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        man.args(["--warnings", "--encoding=UTF-8", "--local-file", &page]);
        let out = man.current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.success() && said.is_empty(), "{page}: {said}");
        let code = text.lines().any(|line| line.trim().starts_with("0  "));
        assert!(code, "{page} has no table of exit codes: {text}");
    }
}

#[test]
fn the_version_says_of_which_source_it_is_or_no_more_than_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let out = command(dir.path()).arg("--version").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let number = concat!("jwks-server ", env!("CARGO_PKG_VERSION"));
    let source = text.strip_prefix(number).unwrap().trim();
    let Some(source) = source.strip_prefix('(') else {
        return assert_eq!(source, "");
    };
    let (commit, day) = source.trim_end_matches(')').split_once(' ').unwrap();
    assert_eq!(commit.len(), 12, "{text}");
    assert!(commit.bytes().all(|it| it.is_ascii_hexdigit()), "{text}");
    assert!(humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).is_ok());
}

/// Lines of a start, which ends after its warnings, on a terminal that `script` makes.
fn on_a_terminal(variables: &[(&str, &str)]) -> String {
    let dir = folder("");
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let mut script = on_terminal(dir.path(), program().as_os_str());
    script.env("METRICS_ADDR", &taken).env("FLASK_ENV", "odd");
    let out = script.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("is not understood and taken as"), "{text}");
    text
}

#[test]
fn the_log_has_colours_on_a_terminal_unless_it_or_its_user_has_none() {
    assert!(on_a_terminal(&[]).contains("\x1b["));
    for variables in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(
            !on_a_terminal(&[variables]).contains("\x1b["),
            "{variables:?}"
        );
    }
}
