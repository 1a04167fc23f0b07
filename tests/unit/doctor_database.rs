//! What `doctor` says of a server of PostgreSQL. A module of `src/cli/doctor/database.rs`.

use super::*;
use crate::store::UntrustedRole;

/// The report on one line, of a server that is well but for `change`.
fn said(change: impl FnOnce(&mut ServerState)) -> String {
    let mut state = ServerState {
        version: "15.4".to_owned(),
        uses_tls: true,
        synchronous_standbys: "FIRST 1 (two)".to_owned(),
        synchronous_commit: "off".to_owned(),
        fsync: true,
        lacking_rights: String::new(),
        lacks_create: false,
        untrusted_role: None,
        shares_sessions: true,
        now: SystemClock::new().now(),
    };
    change(&mut state);
    let mut report = Report::default();
    server(&state, Some(Duration::from_secs(10)), &mut report);
    let words: Vec<_> = report
        .render(false)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    words.join(" ")
}

#[test]
fn doctor_names_each_property_of_a_server() {
    let well = said(|_| {});
    for part in [
        "ok server PostgreSQL 15.4",
        "ok tls the connection is encrypted, and the server's name was verified",
        "ok durability fsync is on; synchronous_commit is off, which the service sets on",
        "ok standbys synchronous standbys: FIRST 1 (two)",
        "ok pooler one in transaction mode is in between",
        "ok rights this user may read and write all tables",
        "ok other roles none may make tables or functions",
        "ok database clock it differs by",
    ] {
        assert!(well.contains(part), "{part}: {well}");
    }
    assert!(!well.contains("fail ") && !well.contains("warn "), "{well}");
}

#[test]
fn doctor_says_what_is_wrong_with_a_server() {
    type Change = fn(&mut ServerState);
    let wrong: [(Change, &str); 8] = [
        (
            |it| it.uses_tls = false,
            "ok tls the connection is not encrypted",
        ),
        (|it| it.fsync = false, "fail durability fsync is off"),
        (
            |it| {
                it.untrusted_role = Some(UntrustedRole {
                    what: "the role tenant may".to_owned(),
                    advice: "revoke it",
                });
            },
            "fail other roles the role tenant may -> revoke it",
        ),
        (
            |it| it.synchronous_standbys.clear(),
            "warn standbys there is no synchronous standby",
        ),
        (
            |it| it.shares_sessions = false,
            "ok pooler each connection has a session of its own",
        ),
        (
            |it| "users".clone_into(&mut it.lacking_rights),
            "or call, users -> grant SELECT",
        ),
        (
            |it| it.lacks_create = true,
            "fail rights this user may not make the tables that the next start needs -> grant it CREATE",
        ),
        (
            |it| it.now = UnixTime::from_secs(it.now.as_secs() - 20),
            "fail database clock this machine's clock is 20 s ahead",
        ),
    ];
    for (change, part) in wrong {
        let text = said(change);
        assert!(
            text.contains(part) || text.contains(&part.replace("20 s", "21 s")),
            "{part}: {text}"
        );
    }
}
