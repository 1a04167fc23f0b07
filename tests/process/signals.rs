//! Signals: a stop that is asked for once, twice, or by force; closed and stalled outputs.

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;

use crate::standstill::Stopwatch;
use crate::support::{
    Connection, DATABASE, JSON, JWKS, Server, command, files, folder, used_folder,
};
use crate::support::{PATIENCE, clear_env, number, own_address, program, sql};

const BODY: &[u8] = br#"{"username":"alice","email":"alice@example.com"}"#;

/// A registration that is under way: the server waits for its body.
fn under_way(server: &Server) -> Connection {
    let mut connection = Connection::open(server.addr);
    let head = format!(
        "POST /register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    );
    connection.write(head.as_bytes());
    assert_eq!(connection.line().unwrap(), "HTTP/1.1 100 Continue");
    assert_eq!(connection.line().unwrap(), "");
    connection
}

#[test]
fn term_int_and_hup_let_a_request_that_is_under_way_end_and_then_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let dir = used_folder("");
        let server = Server::start(dir.path(), &[]);
        let mut connection = under_way(&server);
        server.signal(signal);
        server.wait_for_log("stopping");
        connection.write(BODY);
        let reply = connection.read_reply("POST");
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert!(connection.read_to_end().is_empty());
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert_eq!(files(dir.path()), [".env", DATABASE]);
        let kept = "SELECT count(*) FROM users WHERE username = 'alice'";
        assert_eq!(number(dir.path(), kept), 1);
    }
}

#[test]
fn a_second_signal_stops_at_once_with_1() {
    for (first, second) in [
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::INT),
        (Signal::HUP, Signal::INT),
    ] {
        let dir = used_folder("");
        let mut server = Server::start(dir.path(), &[]);
        let mut connection = under_way(&server);
        server.signal(first);
        let began = Instant::now();
        server.wait_for_log("stopping");
        // Those within half a second are the same wish as the first.
        while server.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(5));
            server.signal(second);
        }
        assert!(began.elapsed() >= Duration::from_millis(500));
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.ends_with("stopped at once by a second signal"), "{log}");
        assert!(connection.read_to_end().is_empty());
    }
}

#[test]
fn connections_that_are_idle_do_not_hold_up_the_stop() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let mut idle: Vec<_> = (0..20).map(|_| Connection::open(server.addr)).collect();
    // Half of them have been used, the others have asked for nothing yet. Some of
    // either have begun to.
    for connection in idle.iter_mut().skip(10) {
        assert_eq!(connection.send("GET", JWKS, &[], b"").status, 200);
    }
    for connection in idle.iter_mut().step_by(3) {
        connection.write(b"GET / HTTP/1.1\r\nHost:");
    }
    idle[1].write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let log = server.stop_for_log();
    assert!(!log.contains("cut off"), "{log}");
    for (n, mut connection) in idle.into_iter().enumerate() {
        // An HTTP/2 connection is told settings.
        assert!(n == 1 || connection.read_to_end().is_empty());
    }
}

#[test]
fn neither_a_request_that_never_ends_nor_a_reader_holds_up_the_stop_for_ten_seconds() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let _held = under_way(&server);
    let reader = sql(dir.path());
    reader.execute_batch("BEGIN; SELECT * FROM users;").unwrap();
    let watch = Stopwatch::start();
    let log = server.stop_for_log();
    assert!(watch.elapsed() < Duration::from_secs(10), "{log}");
    // Unless the time for its body was up too while the machine stood still.
    let by_body = !watch.standstill().is_zero();
    assert!(by_body || log.contains("cut off"), "{log}");
    drop(reader);
    // The reader may have been a server that needs the reserve: it was left to it.
    let reserve = format!("{DATABASE}-reserve");
    assert_eq!(files(dir.path()), [".env", DATABASE, &reserve]);
}

/// Starts with everything logged, and drops the reading ends of its standard
/// output and error once it listens.
fn with_closed_pipes(command: &mut Command) -> (std::process::Child, SocketAddr) {
    let mut child = command
        .env("RUST_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let addr = log
        .lines()
        .map(Result::unwrap)
        .find_map(|line| Some(line.split_once("listening on http://")?.1.parse().unwrap()))
        .unwrap();
    drop(child.stdout.take());
    (child, addr)
}

#[test]
fn closed_output_pipes_never_hurt() {
    for mode in ["development", "production"] {
        let dir = used_folder("");
        // Its log is then text for people or JSON.
        let host = own_address().to_string();
        let mut command = command(dir.path());
        command
            .env("APP_ENV", mode)
            .env("HOST", &host)
            .env("PORT", "18082");
        let (child, addr) = if mode == "development" {
            with_closed_pipes(&mut command)
        } else {
            // Closed from the start.
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let copy = writer.try_clone().unwrap();
            command.env("RUST_LOG", "trace").stdout(copy).stderr(writer);
            let addr = format!("{host}:18082").parse().unwrap();
            (command.spawn().unwrap(), addr)
        };
        until_it_listens(addr);
        let (_, log) = std::sync::mpsc::channel();
        let server = Server::of(child, addr, log);
        let password = server.register("alice");
        for n in 0..50 {
            let status = match n % 5 {
                0 => server.register(&format!("user{n}")).len(),
                1 => server
                    .send("POST", "/register", &[JSON], b"{")
                    .status
                    .into(),
                _ => server.key_set().status.into(),
            };
            assert_eq!(status, [36, 400, 200, 200, 200][n % 5], "{n}");
        }
        assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
        assert_eq!(server.stop().code(), Some(0));
    }
}

#[test]
fn closed_standard_descriptors_never_hurt() {
    let dir = folder("");
    let host = own_address();
    let mut command = Command::new("sh");
    clear_env(&mut command)
        .args(["-c", "exec \"$0\" <&- >&- 2>&-"])
        .arg(program())
        .current_dir(dir.path())
        .env("HOST", host.to_string())
        .env("PORT", "18083");
    let child = command.spawn().unwrap();
    let addr = SocketAddr::from((host, 18_083));
    let (_, log) = std::sync::mpsc::channel();
    let server = Server::of(child, addr, log);
    until_it_listens(addr);
    for n in 0..50 {
        assert_eq!(server.key_set().status, 200, "{n}");
    }
    server.register("alice");
    assert_eq!(server.stop().code(), Some(0));
    // Had a descriptor of the log become the file's, it would be no database.
    let whole: String = sql(dir.path())
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
}

/// For a server whose log nobody reads.
fn until_it_listens(addr: SocketAddr) {
    let began = Instant::now();
    while TcpStream::connect(addr).is_err() {
        assert!(began.elapsed() < Duration::from_secs(60), "not listening");
        std::thread::yield_now();
    }
}

/// A pipe with room for nothing more; whoever writes to it waits.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    for piece in [&[b'.'; 4096][..], b"."] {
        while writer.write(piece).is_ok() {}
    }
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// Starts it with a standard error that nobody reads as long as the reader is kept.
fn with_full_stderr(command: &mut Command) -> (Child, PipeReader) {
    let (reader, writer) = full_pipe();
    command.stdout(Stdio::piped()).stderr(writer);
    (command.spawn().unwrap(), reader)
}

/// The exit code of a process whose standard output is a pipe, once it ends.
fn exit_code(child: &mut Child) -> Option<i32> {
    let mut stdout = child.stdout.take().unwrap();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(stdout.read_to_end(&mut Vec::new())));
    if ended.recv_timeout(PATIENCE).is_err() {
        child.kill().unwrap();
        panic!("it goes on running");
    }
    child.wait().unwrap().code()
}

#[test]
fn a_standard_error_that_stalls_holds_up_neither_a_stop_nor_a_second_signal() {
    for (signals, code) in [(1, 0), (2, 1)] {
        let dir = used_folder("");
        let addr = SocketAddr::from((own_address(), 18_084));
        let mut command = command(dir.path());
        command
            .env("HOST", addr.ip().to_string())
            .env("PORT", addr.port().to_string());
        let (child, _stalled) = with_full_stderr(&mut command);
        until_it_listens(addr);
        let (_, log) = mpsc::channel();
        let mut server = Server::of(child, addr, log);
        // It would take all the time that a stop has.
        let _held = (signals == 2).then(|| under_way(&server));
        server.signal(Signal::TERM);
        let began = Instant::now();
        while signals == 2 && server.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(5));
            server.signal(Signal::TERM);
        }
        assert_eq!(exit_code(&mut server.child), Some(code));
    }
}

#[test]
fn a_failure_that_nobody_reads_is_still_an_exit_code() {
    let dir = used_folder("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (args, port) in [(&["--nonsense"][..], "0"), (&[], &*port)] {
        let mut command = command(dir.path());
        command
            .args(args)
            .env("HOST", "127.0.0.1")
            .env("PORT", port);
        let (mut child, _stalled) = with_full_stderr(&mut command);
        assert_eq!(exit_code(&mut child), Some(2), "{args:?}");
    }
}

#[test]
fn a_port_is_free_again_as_soon_as_it_has_stopped() {
    // An address of its own, so that nothing else takes the port in between.
    let dir = used_folder(&format!("HOST={}", own_address()));
    let server = Server::start(dir.path(), &[]);
    let addr = server.addr;
    assert_eq!(server.key_set().status, 200);
    assert!(server.stop().success());
    drop(TcpListener::bind(addr).unwrap());
    let mut again = command(dir.path());
    again.env("PORT", addr.port().to_string());
    assert_eq!(Server::start_command(&mut again).addr, addr);
}
