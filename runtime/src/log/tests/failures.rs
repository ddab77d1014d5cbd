//! What a disk that fails, or power that goes in the middle, may not take from a log.

use std::path::Path;

use super::{
    super::*,
    driver::{Driver, batch_of, place},
    stories::{DIR, Machine, in_simulation, segment, without_checkpoints},
};
use crate::{
    disk::{
        DiskHandle,
        sim::{Faults, SimDisks},
    },
    era::EraGate,
    ids::{ArbiterId, LeaderEpoch, LogId},
    journal::{self, JournalEntry, Journaled},
    rng::Rng,
};

/// Every sync fails, with `error`.
fn without_syncs(error: i32) -> Faults {
    Faults { sync_errors: 1000, sync_error: error, ..Faults::none() }
}

#[test]
fn a_failed_sync_ends_the_log_for_good_and_says_where() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        machine.with_ten_batches().await;
        let mut driver = machine.open().await;
        machine.disks.set_faults(without_syncs(libc::EIO));
        driver.append(1, 10, 50);
        let failure = driver.settle().await.unwrap_err();
        assert!(failure.to_string().contains(segment(0).to_str().unwrap()), "{failure}");
        machine.disks.set_faults(Faults::none());
        assert_eq!(driver.log.durable_end(), Offset(30));
        assert!(driver.log.next_io(driver.now_ms, &driver.owner).is_none(), "LOG-5: no retry");
        assert_eq!(driver.log.failure(), Some(&failure));
        // The page cache shows the batch, and the next sync would say that all is well.
        let refused = machine.try_open(Vec::new()).await.map(drop).unwrap_err();
        assert_eq!(refused, OpenError::Failed(failure), "LOG-5: a later life does not go on");
    });
}

#[test]
fn after_a_failed_sync_the_next_process_believes_the_disk_and_not_the_cache() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        let batches = machine.with_ten_batches().await;
        let mut driver = machine.open().await;
        machine.disks.set_faults(without_syncs(libc::EIO));
        driver.append(1, 10, 50);
        driver.settle().await.unwrap_err();
        machine.disks.set_faults(Faults::none());
        machine.disks.kill();
        machine.gate = EraGate::new(Path::new(DIR));
        let mut driver = machine.open().await;
        assert_eq!(driver.log.end(), Offset(30), "LOG-2: what is there is durable");
        let more = driver.append(1, 10, 51);
        driver.settle().await.unwrap();
        machine.disks.crash();
        let mut driver = machine.open().await;
        let all: Vec<_> = batches.into_iter().chain([more]).collect();
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), all);
    });
}

#[test]
fn a_sync_that_finds_no_room_is_a_failed_sync_and_no_full_disk() {
    in_simulation(|| async {
        let mut machine = Machine::new(LogConfig {
            sync_batches: u64::MAX,
            segment_bytes: 2_000,
            ..without_checkpoints()
        });
        let mut driver = machine.open().await;
        driver.append(3, 100, 0);
        driver.idle().await.unwrap();
        machine.disks.set_faults(without_syncs(libc::ENOSPC));
        // The roll syncs what the new segment is to follow.
        (1..9).for_each(|tag| drop(driver.append(3, 100, tag)));
        driver.settle().await.unwrap_err();
        machine.disks.set_faults(Faults::none());
        machine.disks.crash();
        machine.gate = EraGate::new(Path::new(DIR));
        let driver = machine.open().await;
        assert_eq!(driver.log.end(), driver.log.durable_end());
        assert_eq!(driver.log.segments().count(), 1, "nothing was begun behind what was lost");
    });
}

#[test]
fn a_log_whose_opening_finds_no_room_to_sync_opens_another_time_and_believes_no_cache() {
    let (mut tries, mut lost) = (0, 0);
    for seed in 0..100 {
        let outcome = crate::sim::run(seed, &[], |_| async move {
            let lazy = LogConfig { sync_batches: u64::MAX, ..without_checkpoints() };
            let mut machine = Machine::new(LogConfig { segment_bytes: 2_000, ..lazy });
            machine.disks = SimDisks::new(&Rng::seeded(seed), Faults::none());
            machine.disks.install(Path::new("/d/.keep"), b"");
            let mut driver = machine.open().await;
            // The first batch of a segment brings the recovery point there, with a sync.
            for tags in [0..8, 8..10] {
                tags.for_each(|tag| drop(driver.append(3, 100, tag)));
                driver.idle().await.unwrap();
            }
            let (durable, written) = (driver.log.durable_end(), driver.log.written_end());
            drop(driver);
            machine.disks.kill();
            machine.gate = EraGate::new(Path::new(DIR));
            // What the journal has is durable, and not in the segment.
            let payload = batch_of(durable, 3, 100, 1_000_000, 99);
            let (base_offset, end_offset) = (durable, durable.plus(3));
            let epoch = LeaderEpoch(0);
            let journaled = vec![Journaled { epoch, base_offset, end_offset, payload }];
            machine.disks.set_faults(Faults { sync_errors: 300, ..without_syncs(libc::ENOSPC) });
            let mut tries = 0;
            let mut driver = loop {
                match machine.try_open(journaled.clone()).await {
                    Ok((driver, _)) => break driver,
                    Err(error) => assert!(error.lacks_room(), "{error}"),
                }
                tries += 1;
            };
            machine.disks.set_faults(Faults::none());
            assert!(driver.log.end() >= end_offset, "LOG-2: the journal held more");
            let opened = driver.read_all(1 << 20).await.unwrap();
            let is_lost = driver.log.end() < written;
            drop(driver);
            machine.disks.crash();
            let mut driver = machine.open().await;
            assert_eq!(driver.read_all(1 << 20).await.unwrap(), opened, "LOG-2: it was durable");
            (tries, u32::from(is_lost))
        });
        let met = outcome.result.unwrap_or_else(|why| panic!("{seed}: {why}"));
        (tries, lost) = (tries + met.0, lost + met.1);
    }
    assert!(tries > 50 && lost > 10, "{tries} openings failed, {lost} lost what was not durable");
}

/// A log whose first ten batches it has synced itself, and whose later five only the journal has; and
/// all of them.
pub(super) async fn half_journalled(machine: &mut Machine) -> (Driver, Vec<Bytes>) {
    let mut batches = machine.with_ten_batches().await;
    let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
    let journals = journal::replay(&disk, Path::new("/d")).await.unwrap().journals();
    disk.start_journal(&journals, ArbiterId(0), Rng::seeded(3));
    machine.config.journal = true;
    let place = place(DIR, &machine.gate).await;
    // Once this is answered the journal's file is made: no append is synced instead.
    let another = LogId { shard: 7, ..LogId::default() };
    disk.commit(JournalEntry::Deleted { log: another }, &place.ticket).await.unwrap();
    let opened = Driver::open(&disk, place, machine.config.clone(), Vec::new(), 1_000_000).await;
    let mut driver = opened.unwrap().0;
    for tag in 50..55 {
        batches.push(driver.append(3, 100, tag));
        driver.settle().await.unwrap();
    }
    (driver, batches)
}

#[test]
fn a_truncation_that_is_cut_short_leaves_no_gap_before_what_the_journal_holds() {
    let mut was_cut_short = 0;
    for turns in 0..60 {
        let outcome = crate::sim::run(turns, &[], |_| async move {
            let mut machine = Machine::new(without_checkpoints());
            let mut driver = half_journalled(&mut machine).await.0;
            driver.log.truncate_to(Offset(6));
            // Before it cuts anything, what was put off is written.
            driver.step().await.unwrap();
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            machine.disks.crash();
            machine.gate = EraGate::new(Path::new(DIR));
            let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
            let mut replayed = journal::replay(&disk, Path::new("/d")).await.unwrap();
            let journaled = replayed.logs.remove(&LogId::default()).unwrap_or_default();
            let driver = machine.try_open(journaled).await.unwrap_or_else(|e| panic!("{e}")).0;
            let end = driver.log.end();
            assert!(end >= Offset(6), "LOG-2: {end}");
            end > Offset(6)
        });
        was_cut_short += u32::from(outcome.result.unwrap_or_else(|why| panic!("{turns}: {why}")));
    }
    assert!((1..60).contains(&was_cut_short), "{was_cut_short} of 60 ended in the middle");
}

#[test]
fn a_log_that_ends_before_what_the_journal_holds_opens_once_that_is_given_up() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        drop(half_journalled(&mut machine).await);
        machine.disks.kill();
        machine.gate = EraGate::new(Path::new(DIR));
        // Five of the batches that the log had synced by itself are gone: no crash does that.
        let whole = machine.disks.content(&segment(0)).unwrap();
        machine.disks.install(&segment(0), &whole[..whole.len() / 2]);
        let (data, log) = (Path::new("/d"), LogId::default());
        let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
        let journaled = journal::replay(&disk, data).await.unwrap().logs.remove(&log).unwrap();
        let refused = machine.try_open(journaled).await.map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
        assert_eq!(machine.open().await.log.end(), Offset(15));
        assert_eq!(journal::give_up(&disk, data, log, Offset(30)).await.unwrap(), 0, "no gap");
        assert_eq!(journal::give_up(&disk, data, log, Offset(15)).await.unwrap(), 5);
        assert!(journal::replay(&disk, data).await.unwrap().logs.is_empty());
    });
}
