//! Latencies: recorded without loss of the tail, merged, and shown as a table or a plot.
//!
//! An HDR histogram keeps every value to three significant digits from 1 ns to [`LATENCY_MAX`], in
//! buckets whose bounds are the same everywhere: two of them merge exactly, and recording never
//! allocates. Each actor or thread keeps its own and whoever shows them merges.
//!
//! # From the intended time
//! What stalls also stalls the one who measures it: an operation that was sent late because the one
//! before hung has waited since it *should* have been sent. Record `done - intended`; only where the
//! intended time is not known, [`Latency::record_corrected`] fills in what a stall kept from being
//! sent. (G. Tene: "How NOT to Measure Latency", the name is coordinated omission.)

mod plot;

use std::{fmt, fmt::Write as _, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use plot::plot_svg;

/// Longest latency that is told apart, two minutes; longer ones count as this.
pub const LATENCY_MAX: Duration = Duration::from_secs(120);

/// The percentiles that [`table`] prints.
const SHOWN: [(f64, &str); 5] =
    [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9"), (99.99, "p99.99")];

/// A recorder of latencies.
#[derive(Clone)]
pub struct Latency {
    nanos: Histogram<u64>,
}

/// The latencies of one recorder in numbers, in microseconds; all 0 where nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "percentiles are named after themselves")]
pub struct Percentiles {
    /// How many were recorded.
    pub count: u64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub p9999_us: f64,
    pub max_us: f64,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.percentiles().fmt(f)
    }
}

impl Latency {
    /// An empty recorder.
    #[must_use]
    pub fn new() -> Self {
        let nanos = Histogram::new_with_bounds(1, nanos_of(LATENCY_MAX), 3);
        Self { nanos: nanos.expect("1 < max / 2, and 3 digits are allowed") }
    }

    /// Counts one operation that took `latency`, from its intended start on.
    pub fn record(&mut self, latency: Duration) {
        self.record_many(latency, 1);
    }

    /// Counts `count` operations that took `latency` each: the records of one batch.
    pub fn record_many(&mut self, latency: Duration, count: u64) {
        self.nanos.saturating_record_n(nanos_of(latency), count);
    }

    /// Counts one operation of a closed loop that should send every `interval`: a latency of several
    /// intervals also counts those that could not be sent meanwhile, each with what was left to wait.
    pub fn record_corrected(&mut self, latency: Duration, interval: Duration) {
        let (latency, interval) = (nanos_of(latency), nanos_of(interval));
        self.nanos.record_correct(latency, interval).expect("nanos_of stays within the bounds");
    }

    /// Adds what `other` recorded.
    pub fn merge(&mut self, other: &Latency) {
        self.nanos.add(&other.nanos).expect("all recorders have the same bounds");
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.nanos.reset();
    }

    /// How many operations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.nanos.len()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nanos.is_empty()
    }

    /// The latency that `percent` of all operations did not exceed (0 to 100), rounded up to three
    /// digits; zero where nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.nanos.value_at_percentile(percent))
    }

    /// Half of all operations took no longer.
    #[must_use]
    pub fn p50(&self) -> Duration {
        self.percentile(50.0)
    }

    /// 99 of 100 operations took no longer.
    #[must_use]
    pub fn p99(&self) -> Duration {
        self.percentile(99.0)
    }

    /// 999 of 1,000 operations took no longer.
    #[must_use]
    pub fn p999(&self) -> Duration {
        self.percentile(99.9)
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.nanos.max())
    }

    /// The shortest.
    #[must_use]
    pub fn min(&self) -> Duration {
        Duration::from_nanos(self.nanos.min())
    }

    /// The numbers, for machines.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let us = |percent| micros(self.percentile(percent));
        Percentiles {
            count: self.count(),
            p50_us: us(50.0),
            p90_us: us(90.0),
            p99_us: us(99.0),
            p999_us: us(99.9),
            p9999_us: us(99.99),
            max_us: micros(self.max()),
        }
    }

    /// The numbers, for people: [`table`] of this one.
    #[must_use]
    pub fn table(&self) -> String {
        table(&[("", self)])
    }
}

/// Percentiles of several recorders under each other, a line each, right-aligned, with units.
#[must_use]
pub fn table(series: &[(&str, &Latency)]) -> String {
    let name_width = series.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let gap = if name_width == 0 { 0 } else { 2 };
    let mut text = format!("{:name_width$}{:gap$}", "", "");
    for title in SHOWN.iter().map(|(_, title)| *title).chain(["max"]) {
        write!(text, "{title:>9}  ").expect("a String takes everything");
    }
    write!(text, "{:>10}", "count").expect("a String takes everything");
    for (name, latency) in series {
        write!(text, "\n{name:name_width$}{:gap$}", "").expect("a String takes everything");
        let percentiles = SHOWN.iter().map(|(percent, _)| latency.percentile(*percent));
        for shown in percentiles.chain([latency.max()]) {
            let shown = if latency.is_empty() { "–".into() } else { duration(shown) };
            write!(text, "{shown:>9}  ").expect("a String takes everything");
        }
        write!(text, "{:>10}", latency.count()).expect("a String takes everything");
    }
    text
}

/// A duration in three digits and its natural unit: `840 ns`, `12.3 µs`, `4.56 ms`, `1.02 s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let (mut value, mut unit) = (nanos, "ns");
    for next in ["µs", "ms", "s"] {
        // 999.5 would be shown as "1000".
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let digits = match value {
        _ if unit == "ns" => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

/// Nanoseconds within the bounds of every recorder.
fn nanos_of(duration: Duration) -> u64 {
    let nanos = duration.clamp(Duration::from_nanos(1), LATENCY_MAX).as_nanos();
    u64::try_from(nanos).expect("LATENCY_MAX fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn uniform() -> Latency {
        let mut latency = Latency::new();
        (1..=10_000).for_each(|us| latency.record(Duration::from_micros(us)));
        latency
    }

    #[track_caller]
    fn assert_near(found: Duration, expected: Duration) {
        let off = found.abs_diff(expected).as_secs_f64() / expected.as_secs_f64();
        assert!(off <= 0.001, "{found:?} is not {expected:?} to three digits");
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let latency = uniform();
        assert_near(latency.p50(), ms(5));
        assert_near(latency.p99(), Duration::from_micros(9_900));
        assert_near(latency.percentile(99.99), Duration::from_micros(9_999));
        assert_near(latency.max(), ms(10));
        assert_near(latency.min(), Duration::from_micros(1));
        assert_eq!(latency.count(), 10_000);
    }

    #[test]
    fn merging_two_halves_gives_the_whole() {
        let (mut even, mut odd) = (Latency::new(), Latency::new());
        for us in 1..=10_000 {
            let half = if us % 2 == 0 { &mut even } else { &mut odd };
            half.record(Duration::from_micros(us));
        }
        even.merge(&odd);
        assert_eq!(even.percentiles(), uniform().percentiles());
    }

    #[test]
    fn what_is_out_of_bounds_counts_at_the_bound() {
        let mut latency = Latency::new();
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(3600));
        assert_eq!(latency.count(), 2);
        assert_eq!(latency.min(), Duration::from_nanos(1));
        assert_near(latency.max(), LATENCY_MAX);
    }

    #[test]
    fn a_stall_counts_what_could_not_be_sent_meanwhile() {
        let (mut plain, mut corrected) = (Latency::new(), Latency::new());
        for _ in 0..99 {
            plain.record(ms(1));
            corrected.record_corrected(ms(1), ms(10));
        }
        plain.record(ms(1000));
        corrected.record_corrected(ms(1000), ms(10));
        assert_near(plain.percentile(75.0), ms(1));
        // 1,000 ms at one every 10 ms: 99 others would have waited 990, 980, … 10 ms.
        assert_eq!(corrected.count(), 199);
        assert!(corrected.percentile(75.0) > ms(400));
    }

    #[test]
    fn an_empty_recorder_shows_dashes_and_zeros() {
        assert_eq!(Latency::new().percentiles(), Percentiles::default());
        assert!(Latency::new().table().ends_with('0'));
        assert!(Latency::new().table().contains('–'));
    }

    #[test]
    fn the_table_lines_up() {
        let (latency, empty) = (uniform(), Latency::new());
        let text = table(&[("accepted → durable", &latency), ("delivered", &empty)]);
        let expected = "
                          p50        p90        p99      p99.9     p99.99        max       count
accepted → durable    5.00 ms    9.00 ms    9.90 ms    9.99 ms    10.0 ms    10.0 ms       10000
delivered                   –          –          –          –          –          –           0";
        assert_eq!(format!("\n{text}"), expected);
    }

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let shown = [1, 999, 1_000, 9_996, 12_345, 999_600, 4_560_000, 61_000_000_000]
            .map(|nanos| duration(Duration::from_nanos(nanos)));
        let expected =
            ["1 ns", "999 ns", "1.00 µs", "10.0 µs", "12.3 µs", "1.00 ms", "4.56 ms", "61.0 s"];
        assert_eq!(shown, expected);
    }
}
