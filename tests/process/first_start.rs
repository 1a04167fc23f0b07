//! The first minutes on a new machine: `--init`, `keygen`, demo users.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::support::{DATABASE, FORM, JSON, Server, command, credentials};
use crate::support::{clear_env, files, folder, fresh_key, program, refusal, run};

fn init(dir: &std::path::Path) -> Command {
    let mut command = command(dir);
    command.args(["serve", "--init"]).env("PORT", "0");
    command
}

#[test]
fn init_makes_an_env_file_for_its_owner_alone_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    let mut under_umask = Command::new("sh");
    clear_env(&mut under_umask)
        .args(["-c", "umask 022; exec \"$0\" serve --init"])
        .arg(program())
        .current_dir(dir.path())
        .env("PORT", "0");
    let server = Server::start_command(&mut under_umask);
    // The file is made once the port is taken.
    let created = server.wait_for_log("created .env with a fresh NOT_MY_KEY");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let key = text
        .lines()
        .find_map(|line| line.strip_prefix("NOT_MY_KEY="))
        .unwrap();
    let set = server.key_set().text();
    let log = server.stop_for_log();
    assert!(!log.contains(key) && !created.contains(key));

    // The second time it finds all that it needs.
    let server = Server::start_command(&mut init(dir.path()));
    assert_eq!(server.key_set().text(), set);
    let log = server.stop_for_log();
    assert!(!log.contains("created .env"), "{log}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(files(dir.path()), [".env", DATABASE]);
}

#[test]
fn init_makes_nothing_when_a_key_is_set_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_command(init(dir.path()).env("NOT_MY_KEY", fresh_key()));
    assert!(server.stop().success());
    assert_eq!(files(dir.path()), [DATABASE]);
}

#[test]
fn init_never_changes_an_env_file_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    for text in ["", "PORT=0\n", "NOT_MY_KEY=\n"] {
        fs::write(&path, text).unwrap();
        let said = refusal(&mut init(dir.path()), &[]);
        assert!(
            said.contains(".env") && said.contains("NOT_MY_KEY"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(files(dir.path()), [".env"]);
    }
}

#[test]
fn init_never_makes_a_key_beside_a_database() {
    let dir = folder("");
    assert!(Server::start(dir.path(), &[]).stop().success());
    fs::remove_file(dir.path().join(".env")).unwrap();
    let before = fs::read(dir.path().join(DATABASE)).unwrap();
    let said = refusal(&mut init(dir.path()), &[]);
    assert!(
        said.contains("NOT_MY_KEY") && said.contains(DATABASE),
        "{said}"
    );
    assert_eq!(files(dir.path()), [DATABASE]);
    assert!(fs::read(dir.path().join(DATABASE)).unwrap() == before);
}

#[test]
fn init_makes_nothing_when_the_rest_of_the_configuration_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let said = refusal(init(dir.path()).env("PORT", "abc"), &[]);
    assert!(said.contains("PORT"), "{said}");
    assert!(files(dir.path()).is_empty(), "{:?}", files(dir.path()));
    let said = refusal(
        init(dir.path()).env("DATABASE_URL", "sqlite:none/a.db"),
        &[],
    );
    assert!(said.contains("none/a.db"), "{said}");
    assert!(files(dir.path()).is_empty(), "{:?}", files(dir.path()));
    let said = refusal(init(dir.path()).args(["--demo-user", "alice"]), &[]);
    assert!(said.contains("NAME:PASSWORD"), "{said}");
    assert!(files(dir.path()).is_empty(), "{:?}", files(dir.path()));
}

#[test]
fn keygen_prints_a_key_of_its_own_each_time_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    // It is what one runs when the file is still wrong.
    fs::write(dir.path().join(".env"), "PORT=abc\nnonsense\n").unwrap();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let made = command(dir.path()).arg("keygen").output().unwrap();
        assert!(made.status.success());
        assert!(made.stderr.is_empty());
        let text = String::from_utf8(made.stdout).unwrap();
        assert_eq!((text.lines().count(), text.trim_end().len()), (1, 44));
        keys.push(text);
    }
    assert_ne!(keys[0], keys[1]);
    assert_eq!(files(dir.path()), [".env"]);
}

#[test]
fn keygen_into_a_closed_pipe_is_a_failure_without_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut keygen = command(dir.path());
    let made = keygen.arg("keygen").stdout(writer).stderr(Stdio::piped());
    let made = made.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(made.status.code(), Some(1));
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(said.contains("the key cannot be printed"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_demo_user_signs_in_as_soon_as_the_server_listens_and_is_loud_in_the_log() {
    let dir = folder("");
    let server = Server::start(dir.path(), &["--demo-user", "userABC:password123"]);
    let form = server.send(
        "POST",
        "/auth",
        &[FORM],
        b"username=userABC&password=password123",
    );
    assert_eq!(form.status, 200, "{}", form.text());
    let json = credentials("userABC", "password123");
    assert_eq!(server.send("POST", "/auth", &[JSON], &json).status, 200);
    let log = server.stop_for_log();
    let loud = log
        .lines()
        .find(|line| line.contains("DEMO USER userABC was created"));
    assert!(loud.unwrap().contains("WARN"), "{log}");
    assert!(!log.contains("password123"), "{log}");
}

#[test]
fn a_demo_user_that_is_there_keeps_its_password_and_is_loud_again() {
    let dir = folder("");
    let args = ["serve", "--demo-user", "userABC:password123"];
    assert!(Server::start(dir.path(), &args).stop().success());
    let server = Server::start(dir.path(), &["--demo-user", "userABC:other"]);
    assert_eq!(
        server.sign_in("/auth", "userABC", "password123").status,
        200
    );
    assert_eq!(server.sign_in("/auth", "userABC", "other").status, 401);
    let log = server.stop_for_log();
    assert!(log.contains("DEMO USER userABC exists already"), "{log}");
}

#[test]
fn demo_users_come_from_the_command_line_and_from_the_environment() {
    let dir = folder("");
    let mut command = command(dir.path());
    command.env("DEMO_USER", "alice:one bob:t:wo").args([
        "--demo-user",
        "carol:three",
        "--demo-user",
        "dave:four",
    ]);
    let server = Server::start_command(&mut command);
    for (name, password) in [
        ("alice", "one"),
        ("bob", "t:wo"),
        ("carol", "three"),
        ("dave", "four"),
    ] {
        let reply = server.sign_in("/auth", name, password);
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
    }
}

#[test]
fn without_being_asked_for_there_is_no_demo_user() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(
        server.sign_in("/auth", "userABC", "password123").status,
        401
    );
    assert!(!server.stop_for_log().contains("DEMO"));
}

#[test]
fn a_demo_user_that_is_none_is_refused_before_anything_is_made() {
    for text in ["alice", "alice:", ":hunter2", "al ice:hunter2", ""] {
        let dir = folder("");
        let said = refusal(
            command(dir.path()).args(["--demo-user", text]),
            &["hunter2"],
        );
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(files(dir.path()), [".env"], "{text:?}");
    }
    let ended = run(command(folder("").path()).arg("--demo-user"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}
