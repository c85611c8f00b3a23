//! Counting values by bucket, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::exchange::Gaps;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Where the buckets of a histogram end.
///
/// Values are counted as whole numbers, durations as nanoseconds, so that a sum loses nothing however long it runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Buckets {
    /// The upper bounds, included, in ascending order; above the last one is one more bucket.
    bounds: &'static [u64],
    /// How much one of the unit that is shown counts.
    unit: u64,
}

/// Durations of requests and of attempts: 5 ms to 600 s.
pub(crate) static DURATION: Buckets = Buckets {
    bounds: &[
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        2_500 * MS,
        5 * S,
        10 * S,
        20 * S,
        30 * S,
        60 * S,
        120 * S,
        300 * S,
        600 * S,
    ],
    unit: S,
};

/// The time to the first token: 10 ms to 60 s, close together where people notice.
pub(crate) static FIRST_TOKEN: Buckets = Buckets {
    bounds: &[
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        200 * MS,
        300 * MS,
        500 * MS,
        750 * MS,
        S,
        1_500 * MS,
        2 * S,
        3 * S,
        5 * S,
        10 * S,
        20 * S,
        30 * S,
        60 * S,
    ],
    unit: S,
};

/// The time between two pieces of a stream: 1 ms to 10 s, as exchanges count it.
pub(crate) static GAP: Buckets = Buckets { bounds: &GAP_BOUNDS, unit: S };

static GAP_BOUNDS: [u64; Gaps::BOUNDS_MS.len()] = {
    let mut bounds = Gaps::BOUNDS_MS;
    let mut place = 0;
    while place < bounds.len() {
        bounds[place] *= MS;
        place += 1;
    }
    bounds
};

/// The gateway's own time: 50 µs to 1 s.
pub(crate) static OVERHEAD: Buckets = Buckets {
    bounds: &[
        50 * US,
        100 * US,
        200 * US,
        300 * US,
        500 * US,
        750 * US,
        MS,
        2 * MS,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
    ],
    unit: S,
};

/// The time of one call of a plugin: 10 µs to 10 s.
pub(crate) static PLUGIN: Buckets = Buckets {
    bounds: &[
        10 * US,
        25 * US,
        50 * US,
        100 * US,
        250 * US,
        500 * US,
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        S,
        10 * S,
    ],
    unit: S,
};

/// Tokens of one request: 16 to about a million, by doubling. From 256 on they are those of GPT_API.
pub(crate) static TOKENS: Buckets = Buckets {
    bounds: &[
        16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288,
        1_048_576,
    ],
    unit: 1,
};

impl Buckets {
    /// Which bucket takes a value.
    fn place(&self, value: u64) -> usize {
        self.bounds.partition_point(|bound| *bound < value)
    }

    /// A value in the unit that is shown.
    fn shown(&self, value: u64) -> f64 {
        value as f64 / self.unit as f64
    }
}

/// Values by bucket, counted by many at once.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: &'static Buckets,
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one.
    pub(crate) fn new(buckets: &'static Buckets) -> Self {
        let counts = (0..=buckets.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub(crate) fn count(&self, value: u64) {
        self.counts[self.buckets.place(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a duration.
    pub(crate) fn time(&self, duration: Duration) {
        self.count(nanoseconds(duration));
    }

    /// Counts the gaps of a stream; the buckets are [`GAP`].
    pub(crate) fn count_gaps(&self, gaps: &Gaps) {
        for (count, more) in self.counts.iter().zip(gaps.counts) {
            if more > 0 {
                count.fetch_add(u64::from(more), Ordering::Relaxed);
            }
        }
        self.sum.fetch_add(nanoseconds(gaps.sum), Ordering::Relaxed);
    }

    /// What it has seen so far.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            buckets: self.buckets,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// Values by bucket, at one moment or of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    buckets: &'static Buckets,
    counts: Vec<u64>,
    sum: u64,
}

impl Tally {
    /// An empty one.
    pub(crate) fn new(buckets: &'static Buckets) -> Self {
        Self { buckets, counts: vec![0; buckets.bounds.len() + 1], sum: 0 }
    }

    /// Counts a duration.
    pub(crate) fn time(&mut self, duration: Duration) {
        let value = nanoseconds(duration);
        self.counts[self.buckets.place(value)] += 1;
        self.sum += value;
    }

    /// Counts what another one of the same buckets has.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.sum = 0;
    }

    /// How many values it has.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all values, in the unit that is shown.
    pub(crate) fn sum(&self) -> f64 {
        self.buckets.shown(self.sum)
    }

    /// The sum of all values, as they were counted.
    pub(crate) fn whole_sum(&self) -> u64 {
        self.sum
    }

    /// Upper bounds in the unit that is shown, the last one infinite, and how many values are in each bucket alone.
    pub(crate) fn by_bucket(&self) -> Vec<(f64, u64)> {
        let bounds = self.buckets.bounds.iter().map(|bound| self.buckets.shown(*bound));
        bounds.chain([f64::INFINITY]).zip(self.counts.iter().copied()).collect()
    }

    /// The value that `part` of all values are not above, as far as buckets tell: values are taken to be spread evenly
    /// over their bucket, as Prometheus's `histogram_quantile` does. None without a value.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = part * count as f64;
        let mut below = 0;
        let mut lower = 0;
        for (bound, inside) in self.buckets.bounds.iter().zip(&self.counts) {
            if *inside > 0 && (below + inside) as f64 >= rank {
                let share = (rank - below as f64) / *inside as f64;
                return Some(self.buckets.shown(lower) + share * self.buckets.shown(bound - lower));
            }
            below += inside;
            lower = *bound;
        }
        Some(self.buckets.shown(lower))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend() {
        for buckets in [&DURATION, &FIRST_TOKEN, &GAP, &OVERHEAD, &PLUGIN, &TOKENS] {
            assert!(buckets.bounds.is_sorted_by(|low, high| low < high), "{buckets:?}");
        }
    }

    // parity: 156
    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&DURATION);
        for ms in [0, 5, 6, 600_000, 600_001] {
            histogram.time(Duration::from_millis(ms));
        }
        let tally = histogram.tally();
        let by_bucket = tally.by_bucket();
        assert_eq!(by_bucket[..2], [(0.005, 2), (0.01, 1)]);
        assert_eq!(by_bucket[16..], [(600.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((tally.count(), tally.sum()), (5, 1_200.012));
    }

    #[test]
    fn adding_keeps_every_value() {
        let mut gaps = Gaps::default();
        gaps.note(Duration::from_millis(3));
        gaps.note(Duration::from_secs(20));
        let histogram = Histogram::new(&GAP);
        histogram.count_gaps(&gaps);
        histogram.time(Duration::from_millis(3));
        let mut tally = histogram.tally();
        tally.add(&histogram.tally());
        assert_eq!(tally.by_bucket()[2], (0.005, 4));
        assert_eq!((tally.count(), tally.sum()), (6, 40.012));
        tally.clear();
        assert_eq!(tally, Tally::new(&GAP));
    }

    #[track_caller]
    fn check_quantile(values_ms: &[u64], part: f64, expected: Option<f64>) {
        let mut tally = Tally::new(&FIRST_TOKEN);
        values_ms.iter().for_each(|ms| tally.time(Duration::from_millis(*ms)));
        assert_eq!(tally.quantile(part), expected);
    }

    #[test]
    fn quantiles_are_read_off_the_buckets() {
        check_quantile(&[], 0.5, None);
        check_quantile(&[7], 0.5, Some(0.005));
        check_quantile(&[7], 1.0, Some(0.01));
        check_quantile(&[150, 150, 150, 250], 0.5, Some(0.1 + 0.1 * 2.0 / 3.0));
        check_quantile(&[70_000], 0.95, Some(60.0));
    }
}
