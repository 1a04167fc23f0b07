//! The configuration: every value, and who may read the file it stands in.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::report::Report;
use crate::config::{self, Config, FILE, Settings};

/// What of the configuration is good enough for the checks that follow.
#[derive(Default)]
pub(super) struct Known {
    /// All of it, when nothing is wrong with it.
    pub(super) config: Option<Config>,
    pub(super) database: Option<PathBuf>,
    pub(super) address: Option<(String, u16)>,
}

pub(super) fn look(dir: &Path, report: &mut Report) -> Known {
    let known = match Settings::load(dir) {
        Ok(settings) => values(&settings, report),
        Err(e) => {
            report.fail("configuration", e.to_string(), format!("mend {FILE}"));
            Known::default()
        }
    };
    mode(&dir.join(FILE), report);
    known
}

fn values(settings: &Settings, report: &mut Report) -> Known {
    let problems = Config::problems(settings);
    for problem in &problems {
        report.fail(
            "configuration",
            problem.to_string(),
            format!("set it in the environment or in {FILE}"),
        );
    }
    let config = Config::from_settings(settings);
    match &config {
        Ok(config) if config.notices.is_empty() => {
            report.ok("configuration", "every value is within its bounds");
        }
        Ok(config) => {
            for notice in &config.notices {
                let advice = "set it, or take it out";
                report.warn("configuration", notice.as_str(), advice);
            }
        }
        // Should one list of checks ever lack what the other has.
        Err(e) if problems.is_empty() => {
            report.fail("configuration", e.to_string(), "set it right");
        }
        Err(_) => {}
    }
    Known {
        config: config.ok(),
        database: config::database(settings).ok(),
        address: config::address(settings).ok(),
    }
}

fn mode(path: &Path, report: &mut Report) {
    match path.metadata() {
        Ok(meta) if meta.permissions().mode() & 0o077 == 0 => {
            report.ok(FILE, "only its owner can read it");
        }
        Ok(meta) => report.warn(
            FILE,
            format!(
                "others than its owner can use it (mode {:o}), and it may hold NOT_MY_KEY",
                meta.permissions().mode() & 0o777
            ),
            format!("chmod 600 {FILE}"),
        ),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            report.ok(FILE, "there is none; all settings are in the environment");
        }
        Err(e) => report.fail(FILE, e.to_string(), "make it readable"),
    }
}
