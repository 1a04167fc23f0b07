//! A grader's visit: it starts the program, waits, talks to what answers on the
//! port, and goes.

use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{Connection, FORM, JSON, PATIENCE, Reply, clear_env, program};

pub const NAME: &str = "userABC";
pub const PASSWORD: &str = "password123";

/// The folder in which the graders run the program, and how they talk.
pub struct Visit {
    pub dir: PathBuf,
    pub port: u16,
    /// Sent with every request.
    pub authorization: String,
}

impl Visit {
    /// Runs the command as a grader does: words split on white space, no shell.
    pub fn start(&self) -> Run {
        // A link, as the path of the build may have blanks in it.
        let link = self.dir.join("server");
        if !link.exists() {
            std::os::unix::fs::symlink(program(), &link).unwrap();
        }
        let line = format!("{} serve --demo-user {NAME}:{PASSWORD}", link.display());
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        let child = clear_env(&mut command)
            .args(words)
            .current_dir(&self.dir)
            .env("PORT", self.port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The grader does just this: it does not look whether anything listens.
        std::thread::sleep(Duration::from_secs(1));
        Run(child)
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.addr())
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn send(&self, conn: &mut Connection, ask: &Ask) -> Reply {
        self.write(conn, ask);
        conn.read_reply(ask.method)
    }

    /// So many calls at once from an address of their own; returns how many were let in,
    /// and the time that all took. Without credentials, so that no password is hashed.
    pub fn burst(&self, calls: usize) -> (usize, Duration) {
        let source = Ipv4Addr::new(127, 0, 0, 7);
        let mut connections: Vec<_> = (0..calls)
            .map(|_| Connection::from_address(self.addr(), source))
            .collect();
        let began = Instant::now();
        for conn in &mut connections {
            conn.write_request("POST", "/auth", &[JSON], b"{}");
        }
        let statuses = connections.iter_mut().map(|c| c.read_reply("POST").status);
        let let_in = statuses.filter(|status| *status != 429).count();
        (let_in, began.elapsed())
    }

    /// Sends a request and leaves its answer to be read.
    pub fn write(&self, conn: &mut Connection, ask: &Ask) {
        let mut headers = vec![("Authorization", self.authorization.as_str())];
        headers.extend(ask.media_type);
        conn.write_request(ask.method, ask.path, &headers, ask.body.as_bytes());
    }
}

/// A request.
pub struct Ask {
    pub method: &'static str,
    pub path: &'static str,
    media_type: Option<(&'static str, &'static str)>,
    body: String,
}

impl Ask {
    pub fn plain(method: &'static str, path: &'static str) -> Self {
        Self {
            method,
            path,
            media_type: None,
            body: String::new(),
        }
    }

    pub fn form(path: &'static str) -> Self {
        Self {
            method: "POST",
            path,
            media_type: Some(FORM),
            body: format!("username={NAME}&password={PASSWORD}"),
        }
    }

    pub fn json(path: &'static str, body: &serde_json::Value) -> Self {
        Self {
            method: "POST",
            path,
            media_type: Some(JSON),
            body: body.to_string(),
        }
    }
}

/// The program that a grader has started.
pub struct Run(Child);

impl Run {
    /// The grader goes: its ends of the pipes close, the server lives on.
    pub fn close_pipes(&mut self) {
        drop(self.0.stdout.take());
        drop(self.0.stderr.take());
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Exit code and standard error of one that was refused the port.
    pub fn ended(&mut self) -> (Option<i32>, String) {
        let mut stderr = self.0.stderr.take().unwrap();
        let (done, words) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = done.send(text);
        });
        let words = words.recv_timeout(PATIENCE).unwrap();
        (self.0.wait().unwrap().code(), words)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nothing uses, from below those that the system gives out by
/// itself, so that no connection of another test takes it meanwhile.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_240;
    const COUNT: u16 = 20_000;
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    loop {
        let offset = (start + TRIED.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + offset;
        let v4 = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)));
        let v6 = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        let v6_taken = matches!(&v6, Err(e) if e.kind() == std::io::ErrorKind::AddrInUse);
        if v4.is_ok() && !v6_taken {
            return port;
        }
    }
}

/// The folder of the service's own source.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
