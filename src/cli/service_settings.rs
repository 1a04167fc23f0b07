//! Settings of the running service, for commands: a shell often has others.

use crate::config::{self, Config, Settings};
use crate::domain::database;

/// Settings that the service of the configured database recorded at its last start.
#[derive(Default)]
pub(super) struct Recorded {
    /// Lines on settings that say something else here.
    pub(super) differences: Vec<String>,
    /// Host and port at which it listened.
    pub(super) address: Option<(String, u16)>,
}

/// Puts the recorded times of keys in place of those in `settings`, unless another
/// program has made them unusable.
pub(super) fn apply(settings: &mut Settings) -> Recorded {
    let mut found = Recorded::default();
    // Other errors are reported where the database is used.
    let Ok(recorded) = config::database(settings)
        .map_err(drop)
        .and_then(|path| database::recorded_settings(&path).map_err(drop))
    else {
        return found;
    };
    let own = Config::from_settings(settings).map(|config| config.recorded());
    let is_own_good = own.is_ok();
    let own = own.unwrap_or_default();
    let mut with_recorded = settings.clone();
    let (mut host, mut port) = (None, None);
    for (name, value) in recorded {
        match name.as_str() {
            "HOST" => host = Some(value),
            "PORT" => port = value.parse().ok(),
            _ => {
                if let Some((_, here)) = own.iter().find(|(n, here)| *n == name && *here != value) {
                    found.differences.push(format!(
                        "{name} is {here} here, but the service runs by {value}, which counts"
                    ));
                }
                with_recorded.set_recorded(&name, value);
            }
        }
    }
    match Config::from_settings(&with_recorded) {
        Err(e) if is_own_good => {
            found.differences = vec![format!(
                "the settings that the service recorded in the database cannot be used, so those here count: {e}"
            )];
        }
        _ => *settings = with_recorded,
    }
    found.address = host.zip(port);
    found
}
