//! What a service manager asks for (sd_notify(3), sd_watchdog_enabled(3)). Only
//! of the real environment: it is for this one process.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

/// Where and how often to report; nowhere, when nobody asks.
#[derive(Clone, Debug, Default)]
pub struct Supervision {
    /// `NOTIFY_SOCKET`: a path, or a name after `@`.
    pub socket: Option<SocketAddr>,
    /// `WATCHDOG_USEC`: after so long without a sign of life the process is
    /// taken for hung.
    pub watchdog: Option<Duration>,
    /// What is worth a line in the log once there is one.
    pub notice: Option<String>,
}

impl Supervision {
    /// Reads the process environment.
    pub fn from_env() -> Self {
        Self::from_parts(|name| std::env::var_os(name), std::process::id())
    }

    fn from_parts(get: impl Fn(&str) -> Option<OsString>, process: u32) -> Self {
        let Some(named) = get("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let number = |name| get(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = get("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID").is_some_and(|pid| pid == u64::from(process));
        let watchdog = number("WATCHDOG_USEC").filter(|&micros| is_ours && micros > 0);
        let socket = address(named.as_bytes());
        Self {
            notice: socket.is_none().then(|| {
                "NOTIFY_SOCKET is neither a path nor a name after @; the service manager is told nothing"
                    .to_owned()
            }),
            watchdog: watchdog.map(Duration::from_micros),
            socket,
        }
    }
}

fn address(named: &[u8]) -> Option<SocketAddr> {
    match named {
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(named)).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervision(variables: &[(&str, &str)]) -> Supervision {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Supervision::from_parts(get, 7)
    }

    #[test]
    fn sockets_are_paths_or_abstract_names_and_anything_else_is_remarked_upon() {
        let path = supervision(&[("NOTIFY_SOCKET", "/run/notify")]);
        let socket = path.socket.unwrap();
        assert_eq!(socket.as_pathname(), Some("/run/notify".as_ref()));
        let name = supervision(&[("NOTIFY_SOCKET", "@notify")]);
        let socket = name.socket.unwrap();
        assert_eq!(socket.as_abstract_name(), Some(b"notify".as_ref()));
        assert!(path.notice.is_none() && name.notice.is_none());
        for odd in ["vsock:2:1", "notify", "@"] {
            let odd = supervision(&[("NOTIFY_SOCKET", odd)]);
            assert!(odd.socket.is_none() && odd.notice.is_some());
        }
        for none in [vec![], vec![("NOTIFY_SOCKET", "")]] {
            let none = supervision(&none);
            assert!(none.socket.is_none() && none.notice.is_none());
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let socket = ("NOTIFY_SOCKET", "/run/notify");
        let usec = ("WATCHDOG_USEC", "30000000");
        let within = |pid: &[(&'static str, &'static str)]| {
            supervision(&[&[socket, usec], pid].concat()).watchdog
        };
        let seconds = Some(Duration::from_secs(30));
        assert_eq!(within(&[]), seconds);
        assert_eq!(within(&[("WATCHDOG_PID", "7")]), seconds);
        assert_eq!(within(&[("WATCHDOG_PID", "8")]), None);
        assert_eq!(within(&[("WATCHDOG_PID", "x")]), None);
        assert_eq!(
            supervision(&[socket, ("WATCHDOG_USEC", "0")]).watchdog,
            None
        );
        assert_eq!(supervision(&[usec]).watchdog, None);
    }
}
