//! A histogram of atomics: recording is two additions. A reader beside it may
//! see one of the two; the next look has both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets for times, in nanoseconds: from a fetch of the
/// key set (tens of microseconds) over a sign-in (tens of milliseconds) to what
/// is given up.
const TIMES: [u64; BOUNDS] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Upper ends of the buckets for sizes.
const SIZES: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
/// As many as the longer of the two.
const BOUNDS: usize = 17;
const NANOS: f64 = 1e9;

/// How many of what was recorded lie where, and their sum.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// What a recorded number is divided by to be shown.
    per_unit: f64,
    /// The last that is used has what is over all bounds.
    buckets: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// For times, shown in seconds.
    pub const fn of_times() -> Self {
        Self::new(&TIMES, NANOS)
    }

    /// For numbers of things that come in batches.
    pub const fn of_sizes() -> Self {
        Self::new(&SIZES, 1.0)
    }

    const fn new(bounds: &'static [u64], per_unit: f64) -> Self {
        Self {
            bounds,
            per_unit,
            buckets: [const { AtomicU64::new(0) }; BOUNDS + 1],
            sum: AtomicU64::new(0),
        }
    }

    /// Records a time.
    pub fn record_time(&self, took: Duration) {
        self.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Records a number.
    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds to `total` what was recorded here.
    pub(super) fn add_to(&self, total: &mut Recorded) {
        let ends = self.bounds.iter().map(|&bound| self.shown(bound));
        let ends = ends.chain([f64::INFINITY]);
        for (i, (end, bucket)) in ends.zip(&self.buckets).enumerate() {
            let count = bucket.load(Ordering::Relaxed);
            total.count += count;
            match total.buckets.get_mut(i) {
                Some(there) => there.1 += count,
                None => total.buckets.push((end, count)),
            }
        }
        total.sum += self.shown(self.sum.load(Ordering::Relaxed));
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a sum of nanoseconds is exact up to 104 days, and good enough after"
    )]
    fn shown(&self, value: u64) -> f64 {
        value as f64 / self.per_unit
    }
}

/// What one or several histograms of a kind have recorded.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Recorded {
    /// Upper ends, and how many lie between one and the one before it.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) count: u64,
    pub(super) sum: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_within_it_and_one_over_all_is_counted_last() {
        let sizes = Histogram::of_sizes();
        for value in [0, 1, 2, 3, 64, 65, 1000] {
            sizes.record(value);
        }
        let mut seen = Recorded::default();
        sizes.add_to(&mut seen);
        let counts: Vec<_> = seen.buckets.iter().map(|&(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 1, 2]);
        assert_eq!(seen.buckets[6].0, 64.0);
        assert_eq!(seen.buckets[7].0, f64::INFINITY);
        assert_eq!((seen.count, seen.sum), (7, 1135.0));
    }

    #[test]
    fn times_are_shown_in_seconds_and_added_up() {
        let times = [Histogram::of_times(), Histogram::of_times()];
        times[0].record_time(Duration::from_micros(50));
        times[1].record_time(Duration::from_millis(1500));
        let mut seen = Recorded::default();
        times.iter().for_each(|one| one.add_to(&mut seen));
        assert_eq!(seen.buckets.len(), BOUNDS + 1);
        assert_eq!(seen.buckets[0], (0.00005, 1));
        assert_eq!(seen.buckets[14], (2.5, 1));
        assert_eq!((seen.count, seen.sum), (2, 1.50005));
    }

    #[test]
    fn the_bounds_rise() {
        assert!(TIMES.is_sorted() && SIZES.is_sorted());
    }
}
