//! The broker: topics of partitions, each partition a log with one actor.
//!
//! ```text
//!   broker (supervisor, one-for-one)
//!     ├─ controller                        decides what topics there are (catalogue)
//!     ├─ partitions (supervisor)           partition/<topic>-<n>, one actor each
//!     └─ coordinators (supervisor)         coordinator/<n>, one actor a partition of __consumer_offsets
//! ```
//!
//! [`Broker`] is how everybody else speaks with it: a handle that finds the actor in charge.

pub mod catalogue;
pub mod consumer;
pub mod controller;
pub mod directories;
pub mod group_coordinator;
pub mod kafka_import;
pub mod names;
pub mod partition;
mod topics;
pub mod traffic;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::Addr;
use flumen_runtime::{
    disk::DiskError,
    ids::LogId,
    journal::{self, Journaled, Replayed},
    log::LogConfig,
    registry::Directory,
    supervision::{ChildSpec, SupervisorRef, SupervisorSpec},
};
use tokio::sync::watch;
use uuid::Uuid;

use self::{
    catalogue::{
        coordination::CoordinationError,
        state::{Assigned, Catalogue, ChangeTopicError, CreateTopicError, TooManyPartitions},
    },
    controller::{Changed, Command, Controller},
    group_coordinator::{GroupCoordinator, ids::GroupId},
    names::{ProducerId, TopicName, TopicNameError, TopicPartition},
    partition::{
        Partition, PartitionHandle,
        options::{ClosedPartition, PartitionConfig},
        probe::Probe,
    },
    traffic::Traffic,
};
pub use self::{
    catalogue::{
        node_settings::{NodeSettings, NodeValues, Nodes},
        settings::{Settings, SettingsError},
        state::{NodeId, Topic},
    },
    directories::{CleanStopError, DataDirectory},
    topics::Topics,
    traffic::Moved,
};

/// The topic in which coordinators keep groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What a broker is made with.
#[derive(Clone)]
pub struct BrokerSpec {
    /// This node's number.
    pub node: NodeId,
    /// Its data directories; the first one holds the catalogue.
    pub directories: Vec<Arc<DataDirectory>>,
    /// How logs are kept where a topic's settings say nothing.
    pub log: LogConfig,
    /// Settings of topics that do not set them themselves.
    pub topic_settings: Settings,
    /// How groups are coordinated.
    pub groups: group_coordinator::turn::Options,
    /// Partitions of [`OFFSETS_TOPIC`] when it is made (`offsets.topic.num.partitions`).
    pub offsets_partitions: u32,
    /// Most partitions of all topics together (`max.partitions`).
    pub partitions_max: u32,
    /// How long an unused producer's state is kept (`producer.id.expiration.ms`).
    pub producer_age: Duration,
    /// Bytes of each of the two files of a commit journal; a quiet node needs less than a busy one.
    pub journal_bytes: u64,
    /// Who watches every step of every partition; nobody, as a rule.
    pub probe: Option<Arc<dyn Probe>>,
}

impl BrokerSpec {
    /// Node 1 with one data directory, and Kafka's defaults.
    #[must_use]
    pub fn new(directory: DataDirectory) -> Self {
        Self {
            node: NodeId(1),
            directories: vec![directory.into()],
            log: LogConfig::default(),
            topic_settings: Settings::default(),
            groups: group_coordinator::turn::Options::default(),
            offsets_partitions: 50,
            partitions_max: catalogue::state::PARTITIONS_MAX,
            producer_age: PartitionConfig::default().producer_age,
            journal_bytes: journal::FILE_BYTES,
            probe: None,
        }
    }
}

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: TopicName,
    /// How many partitions.
    pub partitions: u32,
    /// What is set of its settings.
    pub settings: Settings,
}

impl TopicSpec {
    /// A topic with default settings.
    ///
    /// # Errors
    /// [`TopicNameError`] where `name` is none.
    pub fn new(name: &str, partitions: u32) -> Result<Self, TopicNameError> {
        Ok(Self { name: TopicName::new(name)?, partitions, settings: Settings::default() })
    }

    /// With `name` set to `value`.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn set(mut self, name: &str, value: &str) -> Result<Self, SettingsError> {
        self.settings.set(name, value)?;
        Ok(self)
    }
}

/// Why a topic was not made, changed or found.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TopicError {
    /// It cannot be made.
    #[error(transparent)]
    Create(#[from] CreateTopicError),
    /// It cannot be changed.
    #[error(transparent)]
    Change(#[from] ChangeTopicError),
    /// There would be too many partitions in all.
    #[error(transparent)]
    Partitions(#[from] TooManyPartitions),
    /// The catalogue cannot be changed.
    #[error(transparent)]
    Coordination(#[from] CoordinationError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The journal cannot be read.
    #[error("the commit journal cannot be read: {reason}")]
    Journal {
        /// Why.
        reason: String,
    },
    /// What the last clean stop left cannot be taken.
    #[error(transparent)]
    CleanStop(#[from] CleanStopError),
    /// An actor of it did not start.
    #[error("`{what}` did not start: {reason}")]
    NotStarted {
        /// Which.
        what: String,
        /// Why.
        reason: String,
    },
    /// Somebody else has changed what was to be changed.
    #[error("its settings were changed meanwhile; look them up, and try again")]
    ChangedMeanwhile,
    /// The broker has stopped, or is stopping.
    #[error("the broker has stopped")]
    Stopped,
}

/// What the controller's lives and all handles share.
struct Shared {
    spec: BrokerSpec,
    partitions: Directory<TopicPartition, PartitionHandle>,
    coordinators: Directory<u32, Addr<GroupCoordinator>>,
    traffic: Directory<TopicName, Arc<Traffic>>,
    partitions_supervisor: SupervisorRef,
    coordinators_supervisor: SupervisorRef,
    topics: watch::Sender<Arc<Topics>>,
    node_settings: watch::Sender<Arc<NodeSettings>>,
    /// What all coordinators keep to.
    groups: watch::Sender<group_coordinator::turn::Options>,
    ready: watch::Sender<Option<Result<(), TopicError>>>,
    left: Mutex<Option<Left>>,
    producer_ids: tokio::sync::Mutex<std::ops::Range<i64>>,
}

/// What the last stop left of the logs, until they are opened.
#[derive(Default)]
struct Left {
    journaled: BTreeMap<LogId, Vec<Journaled>>,
    closed: BTreeMap<LogId, ClosedPartition>,
    /// The journals themselves, until partitions run that take what these have.
    journals: Vec<(Arc<DataDirectory>, Replayed)>,
}

impl Shared {
    fn partition(&self, partition: &TopicPartition) -> Option<Addr<Partition>> {
        self.partitions.get(partition).map(|running| running.address)
    }

    /// What goes into a topic and out of it.
    fn traffic(&self, topic: &TopicName) -> Arc<Traffic> {
        match self.traffic.get(topic) {
            Some(traffic) => traffic,
            None => self.traffic.get_or_insert_with(topic.clone(), Arc::default),
        }
    }

    fn directory(&self, id: Uuid) -> Option<&Arc<DataDirectory>> {
        self.spec.directories.iter().find(|directory| directory.id == id)
    }

    fn first_directory(&self) -> &Arc<DataDirectory> {
        self.spec.directories.first().expect("a node has a data directory")
    }

    /// How many partitions each directory holds.
    fn load(&self, catalogue: &Catalogue) -> BTreeMap<Uuid, usize> {
        let mut load: BTreeMap<Uuid, usize> =
            self.spec.directories.iter().map(|directory| (directory.id, 0)).collect();
        for assigned in catalogue.topics().flat_map(|topic| topic.partitions.iter()) {
            if let Some(partitions) = load.get_mut(&assigned.directory) {
                *partitions += 1;
            }
        }
        load
    }

    fn partition_config(&self, topic: &Topic) -> Arc<PartitionConfig> {
        let node = self.node_settings.borrow();
        let settings = topic.settings.over(&node.topic_defaults(self.spec.node));
        let settings = settings.over(&self.spec.topic_settings);
        let mut config = settings.partition_config(&self.spec.log);
        let age_ms = node.number(self.spec.node, "producer.id.expiration.ms");
        let age = age_ms.map(|age_ms| Duration::from_millis(age_ms.into()));
        config.producer_age = age.unwrap_or(self.spec.producer_age);
        config.into()
    }

    /// How groups are coordinated: as the node was told at its start, but for what was set since.
    fn group_options(&self, set: &NodeSettings) -> group_coordinator::turn::Options {
        let mut options = self.spec.groups.clone();
        let number = |name| set.number(self.spec.node, name);
        let take = |name, to: &mut u32| *to = number(name).unwrap_or(*to);
        take("group.min.session.timeout.ms", &mut options.session_timeout_min_ms);
        take("group.max.session.timeout.ms", &mut options.session_timeout_max_ms);
        take("group.initial.rebalance.delay.ms", &mut options.initial_rebalance_delay_ms);
        if let Some(members_max) = number("group.max.size") {
            options.members_max = members_max as usize;
        }
        if let Some(groups_max) = number("max.groups") {
            options.groups_max = groups_max as usize;
        }
        if let Some(bytes_max) = number("max.group.bytes") {
            options.group_bytes_max = bytes_max as usize;
        }
        if let Some(minutes) = number("offsets.retention.minutes") {
            options.offsets_retention_ms = i64::from(minutes) * 60_000;
        }
        options
    }

    /// The most partitions of all topics together, now.
    fn partitions_max(&self) -> u32 {
        let set = self.node_settings.borrow().number(self.spec.node, "max.partitions");
        set.unwrap_or(self.spec.partitions_max)
    }

    fn publish_node_settings(&self, catalogue: &Catalogue) {
        let settings = catalogue.node_settings();
        if *settings != **self.node_settings.borrow() {
            self.groups.send_replace(self.group_options(settings));
            self.node_settings.send_replace(Arc::new(settings.clone()));
        }
    }

    fn lock_left(&self) -> MutexGuard<'_, Option<Left>> {
        // Filled and emptied entry by entry: a panic cannot leave it torn.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_started(&self) -> bool {
        self.lock_left().is_some()
    }

    fn left(&self, left: Left) {
        *self.lock_left() = Some(left);
    }

    /// The journals that earlier runs left, once.
    fn take_journals(&self) -> Vec<(Arc<DataDirectory>, Replayed)> {
        let mut left = self.lock_left();
        left.as_mut().map(|left| std::mem::take(&mut left.journals)).unwrap_or_default()
    }

    /// What was left of one log. What it said when it was closed is good for one opening; its
    /// journalled batches stay until its partition has them ([`Shared::is_handed_over`]).
    fn left_of(&self, log: LogId) -> (Vec<Journaled>, Option<ClosedPartition>) {
        let mut left = self.lock_left();
        let left = left.get_or_insert_default();
        (left.journaled.get(&log).cloned().unwrap_or_default(), left.closed.remove(&log))
    }

    /// Whether `log` was closed in order, and has not been opened since.
    fn was_closed(&self, log: LogId) -> bool {
        self.lock_left().as_ref().is_some_and(|left| left.closed.contains_key(&log))
    }

    /// A partition runs that has what was left of `log`, or the log is gone.
    fn is_handed_over(&self, log: LogId) {
        self.lock_left().get_or_insert_default().journaled.remove(&log);
    }

    /// Whether a log has batches in the journal that no partition was given.
    fn has_journaled(&self) -> bool {
        self.lock_left().as_ref().is_some_and(|left| !left.journaled.is_empty())
    }

    fn publish(&self, catalogue: &Catalogue) {
        self.topics.send_replace(Arc::new(catalogue.topics().cloned().collect()));
        self.publish_node_settings(catalogue);
    }

    /// What a start came to. Once all runs, it does, whatever becomes of the catalogue.
    fn is_ready(&self, outcome: Result<(), TopicError>) {
        self.ready.send_if_modified(|ready| {
            let is_news = *ready != Some(Ok(()));
            if is_news {
                *ready = Some(outcome);
            }
            is_news
        });
    }
}

/// A handle of the broker. Clones are of the same broker, and may be used on any arbiter.
#[derive(Clone)]
pub struct Broker {
    controller: Addr<Controller>,
    supervisor: SupervisorRef,
    shared: Arc<Shared>,
}

/// A broker under supervision, and its handle.
#[must_use]
pub fn start(spec: BrokerSpec) -> (ChildSpec, Broker) {
    let (partitions, partitions_supervisor) =
        ChildSpec::supervisor(SupervisorSpec::new("partitions"));
    let (coordinators, coordinators_supervisor) =
        ChildSpec::supervisor(SupervisorSpec::new("coordinators"));
    let shared = Arc::new(Shared {
        groups: watch::channel(spec.groups.clone()).0,
        node_settings: watch::channel(Arc::default()).0,
        spec,
        partitions: Directory::new(),
        coordinators: Directory::new(),
        traffic: Directory::new(),
        partitions_supervisor,
        coordinators_supervisor,
        topics: watch::channel(Arc::default()).0,
        ready: watch::channel(None).0,
        left: Mutex::new(None),
        producer_ids: tokio::sync::Mutex::new(0..0),
    });
    let (controller, address) = controller::child_spec(shared.clone());
    let tree =
        SupervisorSpec::new("broker").child(controller).child(partitions).child(coordinators);
    let (child, supervisor) = ChildSpec::supervisor(tree);
    (child, Broker { controller: address, supervisor, shared })
}

impl Broker {
    /// The node's settings for topics that do not set them themselves.
    #[must_use]
    pub fn topic_settings(&self) -> &Settings {
        &self.shared.spec.topic_settings
    }

    async fn ask(&self, command: Command) -> Result<Changed, TopicError> {
        // A controller that failed is made anew; whether the change was made before is not known, so
        // it is the caller who may ask again.
        self.controller.send(command).await.map_err(|_| TopicError::Stopped)?
    }

    async fn ask_topic(&self, command: Command) -> Result<Topic, TopicError> {
        match self.ask(command).await? {
            Changed::Topic(topic) => Ok(*topic),
            Changed::ProducerIds(_) | Changed::Nothing => {
                unreachable!("the answer is of the question's kind")
            }
        }
    }

    /// Whether `command` would be carried out now, which it is not.
    ///
    /// # Errors
    /// [`TopicError`]: why it would not.
    pub async fn try_out(&self, command: Command) -> Result<(), TopicError> {
        self.ask(Command::TryOut(Box::new(command))).await.map(drop)
    }

    /// Resolves when the catalogue was read and every partition is being opened; at once where that was
    /// so before, also when the catalogue cannot be changed now.
    ///
    /// # Errors
    /// [`TopicError`]: why that cannot be.
    pub async fn ready(&self) -> Result<(), TopicError> {
        let mut ready = self.shared.ready.subscribe();
        let outcome = ready.wait_for(Option::is_some).await.map_err(|_| TopicError::Stopped)?;
        outcome.clone().expect("waited for")
    }

    /// Makes a topic; its partitions take appends when this returns.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn create_topic(&self, spec: TopicSpec) -> Result<Topic, TopicError> {
        self.ask_topic(Command::Create(spec)).await
    }

    /// The topic called `spec.name`, made where there is none.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn ensure_topic(&self, spec: TopicSpec) -> Result<Topic, TopicError> {
        self.ready().await?;
        if let Some(topic) = self.topics().get(&spec.name)
            && topic.partition_ids().all(|partition| {
                let topic = topic.name.clone();
                self.shared.partition(&TopicPartition { topic, partition }).is_some()
            })
        {
            return Ok(topic.clone());
        }
        // Where some do not run, the controller is at it: it answers when that is done.
        let name = spec.name.clone();
        match self.create_topic(spec).await {
            Err(TopicError::Create(CreateTopicError::Exists(_))) => {
                self.topics().get(&name).cloned().ok_or(TopicError::Stopped)
            }
            created => created,
        }
    }

    /// Deletes a topic and all its records.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn delete_topic(&self, name: &TopicName) -> Result<Topic, TopicError> {
        self.ask_topic(Command::Delete(name.clone())).await
    }

    /// Gives a topic more partitions: `partitions` in all.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn grow_topic(&self, name: &TopicName, partitions: u32) -> Result<Topic, TopicError> {
        self.ask_topic(Command::Grow(name.clone(), partitions)).await
    }

    /// Replaces what is set of a topic's settings; they take effect while it runs.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn configure_topic(
        &self,
        name: &TopicName,
        settings: Settings,
    ) -> Result<Topic, TopicError> {
        self.ask_topic(Command::Configure(name.clone(), None, settings)).await
    }

    /// The same, of a topic that is still `was`.
    ///
    /// # Errors
    /// [`TopicError::ChangedMeanwhile`] where its settings are others now, or another has its name.
    pub async fn reconfigure_topic(
        &self,
        was: &Topic,
        settings: Settings,
    ) -> Result<Topic, TopicError> {
        let known = (was.id, was.settings.clone());
        self.ask_topic(Command::Configure(was.name.clone(), Some(known), settings)).await
    }

    /// Replaces what is set of a node, or of all; it takes effect while they run.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn configure_nodes(
        &self,
        nodes: Nodes,
        values: NodeValues,
    ) -> Result<(), TopicError> {
        self.ask(Command::ConfigureNodes(nodes, None, values)).await.map(drop)
    }

    /// The same, of nodes of which still is set what `was`.
    ///
    /// # Errors
    /// [`TopicError::ChangedMeanwhile`] where something else is set of them now.
    pub async fn reconfigure_nodes(
        &self,
        nodes: Nodes,
        was: NodeValues,
        values: NodeValues,
    ) -> Result<(), TopicError> {
        self.ask(Command::ConfigureNodes(nodes, Some(was), values)).await.map(drop)
    }

    /// What is set of nodes.
    #[must_use]
    pub fn node_settings(&self) -> Arc<NodeSettings> {
        self.shared.node_settings.borrow().clone()
    }

    /// How groups are coordinated where nothing else was set since the node's start.
    #[must_use]
    pub fn group_options_at_start(&self) -> &group_coordinator::turn::Options {
        &self.shared.spec.groups
    }

    /// Partitions of [`OFFSETS_TOPIC`] when it is made.
    #[must_use]
    pub fn offsets_partitions(&self) -> u32 {
        self.shared.spec.offsets_partitions
    }

    /// The most partitions of all topics together, where nothing else was set since the node's start.
    #[must_use]
    pub fn partitions_max_at_start(&self) -> u32 {
        self.shared.spec.partitions_max
    }

    /// How long an unused producer's state is kept, where nothing else was set since the node's start.
    #[must_use]
    pub fn producer_age_at_start(&self) -> Duration {
        self.shared.spec.producer_age
    }

    /// The topics there are.
    #[must_use]
    pub fn topics(&self) -> Arc<Topics> {
        self.shared.topics.borrow().clone()
    }

    /// The topics there are, and every later change of them.
    #[must_use]
    pub fn watch_topics(&self) -> watch::Receiver<Arc<Topics>> {
        self.shared.topics.subscribe()
    }

    /// The actor of a partition; its address is good as long as the topic is there.
    #[must_use]
    pub fn partition(&self, partition: &TopicPartition) -> Option<Addr<Partition>> {
        self.shared.partition(partition)
    }

    /// Whether a partition of this node, which is `assigned` so, is offline: its log cannot be served, or
    /// its data directory is not there. One that is just being made is not.
    #[must_use]
    pub fn is_offline(&self, partition: &TopicPartition, assigned: &Assigned) -> bool {
        match self.shared.partitions.get(partition) {
            Some(running) => running.is_offline(),
            None => self.shared.directory(assigned.directory).is_none(),
        }
    }

    /// What went into each topic that runs, and out of it, since the node began.
    #[must_use]
    pub fn moved(&self) -> BTreeMap<TopicName, Moved> {
        let traffic = self.shared.traffic.entries().into_iter();
        traffic.map(|(topic, traffic)| (topic, traffic.moved())).collect()
    }

    /// The actor of a partition, and where what it gives consumers is counted.
    pub(crate) fn reading(
        &self,
        partition: &TopicPartition,
    ) -> Option<(Addr<Partition>, Arc<Traffic>)> {
        let running = self.shared.partitions.get(partition)?;
        let traffic = running.traffic().clone();
        Some((running.address, traffic))
    }

    /// The coordinator of a group. The topic that coordinators stand on is made when it is first
    /// needed.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn coordinator(&self, group: &GroupId) -> Result<Addr<GroupCoordinator>, TopicError> {
        let offsets = TopicName::new(OFFSETS_TOPIC).expect("the name fits");
        let partitions = self.shared.topics.borrow().get(&offsets).map(|t| t.partitions.len());
        let there = partitions.map(|count| group.partition_of(count as u32));
        if let Some(there) = there.and_then(|partition| self.shared.coordinators.get(&partition)) {
            return Ok(there);
        }
        let topic = self.ensure_offsets_topic().await?;
        let partition = group.partition_of(topic.partitions.len() as u32);
        self.shared.coordinators.get(&partition).ok_or_else(|| TopicError::NotStarted {
            what: format!("coordinator/{partition}"),
            reason: format!("its partition of `{OFFSETS_TOPIC}` does not run"),
        })
    }

    /// The topic that coordinators stand on, made where it is missing.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn ensure_offsets_topic(&self) -> Result<Topic, TopicError> {
        let spec = TopicSpec::new(OFFSETS_TOPIC, self.shared.spec.offsets_partitions);
        let spec = spec.expect("the name fits");
        self.ensure_topic(TopicSpec { settings: Settings::offsets_topic(), ..spec }).await
    }

    /// All coordinators that there are; none before the first group.
    #[must_use]
    pub fn coordinators(&self) -> Vec<Addr<GroupCoordinator>> {
        let coordinators = self.shared.coordinators.entries();
        coordinators.into_iter().map(|(_, address)| address).collect()
    }

    /// The node's data directories.
    #[must_use]
    pub fn directories(&self) -> &[Arc<DataDirectory>] {
        &self.shared.spec.directories
    }

    /// An id for an idempotent producer, never given before.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn new_producer_id(&self) -> Result<ProducerId, TopicError> {
        let mut block = self.shared.producer_ids.lock().await;
        if block.is_empty() {
            let Changed::ProducerIds(first) = self.ask(Command::TakeProducerIds).await? else {
                unreachable!("the answer is of the question's kind")
            };
            *block = first.0..first.0 + catalogue::state::PRODUCER_IDS_BLOCK;
        }
        Ok(ProducerId(block.next().expect("the block was filled")))
    }

    /// The supervisor of the broker's actors.
    #[must_use]
    pub fn supervisor(&self) -> &SupervisorRef {
        &self.supervisor
    }
}

#[cfg(test)]
mod tests;
