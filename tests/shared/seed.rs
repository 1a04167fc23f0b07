//! The seed of a run's random cases: a new one in each run, so that the cases of
//! many runs add up. A failure with any seed is a bug.

use std::io::Write as _;

/// The seed that `variable` holds, or a new one. It is printed at once and past
/// libtest's capture: a run that is killed must have named its seed too.
pub fn seed(variable: &str) -> u64 {
    let given = std::env::var(variable).ok();
    let seed = given.map_or_else(rand::random, |text| {
        text.parse()
            .unwrap_or_else(|e| panic!("{variable}={text}: {e}"))
    });
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("{test}: random cases, to repeat them: {variable}={seed}");
    let _ = writeln!(std::io::stderr(), "{line}");
    seed
}
