//! `doctor`: looks at all that the service depends on and says what to do. It
//! changes nothing, works without a running service, and beside one. A file
//! for each part that is looked at.

mod configuration;
mod database;
mod keys;
mod machine;
mod report;
mod service;

use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::{Failure, print};
use crate::clock::{Clock as _, SystemClock};
use report::Report;

pub(super) const EXIT_CODES: &str = "\
Each line says ok, warn or fail, what was looked at, and what to do.

Exit codes:
  0  nothing failed; there may be warnings
  1  something failed
  2  wrong usage";

/// Keys may come and go between two looks; a server follows within this time.
const FOLLOWS: Duration = Duration::from_millis(1200);

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// JSON for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: DoctorArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::broken(e.to_string()))?;
    let report = examine(&runtime);
    print(&report.render(args.json))?;
    match report.failures() {
        0 => Ok(()),
        1 => Err(Failure::broken("a check has failed")),
        n => Err(Failure::broken(format!("{n} checks have failed"))),
    }
}

fn examine(runtime: &tokio::runtime::Runtime) -> Report {
    let clock = SystemClock::new();
    let began = (clock.now(), clock.monotonic());
    let mut report = Report::default();
    let here = Path::new(".");
    let known = configuration::look(here, &mut report);
    let place = known.address.as_ref();
    let port = place.map(|(host, port)| service::look_at_port(runtime, host, *port));
    let running = port.as_ref().is_some_and(service::Port::is_ours);

    let mut held = None;
    if let Some(path) = &known.database {
        held = database::look(path, &mut report);
        if let (Some(held), Some(config)) = (&held, &known.config) {
            keys::look(held, config, clock.now(), running, &mut report);
        }
        machine::disk(path, &mut report);
    }
    let newest = held.as_ref().and_then(database::newest_moment);
    if let Some(config) = &known.config {
        machine::password_hash(runtime, config.costs, &mut report);
    }
    if let Some(port) = port {
        port.tell(&mut report);
        if let Some(server) = port.server() {
            let look_again = || {
                std::thread::sleep(FOLLOWS);
                database::look(known.database.as_deref()?, &mut Report::default())
            };
            service::look(server, &known, held.as_ref(), look_again, &mut report);
        }
    }
    machine::clock(&clock, began, newest, &mut report);
    report
}
