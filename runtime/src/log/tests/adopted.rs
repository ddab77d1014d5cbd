//! Logs that another program wrote: as Kafka's cleaner leaves them.

use std::{fs, path::Path};

use bytes::Bytes;

use super::{
    super::*,
    driver::{Driver, place},
};
use crate::{
    batch::{self, BatchBuilder, RecordRef},
    disk::{DiskHandle, DiskMaker as _, Engine, RealDisks},
    era::EraGate,
    ids::{ArbiterId, LeaderEpoch},
    log::adopt::{AdoptError, look_through},
};

/// A batch of two records at this offset, each with a key of its own.
fn keyed(at: u64) -> Bytes {
    let mut builder = BatchBuilder::new(1_000);
    for offset in [at, at + 1] {
        let (key, value) = (offset.to_be_bytes(), Some(&b"value"[..]));
        builder.push(RecordRef { timestamp: 1_000, key: Some(&key), value, headers: &[] });
    }
    let mut batch = builder.build();
    batch::stamp(&mut batch, Offset(at), LeaderEpoch(0));
    batch.freeze()
}

/// Writes a segment of batches at these offsets.
fn put(dir: &Path, base: u64, at: &[u64]) -> Vec<Bytes> {
    let batches: Vec<Bytes> = at.iter().map(|at| keyed(*at)).collect();
    fs::write(segment::Kind::Log.path(dir, Offset(base)), batches.concat()).unwrap();
    batches
}

async fn open_at(data: &Path, dir: &Path, compaction: Option<Compaction>) -> Driver {
    let disks = RealDisks::choose(Engine::Threads).unwrap();
    let disk = DiskHandle::start(disks.make(ArbiterId(0), data).unwrap());
    let gate = EraGate::new(dir);
    let config = LogConfig {
        journal: false,
        free_floor_bytes: 0,
        segment_bytes: 4_096,
        compaction,
        ..LogConfig::default()
    };
    Driver::open(&disk, place(dir, &gate).await, config, Vec::new(), 5_000).await.unwrap().0
}

/// The batches that have records.
fn full(batches: Vec<Bytes>) -> Vec<Bytes> {
    let has_records = |batch: &Bytes| BatchHeader::parse(batch).unwrap().record_count > 0;
    batches.into_iter().filter(has_records).collect()
}

#[actix_rt::test]
async fn a_log_with_holes_within_and_between_its_segments_is_read_and_compacted_to_its_end() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("t-0");
    fs::create_dir(&dir).unwrap();
    let mut written = put(&dir, 0, &[2, 8]);
    written.extend(put(&dir, 20, &[]));
    written.extend(put(&dir, 30, &[34, 40]));
    written.extend(put(&dir, 42, &[42, 44]));
    fs::write(dir.join("leader-epoch-checkpoint"), "0\n1\n0 0\n").unwrap();
    fs::write(dir.join("00000000000000000000.log.deleted"), "gone").unwrap();
    let look = || look_through(&dir, None, |_, _| {}).unwrap();
    look().adopt(b"").unwrap();
    // A second time there is nothing to fill any more.
    let before = fs::read(segment::Kind::Log.path(&dir, Offset(20))).unwrap();
    assert!(!before.is_empty(), "its offsets are taken by a batch without records");
    look().adopt(b"").unwrap();
    assert_eq!(fs::read(segment::Kind::Log.path(&dir, Offset(20))).unwrap(), before);
    assert!(!dir.join("00000000000000000000.log.deleted").exists());

    let mut log = open_at(data.path(), &dir, None).await;
    assert_eq!(full(log.read_all(1 << 20).await.unwrap()), written);
    written.push(log.append_batch(keyed(46)));
    log.settle().await.unwrap();
    log.close().await;

    let keep_all = Compaction { dirty_permille_min: 0, ..Compaction::default() };
    let mut log = open_at(data.path(), &dir, Some(keep_all)).await;
    log.log.compact(Decided::default());
    log.settle().await.unwrap();
    assert!(!log.log.compactor.is_impossible(), "it is a log like any other");
    assert!(log.log.compactor.cleaned_to.is_some_and(|to| to >= Offset(42)));
    assert_eq!(full(log.read_all(1 << 20).await.unwrap()), written);
}

#[test]
fn what_is_not_finished_or_lies_elsewhere_or_too_far_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path();
    put(dir, 10, &[10]);
    let look = |start| look_through(dir, start, |_, _| {});
    assert!(look(Some(Offset(10))).is_ok());
    let remote = look(Some(Offset(3))).unwrap_err();
    assert!(matches!(remote, AdoptError::Remote { .. }), "{remote}");
    put(dir, 1 << 40, &[]);
    let far = look(None).unwrap_err();
    assert!(matches!(far, AdoptError::Damaged { position, .. } if position > 0), "{far}");
    fs::remove_file(segment::Kind::Log.path(dir, Offset(1 << 40))).unwrap();
    put(dir, 10, &[10, 1 << 40]);
    let far = look(None).unwrap_err();
    assert!(far.to_string().contains("do not belong there"), "{far}");
    put(dir, 10, &[10]);
    fs::write(dir.join("00000000000000000010.log.swap"), "half").unwrap();
    let swap = look(None).unwrap_err();
    assert!(matches!(swap, AdoptError::Unfinished(_)), "{swap}");
}
