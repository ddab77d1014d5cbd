//! What a committed change makes of the partitions that run.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use flumen_runtime::{
    data_dir,
    disk::DiskError,
    ids::LogId,
    journal::JournalEntry,
    placement::{Local, Place},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::broker::{
    OFFSETS_TOPIC, Running, Shared, TopicError,
    catalogue::state::{Change, Topic},
    directories::{DataDirectory, ticket},
    group_coordinator::{GroupCoordinator, GroupLog},
    names::{PartitionId, TopicPartition},
    partition::{
        self,
        messages::Configure,
        options::{Handover, PartitionOptions},
    },
};

/// How many partitions are started or removed at the same time.
const TOGETHER: usize = 64;

/// Carries `change` out, of which `topic` is what the catalogue says now, or said last. Returns the
/// change that follows from it, if any.
pub(super) async fn carry_out(
    shared: Arc<Shared>,
    local: Rc<Local>,
    change: Change,
    topic: Option<Topic>,
) -> Result<Option<Change>, TopicError> {
    let Some(topic) = topic else { return Ok(None) };
    match change {
        Change::TopicCreated(_) | Change::PartitionsAdded { .. } => {
            start_missing(&shared, &local, &topic).await?;
        }
        Change::TopicConfigured { .. } => {
            let config = shared.partition_config(&topic);
            for partition in topic.partition_ids() {
                if let Some(address) = shared.partition(&of(&topic, partition)) {
                    // One that is being made anew reads its settings when it starts.
                    let _ = address.send(Configure { config: config.clone() }).await;
                }
            }
        }
        Change::TopicDeleted { id } => {
            remove(&shared, &local, &topic).await?;
            return Ok(Some(Change::TopicRemoved { id }));
        }
        Change::TopicRemoved { .. }
        | Change::LeaderChanged { .. }
        | Change::ProducerIdsTaken { .. } => {}
    }
    Ok(None)
}

fn of(topic: &Topic, partition: PartitionId) -> TopicPartition {
    TopicPartition { topic: topic.name.clone(), partition }
}

/// Starts whatever of `topic` does not run.
pub(super) async fn start_missing(
    shared: &Arc<Shared>,
    local: &Rc<Local>,
    topic: &Topic,
) -> Result<(), TopicError> {
    let missing: Vec<PartitionId> = topic
        .partition_ids()
        .filter(|partition| shared.partition(&of(topic, *partition)).is_none())
        .collect();
    stream::iter(missing)
        .map(|partition| start_partition(shared, local, topic, partition))
        .buffer_unordered(TOGETHER)
        .try_collect::<Vec<()>>()
        .await?;
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
    let handover = Handover::new(journaled, closed);
    let options = PartitionOptions {
        config: shared.partition_config(topic),
        epoch: assigned.leader_epoch,
        handover: handover.clone(),
        room: directory.room.clone(),
        probe: shared.spec.probe.clone(),
        ..PartitionOptions::new(name.clone(), log, &directory.path)
    };
    let (child, address) = partition::child_spec(options);
    shared.partitions_supervisor.start_child(child).await.map_err(|error| {
        TopicError::NotStarted { what: name.to_string(), reason: error.to_string() }
    })?;
    let (log, directory) = (log, directory.id);
    shared.partitions.insert(name, Running { address, handover, log, directory });
    Ok(())
}

/// Writes `partition.metadata`, by which a person, and Kafka, know whose directory it is.
async fn identify(
    local: &Rc<Local>,
    directory: &DataDirectory,
    topic: &Topic,
    name: &TopicPartition,
) -> Result<(), DiskError> {
    let disk = local.disk(&directory.path)?;
    let dir = directory.path.join(name.to_string());
    let path = dir.join("partition.metadata");
    let is_there = match disk.list(&dir).await {
        Ok(entries) => entries.iter().any(|entry| entry.name == "partition.metadata"),
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(error),
    };
    if is_there {
        return Ok(());
    }
    let text = format!("version: 0\ntopic_id: {}\n", data_dir::kafka_id(topic.id));
    disk.create_dir(&dir).await?;
    disk.sync_dir(&directory.path).await?;
    disk.write_atomically(&path, Bytes::from(text), &ticket(local, &path).await).await
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
    let child_name = format!("coordinator/{partition}");
    let (child, address) =
        GroupCoordinator::child_spec(child_name.as_str(), log, shared.spec.groups.clone());
    // Beside its partition: what they say to each other stays on one core.
    let child = child.place(Place::With(format!("partition/{name}").as_str().into()));
    shared
        .coordinators_supervisor
        .start_child(child)
        .await
        .map_err(|error| TopicError::NotStarted { what: child_name, reason: error.to_string() })?;
    shared.coordinators.insert(partition.0, address);
    Ok(())
}

/// Stops the partitions of a deleted topic, and removes their directories.
pub(super) async fn remove(
    shared: &Arc<Shared>,
    local: &Rc<Local>,
    topic: &Topic,
) -> Result<(), TopicError> {
    for partition in topic.partition_ids() {
        let name = of(topic, partition);
        if let Some(running) = shared.partitions.remove(&name) {
            // It may have ended by itself.
            let _ = shared.partitions_supervisor.stop_child(&format!("partition/{name}")).await;
            drop(running);
        }
        let assigned = &topic.partitions[partition.0 as usize];
        let Some(directory) = shared.directory(assigned.directory) else { continue };
        let disk = local.disk(&directory.path)?;
        let dir = directory.path.join(name.to_string());
        let ticket = ticket(local, &dir).await;
        let log = LogId { id: topic.id, shard: partition.0 };
        disk.commit(JournalEntry::Deleted { log }, &ticket).await?;
        disk.remove_dir_under(&dir, &ticket).await?;
        disk.sync_dir(&directory.path).await?;
    }
    Ok(())
}
