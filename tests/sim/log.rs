//! One log and its owner, through kills, power cuts, take-overs and clean stops.
//!
//! The owner appends, trims and cuts; at each opening the log must hold all that was durable, and
//! nothing that is not a prefix of what was appended since; and the state that replay gives must be
//! the one that appending gave. Half of the logs are compacted on the way, and have producers with
//! transactions: of what is decided, the last record of each key is there at the end, every marker, and
//! each producer's last batch.

mod compacted;
mod owner;

use std::{cell::RefCell, collections::BTreeMap, path::Path, rc::Rc, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use flumen_runtime::{
    batch::{self, BatchHeader, Compression, RecordRef},
    disk::{DiskHandle, sim::Faults},
    era::{EraGate, take_over},
    ids::{ArbiterId, LeaderEpoch, LogId, Offset},
    log::{self, ClosedLog, Compaction, Log, LogConfig, LogPlace, ReadDone, ReadFailure},
    rng::Rng,
    sim::{self, End, Outcome, Planted, World},
};

use self::{
    compacted::{Next, Seen, Writers},
    owner::{Driver, History},
};
use crate::{coverage::Coverage, disks, invariants::era_1, runner};

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
    /// Below this, which is decided, batches may have been compacted.
    compacted_to: u64,
    /// What compaction was told of lies below, and is not cut off.
    told_to: u64,
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
        let all = self.batches.iter().map(|(base, (_, batch))| (*base, &batch[..]));
        driver.owner.check(all, start, self.compacted_to);
    }

    /// Compares what a read from `from` gave.
    fn check_read(&mut self, from: u64, driver: &Driver, read: &Bytes) {
        let active = driver.log.segments().last().map_or(0, |segment| segment.base.0);
        let (mut at, mut next) = (0, from);
        for found in batch::split(read) {
            let (header, bytes) = found.expect("LOG-2: whole batches are read");
            let batch = read.slice(at..at + bytes.len());
            at += bytes.len();
            let base = header.base_offset.0;
            let mut passed = self.batches.iter().filter(|(_, (end, _))| *end > next);
            let missing = passed.find(|(b, _)| **b >= self.compacted_to.min(base));
            assert!(missing.is_none_or(|(b, _)| *b >= base), "LOG-2: {missing:?} is not read");
            let is_thinned = compacted::check_batch(self, active, &batch);
            self.coverage.met("thinned batch", is_thinned.into());
            next = header.next_offset().0;
        }
    }
}

fn config(rng: &mut Rng) -> LogConfig {
    LogConfig {
        segment_bytes: [1 << 11, 1 << 13, 1 << 15][rng.below(3) as usize],
        index_interval_bytes: [100, 1000, 4096][rng.below(3) as usize],
        checkpoint_bytes: [500, 5_000, 50_000][rng.below(3) as usize],
        zero_fill_bytes: [0, 4096, 10_000][rng.below(3) as usize],
        busy_bytes: [1, 5_000, 1 << 20][rng.split("busy").below(3) as usize],
        sync_batches: if rng.chance(1, 5) { u64::MAX } else { 1 },
        sync_interval: Some(Duration::from_millis(200)),
        journal: false,
        compaction: rng.chance(1, 2).then(|| Compaction {
            dirty_permille_min: [0, 300][rng.below(2) as usize],
            tombstone_age_ms: [0, 1_000, 86_400_000][rng.below(3) as usize],
            keys_bytes_max: [200, 1 << 20][rng.below(2) as usize],
            ..Compaction::default()
        }),
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
        }
        world.disks.set_faults(Faults::none());
        let (inside, last) = (world.clone(), model.clone());
        let check = async move |_| {
            let gate = EraGate::new(Path::new(DIR));
            let driver = open(&inside, &gate, ArbiterId(0), &config, &last).await;
            read_all(&driver, &last, inside.now_ms()).await;
            (End::Exit, ())
        };
        world.process(1, check).await;
        let mut coverage = model.borrow().coverage.clone();
        coverage.met("torn tail", world.trace.logged("its unfinished end was cut off"));
        coverage.met("compaction", world.trace.logged("compacted; "));
        coverage.met("finished swap", world.trace.logged("cut short was finished"));
        coverage.met("undone swap", world.trace.logged("cut short was undone"));
        assert_eq!(world.trace.logged("compacted no more"), 0, "COMPACT-2: segments overlap");
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
    let place = LogPlace { dir: Path::new(DIR).into(), id: LogId::default(), ticket };
    let now = world.now_ms();
    let closed = model.borrow_mut().closed.take();
    let mut driver = match closed {
        Some((closed, owner)) => {
            let log = Log::reopen(place, config.clone(), closed, now);
            Driver::new(log, disk, owner)
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
    // As somebody who looks would: a busy lazy log has its blocks found ahead then.
    driver.log.note_space(1 << 30);
    world.trace.line(format_args!("opened {} to {}", driver.log.start(), driver.log.end()));
    model.borrow_mut().check_opened(&driver);
    driver
}

/// One life of the process: it opens the log, works, and ends somehow.
async fn life(world: &World, config: &LogConfig, model: &RefCell<Model>, rng: &mut Rng) -> End {
    let gate = EraGate::new(Path::new(DIR));
    let mut driver = open(world, &gate, ArbiterId(0), config, model).await;
    if config.compaction.is_some() {
        read_all(&driver, model, world.now_ms()).await;
    }
    let mut superseded: Vec<Driver> = Vec::new();
    for _ in 0..rng.below(80) {
        let now = world.now_ms();
        match rng.below(44) {
            0..22 => append(&mut driver, model, rng, now),
            43 if rng.chance(1, 3) => {
                if spoil(world, &mut driver, model, rng).await {
                    // What a sync has lost is still in the page cache, as if it were safe.
                    return End::PowerCut;
                }
            }
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
            39..43 => compact(world, &mut driver, model, rng).await,
            _ => driver.log.tick(now),
        }
        settle(&mut driver, model);
        driver.pump(world.now_ms());
        for old in &mut superseded {
            // Refused by now, or harmless.
            let _ = old.settle();
            old.pump(now);
        }
        era_1::check(&world.disks.seen());
    }
    end(world, driver, model, rng).await
}

fn other(superseded: &[Driver]) -> ArbiterId {
    ArbiterId(superseded.len() as u32 + 1)
}

/// A batch at the end of `log`: with keys, some of them tombstones, where it is compacted, and some of
/// `writers`, who have transactions.
fn batch(log: &Log, writers: &Writers, rng: &mut Rng, now_ms: i64) -> Bytes {
    let base = log.end();
    let is_keyed = log.config().compaction.is_some();
    let mut builder = match writers.next(is_keyed, rng, now_ms) {
        Next::Batch(builder) => builder,
        Next::Marker(mut marker) => {
            batch::stamp(&mut marker, base, LeaderEpoch(0));
            return marker.freeze();
        }
    };
    let value = vec![rng.below(256) as u8; [10, 100, 1000, 5000][rng.below(4) as usize]];
    for _ in 0..1 + rng.below(4) {
        let key = is_keyed.then(|| [rng.below(12) as u8]);
        let value = Some(&value[..]).filter(|_| !is_keyed || rng.chance(3, 4));
        let key = key.as_ref().map(|key| &key[..]);
        builder.push(RecordRef { timestamp: now_ms, key, value, headers: &[] });
    }
    let mut batch = under(&builder.build().freeze(), CODECS[rng.below(6) as usize]);
    batch::stamp(&mut batch, base, LeaderEpoch(0));
    batch.freeze()
}

/// A third of the batches are plain.
const CODECS: [Compression; 6] = [
    Compression::None,
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn under(batch: &Bytes, compression: Compression) -> BytesMut {
    let header = BatchHeader::parse(batch).expect("it was just built");
    let records = batch::records(batch, &header).expect("it is plain");
    batch::recode(&header, &records, compression.into())
}

fn append(driver: &mut Driver, model: &RefCell<Model>, rng: &mut Rng, now_ms: i64) {
    let mut model = model.borrow_mut();
    if model.cutting.is_some() {
        return;
    }
    let batch = batch(&driver.log, &Writers::of(&model, u64::MAX), rng, now_ms);
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
        let batch = batch(&old.log, &Writers::default(), rng, now_ms);
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
    // What waits to be written goes with what is cut off, also from below.
    let is_written = driver.log.written_end() == driver.log.end();
    let is_busy = driver.is_busy() && !(driver.log.is_compacting() && is_written);
    if model.cutting.is_some() || is_busy || driver.log.start() == driver.log.end() {
        return;
    }
    // What is decided is never cut off, nor below where a trim that is under way wants the start.
    let first = driver.log.start().0.max(model.told_to).max(model.trimmed);
    let keys: Vec<u64> = model.batches.range(first..).map(|(base, _)| *base).collect();
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
    settled(driver, model);
}

fn settled(driver: &mut Driver, model: &RefCell<Model>) {
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

/// For a while the disk is full, or fails some of what it is asked. Tells whether it failed any.
async fn spoil(world: &World, driver: &mut Driver, model: &RefCell<Model>, rng: &mut Rng) -> bool {
    let errors = || world.disks.seen().write_errors + world.disks.seen().sync_errors;
    let before = errors();
    let usual = disks::spoil(world, rng);
    for step in 0..30 {
        let now = world.now_ms();
        if step < 15 && !driver.log.is_full() && rng.chance(1, 2) {
            append(driver, model, rng, now);
        }
        driver.log.tick(now);
        driver.pump(now);
        world.pass(Duration::from_millis(rng.below(200))).await;
        if step == 15 {
            world.disks.set_faults(usual);
        }
        if let Err(failure) = driver.settle() {
            assert!(errors() > before, "LOG-5: {failure}");
            break;
        }
        settled(driver, model);
    }
    world.disks.set_faults(usual);
    errors() > before
}

/// Has the log compacted where it wants that, and lets that go on for a while.
async fn compact(world: &World, driver: &mut Driver, model: &RefCell<Model>, rng: &mut Rng) {
    let is_cutting = model.borrow().cutting.is_some();
    if !is_cutting && driver.log.wants_compaction(world.now_ms()) {
        let durable = driver.log.durable_end().0;
        let decided = Writers::of(&model.borrow(), durable).decided(durable);
        let mut model = model.borrow_mut();
        model.compacted_to = model.compacted_to.max(decided.end.0);
        model.told_to = model.told_to.max(durable);
        driver.log.compact(decided);
    }
    for _ in 0..rng.below(40) {
        driver.pump(world.now_ms());
        world.pass(Duration::from_millis(rng.below(20))).await;
        settle(driver, model);
        if !driver.log.is_compacting() {
            break;
        }
        if rng.chance(1, 20) {
            read_some(driver, model, rng).await;
        }
    }
}

async fn read_some(driver: &Driver, model: &RefCell<Model>, rng: &mut Rng) {
    let (start, end) = (driver.log.start(), driver.log.written_end());
    let is_compacting = driver.log.is_compacting();
    if end <= start || (driver.is_busy() && !is_compacting) {
        return;
    }
    let from = Offset(start.0 + rng.below(end.since(start)));
    let plan = driver.log.plan_read(from, end, 5000).expect("it is in the log");
    let read: ReadDone = match plan.run(driver.disk.clone()).await {
        // Trimmed, or swapped: its owner asks again.
        Err(ReadFailure::Removed) if is_compacting => return,
        read => read.expect("LOG-2: what was written can be read"),
    };
    assert!(!read.batches.is_empty(), "LOG-2: nothing is read at {from} below {end}");
    model.borrow_mut().check_read(from.0, driver, &read.batches);
}

async fn read_all(driver: &Driver, model: &RefCell<Model>, now_ms: i64) {
    let (mut from, end) = (driver.log.start(), driver.log.end());
    let mut seen = Seen::default();
    while from < end {
        let plan = driver.log.plan_read(from, end, 5000).expect("it is in the log");
        let read = plan.run(driver.disk.clone()).await.expect("LOG-2: all of it can be read");
        assert!(read.next > from, "LOG-2: nothing is read at {from} below {end}");
        model.borrow_mut().check_read(from.0, driver, &read.batches);
        seen.note(&read.batches);
        from = read.next;
    }
    let how = driver.log.config().compaction.unwrap_or_default();
    let age_ms = how.tombstone_age_ms.cast_signed();
    let met = seen.check(&model.borrow(), (driver.log.start().0, now_ms), age_ms);
    let mut model = model.borrow_mut();
    model.coverage.met("aborted record gone", met.aborted_gone);
    model.coverage.met("emptied batch", met.emptied);
    model.coverage.met("marker in a compacted log", met.markers);
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
const WANTED: [&str; 17] = [
    "full disk",
    "write error",
    "sync error",
    "aborted record gone",
    "emptied batch",
    "marker in a compacted log",
    "torn page",
    "torn tail",
    "lost page",
    "fenced write",
    "take-over",
    "clean stop",
    "truncation",
    "compaction",
    "thinned batch",
    "finished swap",
    "undone swap",
];

#[test]
fn a_log_loses_nothing_durable_and_holds_a_prefix_of_what_was_appended() {
    // One in a hundred is cut short between the names of a swap.
    if let Some(met) = runner::explore("a_log_loses", 4, scenario) {
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
