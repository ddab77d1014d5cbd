//! How new a segment is, where only its files can tell.

use std::path::PathBuf;

use bytes::BytesMut;

use super::{
    super::*,
    driver::{Driver, batch_of},
    stories::{DIR, Machine, in_simulation, segment, without_checkpoints},
};
use crate::{
    batch::{self, control::Control, emptied},
    disk::DiskHandle,
    ids::{ArbiterId, LeaderEpoch},
    log::{index::TIME_ENTRY, segment::Kind},
};

/// Where in a batch its largest timestamp stands.
const MAX_TIMESTAMP: u64 = 35;

fn times(base: u64) -> PathBuf {
    Kind::TimeIndex.path(DIR.as_ref(), Offset(base))
}

/// A log of five segments of two batches, of which a process was killed: it is not known how new any is.
async fn of_five_segments() -> Machine {
    let config = LogConfig {
        segment_bytes: 900,
        index_interval_bytes: 1,
        retention_ms: Some(60_000),
        checkpoint_bytes: 1,
        ..without_checkpoints()
    };
    let machine = Machine::new(config);
    machine.with_ten_batches().await;
    machine.disks.kill();
    machine
}

async fn remove(machine: &Machine, path: PathBuf) {
    let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
    disk.remove(&path).await.unwrap();
}

async fn pass(driver: &mut Driver, ms: i64) {
    driver.pass(ms);
    driver.idle().await.unwrap();
}

#[test]
fn a_changed_bit_of_a_time_index_neither_removes_a_segment_nor_keeps_it() {
    for bit in 0..8 * TIME_ENTRY as u64 {
        in_simulation(|| async move {
            let machine = of_five_segments().await;
            let len = machine.disks.content(&times(0)).unwrap().len();
            let last = (len - TIME_ENTRY) as u64;
            machine.disks.flip_bit(&times(0), last + bit / 8, (bit % 8) as u8);
            let mut driver = machine.open().await;
            let newest = driver.log.plan_newest(driver.log.end());
            let newest = newest.run(driver.disk.clone()).await.unwrap();
            assert_eq!(newest, Some((Offset(2), 1_000_002)), "bit {bit}");
            pass(&mut driver, 50_000).await;
            assert_eq!(driver.log.start(), Offset(0), "bit {bit}: nothing is old enough");
            pass(&mut driver, 20_000).await;
            assert!(driver.log.start() >= Offset(24), "bit {bit}: {}", driver.log.start());
        });
    }
}

#[test]
fn a_segment_without_a_time_index_is_found_by_time_and_removed_when_it_is_old() {
    in_simulation(|| async {
        let machine = of_five_segments().await;
        for base in [0, 6, 12, 18] {
            remove(&machine, times(base)).await;
        }
        let mut driver = machine.open().await;
        pass(&mut driver, 1_000).await;
        let found = driver.log.plan_lookup(1_000_001, Offset(30)).run(driver.disk.clone()).await;
        assert_eq!(found, Ok(Some((Offset(1), 1_000_001))), "it was looked how new it is");
        pass(&mut driver, 70_000).await;
        assert!(driver.log.start() >= Offset(24), "{}", driver.log.start());
    });
}

#[test]
fn entries_that_a_time_index_lost_are_read_from_the_batches() {
    in_simulation(|| async {
        let machine = of_five_segments().await;
        let mut driver = machine.open().await;
        for (tag, ms) in [(20, 5), (21, 6), (22, 4_000), (23, 9)] {
            let batch = batch_of(driver.log.end(), 1, 100, 1_000_000 + ms, tag);
            driver.append_batch(batch);
        }
        driver.settle().await.unwrap();
        driver.log.roll();
        driver.settle().await.unwrap();
        // The recovery point moves behind it.
        driver.append(1, 10, 24);
        driver.settle().await.unwrap();
        let base = driver.log.segments().map(|segment| segment.base).nth(5).unwrap();
        drop(driver);
        machine.disks.kill();
        let whole = machine.disks.content(&times(base.0)).unwrap();
        machine.disks.install(&times(base.0), &whole[..TIME_ENTRY.min(whole.len())]);
        let driver = machine.open().await;
        let newest = driver.log.plan_newest(driver.log.end()).run(driver.disk.clone()).await;
        assert_eq!(newest, Ok(Some((Offset(32), 1_004_000))));
    });
}

#[test]
fn a_segment_that_cannot_tell_how_new_it_is_stays_until_it_is_restored() {
    in_simulation(|| async {
        let machine = of_five_segments().await;
        remove(&machine, times(0)).await;
        machine.disks.flip_bit(&segment(0), MAX_TIMESTAMP + 5, 4);
        let mut driver = machine.open().await;
        pass(&mut driver, 70_000).await;
        assert_eq!(driver.log.start(), Offset(0), "its records may be needed");
        assert_eq!(driver.log.failure(), None);
        let newest = driver.log.plan_newest(Offset(30)).run(driver.disk.clone()).await;
        assert!(matches!(newest, Err(ReadFailure::Damaged { .. })), "{newest:?}");
        let closed = driver.close().await;
        assert_eq!(closed.segments[0].newest, None, "it is looked at once more");
    });
}

#[test]
fn what_a_truncation_leaves_is_as_new_as_its_batches_are() {
    in_simulation(|| async {
        let config =
            LogConfig { index_interval_bytes: 1, checkpoint_bytes: 1, ..without_checkpoints() };
        let machine = Machine::new(config);
        let mut driver = machine.open().await;
        for ms in [1_000, 8_000, 1_000, 1_000, 1_000] {
            driver.append_batch(batch_of(driver.log.end(), 1, 10, ms, 1));
        }
        driver.log.roll();
        driver.settle().await.unwrap();
        driver.append(1, 10, 2);
        driver.settle().await.unwrap();
        drop(driver);
        machine.disks.kill();
        remove(&machine, times(0)).await;
        let mut driver = machine.open().await;
        driver.log.truncate_to(Offset(4));
        driver.settle().await.unwrap();
        let active = driver.log.segments().last().unwrap();
        assert_eq!((active.end, active.newest), (Offset(4), Some((8_000, Offset(1)))));
    });
}

/// A log of a batch of two records, and one without that is newer, or a marker that is.
async fn with_newer(last: impl FnOnce(Bytes) -> BytesMut) -> Driver {
    let machine = Machine::new(without_checkpoints());
    let mut driver = machine.open().await;
    driver.append_batch(batch_of(Offset(0), 2, 10, 1_000, 1));
    let mut newer = last(batch_of(Offset(2), 1, 10, 9_000, 2));
    batch::stamp(&mut newer, Offset(2), LeaderEpoch(0));
    driver.append_batch(newer.freeze());
    driver.settle().await.unwrap();
    driver
}

async fn newest(driver: &Driver, end: u64) -> Result<Option<(Offset, i64)>, ReadFailure> {
    driver.log.plan_newest(Offset(end)).run(driver.disk.clone()).await
}

#[test]
fn the_newest_is_the_marker_that_is_and_the_newest_record_where_a_batch_without_any_is() {
    in_simulation(|| async {
        let marker = Control::Commit { coordinator_epoch: 0 }.batch(9_000, 9, 0);
        let driver = with_newer(|_| marker).await;
        assert_eq!(newest(&driver, 3).await, Ok(Some((Offset(2), 9_000))));
        let by_time = driver.log.plan_lookup(9_000, Offset(3)).run(driver.disk.clone()).await;
        assert_eq!(by_time, Ok(None), "nobody is given a marker");
        let without_records =
            |batch: Bytes| BytesMut::from(&emptied(&BatchHeader::parse(&batch).unwrap())[..]);
        let driver = with_newer(without_records).await;
        assert_eq!(newest(&driver, 3).await, Ok(Some((Offset(1), 1_001))));
    });
}

#[test]
fn the_newest_of_what_may_be_read_is_found_where_a_newer_one_may_not() {
    in_simulation(|| async {
        let driver = with_newer(|batch| BytesMut::from(&batch[..])).await;
        assert_eq!(newest(&driver, 3).await, Ok(Some((Offset(2), 9_000))));
        assert_eq!(newest(&driver, 2).await, Ok(Some((Offset(1), 1_001))));
        assert_eq!(newest(&driver, 0).await, Ok(None));
    });
}
