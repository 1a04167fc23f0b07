//! `db copy` through the binary, from SQLite to PostgreSQL and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jwks_server::crypto::rsa::{KeySource as _, Rsa2048};
use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::replicas::{Replica, run_with, sealing_key, server, url};

/// A folder for files of SQLite, and a database on PostgreSQL.
struct Move {
    dir: TempDir,
    sealing_key: String,
    cluster: Arc<Cluster>,
    database: String,
}

impl Move {
    fn new() -> Option<Self> {
        let cluster = Cluster::shared()?;
        Some(Self {
            dir: tempfile::tempdir().unwrap(),
            sealing_key: sealing_key(),
            database: cluster.create_database(),
            cluster,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        format!("sqlite:{}", self.path(name).display())
    }

    fn postgres(&self) -> String {
        url(self.cluster.port, &self.database)
    }

    fn command(&self, from: &str, to: &str) -> Command {
        let mut command = Command::new(server());
        command
            .env_clear()
            .env("NOT_MY_KEY", &self.sealing_key)
            .env("DATABASE_URL", from)
            .current_dir(self.dir.path())
            .args(["db", "copy", "--to", to]);
        command
    }

    /// Exit code and output.
    fn copy(&self, from: &str, to: &str, options: &[&str]) -> (i32, String) {
        let output = self.command(from, to).args(options).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    }

    /// Runs a command on the keys of `a.db`.
    fn keys(&self, args: &[&str]) {
        let variables = [
            ("NOT_MY_KEY", self.sealing_key.as_str()),
            ("DATABASE_URL", &self.file("a.db")),
        ];
        let (code, text) = run_with(&variables, &[&["keys"], args].concat());
        assert_eq!(code, 0, "{text}");
    }

    fn adopt(&self, kid: &str) {
        let key = Rsa2048.generate().unwrap();
        let public = key.public();
        let jwk = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": public.n, "e": public.e});
        let path = self.path("set.json");
        fs::write(&path, json!({ "keys": [jwk] }).to_string()).unwrap();
        let path = path.to_str().unwrap();
        self.keys(&["adopt", path, "--until", "1h", "--reason", "moving"]);
    }

    fn refused(&self, from: &str, to: &str, why: &str) {
        let (code, text) = self.copy(from, to, &[]);
        assert_eq!((code, text.lines().count()), (2, 1), "{text}");
        assert!(text.contains(why), "{text}");
    }

    async fn serve(&self, database: &str) -> Replica {
        let replica = Replica::start_at(&self.sealing_key, database);
        replica.until("/readyz", 200).await;
        replica
    }

    /// A file that a server has made.
    async fn served(&self, name: &str) -> Connection {
        self.serve(&self.file(name)).await.stop();
        Connection::open(self.path(name)).unwrap()
    }

    fn is_empty_on_postgres(&self) -> bool {
        let count = "SELECT (SELECT count(*) FROM keys) + (SELECT count(*) FROM users)
             + (SELECT count(*) FROM auth_logs) + (SELECT count(*) FROM service_settings)";
        self.cluster.sql(&self.database, count) == "0"
    }
}

/// Names of the tables, without those of SQLite itself.
fn tables(conn: &Connection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'
         AND name NOT IN ('sqlite_sequence', 'refinery_schema_history') ORDER BY name";
    let mut query = conn.prepare(sql).unwrap();
    let names = query.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

/// All rows of all tables, the numbers of the next ones among them.
fn rows(path: &Path) -> Vec<(String, Vec<Vec<Value>>)> {
    let conn = Connection::open(path).unwrap();
    let mut names = tables(&conn);
    names.push("sqlite_sequence".to_owned());
    let all = names.into_iter().map(|name| {
        let mut query = conn
            .prepare(&format!("SELECT * FROM {name} ORDER BY 1"))
            .unwrap();
        let width = query.column_count();
        let rows = query.query_map([], |row| (0..width).map(|i| row.get(i)).collect());
        let rows = rows.unwrap().map(Result::unwrap).collect();
        (name, rows)
    });
    all.collect()
}

/// The set has "theirs" and no longer "lost".
async fn until_adopted(server: &Replica) {
    let has = |set: &str, kid: &str| set.contains(&format!(r#""kid":"{kid}""#));
    loop {
        let (_, _, set) = server.get("/.well-known/jwks.json").await;
        if has(&set, "theirs") && !has(&set, "lost") {
            return;
        }
    }
}

fn fill(conn: &Connection, rows: u32) {
    let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
         INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
         SELECT '192.0.2.' || (i % 250), datetime(1700000000 + i, 'unixepoch'), NULL FROM n";
    conn.execute(sql, [rows]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_moves_to_postgres_and_back_without_a_difference() {
    let Some(this) = Move::new() else {
        return;
    };
    let server = this.serve(&this.file("a.db")).await;
    let json = r#"{"username":"alice","email":"alice@x.example"}"#;
    let (_, _, body) = server.post("/register", json).await;
    let password = body.split('"').nth(3).unwrap();
    let sign_in = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    assert_eq!(server.post("/auth", &sign_in).await.0, 200);
    assert_eq!(server.post("/auth?expired", &sign_in).await.0, 200);
    for name in ["bob", "carol"] {
        let json = format!(r#"{{"username":"{name}","email":"{name}@x.example"}}"#);
        assert_eq!(server.post("/register", &json).await.0, 201);
    }
    let conn = Connection::open(this.path("a.db")).unwrap();
    conn.execute_batch(
        "INSERT INTO disabled_accounts SELECT id, 1700000000, 'left ☂' FROM users WHERE username = 'bob';
         INSERT INTO enabled_accounts SELECT id, 1700000001, 'is back ☂' FROM users WHERE username = 'alice';
         DELETE FROM users WHERE username = 'carol';
         INSERT INTO auth_logs (request_ip, request_timestamp, user_id) VALUES ('::1', NULL, NULL);
         UPDATE users SET email = NULL WHERE username = 'bob';",
    )
    .unwrap();
    fill(&conn, 2500);
    conn.execute("DELETE FROM auth_logs WHERE id > 2400", [])
        .unwrap();
    // One that is published, and one that was revoked.
    for kid in ["theirs", "lost"] {
        this.adopt(kid);
    }
    this.keys(&["revoke", "--reason", "lost", "lost"]);
    until_adopted(&server).await;
    let etag = server.etag().await;
    let (_, _, set) = server.get("/.well-known/jwks.json").await;
    fs::write(this.path("before.json"), set).unwrap();
    let (_, _, old) = server.post("/auth", &sign_in).await;
    server.stop();
    conn.close().unwrap();

    let (code, text) = this.copy(&this.file("a.db"), &this.postgres(), &["--json"]);
    assert_eq!(code, 0, "{text}");
    let found: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(found["rows"]["auth_logs"], 2401);
    assert_eq!(
        (&found["rows"]["users"], &found["unopened"]),
        (&2.into(), &0.into())
    );
    assert_eq!(found["rows"]["adopted_keys"], 2);
    assert_eq!(found["rows"]["adopted_key_events"], 3);
    // No table is forgotten.
    let copied: Vec<_> = found["rows"].as_object().unwrap().keys().collect();
    let conn = Connection::open(this.path("a.db")).unwrap();
    let mut all = tables(&conn);
    all.sort();
    assert_eq!(copied, all.iter().collect::<Vec<_>>());
    conn.close().unwrap();
    let on_postgres = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
             AND relname NOT IN ('schema_migrations', 'key_version', 'commits', 'calls')";
    assert_eq!(this.cluster.sql(&this.database, on_postgres), all.join(" "));

    this.refused(&this.file("a.db"), &this.postgres(), "is not empty");
    let (code, text) = this.copy(&this.postgres(), &this.file("b.db"), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("2 accounts, 2401 sign-ins"), "{text}");
    assert!(rows(&this.path("a.db")) == rows(&this.path("b.db")));
    this.refused(&this.postgres(), &this.file("b.db"), "is not empty");

    let server = this.serve(&this.postgres()).await;
    until_adopted(&server).await;
    assert_eq!(server.etag().await, etag);
    let (status, _, new) = server.post("/auth", &sign_in).await;
    assert_eq!(status, 200, "{new}");
    // A verifier that fetched the set before the move.
    let set = this.path("before.json");
    for token in [old.trim(), new.trim()] {
        let args = ["verify", token, "--jwks", set.to_str().unwrap()];
        let (code, text) = run_with(&[], &args);
        assert_eq!(code, 0, "{text}");
    }
    let json = r#"{"username":"dave","email":"dave@x.example"}"#;
    assert_eq!(server.post("/register", json).await.0, 201);
    // Carol's number is not given again.
    let id = "SELECT id FROM users WHERE username = 'dave'";
    assert_eq!(this.cluster.sql(&this.database, id), "4");
    let latest = "SELECT max(id) FROM auth_logs";
    assert_eq!(this.cluster.sql(&this.database, latest), "2505");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_through_pgbouncer_and_over_tls() {
    let Some(this) = Move::new() else {
        return;
    };
    let conn = this.served("a.db").await;
    fill(&conn, 2500);
    conn.close().unwrap();
    let (file, cluster) = (this.file("a.db"), &this.cluster);
    let over_tls = format!(
        "postgres://postgres@localhost:{}/{}?sslmode=verify-full&sslrootcert={}",
        cluster.port,
        cluster.create_database(),
        cluster.authority.display()
    );
    let through = url(cluster.pgbouncer_port, &cluster.create_database());
    for (postgres, back) in [(over_tls, "tls.db"), (through, "pgbouncer.db")] {
        let (code, text) = this.copy(&file, &postgres, &[]);
        assert_eq!(code, 0, "{text}");
        let (code, text) = this.copy(&postgres, &this.file(back), &[]);
        assert_eq!(code, 0, "{text}");
        assert!(rows(&this.path("a.db")) == rows(&this.path(back)));
        let server = this.serve(&postgres).await;
        this.refused(&postgres, &this.file("c.db"), "is in use by");
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_refused_while_a_server_uses_the_source() {
    let Some(this) = Move::new() else {
        return;
    };
    let server = this.serve(&this.file("a.db")).await;
    this.refused(&this.file("a.db"), &this.postgres(), "is in use by process");
    let (code, text) = this.copy(&this.file("a.db"), &this.postgres(), &["--live-ok"]);
    assert_eq!(code, 0, "{text}");
    server.stop();
    let server = this.serve(&this.postgres()).await;
    this.refused(&this.postgres(), &this.file("b.db"), "sessions of a server");
    assert!(!this.path("b.db").exists());
    let (code, text) = this.copy(&this.postgres(), &this.file("b.db"), &["--live-ok"]);
    assert_eq!(code, 0, "{text}");
    server.stop();
}

/// A pooler may give the sessions of a replica another name.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_refused_while_a_replica_has_called_in_lately() {
    let Some(this) = Move::new() else {
        return;
    };
    let (postgres, file) = (this.postgres(), this.file("b.db"));
    let server = this.serve(&format!("{postgres}?application_name=x")).await;
    let sql = |sql: &str| this.cluster.sql(&this.database, sql);
    let replicas = "SELECT count(*) FROM calls WHERE quota = 'replica'";
    wait_until(|| sql(replicas) == "1");
    this.refused(&postgres, &file, "in use by 1 replicas of the service");
    server.stop();
    // One that was killed does not say that it has gone.
    let called_in = |ago: &str| {
        let at = format!("ARRAY[clock_timestamp() - interval '{ago}']");
        sql("DELETE FROM calls");
        sql(&format!(
            "INSERT INTO calls (quota, client, admitted, at)
             VALUES ('replica', gen_random_uuid(), TRUE, {at})"
        ));
    };
    // Still ahead when it is looked for, however slow the machine.
    called_in("-1 hour");
    this.refused(&postgres, &file, "in use by 1 replicas of the service");
    called_in("10 seconds");
    let (code, text) = this.copy(&postgres, &file, &[]);
    assert_eq!(code, 0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_leaves_the_target_empty() {
    let Some(mut this) = Move::new() else {
        return;
    };
    let (file, postgres) = (this.file("a.db"), this.postgres());
    this.refused(&file, &postgres, "there is no database");
    this.refused(&postgres, &file, "there is no database");
    this.refused(&file, &this.file("b.db"), "`backup`");
    let conn = this.served("a.db").await;
    fill(&conn, 1500);
    conn.close().unwrap();
    // An open file counts as in use.
    let change = |sql: &str| {
        let conn = Connection::open(this.path("a.db")).unwrap();
        conn.pragma_update(None, "foreign_keys", false).unwrap();
        conn.execute(sql, []).unwrap();
    };
    for (wrong, right, why) in [
        (
            "UPDATE auth_logs SET request_timestamp = 'infinity' WHERE id = 1400",
            "UPDATE auth_logs SET request_timestamp = NULL WHERE id = 1400",
            "column request_timestamp of table auth_logs holds a value of the wrong type in row 1400",
        ),
        (
            "UPDATE keys SET exp = 'never' WHERE kid = (SELECT max(kid) FROM keys)",
            "UPDATE keys SET exp = 4000000000 WHERE kid = (SELECT max(kid) FROM keys)",
            "column exp of table keys",
        ),
    ] {
        change(wrong);
        this.refused(&file, &postgres, why);
        assert!(this.is_empty_on_postgres());
        change(right);
    }
    change("UPDATE auth_logs SET user_id = 9 WHERE id = 7");
    this.refused(&file, &postgres, "row 7 of auth_logs refers to a row");
    change("UPDATE auth_logs SET user_id = NULL");
    let right = std::mem::replace(&mut this.sealing_key, sealing_key());
    this.refused(&file, &postgres, "open under no entry of NOT_MY_KEY");
    assert!(this.is_empty_on_postgres());
    this.sealing_key = right;
    let on_postgres = |sql| this.cluster.sql(&this.database, sql);
    on_postgres("ALTER TABLE users ADD COLUMN nickname TEXT");
    this.refused(&file, &postgres, "the column nickname of table users");
    this.refused(
        &postgres,
        &this.file("b.db"),
        "the column nickname of table users",
    );
    on_postgres("ALTER TABLE users DROP COLUMN nickname");
    let (code, text) = this.copy(&file, &postgres, &[]);
    assert_eq!(code, 0, "{text}");
    on_postgres("ALTER TABLE key_times RENAME COLUMN signs_from TO signs");
    this.refused(&postgres, &this.file("b.db"), "of table key_times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_leaves_the_target_empty() {
    const ROWS: u32 = 60_000;
    let Some(this) = Move::new() else {
        return;
    };
    let (file, postgres) = (this.file("a.db"), this.postgres());
    let conn = this.served("a.db").await;
    fill(&conn, ROWS);
    conn.close().unwrap();
    let is_filling = || {
        let size = "SELECT coalesce(pg_relation_size(to_regclass('auth_logs')), 0) > 100000";
        this.cluster.sql(&this.database, size) == "t"
    };
    kill_when(&mut this.command(&file, &postgres), is_filling);
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = '{}' AND application_name LIKE 'jwks-server%'",
        this.database
    );
    wait_until(|| this.cluster.sql(&this.database, &sessions) == "0");
    assert!(this.is_empty_on_postgres());
    let (code, text) = this.copy(&file, &postgres, &[]);
    assert_eq!(code, 0, "{text}");

    let back = this.path("b.db");
    let log = this.path("b.db-wal");
    // More than the migrations write.
    let is_filling = || fs::metadata(&log).is_ok_and(|meta| meta.len() > 500_000);
    kill_when(&mut this.command(&postgres, &this.file("b.db")), is_filling);
    let conn = Connection::open(&back).unwrap();
    for table in tables(&conn) {
        let sql = format!("SELECT count(*) FROM {table}");
        let count: u32 = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{table}");
    }
    conn.close().unwrap();
    wait_until(|| this.cluster.sql(&this.database, &sessions) == "0");
    let (code, text) = this.copy(&postgres, &this.file("b.db"), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(rows(&this.path("a.db")) == rows(&back));
}

/// Kills the command as soon as `is_time`, which must come before its end.
fn kill_when(command: &mut Command, is_time: impl Fn() -> bool) {
    let mut process = command.stdout(Stdio::null()).spawn().unwrap();
    while !is_time() {
        assert!(process.try_wait().unwrap().is_none(), "it has ended");
    }
    process.kill().unwrap();
    assert!(!process.wait().unwrap().success());
}

fn wait_until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
}
