//! Batches that are durable in the journal, and not in their segment yet: readers, the next life, and
//! whatever else the log does find them there.

use super::{
    super::*,
    driver::{Driver, place},
    failures::half_journalled,
    stories::{DIR, Machine, in_simulation, segment, without_checkpoints},
};
use crate::disk::sim::Faults;

/// Bytes of the log's file.
fn file_bytes(machine: &Machine) -> usize {
    machine.disks.content(&segment(0)).unwrap().len()
}

#[test]
fn the_next_life_finds_what_was_put_off() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        let (driver, _) = half_journalled(&mut machine).await;
        let (disk, end) = (driver.disk.clone(), driver.log.durable_end());
        assert!(file_bytes(&machine) < driver.active_bytes() as usize, "it was put off");
        drop(driver);
        let place = place(DIR, &machine.gate).await;
        let opened =
            Driver::open(&disk, place, machine.config.clone(), Vec::new(), 1_000_000).await;
        let (mut driver, opened) = opened.unwrap();
        assert_eq!((driver.log.end(), opened.cut), (end, None));
        assert_eq!(driver.read_all(1 << 20).await.unwrap().len(), 15);
        driver.append(3, 100, 55);
        driver.settle().await.unwrap();
        assert_eq!(driver.read_all(1 << 20).await.unwrap().len(), 16);
    });
}

#[test]
fn readers_see_what_is_put_off_and_it_stays_so() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        let (mut driver, mut batches) = half_journalled(&mut machine).await;
        let bytes = file_bytes(&machine);
        for tag in 60..63 {
            for bytes_max in [1, 1 << 20] {
                assert_eq!(driver.read_all(bytes_max).await.unwrap(), batches);
            }
            let all = driver.log.plan_read(Offset(0), driver.log.end(), 1 << 20).unwrap();
            let all = all.run(driver.disk.clone()).await.unwrap();
            assert_eq!(all.batches, batches.concat(), "one read reaches from the file to its end");
            batches.push(driver.append(3, 100, tag));
            driver.settle().await.unwrap();
            assert_eq!(file_bytes(&machine), bytes, "it was put off");
        }
        let newest = driver.log.plan_newest(driver.log.end()).run(driver.disk.clone()).await;
        let first_put_off = 10 * 3;
        assert_eq!(newest.unwrap(), Some((Offset(2), 1_000_002)), "all are as old as the first");
        let read = driver.log.plan_read(Offset(first_put_off), driver.log.end(), 1).unwrap();
        // What was put off when it was planned may be written by the time it is run.
        driver.log.roll();
        driver.settle().await.unwrap();
        assert_eq!(read.run(driver.disk.clone()).await.unwrap().batches, batches[10]);
    });
}

#[test]
fn it_is_written_before_a_large_batch_a_new_segment_and_when_it_is_much() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        let (mut driver, mut batches) = half_journalled(&mut machine).await;
        batches.push(driver.append(9, 5_000, 60));
        driver.settle().await.unwrap();
        assert_eq!(file_bytes(&machine), driver.active_bytes() as usize);

        for tag in 61..100 {
            batches.push(driver.append(3, 300, tag));
            driver.settle().await.unwrap();
            let put_off = driver.active_bytes() as usize - file_bytes(&machine);
            assert!(put_off < 10_000, "{put_off} bytes are put off");
        }
        batches.push(driver.append(3, 100, 100));
        driver.settle().await.unwrap();
        assert!(file_bytes(&machine) < driver.active_bytes() as usize, "it was put off");
        let bytes = driver.active_bytes() as usize;
        driver.log.roll();
        driver.settle().await.unwrap();
        assert_eq!(file_bytes(&machine), bytes);
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches);
    });
}

#[test]
fn a_full_disk_holds_it_up_and_loses_nothing() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        let (mut driver, mut batches) = half_journalled(&mut machine).await;
        machine.disks.set_faults(Faults { capacity: 0, ..Faults::none() });
        // So large that it is not for the journal: what was put off must be written before it.
        batches.push(driver.append(9, 5_000, 60));
        driver.idle().await.unwrap();
        assert!(driver.log.is_full() && driver.log.failure().is_none());
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches[..15], "it can be read");
        machine.disks.set_faults(Faults::none());
        driver.settle().await.unwrap();
        assert!(!driver.log.is_full());
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches);
    });
}

#[test]
fn what_is_synced_instead_waits_for_room_too() {
    in_simulation(|| async {
        // Without a journal each commit is a sync.
        let machine = Machine::new(LogConfig { journal: true, ..without_checkpoints() });
        let mut batches = machine.with_ten_batches().await;
        let mut driver = machine.open().await;
        machine.disks.set_faults(Faults { capacity: 0, ..Faults::none() });
        batches.push(driver.append(30, 100, 60));
        driver.idle().await.unwrap();
        assert!(driver.log.is_full() && driver.log.failure().is_none());
        assert!(driver.log.durable_end() < driver.log.end());
        machine.disks.set_faults(Faults::none());
        driver.settle().await.unwrap();
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches);
    });
}

#[test]
fn the_next_life_opens_once_there_is_room_and_not_before() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        let (driver, batches) = half_journalled(&mut machine).await;
        let disk = driver.disk.clone();
        drop(driver);
        machine.disks.set_faults(Faults { capacity: 0, ..Faults::none() });
        let open = async || {
            let place = place(DIR, &machine.gate).await;
            Driver::open(&disk, place, machine.config.clone(), Vec::new(), 1_000_000).await
        };
        for _ in 0..3 {
            let refused = open().await.map(drop).unwrap_err();
            assert!(matches!(&refused, OpenError::Disk(error) if error.is_full()), "{refused}");
        }
        machine.disks.set_faults(Faults::none());
        let mut driver = open().await.unwrap().0;
        assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches);
    });
}

#[test]
fn a_large_batch_does_not_wait_for_what_is_done_beside() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        let (mut driver, _) = half_journalled(&mut machine).await;
        // As a compaction would, for seconds.
        driver.log.running.maintenance = true;
        driver.append(9, 5_000, 60);
        driver.idle().await.unwrap();
        assert_eq!(driver.log.durable_end(), driver.log.end());
    });
}

#[test]
fn the_recovery_point_moves_though_the_log_is_never_quiet() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        let (mut driver, _) = half_journalled(&mut machine).await;
        let config = LogConfig { checkpoint_bytes: 1_000, ..driver.log.config().clone() };
        driver.log.configure(config);
        let before = driver.log.checkpoint.end;
        for tag in 60..200 {
            // One waits already when the one before is done.
            driver.append(3, 100, tag);
            driver.step().await.unwrap();
        }
        let after = driver.log.checkpoint.end;
        assert!(after.since(before) > 100, "{before} to {after}");
    });
}
