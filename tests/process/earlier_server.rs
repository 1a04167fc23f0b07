//! A database of the earlier server, made with its libraries by
//! `tests/fixtures/make_earlier_server_db.py`: key 1 expired in 2024, keys 2
//! (PKCS#8) and 3 (PKCS#1) end in 2100, and two users have hashes of other costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use crate::support::{Connection as Client, JWKS, PATIENCE, Reply, Server, database, sql};
use crate::token::{Token, kids};
use crate::verifiers::{python, script};

const THEIR_COSTS: &str = "$argon2id$v=19$m=65536,t=3,p=2$";
const OUR_COSTS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

#[test]
fn its_unexpired_keys_are_published_under_their_kids_and_sign() {
    let file = Earlier::copy("");
    let before = rows(&file.sql(), "keys");
    let server = Server::start(file.dir.path(), &[]);
    let set = server.key_set().json();
    let published = kids(&set);
    assert!(!published.contains(&"1".to_owned()), "{published:?}");
    for (row, kid) in [(1, "2"), (2, "3")] {
        let keys = set["keys"].as_array().unwrap();
        let jwk = keys.iter().find(|jwk| jwk["kid"] == kid).unwrap();
        assert_eq!(jwk["n"], modulus(&file.open_key(&before[row][1])));
    }
    let token = file.sign_in(&server, "/auth", "alice");
    assert_eq!(token.kid(), "3");
    assert!(token.verifies_against(&set));
    let expired = file.sign_in(&server, "/auth?expired", "alice");
    assert_eq!(expired.kid(), "1");
}

#[test]
fn a_key_of_ours_takes_over_after_its_lead_and_theirs_stay_published() {
    let file = Earlier::copy("KEY_LEAD=2s\nAUTH_RATE=1000");
    let server = Server::start(file.dir.path(), &[]);
    let started = Instant::now();
    let token = loop {
        assert!(started.elapsed() < PATIENCE, "key 3 still signs");
        let token = file.sign_in(&server, "/auth", "alice");
        if token.kid() != "3" {
            break token;
        }
    };
    let ours: i64 = token.kid().parse().unwrap();
    assert!(ours > 1 << 32, "{ours}");
    let set = server.key_set().json();
    assert!(token.verifies_against(&set));
    let mut published = kids(&set);
    published.sort();
    let mut wanted = ["2".to_owned(), "3".to_owned(), token.kid()];
    wanted.sort();
    assert_eq!(published, wanted);
}

#[test]
fn its_users_sign_in_and_their_hashes_get_the_costs_of_today() {
    let file = Earlier::copy("");
    let server = Server::start(file.dir.path(), &[]);
    for (name, password) in &file.users {
        let hash = || -> String {
            let sql = "SELECT password_hash FROM users WHERE username = ?";
            file.sql().query_row(sql, [name], |row| row.get(0)).unwrap()
        };
        let theirs = hash();
        assert!(theirs.starts_with(THEIR_COSTS), "{theirs}");
        let wrong = server.sign_in("/auth", name, &password.replace('-', "+"));
        assert_eq!((wrong.status, hash()), (401, theirs));
        assert_eq!(server.sign_in("/auth", name, password).status, 200);
        let ours = hash();
        assert!(ours.starts_with(OUR_COSTS), "{ours}");
        assert_eq!(server.sign_in("/auth", name, password).status, 200);
        assert_eq!(hash(), ours);
    }
}

#[test]
fn nothing_is_lost_and_a_reader_like_the_earlier_one_reads_all() {
    let file = Earlier::copy("");
    let before = Tables::read(&file.sql());
    let server = Server::start(file.dir.path(), &[]);
    for (name, _) in &file.users {
        file.sign_in(&server, "/auth", name);
    }
    server.register("carol");
    await_our_key(&server);
    let counts = "keys=4 users=3 auth_logs=5";
    assert_eq!(file.read_with_python().as_deref().unwrap_or(counts), counts);
    assert!(server.stop().success());

    let after = Tables::read(&file.sql());
    assert_eq!(after.counts(), counts);
    assert_eq!(after.keys[..3], before.keys);
    assert_eq!(after.logs[..3], before.logs);
    for (new, old) in after.users.iter().zip(&before.users) {
        // The hash and the last sign-in are new, all else is as it was.
        assert_eq!((&new[..2], &new[3..5]), (&old[..2], &old[3..5]));
        assert!(new[2] != old[2] && new[5] != old[5], "{new:?}");
    }
    for key in &after.keys {
        file.open_key(&key[1]);
    }
    // Readers of the file alone see everything.
    let alone = Connection::open(file.lone_copy()).unwrap();
    assert_eq!(Tables::read(&alone).counts(), counts);
    assert_eq!(file.read_with_python().as_deref().unwrap_or(counts), counts);
}

/// A copy of the database in a folder with the key that it needs.
struct Earlier {
    dir: TempDir,
    secret: String,
    users: Vec<(String, String)>,
}

impl Earlier {
    fn copy(env: &str) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let text = fs::read_to_string(fixtures.join("earlier_server.txt")).unwrap();
        let mut values = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (name, secret) = values.next().unwrap();
        assert_eq!(name, "NOT_MY_KEY");
        let dir = tempfile::tempdir().unwrap();
        let settings = format!("NOT_MY_KEY={secret}\nPORT=0\n{env}\n");
        fs::write(dir.path().join(".env"), settings).unwrap();
        fs::copy(fixtures.join("earlier_server.db"), database(dir.path())).unwrap();
        Self {
            dir,
            secret,
            users: values.collect(),
        }
    }

    fn sql(&self) -> Connection {
        sql(self.dir.path())
    }

    fn sign_in(&self, server: &Server, path: &str, name: &str) -> Token {
        let (_, password) = self.users.iter().find(|(user, _)| user == name).unwrap();
        let reply: Reply = server.sign_in(path, name, password);
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        Token::of(&reply).unwrap()
    }

    /// The private key in a row, opened with `NOT_MY_KEY` and no code of the service.
    fn open_key(&self, sealed: &Value) -> rsa::PrivateKey {
        let token = match sealed {
            Value::Text(text) => text.clone(),
            Value::Blob(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            other => unreachable!("{other:?}"),
        };
        let fernet = fernet::Fernet::new(&self.secret).unwrap();
        let pem = String::from_utf8(fernet.decrypt(&token).unwrap()).unwrap();
        rsa::PrivateKey::from_pkcs8_pem(&pem)
            .or_else(|_| rsa::PrivateKey::from_pkcs1_pem(&pem))
            .unwrap()
    }

    /// The database file without its side files, elsewhere.
    fn lone_copy(&self) -> PathBuf {
        let copy = self.dir.path().join("copy.db");
        fs::copy(database(self.dir.path()), &copy).unwrap();
        copy
    }

    /// Counts that Python reads from the file, where it is installed.
    fn read_with_python(&self) -> Option<String> {
        let users = self.users.iter();
        let output = python()?
            .arg(script("read_file.py"))
            .arg(database(self.dir.path()))
            .args(users.map(|(name, password)| format!("{name}={password}")))
            .env("NOT_MY_KEY", &self.secret)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

/// All rows, by the fixed columns that a reader knows.
struct Tables {
    keys: Vec<Vec<Value>>,
    users: Vec<Vec<Value>>,
    logs: Vec<Vec<Value>>,
}

impl Tables {
    fn read(db: &Connection) -> Self {
        let tables = Self {
            keys: rows(db, "keys"),
            users: rows(db, "users"),
            logs: rows(db, "auth_logs"),
        };
        let widths = [&tables.keys, &tables.users, &tables.logs].map(|rows| rows[0].len());
        assert_eq!(widths, [3, 6, 4]);
        tables
    }

    fn counts(&self) -> String {
        let Self { keys, users, logs } = self;
        let (keys, users, logs) = (keys.len(), users.len(), logs.len());
        format!("keys={keys} users={users} auth_logs={logs}")
    }
}

fn rows(db: &Connection, table: &str) -> Vec<Vec<Value>> {
    let mut query = db
        .prepare(&format!("SELECT * FROM {table} ORDER BY rowid"))
        .unwrap();
    let width = query.column_count();
    let rows = query.query_map([], |row| (0..width).map(|i| row.get(i)).collect());
    rows.unwrap().map(Result::unwrap).collect()
}

fn modulus(key: &rsa::PrivateKey) -> String {
    URL_SAFE_NO_PAD.encode(key.n().to_be_bytes_trimmed_vartime())
}

/// Theirs do not end soon enough to put off the making of one of ours.
fn await_our_key(server: &Server) {
    let started = Instant::now();
    let mut conn = Client::open(server.addr);
    while kids(&conn.send("GET", JWKS, &[], b"").json()).len() < 3 {
        assert!(started.elapsed() < PATIENCE, "no key of ours came");
    }
}
