//! The program whose log is followed: it writes at a steady rate with bursts, and rotates by rename.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_rt::task::JoinHandle;
use flumen_runtime::rng::Rng;
use tokio::time::Instant;

use super::DemoOptions;

/// How often lines are written.
const TICK: Duration = Duration::from_millis(5);
/// A burst comes this often, takes a tenth of that time, and is ten times the rate.
const BURST_EVERY: Duration = Duration::from_secs(5);
/// Bytes after which the log is rotated.
const ROTATE_BYTES: u64 = 2 << 20;
/// The statuses of the made-up requests, the first ones more often.
const STATUSES: [u16; 8] = [200, 200, 200, 200, 301, 304, 404, 500];

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: u64,
    /// When it was due, from the beginning of the demonstration.
    pub(super) due: Duration,
    pub(super) status: u16,
}

impl Line {
    /// `<number> <due, µs> <address> "GET <path>" <status> <bytes>`
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let Line { number, due, status } = self;
        writeln!(
            to,
            "{number} {} 192.0.2.{} \"GET /item/{}\" {status} {}",
            due.as_micros(),
            number % 254 + 1,
            number % 1000,
            number % 5000 + 100
        )
        .expect("memory takes all");
    }

    pub(super) fn parse(line: &[u8]) -> Option<Line> {
        let text = std::str::from_utf8(line).ok()?;
        let mut words = text.split(' ');
        let number = words.next()?.parse().ok()?;
        let due = Duration::from_micros(words.next()?.parse().ok()?);
        let status = words.nth(3)?.parse().ok()?;
        Some(Line { number, due, status })
    }

    /// Its number, mixed, so that sums of them tell which lines were added up.
    pub(super) fn mixed(&self) -> u64 {
        Rng::seeded(self.number).next_u64()
    }
}

/// The writer's own account.
#[derive(Debug, Default)]
pub(super) struct Written {
    lines: AtomicU64,
    rotations: AtomicU64,
    is_enough: AtomicBool,
    sums: Mutex<BTreeMap<String, u64>>,
}

impl Written {
    pub(super) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Acquire)
    }

    /// Nothing more is to be written.
    pub(super) fn stop(&self) {
        self.is_enough.store(true, Ordering::Relaxed);
    }

    pub(super) fn rotations(&self) -> u64 {
        self.rotations.load(Ordering::Relaxed)
    }

    /// Lines by status, and under `numbers` the sum of their mixed numbers.
    pub(super) fn sums(&self) -> BTreeMap<String, u64> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, lines: &[Line]) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines {
            *sums.entry(line.status.to_string()).or_default() += 1;
            let numbers = sums.entry("numbers".to_owned()).or_default();
            *numbers = numbers.wrapping_add(line.mixed());
        }
        self.lines.fetch_add(lines.len() as u64, Ordering::Release);
    }
}

/// When line `number` is due, from the beginning. A burst is at the end of each period.
fn due(number: u64, rate: u64) -> Duration {
    let (number, rate) = (number as f64, rate as f64);
    let (period, burst) = (BURST_EVERY.as_secs_f64(), BURST_EVERY.as_secs_f64() / 10.0);
    let (steady, in_burst) = (rate * (period - burst), 10.0 * rate * burst);
    let periods = (number / (steady + in_burst)).floor();
    let within = number - periods * (steady + in_burst);
    let seconds = within.min(steady) / rate + (within - steady).max(0.0) / (10.0 * rate);
    Duration::from_secs_f64(periods * period + seconds)
}

/// Writes `path` as long as the demonstration wants it.
pub(super) fn start(
    path: PathBuf,
    epoch: Instant,
    options: &DemoOptions,
    written: Arc<Written>,
) -> JoinHandle<io::Result<()>> {
    let (rate, duration) = (options.rate, options.duration);
    actix_rt::spawn(async move {
        let mut rng = Rng::from_system();
        let mut file = File::create(&path)?;
        let began = epoch.elapsed();
        let (mut bytes, mut number, mut buffer) = (0, 0, Vec::new());
        loop {
            let now = (epoch.elapsed() - began).min(duration);
            let mut lines = Vec::new();
            // Lines that are late are due when they were: a stall of the writer counts, too.
            while due(number, rate) < now {
                let status = STATUSES[rng.below(STATUSES.len() as u64) as usize];
                lines.push(Line { number, due: began + due(number, rate), status });
                number += 1;
            }
            buffer.clear();
            lines.iter().for_each(|line| line.write(&mut buffer));
            file.write_all(&buffer)?;
            written.note(&lines);
            bytes += buffer.len() as u64;
            if bytes >= ROTATE_BYTES {
                let rotation = written.rotations.fetch_add(1, Ordering::Relaxed) + 1;
                file = rotate(&path, rotation)?;
                bytes = 0;
            }
            if now == duration || written.is_enough.load(Ordering::Relaxed) {
                return Ok(());
            }
            tokio::time::sleep(TICK).await;
        }
    })
}

fn rotate(path: &Path, rotation: u64) -> io::Result<File> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{rotation}"));
    std::fs::rename(path, aside)?;
    File::create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_was_written() {
        let line = Line { number: 42, due: Duration::from_micros(1_234_567), status: 404 };
        let mut bytes = Vec::new();
        line.write(&mut bytes);
        assert_eq!(Line::parse(bytes.trim_ascii_end()), Some(line));
        assert_eq!(Line::parse(b"something else"), None);
    }

    #[test]
    fn bursts_are_ten_times_the_rate_and_a_tenth_of_the_time() {
        let near = |number, seconds: f64| {
            let due = due(number, 1000).as_secs_f64();
            assert!((due - seconds).abs() < 1e-6, "line {number} is due at {due}");
        };
        near(1000, 1.0);
        near(4500, 4.5);
        near(7000, 4.75);
        near(9500, 5.0);
        near(10_500, 6.0);
    }
}
