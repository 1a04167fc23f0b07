//! `Server`: a running binary in a folder of its own.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use tempfile::TempDir;

pub use crate::client::{Connection, Reply};
use crate::standstill::patiently;

pub const JWKS: &str = "/.well-known/jwks.json";
pub const JSON: (&str, &str) = ("Content-Type", "application/json");
pub const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
pub const DATABASE: &str = "totally_not_my_privateKeys.db";

/// No answer may take longer than this; it ends a test that would hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test: `JWKS_SERVER`, or that of the same build.
pub fn program() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_jwks-server"));
    std::env::var_os("JWKS_SERVER").map_or_else(built, PathBuf::from)
}

/// To run it, with an empty environment, in `dir`.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(program());
    clear_env(&mut command);
    command.current_dir(dir).stdin(Stdio::null());
    command
}

/// Takes the environment away; where coverage is measured, all but the path
/// for the counts, which would end up in the test's folder.
pub fn clear_env(command: &mut Command) -> &mut Command {
    const COUNTS: &str = "LLVM_PROFILE_FILE";
    command.env_clear();
    if let Some(path) = std::env::var_os(COUNTS) {
        command.env(COUNTS, path);
    }
    command
}

/// A folder whose `.env` has a key and `PORT=0`.
pub fn folder(env: &str) -> TempDir {
    folder_with(&fresh_key(), env)
}

/// The same with the database of a server that was stopped. Nearly all the CPU time of a
/// first start is spent on its keys, so all of these folders share them.
pub fn used_folder(env: &str) -> TempDir {
    /// `NOT_MY_KEY`, and the file.
    static MADE: LazyLock<(String, Vec<u8>)> = LazyLock::new(|| {
        let key = fresh_key();
        let dir = folder_with(&key, "");
        let server = Server::start(dir.path(), &[]);
        server.wait_for_log("a new expired key is in the database");
        assert!(server.stop().success());
        (key, fs::read(database(dir.path())).unwrap())
    });
    let (key, content) = &*MADE;
    let dir = folder_with(key, env);
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600);
    let mut file = file.open(database(dir.path())).unwrap();
    file.write_all(content).unwrap();
    dir
}

fn folder_with(key: &str, env: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // Most tests sign up as many as they need at once.
    let text = format!("NOT_MY_KEY={key}\nPORT=0\nREGISTER_RATE=1000\n{env}\n");
    fs::write(dir.path().join(".env"), text).unwrap();
    dir
}

/// A running server; killed when it is dropped.
pub struct Server {
    pub child: Child,
    pub addr: SocketAddr,
    /// The log, line by line, from the line after "listening" on.
    pub log: mpsc::Receiver<String>,
    /// The lines that were taken out of `log`, and those before it.
    seen: RefCell<Vec<String>>,
}

impl Server {
    /// Starts the binary in `dir` and waits until it listens.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        Self::start_command(command(dir).args(args))
    }

    pub fn start_command(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (lines, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut seen = Vec::new();
        let addr = loop {
            let line = log
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|e| panic!("not listening ({e}): {seen:#?}"));
            seen.push(line.clone());
            if let Some((_, addr)) = line.split_once("listening on http://") {
                let end = |c: char| !c.is_ascii_hexdigit() && !"[.:]".contains(c);
                break addr.split(end).next().unwrap().parse().unwrap();
            }
        };
        let server = Self::of(child, addr, log);
        server.seen.replace(seen);
        server
    }

    /// A server that somebody else started.
    pub fn of(child: Child, addr: SocketAddr, log: mpsc::Receiver<String>) -> Self {
        Self {
            child,
            addr,
            log,
            seen: RefCell::default(),
        }
    }

    /// Waits for a line of the log that has `text` in it.
    pub fn wait_for_log(&self, text: &str) -> String {
        loop {
            let line = self
                .log
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|e| panic!("no line with {text:?} in the log: {e}"));
            self.seen.borrow_mut().push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .unwrap();
    }

    /// Asks it to stop, waits, and returns how it ended.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap()
    }

    /// Waits until it ends, and returns how, and its whole log.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let mut log = self.seen.take();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            log.push(line);
        }
        (status, log.join("\n"))
    }

    /// Asks it to stop, and returns its whole log.
    pub fn stop_for_log(self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{status}: {log}");
        log
    }

    /// One request on a connection of its own.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let reply = Connection::open(self.addr).try_send(method, path, headers, body);
        reply.unwrap_or_else(|| panic!("no answer: {:#?}", self.last_words()))
    }

    /// The end of the log, for the message of a test that has failed.
    fn last_words(&self) -> Vec<String> {
        let next = || self.log.recv_timeout(Duration::from_secs(5)).ok();
        std::iter::from_fn(next).collect()
    }

    pub fn key_set(&self) -> Reply {
        self.send("GET", JWKS, &[], b"")
    }

    /// Registers a name and returns the password.
    pub fn register(&self, name: &str) -> String {
        let body = format!(r#"{{"username":"{name}","email":"{name}@example.com"}}"#);
        let reply = self.post_patiently("/register", body.as_bytes());
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["password"].as_str().unwrap().to_owned()
    }

    pub fn sign_in(&self, path: &str, name: &str, password: &str) -> Reply {
        self.post_patiently(path, &credentials(name, password))
    }

    fn post_patiently(&self, path: &str, body: &[u8]) -> Reply {
        patiently(|| Some(self.send("POST", path, &[JSON], body))).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run of the binary that is expected to end by itself.
pub struct Ended {
    pub code: Option<i32>,
    pub stderr: String,
}

/// Runs the binary until it ends, within the patience of a test.
pub fn run(command: &mut Command) -> Ended {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        let _ = done.send(text);
    });
    let Ok(stderr) = output.recv_timeout(PATIENCE) else {
        let _ = child.kill();
        panic!("it goes on running");
    };
    Ended {
        code: child.wait().unwrap().code(),
        stderr,
    }
}

/// Runs the binary, which must refuse to start: exit code 2 and one line on
/// standard error, which is returned, without the parts `secret`.
pub fn refusal(command: &mut Command, secret: &[&str]) -> String {
    let ended = run(command);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    for part in secret {
        assert!(!ended.stderr.contains(part), "{part:?}: {}", ended.stderr);
    }
    ended.stderr
}

/// To run a line of the shell on a terminal, which `script` of util-linux makes, with an
/// empty environment, in `dir`.
pub fn on_terminal(dir: &Path, line: &OsStr) -> Command {
    let mut script = Command::new("script");
    clear_env(&mut script).env("TERM", "xterm");
    script.arg("-qec").arg(line).arg("/dev/null");
    script.current_dir(dir).stdin(Stdio::null());
    script
}

/// A new key, from `keygen`.
pub fn fresh_key() -> String {
    let dir = tempfile::tempdir().unwrap();
    let made = command(dir.path()).arg("keygen").output().unwrap();
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// The names in a folder, in order.
pub fn files(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An address of this machine that no other test uses, also not one of another
/// run: for listening on a port that is not ours to choose.
pub fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 128 | high, low, n)
}

/// An address of this machine that is not a loopback one. Nothing is sent.
pub fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback()).then_some(ip)
}

/// A JSON body with a name and a password.
pub fn credentials(name: &str, password: &str) -> Vec<u8> {
    serde_json::json!({"username": name, "password": password})
        .to_string()
        .into_bytes()
}

/// Another program's connection to the database in `dir`.
pub fn sql(dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(database(dir)).unwrap()
}

/// The one number that `query` gives on the database in `dir`.
pub fn number(dir: &Path, query: &str) -> i64 {
    sql(dir).query_row(query, [], |row| row.get(0)).unwrap()
}

pub fn database(dir: &Path) -> PathBuf {
    dir.join(DATABASE)
}
