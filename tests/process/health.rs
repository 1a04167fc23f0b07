//! `/readyz` when the disk takes no more, and `health`, which asks it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use serde_json::Value;

use crate::support::{
    PATIENCE, Reply, Server, clear_env, command, database, folder, program, used_folder,
};

fn readyz(server: &Server) -> Reply {
    server.send("GET", "/readyz", &[], b"")
}

/// `health --json` with these settings besides those of the folder.
fn health(dir: &Path, settings: &[(&str, &str)]) -> (Option<i32>, Value, String) {
    let mut health = command(dir);
    health.envs(settings.iter().copied());
    let Output {
        status,
        stdout,
        stderr,
    } = health.args(["health", "--json"]).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    (
        status.code(),
        serde_json::from_slice(&stdout).unwrap(),
        said,
    )
}

#[test]
fn health_asks_the_service_that_the_settings_describe() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let port = server.addr.port().to_string();
    for settings in [
        // PORT=0 is in the folder: the port of the last start.
        &[][..],
        &[("PORT", &*port)],
        &[("PORT", &*port), ("HOST", "0.0.0.0")],
    ] {
        let (code, document, said) = health(dir.path(), settings);
        assert_eq!(code, Some(0), "{settings:?}: {said}");
        assert_eq!(document["ready"], true);
        assert!(said.is_empty(), "{said}");
    }
    let quiet = command(dir.path()).arg("health").output().unwrap();
    assert_eq!(quiet.stdout, b"the service is ready\n");
    assert!(quiet.status.success() && quiet.stderr.is_empty());
}

#[test]
fn health_ends_with_1_and_one_line_where_no_service_answers() {
    let nothing = folder("");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port().to_string();
    for (settings, why) in [
        (&[][..], "no start of the service is recorded"),
        (&[("PORT", "many")], "PORT"),
        (&[("PORT", "1"), ("HOST", "127.0.0.1")], "refused"),
        (
            &[("PORT", &*silent), ("HOST", "127.0.0.1")],
            "no response in time",
        ),
    ] {
        let (code, document, said) = health(nothing.path(), settings);
        assert_eq!(code, Some(1), "{settings:?}: {said}");
        assert_eq!(document["ready"], false);
        let error = document["error"].as_str().unwrap();
        assert!(error.contains(why), "{settings:?}: {error}");
        assert_eq!(said, format!("jwks-server: {error}\n"));
    }
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 1);
}

#[test]
fn what_a_terminal_obeys_in_an_answer_is_escaped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let body = "{\"warning\": \"\\u001b[31m \u{9b}31m\"}";
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 x\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
    });
    let dir = folder("");
    for (args, expected) in [
        (
            &["health"][..],
            "the service is ready, but \\u{1b}[31m \\u{9b}31m\n",
        ),
        (&["health", "--json"], "\"\\u001b[31m \\u009b31m\""),
    ] {
        let mut health = command(dir.path());
        let health = health.env("PORT", &port).env("HOST", "127.0.0.1");
        let printed = health.args(args).output().unwrap().stdout;
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains(expected), "{printed:?}");
    }
}

/// Files of the process may grow up to so many bytes.
fn limit_files(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(Pid::from_child(&server.child)), Resource::Fsize, limit).unwrap();
}

/// The lock for writing is free all the time.
#[test]
fn when_no_file_may_grow_it_is_not_ready_until_one_may_again() {
    let dir = used_folder("");
    let mut command = Command::new("sh");
    clear_env(&mut command)
        .current_dir(dir.path())
        // Or the first write too many would end the process.
        .args(["-c", "trap '' XFSZ; exec \"$0\""])
        .arg(program());
    let server = Server::start_command(&mut command);
    assert_eq!(server.key_set().status, 200);
    let password = server.register("alice");
    let wal = database(dir.path()).with_extension("db-wal");
    limit_files(&server, Some(wal.metadata().unwrap().len()));
    let refused = server.sign_in("/auth", "alice", &password);
    assert_eq!(refused.status, 503, "{}", refused.text());
    let reply = readyz(&server);
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.header("retry-after"), "2");
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("the database cannot be written to"),
        "{error}"
    );
    let line = server.wait_for_log("the database cannot be written to");
    assert!(line.contains("WARN"), "{line}");
    let (code, document, _) = health(dir.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(document["error"].as_str().unwrap().contains(&error));
    assert_eq!(server.send("GET", "/healthz", &[], b"").status, 200);
    assert_eq!(server.key_set().status, 200);
    limit_files(&server, None);
    // A result of the check holds for a second.
    let began = Instant::now();
    while readyz(&server).status == 503 {
        assert!(began.elapsed() < PATIENCE, "it does not get ready");
    }
    let reply = server.sign_in("/auth", "alice", &password);
    assert_eq!(
        reply.status,
        200,
        "{}: {}",
        reply.text(),
        server.stop_for_log()
    );
}
