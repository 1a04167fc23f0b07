//! The fuzz targets on a stable toolchain: the whole corpus, then changed
//! copies of it, about a second's worth for each target, or `FUZZ_TIMES` as many.
//! Other copies in each run; `FUZZ_SEED` repeats those of an earlier run. `long`
//! runs the same targets under libFuzzer for hours.
#![expect(
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop, and say on what"
)]

mod changes;
#[path = "../shared/seed.rs"]
mod seed;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use changes::Changes;
use targets::Target;

/// No input may take longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most memory that the process may have had resident at any time, KiB.
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
    let known = corpus.into_iter().map(|(_, input)| input).collect();
    let mut changes = Changes::new(known, seed::seed("FUZZ_SEED"));
    let runs = number("FUZZ_TIMES", 1) * target.runs_in_a_second();
    for _ in 0..runs {
        run(target, &changes.next(), "a changed copy");
    }
    let memory = peak_memory();
    println!("{}: {runs} runs, peak {memory} KiB", target.name());
    assert!(memory < MOST_MEMORY, "{memory} KiB");
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
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
