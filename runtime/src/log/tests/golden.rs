//! What a clean stop leaves, byte for byte: these are the files that Kafka's own tools read.

use std::path::Path;

use super::{
    super::*,
    driver::{Driver, place},
};
use crate::{
    disk::{DiskHandle, DiskMaker as _, Engine, RealDisks},
    era::EraGate,
    ids::ArbiterId,
};

fn read(dir: &Path, name: &str) -> Vec<u8> {
    std::fs::read(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn numbers(bytes: &[u8], widths: &[usize]) -> Vec<Vec<u64>> {
    let width = widths.iter().sum();
    assert_eq!(bytes.len() % width, 0, "whole entries");
    let entry = |mut entry: &[u8]| {
        let mut fields = Vec::new();
        for width in widths {
            let (field, rest) = entry.split_at(*width);
            fields.push(field.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
            entry = rest;
        }
        fields
    };
    bytes.chunks_exact(width).map(entry).collect()
}

#[actix_rt::test]
async fn a_clean_stop_leaves_kafkas_files_and_the_recovery_point() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("t-0");
    let disks = RealDisks::choose(Engine::Threads).unwrap();
    let disk = DiskHandle::start(disks.make(ArbiterId(0), dir.path()).unwrap());
    let gate = EraGate::new(home.as_path());
    let config = LogConfig {
        segment_bytes: 700,
        index_interval_bytes: 150,
        journal: false,
        free_floor_bytes: 0,
        ..LogConfig::default()
    };
    let place = place(&home, &gate).await;
    let (mut driver, _) = Driver::open(&disk, place, config, Vec::new(), 5_000).await.unwrap();
    let mut len = 0;
    for tag in 0..8 {
        driver.now_ms = 5_000 + tag as i64 * 10;
        len = driver.append(2, 20, tag).len();
        driver.settle().await.unwrap();
    }
    drop(driver.close().await);
    // Two records of 20 bytes make 61 + 2 * 27 bytes: six batches to a segment of 700.
    assert_eq!(len, 115);
    let mut names: Vec<_> = std::fs::read_dir(&home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".snapshot"))
        .collect();
    names.sort();
    let expected = [
        "00000000000000000000.index",
        "00000000000000000000.log",
        "00000000000000000000.timeindex",
        "00000000000000000012.index",
        "00000000000000000012.log",
        "00000000000000000012.timeindex",
        "leader-epoch-checkpoint",
        "recovery-point",
    ];
    assert_eq!(names, expected);
    assert_eq!(read(&home, "00000000000000000000.log").len(), 6 * len);
    assert_eq!(read(&home, "00000000000000000012.log").len(), 2 * len);
    // An entry for the batch before which more than 150 bytes came since the last: the third, fifth.
    let offsets = numbers(&read(&home, "00000000000000000000.index"), &[4, 4]);
    assert_eq!(offsets, [[5, 230], [9, 460]]);
    // The time of each, and at the roll that of the newest record.
    let times = numbers(&read(&home, "00000000000000000000.timeindex"), &[8, 4]);
    assert_eq!(times, [[5_021, 5], [5_041, 9], [5_051, 11]]);
    let times = numbers(&read(&home, "00000000000000000012.timeindex"), &[8, 4]);
    assert_eq!(times, [[5_071, 3]]);
    assert_eq!(read(&home, "leader-epoch-checkpoint"), b"0\n1\n0 0\n");
}
