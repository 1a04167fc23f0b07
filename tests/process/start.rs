//! Addresses that it listens on, and the message when it cannot.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::support::{
    DATABASE, Server, command, files, folder, fresh_key, own_address, refusal, run,
};

/// Longest time of a refusal on a busy machine.
const QUICKLY: Duration = Duration::from_secs(10);

#[test]
fn it_listens_answers_and_stops_cleanly() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    assert_eq!(server.key_set().status, 200);
    assert!(server.stop().success());
    assert_eq!(files(dir.path()), [".env", DATABASE]);
}

#[test]
fn fr_17_a_port_that_is_none_is_refused_with_its_value_before_anything_is_made() {
    for port in [
        "abc", "70000", "65536", "-1", "8080abc", "80 80", "0x50", "1e3", "8080.0",
    ] {
        let dir = folder("");
        let began = Instant::now();
        let text = refusal(command(dir.path()).env("PORT", port), &[]);
        assert!(began.elapsed() < QUICKLY, "{port}");
        assert!(text.contains(&format!("PORT={port:?}")), "{text}");
        assert!(text.contains("0 to 65535"), "{text}");
        assert_eq!(files(dir.path()), [".env"], "{port}");
    }
}

#[test]
fn fr_17_no_port_and_an_empty_one_mean_8080_and_only_the_empty_one_is_remarked_upon() {
    for (port, remarks) in [(None, 0), (Some(""), 1), (Some("  "), 1)] {
        let dir = folder("");
        std::fs::write(
            dir.path().join(".env"),
            format!("NOT_MY_KEY={}\n", fresh_key()),
        )
        .unwrap();
        let host = own_address();
        let mut command = command(dir.path());
        command.env("HOST", host.to_string());
        command.envs(port.map(|port| ("PORT", port)));
        let server = Server::start_command(&mut command);
        assert_eq!(server.addr, SocketAddr::from((host, 8080)), "{port:?}");
        assert_eq!(server.key_set().status, 200);
        let log = server.stop_for_log();
        let remark = "PORT is empty, which counts as not set";
        assert_eq!(log.matches(remark).count(), remarks, "{log}");
    }
}

#[test]
fn fr_17_blanks_around_a_port_do_not_count() {
    let dir = folder("");
    let host = own_address();
    let mut command = command(dir.path());
    command
        .env("HOST", host.to_string())
        .env("PORT", " 18080\t");
    let server = Server::start_command(&mut command);
    assert_eq!(server.addr, SocketAddr::from((host, 18_080)));
    assert_eq!(server.key_set().status, 200);
}

#[test]
fn fr_17_port_0_picks_one_for_both_loopback_addresses_and_names_it() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    assert_ne!(server.addr.port(), 0);
    assert_eq!(server.key_set().status, 200);
    if TcpListener::bind("[::1]:0").is_ok() {
        let also = format!("listening on http://[::1]:{}", server.addr.port());
        server.wait_for_log(&also);
    }
}

#[test]
fn fr_17_a_taken_port_is_refused_in_one_line_before_anything_is_made() {
    for taken in ["127.0.0.1:0", "[::1]:0"] {
        // A machine without IPv6 has no port to take there.
        let Ok(holder) = TcpListener::bind(taken) else {
            continue;
        };
        let port = holder.local_addr().unwrap().port().to_string();
        let dir = folder("");
        let began = Instant::now();
        let text = refusal(command(dir.path()).env("PORT", &port), &[]);
        assert!(began.elapsed() < QUICKLY);
        assert!(text.contains(&format!("PORT={port}")), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        assert_eq!(files(dir.path()), [".env"], "{taken}");
    }
}

#[test]
fn fr_17_a_second_server_on_the_same_port_is_refused_and_the_first_goes_on() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    let port = server.addr.port().to_string();
    refusal(command(dir.path()).env("PORT", port), &[]);
    assert_eq!(server.key_set().status, 200);
    server.register("alice");
}

#[test]
fn a_host_that_is_none_of_this_machine_is_refused_by_name() {
    let dir = folder("");
    let text = refusal(command(dir.path()).env("HOST", "192.0.2.1"), &[]);
    assert!(text.contains("HOST=192.0.2.1"), "{text}");
    assert_eq!(files(dir.path()), [".env"]);
}

#[test]
fn help_names_the_commands_and_what_they_take() {
    let dir = tempfile::tempdir().unwrap();
    let help = command(dir.path()).arg("--help").output().unwrap();
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for part in ["serve", "keygen", "--init", "--demo-user", "NAME:PASSWORD"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(files(dir.path()).is_empty());
}

#[test]
fn what_is_no_command_line_is_refused_in_one_line_without_repeating_a_value() {
    let cases: [(&[&str], &str); 13] = [
        (&["secret"], "unknown command"),
        (&["--port=secret"], "unknown option --port"),
        (&["--demo-user", "a:b", "secret:c"], "a command is missing"),
        (
            &["--demo-user", "secret"],
            "--demo-user: it is not NAME:PASSWORD",
        ),
        (&["keys", "list", "secret"], "unexpected argument"),
        (&["keys", "revoke", "secret"], "--reason <TEXT> is missing"),
        (&["keys", "rotate", "--now"], "--reason <TEXT> is missing"),
        (&["keys"], "a command is missing"),
        (
            &["keys", "adopt"],
            "--until <TIME>, --reason <TEXT>, <SOURCE> are missing",
        ),
        (
            &["users", "list", "--limit", "secret"],
            "--limit is a number from 1 to 10000;",
        ),
        (
            &["audit", "list", "--below", "secret"],
            "--below is an id, a whole number;",
        ),
        (
            &["keys", "history", "--limit=secret"],
            "--limit is a whole number;",
        ),
        (
            &["audit", "export", "--address", "secret"],
            "--address is an IP address, such as 192.0.2.1 or 2001:db8::1;",
        ),
    ];
    for (args, what) in cases {
        let dir = tempfile::tempdir().unwrap();
        let ended = run(command(dir.path())
            .env("NOT_MY_KEY", fresh_key())
            .args(args));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let line = ended.stderr.trim_end();
        assert!(line.starts_with(&format!("jwks-server: {what}")), "{line}");
        assert!(!line.contains("secret") && !line.contains('\n'), "{line}");
        assert!(files(dir.path()).is_empty());
    }
}
