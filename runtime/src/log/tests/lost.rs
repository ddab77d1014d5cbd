//! Whole segments that are gone, or have lost their end, below the recovery point.

use super::{
    super::*,
    driver::Driver,
    stories::{Machine, in_simulation, segment, without_checkpoints},
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
