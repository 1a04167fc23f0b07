//! Time-outs of connections, in time that moves on by itself.

use axum::Router;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::super::activity::{HEADER_TIMEOUT, IDLE};
use super::*;
use crate::clock::SystemClock;

/// Connects to a server whose clock, that of all time-outs, moves on by itself
/// whenever all tasks wait: a minute is over at once.
async fn connect() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap());
    let router = Router::new().fallback(|| async {});
    tokio::spawn(super::super::serve(
        vec![(listener, router.into())],
        Arc::default(),
        Arc::new(SystemClock::new()),
        CancellationToken::new(),
    ));
    stream.await.unwrap()
}

/// The client answers each ping.
#[tokio::test(start_paused = true)]
async fn an_http_2_connection_that_only_answers_pings_is_closed() {
    let stream = connect().await;
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let began = Instant::now();
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client.send_request(Request::default(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    // A client that answers no ping is cut off after this long.
    assert!(PING_EVERY + PING_TIMEOUT < IDLE);
    let closed = tokio::time::timeout(IDLE + GRACE, connection).await;
    closed.unwrap().unwrap().unwrap();
    assert!(began.elapsed() >= IDLE - Duration::from_secs(1));
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_may_be_idle_for_longer_than_a_header_section_may_take() {
    let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for (sent, closed_after) in [
        (String::new(), HEADER_TIMEOUT),
        (request[..9].to_owned(), HEADER_TIMEOUT),
        (request.to_owned(), IDLE),
        (request.repeat(3), IDLE),
        (format!("{request}{}", &request[..9]), HEADER_TIMEOUT),
    ] {
        let mut stream = connect().await;
        let began = Instant::now();
        stream.write_all(sent.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        let late = began.elapsed().checked_sub(closed_after).unwrap();
        assert!(late < Duration::from_secs(1), "{sent:?}: {late:?}");
    }
}
