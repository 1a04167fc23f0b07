//! `doctor`: checks all that the service depends on and says what to do. Changes
//! nothing; works with and without a running service. A file for each part.

mod configuration;
mod database;
mod keys;
mod machine;
mod service;

use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;

use super::report::Report;
use super::{Failure, runtime};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::domain::database::newest_time;

pub(super) const EXIT_CODES: &str = "\
Each line says ok, warn or fail, the check, what it found, and what to do.

Exit codes:
  0  nothing failed; there may be warnings
  1  something failed
  2  wrong usage";

/// Time in which a running server usually follows a change of the keys.
const FOLLOWS_WITHIN: Duration = Duration::from_millis(1200);

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: DoctorArgs, env_file: Option<&Path>) -> Result<(), Failure> {
    let report = check_all(&runtime()?, env_file);
    report.finish(args.json)
}

fn check_all(runtime: &Runtime, env_file: Option<&Path>) -> Report {
    let clock = SystemClock::new();
    let began = (clock.now(), clock.monotonic());
    let mut report = Report::default();
    let known = configuration::check(env_file, &mut report);
    let find = |(host, port): &(String, u16)| service::find(host, *port);
    let recorded = known.recorded_address.as_ref().map(find);
    // A service that has stopped may have listened elsewhere.
    let running = recorded.filter(|port| port.server().is_some());
    let port = running.or_else(|| known.address.as_ref().map(find));
    let server = port.as_ref().and_then(service::Port::server);

    let mut inspection = None;
    if let Some(at) = &known.database {
        let tolerance = known.config.as_ref().map(Config::clock_tolerance);
        inspection = database::check(at, tolerance, &mut report);
        if let (Some(found), Some(config)) = (&inspection, &known.config) {
            keys::check(found, config, clock.now(), server.is_some(), &mut report);
        }
        if let Some(path) = at.file() {
            machine::disk(path, &mut report);
        }
    }
    if let Some(config) = &known.config {
        machine::password_hash(runtime, config, &mut report);
    }
    if let Some(port) = &port {
        port.check(&mut report);
    }
    if let Some(server) = server {
        let inspect_again = || {
            std::thread::sleep(FOLLOWS_WITHIN);
            database::check(known.database.as_ref()?, None, &mut Report::default())
        };
        let config = known.config.as_ref();
        service::check(
            server,
            config,
            inspection.as_ref(),
            inspect_again,
            &mut report,
        );
    }
    let newest = inspection.as_ref().and_then(newest_time);
    machine::clock(&clock, began, newest, &mut report);
    report
}
