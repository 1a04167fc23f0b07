//! The log: lines on standard error, written by a thread of its own, so that a
//! slow or closed reader neither delays nor stops the service. Lines that do not
//! fit into the queue are dropped.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{Config, ConfigError, Mode};

/// Starts the log. Dropping the guard writes the queued lines.
pub(super) fn start(config: &Config) -> Result<WorkerGuard, ConfigError> {
    let filter = match &config.log_filter {
        Some(filter) => filter.clone(),
        None => default_filter(config.mode),
    };
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        // They would go to standard error, which is what has failed.
        .log_internal_errors(false);
    let lines = match config.mode {
        Mode::Development => lines.boxed(),
        Mode::Production => lines.json().flatten_event(true).boxed(),
    };
    // Libraries may show at level trace what a client has sent, secrets included.
    let no_library_traces =
        filter_fn(|line| *line.level() < Level::TRACE || line.target().starts_with("jwks_server"));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter.and(no_library_traces)))
        .try_init()
        .map_err(|e| ConfigError::new(format!("the log cannot be started: {e}")))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(guard)
}

fn default_filter(mode: Mode) -> Targets {
    let everywhere = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("refinery_core", LevelFilter::WARN);
    match mode {
        // The access log has frequent requests at level debug.
        Mode::Development => everywhere
            .with_target("jwks_server", LevelFilter::DEBUG)
            .with_target("jwks_server::http::access_log", LevelFilter::INFO),
        Mode::Production => everywhere,
    }
}
