//! Replicas of the binary on one database.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::proxy::{Fault, Proxy};

/// The binary under test: `JWKS_SERVER`, or that of the same build.
pub fn server() -> OsString {
    let built = || env!("CARGO_BIN_EXE_jwks-server").into();
    std::env::var_os("JWKS_SERVER").unwrap_or_else(built)
}

pub struct Replica {
    process: Child,
    port: u16,
    metrics: u16,
}

fn spawn(sealing_key: &str, database_url: &str) -> Child {
    Command::new(server())
        .env_clear()
        .env("NOT_MY_KEY", sealing_key)
        .env("DATABASE_URL", database_url)
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("METRICS_ADDR", "127.0.0.1:0")
        .env("NO_COLOR", "1")
        .current_dir(std::env::temp_dir())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Replica {
    fn start(sealing_key: &str, port: u16, database: &str) -> Self {
        Self::start_at(sealing_key, &url(port, database))
    }

    pub fn start_at(sealing_key: &str, database_url: &str) -> Self {
        let mut process = spawn(sealing_key, database_url);
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut port_of = |what: &str| loop {
            let line = lines.next().unwrap().unwrap();
            let address = format!("{what} http://127.0.0.1:");
            if let Some((_, port)) = line.split_once(&address) {
                let digits = port.chars().take_while(char::is_ascii_digit);
                break digits.collect::<String>().parse().unwrap();
            }
        };
        let (port, metrics) = (port_of("listening on"), port_of("metrics are at"));
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            port,
            metrics,
        }
    }

    /// Ends it as an operator does.
    pub fn stop(mut self) {
        let id = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        assert!(self.process.wait().unwrap().success());
    }

    /// Waits until it ends by itself.
    pub async fn exit_code(mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(began.elapsed() < Duration::from_secs(20), "it goes on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Status, header section and body.
    async fn ask(&self, request: &str) -> (u16, String, String) {
        Self::ask_at(self.port, request).await
    }

    async fn ask_at(port: u16, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    pub async fn get(&self, path: &str) -> (u16, String, String) {
        self.ask(&get(path)).await
    }

    /// Value of a metric: the sum over its labels.
    async fn metric(&self, name: &str) -> f64 {
        let (_, _, text) = Self::ask_at(self.metrics, &get("/metrics")).await;
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let of_it = lines.filter(|rest| rest.starts_with(['{', ' ']));
        let values = of_it.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>());
        values.map(Result::unwrap).sum()
    }

    pub async fn post(&self, path: &str, json: &str) -> (u16, String, String) {
        let length = json.len();
        self.ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{json}"
        ))
        .await
    }

    pub async fn etag(&self) -> String {
        let (status, head, _) = self.get("/.well-known/jwks.json").await;
        assert_eq!(status, 200);
        header(&head, "etag").to_owned()
    }

    pub async fn until(&self, path: &str, wanted: u16) -> Duration {
        let began = Instant::now();
        while self.get(path).await.0 != wanted {
            assert!(began.elapsed() < Duration::from_secs(20), "{path} {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        began.elapsed()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| *found == name).unwrap().1
}

fn max_age(head: &str) -> u64 {
    let (_, age) = header(head, "cache-control")
        .split_once("max-age=")
        .unwrap();
    age.parse().unwrap()
}

pub fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}")
}

pub fn sealing_key() -> String {
    jwks_server::config::generate_sealing_key().to_string()
}

fn command(sealing_key: &str, port: u16, database: &str, args: &[&str]) -> (i32, String) {
    run(sealing_key, &url(port, database), args)
}

/// Exit code and output of a command.
pub fn run(sealing_key: &str, database_url: &str, args: &[&str]) -> (i32, String) {
    run_with(
        &[("NOT_MY_KEY", sealing_key), ("DATABASE_URL", database_url)],
        args,
    )
}

/// The same with these variables alone.
pub fn run_with(variables: &[(&str, &str)], args: &[&str]) -> (i32, String) {
    let output = Command::new(server())
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(std::env::temp_dir())
        .args(args)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_and_the_operators_page_name_nothing_of_sqlite() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let database = url(cluster.port, &cluster.create_database());
    let mut process = spawn(&sealing_key(), &database);
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut line_with = |part: &str| {
        let mut lines = lines.by_ref().map(Result::unwrap);
        lines.find(|line| line.contains(part)).unwrap()
    };
    let metrics = line_with("metrics are at http://127.0.0.1:");
    let (_, port) = metrics.split_once("http://127.0.0.1:").unwrap();
    let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
    let warning = line_with("has no keys yet");
    std::thread::spawn(move || lines.for_each(drop));
    let port = digits.parse().unwrap();
    let operators = Replica {
        process,
        port,
        metrics: port,
    };
    assert!(warning.contains("pg_restore"), "{warning}");
    for other in ["working directory", "jwks-server restore"] {
        assert!(!warning.contains(other), "{warning}");
    }
    operators.until("/", 200).await;
    let (_, _, page) = operators.get("/").await;
    assert!(page.contains("<dt>Replicas seen</dt>"), "{page}");
    for other in ["<dt>Write-ahead log</dt>", "<dt>Disk</dt>"] {
        assert!(!page.contains(other), "{page}");
    }
    operators.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_accounts_keys_and_quotas() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let (key, name) = (sealing_key(), cluster.create_database());
    let replicas: Vec<_> = (0..3)
        .map(|_| Replica::start(&key, cluster.port, &name))
        .collect();
    for replica in &replicas {
        replica.until("/readyz", 200).await;
    }
    let json = r#"{"username":"alice","email":"alice@x.example"}"#;
    let (status, _, body) = replicas[0].post("/register", json).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(replicas[1].post("/register", json).await.0, 409);
    let password = body.split('"').nth(3).unwrap();
    let json = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    let (status, _, token) = replicas[1].post("/auth", &json).await;
    assert_eq!(status, 200, "{token}");
    let set = format!(
        "http://127.0.0.1:{}/.well-known/jwks.json",
        replicas[2].port
    );
    let verify = ["verify", token.trim(), "--jwks", &set];
    let (code, text) = command(&key, cluster.port, &name, &verify);
    assert_eq!(code, 0, "{text}");
    assert!(replicas[1].metric("jwks_sign_ins_total").await >= 1.0);
    assert!(replicas[1].metric("jwks_commits_total").await >= 1.0);
    assert_eq!(replicas[2].post("/auth?expired", &json).await.0, 200);
    let due = "SELECT count(*) FROM keys WHERE exp > extract(epoch FROM now())";
    assert_eq!(cluster.sql(&name, due), "1");

    // A second of quiet, then thirty calls at once over three replicas.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let calls = (0..30).map(|i| replicas[i % 3].post("/auth", "{}"));
    let answers = join_all(calls).await;
    let refused = answers.iter().filter(|answer| answer.0 == 429).count();
    assert_eq!(refused, 20, "{answers:?}");

    let (code, text) = command(
        &key,
        cluster.port,
        &name,
        &["keys", "rotate", "--now", "--reason", "drill", "--yes"],
    );
    assert_eq!(code, 0, "{text}");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let etags = [
        replicas[0].etag().await,
        replicas[1].etag().await,
        replicas[2].etag().await,
    ];
    assert!(etags.iter().all(|etag| *etag == etags[0]), "{etags:?}");
    let (code, text) = command(&key, cluster.port, &name, &["doctor"]);
    assert!(
        text.contains("ok    server          PostgreSQL"),
        "{code} {text}"
    );
    let delete = ["users", "delete", "alice", "--with-audit", "--yes"];
    let (code, text) = command(&key, cluster.port, &name, &delete);
    assert!(code == 0 && text.contains("not erased"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_another_clock_than_the_database_is_not_ready() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let (name, key) = (cluster.create_database(), sealing_key());
    // The service asks for `clock_timestamp()` without naming a schema.
    let path = format!("ALTER DATABASE {name} SET search_path = public, by_hand, pg_catalog");
    cluster.sql("postgres", &path);
    let clock = |minutes: u32| {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION by_hand.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
             AS 'SELECT pg_catalog.clock_timestamp() + make_interval(mins => {minutes})'"
        );
        cluster.sql(&name, &sql);
    };
    cluster.sql(&name, "CREATE SCHEMA by_hand");
    clock(10);
    let replica = Replica::start(&key, cluster.port, &name);
    replica.until("/readyz", 503).await;
    let json = r#"{"username":"alice","password":"x"}"#;
    assert_eq!(replica.post("/auth", json).await.0, 503);
    let (_, text) = command(&key, cluster.port, &name, &["doctor"]);
    assert!(text.contains("fail  database clock"), "{text}");
    clock(0);
    replica.until("/readyz", 200).await;
    assert_eq!(replica.post("/auth", json).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_counted_is_not_let_in() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let replica = Replica::start(&sealing_key(), cluster.port, &name);
    replica.until("/readyz", 200).await;
    let account = |name: &str| format!(r#"{{"username":"{name}","email":"{name}@x.example"}}"#);
    let (_, _, body) = replica.post("/register", &account("alice")).await;
    let password = body.split('"').nth(3).unwrap();
    let sign_in = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    assert_eq!(replica.post("/auth", &sign_in).await.0, 200);
    let rename = |from: &str, to: &str| {
        cluster.sql(&name, &format!("ALTER FUNCTION {from} RENAME TO {to}"));
    };
    rename("admit_call", "gone");
    assert_eq!(replica.post("/auth", &sign_in).await.0, 503);
    assert_eq!(replica.post("/register", &account("bob")).await.0, 503);
    assert_eq!(replica.get("/readyz").await.0, 200);
    let rows = "SELECT (SELECT count(*) FROM auth_logs) + (SELECT count(*) FROM users)";
    assert_eq!(cluster.sql(&name, rows), "2");
    rename("gone", "admit_call");
    assert_eq!(replica.post("/auth", &sign_in).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_says_so_and_comes_back_by_itself() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let proxy = Proxy::start(cluster.port).await;
    let replica = Replica::start(&sealing_key(), proxy.port, &name);
    replica.until("/readyz", 200).await;
    let (_, head, _) = replica.get("/.well-known/jwks.json").await;
    assert_eq!(max_age(&head), 300);

    proxy.set(Fault::Silence);
    let began = Instant::now();
    let json = r#"{"username":"alice","password":"x"}"#;
    assert_eq!(replica.post("/auth", json).await.0, 503);
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(replica.until("/readyz", 503).await < Duration::from_secs(3));
    let (status, head, _) = replica.get("/.well-known/jwks.json").await;
    assert_eq!(status, 200);
    assert!((290..299).contains(&max_age(&head)), "{head}");

    proxy.set(Fault::None);
    assert!(replica.until("/readyz", 200).await < Duration::from_secs(5));
    assert_eq!(replica.post("/auth", json).await.0, 401);
    let (_, head, _) = replica.get("/.well-known/jwks.json").await;
    assert_eq!(max_age(&head), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_load_what_has_changed_counts_max_age_down() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let replica = Replica::start(&sealing_key(), cluster.port, &name);
    replica.until("/readyz", 200).await;
    // Its polls go on: that the version has changed is known, and not what has.
    cluster.sql(&name, "ALTER TABLE withdrawn_keys RENAME TO hidden");
    cluster.sql(&name, "UPDATE key_version SET version = version + 1");
    let path = "/.well-known/jwks.json";
    let until = async |is_there: &dyn Fn(u64) -> bool| {
        let began = Instant::now();
        loop {
            let (status, head, _) = replica.get(path).await;
            assert_eq!(status, 200);
            if is_there(max_age(&head)) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{head}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until(&|max_age| (290..299).contains(&max_age)).await;
    assert_eq!(replica.get("/readyz").await.0, 503);
    cluster.sql(&name, "ALTER TABLE hidden RENAME TO withdrawn_keys");
    until(&|max_age| max_age == 300).await;
    replica.until("/readyz", 200).await;
}

#[tokio::test]
async fn what_keeps_a_replica_from_starting_is_said_in_one_line() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let key = sealing_key();
    let refused = |port, database: &str, why: &str| {
        let (code, text) = command(&key, port, database, &["serve"]);
        assert_eq!((code, text.lines().count()), (2, 1), "{text}");
        assert!(text.contains(why), "{text}");
    };
    refused(cluster.port, "none", "create it, or correct DATABASE_URL");
    refused(1, "none", "check that PostgreSQL runs");
    let name = cluster.create_database();
    refused(cluster.port, &format!("{name}?sslmode=verify-full"), "TLS");
    refused(
        cluster.port,
        &format!("{name}?sslmode=require"),
        "verify-full or disable",
    );
    // Not an address of this machine, so the password goes nowhere without TLS.
    refused(
        cluster.port,
        &format!("{name}?hostaddr=192.0.2.1&connect_timeout=1&sslrootcert=none.pem"),
        "none.pem",
    );
    let (code, text) = command(&key, cluster.port, &name, &["keys", "list"]);
    assert_eq!(code, 2);
    assert!(text.contains("start the service once"), "{text}");
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    cluster.sql("postgres", &read_only);
    refused(cluster.port, &name, "a primary that takes writes");
}
