//! HTTP/2 with prior knowledge (RFC 9113 section 3.3).

use std::net::SocketAddr;
use std::time::Instant;

use axum::http::{Request, Response};

use crate::support::{Connection, JWKS, Server, credentials, used_folder};

pub type Http2 = h2::client::SendRequest<bytes::Bytes>;

pub async fn connect(addr: SocketAddr) -> Http2 {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn send(client: Http2, method: &str, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    send_with(client, method, path, &[], body).await
}

pub async fn send_with(
    client: Http2,
    method: &str,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Vec<u8>,
) -> (u16, Vec<u8>) {
    let answer = ask(client, method, path, headers, body).await;
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut whole = Vec::new();
    while let Some(part) = body.data().await {
        whole.extend_from_slice(&part.unwrap());
    }
    (status, whole)
}

/// Sends a request; its answer's head, and what its body comes from.
async fn ask(
    client: Http2,
    method: &str,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Vec<u8>,
) -> Response<h2::RecvStream> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    for &(name, value) in headers {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let mut client = client.ready().await.unwrap();
    let (answer, mut stream) = client.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(body.into(), true).unwrap();
    }
    answer.await.unwrap()
}

#[tokio::test]
async fn http_2_with_prior_knowledge_gives_the_same_answers() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    let client = connect(server.addr).await;
    let set = send(client.clone(), "GET", JWKS, Vec::new()).await;
    assert_eq!(set, (200, server.key_set().body));
    let body = credentials("alice", &password);
    assert_eq!(send(client.clone(), "POST", "/auth", body).await.0, 200);
    assert_eq!(
        send(client.clone(), "GET", "/auth", Vec::new()).await.0,
        405
    );
    let body = br#"{"username":"bob","email":"bob@example.com"}"#.to_vec();
    assert_eq!(send(client.clone(), "POST", "/register", body).await.0, 201);
    let large = vec![b'x'; 1_000_000];
    assert_eq!(send(client, "POST", "/register", large).await.0, 413);
}

/// RFC 9110 section 8.6: none with 204, and with 304 only the document's.
#[tokio::test]
async fn answers_without_a_body_state_no_length() {
    let dir = used_folder("ISSUER=https://issuer.example");
    let server = Server::start(dir.path(), &[]);
    let client = connect(server.addr).await;
    let mut http1 = Connection::open(server.addr);
    let known = ("if-none-match", "*");
    for path in [
        JWKS,
        "/.well-known/jwks-schedule.json",
        "/.well-known/openid-configuration",
        "/openapi.json",
    ] {
        for (method, status) in [("GET", 304), ("HEAD", 304), ("OPTIONS", 204)] {
            let reply = http1.send(method, path, &[known], b"");
            assert_eq!(reply.status, status, "{method} {path}");
            let length = reply.header("content-length");
            assert_eq!(length, "", "{method} {path}");
            let answer = ask(client.clone(), method, path, &[known], Vec::new()).await;
            assert_eq!(answer.status().as_u16(), status, "{method} {path}");
            let length = answer.headers().get("content-length");
            assert_eq!(length, None, "{method} {path} of HTTP/2");
        }
        // A HEAD that is answered 200 has the document's.
        let length = |reply: crate::support::Reply| reply.header("content-length").to_owned();
        let (head, get) = (
            length(http1.send("HEAD", path, &[], b"")),
            length(http1.send("GET", path, &[], b"")),
        );
        assert_eq!(head, get, "{path}");
        assert_ne!(head, "", "{path}");
    }
}

/// Each page is made for its request, so many that nobody reads would fill the memory.
#[tokio::test]
async fn a_connection_has_one_page_on_its_way() {
    let dir = used_folder("METRICS_ADDR=127.0.0.1:0");
    let server = Server::start(dir.path(), &[]);
    let metrics = crate::metrics::address(&server);
    let html = ("accept", "text/html");
    for (addr, requests) in [
        (server.addr, [("/", ""), ("/", "")]),
        (metrics, [("/", ""), ("/metrics", "")]),
        // With a body it takes another way through the server.
        (metrics, [("/metrics", "x"), ("/", "x")]),
    ] {
        let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let mut narrow = h2::client::Builder::new();
        narrow.initial_window_size(1);
        let (client, connection) = narrow.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let sent = async |(path, body): (&str, &str)| {
            ask(client.clone(), "GET", path, &[html], body.into()).await
        };
        let first = sent(requests[0]).await;
        assert_eq!(first.status().as_u16(), 200);
        let second = sent(requests[1]).await;
        assert_eq!(second.status().as_u16(), 503, "{requests:?}");
        assert_eq!(second.headers()["retry-after"], "2");
        let length: usize = first.headers()["content-length"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let mut body = first.into_body();
        let mut read = 0;
        while let Some(part) = body.data().await {
            let part = part.unwrap();
            read += part.len();
            body.flow_control().release_capacity(part.len()).unwrap();
        }
        assert_eq!(read, length);
        assert_eq!(sent(requests[1]).await.status().as_u16(), 200);
    }
    let mut one_after_another = Connection::open(server.addr);
    for _ in 0..3 {
        assert_eq!(one_after_another.send("GET", "/", &[html], b"").status, 200);
    }
}

#[tokio::test]
async fn a_header_section_may_have_16_kib_and_100_fields() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let client = connect(server.addr).await;
    let health = || Request::post("http://localhost/healthz");
    let long = |size: usize| health().header("x", "x".repeat(size));
    let many = |fields: usize| (0..fields).fold(health(), |head, _| head.header("x", ""));
    // None of them waits for its body.
    for (what, head, status) in [
        ("16 kB", long(16_000), 405),
        ("17 kB", long(17_000), 431),
        ("a hundred fields", many(100), 405),
        ("one more", many(101), 431),
        ("16 kB again", long(16_000), 405),
    ] {
        let mut client = client.clone().ready().await.unwrap();
        let (answer, stream) = client.send_request(head.body(()).unwrap(), false).unwrap();
        assert_eq!(answer.await.unwrap().status().as_u16(), status, "{what}");
        drop(stream);
    }
    let far_over = health().header("x", "x".repeat(300_000)).body(());
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client.send_request(far_over.unwrap(), true).unwrap();
    answer.await.unwrap_err();
    assert_eq!(server.send("GET", "/healthz", &[], b"").status, 200);
}

#[tokio::test]
async fn fr_36_streams_of_one_http_2_connection_share_the_quota() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let client = connect(server.addr).await;
    // Afterwards the client knows how many streams it may open at once, and waits.
    send(client.clone(), "GET", "/healthz", Vec::new()).await;
    let began = Instant::now();
    let calls: Vec<_> = (0..15)
        .map(|_| {
            let (client, body) = (client.clone(), credentials("nobody", "wrong"));
            tokio::spawn(send(client, "POST", "/auth", body))
        })
        .collect();
    let mut let_in = 0;
    for call in calls {
        let (status, _) = call.await.unwrap();
        assert!([401, 429, 503].contains(&status), "{status}");
        let_in += u64::from(status != 429);
    }
    // Just ten, unless the machine was so slow that a second began anew.
    let most = 10 * (1 + began.elapsed().as_secs());
    assert!((10..=most).contains(&let_in), "{let_in}");
}
