//! `/readyz` when the disk takes no more.

use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{PATIENCE, Reply, Server, clear_env, database, program, used_folder};

fn readyz(server: &Server) -> Reply {
    server.send("GET", "/readyz", &[], b"")
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
