//! One log and its owner, through kills, power cuts, take-overs and clean stops.
//!
//! The owner appends, trims and cuts; at each opening the log must hold all that was durable, and
//! nothing that is not a prefix of what was appended since; and the state that replay gives must be
//! the one that appending gave.

mod owner;

use std::{cell::RefCell, collections::BTreeMap, path::Path, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use flumen_runtime::{
    batch::{self, BatchBuilder, BatchHeader, RecordRef},
    disk::{DiskHandle, sim::Faults},
    era::{EraGate, take_over},
    ids::{ArbiterId, LeaderEpoch, LogId, Offset},
    log::{self, ClosedLog, Log, LogConfig, LogPlace},
    rng::Rng,
    sim::{self, End, Outcome, Planted, World},
};

use self::owner::{Driver, History};
use crate::{coverage::Coverage, invariants::era_1, runner};

const DIR: &str = "/data/log";

/// What was appended, by base offset, with the offset after it.
#[derive(Default)]
struct Model {
    batches: BTreeMap<u64, (u64, Bytes)>,
    /// All up to here was reported durable.
    durable: u64,
    start: u64,
    /// The largest trim that was asked for: the start may have got so far.
    trimmed: u64,
    /// A cut to this offset was asked for and is not known to be done.
    cutting: Option<u64>,
    /// What the last clean stop left, where the next opening is to use it.
    closed: Option<(ClosedLog, History)>,
    coverage: Coverage,
}

impl Model {
    /// Compares an opened log and what replay made of it.
    fn check_opened(&mut self, driver: &Driver) {
        let (start, end) = (driver.log.start().0, driver.log.end().0);
        assert!(end >= self.durable, "LOG-2: durable up to {}, ends at {end}", self.durable);
        assert!(start >= self.start, "LOG-2: trimmed to {}, starts at {start}", self.start);
        assert!(start <= self.trimmed.max(self.start), "LOG-2: starts at {start}, beyond any trim");
        let is_edge = end == self.start || self.batches.values().any(|(after, _)| *after == end);
        assert!(is_edge || end == 0, "LOG-2: ends at {end}, within a batch");
        // What was not durable and is not there was never appended.
        self.batches.retain(|base, _| *base < end);
        (self.start, self.durable, self.cutting) = (start, end, None);
        driver
            .owner
            .check(self.batches.iter().map(|(base, (_, batch))| (*base, &batch[..])), start);
    }

    /// Compares what a read from `from` gave.
    fn check_read(&self, from: u64, read: &Bytes) {
        let mut at = 0;
        let first = self.batches.iter().filter(|(_, (end, _))| *end > from);
        for (base, (_, batch)) in first {
            if at == read.len() {
                return;
            }
            let part = read.get(at..at + batch.len());
            assert!(part == Some(batch), "LOG-2: other bytes are read at offset {base}");
            at += batch.len();
        }
        assert_eq!(at, read.len(), "LOG-2: more is read than was appended");
    }
}

fn config(rng: &mut Rng) -> LogConfig {
    LogConfig {
        segment_bytes: [1 << 11, 1 << 13, 1 << 15][rng.below(3) as usize],
        index_interval_bytes: [100, 1000, 4096][rng.below(3) as usize],
        checkpoint_bytes: [500, 5_000, 50_000][rng.below(3) as usize],
        zero_fill_bytes: [0, 4096, 10_000][rng.below(3) as usize],
        sync_batches: if rng.chance(1, 5) { u64::MAX } else { 1 },
        sync_interval: Some(Duration::from_millis(200)),
        journal: false,
        ..LogConfig::default()
    }
}

/// One run: some lives, then a last one that reads everything.
pub(crate) fn scenario(seed: u64, planted: &[Planted]) -> Outcome<Coverage> {
    sim::run(seed, planted, |world| async move {
        let mut rng = world.rng.split("workload");
        world.disks.install(Path::new("/data/.keep"), b"");
        let config = config(&mut rng);
        world.trace.line(format_args!("{config:?}"));
        let model = Rc::new(RefCell::new(Model::default()));
        for _ in 0..2 + rng.below(6) {
            let (model, config) = (model.clone(), config.clone());
            let (inside, rng) = (world.clone(), &mut rng);
            world.process(1, async move |_| (life(&inside, &config, &model, rng).await, ())).await;
            era_1::check(&world.disks.seen());
        }
        world.disks.set_faults(Faults::none());
        let (inside, last) = (world.clone(), model.clone());
        let check = async move |_| {
            let gate = EraGate::new(Path::new(DIR));
            let driver = open(&inside, &gate, ArbiterId(0), &config, &last).await;
            read_all(&driver, &last).await;
            (End::Exit, ())
        };
        world.process(1, check).await;
        let mut coverage = model.borrow().coverage.clone();
        coverage.met("torn tail", world.trace.logged("its unfinished end was cut off"));
        coverage
    })
}

async fn open(
    world: &World,
    gate: &Arc<EraGate>,
    on: ArbiterId,
    config: &LogConfig,
    model: &RefCell<Model>,
) -> Driver {
    let disk = DiskHandle::start(world.disks.disk_for(on));
    let ticket = take_over(gate, Duration::from_secs(60)).await.expect("no write takes so long");
    let place = LogPlace { dir: DIR.into(), id: LogId::default(), ticket };
    let now = world.now_ms();
    let closed = model.borrow_mut().closed.take();
    let driver = match closed {
        Some((closed, owner)) => {
            Driver::new(Log::reopen(place, config.clone(), closed, now), disk, owner)
        }
        None => {
            let mut owner = History::default();
            let opened =
                log::open(disk.clone(), place, config.clone(), Vec::new(), &mut owner, now);
            let (log, opened) =
                opened.await.unwrap_or_else(|error| panic!("LOG-2: cannot open: {error}"));
            world.trace.line(format_args!("{opened:?}"));
            Driver::new(log, disk, owner)
        }
    };
    world.trace.line(format_args!("opened {} to {}", driver.log.start(), driver.log.end()));
    model.borrow_mut().check_opened(&driver);
    driver
}

/// One life of the process: it opens the log, works, and ends somehow.
async fn life(world: &World, config: &LogConfig, model: &RefCell<Model>, rng: &mut Rng) -> End {
    let gate = EraGate::new(Path::new(DIR));
    let mut driver = open(world, &gate, ArbiterId(0), config, model).await;
    let mut superseded: Vec<Driver> = Vec::new();
    for _ in 0..rng.below(80) {
        let now = world.now_ms();
        match rng.below(40) {
            0..22 => append(&mut driver, model, rng, now),
            22..32 => world.pass(Duration::from_millis(rng.below(20))).await,
            32 => trim(&mut driver, model, rng),
            33 => cut(&mut driver, model, rng),
            34 => driver.log.roll(),
            35 => world.pass(Duration::from_secs(rng.below(3))).await,
            36 => {
                let next = open(world, &gate, other(&superseded), config, model).await;
                superseded.push(std::mem::replace(&mut driver, next));
                model.borrow_mut().coverage.met("take-over", 1);
            }
            37 => haunt(&mut superseded, rng, now),
            38 => read_some(&driver, model, rng).await,
            _ => driver.log.tick(now),
        }
        settle(&mut driver, model);
        driver.pump(world.now_ms());
        for old in &mut superseded {
            // Refused by now, or harmless.
            let _ = old.settle();
            old.pump(now);
        }
    }
    end(world, driver, model, rng).await
}

fn other(superseded: &[Driver]) -> ArbiterId {
    ArbiterId(superseded.len() as u32 + 1)
}

fn batch(base: Offset, rng: &mut Rng, now_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(now_ms);
    let value = vec![rng.below(256) as u8; [10, 100, 1000, 5000][rng.below(4) as usize]];
    for _ in 0..1 + rng.below(4) {
        let value = Some(&value[..]);
        builder.push(RecordRef { timestamp: now_ms, key: None, value, headers: &[] });
    }
    let mut batch = builder.build();
    batch::stamp(&mut batch, base, LeaderEpoch(0));
    batch.freeze()
}

fn append(driver: &mut Driver, model: &RefCell<Model>, rng: &mut Rng, now_ms: i64) {
    let mut model = model.borrow_mut();
    if model.cutting.is_some() {
        return;
    }
    let batch = batch(driver.log.end(), rng, now_ms);
    let header = BatchHeader::parse(&batch).expect("it was just built");
    driver.log.append(batch.clone(), &header);
    driver.owner.note(&header);
    model.batches.insert(header.base_offset.0, (header.next_offset().0, batch));
}

/// A superseded incarnation goes on as if nothing had happened.
fn haunt(superseded: &mut [Driver], rng: &mut Rng, now_ms: i64) {
    if let Some(old) = superseded.last_mut()
        && old.log.failure().is_none()
    {
        let batch = batch(old.log.end(), rng, now_ms);
        let header = BatchHeader::parse(&batch).expect("it was just built");
        old.log.append(batch, &header);
        old.owner.note(&header);
        old.pump(now_ms);
    }
}

fn trim(driver: &mut Driver, model: &RefCell<Model>, rng: &mut Rng) {
    let mut model = model.borrow_mut();
    let (start, end) = (driver.log.start().0, driver.log.durable_end().0);
    let offset = start + rng.below(end - start + 1);
    model.trimmed = model.trimmed.max(offset);
    driver.log.trim_to(Offset(offset));
}

/// Asks for the log to be cut; what is to go may be there until that is settled.
fn cut(driver: &mut Driver, model: &RefCell<Model>, rng: &mut Rng) {
    let mut model = model.borrow_mut();
    if model.cutting.is_some() || driver.is_busy() || driver.log.start() == driver.log.end() {
        return;
    }
    let keys: Vec<u64> =
        model.batches.range(driver.log.start().0..).map(|(base, _)| *base).collect();
    if keys.is_empty() {
        return;
    }
    let offset = keys[rng.below(keys.len() as u64) as usize];
    model.durable = model.durable.min(offset);
    model.cutting = Some(offset);
    model.coverage.met("truncation", 1);
    driver.log.truncate_to(Offset(offset));
}

/// Applies what has come to its end.
fn settle(driver: &mut Driver, model: &RefCell<Model>) {
    driver.settle().unwrap_or_else(|failure| panic!("LOG-5: {failure}"));
    let mut model = model.borrow_mut();
    if let Some(offset) = model.cutting
        && driver.log.end().0 <= offset
    {
        assert_eq!(driver.log.end().0, offset, "LOG-2: cut to {offset}");
        model.cutting = None;
        model.batches.split_off(&offset);
        driver.owner.cut(offset);
    }
    if model.cutting.is_none() {
        model.durable = model.durable.max(driver.log.durable_end().0);
    }
}

async fn read_some(driver: &Driver, model: &RefCell<Model>, rng: &mut Rng) {
    let (start, end) = (driver.log.start(), driver.log.written_end());
    if end <= start || driver.is_busy() {
        return;
    }
    let from = Offset(start.0 + rng.below(end.since(start)));
    let plan = driver.log.plan_read(from, end, 5000).expect("it is in the log");
    let read = plan.run(driver.disk.clone()).await.expect("LOG-2: what was written can be read");
    assert!(!read.batches.is_empty(), "LOG-2: nothing is read at {from} below {end}");
    model.borrow().check_read(from.0, &read.batches);
}

async fn read_all(driver: &Driver, model: &RefCell<Model>) {
    let (mut from, end) = (driver.log.start(), driver.log.end());
    while from < end {
        let plan = driver.log.plan_read(from, end, 5000).expect("it is in the log");
        let read = plan.run(driver.disk.clone()).await.expect("LOG-2: all of it can be read");
        assert!(read.next > from, "LOG-2: nothing is read at {from} below {end}");
        model.borrow().check_read(from.0, &read.batches);
        from = read.next;
    }
}

/// The end of a life: in order, by a kill, or with the power.
async fn end(world: &World, mut driver: Driver, model: &RefCell<Model>, rng: &mut Rng) -> End {
    if rng.chance(1, 4) {
        for _ in 0..2_000 {
            driver.log.close();
            driver.pump(world.now_ms());
            world.pass(Duration::from_millis(50)).await;
            settle(&mut driver, model);
            if driver.log.is_closed() {
                break;
            }
        }
        assert!(driver.log.is_closed(), "no progress: a log does not close: {:?}", driver.log);
        let mut model = model.borrow_mut();
        model.coverage.met("clean stop", 1);
        model.closed = driver
            .log
            .to_closed()
            .filter(|_| rng.chance(1, 2))
            .map(|closed| (closed, driver.owner));
    }
    if rng.chance(1, 3) { End::Kill } else { End::PowerCut }
}

/// Runs that met nothing have shown nothing.
const WANTED: [&str; 7] = [
    "torn page",
    "torn tail",
    "lost page",
    "fenced write",
    "take-over",
    "clean stop",
    "truncation",
];

#[test]
fn a_log_loses_nothing_durable_and_holds_a_prefix_of_what_was_appended() {
    if let Some(met) = runner::explore("a_log_loses", scenario) {
        met.require(&WANTED);
    }
}

#[test]
fn a_run_of_the_log_twice_gives_the_same_trace() {
    for seed in 0..5 {
        let (one, two) = (scenario(seed, &[]), scenario(seed, &[]));
        assert_eq!((one.hash, one.lines), (two.hash, two.lines), "seed {seed}");
    }
}

#[test]
fn bugs_planted_under_the_log_are_found() {
    for bug in [Planted::AckBeforeSync, Planted::NoEraCheck, Planted::NoDirectorySync] {
        let found = runner::hunt(scenario, bug);
        assert!(found.is_some(), "{bug:?} was not found");
    }
}
