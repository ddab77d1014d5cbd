//! What a committed change makes of the partitions that run.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use flumen_runtime::{
    data_dir,
    disk::OpenMode,
    ids::LogId,
    journal::JournalEntry,
    placement::{Local, Place},
    supervision::{ChildSpec, StartChildError, SupervisorRef},
};
use futures::{StreamExt as _, stream};

use crate::broker::{
    OFFSETS_TOPIC, Shared, TopicError,
    catalogue::state::{Change, Topic},
    directories::{DataDirectory, METADATA_BYTES_MAX, ticket},
    group_coordinator::{GroupCoordinator, GroupLog, messages::ForgetTopic},
    names::{PartitionId, TopicPartition},
    partition::{
        self,
        messages::Configure,
        options::{PartitionConfig, PartitionOptions},
    },
};

/// How many partitions are started or removed at the same time.
const TOGETHER: usize = 64;
/// How often a partition is given its settings where each life of it ends meanwhile.
const CONFIGURE_TRIES: usize = 3;
/// How long all partitions together may take to stop: a node with many waits for their syncs rather
/// than recover them at its next start. Below the minute that their supervisor has.
const STOP_WITHIN: Duration = Duration::from_secs(40);
/// How often, and at which distance, a coordinator is asked to forget a topic before that is left for
/// later.
const FORGET_TRIES: u32 = 20;
const FORGET_RETRY: Duration = Duration::from_millis(100);

/// Carries `change` out, of which `topic` is what the catalogue says now, or said last. Returns the
/// change that follows from it, if any.
pub(super) async fn carry_out(
    shared: Arc<Shared>,
    local: Rc<Local>,
    change: Change,
    topic: Option<Topic>,
) -> Result<Option<Change>, TopicError> {
    if matches!(change, Change::NodesConfigured { .. }) {
        configure_all(&shared).await?;
    }
    let Some(topic) = topic else { return Ok(None) };
    match change {
        Change::TopicCreated(_) | Change::PartitionsAdded { .. } => {
            start_missing(&shared, &local, &topic).await?;
        }
        Change::TopicConfigured { .. } => {
            configure_topic(&shared, &topic).await?;
        }
        Change::TopicDeleted { id } => {
            remove(&shared, &local, &topic).await?;
            return Ok(Some(Change::TopicRemoved { id }));
        }
        Change::TopicRemoved { .. }
        | Change::LeaderChanged { .. }
        | Change::ProducerIdsTaken { .. }
        | Change::NodesConfigured { .. } => {}
    }
    Ok(None)
}

/// Gives every partition what the node's settings make of its topic's.
async fn configure_all(shared: &Shared) -> Result<(), TopicError> {
    let topics = shared.topics.borrow().clone();
    for topic in topics.values() {
        configure_topic(shared, topic).await?;
    }
    Ok(())
}

async fn configure_topic(shared: &Shared, topic: &Topic) -> Result<(), TopicError> {
    let config = shared.partition_config(topic);
    for partition in topic.partition_ids() {
        configure(shared, &of(topic, partition), &config).await?;
    }
    Ok(())
}

fn of(topic: &Topic, partition: PartitionId) -> TopicPartition {
    TopicPartition { topic: topic.name.clone(), partition }
}

/// Gives a partition its settings. A life that ends in the middle may not have had them.
async fn configure(
    shared: &Shared,
    name: &TopicPartition,
    config: &Arc<PartitionConfig>,
) -> Result<(), TopicError> {
    for _ in 0..CONFIGURE_TRIES {
        let Some(address) = shared.partition(name) else { return Ok(()) };
        if address.send(Configure { config: config.clone() }).await.is_ok() {
            return Ok(());
        }
    }
    let reason = "it ended each time that it was given its settings".to_owned();
    Err(TopicError::NotStarted { what: name.to_string(), reason })
}

/// Starts whatever of `topic` does not run. What cannot be started holds up nothing else.
pub(super) async fn start_missing(
    shared: &Arc<Shared>,
    local: &Rc<Local>,
    topic: &Topic,
) -> Result<(), TopicError> {
    let missing: Vec<PartitionId> = topic
        .partition_ids()
        .filter(|partition| shared.partition(&of(topic, *partition)).is_none())
        .collect();
    // Made once: its partitions share it.
    let config = shared.partition_config(topic);
    // All of them to their end: a start that is given up half way leaves a child that nobody knows.
    let started: Vec<Result<(), TopicError>> = stream::iter(missing)
        .map(|partition| start_partition(shared, local, topic, partition, &config))
        .buffer_unordered(TOGETHER)
        .collect()
        .await;
    started.into_iter().collect::<Result<(), TopicError>>()?;
    if topic.name.as_str() == OFFSETS_TOPIC {
        for partition in topic.partition_ids() {
            start_coordinator(shared, topic, partition).await?;
        }
    }
    Ok(())
}

async fn start_partition(
    shared: &Arc<Shared>,
    local: &Rc<Local>,
    topic: &Topic,
    partition: PartitionId,
    config: &Arc<PartitionConfig>,
) -> Result<(), TopicError> {
    let name = of(topic, partition);
    let assigned = &topic.partitions[partition.0 as usize];
    let Some(directory) = shared.directory(assigned.directory) else {
        tracing::error!(
            partition = %name, directory = %assigned.directory,
            "the partition's data directory is not among those given: it stays offline"
        );
        return Ok(());
    };
    let log = LogId { id: topic.id, shard: partition.0 };
    let (journaled, closed) = shared.left_of(log);
    if closed.is_none() {
        identify(local, directory, topic, &name).await?;
    }
    let (child, handle) = partition::child_spec(PartitionOptions {
        config: config.clone(),
        epoch: assigned.leader_epoch,
        closed,
        journaled,
        traffic: shared.traffic(&topic.name),
        probe: shared.spec.probe.clone(),
        ..PartitionOptions::new(name.clone(), log, directory.clone())
    });
    start_child(&shared.partitions_supervisor, child.stop_within(STOP_WITHIN)).await?;
    shared.partitions.insert(name, handle);
    shared.is_handed_over(log);
    Ok(())
}

/// Starts a child; one that is there already is made anew: an earlier life of the controller started
/// it, and ended before it could keep its address.
async fn start_child(supervisor: &SupervisorRef, child: ChildSpec) -> Result<(), TopicError> {
    let name = child.name().clone();
    let mut started = supervisor.start_child(child.clone()).await;
    if matches!(started, Err(StartChildError::Exists { .. })) {
        // It may have ended by itself.
        let _ = supervisor.stop_child(&name).await;
        started = supervisor.start_child(child).await;
    }
    started.map_err(|error| {
        let (what, reason) = (name.to_string(), error.to_string());
        TopicError::NotStarted { what, reason }
    })
}

/// Sees that the directory is the topic's own, by the `partition.metadata` in it, or writes that: by
/// it a person, and Kafka, know whose directory it is.
async fn identify(
    local: &Rc<Local>,
    directory: &DataDirectory,
    topic: &Topic,
    name: &TopicPartition,
) -> Result<(), TopicError> {
    let disk = local.disk(&directory.path)?;
    let dir = directory.path.join(name.to_string());
    let path = dir.join("partition.metadata");
    let topic_id = format!("topic_id: {}", data_dir::kafka_id(topic.id));
    match disk.open(&path, OpenMode::Read).await {
        Ok(file) => {
            let found = disk.read(&file, 0, METADATA_BYTES_MAX).await?;
            let mut lines = found.split(|byte| *byte == b'\n');
            if lines.any(|line| line.trim_ascii() == topic_id.as_bytes()) {
                return Ok(());
            }
            // The leavings of another topic of this name must not become records of this one.
            let (what, dir) = (name.to_string(), dir.display());
            let reason = format!(
                "`{dir}` is the directory of another topic, by its `partition.metadata`; move it away"
            );
            return Err(TopicError::NotStarted { what, reason });
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let text = format!("version: 0\n{topic_id}\n");
    disk.create_dir(&dir).await?;
    disk.sync_dir(&*directory.path).await?;
    Ok(disk.write_atomically(&path, Bytes::from(text), &ticket(local, &path).await).await?)
}

async fn start_coordinator(
    shared: &Arc<Shared>,
    topic: &Topic,
    partition: PartitionId,
) -> Result<(), TopicError> {
    let name = of(topic, partition);
    let Some(address) = shared.partition(&name) else { return Ok(()) };
    if shared.coordinators.get(&partition.0).is_some() {
        return Ok(());
    }
    let log = GroupLog { append: address.clone().recipient(), fetch: address.recipient() };
    let (child_name, groups) = (format!("coordinator/{partition}"), shared.groups.subscribe());
    let (child, address) = GroupCoordinator::child_spec(child_name, log, groups);
    // Beside its partition: what they say to each other stays on one core.
    let child = child.place(Place::With(partition::actor_name(&name).into()));
    start_child(&shared.coordinators_supervisor, child).await?;
    shared.coordinators.insert(partition.0, address);
    Ok(())
}

/// Stops the partitions of a deleted topic, removes their directories, and has the groups forget it.
/// May be done again where it failed.
pub(super) async fn remove(
    shared: &Arc<Shared>,
    local: &Rc<Local>,
    topic: &Topic,
) -> Result<(), TopicError> {
    let removed: Vec<Result<(), TopicError>> = stream::iter(topic.partition_ids())
        .map(|partition| remove_partition(shared, local, topic, partition))
        .buffer_unordered(TOGETHER)
        .collect()
        .await;
    removed.into_iter().collect::<Result<(), TopicError>>()?;
    shared.traffic.remove(&topic.name);
    forget_offsets(shared, topic).await
}

/// Has all groups forget how far they had come in a topic that is deleted.
async fn forget_offsets(shared: &Arc<Shared>, topic: &Topic) -> Result<(), TopicError> {
    for (_, coordinator) in shared.coordinators.entries() {
        let forget = ForgetTopic { topic: topic.name.clone() };
        let mut tries = 0;
        loop {
            let error = match coordinator.send(forget.clone()).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tries += 1;
            if tries == FORGET_TRIES {
                let reason = format!("its groups cannot forget their offsets: {error}");
                return Err(TopicError::NotStarted { what: topic.name.to_string(), reason });
            }
            // It may be reading its log.
            tokio::time::sleep(FORGET_RETRY).await;
        }
    }
    Ok(())
}

async fn remove_partition(
    shared: &Arc<Shared>,
    local: &Rc<Local>,
    topic: &Topic,
    partition: PartitionId,
) -> Result<(), TopicError> {
    let name = of(topic, partition);
    drop(shared.partitions.remove(&name));
    // It may have ended by itself, or never have been started.
    let _ = shared.partitions_supervisor.stop_child(&format!("partition/{name}")).await;
    let log = LogId { id: topic.id, shard: partition.0 };
    let assigned = &topic.partitions[partition.0 as usize];
    let Some(directory) = shared.directory(assigned.directory) else { return Ok(()) };
    let disk = local.disk(&directory.path)?;
    let dir = directory.path.join(name.to_string());
    let ticket = ticket(local, &dir).await;
    disk.commit(JournalEntry::Deleted { log }, &ticket).await?;
    disk.remove_dir_under(&dir, &ticket).await?;
    disk.sync_dir(&*directory.path).await?;
    // Whoever still holds the gate is fenced by it; a topic of the same name begins with its own.
    local.gates().forget(&dir);
    shared.is_handed_over(log);
    Ok(())
}
