//! Two servers on one file.

use std::fs;
use std::path::Path;
use std::sync::Barrier;

use crate::long::times;
use crate::support::{DATABASE, Server, command, database, files, folder, number, sql};

/// Numbers of unexpired and of expired keys.
fn keys(dir: &Path) -> (i64, i64) {
    let count = "SELECT count(*) FILTER (WHERE exp > unixepoch()), count(*) FILTER (WHERE exp <= unixepoch()) FROM keys";
    sql(dir)
        .query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
}

/// Starts two servers at the same moment, waits until both have all keys, and
/// returns what each publishes.
fn start_two(dir: &Path) -> [(Server, String); 2] {
    let together = Barrier::new(2);
    let start = || {
        together.wait();
        let server = Server::start(dir, &["--demo-user", "demo:secret"]);
        // An expired token is signed by the last key that is made.
        let expired = server.sign_in("/auth?expired", "demo", "secret");
        assert_eq!(expired.status, 200, "{}", expired.text());
        let set = server.key_set();
        assert_eq!(set.status, 200, "{}", set.text());
        (server, set.text())
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(start);
        [start(), other.join().unwrap()]
    })
}

#[test]
fn two_servers_started_on_one_new_file_at_the_same_moment_share_one_pair_of_keys() {
    for round in 0..times(4, 20) {
        let dir = folder("");
        // A file that is there and empty, every other time.
        if round % 2 == 0 {
            fs::write(database(dir.path()), b"").unwrap();
        }
        let [(one, one_set), (two, two_set)] = start_two(dir.path());
        assert_eq!(one_set, two_set, "round {round}");
        assert_eq!(one_set.matches("\"kid\"").count(), 1, "{one_set}");
        // Each knows who signed up with the other.
        let password = one.register("alice");
        assert_eq!(two.sign_in("/auth", "alice", &password).status, 200);
        for server in [one, two] {
            let log = server.stop_for_log();
            assert!(!log.contains("ERROR"), "{log}");
        }
        assert_eq!(keys(dir.path()), (1, 1), "round {round}");
        let demo = "SELECT count(*) FROM users WHERE username = 'demo'";
        let demo = number(dir.path(), demo);
        assert_eq!(demo, 1, "round {round}");
        assert_eq!(files(dir.path()), [".env", DATABASE]);
    }
}

#[test]
fn two_servers_started_at_the_same_moment_on_a_file_without_keys_add_one_pair() {
    let dir = folder("");
    assert!(Server::start(dir.path(), &[]).stop().success());
    for round in 0..times(3, 5) {
        sql(dir.path()).execute("DELETE FROM keys", []).unwrap();
        let [(one, one_set), (two, two_set)] = start_two(dir.path());
        assert_eq!(one_set, two_set, "round {round}");
        assert!(one.stop().success() && two.stop().success());
        assert_eq!(keys(dir.path()), (1, 1), "round {round}");
    }
}

#[test]
fn what_one_server_did_is_kept_when_the_other_is_killed() {
    let dir = folder("");
    let [(one, set), (two, _)] = start_two(dir.path());
    let passwords: Vec<_> = (0..5).map(|n| one.register(&format!("user{n}"))).collect();
    drop(one);
    for (n, password) in passwords.iter().enumerate() {
        let reply = two.sign_in("/auth", &format!("user{n}"), password);
        assert_eq!(reply.status, 200);
    }
    assert_eq!(two.key_set().text(), set);
    assert!(two.stop().success());
    let server = Server::start_command(&mut command(dir.path()));
    assert_eq!(server.key_set().text(), set);
}
