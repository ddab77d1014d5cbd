//! Recovery, told as stories: what happened to the files, and what opening them says.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{
    super::*,
    driver::{Driver, History, batch_of, place},
};
use crate::{
    batch,
    disk::{
        DiskHandle,
        sim::{Faults, SimDisks},
    },
    era::EraGate,
    ids::{ArbiterId, LeaderEpoch},
    journal::Journaled,
    rng::Rng,
};

pub(super) const DIR: &str = "/d/log";

/// A machine with one log.
pub(super) struct Machine {
    pub(super) disks: SimDisks,
    pub(super) gate: Arc<EraGate>,
    pub(super) config: LogConfig,
}

pub(super) fn segment(base: u64) -> PathBuf {
    Path::new(DIR).join(format!("{base:020}.log"))
}

impl Machine {
    pub(super) fn new(config: LogConfig) -> Machine {
        let disks = SimDisks::new(&Rng::seeded(7), Faults::none());
        disks.install(Path::new("/d/.keep"), b"");
        let config = LogConfig { free_floor_bytes: 0, ..config };
        Machine { disks, gate: EraGate::new(Path::new(DIR)), config }
    }

    pub(super) async fn try_open(
        &self,
        journaled: Vec<Journaled>,
    ) -> Result<(Driver, Opened), OpenError> {
        let disk = DiskHandle::start(self.disks.disk_for(ArbiterId(0)));
        let place = place(DIR, &self.gate).await;
        Driver::open(&disk, place, self.config.clone(), journaled, 1_000_000).await
    }

    pub(super) async fn open(&self) -> Driver {
        self.try_open(Vec::new()).await.expect("a sound log opens").0
    }

    /// A log of ten batches of three records, whose recovery point is its start.
    pub(super) async fn with_ten_batches(&self) -> Vec<Bytes> {
        let mut driver = self.open().await;
        let batches = (0..10).map(|tag| driver.append(3, 100, tag)).collect();
        driver.settle().await.unwrap();
        batches
    }

    fn content(&self, path: &Path) -> Bytes {
        self.disks.content(path).unwrap_or_else(|| panic!("no {}", path.display()))
    }

    /// Every file with its content.
    fn files(&self) -> Vec<(PathBuf, Bytes)> {
        let files = self.disks.files();
        files.into_iter().map(|path| (path.clone(), self.content(&path))).collect()
    }
}

pub(super) fn in_simulation<F: Future<Output = ()>>(story: impl FnOnce() -> F) {
    let outcome = crate::sim::run(1, &[], |_| story());
    if let Err(why) = outcome.result {
        panic!("{why}");
    }
}

/// Keeps the recovery point at the log's start.
pub(super) fn without_checkpoints() -> LogConfig {
    LogConfig { checkpoint_bytes: u64::MAX, journal: false, ..LogConfig::default() }
}

#[test]
fn a_batch_torn_above_the_durable_mark_ends_the_log_even_where_whole_ones_follow() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        let batches = machine.with_ten_batches().await;
        let len = batches[0].len() as u64;
        machine.disks.kill();
        machine.disks.flip_bit(&segment(0), 6 * len + 80, 3);
        let (mut driver, opened) = machine.try_open(Vec::new()).await.unwrap();
        assert_eq!(driver.log.end(), Offset(18));
        let cut = opened.cut.expect("what was cut is told");
        assert_eq!((cut.file.as_path(), cut.position, cut.bytes), (&*segment(0), 6 * len, 4 * len));
        assert_eq!(machine.content(&segment(0)).len() as u64, 6 * len, "the file is cut too");
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches[..6]);
        driver.append(1, 10, 99);
        driver.settle().await.unwrap();
        assert_eq!(driver.read_all(1 << 20).await.unwrap().len(), 7);
    });
}

#[test]
fn damage_below_the_recovery_point_is_refused_by_name_and_nothing_is_cut() {
    in_simulation(|| async {
        let machine = Machine::new(LogConfig { checkpoint_bytes: 1, ..without_checkpoints() });
        let batches = machine.with_ten_batches().await;
        let len = batches[0].len() as u64;
        machine.disks.kill();
        // The file ends below what the recovery point vouches for.
        let whole = machine.content(&segment(0));
        machine.disks.install(&segment(0), &whole[..(2 * len) as usize + 7]);
        let before = machine.files();
        let error = machine.try_open(Vec::new()).await.map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(segment(0).to_str().unwrap()), "{text}");
        assert!(text.contains("flumen log repair"), "{text}");
        assert_eq!(machine.files(), before, "nothing was touched");
    });
}

#[test]
fn damage_below_what_the_journal_holds_is_refused_or_mended_from_it() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        let batches = machine.with_ten_batches().await;
        let len = batches[0].len() as u64;
        let entry = Journaled {
            epoch: LeaderEpoch(0),
            base_offset: Offset(24),
            end_offset: Offset(30),
            payload: batches[8..].concat().into(),
        };
        machine.disks.kill();
        // The machine lost its last two batches' pages; the journal has them.
        let whole = machine.content(&segment(0));
        machine.disks.install(&segment(0), &whole[..(8 * len) as usize + 11]);
        let (mut driver, _) = machine.try_open(vec![entry.clone()]).await.unwrap();
        assert_eq!(driver.log.end(), Offset(30));
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches);
        drop(driver);
        machine.disks.kill();
        // A batch before them is bad: they were acknowledged, so it cannot be a torn tail.
        machine.disks.flip_bit(&segment(0), 3 * len + 80, 0);
        let error = machine.try_open(vec![entry]).await.map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    });
}

#[test]
fn a_segment_that_is_short_of_the_journal_is_made_whole_by_it() {
    in_simulation(|| async {
        let machine = Machine::new(LogConfig { journal: true, ..without_checkpoints() });
        let place_of = |base: u64| batch_of(Offset(base), 2, 50, 5, base);
        let batches: Vec<_> = [0, 2, 4, 6].into_iter().map(place_of).collect();
        drop(machine.open().await);
        let entry = |from: usize, to: usize| Journaled {
            epoch: LeaderEpoch(0),
            base_offset: Offset(2 * from as u64),
            end_offset: Offset(2 * to as u64),
            payload: batches[from..to].concat().into(),
        };
        let journaled = vec![entry(0, 1), entry(1, 3), entry(3, 4)];
        machine.disks.kill();
        let (mut driver, _) = machine.try_open(journaled.clone()).await.unwrap();
        assert_eq!(driver.log.end(), Offset(8));
        assert_eq!(driver.read_all(1).await.unwrap(), batches);
        drop(driver);
        // What was replayed is durable by itself: the journal may forget it.
        machine.disks.crash();
        assert_eq!(machine.open().await.log.end(), Offset(8));
    });
}

#[test]
fn what_a_truncation_voided_does_not_come_back_from_the_journal() {
    in_simulation(|| async {
        let machine = Machine::new(LogConfig { journal: true, ..without_checkpoints() });
        let place_of = |base: u64| batch_of(Offset(base), 2, 50, 5, base);
        let batches: Vec<_> = [0, 2, 4].into_iter().map(place_of).collect();
        drop(machine.open().await);
        machine.disks.kill();
        let entry = Journaled {
            epoch: LeaderEpoch(0),
            base_offset: Offset(0),
            end_offset: Offset(4),
            payload: batches.concat().into(),
        };
        let (mut driver, _) = machine.try_open(vec![entry]).await.unwrap();
        assert_eq!(driver.log.end(), Offset(4));
        assert_eq!(driver.read_all(1).await.unwrap(), batches[..2]);
    });
}

#[test]
fn recovering_twice_gives_the_same_bytes() {
    in_simulation(|| async {
        let config =
            LogConfig { segment_bytes: 900, index_interval_bytes: 1, ..without_checkpoints() };
        let machine = Machine::new(config);
        machine.with_ten_batches().await;
        machine.disks.crash();
        drop(machine.open().await);
        machine.disks.kill();
        let once = machine.files();
        drop(machine.open().await);
        machine.disks.kill();
        let logs = |files: Vec<(PathBuf, Bytes)>| -> Vec<_> {
            files.into_iter().filter(|(path, _)| !path.ends_with("recovery-point")).collect()
        };
        assert_eq!(logs(machine.files()), logs(once));
    });
}

#[test]
fn a_lost_or_damaged_index_is_made_again() {
    in_simulation(|| async {
        let config =
            LogConfig { segment_bytes: 900, index_interval_bytes: 1, ..without_checkpoints() };
        let machine = Machine::new(config);
        let batches = machine.with_ten_batches().await;
        drop(machine.open().await.close().await);
        machine.disks.kill();
        let indexes: Vec<_> = machine
            .files()
            .into_iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "index" || e == "timeindex"))
            .collect();
        assert!(indexes.len() > 4, "several segments: {indexes:?}");
        for (place, (path, content)) in indexes.iter().enumerate() {
            let bad: &[u8] =
                if place % 2 == 0 { &content[..content.len() / 2] } else { b"nonsense" };
            machine.disks.install(path, bad);
        }
        let mut driver = machine.open().await;
        assert_eq!(driver.read_all(1).await.unwrap(), batches);
        for base in 0..30 {
            let plan = driver.log.plan_read(Offset(base), Offset(30), 1).unwrap();
            let read = plan.run(driver.disk.clone()).await.unwrap();
            let header = BatchHeader::parse(&read.batches).unwrap();
            assert_eq!(header.base_offset, Offset(base / 3 * 3));
        }
    });
}

#[test]
fn a_strict_read_gives_no_batch_that_is_larger_and_tells_its_length() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        let mut driver = machine.open().await;
        // Larger than what a read takes from the disk at least.
        let batches = [100, 30_000, 100].map(|bytes| driver.append(1, bytes, 0));
        driver.settle().await.unwrap();
        let [small, large] = [0, 1].map(|at: usize| batches[at].len());
        for (from, bytes_max, given, withheld) in [
            (0, small - 1, 0, small),
            (0, small, small, 0),
            (1, small, 0, large),
            (1, large - 1, 0, large),
            (1, large, large, 0),
            (0, small + large, small + large, 0),
            // The way to it leads over the large one.
            (2, small, 0, large),
            (2, large, small, 0),
            (3, 0, 0, 0),
        ] {
            let plan = driver.log.plan_read(Offset(from), Offset(3), bytes_max).unwrap().strict();
            let read = plan.run(driver.disk.clone()).await.unwrap();
            assert_eq!(
                (read.batches.len(), read.withheld),
                (given, withheld),
                "{from} {bytes_max}"
            );
            assert!(given > 0 || read.next == Offset(from));
        }
    });
}

#[test]
fn a_batch_that_fails_its_checksum_is_never_served() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        let batches = machine.with_ten_batches().await;
        let len = batches[0].len() as u64;
        let closed = machine.open().await.close().await;
        machine.disks.flip_bit(&segment(0), 4 * len + 70, 1);
        let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
        let place = place(DIR, &machine.gate).await;
        let log = Log::reopen(place, machine.config.clone(), closed, 0);
        let driver = Driver::new(log, &disk, History::default(), 0);
        let read =
            driver.log.plan_read(Offset(0), Offset(30), 1 << 20).unwrap().run(disk.clone()).await;
        assert_eq!(read.unwrap().batches.len() as u64, 4 * len, "the good ones before it");
        let error =
            driver.log.plan_read(Offset(12), Offset(30), 1).unwrap().run(disk).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("byte {}", 4 * len)), "{text}");
    });
}

#[test]
fn only_the_active_segment_ends_in_zeros_and_a_clean_stop_cuts_them() {
    in_simulation(|| async {
        let config =
            LogConfig { segment_bytes: 4_000, zero_fill_bytes: 4_000, ..without_checkpoints() };
        let machine = Machine::new(config);
        let batches = machine.with_ten_batches().await;
        let mut driver = machine.open().await;
        for tag in 10..30 {
            driver.append(3, 100, tag);
        }
        driver.settle().await.unwrap();
        let segments: Vec<Segment> = driver.log.segments().cloned().collect();
        assert!(segments.len() > 2);
        for closed in &segments[..segments.len() - 1] {
            assert_eq!(machine.content(&segment(closed.base.0)).len() as u64, closed.size);
        }
        let active = segments.last().unwrap();
        assert!(
            machine.content(&segment(active.base.0)).len() as u64 > active.size,
            "filled ahead"
        );
        drop(driver.close().await);
        assert_eq!(machine.content(&segment(active.base.0)).len() as u64, active.size);
        let whole: u64 = segments.iter().map(|segment| segment.size).sum();
        assert_eq!(whole, 30 * batches[0].len() as u64);
    });
}

#[test]
fn zeros_follow_a_busy_log_until_it_is_closed_or_recovered() {
    in_simulation(|| async {
        let config =
            LogConfig { segment_bytes: 300_000, busy_bytes: 20_000, ..without_checkpoints() };
        let machine = Machine::new(config);
        let len = || machine.content(&segment(0)).len() as u64;
        let mut driver = machine.open().await;
        driver.append(1, 10_000, 0);
        driver.idle().await.unwrap();
        assert_eq!(len(), driver.log.bytes(), "it is not busy");
        for tag in 1..20 {
            driver.append(1, 10_000, tag);
            driver.idle().await.unwrap();
            assert_eq!(len(), 256 << 10, "as far as the next multiple, at batch {tag}");
        }
        let batches = driver.read_all(1).await.unwrap();
        assert_eq!(batches.len(), 20);
        drop(driver);
        machine.disks.kill();
        let mut driver = machine.open().await;
        assert_eq!(len(), driver.log.bytes(), "LOG-6: recovery cuts them");
        assert_eq!(driver.read_all(1).await.unwrap(), batches);
        for tag in 20..28 {
            driver.append(1, 10_000, tag);
            driver.idle().await.unwrap();
        }
        assert_eq!(len(), 300_000, "no further than the segment goes");
        let size = driver.log.bytes();
        drop(driver.close().await);
        assert_eq!(len(), size, "LOG-6: a clean stop cuts them");
    });
}

#[test]
fn a_large_write_has_no_zeros_behind_it() {
    in_simulation(|| async {
        let machine = Machine::new(LogConfig { busy_bytes: 1, ..without_checkpoints() });
        let len = || machine.content(&segment(0)).len() as u64;
        let mut driver = machine.open().await;
        driver.append(1, 140_000, 0);
        driver.idle().await.unwrap();
        assert_eq!(len(), driver.log.bytes());
        driver.append(1, 120_000, 1);
        driver.idle().await.unwrap();
        assert_eq!(len(), 256 << 10, "a smaller one has");
    });
}

#[test]
fn a_busy_lazy_log_has_no_zeros_and_syncs_before_much_is_unsynced() {
    in_simulation(|| async {
        let unsynced_bytes_max = 4 << 20;
        let lazy =
            LogConfig { sync_batches: u64::MAX, unsynced_bytes_max, ..without_checkpoints() };
        let machine = Machine::new(lazy);
        let mut driver = machine.open().await;
        for tag in 0..4 {
            driver.append(1, 1_000_000, tag);
            driver.idle().await.unwrap();
        }
        assert_eq!(driver.log.durable_end(), Offset(0), "nobody waits for it");
        let size = driver.log.bytes();
        assert_eq!(machine.content(&segment(0)).len() as u64, size, "nothing lies behind it");
        driver.append(1, 1_000_000, 4);
        driver.idle().await.unwrap();
        assert_eq!(driver.log.durable_end(), Offset(5));
    });
}

#[test]
fn a_busy_lazy_log_has_blocks_for_what_it_wrote_in_a_second() {
    in_simulation(|| async {
        let config =
            LogConfig { segment_bytes: 250_000, busy_bytes: 20_000, ..without_checkpoints() };
        let machine = Machine::new(LogConfig { sync_batches: u64::MAX, ..config });
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut driver = machine.open().await;
        driver.log.note_space(1 << 40);
        let witness = seen.clone();
        machine.disks.set_witness(Box::new(move |line| {
            let place = line.strip_prefix(&format!("reserve {} ", segment(0).display()));
            witness.lock().unwrap().extend(place.map(|place| {
                let (position, len) = place.split_once('+').unwrap();
                (position.parse::<u64>().unwrap(), len.parse::<u64>().unwrap())
            }));
        }));
        let mut ends = vec![0];
        for tag in 0..24 {
            driver.append(1, 10_000, tag);
            driver.idle().await.unwrap();
            ends.push(driver.active_bytes());
        }
        let seen = seen.lock().unwrap().clone();
        let mut reserved = 0;
        for (position, len) in &seen {
            assert!(ends.contains(position) && *position <= reserved.max(20_000), "no hole");
            let size = ends.iter().find(|end| *end > position).unwrap();
            reserved = position + len;
            assert_eq!(reserved, (2 * size).min(250_000), "as much again as there is");
        }
        assert_eq!(reserved, 250_000, "no further than the segment goes: {seen:?}");
        assert!(seen.len() < 6, "not at each write: {seen:?}");
        assert_eq!(machine.content(&segment(0)).len() as u64, driver.log.bytes());
    });
}

#[test]
fn blocks_that_are_not_used_are_given_back_and_none_are_taken_of_a_full_disk() {
    in_simulation(|| async {
        let config = LogConfig { busy_bytes: 20_000, ..without_checkpoints() };
        let machine = Machine::new(LogConfig { sync_batches: u64::MAX, ..config });
        machine.disks.set_faults(Faults { capacity: 10 << 20, ..Faults::none() });
        let free = async |driver: &Driver| driver.disk.space("/d").await.unwrap().free;
        let mut driver = machine.open().await;
        let before = free(&driver).await;
        // What is taken beyond the log's bytes, and a little for its other files.
        let extra = async |driver: &Driver| {
            (before - free(driver).await).saturating_sub(driver.log.bytes() + (32 << 10))
        };
        let fill = async |driver: &mut Driver, tags: std::ops::Range<u64>| {
            tags.for_each(|tag| drop(driver.append(1, 100_000, tag)));
            driver.idle().await.unwrap();
        };
        fill(&mut driver, 0..10).await;
        assert_eq!(extra(&driver).await, 0, "nobody has looked how much there is");
        driver.log.note_space(1 << 40);
        fill(&mut driver, 10..20).await;
        assert!(extra(&driver).await > 50_000, "as much again was taken");
        driver.pass(1000);
        driver.pass(1000);
        driver.idle().await.unwrap();
        assert_eq!(extra(&driver).await, 0, "it is not busy any more");

        driver.log.note_space(1 << 40);
        fill(&mut driver, 20..40).await;
        assert!(extra(&driver).await > 50_000, "taken once more");
        drop(driver);
        machine.disks.kill();
        let mut driver = machine.open().await;
        assert_eq!(extra(&driver).await, 0, "recovery gives them back");

        driver.log.note_space(8 << 20);
        fill(&mut driver, 40..60).await;
        let taken = extra(&driver).await;
        assert!(0 < taken && taken <= (8 << 20) / 16, "a small part of what there is: {taken}");

        // There are fewer than the log was told, and not enough.
        machine.disks.set_faults(Faults { capacity: 8 << 20, ..Faults::none() });
        driver.log.note_space(1 << 40);
        fill(&mut driver, 60..70).await;
        let taken = extra(&driver).await;
        assert!(taken <= 2 << 20, "what was found of them is given back: {taken}");
        assert!(!driver.log.is_full());
    });
}

#[test]
fn a_lazy_log_has_little_to_sync_when_its_segment_ends() {
    in_simulation(|| async {
        let lazy =
            LogConfig { segment_bytes: 40 << 20, sync_batches: u64::MAX, ..without_checkpoints() };
        let machine = Machine::new(lazy);
        let mut driver = machine.open().await;
        let mut unsynced = 0;
        while driver.log.segments().count() == 1 {
            unsynced = driver.log.end().since(driver.log.durable_end());
            driver.append(1, 1 << 20, 0);
            driver.idle().await.unwrap();
        }
        assert!(unsynced <= 4, "{unsynced} MiB");
    });
}

#[test]
fn a_trim_of_a_busy_lazy_log_does_not_wait_until_something_else_syncs_it() {
    in_simulation(|| async {
        let busy = LogConfig { segment_bytes: 900, busy_bytes: 1, ..without_checkpoints() };
        let machine = Machine::new(LogConfig { sync_batches: u64::MAX, ..busy });
        let mut driver = machine.open().await;
        for tag in 0..10 {
            driver.append(3, 100, tag);
            driver.idle().await.unwrap();
        }
        let rolled = driver.log.durable_end();
        assert!(rolled > Offset(0) && rolled < driver.log.end(), "{rolled}");
        driver.log.trim_to(rolled);
        driver.idle().await.unwrap();
        assert!(driver.log.is_settled());
        assert_eq!(driver.log.start(), rolled);
    });
}

#[test]
fn a_trim_of_what_is_not_synced_yet_waits_for_that_and_is_done_in_whole() {
    in_simulation(|| async {
        let machine = Machine::new(LogConfig { sync_batches: u64::MAX, ..without_checkpoints() });
        let mut driver = machine.open().await;
        for tag in 0..10 {
            driver.append(3, 100, tag);
        }
        driver.idle().await.unwrap();
        assert_eq!(driver.log.durable_end(), Offset(0));
        driver.log.trim_to(Offset(13));
        driver.idle().await.unwrap();
        assert_eq!((driver.log.start(), driver.log.is_settled()), (Offset(13), true));
        driver.log.trim_to(Offset(1_000));
        driver.idle().await.unwrap();
        assert_eq!((driver.log.start(), driver.log.is_settled()), (Offset(30), true));
    });
}

/// A log of several segments, all but the newest of which retention removes in ten seconds.
async fn nearly_expired() -> (Machine, Driver) {
    let config =
        LogConfig { segment_bytes: 900, retention_ms: Some(60_000), ..without_checkpoints() };
    let machine = Machine::new(config);
    machine.with_ten_batches().await;
    let mut driver = machine.open().await;
    driver.pass(50_000);
    driver.append(3, 100, 10);
    driver.settle().await.unwrap();
    (machine, driver)
}

#[test]
fn a_trim_that_comes_while_retention_removes_is_not_taken_for_done() {
    in_simulation(|| async {
        let (_machine, mut driver) = nearly_expired().await;
        // Retention begins, with less than the trim wants.
        driver.pass(20_000);
        assert_eq!((driver.running > 0, driver.log.start()), (true, Offset(0)));
        driver.log.trim_to(Offset(31));
        driver.idle().await.unwrap();
        assert_eq!((driver.log.start(), driver.log.is_settled()), (Offset(31), true));
    });
}

#[test]
fn what_is_older_or_more_than_may_be_is_removed_by_whole_segments() {
    in_simulation(|| async {
        let (machine, mut driver) = nearly_expired().await;
        assert_eq!(driver.log.start(), Offset(0), "nothing is old enough");
        driver.pass(20_000);
        driver.idle().await.unwrap();
        let start = driver.log.start();
        assert!(start > Offset(0) && start <= Offset(30), "{start}");
        assert!(machine.disks.content(&segment(0)).is_none(), "the files are gone");
        driver.pass(600_000);
        driver.idle().await.unwrap();
        assert_eq!(
            driver.log.start(),
            driver.log.end(),
            "an active segment is rolled, then removed"
        );
        let end = driver.log.end();
        drop(driver);
        machine.disks.crash();
        let log = machine.open().await.log;
        assert_eq!((log.start(), log.end()), (end, end));
    });
}

/// Somebody writes what happened long ago, and wants to read it.
#[test]
fn records_that_come_over_age_can_be_read_for_five_minutes() {
    in_simulation(|| async {
        let machine =
            Machine::new(LogConfig { retention_ms: Some(1_000), ..without_checkpoints() });
        machine.with_ten_batches().await;
        let mut driver = machine.open().await;
        driver.append(3, 100, 10);
        driver.settle().await.unwrap();
        driver.pass(290_000);
        driver.idle().await.unwrap();
        assert_eq!(driver.log.start(), Offset(0));
        driver.pass(20_000);
        driver.idle().await.unwrap();
        assert_eq!(driver.log.start(), driver.log.end());
    });
}

#[test]
fn a_trim_is_durable_when_it_is_answered() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        machine.with_ten_batches().await;
        let mut driver = machine.open().await;
        driver.log.trim_to(Offset(13));
        driver.settle().await.unwrap();
        drop(driver);
        machine.disks.crash();
        let driver = machine.open().await;
        assert_eq!(driver.log.start(), Offset(13));
        let error = driver.log.plan_read(Offset(12), Offset(30), 1).map(drop).unwrap_err();
        assert_eq!((error.start, error.end), (Offset(13), Offset(30)));
    });
}

#[test]
fn a_reopened_log_takes_batches_where_it_ended_and_closes_untouched() {
    in_simulation(|| async {
        let machine = Machine::new(LogConfig { segment_bytes: 900, ..without_checkpoints() });
        let mut batches = machine.with_ten_batches().await;
        let driver = machine.open().await;
        let owner = driver.owner.clone();
        let closed = driver.close().await;
        let bytes = crate::codec::encode(&closed).unwrap();
        let before = machine.files();
        for touch in [false, true] {
            machine.disks.kill();
            let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
            let place = place(DIR, &machine.gate).await;
            let closed: ClosedLog = crate::codec::decode(&bytes).unwrap();
            let config = machine.config.clone();
            let log = Log::reopen(place, config, closed, 1_000_000);
            let mut driver = Driver::new(log, &disk, owner.clone(), 1_000_000);
            assert_eq!(machine.files(), before, "reopening touches nothing");
            assert_eq!(driver.log.end(), Offset(30));
            if touch {
                batches.push(driver.append(2, 40, 77));
                driver.settle().await.unwrap();
                assert_eq!(driver.read_all(500).await.unwrap(), batches);
            }
            drop(driver.close().await);
        }
        machine.disks.kill();
        let mut driver = machine.open().await;
        assert_eq!(driver.read_all(500).await.unwrap(), batches);
        assert_eq!(driver.owner.0.len(), 11);
    });
}

#[test]
fn a_log_that_is_not_as_a_clean_stop_left_it_is_not_written_but_recovered() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        let batches = machine.with_ten_batches().await;
        let closed = machine.open().await.close().await;
        let path = segment(0);
        let whole = machine.content(&path);
        let more = batch_of(Offset(30), 3, 100, 1_000_000, 77);
        let append = async || {
            let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
            let place = place(DIR, &machine.gate).await;
            let log = Log::reopen(place, machine.config.clone(), closed.clone(), 0);
            let mut driver = Driver::new(log, &disk, History::default(), 0);
            driver.append(1, 10, 99);
            driver.idle().await.expect_err("it is not as it was").error
        };

        let longer = [&whole[..], &more[..]].concat();
        machine.disks.install(&path, &longer);
        let (len, left) = (longer.len() as u64, whole.len() as u64);
        assert_eq!(append().await, DiskError::Changed { path: path.clone(), len, left });
        assert_eq!(machine.content(&path), longer, "nothing is written over");
        let mut driver = machine.open().await;
        assert_eq!(driver.read_all(500).await.unwrap(), [&batches[..], &[more]].concat());
        drop(driver);

        machine.disks.install(&path, &whole[..whole.len() - 1]);
        let shorter = DiskError::Changed { path: path.clone(), len: left - 1, left };
        assert_eq!(append().await, shorter);
        let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
        disk.remove(&path).await.unwrap();
        assert_eq!(append().await, DiskError::Changed { path, len: 0, left });
    });
}

#[test]
fn after_a_crash_a_segment_is_as_old_as_its_first_batch() {
    for checkpoint_bytes in [1, u64::MAX] {
        in_simulation(|| async {
            let config = LogConfig { segment_age_ms: 10_000, ..without_checkpoints() };
            let machine = Machine::new(LogConfig { checkpoint_bytes, ..config });
            machine.with_ten_batches().await;
            machine.disks.kill();
            let mut driver = machine.open().await;
            let opened_ms = driver.now_ms;
            driver.pass(6_000);
            driver.append(1, 10, 77);
            driver.settle().await.unwrap();
            assert_eq!(driver.log.segments().count(), 1);
            driver.pass(5_000);
            driver.append(1, 10, 78);
            driver.settle().await.unwrap();
            assert_eq!(
                driver.log.segments().count(),
                2,
                "begun {} ms ago",
                driver.now_ms - opened_ms
            );
        });
    }
}

#[test]
fn a_log_of_a_later_version_is_refused_and_neither_opened_nor_repaired() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        machine.with_ten_batches().await;
        machine.disks.kill();
        let point = Path::new(DIR).join("recovery-point");
        let mut bytes = machine.content(&point).to_vec();
        // The second slot, with a version that this one does not know, and its sum elsewhere.
        bytes[512..518].copy_from_slice(b"FLRP\x00\x02");
        machine.disks.install(&point, &bytes);
        machine.disks.flip_bit(&segment(0), 80, 3);
        let before = machine.files();
        let error = machine.try_open(Vec::new()).await.map(drop).unwrap_err();
        assert_eq!(error, OpenError::Newer { file: point.clone(), version: 2 });
        let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
        let error = repair(disk, &place(DIR, &machine.gate).await).await.unwrap_err();
        assert_eq!(error, RepairError::Newer { file: point, version: 2 });
        assert_eq!(machine.files(), before, "it is left untouched");
    });
}

#[test]
fn repair_sets_the_damaged_tail_aside_and_the_log_opens_again() {
    in_simulation(|| async {
        let machine = Machine::new(LogConfig { checkpoint_bytes: 1, ..without_checkpoints() });
        let batches = machine.with_ten_batches().await;
        let len = batches[0].len() as u64;
        machine.disks.kill();
        machine.disks.flip_bit(&segment(0), 6 * len + 80, 3);
        let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
        let place = place(DIR, &machine.gate).await;
        let repaired = repair(disk, &place).await.unwrap().expect("there is damage");
        assert_eq!((repaired.position, repaired.bytes_cut), (6 * len, 4 * len));
        let aside = machine
            .disks
            .files()
            .into_iter()
            .find(|path| path.to_str().unwrap().ends_with(".damaged"));
        assert_eq!(machine.content(&aside.expect("nothing is thrown away")).len() as u64, 4 * len);
        let mut driver = machine.open().await;
        assert_eq!(driver.log.end(), Offset(18));
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches[..6]);
        let found = batch::split(&machine.content(&segment(0))).all(|batch| batch.is_ok());
        assert!(found);
    });
}

#[actix_rt::test]
async fn the_largest_batch_that_may_be_written_is_read_and_recovered() {
    let machine = Machine::new(LogConfig::default());
    let mut driver = machine.open().await;
    let most = usize::try_from(BATCH_BYTES_LIMIT).unwrap();
    let over = batch_of(Offset::ZERO, 1, most, 1_000, 0).len() - most;
    let batch = driver.append_batch(batch_of(Offset::ZERO, 1, most - over, 1_000, 0));
    assert_eq!(batch.len(), most);
    driver.settle().await.unwrap();
    assert!(driver.read_all(1 << 20).await.unwrap() == [batch.clone()], "it is served");
    drop(driver);
    machine.disks.crash();
    let (mut driver, opened) = machine.try_open(Vec::new()).await.unwrap();
    assert_eq!(opened.cut, None);
    assert!(driver.read_all(1 << 20).await.unwrap() == [batch], "it is there");
}
