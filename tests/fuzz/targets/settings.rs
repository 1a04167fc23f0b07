//! The file `.env`, read as the service does at its start.

use std::sync::LazyLock;

use jwks_server::config::{Config, Settings};
use tempfile::TempDir;

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

pub fn run(data: &[u8]) {
    std::fs::write(DIR.path().join(".env"), data).unwrap();
    let settings = match Settings::load(DIR.path()) {
        Ok(settings) => settings,
        Err(e) => return is_one_line(&e.to_string()),
    };
    let all = Config::problems(&settings);
    match Config::from_settings(&settings) {
        Ok(config) => {
            assert!(all.is_empty(), "accepted, though {all:?}");
            let shown = format!("{config:?}");
            let secret = settings.get("NOT_MY_KEY").unwrap();
            assert!(!shown.contains(secret));
        }
        Err(e) => assert!(!all.is_empty(), "nothing is wrong, but {e}"),
    }
    for problem in all {
        is_one_line(&problem.to_string());
    }
}

fn is_one_line(text: &str) {
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}
