//! `load PORT SECONDS CONNECTIONS ADDRESSES USERS [OPTION...]`: connections that
//! call `POST /auth` one request after the other, from as many loopback
//! addresses, as the users of the file USERS (lines of `NAME PASSWORD`).
//!
//! `register=N`: N connections sign up new users instead.
//! `pace=MS`: a connection lets so much time pass from one request to the next.
//! `forwarded`: each request comes from an address of its own, in
//! `X-Forwarded-For`, with a body that is refused once the quota let it in.
//!
//! Prints one line of JSON: answers by status, seconds, and the times of those
//! sign-ins that succeeded in ms.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

#[derive(Clone, Copy)]
enum Call {
    SignIn,
    SignUp,
    Forwarded,
}

#[derive(Default)]
struct Tally {
    statuses: BTreeMap<String, u64>,
    sign_in_ms: Vec<f64>,
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| -> f64 { args[at].parse().expect("a number") };
    let port = number(0) as u16;
    let (connections, addresses) = (number(2) as usize, number(3) as usize);
    let users = std::fs::read_to_string(&args[4]).expect("USERS");
    let users: Arc<Vec<String>> = Arc::new(users.lines().map(str::to_owned).collect());
    let option = |name: &str| args[5..].iter().find_map(|arg| arg.strip_prefix(name));
    let sign_ups: usize = option("register=").map_or(0, |n| n.parse().expect("N"));
    let pace = Duration::from_millis(option("pace=").map_or(0, |ms| ms.parse().expect("MS")));
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(number(1));
    let counter = Arc::new(AtomicU32::new(std::process::id() << 12));
    let workers: Vec<_> = (0..connections)
        .map(|n| {
            let call = match () {
                () if option("forwarded").is_some() => Call::Forwarded,
                () if n < sign_ups => Call::SignUp,
                () => Call::SignIn,
            };
            let (users, counter) = (Arc::clone(&users), Arc::clone(&counter));
            tokio::spawn(async move {
                let at = n % addresses;
                let from = Ipv4Addr::new(127, 1, (at / 250) as u8, (at % 250 + 1) as u8);
                let user = if users.is_empty() {
                    ""
                } else {
                    &users[n % users.len()]
                };
                let mut tally = Tally::default();
                while Instant::now() < end {
                    // A connection that is closed is replaced and counted.
                    let drive = drive(port, from, (call, pace), user, &counter, end, &mut tally);
                    if let Err(e) = drive.await {
                        *tally.statuses.entry(format!("{:?}", e.kind())).or_default() += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                tally
            })
        })
        .collect();
    let mut all = Tally::default();
    for worker in workers {
        let tally = worker.await.expect("a connection's task");
        for (status, n) in tally.statuses {
            *all.statuses.entry(status).or_default() += n;
        }
        all.sign_in_ms.extend(tally.sign_in_ms);
    }
    report(&mut all, began.elapsed().as_secs_f64());
}

async fn drive(
    port: u16,
    from: Ipv4Addr,
    (call, pace): (Call, Duration),
    user: &str,
    counter: &AtomicU32,
    end: Instant,
    tally: &mut Tally,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let mut stream = socket
        .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    while Instant::now() < end {
        let n = counter.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        stream.write_all(&request(call, user, n)).await?;
        let status = read_answer(&mut stream, &mut buffer).await?;
        if matches!(call, Call::SignIn) && status == "200" {
            tally.sign_in_ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
        *tally.statuses.entry(status).or_default() += 1;
        if !pace.is_zero() {
            tokio::time::sleep_until((began + pace).min(end).into()).await;
        }
    }
    Ok(())
}

fn request(call: Call, user: &str, n: u32) -> Vec<u8> {
    let (path, extra, body) = match call {
        Call::SignIn => {
            let (name, password) = user.split_once(' ').expect("NAME PASSWORD");
            let body = format!(r#"{{"username":"{name}","password":"{password}"}}"#);
            ("/auth", String::new(), body)
        }
        Call::SignUp => {
            let body = format!(r#"{{"username":"u{n}","email":"u{n}@example.com"}}"#);
            ("/register", String::new(), body)
        }
        Call::Forwarded => {
            let client = Ipv4Addr::from(0x0b00_0000 + n);
            (
                "/auth",
                format!("X-Forwarded-For: {client}\r\n"),
                "{".to_owned(),
            )
        }
    };
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{extra}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads one answer with a Content-Length and gives its status.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<String> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(buffer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0);
        if body.len() >= length {
            return Ok(head.split(' ').nth(1).unwrap_or("?").to_owned());
        }
    }
}

fn report(all: &mut Tally, seconds: f64) {
    all.sign_in_ms.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = all.sign_in_ms.len().saturating_sub(1);
        all.sign_in_ms
            .get((last as f64 * share) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    let statuses: Vec<String> = all
        .statuses
        .iter()
        .map(|(status, n)| format!("{status:?}:{n}"))
        .collect();
    println!(
        r#"{{"seconds":{seconds:.3},"sign_ins":{},"p50":{:.3},"p99":{:.3},"statuses":{{{}}}}}"#,
        all.sign_in_ms.len(),
        at(0.5),
        at(0.99),
        statuses.join(",")
    );
}
