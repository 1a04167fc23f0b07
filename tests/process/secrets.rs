//! Secrets are found nowhere but where they belong: every route and command is
//! used at log level trace, then everything that a run leaves is searched.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use jwks_server::crypto::fernet::SealingKeys;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use rsa::traits::PrivateKeyParts as _;

use crate::http2;
use crate::support::{
    Connection, DATABASE, FORM, JSON, JWKS, Server, command, credentials, database, files, folder,
    fresh_key, refusal, sql,
};

/// Things to search for, with what they are.
#[derive(Default)]
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    fn add(&mut self, what: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        assert!(bytes.len() >= 8, "{what} would be found by chance");
        self.0.push((what.to_owned(), bytes.to_vec()));
    }

    fn add_password(&mut self, password: &str) {
        self.add("a password", password);
        for base64 in [
            STANDARD_NO_PAD.encode(password),
            STANDARD_NO_PAD.encode(format!("alice:{password}")),
        ] {
            self.add("a password in base64", base64);
        }
    }

    fn add_token(&mut self, token: &str) {
        let signature = token.rsplit('.').next().unwrap();
        self.add("a token's signature", signature);
        self.add("a signature", URL_SAFE_NO_PAD.decode(signature).unwrap());
    }

    /// The numbers of a private key in the forms that they are written in.
    fn add_private_key(&mut self, pem: &str) {
        for line in pem.lines().filter(|line| !line.starts_with("-----")) {
            self.add("a line of a private key", line);
        }
        let key = rsa::PrivateKey::from_pkcs8_pem(pem).unwrap();
        self.add("a private key", key.to_pkcs8_der().unwrap().as_bytes());
        let bytes = |number: &rsa::BoxedUint| number.to_be_bytes_trimmed_vartime().to_vec();
        let primes = key.primes().iter().map(|prime| bytes(prime));
        for number in std::iter::once(bytes(key.d())).chain(primes) {
            let hex: String = number.iter().map(|byte| format!("{byte:02x}")).collect();
            let reversed: Vec<u8> = number.iter().rev().copied().collect();
            self.add("a number in hex", hex.to_uppercase());
            self.add("a number in hex", hex);
            self.add("a number in base64", STANDARD_NO_PAD.encode(&number));
            self.add("a number in base64url", URL_SAFE_NO_PAD.encode(&number));
            self.add("a number from its end", reversed);
            self.add("a number", number);
        }
    }

    fn add_sealing_key(&mut self, key: &str) {
        self.add("NOT_MY_KEY", key.trim_end_matches('='));
        let bytes = STANDARD.decode(key.replace('-', "+").replace('_', "/"));
        self.add("the bytes of NOT_MY_KEY", bytes.unwrap());
    }

    fn are_not_in(&self, source: &str, text: &[u8]) {
        for (what, secret) in &self.0 {
            assert!(!is_in(secret, text), "{what} is in {source}");
        }
    }
}

fn is_in(part: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

fn sealing_key(dir: &Path) -> String {
    let env = fs::read_to_string(dir.join(".env")).unwrap();
    let first = env.lines().next().unwrap();
    first.strip_prefix("NOT_MY_KEY=").unwrap().to_owned()
}

/// Uses every route, well and badly. Returns a token.
fn use_routes(server: &Server, secrets: &mut Secrets) -> String {
    let password = server.register("alice");
    secrets.add_password(&password);
    let form = b"username=bob&email=bob%40example.com";
    let registered = server.send("POST", "/register", &[FORM], form);
    secrets.add_password(registered.json()["password"].as_str().unwrap());
    assert_eq!(server.send("POST", "/register", &[FORM], form).status, 409);

    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("alice:{password}")));
    let form = format!("username=alice&password={password}");
    let json = credentials("alice", &password);
    let good = basic(&password);
    let mut token = String::new();
    for (path, headers, body) in [
        ("/auth", &[JSON][..], json.as_slice()),
        ("/auth", &[FORM], form.as_bytes()),
        ("/auth", &[("Authorization", &good)], b""),
        ("/auth?expired", &[JSON], json.as_slice()),
    ] {
        let reply = server.send("POST", path, headers, body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["token"]
            .as_str()
            .unwrap()
            .clone_into(&mut token);
        secrets.add_token(&token);
    }

    let wrong = |n: u8| format!("wrong-secret-{n}");
    for n in 0..10 {
        secrets.add_password(&wrong(n));
    }
    let cut = format!(r#"{{"username":"alice","password":"{}"#, wrong(1));
    let twice = format!(r#"{{"password":"{}","password":1}}"#, wrong(2));
    let no_utf8 = [b"{\"password\":\"", wrong(3).as_bytes(), b"\xff\"}"].concat();
    let query = format!("/auth?password={}", wrong(4));
    let xml = format!("<password>{}</password>", wrong(5));
    let bearer = format!("Bearer {}", wrong(6));
    let broken = format!("Basic {}", wrong(7));
    let long = wrong(8).repeat(2000);
    for (path, headers, body, status) in [
        ("/auth", &[JSON][..], credentials("alice", &wrong(0)), 401),
        ("/auth", &[JSON], credentials("nobody", &password), 401),
        ("/auth", &[JSON], cut.into_bytes(), 400),
        ("/auth", &[JSON], twice.into_bytes(), 400),
        ("/auth", &[JSON], no_utf8, 400),
        (&query, &[JSON], b"{}".to_vec(), 400),
        (
            "/auth",
            &[("Content-Type", "text/xml")],
            xml.into_bytes(),
            415,
        ),
        ("/auth", &[("Authorization", &bearer)], Vec::new(), 401),
        ("/auth", &[("Authorization", &broken)], Vec::new(), 400),
        (
            "/auth",
            &[("Authorization", &basic(&wrong(9)))],
            Vec::new(),
            401,
        ),
        ("/auth", &[FORM], long.into_bytes(), 413),
        ("/nowhere", &[("Authorization", &good)], Vec::new(), 404),
    ] {
        let mut connection = Connection::open(server.addr);
        let reply = connection.send("POST", path, headers, &body);
        assert_eq!(reply.status, status, "{path} {}", reply.text());
    }
    for path in [
        JWKS,
        "/healthz",
        "/readyz",
        "/.well-known/jwks-schedule.json",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ] {
        assert_eq!(
            server.send("GET", path, &[("Cookie", &good)], b"").status,
            200
        );
    }
    over_http_2(server, &good, &json);
    token
}

fn over_http_2(server: &Server, basic: &str, json: &[u8]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let client = http2::connect(server.addr).await;
        let headers = [("authorization", basic)];
        let sent = http2::send_with(client.clone(), "POST", "/auth", &headers, Vec::new());
        assert_eq!(sent.await.0, 200);
        let sent = http2::send_with(client, "POST", "/auth", &[], json.to_vec());
        assert_eq!(sent.await.0, 200);
    });
}

/// Uses every command. Returns what they wrote.
fn use_commands(dir: &Path, token: &str) -> Vec<u8> {
    let mut written = Vec::new();
    let mut run = |args: &[&str]| {
        let out = command(dir).args(args).output().unwrap();
        written.extend_from_slice(&[&*out.stdout, b"\n", &out.stderr, b"\n"].concat());
        out
    };
    for args in [
        &["keys", "rotate"][..],
        &["keys", "rotate", "--now", "--reason", "drill", "--yes"],
        &["keys", "reencrypt"],
        &["keys", "list"],
        &["keys", "history", "--json"],
    ] {
        assert!(run(args).status.success(), "{args:?}");
    }
    run(&["doctor"]);
    run(&["verify", token]);
    written
}

#[test]
fn secrets_are_found_nowhere_but_where_they_belong() {
    let env =
        "RUST_LOG=trace\nAUTH_RATE=1000\nISSUER=http://localhost\nDEMO_USER=demo:demo-secret-1";
    let dir = folder(env);
    let here = dir.path();
    let temporary = tempfile::tempdir().unwrap();
    let mut secrets = Secrets::default();
    secrets.add_password("demo-secret-1");
    secrets.add_sealing_key(&sealing_key(here));
    let mut start = command(here);
    start.env("TMPDIR", temporary.path());
    let server = Server::start_command(&mut start);
    let token = use_routes(&server, &mut secrets);
    let written = use_commands(here, &token);

    let keys = SealingKeys::parse(&sealing_key(here)).unwrap();
    let rows: Vec<Vec<u8>> = sql(here)
        .prepare("SELECT key FROM keys")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(rows.len() >= 3, "{} keys", rows.len());
    for sealed in rows {
        let pem = keys.open(&sealed).unwrap();
        secrets.add_private_key(std::str::from_utf8(&pem).unwrap());
    }

    let process = Path::new("/proc").join(server.child.id().to_string());
    for name in ["environ", "cmdline", "status"] {
        let text = fs::read(process.join(name)).unwrap();
        assert!(!is_in(b"RUST_LOG", &text), "{name} has what .env has");
        secrets.are_not_in(name, &text);
    }
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().skip(4).collect();
    assert_eq!(words, ["0", "0", "bytes"]);

    let search_files = |names: &[String]| {
        for name in names.iter().filter(|name| *name != ".env") {
            secrets.are_not_in(name, &fs::read(here.join(name)).unwrap());
        }
    };
    let [db, reserve, shm, wal] =
        ["", "-reserve", "-shm", "-wal"].map(|end| format!("{DATABASE}{end}"));
    // The commands above have ended, and left the reserve to the service.
    let names = files(here);
    assert_eq!(names, [".env".to_owned(), db, reserve, shm, wal]);
    search_files(&names);
    let log = server.stop_for_log();
    search_files(&files(here));
    assert_eq!(files(temporary.path()), [""; 0]);
    secrets.are_not_in("the log", log.as_bytes());
    secrets.are_not_in("what commands wrote", &written);

    // The search finds what is there.
    let stored = fs::read(database(here)).unwrap();
    assert!(is_in(b"$argon2id$v=19$m=19456,t=2,p=1$", &stored) && is_in(b"gAAAAA", &stored));
    assert!(log.contains("DEBUG") && !log.contains("TRACE"), "{log}");
}

/// A folder without NOT_MY_KEY, whose key is in the file `key`.
fn folder_with_key_file() -> tempfile::TempDir {
    let dir = folder("");
    fs::write(dir.path().join(".env"), "PORT=0\n").unwrap();
    fs::write(dir.path().join("key"), format!("{}\n", fresh_key())).unwrap();
    dir
}

#[test]
fn the_sealing_key_may_be_in_a_file_or_be_a_credential_of_systemd() {
    let dir = folder_with_key_file();
    let server = Server::start_command(command(dir.path()).env("NOT_MY_KEY_FILE", "key"));
    let set = server.key_set().text();
    assert!(server.stop().success());
    fs::create_dir(dir.path().join("credentials")).unwrap();
    let credential = dir.path().join("credentials/NOT_MY_KEY");
    fs::rename(dir.path().join("key"), &credential).unwrap();
    let credentials = dir.path().join("credentials");
    let with = || {
        let mut command = command(dir.path());
        command.env("CREDENTIALS_DIRECTORY", &credentials);
        command
    };
    let server = Server::start_command(&mut with());
    assert_eq!(server.key_set().text(), set);
    assert!(server.stop().success());
    // Others may change it.
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o622)).unwrap();
    let text = refusal(with().env("APP_ENV", "production"), &[]);
    assert!(
        text.contains("users other than its owner may write to"),
        "{text}"
    );
}

#[test]
fn two_sealing_keys_at_once_or_a_file_without_one_are_refused() {
    let dir = folder_with_key_file();
    let key = fresh_key();
    for (variables, expected) in [
        (
            [("NOT_MY_KEY_FILE", "key"), ("NOT_MY_KEY", &*key)],
            "NOT_MY_KEY and NOT_MY_KEY_FILE are both set: leave one of them out",
        ),
        (
            [("NOT_MY_KEY_FILE", "missing"), ("NOT_MY_KEY", "")],
            "NOT_MY_KEY_FILE: there is no file missing",
        ),
        (
            [("NOT_MY_KEY_FILE", "two\nlines"), ("NOT_MY_KEY", "")],
            "NOT_MY_KEY_FILE: there is no file two\\u{a}lines",
        ),
        (
            [("NOT_MY_KEY_FILE", &*key), ("NOT_MY_KEY", "")],
            "NOT_MY_KEY_FILE has a key, where the name of a file with the key belongs",
        ),
        (
            [("NOT_MY_KEY_FILE", "empty"), ("NOT_MY_KEY", "")],
            "NOT_MY_KEY_FILE: empty is empty",
        ),
        (
            [("NOT_MY_KEY_FILE", "."), ("NOT_MY_KEY", "")],
            ". is not a regular file",
        ),
        (
            [("NOT_MY_KEY", &*key), ("CREDENTIALS_DIRECTORY", ".")],
            "NOT_MY_KEY and the credential NOT_MY_KEY of systemd are both set",
        ),
    ] {
        fs::write(dir.path().join("empty"), " \n").unwrap();
        let credential = dir.path().join("NOT_MY_KEY");
        fs::write(&credential, fresh_key()).unwrap();
        let text = refusal(command(dir.path()).envs(variables), &[&key]);
        assert!(text.contains(expected), "{text}");
        assert!(!dir.path().join(DATABASE).exists());
    }
}

#[test]
fn a_demo_user_on_the_command_line_is_warned_of_and_one_in_the_environment_is_not() {
    let dir = folder("");
    let warning = "every user of this machine can read the password";
    let with = |args: &[&str]| {
        let mut command = command(dir.path());
        command.args(args).env("DEMO_USER", "bob:secret");
        let server = Server::start_command(&mut command);
        server.wait_for_log("DEMO USER bob");
        server.stop_for_log()
    };
    let warned = with(&["serve", "--demo-user", "alice:secret"]);
    assert!(warned.contains(warning), "{warned}");
    let silent = with(&["serve"]);
    assert!(!silent.contains(warning), "{silent}");
}
