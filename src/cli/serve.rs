//! `serve`: checks everything that can be refused, opens the sockets, creates
//! files, and runs the service until a signal.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::output::{FINAL_WRITE, for_at_most, say};
use super::{Failure, ServeArgs, init, log};
use crate::app::App;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, DemoUser, FILE, Mode, Settings, name};
use crate::domain::database::{self, Location};
use crate::domain::rotation::Rsa2048;
use crate::http::listen::{self, Listeners};
use crate::systemd::Supervision;

/// Threads for reads of the database, signatures and new keys.
const BLOCKING_THREADS: usize = 32;
/// Open files that are enough for all connections and the database.
const OPEN_FILES: u64 = 16 * 1024;
/// Signals come in pairs: Ctrl-C reaches a whole process group, and its leader passes
/// one on. What comes within this time of the first asks for no more than that did.
const SIGNAL_PAIR_WINDOW: Duration = Duration::from_millis(500);
/// Exit code after a second signal.
const STOPPED_AT_ONCE: i32 = 1;

pub(super) fn run(args: ServeArgs, env_file: Option<&Path>) -> Result<(), Failure> {
    let here = Path::new(".");
    if args.init && env_file.is_some() {
        let text = "--init creates .env, and cannot be used with --env-file";
        return Err(Failure::refused(text));
    }
    let mut settings = Settings::load(env_file)?;
    let new_key = match args.init {
        true => init::new_sealing_key(here, &settings)?,
        false => None,
    };
    if let Some(key) = &new_key {
        settings.set(name::NOT_MY_KEY, key.to_string());
    }
    let mut config = Config::from_settings(&settings)?;
    // It holds NOT_MY_KEY and passwords of demo users as plain text.
    drop(settings);
    for text in &args.demo_user {
        let user = config::demo_user(text);
        let mut user = user.map_err(|e| Failure::refused(format!("--demo-user: {e}")))?;
        user.is_seen_by_all = true;
        config.accounts.demo_users.push(user);
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let sealing_keys = &config.keys.sealing_keys;
    let has_keys = database::check_keys(&config.database, sealing_keys, clock.now())?;
    let log = log::start(&config)?;
    let outcome = run_logged(config, clock, new_key, has_keys);
    // Writes the queued lines. With a full queue the guard prints a warning on
    // standard output, which may block and even panic.
    for_at_most(FINAL_WRITE, move || drop(log));
    outcome
}

fn run_logged(
    config: Config,
    clock: Arc<dyn Clock>,
    new_key: Option<Zeroizing<String>>,
    has_keys: bool,
) -> Result<(), Failure> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    raise_file_limit();
    if config.mode == Mode::Production {
        forbid_memory_reads();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|e| Failure::broken(format!("the service cannot be started: {e}")))?;
    let outcome = runtime.block_on(serve(config, clock, new_key, has_keys));
    // A thread that reads a file or asks a resolver may be stuck.
    runtime.shutdown_timeout(FINAL_WRITE);
    outcome
}

async fn serve(
    mut config: Config,
    clock: Arc<dyn Clock>,
    new_key: Option<Zeroizing<String>>,
    has_keys: bool,
) -> Result<(), Failure> {
    let stop = stop_on_signal()?;
    let listeners = listeners(&config)?;
    log_addresses(&listeners);
    let supervision = Supervision::from_env();
    if let Some(key) = new_key {
        init::create_env_file(Path::new("."), &key)?;
        tracing::warn!("created {FILE} with a fresh NOT_MY_KEY; keep a copy of it");
    } else if !has_keys {
        let (at, mend) = match config.database.file() {
            Some(path) => (
                Location::Sqlite(std::path::absolute(path).unwrap_or(path.to_owned())),
                "set DATABASE_URL, change the working directory, or put a backup there with `jwks-server restore`",
            ),
            None => (
                config.database.clone(),
                "check the server and the name of the database in DATABASE_URL, or put a backup there with pg_restore",
            ),
        };
        tracing::warn!(
            "the database {at} has no keys yet, though NOT_MY_KEY was set before. At a first start that is as it should be. If there was a database already, this is not the one: stop, then {mend}"
        );
    }
    let demo_users = std::mem::take(&mut config.accounts.demo_users);
    let may_seal = config.mode == Mode::Development;
    let store = database::open(&config.database, &config.keys.sealing_keys, may_seal).await?;
    if let Some(addr) = listeners.service.first().and_then(|l| l.local_addr().ok()) {
        config.network.port = addr.port();
    }
    let life = config.keys.policy.key_lifetime;
    if let Err(e) = store.record_settings(config.recorded(), life).await {
        // As on a full disk, on which keys must go on being published.
        tracing::warn!("commands will not know the settings of the service: {e}");
    }
    let threads = available_parallelism().map_or(1, usize::from);
    let app = App::new(config, store, clock, Arc::new(Rsa2048), threads)
        .map_err(|e| Failure::broken(format!("the hashing threads cannot be started: {e}")))?;
    for user in demo_users {
        create_demo_user(&app, user).await?;
    }
    app.run(listeners, supervision, stop)
        .await
        .map_err(|e| Failure::broken(e.to_string()))
}

async fn create_demo_user(app: &App, user: DemoUser) -> Result<(), Failure> {
    let name = user.username.as_str().to_owned();
    if user.is_seen_by_all {
        tracing::warn!(
            "--demo-user: every user of this machine can read the password in the list of processes; set DEMO_USER in the environment or in .env instead"
        );
    }
    let is_new = app
        .state
        .accounts
        .ensure(user.username, user.password, app.state.clock.now())
        .await
        .map_err(|e| Failure::broken(format!("the demo user {name} cannot be created: {e}")))?;
    if is_new {
        tracing::warn!(
            "DEMO USER {name} was created with a password that is no secret; never do this in production"
        );
    } else {
        tracing::warn!(
            "DEMO USER {name} exists already and keeps its password; never do this in production"
        );
    }
    Ok(())
}

fn listeners(config: &Config) -> Result<Listeners, Failure> {
    let refused = |what: String| {
        move |e: io::Error| Failure::refused(format!("{what} cannot be listened on: {e}"))
    };
    let (host, port) = (&config.network.host, config.network.port);
    let service = listen::listen(host, port).map_err(refused(format!(
        "HOST={} PORT={port}",
        config::redacted(host)
    )))?;
    let metrics = match &config.network.metrics {
        Some((host, port)) => listen::listen(host, *port).map_err(refused(format!(
            "METRICS_ADDR={}:{port}",
            config::redacted(host)
        )))?,
        None => Vec::new(),
    };
    Ok(Listeners { service, metrics })
}

fn log_addresses(listeners: &Listeners) {
    let each = |listeners: &[TcpListener], what: &str, path: &str| {
        for listener in listeners {
            match listener.local_addr() {
                Ok(addr) => tracing::info!("{what} http://{addr}{path}"),
                Err(e) => tracing::warn!("{what} an unknown address: {e}"),
            }
        }
    };
    each(&listeners.service, "listening on", "");
    each(&listeners.metrics, "metrics are at", "/metrics");
    each(&listeners.metrics, "a page of them is at", "/");
}

/// A token that the first SIGTERM, SIGINT or SIGHUP cancels; a later one ends the
/// process. The handlers are set explicitly, since process 1 has no default ones.
fn stop_on_signal() -> Result<CancellationToken, Failure> {
    let listen =
        |kind| signal(kind).map_err(|e| Failure::broken(format!("signals cannot be handled: {e}")));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let mut first = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
            let first = first.get_or_insert_with(Instant::now);
            if !stopping.is_cancelled() {
                tracing::info!("stopping; another signal, after half a second, stops at once");
                stopping.cancel();
            } else if first.elapsed() >= SIGNAL_PAIR_WINDOW {
                say("stopped at once by a second signal");
                std::process::exit(STOPPED_AT_ONCE);
            }
        }
    });
    Ok(stop)
}

/// Makes the memory unreadable for other processes of the same user and for core
/// dumps. Not in development, where a debugger may attach.
fn forbid_memory_reads() {
    if let Err(e) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("other processes of this user can read the memory: {e}");
    }
}

/// Raises the soft limit of open files to what the bound on connections needs;
/// with fewer, accepting pauses when they run out.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|now| now < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            ..limit
        };
        if let Err(e) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the limit of open files stays at {:?}: {e}", limit.current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_closed_to_other_processes() {
        forbid_memory_reads();
        let behavior = rustix::process::dumpable_behavior();
        assert!(matches!(behavior, Ok(DumpableBehavior::NotDumpable)));
    }
}
