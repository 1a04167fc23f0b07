//! Room to act: on a disk that fills up, and beside a read that does not end.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::left_out::left_out;
use crate::support::{JSON, PATIENCE, Server, command, database, folder, sql};
use crate::token::kids;

/// A small disk in memory, which is gone with its mount when it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mounted(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]);
        let is_mounted = mount.arg(dir.path()).status().is_ok_and(|s| s.success());
        if !is_mounted {
            assert!(std::env::var_os("REQUIRE_MOUNT").is_none());
            left_out("a small disk", "nothing can be mounted");
        }
        is_mounted.then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves so many bytes free.
    fn fill(&self, left: u64) -> PathBuf {
        let disk = rustix::fs::statvfs(self.path()).unwrap();
        let free = disk.f_bavail * disk.f_frsize;
        let path = self.path().join("other");
        let mut file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.as_mut().unwrap();
        let block = vec![1; 64 * 1024];
        let mut to_write = free.saturating_sub(left);
        while to_write > 0 {
            let part = usize::try_from(to_write.min(block.len() as u64)).unwrap();
            if file.write_all(&block[..part]).is_err() {
                break;
            }
            to_write -= part as u64;
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn wait_until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it never comes");
    }
}

#[test]
fn sign_ups_stop_before_the_disk_is_full_and_keys_can_be_revoked_when_it_is() {
    let Some(disk) = Disk::mounted("96m") else {
        return;
    };
    let settings = folder("AUTH_RATE=1000");
    fs::copy(settings.path().join(".env"), disk.path().join(".env")).unwrap();
    let server = Server::start(disk.path(), &[]);
    let password = server.register("alice");
    let leaked = kids(&server.key_set().json());

    disk.fill(32 * 1024 * 1024);
    server.wait_for_log("nobody can sign up");
    let body = br#"{"username":"bob","email":"bob@example.com"}"#;
    let refused = server.send("POST", "/register", &[JSON], body);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);

    disk.fill(0);
    // Until SQLite has used up what its files have left.
    wait_until(|| server.sign_in("/auth", "alice", &password).status == 503);
    let emergency = ["keys", "rotate", "--now", "--yes", "--reason", "leak"];
    let done = command(disk.path()).args(emergency).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{said}");
    wait_until(|| !kids(&server.key_set().json()).contains(&leaked[0]));
}

#[test]
fn a_write_ahead_log_that_a_read_keeps_from_being_emptied_is_reported() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    server.register("alice");
    let reader = sql(dir.path());
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM users")
        .unwrap();
    let writer = sql(dir.path());
    writer
        .execute_batch(
            "CREATE TABLE filler (bytes); INSERT INTO filler VALUES (randomblob(70000000))",
        )
        .unwrap();
    let line = server.wait_for_log("the write-ahead log has");
    assert!(line.contains("WARN"), "{line}");
    let report = command(dir.path()).arg("doctor").output().unwrap();
    let report = String::from_utf8(report.stdout).unwrap();
    let told = |line: &str| line.starts_with("warn") && line.contains("the write-ahead log has");
    assert!(report.lines().any(told), "{report}");
    drop((reader, writer));
    assert!(server.stop().success());
    assert!(!database(dir.path()).with_extension("db-reserve").exists());
}
