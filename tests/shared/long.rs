//! Repetitions: few in each run, more with `LONG=1`.

/// `few`, or `many` with `LONG=1`.
pub fn times(few: usize, many: usize) -> usize {
    let is_long = std::env::var_os("LONG").is_some_and(|value| value == "1");
    if is_long { many } else { few }
}
