//! Output on a terminal of 80 columns, and in a pipe.

use std::path::Path;

use crate::support::{Server, command, folder, on_terminal, program, sql};

/// Output of the command on a terminal of 80 columns.
fn on_narrow_terminal(dir: &Path, args: &[&str]) -> String {
    let (program, args) = (program(), args.join(" "));
    let line = format!("stty cols 80 rows 40; {} {args}", program.display());
    let out = on_terminal(dir, line.as_ref()).output().unwrap();
    String::from_utf8(out.stdout).unwrap().replace('\r', "")
}

#[test]
fn a_trial_has_colours_where_the_terminal_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let trial = "trial --command 'exit 0' --only alg-none 2>/dev/null";
    for (setting, has_colours) in [
        ("NO_COLOR=", true),
        ("NO_COLOR=1", false),
        ("TERM=dumb", false),
    ] {
        let line = format!("{setting} {} {trial}", program().display());
        let shown = on_terminal(dir.path(), line.as_ref()).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("alg-none"), "{setting}: {shown:?}");
        assert_eq!(shown.contains('\x1b'), has_colours, "{setting}: {shown:?}");
    }
}

#[test]
fn progress_is_drawn_where_a_line_can_be_written_over() {
    let dir = folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    server.register("alice");
    assert!(server.stop().success());
    let row = "INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
        VALUES ('192.0.2.1', '2020-01-01 00:00:00', 1)";
    sql(dir).execute(row, []).unwrap();
    for (setting, is_drawn) in [("TERM=xterm", true), ("TERM=dumb", false)] {
        let export = "audit export > exported";
        let line = format!("{setting} {} {export}", program().display());
        let shown = on_terminal(dir, line.as_ref()).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.contains("100 %"), is_drawn, "{setting}: {shown:?}");
    }
}

#[test]
fn a_key_takes_one_line_of_eighty_columns() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    server.wait_for_log("a new expired key is in the database");
    let rotated = command(dir.path()).args(["keys", "rotate"]).status();
    assert!(rotated.unwrap().success());
    let listed = on_narrow_terminal(dir.path(), &["keys", "list"]);
    let keys = listed.lines().filter(|line| line.ends_with("first"));
    assert_eq!(keys.count(), 3, "{listed}");
    // Two of the head.
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(server.stop().success());
}

#[test]
fn tables_and_findings_wrap_on_a_narrow_terminal_and_are_one_line_a_row_elsewhere() {
    let dir = folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    // Its last step at a first start, which adds to the history.
    server.wait_for_log("a new expired key is in the database");
    let name = "an.account.with.a.name.that.is.rather.long.and.not.done.yet";
    let password = server.register(name);
    assert_eq!(server.sign_in("/auth", name, &password).status, 200);
    let row = "INSERT INTO keys (kid, key, exp) VALUES (9, 'x', 'soon')";
    sql(dir).execute(row, []).unwrap();
    let url = format!("http://{}/.well-known/jwks.json", server.addr);
    for args in [
        &["keys", "list"][..],
        &["keys", "history"],
        &["users", "list"],
        &["users", "show", name],
        &["audit", "list"],
        &["doctor"],
        &["check", &url],
    ] {
        let narrow = on_narrow_terminal(dir, args);
        let longest = narrow.lines().map(|line| line.chars().count()).max();
        assert!(
            longest.is_some_and(|it| it > 20 && it <= 80),
            "{args:?}: {narrow}"
        );
        let piped = command(dir).args(args).output().unwrap();
        let piped = String::from_utf8(piped.stdout).unwrap();
        assert!(
            piped.lines().count() <= narrow.lines().count(),
            "{args:?}: {piped}"
        );
        // Nothing is cut off, wherever it is broken; some tell times from now.
        let bare = |text: &str| {
            let mut bare: Vec<_> = text.chars().filter(|c| c.is_ascii_alphabetic()).collect();
            bare.sort_unstable();
            bare
        };
        let moves_on = ["doctor", "check"].contains(&args[0]) || args == ["keys", "list"];
        if !moves_on {
            assert_eq!(bare(&narrow), bare(&piped), "{args:?}: {narrow}");
        }
    }
    let piped = command(dir).args(["keys", "list"]).output().unwrap();
    let piped = String::from_utf8(piped.stdout).unwrap();
    assert!(
        piped.lines().any(|line| line.chars().count() > 80),
        "{piped}"
    );
    assert!(server.stop().success());
}
