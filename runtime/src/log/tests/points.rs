//! A recovery point that is lost: the log is read without it, or a repair makes it anew.

use std::path::{Path, PathBuf};

use bytes::BytesMut;

use super::{
    super::*,
    compaction::{self, always, batches, check_segments, compact, put},
    driver::{Driver, batch_of, place},
    stories::{DIR, Machine, in_simulation, segment, without_checkpoints},
};
use crate::{
    batch,
    disk::{DiskHandle, sim::SimDisks},
    era::EraGate,
    ids::{ArbiterId, LeaderEpoch},
};

/// How a point may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Damaged,
    Missing,
}

async fn lose_point(disks: &SimDisks, gate: &std::sync::Arc<EraGate>, loss: Loss) {
    let path: PathBuf = Path::new(DIR).join("recovery-point");
    match loss {
        Loss::Damaged => {
            let mut bytes = disks.content(&path).unwrap().to_vec();
            for slot in [20, 512 + 20] {
                bytes[slot] ^= 1;
            }
            disks.install(&path, &bytes);
        }
        Loss::Missing => {
            let disk = DiskHandle::start(disks.disk_for(ArbiterId(0)));
            let place = place(DIR, gate).await;
            disk.remove_under(path, &place.ticket).await.unwrap();
            disk.sync_dir(DIR).await.unwrap();
        }
    }
    disks.kill();
}

async fn repaired(machine: &Machine) -> Option<Repaired> {
    let disk = DiskHandle::start(machine.disks.disk_for(ArbiterId(0)));
    repair(disk, &place(DIR, &machine.gate).await).await.unwrap()
}

/// Appends a batch of three records under `epoch`.
fn append_in(driver: &mut Driver, epoch: u32, tag: u64) -> Bytes {
    let end = driver.log.end();
    let mut batch = BytesMut::from(&*batch_of(end, 3, 100, driver.now_ms, tag));
    batch::stamp(&mut batch, end, LeaderEpoch(epoch));
    driver.append_batch(batch.freeze())
}

#[test]
fn a_repair_makes_a_lost_recovery_point_anew_and_gives_up_nothing() {
    for loss in [Loss::Damaged, Loss::Missing] {
        in_simulation(|| async move {
            let config =
                LogConfig { segment_bytes: 1_000, checkpoint_bytes: 1, ..without_checkpoints() };
            let machine = Machine::new(config);
            let all = machine.with_ten_batches().await;
            machine.disks.kill();
            lose_point(&machine.disks, &machine.gate, loss).await;
            if loss == Loss::Damaged {
                let refused = machine.try_open(Vec::new()).await.map(drop).unwrap_err();
                assert!(refused.to_string().contains("flumen log repair"), "{refused}");
            }
            let done = repaired(&machine).await.expect("it lacks its point");
            assert_eq!((done.end, done.bytes_cut, done.set_aside), (Offset(30), 0, Vec::new()));
            assert_eq!(done.forgot_start, Some(Offset(0)), "it is said what nobody knows");
            for _ in 0..2 {
                let mut driver = machine.open().await;
                assert_eq!(driver.log.end(), Offset(30));
                assert_eq!(driver.read_all(1 << 20).await.unwrap(), all);
                machine.disks.crash();
            }
            assert_eq!(repaired(&machine).await, None, "now it has one");
        });
    }
}

#[test]
fn a_log_that_lost_its_point_claims_of_its_beginning_no_more_than_is_known() {
    let outcome = crate::sim::run(1, &[], |world| async move {
        let machine = Machine::new(LogConfig { checkpoint_bytes: 1, ..without_checkpoints() });
        machine.with_ten_batches().await;
        machine.disks.kill();
        lose_point(&machine.disks, &machine.gate, Loss::Missing).await;
        machine.open().await;
        assert_eq!(world.trace.logged("may be in it again"), 1, "nothing was deleted");
    });
    outcome.result.unwrap();
}

#[test]
fn a_compacted_log_that_lost_its_point_is_read_over_its_holes_with_and_without_a_repair() {
    for (loss, is_repaired) in
        [(Loss::Damaged, true), (Loss::Missing, true), (Loss::Missing, false)]
    {
        in_simulation(|| async move {
            let config = LogConfig { segment_bytes: 300, ..compaction::config(always()) };
            let machine = Machine::new(config);
            let mut driver = machine.open().await;
            for round in 0..8 {
                let value = format!("{round}");
                put(&mut driver, &["a", "b"].map(|key| (key, Some(value.as_str()))));
                put(&mut driver, &[("c", Some(value.as_str()))]);
            }
            compact(&mut driver, Decided::default()).await;
            put(&mut driver, &[("last", Some("x"))]);
            driver.settle().await.unwrap();
            let (left, end) = (batches(&mut driver).await, driver.log.end());
            assert!(end.0 > 2 * left.len() as u64, "there are holes");
            drop(driver);
            machine.disks.kill();
            lose_point(&machine.disks, &machine.gate, loss).await;
            if is_repaired {
                let done = repaired(&machine).await.expect("it lacks its point");
                assert_eq!((done.end, done.bytes_cut), (end, 0), "holes are no damage");
            }
            for _ in 0..3 {
                let mut driver = machine.open().await;
                assert_eq!(batches(&mut driver).await, left);
                check_segments(&mut driver).await;
                drop(driver);
                machine.disks.crash();
            }
        });
    }
}

#[test]
fn epochs_that_only_the_batches_say_are_known_below_a_point_that_a_repair_made() {
    for damaged in [None, Some(21)] {
        in_simulation(|| async move {
            let mut machine =
                Machine::new(LogConfig { segment_bytes: 1_000, ..without_checkpoints() });
            let mut driver = machine.open().await;
            let mut all = vec![append_in(&mut driver, 1, 0)];
            drop(driver.close().await);
            machine.disks.kill();
            machine.gate = EraGate::new(Path::new(DIR));
            let mut driver = machine.open().await;
            all.extend((1..10).map(|tag| append_in(&mut driver, 1 + tag as u32 / 3, tag)));
            driver.settle().await.unwrap();
            let bases: Vec<u64> = driver.log.segments().map(|segment| segment.base.0).collect();
            drop(driver);
            machine.disks.kill();
            machine.gate = EraGate::new(Path::new(DIR));
            let kept = match damaged {
                None => {
                    lose_point(&machine.disks, &machine.gate, Loss::Damaged).await;
                    all.len()
                }
                Some(at) => {
                    let base = bases.iter().rev().find(|base| **base <= at).unwrap();
                    assert!(machine.disks.flip_bit(&segment(*base), 80, 1));
                    *base as usize / 3
                }
            };
            let done = repaired(&machine).await.expect("there is something to repair");
            assert_eq!(done.end, Offset(3 * kept as u64), "a new epoch is no damage");
            let mut driver = machine.open().await;
            assert_eq!(driver.read_all(1 << 20).await.unwrap(), all[..kept]);
        });
    }
}
