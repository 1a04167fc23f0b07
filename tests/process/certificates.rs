//! `check` on servers with certificates of an authority that a test makes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::left_out::left_out;
use crate::support::{command, outer_address};

/// False when there is no openssl.
fn openssl(dir: &Path, args: &str) -> bool {
    let args = args.split(' ').map(|arg| arg.replace('_', " "));
    let done = Command::new("openssl").args(args).current_dir(dir).output();
    done.is_ok_and(|done| {
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{error}");
        true
    })
}

/// Makes an authority, ca.pem, and the certificate request of a server on 127.0.0.1 and
/// on the outer address.
fn authority(dir: &Path, name: &str) -> bool {
    let outer = outer_address().map(|ip| format!(",IP:{ip}"));
    let names = format!("subjectAltName=IP:127.0.0.1{}", outer.unwrap_or_default());
    std::fs::write(dir.join("names"), names).unwrap();
    let authority = format!(
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 365 -subj /CN={name}"
    );
    openssl(dir, &authority)
        && openssl(
            dir,
            "req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=server_of_a_test",
        )
}

/// The port of a server whose certificate is good for some days.
fn server(dir: &Path, days: i32) -> u16 {
    let sign = format!(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out cert.pem -days {days}"
    );
    assert!(openssl(dir, &sign));
    let answer = "HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: 11\r\n\r\n{\"keys\":[]}";
    serve(dir, Ipv4Addr::LOCALHOST.into(), answer.to_owned())
}

/// The port of a server with the certificate of cert.pem, which answers all alike.
fn serve(dir: &Path, ip: IpAddr, answer: String) -> u16 {
    let certificate = CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let answer = answer.clone();
            thread::spawn(move || {
                let mut stream = BufReader::new(StreamOwned::new(connection, stream));
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                }
                let _ = stream.get_mut().write_all(answer.as_bytes());
            });
        }
    });
    port
}

/// The lines of `check` about the certificate and about the answer.
fn check(dir: &Path, port: u16, trusted: &str) -> Vec<String> {
    check_at(dir, &format!("https://127.0.0.1:{port}/jwks"), trusted)
}

fn check_at(dir: &Path, url: &str, trusted: &str) -> Vec<String> {
    let mut command = command(dir);
    command.env("SSL_CERT_FILE", dir.join(trusted));
    let done = command.args(["check", url]).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let is_it = |line: &&str| line.contains(" certificate ") || line.contains(" http ");
    text.lines().filter(is_it).map(str::to_owned).collect()
}

#[test]
fn the_days_left_of_a_certificate_are_said_and_few_of_them_warn() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if !authority(dir, "authority_of_a_test") {
        return left_out("certificates for check", "there is no openssl");
    }
    for (days, level, advice) in [
        (60, "ok    certificate", None),
        (20, "warn  certificate", Some("-> renew it, ")),
        (5, "warn  certificate", Some("-> renew it now")),
        (-1, "fail  certificate", None),
    ] {
        let lines = check(dir, server(dir, days), "ca.pem");
        let line = &lines[0];
        assert!(line.starts_with(level), "{lines:#?}");
        assert!(line.contains("127.0.0.1: "), "{line}");
        // A second after it was made, a day less is left.
        let says_left = [days - 1, days].map(|left| line.contains(&format!("; {left} days left")));
        assert_eq!(says_left.contains(&true), days > 0, "{line}");
        assert_eq!(line.contains("has expired"), days < 0, "{line}");
        assert!(advice.is_none_or(|advice| line.contains(advice)), "{line}");
        let says_chain = line.contains("1 sent, trusted here, by CN=authority of a test");
        assert_eq!(says_chain, days > 0, "{line}");
        assert_eq!(lines[1].starts_with("ok "), days > 0, "{lines:#?}");
    }
}

#[test]
fn a_certificate_of_an_authority_that_nobody_trusts_fails() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir_in(dir.path()).unwrap();
    if !authority(dir.path(), "ours") || !authority(other.path(), "another") {
        return left_out("certificates for check", "there is no openssl");
    }
    let trusted = other.path().join("ca.pem");
    let lines = check(
        dir.path(),
        server(dir.path(), 60),
        trusted.to_str().unwrap(),
    );
    let expected = "this machine does not trust the chain that was sent";
    assert!(lines[0].starts_with("fail  certificate"), "{lines:#?}");
    assert!(lines[0].contains(expected), "{lines:#?}");
}

#[test]
fn a_server_without_tls_at_an_https_url_is_said_to_be_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let dir = tempfile::tempdir().unwrap();
    if !authority(dir.path(), "authority_of_a_test") {
        return left_out("certificates for check", "there is no openssl");
    }
    let lines = check(dir.path(), port, "ca.pem");
    let expected = "127.0.0.1: received corrupt message";
    assert!(lines[0].starts_with("fail  certificate"), "{lines:#?}");
    assert!(lines[0].contains(expected), "{lines:#?}");
}

#[test]
fn the_days_of_a_certificate_that_signs_itself_count() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if !authority(dir, "authority_of_a_test") {
        return left_out("certificates for check", "there is no openssl");
    }
    let sign = "x509 -req -in request.pem -signkey key.pem -extfile names -out cert.pem -days 20";
    assert!(openssl(dir, sign));
    let port = serve(dir, Ipv4Addr::LOCALHOST.into(), String::new());
    let line = &check(dir, port, "cert.pem")[0];
    assert!(line.starts_with("warn  certificate"), "{line}");
    let says_chain = line.contains("1 sent, trusted here, by CN=server of a test");
    assert!(says_chain && line.contains(" days left"), "{line}");
}

#[test]
fn a_server_that_stays_silent_and_one_that_closes_are_told_apart() {
    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let [closing_port, silent_port] = [&closing, &silent].map(|it| it.local_addr().unwrap().port());
    thread::spawn(move || closing.incoming().for_each(drop));
    // Discovery asks three times before the certificate is asked for.
    thread::spawn(move || {
        let fourth = silent.incoming().nth(3);
        silent.incoming().for_each(drop);
        drop(fourth);
    });
    let dir = tempfile::tempdir().unwrap();
    if !authority(dir.path(), "authority_of_a_test") {
        return left_out("certificates for check", "there is no openssl");
    }
    for (port, expected) in [
        (
            closing_port,
            "it closed the connection during the handshake",
        ),
        (silent_port, "no TLS handshake within 10 s"),
    ] {
        let line = &check(dir.path(), port, "ca.pem")[0];
        assert!(line.starts_with("fail  certificate"), "{line}");
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn a_redirection_from_elsewhere_sends_no_request_to_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let Some(ip) = outer_address() else {
        return left_out("a redirection to this machine", "there is no other address");
    };
    if !authority(dir, "authority_of_a_test") {
        return left_out("certificates for check", "there is no openssl");
    }
    let inner = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("https://{}/jwks", inner.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in inner.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    let sign = "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out cert.pem -days 60";
    assert!(openssl(dir, sign));
    let head = format!("HTTP/1.1 302 x\r\nConnection: close\r\nLocation: {target}");
    let port = serve(dir, ip, format!("{head}\r\nContent-Length: 0\r\n\r\n"));
    let lines = check_at(dir, &format!("https://{ip}:{port}/jwks"), "ca.pem");
    assert_eq!(asked.load(Ordering::Relaxed), 0, "{lines:#?}");
    let last = lines.last().unwrap();
    assert!(last.starts_with("fail  http"), "{lines:#?}");
    assert!(last.contains("it leads to this machine"), "{lines:#?}");
}
