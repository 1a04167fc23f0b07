//! The log: lines on standard error, written by a thread of their own, so that
//! neither a slow nor a closed reader holds up or stops the service. When the
//! writer cannot keep up, lines are dropped.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{Config, ConfigError, Mode};

/// Starts the log. What is left is written when the guard is dropped.
pub(super) fn start(config: &Config) -> Result<WorkerGuard, ConfigError> {
    let filter = match &config.log_filter {
        Some(filter) => filter.clone(),
        None => default_filter(config.mode),
    };
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        // It would be reported on standard error, which is what has failed.
        .log_internal_errors(false);
    let lines = match config.mode {
        Mode::Development => lines.boxed(),
        Mode::Production => lines.json().flatten_event(true).boxed(),
    };
    // Level trace is for our own code: others may show there what a client has
    // sent, and it is not ours to promise that they do not.
    let no_traces_of_others =
        filter_fn(|line| *line.level() < Level::TRACE || line.target().starts_with("jwks_server"));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter.and(no_traces_of_others)))
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
        // What is debug in `observe` is what is asked for all the time.
        Mode::Development => everywhere
            .with_target("jwks_server", LevelFilter::DEBUG)
            .with_target("jwks_server::http::access_log", LevelFilter::INFO),
        Mode::Production => everywhere,
    }
}
