//! Checks of the configuration: every value, and the mode of `.env` or of the file that
//! `--env-file` names.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::cli::report::Report;
use crate::cli::service_settings;
use crate::config::{self, Config, FILE, Settings};
use crate::domain::database::Location;

/// The parts of the configuration that the other checks need and that are valid.
#[derive(Default)]
pub(super) struct Known {
    /// None when anything is wrong with it.
    pub(super) config: Option<Config>,
    pub(super) database: Option<Location>,
    pub(super) address: Option<(String, u16)>,
    /// Host and port at which the service listened at its last start.
    pub(super) recorded_address: Option<(String, u16)>,
}

pub(super) fn check(env_file: Option<&Path>, report: &mut Report) -> Known {
    let path = env_file.unwrap_or(Path::new(FILE));
    let file = path.display();
    let known = match Settings::load(env_file) {
        Ok(mut settings) => {
            let recorded = service_settings::apply(&mut settings);
            let known = values(&settings, path, report);
            for difference in recorded.differences {
                let advice = "set it as the service does, or restart the service with it";
                report.warn("settings", difference, advice);
            }
            Known {
                recorded_address: recorded.address,
                ..known
            }
        }
        Err(e) => {
            report.fail("configuration", e.to_string(), format!("correct {file}"));
            Known::default()
        }
    };
    mode(path, report);
    known
}

fn values(settings: &Settings, path: &Path, report: &mut Report) -> Known {
    let config = Config::check(settings);
    match &config {
        Ok(config) if config.warnings.is_empty() => {
            report.ok("configuration", "every value is valid");
        }
        Ok(config) => {
            for warning in &config.warnings {
                let advice = "set it right, or remove it";
                report.warn("configuration", warning.as_str(), advice);
            }
        }
        Err(problems) => {
            for problem in problems {
                let advice = format!("set it in the environment or in {}", path.display());
                report.fail("configuration", problem.to_string(), advice);
            }
        }
    }
    Known {
        config: config.ok(),
        database: config::database(settings).ok(),
        address: config::address(settings).ok(),
        recorded_address: None,
    }
}

fn mode(path: &Path, report: &mut Report) {
    let file = path.display();
    match path.metadata() {
        Ok(meta) if meta.permissions().mode() & 0o077 == 0 => {
            report.ok(FILE, "only its owner can read it");
        }
        Ok(meta) => report.warn(
            FILE,
            format!(
                "{file} is open to users other than its owner (mode {:o}), and may hold NOT_MY_KEY",
                meta.permissions().mode() & 0o777
            ),
            format!("chmod 600 {file}"),
        ),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            report.ok(FILE, "there is none; all settings are in the environment");
        }
        Err(e) => report.fail(FILE, e.to_string(), "make it readable"),
    }
}
