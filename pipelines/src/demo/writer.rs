//! The program whose log is followed: it writes at a steady rate with bursts, and rotates by rename.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_rt::task::JoinHandle;
use flumen_runtime::rng::Rng;
use tokio::time::Instant;

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
    fn write(&self, to: &mut Vec<u8>) {
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
    sums: Mutex<BTreeMap<String, u64>>,
}

impl Written {
    pub(super) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Acquire)
    }

    pub(super) fn rotations(&self) -> u64 {
        self.rotations.load(Ordering::Relaxed)
    }

    /// Lines by status, and under `numbers` the sum of their mixed numbers.
    pub(super) fn sums(&self) -> BTreeMap<String, u64> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, lines: &[Line]) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines {
            *sums.entry(line.status.to_string()).or_default() += 1;
            let numbers = sums.entry("numbers".to_owned()).or_default();
            *numbers = numbers.wrapping_add(line.mixed());
        }
        self.lines.fetch_add(lines.len() as u64, Ordering::Release);
    }
}

/// How many lines are due `elapsed` after the beginning.
fn due_by(elapsed: Duration, rate: u64) -> u64 {
    let burst = BURST_EVERY / 10;
    let per_period = rate as f64 * (BURST_EVERY.as_secs_f64() + 9.0 * burst.as_secs_f64());
    let periods = (elapsed.as_secs_f64() / BURST_EVERY.as_secs_f64()).floor();
    let within = elapsed.as_secs_f64() - periods * BURST_EVERY.as_secs_f64();
    // The burst is at the end of each period.
    let begins = (BURST_EVERY - burst).as_secs_f64();
    let in_burst = (within - begins).max(0.0);
    (periods * per_period + rate as f64 * (within + 9.0 * in_burst)) as u64
}

/// Writes `path` for `duration`.
pub(super) fn start(
    path: PathBuf,
    epoch: Instant,
    rate: u64,
    duration: Duration,
    written: Arc<Written>,
) -> JoinHandle<io::Result<()>> {
    actix_rt::spawn(async move {
        let mut rng = Rng::from_system();
        let mut file = File::create(&path)?;
        let (mut bytes, mut number) = (0, 0);
        let began = Instant::now();
        let mut buffer = Vec::new();
        while began.elapsed() < duration {
            let until = due_by(began.elapsed(), rate);
            let due = epoch.elapsed();
            let lines: Vec<Line> = (number..until)
                .map(|number| Line {
                    number,
                    due,
                    status: STATUSES[rng.below(STATUSES.len() as u64) as usize],
                })
                .collect();
            number = until.max(number);
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
            tokio::time::sleep(TICK).await;
        }
        Ok(())
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
        assert_eq!(due_by(Duration::from_secs(1), 1000), 1000);
        let steady = due_by(Duration::from_millis(4500), 1000);
        assert_eq!(steady, 4500);
        assert_eq!(due_by(Duration::from_secs(5), 1000) - steady, 5000);
        assert_eq!(due_by(Duration::from_secs(6), 1000), 10_500);
    }
}
