//! A log against fifty lines of model, on a disk that forgets: whatever was asked for, however it
//! ended, what was durable is there, and what is there is a prefix of what was appended.

use std::{collections::BTreeSet, path::Path, time::Duration};

use super::{
    super::*,
    compaction::{ANY, under},
    driver::{Driver, History, batch_of, place},
};
use crate::{
    disk::{
        DiskHandle,
        sim::{Faults, SimDisks},
    },
    era::EraGate,
    ids::{ArbiterId, LogId},
    journal::{self, Replayed},
    rng::Rng,
};

const DIR: &str = "/d/log";

/// All that may be asked of a log, without disk, segments, or time.
#[derive(Debug, Default)]
struct Model {
    batches: Vec<(Offset, Bytes)>,
    /// What a crash may not take.
    durable: Offset,
    /// The start may lie anywhere from what is durable to what was asked for.
    start: (Offset, Offset),
    /// A truncation that was asked for and not seen done.
    truncating: Option<Offset>,
}

impl Model {
    fn next(batch: &(Offset, Bytes)) -> Offset {
        BatchHeader::parse(&batch.1).unwrap().next_offset()
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset::ZERO, Self::next)
    }

    fn truncated(&self, offset: Offset) -> Offset {
        let kept = self.batches.iter().rev().find(|batch| Self::next(batch) <= offset);
        kept.map_or(Offset::ZERO, Self::next)
    }

    /// The log shows itself after a truncation, a crash, or nothing at all.
    fn see(&mut self, log: &Log) {
        self.batches.retain(|batch| Self::next(batch) <= log.end());
        assert_eq!(self.end().max(log.start()), log.end(), "LOG-2: not a prefix");
        assert!(log.start() >= self.start.0, "LOG-2: the start went back");
        assert!(log.start() <= self.start.1, "the start went further than asked for");
    }

    fn recovered(&mut self, log: &Log, owner: &History) {
        let mut least = self.durable;
        if let Some(offset) = self.truncating.take() {
            least = least.min(self.truncated(offset));
            self.start.0 = self.start.0.min(least);
        }
        assert!(log.end() >= least, "LOG-2: {} was durable, {} is left", least, log.end());
        assert_eq!(log.durable_end(), log.end(), "what recovery leaves is durable");
        self.see(log);
        self.start = (log.start(), log.start());
        self.durable = log.end();
        let known: Vec<_> = self.batches.iter().map(|(base, batch)| (*base, crc(batch))).collect();
        // It may know more than is kept, but not with holes in what is kept.
        let replayed = owner.0.iter().filter(|batch| known.contains(batch)).count();
        assert_eq!(replayed, owner.0.len(), "replay gave {owner:?}, and there was {known:?}");
        let first = known.partition_point(|(base, _)| *base < log.start());
        assert!(owner.0.ends_with(&known[first..]), "{owner:?} lacks some of {known:?}");
    }

    fn kept(&self, start: Offset, end: Offset) -> Vec<Bytes> {
        let inside =
            |batch: &&(Offset, Bytes)| Self::next(batch) > start && Self::next(batch) <= end;
        self.batches.iter().filter(inside).map(|(_, batch)| batch.clone()).collect()
    }
}

fn crc(batch: &Bytes) -> u32 {
    BatchHeader::parse(batch).unwrap().crc
}

fn config(rng: &mut Rng) -> LogConfig {
    LogConfig {
        segment_bytes: [2_000, 20_000, 200_000][rng.below(3) as usize],
        segment_age_ms: 1 + rng.below(20_000),
        index_interval_bytes: [1, 500, 4096][rng.below(3) as usize],
        sync_batches: if rng.chance(1, 4) { u64::MAX } else { 1 },
        sync_interval: Some(Duration::from_millis(500)),
        journal: rng.chance(1, 2),
        zero_fill_bytes: [0, 0, 8192][rng.below(3) as usize],
        busy_bytes: [1, 5_000, 1 << 20][rng.below(3) as usize],
        checkpoint_bytes: [1_000, 30_000, 1 << 20][rng.below(3) as usize],
        free_floor_bytes: 0,
        ..LogConfig::default()
    }
}

struct Life {
    driver: Driver,
    model: Model,
    rng: Rng,
    tag: u64,
}

impl Life {
    /// Does something of what an owner may do.
    async fn act(&mut self) {
        let Self { driver, model, rng, tag } = self;
        let is_quiet = model.truncating.is_none();
        match rng.below(20) {
            0..=8 if is_quiet => {
                for _ in 0..=rng.below(5) {
                    *tag += 1;
                    let base = driver.log.end();
                    let (count, bytes) = (1 + rng.below(9) as u32, rng.below(400) as usize);
                    let batch = batch_of(base, count, bytes, driver.now_ms, *tag);
                    let batch = under(&batch, ANY[rng.below(6) as usize]).freeze();
                    model.batches.push((base, driver.append_batch(batch)));
                }
            }
            9 if is_quiet => {
                driver.idle().await.unwrap();
                let (start, end) = (driver.log.start(), driver.log.end());
                let offset = start.plus(rng.below(end.since(start) + 1));
                model.truncating = Some(offset);
                driver.log.truncate_to(offset);
            }
            10 => {
                let (start, end) = (driver.log.start(), driver.log.durable_end());
                let offset = start.plus(rng.below(end.since(start) + 1));
                model.start.1 = model.start.1.max(offset);
                driver.log.trim_to(offset);
            }
            11..=13 => {
                for _ in 0..rng.below(8) {
                    driver.step().await.unwrap();
                }
            }
            14 => driver.settle().await.unwrap(),
            15..=16 => driver.pass(rng.below(5_000) as i64),
            _ => self.read().await,
        }
        self.observe();
    }

    fn observe(&mut self) {
        let Self { driver, model, .. } = self;
        driver.pump();
        if let Some(offset) = model.truncating
            && driver.log.is_settled()
        {
            model.truncating = None;
            let expected = model.truncated(offset);
            assert_eq!(driver.log.end(), expected, "truncated to {offset}: {:?}", driver.log);
            assert!(driver.log.start() <= expected);
            model.batches.retain(|batch| Model::next(batch) <= driver.log.end());
            model.durable = model.durable.min(driver.log.end());
            model.start.0 = model.start.0.min(driver.log.start());
        }
        if driver.log.is_settled() {
            model.start.0 = driver.log.start();
        }
        if model.truncating.is_none() {
            assert!(driver.log.durable_end() >= model.durable, "LOG-2: durable went back");
            model.durable = driver.log.durable_end();
            model.see(&driver.log);
        }
    }

    async fn read(&mut self) {
        let Self { driver, model, rng, .. } = self;
        if model.truncating.is_some() || !driver.log.is_settled() {
            return;
        }
        let (start, end) = (driver.log.start(), driver.log.written_end());
        let bytes_max = 1 + rng.below(5_000) as usize;
        let read = driver.read_all(bytes_max).await.unwrap();
        assert_eq!(read, model.kept(start, end), "reads give what was appended");
        let wanted = driver.now_ms - rng.below(20_000) as i64;
        let found = driver.log.plan_lookup(wanted, end).run(driver.disk.clone()).await.unwrap();
        let expected = model.kept(start, end).iter().find_map(|batch| {
            let header = BatchHeader::parse(batch).unwrap();
            let mut records =
                crate::batch::expand(batch, &header, 1 << 20).unwrap().map(Result::unwrap);
            records.find(|r| r.timestamp >= wanted && r.offset >= start)
        });
        let expected = expected.map(|record| (record.offset, record.timestamp));
        assert_eq!(found, expected, "by time {wanted}: {:?}", driver.log);
    }
}

/// Begins a process: its disk, and what the journals of those before hold.
async fn start(disks: &SimDisks, rng: &Rng) -> (DiskHandle, Option<Replayed>) {
    let disk = DiskHandle::start(disks.disk_for(ArbiterId(0)));
    let replayed = journal::replay(&disk, Path::new("/d")).await.unwrap();
    let journals = replayed.journals().with_file_bytes(0);
    disk.start_journal(&journals, ArbiterId(0), rng.split("salt"));
    (disk, Some(replayed))
}

/// Several lives of one log, each ended by a power cut, a kill, a clean stop, or a failure of its actor.
async fn lives(seed: u64) {
    let mut rng = Rng::seeded(seed).split("workload");
    let faults = Faults::swarm(&mut rng.split("faults"));
    let disks = SimDisks::new(&rng, faults);
    disks.install(Path::new("/d/.keep"), b"");
    let mut gate = EraGate::new(Path::new(DIR));
    let config = config(&mut rng);
    let mut model = Model::default();
    let (mut now_ms, mut tag) = (1_000_000, 0);
    let mut closed: Option<(ClosedLog, History)> = None;
    let mut process = start(&disks, &rng).await;
    for _ in 0..5 {
        let (disk, replayed) = (process.0.clone(), process.1.take());
        let journaled = replayed.as_ref().and_then(|r| r.logs.get(&LogId::default()).cloned());
        let place = place(DIR, &gate).await;
        let mut driver = match closed.take() {
            Some((closed, owner)) if rng.chance(1, 2) => {
                let log = Log::reopen(place, config.clone(), closed, now_ms);
                Driver::new(log, &disk, owner, now_ms)
            }
            _ => {
                Driver::open(&disk, place, config.clone(), journaled.unwrap_or_default(), now_ms)
                    .await
                    .unwrap()
                    .0
            }
        };
        if let Some(replayed) = replayed {
            replayed.retire(&disk, &BTreeSet::new()).await.unwrap();
        }
        // As somebody who looks would: a busy lazy log has its blocks found ahead then.
        driver.log.note_space(1 << 30);
        model.recovered(&driver.log, &driver.owner);
        let mut life = Life { driver, model, rng: rng.split(&format!("life {tag}")), tag };
        life.read().await;
        for _ in 0..rng.below(60) {
            life.act().await;
        }
        tag = life.tag + 1;
        now_ms = life.driver.now_ms;
        model = life.model;
        match rng.below(5) {
            end @ 0..=2 => {
                if end == 0 {
                    disks.kill()
                } else {
                    disks.crash()
                }
                gate = EraGate::new(Path::new(DIR));
                process = start(&disks, &rng).await;
            }
            // Its actor is made anew in the same process: nothing that was written is gone.
            3 => {}
            _ => {
                let mut driver = life.driver;
                driver.settle().await.unwrap();
                let mut life = Life { driver, model, rng: rng.clone(), tag };
                life.observe();
                model = life.model;
                let owner = life.driver.owner.clone();
                closed = Some((life.driver.close().await, owner));
                model.durable = model.end().max(model.durable);
            }
        }
    }
}

#[test]
fn whatever_was_durable_is_there_and_what_is_there_is_a_prefix() {
    let seeds = std::env::var("LOG_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let first = std::env::var("LOG_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first.max(seeds) {
        let outcome = crate::sim::run(seed, &[], |_| lives(seed));
        if let Err(why) = outcome.result {
            panic!("seed {seed}: {why}");
        }
    }
}
