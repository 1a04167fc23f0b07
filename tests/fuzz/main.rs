//! The fuzz targets on a stable toolchain: the whole corpus, then changed
//! copies of it at random for as long as `FUZZ_SECONDS` says, one second a
//! target by default. `long` runs the same targets under libFuzzer for hours.
#![expect(
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop, and say on what"
)]

mod changes;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use changes::Changes;
use targets::Target;

/// No input may take longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the process may have had resident at any time, KiB.
const MOST_MEMORY: u64 = 512 * 1024;

#[test]
fn requests() {
    fuzz(Target::Requests);
}

#[test]
fn settings() {
    fuzz(Target::Settings);
}

#[test]
fn sealed() {
    fuzz(Target::Sealed);
}

#[test]
fn hashes() {
    fuzz(Target::Hashes);
}

#[test]
fn forwarded() {
    fuzz(Target::Forwarded);
}

fn fuzz(target: Target) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "no corpus for {}", target.name());
    for (path, input) in &corpus {
        run(target, input, &path.display().to_string());
    }
    let seconds = std::env::var("FUZZ_SECONDS").map_or(1, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut changes = Changes::new(corpus.into_iter().map(|(_, input)| input).collect());
    let mut runs = 0;
    while Instant::now() < until {
        let input = changes.next();
        run(target, &input, "a changed copy");
        runs += 1;
    }
    let memory = peak_memory();
    println!("{}: {runs} runs, peak {memory} KiB", target.name());
    assert!(memory < MOST_MEMORY, "{memory} KiB");
}

fn run(target: Target, input: &[u8], name: &str) {
    let begun = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target.run(input)));
    let shown = || format!("{} on {name}: b\"{}\"", target.name(), input.escape_ascii());
    if let Err(panic) = outcome {
        eprintln!("{}", shown());
        resume_unwind(panic);
    }
    assert!(begun.elapsed() < PATIENCE, "too slow: {}", shown());
}

/// The inputs that are kept, in order.
fn corpus(target: Target) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target.name());
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// The most memory that was resident, KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}
