//! `check` on servers with certificates of an authority that a test makes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::left_out::left_out;
use crate::support::command;

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

/// Makes an authority, ca.pem, and the certificate request of a server on 127.0.0.1.
fn authority(dir: &Path, name: &str) -> bool {
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
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
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out {days}.pem -days {days}"
    );
    assert!(openssl(dir, &sign));
    let certificate = CertificateDer::from_pem_file(dir.join(format!("{days}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            thread::spawn(move || {
                let mut stream = BufReader::new(StreamOwned::new(connection, stream));
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                }
                let answer = b"HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
                let _ = stream.get_mut().write_all(answer);
            });
        }
    });
    port
}

/// The lines of `check` about the certificate and about the answer.
fn check(dir: &Path, port: u16, trusted: &str) -> Vec<String> {
    let mut command = command(dir);
    command.env("SSL_CERT_FILE", dir.join(trusted));
    let url = format!("https://127.0.0.1:{port}/jwks");
    let done = command.args(["check", &url]).output().unwrap();
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
