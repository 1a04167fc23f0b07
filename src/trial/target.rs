//! Sends a token to the tried verifier and says how it answered.

use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::{Pid, Signal, kill_process_group};
use ureq::{Agent, Error};

use crate::text::is_plain;

/// Longest wait for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a body, or of standard error, that are read; the rest is dropped.
const MAX_OUTPUT: u64 = 64 * 1024;
/// Characters of a message that are shown.
const MAX_SHOWN: usize = 200;

pub enum Target {
    Url {
        agent: Agent,
        url: String,
        place: Place,
    },
    Command {
        line: String,
        /// Environment variables that tell of the issuer.
        env: Vec<(&'static str, String)>,
    },
}

/// Part of the request that has the token.
pub enum Place {
    Bearer,
    Header(String),
    Cookie(String),
    Query(String),
    Form(String),
}

pub enum Answer {
    /// Status of HTTP, or exit code.
    Code(u16, String),
    /// The connection ended without an answer.
    Closed(String),
    /// There was no connection.
    Unreachable(String),
    /// A signal ended the command.
    Killed(String),
    TimedOut,
}

impl Target {
    pub fn send(&self, token: &str) -> Answer {
        match self {
            Self::Url { agent, url, place } => request(agent, url, place, token),
            Self::Command { line, env } => run(line, env, token)
                .unwrap_or_else(|e| Answer::Unreachable(format!("it cannot be run: {e}"))),
        }
    }
}

fn request(agent: &Agent, url: &str, place: &Place, token: &str) -> Answer {
    let encoded = || utf8_percent_encode(token, NON_ALPHANUMERIC);
    let sent = match place {
        Place::Bearer => {
            let value = format!("Bearer {token}");
            agent.get(url).header("Authorization", value).call()
        }
        Place::Header(name) => agent.get(url).header(name, token).call(),
        Place::Cookie(name) => {
            let value = format!("{name}={token}");
            agent.get(url).header("Cookie", value).call()
        }
        Place::Query(name) => {
            let joint = if url.contains('?') { '&' } else { '?' };
            agent
                .get(format!("{url}{joint}{name}={}", encoded()))
                .call()
        }
        Place::Form(name) => agent
            .post(url)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .send(format!("{name}={}", encoded())),
    };
    match sent {
        Ok(mut response) => {
            let body = response.body_mut().with_config().limit(MAX_OUTPUT);
            // A body that cannot be read changes nothing about the status.
            let text = body.lossy_utf8(true).read_to_string().unwrap_or_default();
            Answer::Code(response.status().as_u16(), shown(&text))
        }
        Err(Error::Timeout(_)) => Answer::TimedOut,
        Err(Error::Io(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            Answer::Unreachable(format!("{url}: {e}"))
        }
        Err(e @ (Error::ConnectionFailed | Error::HostNotFound | Error::BadUri(_))) => {
            Answer::Unreachable(format!("{url}: {e}"))
        }
        Err(e) => Answer::Closed(shown(&e.to_string())),
    }
}

/// Runs a command of the shell with the token on its standard input, in a process
/// group of its own, of which nothing is left afterwards.
fn run(line: &str, env: &[(&'static str, String)], token: &str) -> std::io::Result<Answer> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .envs(env.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let group = Pid::from_child(&child);
    let (token, stdin, stderr) = (token.to_owned(), child.stdin.take(), child.stderr.take());
    thread::spawn(move || {
        // It may decide without reading all of it.
        stdin.map(|mut stdin| stdin.write_all(token.as_bytes()))
    });
    let (said, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
            let _ = said.send(bytes);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        }
    });
    let ended = wait(child);
    let timed_out = ended.recv_timeout(TIMEOUT);
    // What the command started may hold its standard error open.
    let _ = kill_process_group(group, Signal::KILL);
    let Ok(status) = timed_out else {
        let _ = ended.recv_timeout(TIMEOUT);
        return Ok(Answer::TimedOut);
    };
    let status = status?;
    let said = heard.recv_timeout(TIMEOUT).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let last = shown(
        said.lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or_default(),
    );
    let code = status.code().and_then(|code| u16::try_from(code).ok());
    Ok(match (code, status.signal()) {
        (Some(code), _) => Answer::Code(code, last),
        (None, signal) => Answer::Killed(format!("signal {}: {last}", signal.unwrap_or(0))),
    })
}

fn wait(mut child: Child) -> mpsc::Receiver<std::io::Result<std::process::ExitStatus>> {
    let (ended, waiter) = mpsc::channel();
    thread::spawn(move || ended.send(child.wait()));
    waiter
}

/// A message for one line of a terminal.
fn shown(text: &str) -> String {
    let line = text.trim().chars().take(MAX_SHOWN);
    line.map(|c| if is_plain(c) { c } else { ' ' }).collect()
}
