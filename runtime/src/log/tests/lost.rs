//! Whole segments that are gone, or have lost their end, below the recovery point.

use super::{
    super::*,
    driver::{Driver, place},
    stories::{DIR, Machine, in_simulation, segment, without_checkpoints},
};
use crate::{batch::BatchError, disk::DiskHandle, ids::ArbiterId};

/// A log of five segments of two batches each, of which a process was killed.
async fn of_five_segments(compaction: Option<Compaction>) -> (Machine, Vec<Bytes>) {
    let config =
        LogConfig { segment_bytes: 900, checkpoint_bytes: 1, compaction, ..without_checkpoints() };
    let machine = Machine::new(config);
    let batches = machine.with_ten_batches().await;
    machine.disks.kill();
    (machine, batches)
}

async fn remove(machine: &Machine, base: u64) {
    let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
    disk.remove(segment(base)).await.unwrap();
}

async fn read(driver: &Driver, from: u64) -> Result<Offset, ReadFailure> {
    let plan = driver.log.plan_read(Offset(from), driver.log.end(), 1 << 20).unwrap();
    Ok(plan.run(driver.disk.clone()).await?.next)
}

#[track_caller]
fn assert_cut_short(read: Result<Offset, ReadFailure>, base: u64, at: u64) {
    match read {
        Err(ReadFailure::Damaged { file, position, reason: BatchError::Lost(_) }) => {
            assert_eq!((file, position), (segment(base), at));
        }
        read => panic!("{read:?}"),
    }
}

#[test]
fn a_read_that_comes_to_a_lost_segment_says_so_and_those_around_it_go_on() {
    for compaction in [None, Some(Compaction::default())] {
        in_simulation(|| async move {
            let (machine, batches) = of_five_segments(compaction).await;
            remove(&machine, 12).await;
            let driver = machine.open().await;
            let whole = 2 * batches[0].len() as u64;
            assert_eq!(read(&driver, 6).await, Ok(Offset(12)));
            for from in 12..18 {
                assert_cut_short(read(&driver, from).await, 6, whole);
            }
            assert_eq!(read(&driver, 18).await, Ok(Offset(24)));
            let looked = driver.log.plan_lookup(2_000_000, Offset(30)).run(driver.disk.clone());
            assert!(matches!(looked.await, Err(ReadFailure::Damaged { .. })));
        });
    }
}

#[test]
fn a_segment_that_lost_its_last_batch_or_all_of_them_is_named() {
    in_simulation(|| async {
        let (machine, batches) = of_five_segments(None).await;
        let len = batches[0].len() as u64;
        machine.disks.install(&segment(6), &batches[2]);
        machine.disks.install(&segment(12), b"");
        let driver = machine.open().await;
        assert_eq!(read(&driver, 6).await, Ok(Offset(9)));
        assert_cut_short(read(&driver, 9).await, 6, len);
        assert_cut_short(read(&driver, 12).await, 12, 0);
    });
}

#[test]
fn a_log_whose_first_segment_is_gone_is_refused_until_it_is_restored_or_given_up() {
    in_simulation(|| async {
        let (machine, batches) = of_five_segments(None).await;
        remove(&machine, 0).await;
        let refused = machine.try_open(Vec::new()).await.map(drop).unwrap_err();
        assert_eq!(refused, OpenError::Lost { first: segment(6), start: Offset(0) });
        assert!(refused.to_string().contains("flumen log repair /d/log"), "{refused}");
        machine.disks.install(&segment(0), &batches[..2].concat());
        let mut driver = machine.open().await;
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches);
        drop(driver);
        machine.disks.kill();
        remove(&machine, 0).await;
        let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
        let place = place(DIR, &machine.gate).await;
        let repaired = repair(disk.clone(), &place).await.unwrap().expect("it is not whole");
        assert_eq!((repaired.begins, repaired.end), (Some(Offset(6)), Offset(30)));
        assert_eq!((repaired.bytes_cut, repaired.set_aside), (0, Vec::new()));
        assert_eq!(repair(disk, &place).await.unwrap(), None, "once is enough");
        let mut driver = machine.open().await;
        assert_eq!(driver.log.start(), Offset(6));
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches[2..]);
    });
}

#[test]
fn what_a_trim_leaves_below_the_start_is_no_part_of_the_log_and_what_is_above_must_be_there() {
    in_simulation(|| async {
        let (machine, _) = of_five_segments(None).await;
        let (mut driver, _) = machine.try_open(Vec::new()).await.unwrap();
        driver.log.trim_to(Offset(14));
        driver.settle().await.unwrap();
        drop(driver);
        machine.disks.kill();
        // What a trim that was cut short leaves is below the start, and no part of the log.
        machine.disks.install(&segment(0), b"old");
        let driver = machine.open().await;
        assert_eq!(driver.log.start(), Offset(14));
        assert!(machine.disks.content(&segment(0)).is_none());
        drop(driver);
        machine.disks.kill();
        remove(&machine, 12).await;
        let refused = machine.try_open(Vec::new()).await.map(drop).unwrap_err();
        assert_eq!(refused, OpenError::Lost { first: segment(18), start: Offset(14) });
    });
}

#[test]
fn a_log_that_lost_the_segment_of_its_recovery_point_opens_again_once_it_is_repaired() {
    in_simulation(|| async {
        let config = LogConfig { segment_bytes: 900, ..without_checkpoints() };
        let machine = Machine::new(config);
        // The point is brought to each new segment, unless the process ends before.
        let mut driver = machine.open().await;
        (0..3).for_each(|tag| drop(driver.append(3, 100, tag)));
        while driver.log.segments().count() < 2 {
            driver.step().await.unwrap();
        }
        drop(driver);
        machine.disks.crash();
        let (driver, _) = machine.try_open(Vec::new()).await.unwrap();
        let end = driver.log.end();
        drop(driver);
        machine.disks.kill();
        remove(&machine, 0).await;
        let refused = machine.try_open(Vec::new()).await.map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
        let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
        let place = place(DIR, &machine.gate).await;
        let repaired = repair(disk, &place).await.unwrap().expect("it is not whole");
        assert_eq!((repaired.begins, repaired.end), (Some(Offset(6)), end));
        assert_eq!(machine.open().await.log.start(), Offset(6));
    });
}

#[test]
fn a_segment_that_was_lost_since_a_clean_stop_is_named_by_reads_and_lookups() {
    in_simulation(|| async {
        let (machine, batches) = of_five_segments(None).await;
        let driver = machine.open().await;
        let (disk, owner) = (driver.disk.clone(), driver.owner.clone());
        let closed = driver.close().await;
        assert_eq!(closed.is_as_left(&disk, DIR.as_ref()).await, Ok(true));
        remove(&machine, 0).await;
        assert_eq!(closed.is_as_left(&disk, DIR.as_ref()).await, Ok(false));
        let place = place(DIR, &machine.gate).await;
        let log = Log::reopen(place, machine.config.clone(), closed.clone(), 1_000_000);
        let mut driver = Driver::new(log, &disk, owner, 1_000_000);
        let lost = ReadFailure::Lost(segment(0));
        assert_eq!(read(&driver, 3).await, Err(lost.clone()));
        let text = lost.to_string();
        assert!(text.contains("00000.log") && text.contains("flumen log repair /d/log"), "{text}");
        let looked = driver.log.plan_lookup(1_000_000, Offset(30)).run(disk.clone()).await;
        assert_eq!(looked, Err(lost), "there may be an older one there");
        assert_eq!(read(&driver, 6).await, Ok(Offset(12)));
        driver.append(3, 100, 77);
        driver.settle().await.unwrap();
        // One that is not as long as it was is not as it was left either.
        machine.disks.install(&segment(0), &batches[0]);
        assert_eq!(closed.is_as_left(&disk, DIR.as_ref()).await, Ok(false));
    });
}

#[test]
fn a_segment_that_nobody_can_look_into_any_more_makes_no_other_the_newest() {
    in_simulation(|| async {
        let (machine, _) = of_five_segments(None).await;
        let driver = machine.open().await;
        remove(&machine, 12).await;
        let newest = driver.log.plan_newest(Offset(30)).run(driver.disk.clone()).await;
        assert_eq!(newest, Err(ReadFailure::Lost(segment(12))));
    });
}

#[test]
fn what_a_trim_or_a_cut_removes_is_not_lost() {
    in_simulation(|| async {
        let (machine, _) = of_five_segments(None).await;
        let mut driver = machine.open().await;
        let plan = |driver: &Driver, from| {
            driver.log.plan_read(Offset(from), driver.log.end(), 1 << 20).unwrap()
        };
        let (trimmed, cut) = (plan(&driver, 3), plan(&driver, 18));
        driver.log.trim_to(Offset(8));
        driver.settle().await.unwrap();
        assert_eq!(trimmed.run(driver.disk.clone()).await.unwrap_err(), ReadFailure::Removed);
        driver.log.truncate_to(Offset(14));
        driver.settle().await.unwrap();
        assert_eq!(cut.run(driver.disk.clone()).await.unwrap_err(), ReadFailure::Removed);
    });
}
