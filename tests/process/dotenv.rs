//! The file `.env`: how people and editors write it.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Server, command, files, folder, fresh_key, own_address, refusal};

fn folder_with(text: impl AsRef<[u8]>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".env"), text).unwrap();
    dir
}

/// Starts with `text` as `.env`, and returns the key set.
fn key_set_with(dir: &Path, text: &str) -> String {
    fs::write(dir.join(".env"), text).unwrap();
    let server = Server::start_command(command(dir).env("PORT", "0"));
    let set = server.key_set().text();
    assert!(server.stop().success());
    set
}

#[test]
fn fr_30_every_way_of_writing_a_line_gives_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let key = fresh_key();
    let plain = key_set_with(dir.path(), &format!("NOT_MY_KEY={key}\n"));
    // Another key would be refused: this database is sealed with the first one.
    for text in [
        format!("NOT_MY_KEY={key}"),
        format!("NOT_MY_KEY={key}\r\nAPP_ENV=development\r\n"),
        format!("\u{feff}NOT_MY_KEY={key}\r\nAPP_ENV=development\r\n"),
        format!("export NOT_MY_KEY={key}\n"),
        format!("NOT_MY_KEY=\"{key}\"\n"),
        format!("NOT_MY_KEY='{key}'\n"),
        format!("    NOT_MY_KEY={key}\n"),
        format!("\tNOT_MY_KEY={key}\n"),
        format!("NOT_MY_KEY = {key}\n"),
        format!("NOT_MY_KEY={key}   \n"),
        format!("NOT_MY_KEY={key}   "),
        format!("NOT_MY_KEY={key} # mine\n"),
        format!("  export NOT_MY_KEY = \"{key}\"  # mine\n"),
        format!("# a comment\n\nOTHER=thing\nNOT_MY_KEY={key}\n"),
    ] {
        assert_eq!(key_set_with(dir.path(), &text), plain, "{text:?}");
    }
}

#[test]
fn fr_30_the_real_environment_beats_the_file_unless_it_is_empty() {
    let host = own_address().to_string();
    let dir = folder(&format!("HOST={host}\nPORT=18080"));
    for (real, port) in [(Some("18081"), 18_081), (Some(""), 18_080), (None, 18_080)] {
        let mut command = command(dir.path());
        command.envs(real.map(|port| ("PORT", port)));
        let server = Server::start_command(&mut command);
        assert_eq!(server.addr.port(), port, "{real:?}");
        assert!(!server.stop_for_log().contains("PORT is empty"));
    }
}

#[test]
fn fr_30_an_empty_key_in_the_environment_does_not_hide_the_files() {
    let dir = folder("");
    let server = Server::start_command(command(dir.path()).env("NOT_MY_KEY", ""));
    assert_eq!(server.key_set().status, 200);
}

#[test]
fn a_dollar_in_a_value_is_a_dollar() {
    for (value, password) in [
        ("ann:a$HOME$1$", "a$HOME$1$"),
        ("'ann:a${HOME}\\n'", "a${HOME}\\n"),
        ("\"ann:a${HOME}b$$\"", "a${HOME}b$$"),
    ] {
        let dir = folder(&format!("DEMO_USER={value}"));
        let server = Server::start(dir.path(), &[]);
        let signed_in = server.sign_in("/auth", "ann", password);
        assert_eq!(signed_in.status, 200, "{value}");
    }
}

#[test]
fn a_name_that_is_nearly_a_setting_is_warned_of() {
    let dir = folder("APP_EVN=production");
    let log = Server::start(dir.path(), &[]).stop_for_log();
    assert!(log.contains("did you mean APP_ENV?"), "{log}");
}

#[test]
fn fr_30_utf_16_is_refused_by_name() {
    let key = fresh_key();
    let units: Vec<u16> = format!("NOT_MY_KEY={key}\r\n").encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    for bytes in [
        [b"\xff\xfe", little.as_slice()].concat(),
        [b"\xfe\xff", big.as_slice()].concat(),
        little,
        big,
    ] {
        let dir = folder_with(bytes);
        let text = refusal(&mut command(dir.path()), &[&key]);
        assert!(text.contains(".env") && text.contains("UTF-8"), "{text}");
        assert_eq!(files(dir.path()), [".env"]);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused_by_name() {
    // A folder of this name, since root reads files of any mode.
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".env")).unwrap();
    let text = refusal(command(dir.path()).env("NOT_MY_KEY", fresh_key()), &[]);
    assert!(text.contains(".env is not a regular file"), "{text}");
    assert_eq!(files(dir.path()), [".env"]);
}

#[test]
fn a_malformed_line_is_named_by_its_number_and_not_shown() {
    let key = fresh_key();
    for (text, line) in [
        (format!("{}\n", key.trim_end_matches('=')), 1),
        (format!("PORT=0\n\n# a comment\nNOT_MY_KEY: {key}\n"), 4),
        (format!("PORT=0\r\nNOT_MY_KEY={key}# mine\r\n"), 2),
        (format!("PORT=0\nNOT_MY_KEY=\"{key}\nHOST=localhost\n"), 2),
        (format!("PORT=0\nAPP_ENV=development\n={key}"), 3),
    ] {
        let dir = folder_with(&text);
        let said = refusal(&mut command(dir.path()), &[&key, &key[..20]]);
        assert!(said.contains(&format!(".env line {line} ")), "{said}");
        assert_eq!(files(dir.path()), [".env"], "{text:?}");
    }
}

#[test]
fn a_value_that_is_not_understood_is_refused_by_name_before_anything_is_made() {
    for (name, value) in [
        ("APP_ENV", "staging"),
        ("KEY_LIFETIME", "3600"),
        ("KEY_LIFETIME", "40m"),
        ("TOKEN_LIFETIME", "-1s"),
        ("JWKS_MAX_AGE", "11m"),
        ("ARGON2_MEMORY_KIB", "19455"),
        ("ARGON2_PASSES", "1"),
        ("AUTH_RATE", "0"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("DATABASE_URL", "postgres://user:hunter2@db/keys"),
        ("DATABASE_URL", "keys.db"),
        ("DEMO_USER", "alice"),
        ("RUST_LOG", "jwks_server=loud"),
    ] {
        let dir = folder("");
        let text = refusal(command(dir.path()).env(name, value), &["hunter2"]);
        assert!(text.contains(name), "{name}: {text}");
        assert_eq!(files(dir.path()), [".env"], "{name}={value}");
    }
}
