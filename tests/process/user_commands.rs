//! The `users` commands beside a running service.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{
    DATABASE, Server, command, database, files, folder, number, refusal, run, sql, used_folder,
};

fn users(dir: &Path, args: &[&str]) -> Output {
    command(dir).arg("users").args(args).output().unwrap()
}

/// What a command prints with --json.
fn json(dir: &Path, args: &[&str]) -> Value {
    let out = users(dir, &[args, &["--json"]].concat());
    assert_eq!(out.status.code(), Some(0), "{args:?}: {out:?}");
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn a_running_server_follows_each_command_at_once() {
    let dir = used_folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    // Waits for the database.
    assert_eq!(server.key_set().status, 200);
    let status = |password: &str| server.sign_in("/auth", "alice", password).status;
    let made = json(dir, &["add", "alice", "--email", "a@example.com"]);
    let first = made["password"].as_str().unwrap();
    assert_eq!(status(first), 200);
    let shown = json(dir, &["show", "alice"]);
    assert_eq!(shown["email"], "a@example.com");
    assert!(shown["tokens_until"].is_object(), "{shown}");
    json(dir, &["disable", "alice", "--reason", "left"]);
    assert_eq!(status(first), 401);
    server.wait_for_log("sign-in refused: unknown username");
    assert_eq!(
        json(dir, &["list", "--disabled"])["users"][0]["reason"],
        "left"
    );
    json(dir, &["enable", "alice", "--reason", "is back"]);
    let enabled = json(dir, &["show", "alice"]);
    assert_eq!(enabled["state"], "active", "{enabled}");
    assert_eq!(enabled["reason"], "is back", "{enabled}");
    assert!(enabled["enabled_at"].is_object(), "{enabled}");
    json(dir, &["disable", "alice", "--reason", "left again"]);
    let disabled = json(dir, &["show", "alice"]);
    assert_eq!(disabled["reason"], "left again", "{disabled}");
    assert!(disabled["enabled_at"].is_null(), "{disabled}");
    // The reason is optional, and another one replaces it.
    json(dir, &["enable", "alice"]);
    assert!(json(dir, &["show", "alice"])["reason"].is_null());
    assert_eq!(status(first), 200);
    let reset = json(dir, &["reset", "alice"]);
    assert_eq!(status(first), 401);
    assert_eq!(status(reset["password"].as_str().unwrap()), 200);
    json(dir, &["delete", "alice", "--yes"]);
    assert_eq!(status(reset["password"].as_str().unwrap()), 401);
    assert_eq!(json(dir, &["list"])["users"].as_array().unwrap().len(), 0);
}

#[test]
fn a_password_of_ones_own_comes_from_standard_input_and_is_not_printed() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let mut add = command(dir.path());
    add.args(["users", "add", "bob", "--password-stdin"]);
    let mut child = add
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"correct horse\r\n")
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(out.stdout).unwrap(),
        "Account bob was added.\n"
    );
    assert_eq!(server.sign_in("/auth", "bob", "correct horse").status, 200);
    // An empty one, as from /dev/null.
    let empty = ["users", "reset", "bob", "--password-stdin"];
    assert!(refusal(command(dir.path()).args(empty), &[]).contains("password is empty"));
}

#[test]
fn what_cannot_be_done_is_refused_in_a_line_that_helps() {
    let dir = used_folder("");
    let there = Server::start(dir.path(), &[]);
    there.register("alice");
    for (args, part) in [
        (&["show", "nobody"][..], "no account of this name"),
        (&["delete", "alice"], "--yes"),
        (&["delete", "nobody", "--yes"], "no account of this name"),
        (&["disable", "alice"], "--reason"),
        (
            &["disable", "alice", "--reason", " "],
            "--reason is one line",
        ),
        (&["enable", "alice"], "not disabled"),
        (&["add", "alice"], "an account of this name already"),
        (
            &["add", "bob", "--email", "alice@example.com"],
            "another account has this e-mail address",
        ),
        (&["add", "a b"], "username has characters"),
        (&["add", "bob", "--email", "x"], "email is not"),
        (&["list", "--limit", "0"], "--limit"),
    ] {
        let said = refusal(command(dir.path()).arg("users").args(args), &[]);
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

#[test]
fn accounts_of_the_earlier_server_are_shown_without_a_change_of_any_file() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/earlier_server.db");
    let dir = folder("");
    fs::copy(&fixture, database(dir.path())).unwrap();
    let before = files(dir.path());
    let listed = json(dir.path(), &["list"]);
    let users = listed["users"].as_array().unwrap();
    assert!(!users.is_empty());
    for user in users {
        assert_eq!(user["password_hash"], "argon2id m=65536,t=3,p=2", "{user}");
        assert!(user["registered_at"].is_object(), "{user}");
    }
    assert!(fs::read(database(dir.path())).unwrap() == fs::read(&fixture).unwrap());
    assert_eq!(files(dir.path()), before);
    // Pages end where there are no more.
    let page = json(dir.path(), &["list", "--limit", "1"]);
    assert_eq!(page["next_after"].is_null(), users.len() == 1);
}

#[test]
fn accounts_are_imported_with_their_hashes_all_or_none() {
    let dir = used_folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    let password = server.register("alice");
    let hash_of = |name: &str| -> String {
        let query = "SELECT password_hash FROM users WHERE username = ?";
        sql(dir).query_row(query, [name], |row| row.get(0)).unwrap()
    };
    // A test vector of crypt_blowfish, for the password U*U.
    let bcrypt = "$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let entry = |name: &str, email: &str, hash: &str| {
        serde_json::json!({"username": name, "email": email, "password_hash": hash}).to_string()
    };
    let carol = entry("carol", "c@example.com", &hash_of("alice"));
    let bob = entry("bob", "b@example.com", &format!("$2y{bcrypt}"));
    let dave = format!(r#"{{"username":"dave","password_hash":"$2a{bcrypt}"}}"#);
    let import = ["import", "accounts"];
    let write = |lines: &[&str]| fs::write(dir.join("accounts"), lines.join("\n")).unwrap();
    let long = entry("eve", "e@example.com", &"x".repeat(70_000));
    for (line, part) in [
        (long.as_str(), "line 2: longer than 64 KiB"),
        ("{", "line 2: not JSON"),
        (r#"{"username":"eve"}"#, "line 2: not an object"),
        (
            &entry("e ve", "e@example.com", &hash_of("alice")),
            "line 2: username has",
        ),
        (
            &entry("eve", "e@example.com", "hunter2"),
            "line 2: password_hash: unknown kind of hash",
        ),
        (
            &entry("eve", "e@example.com", &format!("$2b$14{}", &bcrypt[3..])),
            "line 2: password_hash: bcrypt cost 14 is over 13",
        ),
        (
            &entry(
                "eve",
                "e@example.com",
                &hash_of("alice").replace("m=19456", "m=262145"),
            ),
            "line 2: password_hash: Argon2 with m=262145: over 262144 KiB",
        ),
        (
            &entry("eve", "e@example.com", "$argon2id$v=19$m=19456"),
            "line 2: password_hash: Argon2 of an unknown version, or without",
        ),
        (
            &entry("carol", "e@example.com", &hash_of("alice")),
            "line 2: the username is that of line 1",
        ),
        (
            &entry("eve", "c@EXAMPLE.com", &hash_of("alice")),
            "line 2: the email is that of line 1",
        ),
        (
            &entry("alice", "e@example.com", &hash_of("alice")),
            "line 2: the username or the email is",
        ),
    ] {
        write(&[&carol, line, &bob]);
        let ended = run(command(dir).arg("users").args(import));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let said: Vec<_> = ended.stderr.lines().collect();
        assert_eq!(said.len(), 2, "{}", ended.stderr);
        assert!(said[0].contains(part), "{line}: {}", said[0]);
        assert_eq!(said[1], "jwks-server: nothing of accounts was imported");
        for secret in ["hunter2", bcrypt] {
            assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
        }
        assert_eq!(number(dir, "SELECT count(*) FROM users"), 1);
    }
    // As Windows begins a file.
    let marked = format!("\u{feff}{carol}");
    write(&[&marked, "", &bob, &dave, ""]);
    assert_eq!(json(dir, &import)["imported"], 3);
    assert_eq!(
        json(dir, &["show", "bob"])["password_hash"],
        "bcrypt cost=5"
    );
    assert_eq!(server.sign_in("/auth", "carol", &password).status, 200);
    for name in ["bob", "dave"] {
        assert_eq!(server.sign_in("/auth", name, "U*V").status, 401);
        assert!(hash_of(name).starts_with("$2"));
        assert_eq!(server.sign_in("/auth", name, "U*U").status, 200);
        assert!(hash_of(name).starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(server.sign_in("/auth", name, "U*U").status, 200);
    }
}

#[test]
fn a_bcrypt_hash_is_not_replaced_by_that_of_a_password_it_takes_a_part_of() {
    let dir = used_folder("");
    let dir = dir.path();
    let taken = "72".repeat(36);
    let hash = bcrypt::hash(format!("{taken} its tail"), 4).unwrap();
    let account = serde_json::json!({"username": "alice", "password_hash": hash});
    fs::write(dir.join("accounts"), account.to_string()).unwrap();
    assert_eq!(json(dir, &["import", "accounts"])["imported"], 1);
    let server = Server::start(dir, &[]);
    let status = |password: &str| server.sign_in("/auth", "alice", password).status;
    assert_eq!(status(&taken[1..]), 401);
    assert_eq!(status(&format!("{taken} another")), 200);
    assert_eq!(status(&format!("{taken} its tail")), 200);
    let described = |kind: &str| {
        let shown = json(dir, &["show", "alice"]);
        let hash = shown["password_hash"].as_str().unwrap().to_owned();
        assert!(hash.starts_with(kind), "{hash}");
    };
    described("bcrypt cost=4");
    assert_eq!(status(&taken), 200);
    described("argon2id ");
    assert_eq!(status(&format!("{taken} its tail")), 401);
}

#[test]
fn an_import_names_all_faults_at_once_in_the_order_of_the_lines() {
    let dir = used_folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    server.register("alice");
    let hash = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let entry = |name: &str| format!(r#"{{"username":"{name}","password_hash":"{hash}"}}"#);
    let import = |name: &str, input: &str| {
        let mut command = command(dir);
        command.args(["users", "import", name]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let out = child.wait_with_output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let lines = [&*entry("bob"), &entry("alice"), "{", &entry("bob")].join("\n");
    let said = "\
jwks-server: line 2: the username or the email is already registered
jwks-server: line 3: not JSON
jwks-server: line 4: the username is that of line 1
jwks-server: nothing of standard input was imported
";
    assert_eq!(import("-", &lines), (Some(2), said.to_owned()));
    let (code, said) = import("-", "\u{feff}\n\n");
    assert_eq!(code, Some(2));
    assert!(
        said.contains("nothing of standard input was imported: it has no account"),
        "{said}"
    );
    let (code, said) = import("nowhere/accounts", "");
    assert_eq!(code, Some(2));
    assert!(
        said.contains("nowhere/accounts was imported: it cannot be read"),
        "{said}"
    );
    assert_eq!(number(dir, "SELECT count(*) FROM users"), 1);
    assert_eq!(import("-", &entry("bob")), (Some(0), String::new()));
}

/// The files in `dir` that have one of `needles` in them.
fn files_with(dir: &Path, needles: &[String]) -> Vec<String> {
    let has = |name: &String| {
        let bytes = fs::read(dir.join(name)).unwrap();
        let find = |needle: &String| memchr::memmem::find(&bytes, needle.as_bytes()).is_some();
        needles.iter().any(find)
    };
    files(dir).into_iter().filter(has).collect()
}

#[test]
fn no_byte_of_a_person_is_left_after_a_deletion_with_the_audit() {
    let dir = used_folder("TRUSTED_PROXIES=127.0.0.1");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    let password = server.register("alice-liddell");
    let mut needles = vec!["alice-liddell".to_owned(), "through the glass".to_owned()];
    let hash = || -> String {
        let query = "SELECT password_hash FROM users WHERE username = 'alice-liddell'";
        sql(dir).query_row(query, [], |row| row.get(0)).unwrap()
    };
    needles.push(hash());
    let others = |from: u32| {
        let add =
            "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + 300)
            INSERT INTO users (username, password_hash, email)
            SELECT 'b' || i, hex(randomblob(50)), 'b' || i || '@example.com' FROM n";
        sql(dir).execute(add, [from]).unwrap();
    };
    others(1000);
    for n in 1..=5 {
        let address = format!("198.51.100.{n}7");
        let header = [
            ("X-Forwarded-For", address.as_str()),
            ("Content-Type", "application/json"),
        ];
        let body = crate::support::credentials("alice-liddell", &password);
        assert_eq!(server.send("POST", "/auth", &header, &body).status, 200);
        needles.push(address);
    }
    json(
        dir,
        &["disable", "alice-liddell", "--reason", "through the glass"],
    );
    json(dir, &["enable", "alice-liddell"]);
    json(dir, &["reset", "alice-liddell"]);
    needles.push(hash());
    others(2000);
    json(
        dir,
        &["disable", "alice-liddell", "--reason", "through the glass"],
    );
    assert!(!files_with(dir, &needles).is_empty());
    fs::write(dir.join(format!("{DATABASE}.replaced-7")), "").unwrap();
    let done = users(dir, &["delete", "alice-liddell", "--with-audit", "--yes"]);
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(
        said.contains("\nIts 5 sign-ins are deleted too.\n"),
        "{said}"
    );
    let left = String::from_utf8(done.stderr).unwrap();
    assert!(
        left.contains(&format!("set aside ({DATABASE}.replaced-7)")),
        "{left}"
    );
    assert_eq!(files_with(dir, &needles), [""; 0]);
    let backup = command(dir).args(["backup", "copy.db"]).output().unwrap();
    assert!(backup.status.success(), "{backup:?}");
    assert_eq!(files_with(dir, &needles), [""; 0]);
    // The service goes on.
    let password = server.register("bob");
    assert_eq!(server.sign_in("/auth", "bob", &password).status, 200);
    assert!(server.stop().success());
    assert_eq!(files_with(dir, &needles), [""; 0]);
}

#[test]
fn an_erasing_that_failed_is_finished_by_the_same_command() {
    let folder = used_folder("");
    let dir = folder.path();
    let server = Server::start(dir, &[]);
    server.register("alice-liddell");
    assert!(server.stop().success());
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
        INSERT INTO auth_logs (request_ip) SELECT hex(randomblob(500)) FROM n";
    sql(dir).execute(fill, []).unwrap();
    let delete = ["users", "delete", "alice-liddell", "--with-audit", "--yes"];
    // No file may be larger than 4 MiB, so the copy that VACUUM makes fails.
    let program = command(dir).get_program().to_owned();
    let mut unlimited = command(dir);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\""]);
    shell.arg(program).args(delete).current_dir(dir).env_clear();
    unlimited.args(delete);
    let failed = shell.output().unwrap();
    let said = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("the same command once more"), "{said}");
    let done = unlimited.output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(
        String::from_utf8(done.stdout)
            .unwrap()
            .contains("is erased")
    );
    assert_eq!(files_with(dir, &["alice-liddell".to_owned()]), [""; 0]);
    assert_eq!(unlimited.output().unwrap().status.code(), Some(2));
}
