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
fn a_reader_has_it_written_and_the_log_puts_off_again() {
    in_simulation(|| async {
        let mut machine = Machine::new(without_checkpoints());
        let (mut driver, mut batches) = half_journalled(&mut machine).await;
        for tag in 60..63 {
            assert_eq!(driver.read_all(1 << 20).await.unwrap(), batches);
            let read = file_bytes(&machine);
            assert_eq!(read, driver.active_bytes() as usize);
            batches.push(driver.append(3, 100, tag));
            driver.settle().await.unwrap();
            assert_eq!(file_bytes(&machine), read, "it was put off");
        }
        let found = driver.log.plan_newest(driver.log.end()).run(driver.disk.clone()).await;
        assert!(found.unwrap().is_some());
        assert_eq!(file_bytes(&machine), driver.active_bytes() as usize);
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
        assert!(driver.read_all(1 << 20).await.is_err(), "nor is it there for readers");
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
