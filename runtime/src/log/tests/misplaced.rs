//! Batches whose base offset or epoch has changed on the disk: no checksum covers these.

use bytes::BytesMut;

use super::{
    super::*,
    driver::{Driver, batch_of, place},
    stories::{DIR, Machine, in_simulation, segment, without_checkpoints},
};
use crate::{
    disk::DiskHandle,
    ids::{ArbiterId, LeaderEpoch},
};

/// First byte of a batch's base offset, and of its epoch; the lowest byte of each is the last.
const BASE: u64 = 0;
const EPOCH: u64 = 12;

/// A log of ten batches, all below its recovery point.
async fn of_ten_batches() -> (Machine, Vec<Bytes>, u64) {
    let machine = Machine::new(LogConfig { checkpoint_bytes: 1, ..without_checkpoints() });
    let batches = machine.with_ten_batches().await;
    machine.disks.kill();
    let len = batches[0].len() as u64;
    (machine, batches, len)
}

async fn read(driver: &Driver, from: u64) -> Result<Vec<u64>, ReadFailure> {
    let end = driver.log.written_end();
    let plan = driver.log.plan_read(Offset(from), end, 1 << 20).expect("it is in the log");
    let done = plan.run(driver.disk.clone()).await?;
    let found = crate::batch::split(&done.batches);
    Ok(found.map(|found| found.expect("whole batches").0.base_offset.0).collect())
}

/// The batch that has begun at offset 12 is refused, by name, and all others are served.
async fn check_refused(driver: &Driver, len: u64) {
    assert_eq!(read(driver, 0).await.unwrap(), [0, 3, 6, 9]);
    assert_eq!(read(driver, 15).await.unwrap(), [15, 18, 21, 24, 27]);
    for from in 12..15 {
        match read(driver, from).await {
            Err(ReadFailure::Damaged { file, position, .. }) => {
                assert_eq!((file, position), (segment(0), 4 * len), "from {from}");
            }
            read => panic!("from {from}: {read:?}"),
        }
    }
}

#[test]
fn a_batch_that_says_another_offset_is_refused_whichever_bit_it_is() {
    for byte in BASE..BASE + 8 {
        for bit in 0..8 {
            in_simulation(|| async move {
                let (machine, _, len) = of_ten_batches().await;
                machine.disks.flip_bit(&segment(0), 4 * len + byte, bit);
                let driver = machine.open().await;
                // Without its sign it is no header, and nobody knows where the next one begins.
                match (byte, bit) {
                    (BASE, 7) => drop(read(&driver, 12).await.unwrap_err()),
                    _ => check_refused(&driver, len).await,
                }
            });
        }
    }
}

#[test]
fn a_batch_that_says_another_epoch_is_refused_whichever_bit_it_is() {
    for byte in EPOCH..EPOCH + 4 {
        for bit in 0..8 {
            in_simulation(|| async move {
                let (machine, _, len) = of_ten_batches().await;
                machine.disks.flip_bit(&segment(0), 4 * len + byte, bit);
                check_refused(&machine.open().await, len).await;
            });
        }
    }
}

#[test]
fn repair_cuts_before_a_batch_that_says_another_offset_or_epoch() {
    for byte in [BASE + 7, BASE + 3, EPOCH + 3, EPOCH + 1] {
        in_simulation(|| async move {
            let (machine, batches, len) = of_ten_batches().await;
            machine.disks.flip_bit(&segment(0), 4 * len + byte, 1);
            let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
            let place = place(DIR, &machine.gate).await;
            let repaired = repair(disk, &place).await.unwrap().expect("there is damage");
            assert_eq!((repaired.position, repaired.end), (4 * len, Offset(12)));
            let mut driver = machine.open().await;
            assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches[..4]);
        });
    }
}

#[test]
fn above_the_durable_mark_the_log_ends_before_a_batch_that_says_another_offset() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        let batches = machine.with_ten_batches().await;
        machine.disks.kill();
        machine.disks.flip_bit(&segment(0), 4 * batches[0].len() as u64 + BASE + 7, 4);
        let (mut driver, opened) = machine.try_open(Vec::new()).await.unwrap();
        assert_eq!(opened.cut.expect("what was cut is told").position, driver.active_bytes());
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches[..4]);
    });
}

#[test]
fn an_epoch_that_one_batch_above_the_mark_made_up_costs_that_batch_and_no_other() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        let len = machine.with_ten_batches().await[0].len() as u64;
        machine.disks.kill();
        machine.disks.flip_bit(&segment(0), 4 * len + EPOCH + 1, 6);
        let mut driver = machine.open().await;
        assert_eq!(driver.log.end(), Offset(30), "nothing is cut off");
        check_refused(&driver, len).await;
        driver.append(1, 10, 99);
        driver.settle().await.unwrap();
        assert_eq!(read(&driver, 30).await.unwrap(), [30]);
    });
}

#[test]
fn so_does_one_above_the_mark_that_went_back_to_an_earlier_epoch() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        let mut driver = machine.open().await;
        let mut len = 0;
        for (tag, epoch) in [0, 0, 1, 1, 1, 1, 1, 1, 1, 1].into_iter().enumerate() {
            let batch = batch_of(driver.log.end(), 3, 100, driver.now_ms, tag as u64);
            let (base, mut batch) = (driver.log.end(), BytesMut::from(batch));
            crate::batch::stamp(&mut batch, base, LeaderEpoch(epoch));
            len = driver.append_batch(batch.freeze()).len() as u64;
        }
        driver.settle().await.unwrap();
        machine.disks.kill();
        machine.disks.flip_bit(&segment(0), 4 * len + EPOCH + 3, 0);
        let driver = machine.open().await;
        assert_eq!(driver.log.epochs().end_of(LeaderEpoch(0), Offset(30)).unwrap().1, Offset(6));
        check_refused(&driver, len).await;
    });
}
