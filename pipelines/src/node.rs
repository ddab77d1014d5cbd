//! A node: an embedded broker with its arbiters, disks and supervisors, in this process.
//!
//! ```text
//!   root (supervisor) ─┬─ broker        controller, partitions, coordinators
//!                      ├─ gateway       listeners and connections
//!                      └─ pipelines     what is started on the node: agents, stages
//! ```
//!
//! [`run`] makes the actix system, starts a node in it, runs a program on it, and stops it in order:
//! pipelines drain first, then the broker closes its logs, then the data directories are let go of.

pub mod settings;

use std::{
    cell::Cell,
    collections::BTreeMap,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flumen_actors::{
    broker::{
        self, Broker, BrokerSpec, DataDirectory, NodeId, Settings, TopicError,
        catalogue::{local, state::PARTITIONS_MAX},
        group_coordinator::turn,
        kafka_import::{self, ImportError, Imported},
        names::{TopicName, TopicPartition},
        partition::{
            messages::{At, FindOffset, PartitionStatus, Status},
            options::PartitionConfig,
        },
    },
    gateway::{
        self, Gateway, GatewaySpec, TopicDefaults,
        limits::Limits,
        listener::{BindError, Bound},
    },
};
use flumen_runtime::{
    clock::{Clock as _, SystemClock},
    data_dir::{DataDir, DataDirError, Identity, kafka::KafkaDir, kafka_id},
    disk::{DiskMaker as _, Engine, EngineError, RealDisks},
    ids::Offset,
    journal,
    log::LogConfig,
    meters::Metered,
    placement::{Placement, Services, ThreadOptions, ThreadPlacement},
    rng::Rng,
    supervision::{ChildSpec, Exit, Restart, SupervisorRef, SupervisorSpec},
};
use futures::{FutureExt as _, future};

use crate::topology::{Topology, TopologyError};

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its data directories, each on a disk of its own if there are several; the first one holds the
    /// catalogue, unless another does already. Made where they are missing (but not their parents).
    pub data: Vec<PathBuf>,
    /// Its number in a cluster; where none is given, what its directories say, and 1 for new ones.
    pub node: Option<u32>,
    /// Which disk driver.
    pub engine: Engine,
    /// Its threads.
    pub threads: ThreadOptions,
    /// How logs are kept where a topic's settings say nothing.
    pub log: LogConfig,
    /// How groups are coordinated.
    pub groups: turn::Options,
    /// Partitions of the topic that keeps groups' offsets, when it is made.
    pub offsets_partitions: u32,
    /// Most partitions of all topics together.
    pub partitions_max: u32,
    /// How long an unused producer's state is kept.
    pub producer_age: Duration,
    /// Addresses to listen on for Kafka's clients; none: the broker is embedded only.
    pub listen: Vec<Listen>,
    /// What the gateway takes from its clients.
    pub limits: Limits,
    /// How topics that clients merely name are made.
    pub topic_defaults: TopicDefaults,
    /// Settings of topics that do not set them themselves.
    pub topic_settings: Settings,
    /// Whether log directories of Kafka's are taken over, for good: see
    /// [`kafka_import`]. Else they are refused.
    pub takes_over_kafka: bool,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `HOST:PORT`; port 0 lets the system choose one.
    pub address: String,
    /// Host and port that clients are told to connect to, where it is another.
    pub advertise: Option<(String, u16)>,
}

impl NodeOptions {
    /// Node 1 in one data directory, one arbiter a core, embedded.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: vec![data.into()],
            node: None,
            engine: Engine::default(),
            threads: ThreadOptions::default(),
            log: LogConfig::default(),
            groups: turn::Options::default(),
            offsets_partitions: 50,
            partitions_max: PARTITIONS_MAX,
            producer_age: PartitionConfig::default().producer_age,
            listen: Vec::new(),
            limits: Limits::default(),
            topic_defaults: TopicDefaults::default(),
            topic_settings: Settings::default(),
            takes_over_kafka: false,
        }
    }

    /// Also listens on `address`, `HOST:PORT`, for Kafka's clients in any language; clients are told that
    /// address. Port 0 lets the system choose one, which [`Node::addresses`] tells. May be said more
    /// than once; where clients reach the address by another name, put a [`Listen`] into
    /// [`listen`](Self#structfield.listen).
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(Listen { address: address.into(), advertise: None });
        self
    }
}

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The disk driver that was demanded is not to be had.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The system gives no threads.
    #[error("cannot start the node's threads: {0}; see `ulimit -u`")]
    Threads(#[source] io::Error),
    /// The broker cannot start, or refuses.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Nothing was given to keep data in.
    #[error("a node needs a data directory; name one with `--data DIR`")]
    NoData,
    /// Two data directories hold a catalogue.
    #[error(
        "`{}` and `{}` both hold a catalogue of topics, and a node has one: leave out the directory whose \
         topics you do not want, or move its `{}` away", .0.display(), .1.display(), local::FOLDER
    )]
    TwoCatalogues(PathBuf, PathBuf),
    /// There are partitions, and no catalogue that knows them.
    #[error(
        "`{}` holds partitions, and none of the data directories the catalogue that they stand in: name \
         all of the node's directories", .0.display()
    )]
    NoCatalogue(PathBuf),
    /// A log directory of Kafka's, where nobody said that it is to be taken over.
    #[error(
        "`{}` is a log directory of Kafka: `flumen serve` takes it over, for good", .0.display()
    )]
    Kafka(PathBuf),
    /// Kafka's log directories cannot be taken over.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A supervisor gave up.
    #[error("the node ended: {0}; what it had acknowledged is safe, start it again")]
    Ended(Exit),
}

/// A running node. Clones are of the same node.
#[derive(Clone)]
pub struct Node {
    broker: Broker,
    root: SupervisorRef,
    pipelines: SupervisorRef,
    gateway: Gateway,
    placement: Arc<ThreadPlacement>,
    data: Arc<Path>,
    about: Arc<str>,
    /// The graphs of the pipelines that run, by name.
    running: Arc<Mutex<BTreeMap<String, Topology>>>,
}

impl Node {
    /// Its first data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// What Kafka's clients connect to; those of this process, where it listens nowhere.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Where it listens for Kafka's clients, in the order in which the addresses were given; empty where
    /// it is embedded only.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.gateway.listeners().iter().map(Bound::address).collect()
    }

    /// The supervisor of what is started on the node.
    #[must_use]
    pub fn pipelines(&self) -> &SupervisorRef {
        &self.pipelines
    }

    /// The root of all supervisors.
    #[must_use]
    pub fn root(&self) -> &SupervisorRef {
        &self.root
    }

    /// How a partition is, once its log is open or is known not to open. `None` where there is no such
    /// partition, or its data directory was not given.
    pub async fn status(&self, partition: &TopicPartition) -> Option<PartitionStatus> {
        let address = self.broker.partition(partition)?;
        // Logs are opened while the node is up already. What cannot be answered before its log is
        // open waits for it, and so do we: the marks of a log that is being opened are all zero.
        let _ = address.send(FindOffset::new(At::Latest)).await;
        address.send(Status).await.ok()
    }

    /// Where the partitions of `topic` end, as far as consumers may read.
    pub async fn ends(&self, topic: &TopicName) -> BTreeMap<TopicPartition, Offset> {
        let mut ends = BTreeMap::new();
        let topics = self.broker.topics();
        for partition in topics.get(topic).into_iter().flat_map(|topic| topic.partition_ids()) {
            let name = TopicPartition { topic: topic.clone(), partition };
            if let Some(status) = self.status(&name).await {
                ends.insert(name, status.marks.high_watermark);
            }
        }
        ends
    }

    /// The graph of all pipelines that run on it; their stages are called `<pipeline>/<stage>`.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let mut whole = Topology::default();
        self.lock_running().iter().for_each(|(name, part)| whole.merge(name, part));
        whole
    }

    /// Takes the graph of a pipeline in, as long as that pipeline runs.
    pub(crate) fn enter(&self, name: &str, part: &Topology) -> Result<(), TopologyError> {
        let mut running = self.lock_running();
        if running.contains_key(name) {
            return Err(TopologyError::Runs(name.to_owned()));
        }
        let mut whole = Topology::default();
        running.iter().for_each(|(name, part)| whole.merge(name, part));
        whole.merge(name, part);
        whole.order()?;
        whole.check_changelogs()?;
        running.insert(name.to_owned(), part.clone());
        Ok(())
    }

    pub(crate) fn leave(&self, name: &str) {
        self.lock_running().remove(name);
    }

    fn lock_running(&self) -> MutexGuard<'_, BTreeMap<String, Topology>> {
        // Changed by one insertion or removal: a panic cannot leave it torn.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all arbiters share.
    #[must_use]
    pub fn services(&self) -> &Services {
        self.placement.services()
    }

    /// How long actors waited for disks since the node began, by their kind.
    #[must_use]
    pub fn meters(&self) -> BTreeMap<&'static str, Metered> {
        self.services().meters.all()
    }

    /// What a person should know who started it: data directories, disk driver, what an ack promises.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }
}

/// Starts a node, runs `program` on it, and stops the node in order.
///
/// Where the node ends before the program does, since a supervisor gave up, so does this.
///
/// # Errors
/// [`NodeError`] where the node does not start or ends, as the program's own error type takes it in.
pub fn run<T, E, F>(options: NodeOptions, program: impl FnOnce(Node) -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: From<NodeError>,
{
    actix_rt::System::new().block_on(async move {
        let (node, directories) = start(options)?;
        let was_up = Cell::new(false);
        let running = Box::pin(async {
            node.broker.ready().await.map_err(NodeError::from)?;
            was_up.set(true);
            announce(&node, &directories)?;
            program(node.clone()).await
        });
        let (root, pipelines) = (Box::pin(node.root.exited()), Box::pin(node.pipelines.exited()));
        let ended = future::select(root, pipelines).map(|exit| exit.factor_first().0);
        let outcome = match future::select(running, ended).await {
            future::Either::Left((outcome, _)) => outcome,
            future::Either::Right((exit, _)) => Err(NodeError::Ended(exit).into()),
        };
        node.root.stop().await;
        let exit = node.root.exited().await;
        node.placement.stop();
        if exit == Exit::Normal {
            // A start that was refused recovers nothing: what a crash left is no clean stop by it.
            let is_clean = |directory: &DataDir| was_up.get() || directory.was_clean();
            for directory in directories.into_iter().filter(is_clean) {
                directory.close().map_err(NodeError::from)?;
            }
        }
        outcome
    })
}

/// Tells other processes where it listens.
fn announce(node: &Node, directories: &[DataDir]) -> Result<(), NodeError> {
    let here = |bound: &Bound| match bound.address() {
        address if address.is_ipv4() => within_reach(address, Ipv4Addr::LOCALHOST.into()),
        address => within_reach(address, Ipv6Addr::LOCALHOST.into()),
    };
    let addresses: Vec<SocketAddr> = node.gateway.listeners().iter().map(here).collect();
    if !addresses.is_empty() {
        for directory in directories {
            match directory.announce(&addresses) {
                // A full disk keeps no node from serving what it has.
                Err(error) if error.is_full() => tracing::warn!(
                    %error, "commands on its data directory do not find this node: give them `--bootstrap`"
                ),
                announced => announced?,
            }
        }
    }
    Ok(())
}

/// An address that stands for all of a machine's is reached at its loopback.
fn within_reach(address: SocketAddr, loopback: IpAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() { loopback } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

fn start(options: NodeOptions) -> Result<(Node, Vec<DataDir>), NodeError> {
    let listeners = bind(&options.listen)?;
    take_over_kafka(&options)?;
    let mut rng = Rng::from_system();
    let directories = open_directories(&options, &mut rng)?;
    let first = directories.first().ok_or(NodeError::NoData)?;
    let disks = RealDisks::choose(options.engine)?;
    let about = about(&options, &disks.describe());
    let services = Services::of_system(Arc::new(disks));
    let placement =
        ThreadPlacement::start(options.threads, services).map_err(NodeError::Threads)?;
    let node = node_id(first.node());
    let spec = BrokerSpec {
        node,
        directories: directories
            .iter()
            .map(|dir| DataDirectory::new(dir.id(), dir.path()).into())
            .collect(),
        log: options.log,
        topic_settings: options.topic_settings,
        groups: options.groups,
        offsets_partitions: options.offsets_partitions,
        partitions_max: options.partitions_max,
        producer_age: options.producer_age,
        journal_bytes: journal::FILE_BYTES,
        probe: None,
    };
    let (child, broker) = broker::start(spec);
    let (pipelines_child, pipelines) = ChildSpec::supervisor(SupervisorSpec::new("pipelines"));
    let root = SupervisorSpec::new("root").child(child);
    let spec = GatewaySpec {
        listeners,
        limits: options.limits,
        node,
        cluster: kafka_id(first.cluster()),
        defaults: options.topic_defaults,
    };
    let (gateway_child, gateway) = gateway::start(spec, broker.clone());
    let root = root.child(gateway_child);
    // Made anew it would be empty: where it gives up, so does the node.
    let pipelines_child = pipelines_child.restart(Restart::Temporary);
    let root = root.child(pipelines_child).start(placement.clone());
    let data = first.path().into();
    let (about, running) = (about.into(), Arc::default());
    let node = Node { broker, root, pipelines, gateway, placement, data, about, running };
    Ok((node, directories))
}

/// The data directories, first that which holds the catalogue, in whatever order they were given.
fn open_directories(options: &NodeOptions, rng: &mut Rng) -> Result<Vec<DataDir>, NodeError> {
    let has_catalogue = |path: &Path| path.join(local::FOLDER).is_dir();
    // New ones become part of the node that others belong to already.
    let mut paths: Vec<&PathBuf> = options.data.iter().collect();
    paths.sort_by_key(|path| (!has_catalogue(path), !path.join("meta.properties").exists()));
    match paths[..] {
        [first, second, ..] if has_catalogue(second) => {
            return Err(NodeError::TwoCatalogues(first.clone(), second.clone()));
        }
        [first, ..] if !has_catalogue(first) => {
            if let Some(left) = paths.iter().find(|path| has_partitions(path)) {
                return Err(NodeError::NoCatalogue((*left).clone()));
            }
        }
        _ => {}
    }
    let mut directories: Vec<DataDir> = Vec::new();
    for path in paths {
        let node = directories.first().map(DataDir::node).or(options.node);
        let cluster = directories.first().map(DataDir::cluster);
        directories.push(DataDir::open(path, Identity { node, cluster }, rng)?);
    }
    Ok(directories)
}

/// Whether there is a directory in `path` that is called as a partition's is.
fn has_partitions(path: &Path) -> bool {
    let is_partition = |name: &str| {
        let number = name.rsplit_once('-').and_then(|(_, number)| number.parse::<u32>().ok());
        number.is_some() && !name.starts_with('.')
    };
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let mut dirs = entries.filter(|entry| entry.path().is_dir());
    dirs.any(|entry| entry.file_name().to_str().is_some_and(is_partition))
}

fn node_id(number: u32) -> NodeId {
    NodeId(i32::try_from(number).unwrap_or(i32::MAX))
}

/// Takes over log directories of Kafka's where that is wanted; says plainly what that means.
fn take_over_kafka(options: &NodeOptions) -> Result<(), NodeError> {
    if !options.takes_over_kafka {
        let mut kafka_s = options.data.iter();
        let is_kafka_s = |path: &&PathBuf| matches!(KafkaDir::find(path), Ok(Some(_)));
        return kafka_s.find(is_kafka_s).map_or(Ok(()), |dir| Err(NodeError::Kafka(dir.clone())));
    }
    let node = options.node.map(node_id);
    let imported = kafka_import::take_over(&options.data, node, SystemClock.now_ms())?;
    let Some(imported) = imported else { return Ok(()) };
    let Imported { topics, partitions, offsets, left, settings, refused } = imported;
    tracing::warn!(
        topics,
        partitions,
        offsets,
        "took over the log directories of Kafka; they are Flumen's from now on, and Kafka does not open them \
         any more"
    );
    match settings {
        Some(settings) => tracing::warn!(
            settings,
            "what was set on topics is set on them here; those that had no retention.ms of their own have \
             retention.ms=-1, so that nothing is deleted: set what the configuration of Kafka's node said"
        ),
        None => tracing::warn!(
            "Kafka's metadata, where the settings of topics stand, is in none of the directories: all have \
             the defaults, but for retention.ms=-1, so that nothing is deleted; set what they had, such as \
             cleanup.policy=compact"
        ),
    }
    for setting in refused {
        tracing::warn!("not taken over: {setting}");
    }
    for dir in left {
        tracing::warn!(dir = %dir.display(), "left as it is: it is for Kafka alone, or was given up by it");
    }
    Ok(())
}

/// Binds all addresses before anything else is begun, so that a port in use is known at once.
fn bind(listen: &[Listen]) -> Result<Vec<Bound>, BindError> {
    let bind = |(number, listen): (usize, &Listen)| {
        let advertise = listen.advertise.as_ref().map(|(host, port)| (host.as_str(), *port));
        Bound::bind(&format!("plain-{number}"), &listen.address, advertise)
    };
    listen.iter().enumerate().map(bind).collect()
}

fn about(options: &NodeOptions, disks: &str) -> String {
    let data: Vec<String> =
        options.data.iter().map(|path| format!("`{}`", path.display())).collect();
    let promise = if options.topic_settings.is_lazy() {
        let most = options.topic_settings.get("flush.ms").unwrap_or_default();
        format!(
            "an acknowledged record survives a crash of the process, not a power cut, which may take those of \
             the last {most} ms (flush.messages, flush.ms), unless its topic says otherwise"
        )
    } else {
        "an acknowledged record is on the disk, unless its topic says otherwise (flush.messages)"
            .into()
    };
    format!("data in {}; {disks}; {promise}", data.join(", "))
}
