//! Tests that cannot run on this machine say that they were skipped: libtest has no
//! result between passed and failed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Prints and counts what the current test leaves out. Past libtest's capture, since
/// the test passes, and into the file that `LEFT_OUT_FILE` names, where a run of several
/// programs counts them.
pub fn left_out(what: &str, why: &str) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("{test}: {what}: {why}\n");
    let _ = write!(std::io::stderr(), "LEFT OUT ({count}): {line}");
    if let Some(file) = std::env::var_os("LEFT_OUT_FILE") {
        let mut file = OpenOptions::new().append(true).create(true).open(file);
        file.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }
}
