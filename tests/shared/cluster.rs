//! A server of PostgreSQL, and pgbouncer in front of it, in a temporary folder. All tests
//! that run at the time share them; the last one stops them.
#![allow(dead_code, reason = "not every program asks for TLS or pgbouncer")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::left_out::left_out;

pub struct Cluster {
    postgres: Child,
    /// None once it was stopped.
    pgbouncer: Option<Pgbouncer>,
    pub port: u16,
    pub pgbouncer_port: u16,
    /// Certificate of the authority that vouches for the server's, which is for localhost.
    pub authority: PathBuf,
    dir: TempDir,
}

/// A pgbouncer that ends when it is dropped.
pub struct Pgbouncer {
    process: Child,
    pub port: u16,
}

static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
static DATABASES: AtomicUsize = AtomicUsize::new(0);

impl Cluster {
    /// None, and said so, where the programs are not installed.
    pub fn shared() -> Option<Arc<Self>> {
        let Some(programs) = programs() else {
            left_out(
                "a server of PostgreSQL",
                "initdb, pgbouncer or openssl is not installed",
            );
            assert!(
                std::env::var_os("REQUIRE_POSTGRES").is_none(),
                "REQUIRE_POSTGRES is set"
            );
            return None;
        };
        let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::start(&programs));
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    fn start(programs: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let at = |name: &str| dir.path().join(name);
        let made = unprivileged(&programs.join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--no-sync", "-D"])
            .arg(at("data"))
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "initdb");
        let rules =
            "local all all trust\nhost all guarded all scram-sha-256\nhost all all all trust\n";
        fs::write(at("data/pg_hba.conf"), rules).unwrap();
        make_certificates(dir.path());
        let port = free_port();
        let log = fs::File::create(at("log")).unwrap();
        let postgres = unprivileged(&programs.join("postgres"))
            .arg("-D")
            .arg(at("data"))
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "fsync=off",
                "-c",
                "max_connections=400",
                "-c",
                "ssl=on",
                "-c",
                &format!("ssl_cert_file={}", at("server.pem").display()),
                "-c",
                &format!("ssl_key_file={}", at("server.key").display()),
            ])
            .args(["-c", "listen_addresses=127.0.0.1", "-k"])
            .arg(dir.path())
            .stderr(log)
            .spawn()
            .unwrap();
        let pgbouncer = start_pgbouncer(dir.path(), "pgbouncer.ini", port, "");
        let cluster = Self {
            postgres,
            port,
            pgbouncer_port: pgbouncer.port,
            pgbouncer: Some(pgbouncer),
            authority: at("authority.pem"),
            dir,
        };
        cluster.wait();
        // As PostgreSQL 13 and 14 do not have it: roles of other tests would be untrusted ones.
        cluster.sql("template1", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
        cluster
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !(self.can(self.port) && self.can(self.pgbouncer_port)) {
            assert!(Instant::now() < deadline, "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn can(&self, port: u16) -> bool {
        psql(port, "postgres", "SELECT 1").is_some()
    }

    /// Another pgbouncer, which demands TLS.
    pub fn pgbouncer_over_tls(&self) -> Pgbouncer {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let more = format!(
            "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
            at("server.pem"),
            at("server.key")
        );
        let started = start_pgbouncer(self.dir.path(), "over_tls.ini", self.port, &more);
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", started.port)).is_err() {
            assert!(Instant::now() < deadline, "pgbouncer does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        started
    }

    /// A new, empty database.
    pub fn create_database(&self) -> String {
        let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Output of a statement, one line a row.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        psql(self.port, database, sql).unwrap_or_else(|| panic!("it fails: {sql}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.pgbouncer = None;
        interrupt(&mut self.postgres);
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        interrupt(&mut self.process);
    }
}

fn interrupt(process: &mut Child) {
    let _ = Command::new("kill")
        .args(["-INT", &process.id().to_string()])
        .status();
    let _ = process.wait();
}

/// In transaction mode. `more`: lines of its configuration.
fn start_pgbouncer(dir: &Path, file: &str, to: u16, more: &str) -> Pgbouncer {
    let port = free_port();
    let config = format!(
        "[databases]\n* = host=127.0.0.1 port={to} user=postgres\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n\
         pool_mode = transaction\nunix_socket_dir =\ndefault_pool_size = 4\n{more}"
    );
    let file = dir.join(file);
    fs::write(&file, config).unwrap();
    let process = unprivileged(Path::new("pgbouncer"))
        .arg("-q")
        .arg(file)
        .spawn()
        .unwrap();
    Pgbouncer { process, port }
}

fn psql(port: u16, database: &str, sql: &str) -> Option<String> {
    let output = Command::new("psql")
        .args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-XAtq",
            "-p",
            &port.to_string(),
        ])
        .args(["-d", database, "-c", sql])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The folder of the newest version.
fn programs() -> Option<PathBuf> {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let has_others = has("pgbouncer") && has("openssl");
    let mut found: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| has_others && bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

/// `authority.pem`, and `server.pem` with `server.key`, which belongs to the server's user.
fn make_certificates(dir: &Path) {
    let names = dir.join("names");
    fs::write(&names, "subjectAltName=DNS:localhost\n").unwrap();
    for line in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -subj /CN=Authority -keyout authority.key -out authority.pem",
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
         -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial \
         -days 2 -extfile names -out server.pem",
    ] {
        let made = unprivileged(Path::new("openssl"))
            .args(line.split_whitespace())
            .current_dir(dir)
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "{line}");
    }
}

/// PostgreSQL does not run as root.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    let user = Command::new("id").arg("-u").output().unwrap().stdout;
    if user == b"0\n" {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
