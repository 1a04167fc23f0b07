//! `NOT_MY_KEY`: which spellings are a key, and how the others are refused.

use std::fs;
use std::path::Path;

use crate::support::{DATABASE, Server, command, files, folder, fresh_key, refusal, run, sql};

/// Holds `+` and `/` when it is spelled in the standard alphabet.
const KEY: &str = "-_-_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxw=";
/// In the README of the earlier server, for anyone to look up.
const PUBLISHED: &str = "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=";

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example");
    fs::read_to_string(path).unwrap()
}

#[test]
fn fr_22_the_sample_file_as_it_is_is_refused_and_told_how_to_make_a_key() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".env"), example()).unwrap();
    let text = refusal(&mut command(dir.path()), &[]);
    assert!(text.contains("NOT_MY_KEY"), "{text}");
    assert!(text.contains("jwks-server keygen"), "{text}");
    assert_eq!(files(dir.path()), [".env"]);
}

#[test]
fn fr_22_the_sample_file_with_a_key_and_all_its_examples_on_starts() {
    let dir = tempfile::tempdir().unwrap();
    let on = example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // Both are refused beside the key in the environment.
            Some(rest) if rest.starts_with("NOT_MY_KEY_FILE=") => "",
            _ if line.starts_with("NOT_MY_KEY=") => "",
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_uppercase()) => rest,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    for name in [
        "PORT",
        "HOST",
        "APP_ENV",
        "DATABASE_URL",
        "TRUSTED_PROXIES",
        "ISSUER",
        "AUDIENCE",
        "KEY_LIFETIME",
        "TOKEN_LIFETIME",
        "KEY_LEAD",
        "CLOCK_SKEW",
        "KEY_RETENTION",
        "JWKS_MAX_AGE",
        "ARGON2_MEMORY_KIB",
        "ARGON2_PASSES",
        "ARGON2_LANES",
        "AUTH_RATE",
    ] {
        assert!(on.contains(&format!("\n{name}=")), "{name}");
    }
    let text = format!("{on}NOT_MY_KEY={}\n", fresh_key());
    fs::write(dir.path().join(".env"), text).unwrap();
    let server = Server::start_command(command(dir.path()).env("PORT", "0"));
    assert_eq!(server.key_set().status, 200);
}

#[test]
fn fr_22_a_published_key_is_refused_in_every_spelling() {
    for key in [
        PUBLISHED.to_owned(),
        PUBLISHED.trim_end_matches('=').to_owned(),
        PUBLISHED.replace('_', "/"),
        format!("{KEY},{PUBLISHED}"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let text = refusal(
            command(dir.path()).env("NOT_MY_KEY", &key),
            &[&key, "g744z"],
        );
        assert!(text.contains("NOT_MY_KEY"), "{text}");
        assert!(text.contains("anyone can look up"), "{text}");
        assert!(files(dir.path()).is_empty());
    }
}

#[test]
fn fr_35_what_is_no_key_is_refused_by_name_and_never_shown() {
    let letters = "k".repeat(44);
    for (value, part) in [
        ("", None),
        (" ", None),
        (&letters[..32], Some("kkk")),
        (&letters, Some("kkk")),
        // 31 and 33 bytes.
        (
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",
            Some("AAECAwQ"),
        ),
        (
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g",
            Some("AAECAwQ"),
        ),
        (
            "b'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='",
            Some("AAECAwQ"),
        ),
        (
            "AAECAwQFBgcICQoLDA0O\nDxAREhMUFRYXGBkaGxwdHh8=",
            Some("DxAREhM"),
        ),
        (
            "AAECAwQFBgcICQoLDA0O DxAREhMUFRYXGBkaGxwdHh8=",
            Some("AAECAwQ"),
        ),
        (
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,",
            Some("AAECAwQ"),
        ),
        ("<paste-generated-fernet-key>", Some("paste-gen")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = command(dir.path());
        command.env("NOT_MY_KEY", value).env("RUST_LOG", "trace");
        let secret: Vec<&str> = part.into_iter().collect();
        let text = refusal(&mut command, &secret);
        assert!(text.contains("NOT_MY_KEY"), "{text}");
        assert!(text.contains("jwks-server keygen"), "{text}");
        if part.is_some() {
            assert!(text.contains("32 bytes in url-safe base64"), "{text}");
        }
        assert!(files(dir.path()).is_empty(), "{value:?}");
    }
}

#[test]
fn fr_35_no_key_at_all_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let text = refusal(&mut command(dir.path()), &[]);
    assert!(text.contains("NOT_MY_KEY is not set"), "{text}");
    assert!(text.contains("--init") && text.contains("keygen"), "{text}");
    assert!(files(dir.path()).is_empty());
}

#[test]
fn fr_35_every_spelling_of_a_key_opens_what_another_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let mut sets = Vec::new();
    for key in [
        KEY.to_owned(),
        KEY.trim_end_matches('=').to_owned(),
        KEY.replace('-', "+").replace('_', "/"),
        format!("  {KEY}\n"),
        format!("{}, {KEY}", fresh_key()),
    ] {
        let mut command = command(dir.path());
        command.env("NOT_MY_KEY", key).env("PORT", "0");
        let server = Server::start_command(&mut command);
        sets.push(server.key_set().text());
        assert!(server.stop().success());
    }
    assert_eq!(sets[0].matches("\"kid\"").count(), 1);
    assert!(sets.iter().all(|set| *set == sets[0]), "{sets:#?}");
}

#[test]
fn the_wrong_key_for_a_database_is_refused_and_changes_no_byte_of_it() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    server.register("alice");
    // Without a key in it, any would do.
    assert_eq!(server.key_set().status, 200);
    assert!(server.stop().success());
    let path = dir.path().join(DATABASE);
    let before = fs::read(&path).unwrap();
    let wrong = fresh_key();
    let ended = run(command(dir.path()).env("NOT_MY_KEY", &wrong));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let line = ended.stderr.trim_end();
    assert!(line.starts_with("jwks-server: NOT_MY_KEY "), "{line}");
    assert!(line.contains(DATABASE) && !line.contains('\n'), "{line}");
    assert!(!ended.stderr.contains(&wrong));
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(files(dir.path()), [".env", DATABASE]);
    // The right one is still right.
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
}

/// Commits that a killed server left in the WAL are not moved by reading.
#[test]
fn the_wrong_key_leaves_the_side_files_of_a_killed_server_alone() {
    let dir = folder("");
    let mut server = Server::start(dir.path(), &[]);
    server.register("alice");
    // Without a key in it, any would do.
    assert_eq!(server.key_set().status, 200);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let wal = dir.path().join(format!("{DATABASE}-wal"));
    let read = |path: &std::path::Path| fs::read(path).unwrap();
    let before = (read(&dir.path().join(DATABASE)), read(&wal));
    let ended = run(command(dir.path()).env("NOT_MY_KEY", fresh_key()));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!((read(&dir.path().join(DATABASE)), read(&wal)) == before);
    let server = Server::start(dir.path(), &[]);
    assert_eq!(
        sql(dir.path()).query_row("SELECT count(*) FROM users", [], |row| row.get::<_, i64>(0)),
        Ok(1)
    );
    assert_eq!(server.key_set().status, 200);
}
