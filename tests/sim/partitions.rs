//! Partitions under supervision, with producers and readers, while everything goes wrong around
//! them: panics, wedged arbiters, kills and power cuts, in an order that the seed decides.

use std::{collections::BTreeMap, path::Path, rc::Rc, sync::Arc, time::Duration};

use actix::Addr;
use flumen_actors::broker::{
    DataDirectory,
    names::{PartitionId, TopicName, TopicPartition},
    partition::{
        self, Partition,
        options::{PartitionConfig, PartitionOptions},
    },
};
use flumen_runtime::{
    disk::sim::Faults,
    ids::{ArbiterId, LogId},
    log::LogConfig,
    placement::Placement,
    rng::Rng,
    sim::{self, End, Outcome, Planted, Process, World},
    supervision::{Backoff, Intensity, SupervisorRef, SupervisorSpec},
};
use uuid::Uuid;

use crate::{
    book::Book,
    clock::Clock,
    coverage::Coverage,
    damage, disks,
    producer::{self, Producer},
    reader, runner,
};

const DATA: &str = "/data";
/// Simulated arbiters; a wedge costs one of them until the process ends.
const ARBITERS: u32 = 3;

/// What outlives the process.
struct Run {
    world: World,
    book: Book,
    rng: Rng,
    clock: Clock,
    config: Arc<PartitionConfig>,
    /// Whether the disks fail and are full at times, and not only slow.
    has_bad_disks: bool,
    partitions: Vec<TopicPartition>,
    producers: Vec<producer::Shared>,
}

/// The partitions of one life of the process.
struct Node {
    process: Rc<Process>,
    root: SupervisorRef,
    partitions: BTreeMap<TopicPartition, Addr<Partition>>,
}

fn config(rng: &mut Rng) -> Arc<PartitionConfig> {
    let log = LogConfig {
        segment_bytes: [1 << 12, 1 << 14, 1 << 17][rng.below(3) as usize],
        index_interval_bytes: [100, 4096][rng.below(2) as usize],
        checkpoint_bytes: [1_000, 20_000, 1 << 20][rng.below(3) as usize],
        zero_fill_bytes: [0, 4096, 16_384][rng.below(3) as usize],
        busy_bytes: [1, 20_000, 1 << 20][rng.split("busy").below(3) as usize],
        sync_batches: if rng.chance(1, 4) { u64::MAX } else { 1 },
        sync_interval: Some(Duration::from_millis([50, 500, 60_000][rng.below(3) as usize])),
        ..LogConfig::default()
    };
    PartitionConfig { log: log.into(), ..PartitionConfig::default() }.into()
}

/// One run: some lives with faults, then one in which all is well and everything is read.
pub(crate) fn scenario(seed: u64, planted: &[Planted]) -> Outcome<Coverage> {
    sim::run(seed, planted, |world| async move {
        let mut rng = world.rng.split("workload");
        let topic = TopicName::new("t").expect("it is a name");
        let count = 1 + rng.below(3) as u32;
        let partitions: Vec<_> = (0..count)
            .map(|id| TopicPartition { topic: topic.clone(), partition: PartitionId(id) })
            .collect();
        let book = Book::default();
        let per_partition = 1 + rng.below(2) as u32;
        let new = |partition: &TopicPartition, number| {
            Producer::new(&world, number, partition.clone(), book.clone())
        };
        let producers = partitions
            .iter()
            .flat_map(|partition| (0..per_partition).map(move |number| (partition, number)))
            .map(|(partition, number)| new(partition, number))
            .collect();
        world.disks.install(&Path::new(DATA).join(".keep"), b"");
        let config = config(&mut rng);
        if config.log.is_lazy() {
            book.known().lazy.insert(topic);
        }
        let mut run = Run {
            has_bad_disks: rng.chance(1, 3),
            clock: Clock::default(),
            world,
            book,
            rng,
            config,
            partitions,
            producers,
        };
        for _ in 0..1 + run.rng.below(4) {
            run.life().await;
            run.maybe_damage();
        }
        run.last_life().await;
        let mut coverage = run.book.known().coverage.clone();
        coverage.met("torn tail", run.world.trace.logged("its unfinished end was cut off"));
        coverage
    })
}

impl Run {
    async fn start(&self, process: Rc<Process>) -> Node {
        self.book.known().process_begins(&self.world.disks);
        let mut spec = SupervisorSpec::new("partitions");
        spec.intensity = Intensity { restarts_max: 1_000, period: Duration::from_secs(1) };
        spec.backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_secs(1) };
        let mut partitions = BTreeMap::new();
        for partition in &self.partitions {
            let log = LogId { id: Uuid::from_u128(7), shard: partition.partition.0 };
            let directory = DataDirectory::new(Uuid::from_u128(1), DATA);
            let mut options = PartitionOptions::new(partition.clone(), log, directory.into());
            options.config = self.config.clone();
            options.probe = Some(Arc::new(self.book.clone()));
            let (child, handle) = partition::child_spec(options);
            spec = spec.child(child);
            partitions.insert(partition.clone(), handle.address);
        }
        let root = spec.start(process.placement.clone());
        root.up().await.expect("partitions start, or are offline");
        Node { process, root, partitions }
    }

    /// One life in which things go wrong; it ends by a kill or a power cut.
    async fn life(&mut self) {
        let world = self.world.clone();
        let this = &mut *self;
        let life = async move |process| {
            let node = this.start(process).await;
            let sync_errors = this.world.disks.seen().sync_errors;
            for producer in &this.producers {
                let to = node.partitions[&producer.borrow().partition].clone();
                let produce = producer::produce(producer.clone(), to, this.world.clone());
                drop(tokio::task::spawn_local(produce));
            }
            for (partition, at) in &node.partitions {
                let (world, book) = (this.world.clone(), this.book.clone());
                let tail = reader::tail(partition.clone(), at.clone(), world, book);
                drop(tokio::task::spawn_local(tail));
            }
            for _ in 0..1 + this.rng.below(6) {
                let pause = this.rng.below(1_500);
                this.world.pass(Duration::from_millis(pause)).await;
                this.break_something(&node).await;
            }
            // Half of the lives end while a partition is still on its way to another arbiter.
            let settle = [0, 3_000][this.rng.below(2) as usize];
            this.world.pass(Duration::from_millis(settle)).await;
            this.hurry(true);
            let pause = this.rng.below(100);
            this.world.pass(Duration::from_millis(pause)).await;
            this.hurry(false);
            // What a sync has lost is still in the page cache, as if it were safe.
            let is_cache_good = this.world.disks.seen().sync_errors == sync_errors;
            let end =
                if is_cache_good && this.rng.chance(1, 3) { End::Kill } else { End::PowerCut };
            this.book.known().process_ends(end);
            (end, ())
        };
        world.process(ARBITERS, life).await;
    }

    /// In some runs the disk turns a bit of one partition, once.
    fn maybe_damage(&mut self) {
        let is_damaged = self.partitions.iter().any(|p| self.book.known().flip_of(p).is_some());
        if is_damaged || !self.rng.chance(1, 6) {
            return;
        }
        let which = self.rng.below(self.partitions.len() as u64) as usize;
        let partition = &self.partitions[which];
        let dir = Path::new(DATA).join(partition.to_string());
        if let Some(flip) = damage::flip(&self.world, &dir, &mut self.rng) {
            self.book.known().turned(partition, flip);
        }
    }

    /// Lets the producers hardly rest: a life that ends while nothing is on its way shows little.
    fn hurry(&self, is_in_a_hurry: bool) {
        for producer in &self.producers {
            producer.borrow_mut().is_in_a_hurry = is_in_a_hurry;
        }
    }

    /// Whether `partition` may refuse all that comes: it has lost what was durable.
    fn refuses(&self, partition: &TopicPartition) -> bool {
        self.book.known().flip_of(partition).is_some_and(|flip| flip.is_durable)
    }

    async fn break_something(&mut self, node: &Node) {
        let which = self.rng.below(self.partitions.len() as u64) as usize;
        let name = format!("partition/{}", self.partitions[which]);
        match self.rng.below(5) {
            0 if self.has_bad_disks => {
                disks::spoil_for_a_while(&self.world, &mut self.rng).await;
            }
            0 => {}
            4 => {
                self.clock.jump(&self.world, &mut self.rng);
                self.book.known().coverage.met("clock jump", 1);
            }
            1 | 2 => {
                self.world.trace.line(format_args!("panic in {name}"));
                // It may be down already, waiting for its next life.
                let _ = node.root.inject_panic(&name).await;
            }
            _ => self.wedge(node, &name).await,
        }
    }

    /// Wedges the arbiter of `name`, and lets it go on later, when its actors have long moved.
    async fn wedge(&mut self, node: &Node, name: &str) {
        let children = node.root.children().await.expect("the supervisor lives");
        let arbiter = children.iter().find(|child| &*child.name == name).and_then(|c| c.arbiter);
        let Some(arbiter) = arbiter.filter(|_| node.process.placement.arbiters().len() > 1) else {
            return;
        };
        node.process.wedge(arbiter, Some(&name.into()));
        self.book.known().coverage.met("wedge", 1);
        let late = Duration::from_millis(2_500 + self.rng.below(4_000));
        let (process, world) = (node.process.clone(), self.world.clone());
        drop(tokio::task::spawn_local(async move {
            world.pass(late).await;
            process.release(ArbiterId(arbiter.0));
        }));
    }

    /// All is well again: there is progress, and everything is where it should be.
    async fn last_life(&mut self) {
        let world = self.world.clone();
        world.disks.set_faults(Faults::none());
        let this = &*self;
        let life = async move |process| {
            let node = this.start(process).await;
            for producer in &this.producers {
                let partition = producer.borrow().partition.clone();
                if this.refuses(&partition) {
                    continue;
                }
                producer::finish(producer, &node.partitions[&partition], &this.world).await;
            }
            for (partition, at) in &node.partitions {
                let all = reader::read_all(at, &this.world).await;
                let flip = this.book.known().flip_of(partition);
                if let Some(flip) = flip.filter(|flip| flip.is_durable) {
                    flip.check_refused(&all);
                    this.book.known().coverage.met("bit flip refused", 1);
                    continue;
                }
                let (start, found) =
                    all.unwrap_or_else(|error| panic!("LOG-2: it cannot be read: {error}"));
                this.book.known().judge(partition, start, &found);
            }
            this.book.known().look();
            (End::Exit, ())
        };
        world.process(ARBITERS, life).await;
    }
}

/// Runs that met nothing have shown nothing.
const WANTED: [&str; 16] = [
    "full disk",
    "write error",
    "sync error",
    "bit flip refused",
    "bit flip cut",
    "ahead of the disk",
    "lazy loss",
    "producer that begins anew",
    "clock jump",
    "torn page",
    "torn tail",
    "lost page",
    "fenced write",
    "take-over",
    "dedupe",
    "kill",
];

#[test]
fn partitions_lose_nothing_double_nothing_and_keep_the_order() {
    if let Some(met) = runner::explore("partitions_lose_nothing", 1, scenario) {
        met.require(&WANTED);
    }
}

#[test]
fn a_run_of_partitions_twice_gives_the_same_trace() {
    for seed in 0..3 {
        let (one, two) = (scenario(seed, &[]), scenario(seed, &[]));
        assert_eq!((one.hash, one.lines), (two.hash, two.lines), "seed {seed}");
    }
}

#[test]
fn bugs_planted_under_partitions_are_found() {
    for bug in [
        Planted::AckBeforeSync,
        Planted::NoEraCheck,
        Planted::NoDirectorySync,
        Planted::DedupeWindowOffByOne,
    ] {
        let found = runner::hunt(scenario, bug);
        assert!(found.is_some(), "{bug:?} was not found");
    }
}
