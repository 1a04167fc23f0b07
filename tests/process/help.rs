//! Help texts of the commands. After a change that is meant, run
//! `INSTA_UPDATE=always cargo test --test process help` and look at the difference.

use crate::support::command;

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
        "verify",
        "doctor",
        "trial",
        "check",
        "sandbox",
    ] {
        let args = words.split_whitespace().chain(["--help"]);
        let out = command(dir.path()).args(args).output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{words}");
        let name = format!("jwks-server {words}").trim().replace(' ', "_");
        insta::assert_snapshot!(name, String::from_utf8(out.stdout).unwrap());
    }
}
