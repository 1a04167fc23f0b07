//! The file `.env`, read as the service does at its start.

use std::sync::LazyLock;

use jwks_server::config::{Config, Settings, name};
use tempfile::TempDir;

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

pub fn run(data: &[u8]) {
    let file = DIR.path().join(".env");
    std::fs::write(&file, data).unwrap();
    let settings = match Settings::load(Some(&file)) {
        Ok(settings) => settings,
        Err(e) => return is_one_line(&e.to_string()),
    };
    match Config::check(&settings) {
        Ok(config) => has_no_key_of_its_own(&settings, &format!("{config:?}")),
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                is_one_line(&problem.to_string());
                has_no_key(&settings, &problem.to_string());
            }
        }
    }
}

/// The debug output of a configuration holds no key, unless one was also given to a
/// variable that is no secret.
fn has_no_key_of_its_own(settings: &Settings, shown: &str) {
    let open = [
        name::HOST,
        name::ISSUER,
        name::AUDIENCE,
        name::DATABASE_URL,
        name::DEMO_USER,
        name::RUST_LOG,
        name::METRICS_ADDR,
    ];
    for key in keys(settings) {
        let is_in = |name| settings.get(name).is_some_and(|value| value.contains(key));
        assert!(
            open.into_iter().any(is_in) || !shown.contains(key),
            "{shown}"
        );
    }
}

/// A message holds no key, wherever one was given.
fn has_no_key(settings: &Settings, message: &str) {
    for key in keys(settings) {
        assert!(!message.contains(key), "{message}");
    }
}

fn keys(settings: &Settings) -> impl Iterator<Item = &str> {
    let entries = settings
        .get(name::NOT_MY_KEY)
        .unwrap_or_default()
        .split(',');
    let is_of_a_key = |c: char| c.is_ascii_alphanumeric() || "-_+/".contains(c);
    entries.map(str::trim).filter(move |entry| {
        entry.trim_end_matches('=').len() >= 43 && entry.chars().all(is_of_a_key)
    })
}

fn is_one_line(text: &str) {
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}
