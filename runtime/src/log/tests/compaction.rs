//! Compaction against a model of a map: of each key the last value stays, offsets do not change,
//! readers see a suffix of what there is; and a swap that is cut short anywhere is finished or undone.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    super::*,
    driver::{Driver, place},
};
use crate::{
    batch::{self, Attributes, BatchBuilder, Compression, RecordRef, control::Control},
    disk::{
        DiskHandle,
        sim::{Faults, SimDisks},
    },
    era::EraGate,
    ids::{ArbiterId, LeaderEpoch},
    rng::Rng,
    sim::{Planted, World},
};

pub(super) const DIR: &str = "/d/log";

/// A record as a reader sees it.
pub(super) type Seen = (u64, Vec<u8>, Option<Vec<u8>>);

pub(super) fn config(compaction: Compaction) -> LogConfig {
    LogConfig {
        segment_bytes: 2_000,
        index_interval_bytes: 300,
        checkpoint_bytes: 1,
        journal: false,
        free_floor_bytes: 0,
        compaction: Some(compaction),
        ..LogConfig::default()
    }
}

pub(super) fn always() -> Compaction {
    Compaction { dirty_permille_min: 0, ..Compaction::default() }
}

pub(super) struct Machine {
    pub(super) disks: SimDisks,
    gate: std::sync::Arc<EraGate>,
    config: LogConfig,
}

impl Machine {
    pub(super) fn new(seed: u64, config: LogConfig) -> Machine {
        Machine::on(SimDisks::new(&Rng::seeded(seed), Faults::none()), config)
    }

    pub(super) fn on(disks: SimDisks, config: LogConfig) -> Machine {
        disks.install(Path::new("/d/.keep"), b"");
        Machine { disks, gate: EraGate::new(Path::new(DIR)), config }
    }

    pub(super) async fn repair(&self) -> Option<Repaired> {
        let disk = DiskHandle::start(self.disks.disk_for(ArbiterId(0)));
        let place = place(DIR, &self.gate).await;
        repair(disk, &place).await.expect("it can be repaired")
    }

    pub(super) async fn open(&self, now_ms: i64) -> Driver {
        let disk = DiskHandle::start(self.disks.disk_for(ArbiterId(0)));
        let place = place(DIR, &self.gate).await;
        let opened = Driver::open(&disk, place, self.config.clone(), Vec::new(), now_ms).await;
        opened.unwrap_or_else(|error| panic!("COMPACT-2: {error}")).0
    }
}

pub(super) fn in_simulation<F: Future<Output = ()>>(seed: u64, story: impl FnOnce() -> F) {
    let outcome = crate::sim::run(seed, &[], |_| story());
    if let Err(why) = outcome.result {
        panic!("seed {seed}: {why}");
    }
}

pub(super) fn put(driver: &mut Driver, records: &[(&str, Option<&str>)]) {
    put_as(driver, BatchBuilder::new(driver.now_ms), records);
}

pub(super) fn put_under(
    driver: &mut Driver,
    compression: Compression,
    records: &[(&str, Option<&str>)],
) {
    let builder = BatchBuilder::new(driver.now_ms);
    let batch = filled(driver.now_ms, builder, records).freeze();
    append(driver, under(&batch, compression));
}

/// The batch under another codec.
pub(super) fn under(batch: &Bytes, compression: Compression) -> bytes::BytesMut {
    let header = BatchHeader::parse(batch).unwrap();
    let records = batch::records(batch, &header).unwrap();
    batch::recode(&header, &records, compression.into())
}

fn put_as(driver: &mut Driver, builder: BatchBuilder, records: &[(&str, Option<&str>)]) {
    append(driver, filled(driver.now_ms, builder, records));
}

fn filled(
    timestamp: i64,
    mut builder: BatchBuilder,
    records: &[(&str, Option<&str>)],
) -> bytes::BytesMut {
    for (key, value) in records {
        let value = value.map(str::as_bytes);
        builder.push(RecordRef { timestamp, key: Some(key.as_bytes()), value, headers: &[] });
    }
    builder.build()
}

fn append(driver: &mut Driver, mut batch: bytes::BytesMut) {
    batch::stamp(&mut batch, driver.log.end(), LeaderEpoch(0));
    let batch = batch.freeze();
    let header = BatchHeader::parse(&batch).unwrap();
    driver.log.append(batch, &header);
    driver.owner.0.push((header.base_offset, header.crc));
    driver.pump();
}

/// Closes what there is, and compacts it once.
pub(super) async fn compact(driver: &mut Driver, decided: Decided) {
    driver.settle().await.unwrap();
    driver.log.roll();
    driver.settle().await.unwrap();
    // The first time, the recovery point may be in the way, and is moved.
    for _ in 0..3 {
        if driver.log.wants_compaction(driver.now_ms) {
            driver.log.compact(decided.clone());
            driver.idle().await.unwrap();
        }
    }
    assert!(!driver.log.wants_compaction(driver.now_ms));
    assert!(!driver.log.is_compacting());
}

pub(super) async fn batches(driver: &mut Driver) -> Vec<(BatchHeader, Bytes)> {
    let all = driver.read_all(700).await.unwrap();
    all.into_iter().map(|batch| (BatchHeader::parse(&batch).unwrap(), batch)).collect()
}

pub(super) async fn read(driver: &mut Driver) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (header, batch) in batches(driver).await {
        if header.attributes.is_control() {
            continue;
        }
        for record in batch::expand(&batch, &header, 1 << 20).unwrap() {
            let record = record.unwrap();
            let value = record.value.map(|value| value.to_vec());
            seen.push((record.offset.0, record.key.unwrap().to_vec(), value));
        }
    }
    seen
}

pub(super) fn keys(seen: &[Seen]) -> Vec<(u64, &str)> {
    seen.iter().map(|(at, key, _)| (*at, std::str::from_utf8(key).unwrap())).collect()
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    in_simulation(1, || async {
        let machine = Machine::new(1, config(always()));
        let mut driver = machine.open(1_000).await;
        put(&mut driver, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
        put(&mut driver, &[("a", Some("2")), ("a", Some("3"))]);
        put(&mut driver, &[("b", None)]);
        compact(&mut driver, Decided::default()).await;
        let left = read(&mut driver).await;
        assert_eq!(keys(&left), [(2, "c"), (4, "a"), (5, "b")]);
        assert_eq!(left[1].2.as_deref(), Some(&b"3"[..]));
        // From an offset that is gone, reading begins at the next that is there.
        for (from, first) in [(0, 2), (1, 2), (3, 4), (5, 5)] {
            let plan = driver.log.plan_read(Offset(from), Offset(6), 1).unwrap();
            let read = plan.run(driver.disk.clone()).await.unwrap();
            let header = BatchHeader::parse(&read.batches).unwrap();
            let found = batch::records(&read.batches, &header)
                .unwrap()
                .map(|record| record.unwrap().offset.0)
                .find(|at| *at >= from);
            assert_eq!(found, Some(first), "from {from}");
        }
    });
}

#[test]
fn compressed_batches_are_thinned_and_keep_their_codec() {
    in_simulation(1, || async {
        let machine = Machine::new(1, config(Compaction { tombstone_age_ms: 5_000, ..always() }));
        let mut driver = machine.open(1_000).await;
        let all = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        for compression in all {
            let own = format!("{compression:?}");
            put_under(
                &mut driver,
                compression,
                &[("a", Some("1")), (&own, Some("2")), ("b", None)],
            );
        }
        put(&mut driver, &[("a", Some("3"))]);
        compact(&mut driver, Decided::default()).await;
        let wanted = [(1, "Gzip"), (4, "Snappy"), (7, "Lz4"), (10, "Zstd"), (11, "b"), (12, "a")];
        assert_eq!(keys(&read(&mut driver).await), wanted);
        let left = batches(&mut driver).await;
        let codecs = left.iter().map(|(header, _)| header.attributes.compression());
        assert_eq!(codecs.take(4).collect::<Vec<_>>(), all);
        assert!(left[3].0.attributes.has_delete_horizon(), "the tombstone is to go");
        assert_eq!((left[0].0.record_count, left[3].0.record_count), (1, 2));
        check_segments(&mut driver).await;
        driver.pass(6_000);
        put(&mut driver, &[("c", Some("1"))]);
        compact(&mut driver, Decided::default()).await;
        assert!(!keys(&read(&mut driver).await).contains(&(11, "b")), "it is gone");
    });
}

#[test]
fn a_tombstone_goes_when_its_time_is_over_and_not_before() {
    in_simulation(1, || async {
        let how = Compaction { tombstone_age_ms: 60_000, ..always() };
        let machine = Machine::new(1, config(how));
        let mut driver = machine.open(1_000).await;
        put(&mut driver, &[("a", Some("1")), ("b", Some("1"))]);
        put(&mut driver, &[("a", None)]);
        compact(&mut driver, Decided::default()).await;
        let (header, _) = batches(&mut driver).await.pop().unwrap();
        assert!(header.attributes.has_delete_horizon());
        assert_eq!(header.base_timestamp, driver.now_ms + 60_000);
        for (passes, kept) in [(30_000, true), (31_000, false)] {
            driver.pass(passes);
            put(&mut driver, &[("c", Some("x"))]);
            compact(&mut driver, Decided::default()).await;
            let left = read(&mut driver).await;
            assert_eq!(keys(&left).contains(&(2, "a")), kept, "{left:?}");
        }
    });
}

#[test]
fn a_tombstone_behind_a_batch_that_cannot_be_read_stays() {
    in_simulation(1, || async {
        let machine = Machine::new(1, config(Compaction { tombstone_age_ms: 0, ..always() }));
        let mut driver = machine.open(1_000).await;
        let mut opaque = BatchBuilder::new(1_000);
        let (timestamp, key, value) = (1_000, Some(&b"a"[..]), Some(&b"1"[..]));
        opaque.push(RecordRef { timestamp, key, value, headers: &[] });
        let mut opaque = opaque.build();
        // As if compressed: nobody can say which keys are in there.
        opaque[22] = 3;
        let crc = crate::codec::crc32c(&[&opaque[21..]]);
        opaque[17..21].copy_from_slice(&crc.to_be_bytes());
        append(&mut driver, opaque);
        put(&mut driver, &[("b", Some("1")), ("a", None)]);
        compact(&mut driver, Decided::default()).await;
        driver.pass(10_000);
        put(&mut driver, &[("b", Some("2"))]);
        compact(&mut driver, Decided::default()).await;
        let left = batches(&mut driver).await;
        let bases: Vec<u64> = left.iter().map(|(header, _)| header.base_offset.0).collect();
        assert_eq!(bases, [0, 1, 3]);
        assert_eq!(left[1].0.record_count, 1, "the tombstone, without the value beside it");
    });
}

#[test]
fn aborted_records_neither_stay_nor_supersede_and_markers_stay() {
    in_simulation(1, || async {
        let machine = Machine::new(1, config(always()));
        let mut driver = machine.open(1_000).await;
        let transactional = |sequence| {
            let bits = Attributes(Attributes::TRANSACTIONAL);
            BatchBuilder::new(1_000).attributes(bits).producer(9, 0, sequence)
        };
        put(&mut driver, &[("a", Some("kept"))]);
        put_as(&mut driver, transactional(0), &[("a", Some("void"))]);
        append(&mut driver, Control::Abort { coordinator_epoch: 0 }.batch(1_000, 9, 0));
        put_as(&mut driver, transactional(1), &[("b", Some("holds"))]);
        append(&mut driver, Control::Commit { coordinator_epoch: 0 }.batch(1_000, 9, 0));
        put(&mut driver, &[("c", Some("x"))]);
        let aborted = vec![Aborted { producer_id: 9, first: Offset(1), last: Offset(2) }];
        compact(&mut driver, Decided { aborted, ..Decided::default() }).await;
        let left = read(&mut driver).await;
        assert_eq!(keys(&left), [(0, "a"), (3, "b"), (5, "c")]);
        let markers = batches(&mut driver).await;
        let markers = markers.iter().filter(|(header, _)| header.attributes.is_control());
        assert_eq!(markers.map(|(header, _)| header.base_offset.0).collect::<Vec<_>>(), [2, 4]);
    });
}

#[test]
fn a_producers_last_batch_stays_though_empty() {
    in_simulation(1, || async {
        let machine = Machine::new(1, config(always()));
        let mut driver = machine.open(1_000).await;
        let by = |sequence| BatchBuilder::new(1_000).producer(7, 1, sequence);
        put_as(&mut driver, by(0), &[("a", Some("1"))]);
        put_as(&mut driver, by(1), &[("a", Some("2")), ("a", Some("3"))]);
        put(&mut driver, &[("a", Some("4"))]);
        let last_batches = [Offset(2)].into();
        compact(&mut driver, Decided { last_batches, ..Decided::default() }).await;
        let left = batches(&mut driver).await;
        let (empty, _) = &left[0];
        assert_eq!((empty.base_offset, empty.next_offset()), (Offset(1), Offset(3)));
        assert_eq!((empty.record_count, empty.producer_id, empty.last_sequence()), (0, 7, 2));
        assert_eq!(left.len(), 2);
    });
}

#[test]
fn what_does_not_fit_into_memory_takes_several_passes() {
    in_simulation(1, || async {
        let how = Compaction { keys_bytes_max: 300, ..always() };
        let machine = Machine::new(1, config(how));
        let mut driver = machine.open(1_000).await;
        for round in 0..6 {
            for key in 0..40 {
                put(&mut driver, &[(&format!("key {key}"), Some(&format!("{round}")))]);
            }
        }
        compact(&mut driver, Decided::default()).await;
        let left = read(&mut driver).await;
        assert_eq!(
            left.iter().map(|(at, ..)| *at).collect::<Vec<_>>(),
            (200..240).collect::<Vec<_>>()
        );
        let segments: Vec<_> = driver.log.segments().cloned().collect();
        assert!(segments.len() < 5, "small neighbours are merged: {segments:?}");
    });
}

#[test]
fn a_damaged_segment_is_not_compacted_and_the_log_goes_on() {
    in_simulation(1, || async {
        let machine = Machine::new(1, config(always()));
        let mut driver = machine.open(1_000).await;
        put(&mut driver, &[("a", Some("1")), ("a", Some("2"))]);
        driver.log.roll();
        driver.settle().await.unwrap();
        let first = Path::new(DIR).join("00000000000000000000.log");
        machine.disks.flip_bit(&first, 70, 1);
        let before = machine.disks.content(&first);
        put(&mut driver, &[("a", Some("3"))]);
        driver.settle().await.unwrap();
        driver.log.compact(Decided::default());
        driver.idle().await.unwrap();
        assert!(!driver.log.is_compacting() && !driver.log.wants_compaction(i64::MAX));
        assert_eq!(machine.disks.content(&first), before);
        put(&mut driver, &[("a", Some("4"))]);
        driver.settle().await.unwrap();
    });
}

/// How batches come: a third of them plain.
pub(super) const ANY: [Compression; 6] = [
    Compression::None,
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

type Model = BTreeMap<u64, (String, Option<String>)>;

/// Lives of one log that is compacted now and then, each ended anywhere. Returns how many swaps were
/// cut short and finished, how many undone, and how many compactions came to their end.
async fn lives(world: World) -> [u64; 3] {
    let mut rng = world.rng.split("workload");
    let how = Compaction {
        dirty_permille_min: [0, 300, 500][rng.below(3) as usize],
        tombstone_age_ms: rng.below(3) * 5_000,
        keys_bytes_max: [200, 1_000, 1 << 20][rng.below(3) as usize],
        ..Compaction::default()
    };
    let config = LogConfig {
        segment_bytes: [500, 2_000, 8_000][rng.below(3) as usize],
        checkpoint_bytes: [1, 2_000][rng.below(2) as usize],
        ..config(how)
    };
    world.disks.install(Path::new("/d/.keep"), b"");
    let machine =
        Machine { disks: world.disks.clone(), gate: EraGate::new(Path::new(DIR)), config };
    let mut model = Model::new();
    let (mut durable, mut now_ms) = (0, 1_000_000);
    for _ in 0..6 {
        let mut driver = machine.open(now_ms).await;
        assert!(driver.log.end().0 >= durable, "LOG-2: {durable} was durable");
        model.split_off(&driver.log.end().0);
        check(&mut driver, &model).await;
        for _ in 0..rng.below(60) {
            act(&mut driver, &mut model, &mut rng).await;
            durable = driver.log.durable_end().0;
        }
        now_ms = driver.now_ms;
        if rng.chance(1, 3) {
            // Ends in the middle of a compaction.
            driver.settle().await.unwrap();
            driver.log.compact(Decided::default());
            for _ in 0..rng.below(30) {
                driver.step().await.unwrap();
            }
            driver.pump();
            world.pass(Duration::from_millis(rng.below(60))).await;
            durable = driver.log.durable_end().0;
        }
        match rng.below(5) {
            0 => {
                drop(driver.close().await);
                let names = machine.disks.files();
                let is_left = |path: &std::path::PathBuf| {
                    path.extension().is_some_and(|kind| kind == "cleaned" || kind == "swap")
                };
                assert!(!names.iter().any(is_left), "a clean stop leaves {names:?}");
            }
            1 => machine.disks.kill(),
            _ => machine.disks.crash(),
        }
    }
    let mut driver = machine.open(now_ms).await;
    model.split_off(&driver.log.end().0);
    check(&mut driver, &model).await;
    ["cut short was finished", "cut short was undone", "compacted; "]
        .map(|text| world.trace.logged(text))
}

/// Does something of what an owner may do.
async fn act(driver: &mut Driver, model: &mut Model, rng: &mut Rng) {
    match rng.below(12) {
        0..=5 => {
            let mut records = Vec::new();
            for _ in 0..=rng.below(4) {
                let key = format!("key {}", rng.below(12));
                let value = (!rng.chance(1, 4)).then(|| format!("{}", rng.below(1 << 40)));
                let at = driver.log.end().0 + records.len() as u64;
                model.insert(at, (key.clone(), value.clone()));
                records.push((key, value));
            }
            let records: Vec<_> = records.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
            put_under(driver, ANY[rng.below(6) as usize], &records);
        }
        6 => driver.log.roll(),
        7 => driver.pass(rng.below(4_000) as i64),
        8 => check(driver, model).await,
        9 if driver.log.wants_compaction(driver.now_ms) => driver.log.compact(Decided::default()),
        _ => {
            for _ in 0..rng.below(12) {
                driver.step().await.unwrap();
            }
        }
    }
    driver.pump();
}

/// Of each key the last value is read, and nothing that was not appended.
async fn check(driver: &mut Driver, model: &Model) {
    let end = driver.log.written_end().0;
    let seen = read(driver).await;
    let mut last = BTreeMap::new();
    for (at, key, value) in &seen {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let known = (text(key), value.as_deref().map(text));
        assert_eq!(model.get(at), Some(&known), "COMPACT-2: at {at}");
        last.insert(known.0, known.1);
    }
    assert!(seen.is_sorted_by_key(|(at, ..)| *at), "COMPACT-2");
    last.retain(|_, value| value.is_some());
    let mut wanted: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (key, value) in model.range(..end).map(|(_, record)| record.clone()) {
        wanted.insert(key, value);
    }
    wanted.retain(|_, value| value.is_some());
    assert_eq!(last, wanted, "COMPACT-1: {:?}", driver.log);
}

/// Several small segments become one, and the power goes on the way, and again while that is
/// recovered. Returns how many swaps were finished, and how many undone.
async fn cut_short(world: World) -> [u64; 2] {
    let mut rng = world.rng.split("workload");
    let faults = Faults { latency_ms: 1, ..Faults::swarm(&mut rng.split("faults")) };
    world.disks.set_faults(Faults { latency_ms: 0, ..faults });
    world.disks.install(Path::new("/d/.keep"), b"");
    let config = LogConfig { segment_bytes: 8_000, ..config(always()) };
    let machine =
        Machine { disks: world.disks.clone(), gate: EraGate::new(Path::new(DIR)), config };
    let mut driver = machine.open(1_000_000).await;
    let mut model = Model::new();
    for round in 0..5 {
        for key in 0..4 + rng.below(4) {
            let (key, value) = (format!("key {key}"), Some(format!("{round}")));
            let compression = ANY[rng.below(6) as usize];
            put_under(&mut driver, compression, &[(&key, value.as_deref())]);
            model.insert(driver.log.end().0 - 1, (key, value));
        }
        driver.settle().await.unwrap();
        driver.log.roll();
        driver.settle().await.unwrap();
        driver.pass(1_000);
    }
    put(&mut driver, &[("last", None)]);
    model.insert(driver.log.end().0 - 1, ("last".to_owned(), None));
    driver.settle().await.unwrap();
    world.disks.set_faults(faults);
    driver.log.compact(Decided::default());
    driver.pump();
    // Each compressed batch takes a piece of its own, twice.
    for _ in 0..rng.below(120) {
        world.pass(Duration::from_millis(1)).await;
        driver.catch_up().unwrap();
    }
    for _ in 0..3 {
        if rng.chance(1, 4) {
            machine.disks.kill();
        } else {
            machine.disks.crash();
        }
        let within = Duration::from_millis(rng.below(25));
        drop(tokio::time::timeout(within, machine.open(1_000_000)).await);
    }
    machine.disks.crash();
    world.disks.set_faults(Faults::none());
    let mut driver = machine.open(1_000_000).await;
    assert_eq!(driver.log.end().0, model.len() as u64, "LOG-2");
    check(&mut driver, &model).await;
    check_segments(&mut driver).await;
    compact(&mut driver, Decided::default()).await;
    check(&mut driver, &model).await;
    check_segments(&mut driver).await;
    ["cut short was finished", "cut short was undone"].map(|text| world.trace.logged(text))
}

/// Segments follow each other, and their time indexes are their own.
pub(super) async fn check_segments(driver: &mut Driver) {
    assert!(!driver.log.compactor.is_impossible(), "COMPACT-2: segments overlap");
    let all = batches(driver).await;
    let start = driver.log.start();
    // Of one that holds the start, not all is read.
    for segment in driver.log.closed.clone().into_iter().filter(|s| s.base >= start) {
        let inside: Vec<_> = all
            .iter()
            .filter(|(h, _)| h.base_offset >= segment.base && h.base_offset < segment.end)
            .collect();
        let bytes: u64 = inside.iter().map(|(_, batch)| batch.len() as u64).sum();
        assert_eq!(bytes, segment.size, "COMPACT-2: {segment:?} holds something else");
        let newest = inside.iter().map(|(header, _)| header.max_timestamp).max();
        let (place, times) = (driver.log.place.clone(), segment.indexed.times);
        let last = io::last_time(&place, &driver.disk, segment.base, times).await.unwrap();
        assert_eq!(last.map(|(time, _)| time), newest, "another's time index: {segment:?}");
    }
}

#[test]
fn a_swap_that_is_cut_short_anywhere_is_finished_or_undone() {
    let mut met = [0; 2];
    for seed in seeds() {
        match crate::sim::run(seed, &[], cut_short).result {
            Ok(seen) => met = [0, 1].map(|which| met[which] + seen[which]),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!(met.iter().all(|times| *times > 5), "vacuous: finished, undone: {met:?}");
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let first = number("LOG_SEED").unwrap_or(0);
    first..first.max(number("LOG_SEEDS").unwrap_or(150))
}

#[test]
fn whatever_ends_a_life_the_last_value_of_each_key_is_there() {
    let mut met = [0; 3];
    for seed in seeds() {
        match crate::sim::run(seed, &[], lives).result {
            Ok(seen) => met = [0, 1, 2].map(|which| met[which] + seen[which]),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!(met.iter().all(|times| *times > 0), "vacuous: finished, undone, done: {met:?}");
}

#[test]
fn a_disk_that_forgets_names_or_bytes_in_a_swap_is_found() {
    for bug in [Planted::NoDirectorySync, Planted::AckBeforeSync] {
        let is_found = |seed| crate::sim::run(seed, &[bug], cut_short).result.is_err();
        assert!((0..200).any(is_found), "{bug:?} was not found");
    }
}
