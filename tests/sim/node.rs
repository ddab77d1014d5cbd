//! The whole node: catalogue, partitions on two disks, group coordinators with their members, and an
//! agent that follows rotating files into a topic that the group reads, while everything goes wrong.
//!
//! ```text
//!   application ─► files ─► source ─► channel ─► sink ─► topic `lines` ──┐
//!                                     producers ───────► topic `direct` ─┴─► members of a group
//!                                     administrator ───► topics made, grown, deleted
//! ```
//!
//! A run is some lives of the process, each of which ends by a kill or a power cut, then one in which
//! all is well: everything makes progress again, stops in order, starts again, and is read whole.

mod files;
mod members;
mod topics;
mod trouble;

use std::{cell::RefCell, path::Path, rc::Rc, sync::Arc, time::Duration};

use flumen_actors::{
    agent::{
        AgentSpec,
        channel::{Capacity, durable::DurableChannelOptions},
        sink::{
            SinkOptions,
            topic::{TopicSink, TopicSinkOptions},
        },
        source::{
            feed::FeedOptions,
            taildir::{TaildirOptions, state::Limits},
        },
    },
    broker::{
        self, Broker, BrokerSpec, DataDirectory, OFFSETS_TOPIC, TopicSpec,
        group_coordinator::records::{self, GroupRecord},
        names::{PartitionId, TopicName, TopicPartition},
    },
};
use flumen_runtime::{
    disk::sim::Faults,
    log::LogConfig,
    rng::Rng,
    sim::{self, End, Outcome, Planted, Process, World},
    supervision::{ChildSpec, SupervisorRef, SupervisorSpec},
};
use uuid::Uuid;

use self::files::App;
use crate::{
    book::Book,
    clock::Clock,
    coverage::Coverage,
    damage,
    invariants::{grp_1::Memberships, tail_1},
    producer::{self, Producer},
    reader, runner,
};

const DISKS: [&str; 2] = ["/disk-a", "/disk-b"];
/// Simulated arbiters; a wedge costs one of them until the process ends.
const ARBITERS: u32 = 3;
const MEMBERS: u64 = 2;
const HEAD: &str = "/disk-a/channels/buffer/head";

/// What outlives the process.
struct Run {
    world: World,
    book: Book,
    rng: Rng,
    clock: Clock,
    log: LogConfig,
    channel: DurableChannelOptions,
    /// Whether the disks fail and are full at times, and not only slow.
    has_bad_disks: bool,
    app: Rc<RefCell<App>>,
    administrator: Rc<RefCell<Rng>>,
    producers: Vec<producer::Shared>,
    direct: TopicName,
    lines: TopicName,
}

/// One life of the node.
struct Node {
    process: Rc<Process>,
    root: SupervisorRef,
    broker: Broker,
}

fn log_config(rng: &mut Rng) -> LogConfig {
    LogConfig {
        segment_bytes: [1 << 13, 1 << 15, 1 << 20][rng.below(3) as usize],
        index_interval_bytes: [100, 4096][rng.below(2) as usize],
        checkpoint_bytes: [2_000, 50_000, 1 << 20][rng.below(3) as usize],
        zero_fill_bytes: [0, 4096, 16_384][rng.below(3) as usize],
        busy_bytes: [1, 20_000, 1 << 20][rng.split("busy").below(3) as usize],
        journal: rng.chance(2, 3),
        ..LogConfig::default()
    }
}

fn channel_options(rng: &mut Rng) -> DurableChannelOptions {
    let events = [20, 1_000][rng.below(2) as usize];
    let capacity = Capacity { events, bytes: 64 << 10 };
    DurableChannelOptions {
        segment_bytes: [1 << 12, 1 << 16][rng.below(2) as usize],
        ..DurableChannelOptions::new("buffer", DISKS[0], capacity)
    }
}

fn name(topic: &str) -> TopicName {
    TopicName::new(topic).expect("it is a name")
}

/// One run.
pub(crate) fn scenario(seed: u64, planted: &[Planted]) -> Outcome<Coverage> {
    sim::run(seed, planted, |world| async move {
        let mut rng = world.rng.split("workload");
        for disk in DISKS {
            world.disks.install(&Path::new(disk).join(".keep"), b"");
        }
        let mut run = Run {
            book: Book::default(),
            clock: Clock::default(),
            log: log_config(&mut rng),
            channel: channel_options(&mut rng),
            has_bad_disks: rng.chance(1, 3),
            app: Rc::new(RefCell::new(App::new(&world))),
            administrator: Rc::new(RefCell::new(world.rng.split("administrator"))),
            producers: Vec::new(),
            direct: name("direct"),
            lines: name("lines"),
            rng,
            world,
        };
        if run.rng.chance(1, 3) {
            run.book.known().lazy.insert(run.direct.clone());
        }
        let writing = tokio::task::spawn_local(run.write_files());
        for _ in 0..1 + run.rng.below(3) {
            run.life().await;
            run.between_lives().await;
        }
        writing.abort();
        run.app.borrow_mut().finish();
        run.world.disks.set_faults(Faults::none());
        run.last_life().await;
        // Once more, after a stop in order.
        run.last_life().await;
        run.damaged_life().await;
        let mut coverage = run.book.known().coverage.clone();
        coverage.met("torn tail", run.world.trace.logged("its unfinished end was cut off"));
        coverage.met("rotation", run.app.borrow().rotations());
        coverage
    })
}

impl Run {
    /// The application, which knows nothing of the node. What was rotated before the source first
    /// began would be history to it, so it does not rotate before the first line has arrived.
    fn write_files(&self) -> impl Future<Output = ()> + 'static + use<> {
        let (world, app, book) = (self.world.clone(), self.app.clone(), self.book.clone());
        let lines = self.lines.clone();
        async move {
            loop {
                let has_begun = book.known().durable_ends.records_of(&lines) > 0;
                let rest = app.borrow_mut().step(has_begun);
                world.pass(rest).await;
            }
        }
    }

    /// One life in which things go wrong.
    async fn life(&mut self) {
        let world = self.world.clone();
        let this = &mut *self;
        let life = async move |process| {
            let node = this.start(process).await;
            let sync_errors = this.world.disks.seen().sync_errors;
            this.put_to_work(&node);
            for _ in 0..MEMBERS {
                this.add_member(&node, None);
            }
            for _ in 0..1 + this.rng.below(5) {
                let pause = this.rng.below(2_000);
                this.world.pass(Duration::from_millis(pause)).await;
                trouble::make(this, &node).await;
                this.look();
            }
            let settle = [0, 3_000][this.rng.below(2) as usize];
            this.world.pass(Duration::from_millis(settle)).await;
            this.hurry(true);
            let pause = this.rng.below(100);
            this.world.pass(Duration::from_millis(pause)).await;
            this.hurry(false);
            // What a sync has lost is still in the page cache, as if it were safe: after that the machine
            // has to be seen to, and the process is not just started again on top of it.
            let is_cache_good = this.world.disks.seen().sync_errors == sync_errors;
            let end =
                if is_cache_good && this.rng.chance(1, 3) { End::Kill } else { End::PowerCut };
            this.book.known().process_ends(end);
            (end, ())
        };
        world.process(ARBITERS, life).await;
        self.look();
    }

    /// The application goes on while the node is down, and rotates its logs then too.
    async fn between_lives(&mut self) {
        let has_begun = self.book.known().durable_ends.records_of(&self.lines) > 0;
        if has_begun && self.rng.chance(1, 2) {
            self.app.borrow_mut().rotate_any();
            self.book.known().coverage.met("rotation during a kill", 1);
        }
        let down = self.rng.below(1_000);
        self.world.pass(Duration::from_millis(down)).await;
    }

    async fn start(&mut self, process: Rc<Process>) -> Node {
        self.book.known().process_begins(&self.world.disks);
        self.book.known().heads = Some((HEAD.into(), self.lines.clone()));
        let directory = |(id, path)| DataDirectory::new(Uuid::from_u128(id), path);
        let mut spec = BrokerSpec::new(directory((1, DISKS[0])));
        spec.directories.push(directory((2, DISKS[1])).into());
        spec.log = self.log.clone();
        spec.groups.session_timeout_min_ms = 500;
        spec.offsets_partitions = 2;
        spec.journal_bytes = 64 << 10;
        spec.probe = Some(Arc::new(self.book.clone()));
        let (child, broker) = broker::start(spec);
        let root = SupervisorSpec::new("node").child(child).start(process.placement.clone());
        broker.ready().await.expect("no progress: the broker does not start");
        self.book.known().changes.settle(&broker.topics());
        for (topic, partitions) in [(self.direct.clone(), 1), (self.lines.clone(), 2)] {
            self.ensure(&broker, topic, partitions).await;
        }
        self.add_producers(&broker);
        self.start_agent(&root, &broker).await;
        Node { process, root, broker }
    }

    async fn ensure(&self, broker: &Broker, topic: TopicName, partitions: u32) {
        if self.book.known().changes.of(&topic) != Some(None) {
            return;
        }
        self.book.known().changes.asked(&topic, Some(partitions));
        let mut spec = TopicSpec::new(topic.as_str(), partitions).expect("it is a name");
        if self.book.known().lazy.contains(&topic) {
            let never = u64::MAX >> 1;
            spec = spec.set("flush.messages", &never.to_string()).expect("as in Kafka");
            spec = spec.set("flush.ms", "500").expect("as in Kafka");
        }
        broker.ensure_topic(spec).await.expect("no progress: a topic cannot be made");
        self.book.known().changes.acknowledged(&topic, Some(partitions));
    }

    /// One producer for each partition of `direct`, which grows.
    fn add_producers(&mut self, broker: &Broker) {
        for partition in partitions(broker, &self.direct).skip(self.producers.len()) {
            let number = self.producers.len() as u32;
            let producer = Producer::new(&self.world, number, partition, self.book.clone());
            self.producers.push(producer);
        }
    }

    async fn start_agent(&self, root: &SupervisorRef, broker: &Broker) {
        let mut agent = AgentSpec::new("agent");
        let channel = agent.durable_channel(self.channel.clone());
        let targets: Vec<_> = partitions(broker, &self.lines)
            .map(|partition| broker.partition(&partition).expect("the topic is there"))
            .collect();
        let sink = TopicSinkOptions::new(self.lines.as_str(), &targets);
        let options = SinkOptions { events_max: 50, ..SinkOptions::default() };
        agent.sink("publish", &channel, options, move || TopicSink::new(sink.clone()));
        let usual = TaildirOptions::new(
            vec![files::PATTERN.to_owned()],
            FeedOptions::new("files", channel),
        );
        agent.taildir(TaildirOptions {
            files: self.app.borrow().files(),
            patterns: usual.patterns,
            feed: usual.feed,
            limits: Limits {
                chunk_bytes: 1 << 10,
                turn_lines_max: 30,
                close_delay: Duration::from_secs(1),
                ..Limits::default()
            },
            poll: usual.poll,
            scan: usual.scan,
            file_header: None,
            offset_header: None,
        });
        let (spec, _) = agent.build();
        let started = root.start_child(ChildSpec::supervisor(spec).0).await;
        started.expect("no progress: the agent does not start");
    }

    /// Starts whoever uses the node. They end with their process, but for what they know.
    fn put_to_work(&mut self, node: &Node) {
        let (world, book, broker) = (&self.world, &self.book, &node.broker);
        for producer in &self.producers {
            let to = broker.partition(&producer.borrow().partition).expect("the topic is there");
            let produce = producer::produce(producer.clone(), to, world.clone());
            drop(tokio::task::spawn_local(produce));
        }
        for partition in partitions(broker, &self.lines) {
            let at = broker.partition(&partition).expect("the topic is there");
            let tail = reader::tail(partition, at, world.clone(), book.clone());
            drop(tokio::task::spawn_local(tail));
        }
        let (rng, grows) = (self.administrator.clone(), self.direct.clone());
        let administer =
            topics::administer(world.clone(), book.clone(), broker.clone(), grows, rng);
        drop(tokio::task::spawn_local(administer));
    }

    /// One more member of the group: it comes and goes, or comes once and stays for `stay_ms`.
    fn add_member(&mut self, node: &Node, stay_ms: Option<u64>) {
        let number = self.rng.next_u64();
        let rng = self.rng.split(&format!("member {number}"));
        let topics = vec![self.direct.clone(), self.lines.clone()];
        let (world, book, broker) = (self.world.clone(), self.book.clone(), node.broker.clone());
        let visitor = members::Visitor { world, book, broker, topics, rng };
        drop(match stay_ms {
            Some(stay_ms) => tokio::task::spawn_local(visitor.come_once(stay_ms)),
            None => tokio::task::spawn_local(visitor.come_and_go()),
        });
    }

    fn hurry(&self, is_in_a_hurry: bool) {
        for producer in &self.producers {
            producer.borrow_mut().is_in_a_hurry = is_in_a_hurry;
        }
    }

    /// What can be seen from outside at any moment.
    fn look(&self) {
        self.book.known().look();
    }

    /// All is well again: there is progress, and everything is where it should be.
    async fn last_life(&mut self) {
        let world = self.world.clone();
        let this = &mut *self;
        let life = async move |process| {
            let node = this.start(process).await;
            for producer in &this.producers {
                let to = node.broker.partition(&producer.borrow().partition);
                producer::finish(producer, &to.expect("the topic is there"), &this.world).await;
            }
            this.await_lines().await;
            let topics = [this.direct.clone(), this.lines.clone()];
            members::catch_up(&this.world, &this.book, &node.broker, &topics).await;
            this.judge_topics(&node).await;
            this.judge_groups(&node).await;
            this.judge_catalogue(&node);
            this.look();
            node.root.stop().await;
            (End::Exit, ())
        };
        world.process(ARBITERS, life).await;
    }

    /// A bit of one partition has turned while the node was down: that batch is refused, and all else
    /// is served.
    async fn damaged_life(&mut self) {
        let those = self.book.known().high_watermarks.of_topic(&self.direct);
        if those.is_empty() || self.rng.chance(1, 2) {
            return;
        }
        let (partition, _) = those[self.rng.below(those.len() as u64) as usize].clone();
        for disk in DISKS {
            let dir = Path::new(disk).join(partition.to_string());
            if let Some(flip) = damage::flip(&self.world, &dir, &mut self.rng) {
                assert!(flip.is_durable, "LOG-2: after a clean stop all is below the mark");
                self.book.known().turned(&partition, flip);
            }
        }
        let world = self.world.clone();
        let this = &mut *self;
        let life = async move |process| {
            let node = this.start(process).await;
            this.judge_topics(&node).await;
            this.judge_groups(&node).await;
            node.root.stop().await;
            (End::Exit, ())
        };
        world.process(ARBITERS, life).await;
    }

    /// Waits for every line of the application to arrive.
    async fn await_lines(&self) {
        let written: u64 = self.app.borrow().written().iter().sum();
        for _ in 0..600 {
            if self.book.known().durable_ends.records_of(&self.lines) >= written {
                return;
            }
            self.world.pass(Duration::from_millis(100)).await;
        }
        let arrived = self.book.known().durable_ends.records_of(&self.lines);
        panic!("TAIL-1: {written} lines were written, {arrived} arrive though all is well again");
    }

    async fn judge_topics(&self, node: &Node) {
        let mut all_lines = Vec::new();
        for topic in [&self.direct, &self.lines] {
            for partition in partitions(&node.broker, topic) {
                let at = node.broker.partition(&partition).expect("the topic is there");
                let all = reader::read_all(&at, &self.world).await;
                let flip = self.book.known().flip_of(&partition);
                if let Some(flip) = flip {
                    flip.check_refused(&all);
                    self.book.known().coverage.met("bit flip refused", 1);
                    continue;
                }
                let (start, found) =
                    all.unwrap_or_else(|error| panic!("LOG-2: it cannot be read: {error}"));
                self.book.known().judge(&partition, start, &found);
                if *topic == self.lines {
                    all_lines.push(found);
                }
            }
        }
        tail_1::check(self.app.borrow().written(), all_lines.iter().map(Vec::as_slice));
    }

    /// Reads what the coordinators have agreed on, from the first record on.
    async fn judge_groups(&self, node: &Node) {
        let mut commits = std::mem::take(&mut self.book.known().commits);
        for partition in partitions(&node.broker, &name(OFFSETS_TOPIC)) {
            let at = node.broker.partition(&partition).expect("the topic is there");
            let (_, found) =
                reader::read_all_raw(&at, &self.world).await.expect("LOG-2: it can be read");
            let mut memberships = Memberships::default();
            for record in found {
                let key = record.key.unwrap_or_default();
                match records::decode(&key, record.value.as_deref()).expect("the node wrote it") {
                    Some(GroupRecord::Group { group, value: Some(membership) }) => {
                        let is_new = memberships.check(&group, &membership);
                        self.book.known().coverage.met("rebalance", u64::from(is_new));
                    }
                    Some(GroupRecord::Group { group, value: None }) => memberships.forget(&group),
                    Some(GroupRecord::Offset { partition, value: Some(value), .. }) => {
                        commits.check_logged(&partition, value.offset);
                    }
                    Some(GroupRecord::Offset { value: None, .. }) | None => {}
                }
            }
        }
        commits.check_all_logged();
        commits.read_again();
        self.book.known().commits = commits;
    }

    fn judge_catalogue(&self, node: &Node) {
        let topics = node.broker.topics();
        self.book.known().changes.check(&topics);
        for file in self.world.disks.files() {
            let folder = file.components().nth(2).map(|part| part.as_os_str().to_string_lossy());
            let Some((topic, _)) = folder.as_deref().and_then(|folder| folder.rsplit_once('-'))
            else {
                continue;
            };
            let is_there = topics.keys().any(|there| there.as_str() == topic);
            assert!(is_there, "COORD-1: `{}` is left of a deleted topic", file.display());
        }
    }
}

/// The partitions of `topic`, in order.
fn partitions(broker: &Broker, topic: &TopicName) -> impl Iterator<Item = TopicPartition> + use<> {
    let count = broker.topics().get(topic).map_or(0, |topic| topic.partitions.len() as u32);
    let topic = topic.clone();
    (0..count).map(move |id| TopicPartition { topic: topic.clone(), partition: PartitionId(id) })
}

/// Runs that met nothing have shown nothing.
const WANTED: [&str; 26] = [
    "bit flip refused",
    "ahead of the disk",
    "lazy loss",
    "producer that begins anew",
    "clock jump",
    "torn page",
    "torn tail",
    "lost page",
    "lost name",
    "fenced write",
    "take-over",
    "late life",
    "dedupe",
    "kill",
    "full disk",
    "write error",
    "sync error",
    "rotation",
    "rotation during a kill",
    "rebalance",
    "rebalance under failover",
    "revocation",
    "reload",
    "topic made",
    "topic grown",
    "topic deleted",
];

#[test]
fn a_node_loses_nothing_and_doubles_nothing() {
    if let Some(met) = runner::explore("a_node_loses_nothing", 1, scenario) {
        met.require(&WANTED);
    }
}

#[test]
fn a_run_of_the_node_twice_gives_the_same_trace() {
    for seed in 0..3 {
        let (one, two) = (scenario(seed, &[]), scenario(seed, &[]));
        assert_eq!((one.hash, one.lines), (two.hash, two.lines), "seed {seed}");
    }
}

#[test]
fn bugs_planted_in_the_node_are_found() {
    for bug in Planted::ALL {
        let found = runner::hunt(scenario, bug);
        assert!(found.is_some(), "{bug:?} was not found");
    }
}
