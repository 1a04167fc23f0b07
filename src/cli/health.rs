//! `health`: is the service of these settings ready? For images without curl.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::operator::{self, Output};
use super::terminal::{document, plain};
use super::{Failure, fetch, print, service_settings};
use crate::config;

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  the service is ready
  1  it is not, or does not answer within 5 s; one line says why
  2  wrong usage";

const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run(args: Output, env_file: Option<&Path>) -> Result<(), Failure> {
    let readiness = base(env_file).and_then(|base| readiness(&base, TIMEOUT));
    if args.json {
        let (warning, error) = match &readiness {
            Ok(warning) => (warning.as_ref(), None),
            Err(why) => (None, Some(why)),
        };
        let ready = error.is_none();
        print(&document(
            &json!({ "ready": ready, "warning": warning, "error": error }),
        ))?;
    } else if let Ok(warning) = &readiness {
        // Whatever listens on the port may have answered.
        let warning = warning
            .as_ref()
            .map(|text| format!(", but {}", plain(text)));
        print(&format!(
            "the service is ready{}\n",
            warning.unwrap_or_default()
        ))?;
    }
    // Exit code 2 is reserved by Docker, so wrong settings end with 1 too.
    readiness.map(drop).map_err(Failure::broken)
}

/// URL without a path of the service of these settings.
fn base(env_file: Option<&Path>) -> Result<String, String> {
    let mut settings = operator::settings(env_file).map_err(|e| e.to_string())?;
    let (host, port) = match config::address(&settings).map_err(|e| e.to_string())? {
        (_, 0) => service_settings::apply(&mut settings)
            .address
            .ok_or("PORT=0, and no start of the service is recorded in the database")?,
        address => address,
    };
    Ok(fetch::local_url(&host, port, ""))
}

/// Asks `/readyz` for the warning of a service that is ready, or why it is not.
pub(super) fn readiness(base: &str, timeout: Duration) -> Result<Option<String>, String> {
    let reply = fetch::get_within(&format!("{base}/readyz"), timeout)
        .map_err(|why| format!("{base}/readyz: {why}"))?;
    if reply.status != 200 {
        let body = String::from_utf8_lossy(&reply.body);
        let (status, body) = (reply.status, body.trim());
        return Err(format!("{base}/readyz has status {status}: {body}"));
    }
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    Ok(body["warning"].as_str().map(str::to_owned))
}
