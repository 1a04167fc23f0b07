//! `verify` against live services and key sets in files.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::support::{JWKS, Server, command, used_folder};

const VERIFIED: i32 = 0;
const REFUSED: i32 = 2;
const MALFORMED: i32 = 10;
const ALGORITHM: i32 = 11;
const UNKNOWN_KEY: i32 = 13;
const SIGNATURE: i32 = 15;
const ISSUER: i32 = 18;
const AUDIENCE: i32 = 19;

fn verify(dir: &Path, args: &[&str], stdin: &str) -> Output {
    let mut child = command(dir)
        .arg("verify")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading all of it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A token of a new user, and the URL of the key set.
fn token(server: &Server, path: &str) -> (String, String) {
    let name = format!("user-{}", uuid::Uuid::new_v4());
    let password = server.register(&name);
    let reply = server.sign_in(path, &name, &password);
    let token = reply.json()["token"].as_str().unwrap().to_owned();
    (token, format!("http://{}{JWKS}", server.addr))
}

#[test]
fn a_live_token_is_verified_and_an_expired_one_has_a_key_that_is_gone() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let (live, url) = token(&server, "/auth");
    let done = verify(dir.path(), &[&live, "--jwks", &url], "");
    assert_eq!(code(&done), VERIFIED, "{}{}", stdout(&done), stderr(&done));
    assert!(stdout(&done).contains("verified (not checked: issuer)"));
    assert_eq!(stderr(&done), "");

    let (expired, url) = token(&server, "/auth?expired");
    let done = verify(dir.path(), &[&expired, "--jwks", &url, "--json"], "");
    assert_eq!(code(&done), UNKNOWN_KEY);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["cause"], "unknown key");
    assert_eq!(report["exit_code"], UNKNOWN_KEY);
    let steps = report["steps"].as_array().unwrap();
    let expiry = steps.iter().find(|step| step["step"] == "expiry").unwrap();
    assert_eq!(expiry["result"], "fail", "shown, though it does not decide");
}

#[test]
fn the_key_set_of_this_machine_is_the_default_and_no_secret_is_needed() {
    let dir = used_folder("ISSUER=https://a.example\nAUDIENCE=api");
    let server = Server::start(dir.path(), &[]);
    let (live, _) = token(&server, "/auth");
    let elsewhere = tempfile::tempdir().unwrap();
    let port = format!("PORT={}\n", server.addr.port());
    for (settings, expected) in [
        ("", VERIFIED),
        ("ISSUER=https://a.example\nAUDIENCE=api", VERIFIED),
        ("ISSUER=https://b.example", ISSUER),
        ("AUDIENCE=other", AUDIENCE),
    ] {
        fs::write(elsewhere.path().join(".env"), format!("{port}{settings}\n")).unwrap();
        let done = verify(elsewhere.path(), &[&live], "");
        assert_eq!(code(&done), expected, "{settings}: {}", stderr(&done));
    }
    let given = ["--issuer", "https://a.example", "--audience", "api"];
    let done = verify(
        elsewhere.path(),
        &[&[live.as_str()][..], &given].concat(),
        "",
    );
    assert_eq!(stdout(&done).lines().last(), Some("verified"));
}

#[test]
fn a_token_may_come_from_standard_input_and_a_key_set_from_a_file() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let (live, url) = token(&server, "/auth");
    let set = server.key_set().body;
    fs::write(dir.path().join("set.json"), &set).unwrap();
    drop(server);
    let padded = format!("\n  {live} \r\n");
    let done = verify(dir.path(), &["-", "--jwks", "set.json"], &padded);
    assert_eq!(code(&done), VERIFIED, "{}", stderr(&done));
    let set = String::from_utf8(set).unwrap();
    let done = verify(dir.path(), &[&live, "--jwks", "-"], &set);
    assert_eq!(code(&done), VERIFIED, "{}", stderr(&done));
    assert_eq!(
        code(&verify(dir.path(), &["-", "--jwks", "-"], &live)),
        REFUSED
    );
    assert_eq!(
        code(&verify(dir.path(), &["-", "--jwks", &url], &live)),
        REFUSED
    );
    let endless = "x".repeat(100_000);
    let done = verify(dir.path(), &["-", "--jwks", "set.json"], &endless);
    assert_eq!(code(&done), REFUSED);
    assert_eq!(
        code(&verify(dir.path(), &["-", "--jwks", "set.json"], "")),
        MALFORMED
    );
}

#[test]
fn a_changed_token_is_reported_with_its_cause_and_never_shown() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let (live, url) = token(&server, "/auth");
    let parts: Vec<_> = live.split('.').collect();
    let claims = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let claims = String::from_utf8(claims).unwrap().replace("user-", "root-");
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let changed = URL_SAFE_NO_PAD.encode(claims);
    let forged = format!("{none}.{changed}.");
    let changed = format!("{}.{changed}.{}", parts[0], parts[2]);
    for (token, expected) in [
        (changed.as_str(), SIGNATURE),
        (&forged, ALGORITHM),
        (&live[..live.len() - 1], MALFORMED),
        (parts[1], MALFORMED),
    ] {
        let done = verify(dir.path(), &[token, "--jwks", &url], "");
        assert_eq!(code(&done), expected, "{}", stdout(&done));
        assert_eq!(stderr(&done).lines().count(), 1);
        let said = stdout(&done) + &stderr(&done);
        for part in token.split('.').filter(|part| !part.is_empty()) {
            assert!(!said.contains(part), "{said}");
        }
    }
    let done = verify(dir.path(), &["Token", &live, "--jwks", &url], "");
    assert_eq!(code(&done), REFUSED);
    assert!(!(stdout(&done) + &stderr(&done)).contains(parts[1]));
}

#[test]
fn what_surrounds_a_token_is_removed_and_reported() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let (live, url) = token(&server, "/auth");
    let answer = format!(r#"{{"token":"{live}"}}"#);
    let (bearer, padded) = (format!("bearer {live}"), format!(" \t{live}\n"));
    for (given, stdin, told) in [
        (&["-"][..], format!("{live}\r\n"), None),
        (&[live.as_str()], String::new(), None),
        (&[&padded], String::new(), Some("the white space around it")),
        (&["-"], padded.clone(), Some("the white space around it")),
        (&[&answer], String::new(), Some("the JSON answer around it")),
        (&["-"], answer.clone(), Some("the JSON answer around it")),
        (&[&bearer], String::new(), Some("the word Bearer before it")),
        (
            &["Bearer", &live],
            String::new(),
            Some("the word Bearer before it"),
        ),
    ] {
        let done = verify(dir.path(), &[given, &["--jwks", &url]].concat(), &stdin);
        assert_eq!(code(&done), VERIFIED, "{}{}", stdout(&done), stderr(&done));
        let first = stdout(&done).lines().next().unwrap().to_owned();
        match told {
            Some(what) => assert_eq!(first, format!("ok    input       without {what}")),
            None => assert!(first.starts_with("ok    form "), "{first}"),
        }
    }
    let (start, end) = live.split_at(40);
    let done = verify(
        dir.path(),
        &["-", "--jwks", &url],
        &format!("{start}\n{end}"),
    );
    assert_eq!(code(&done), MALFORMED);
    assert!(stdout(&done).contains("it has a space or a line end inside"));
}

#[test]
fn header_and_claims_are_shown_and_nothing_that_a_terminal_obeys() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let (live, url) = token(&server, "/auth");
    let done = verify(dir.path(), &[&live, "--jwks", &url], "");
    let shown = stdout(&done);
    let of = |name: &str| {
        let mut lines = shown.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        serde_json::from_str::<Value>(line).unwrap()
    };
    let part = |n| {
        URL_SAFE_NO_PAD
            .decode(live.split('.').nth(n).unwrap())
            .unwrap()
    };
    let (header, claims) = (part(0), part(1));
    assert_eq!(
        of("header "),
        serde_json::from_slice::<Value>(&header).unwrap()
    );
    assert_eq!(
        of("claims "),
        serde_json::from_slice::<Value>(&claims).unwrap()
    );
    let hostile = URL_SAFE_NO_PAD.encode("{\"sub\":\"\u{9b}31m\u{202e}\"}");
    let hostile = format!("{hostile}.{hostile}.");
    for more in [&[][..], &["--json"]] {
        let done = verify(
            dir.path(),
            &[&[hostile.as_str(), "--jwks", &url], more].concat(),
            "",
        );
        let said = stdout(&done) + &stderr(&done);
        assert!(said.contains(r"\u009b31m\u202e"), "{said}");
        assert!(!said.contains(['\u{9b}', '\u{202e}']), "{said}");
    }
}

#[test]
fn a_key_set_that_cannot_be_had_is_one_line_and_no_verdict() {
    let dir = used_folder("");
    let closed = {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", socket.local_addr().unwrap())
    };
    fs::write(dir.path().join("page.html"), "<html>").unwrap();
    fs::write(dir.path().join("large.json"), vec![b' '; 1024 * 1024 + 1]).unwrap();
    let server = Server::start(dir.path(), &[]);
    let missing = format!("http://{}/none", server.addr);
    let redirect = answering(
        "HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n"
            .to_owned(),
    );
    let large = answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n{}",
        " ".repeat(2_000_000)
    ));
    for set in [
        "none.json",
        "page.html",
        "large.json",
        "/dev/zero",
        "ftp://localhost/",
        "http://",
        "http://u:secret@localhost/",
        &closed,
        &missing,
        &redirect,
        &large,
    ] {
        let done = verify(dir.path(), &["a.b.c", "--jwks", set], "");
        assert_eq!(code(&done), REFUSED, "{set}: {}", stdout(&done));
        assert_eq!(stderr(&done).lines().count(), 1, "{set}: {}", stderr(&done));
        assert_eq!(stdout(&done), "", "{set}");
    }
    // PORT=0 of the folder.
    assert!(stderr(&verify(dir.path(), &["a.b.c"], "")).contains("PORT=0"));
    let done = verify(dir.path(), &["a.b.c", "--leeway", "6m"], "");
    assert_eq!(code(&done), REFUSED);
}

/// The URL of a server that gives one answer to its one request.
fn answering(answer: String) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    std::thread::spawn(move || {
        if let Ok((mut stream, _)) = socket.accept() {
            let mut request = [0; 1024];
            let _ = std::io::Read::read(&mut stream, &mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn every_exit_code_is_in_the_help() {
    let dir = tempfile::tempdir().unwrap();
    let help = stdout(&verify(dir.path(), &["--help"], ""));
    for code in [
        "0", "1", "2", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19",
    ] {
        let line = format!("{code:>4}  ");
        assert_eq!(
            help.lines().filter(|l| l.starts_with(&line)).count(),
            1,
            "{code}"
        );
    }
}
