//! From a stopped node to a running one, and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use flumen_runtime::{
    ids::{LeaderEpoch, LogId},
    journal::{self, Replayed},
    placement::Local,
};

use super::carry_out;
use crate::broker::{
    Left, Shared, TopicError,
    catalogue::{
        coordination::Coordination,
        local::LocalCoordination,
        state::{Catalogue, Change, Topic},
    },
    directories::DataDirectory,
    names::{PartitionId, TopicPartition},
    partition::messages::{At, FindOffset},
};

/// What a start came to.
pub(super) struct Started {
    pub(super) coordination: Box<dyn Coordination>,
    pub(super) catalogue: Catalogue,
    /// Whether every partition runs and nothing deleted is left.
    pub(super) is_whole: bool,
}

/// Reads what the last stop left, opens the catalogue, and starts every partition that does not run.
pub(super) async fn start(shared: Arc<Shared>, local: Rc<Local>) -> Result<Started, TopicError> {
    read_what_was_left(&shared, &local).await?;
    let (mut coordination, mut catalogue) =
        LocalCoordination::open(&local, &shared.first_directory().path).await?;
    shared.publish_node_settings(&catalogue);
    let raised: Vec<Change> = catalogue.topics().flat_map(|topic| raised(&shared, topic)).collect();
    if let Err(error) = commit(&mut coordination, &mut catalogue, raised).await {
        // Mostly a full disk, of which partitions give room back once they run.
        tracing::warn!(%error, "consumers may not see that a lazy topic has lost what they read of it");
    }
    let topics = catalogue.topics().cloned().collect();
    let deleting = catalogue.deleting().cloned().collect();
    let healed = heal(shared.clone(), local, topics, deleting).await;
    let removed = commit(&mut coordination, &mut catalogue, healed.removed).await;
    if let Err(error) = &removed {
        tracing::warn!(%error, "deleted topics are not forgotten yet; it is tried again");
    }
    let is_whole = healed.is_whole && removed.is_ok();
    Ok(Started { coordination: Box::new(coordination), catalogue, is_whole })
}

/// Epochs have 31 bits on the wire.
const EPOCH_MAX: u32 = i32::MAX as u32;

async fn commit(
    coordination: &mut LocalCoordination,
    catalogue: &mut Catalogue,
    changes: Vec<Change>,
) -> Result<(), TopicError> {
    if !changes.is_empty() {
        coordination.commit(&changes).await?;
    }
    changes.into_iter().for_each(|change| catalogue.apply(change));
    Ok(())
}

/// The partitions of `topic` that were not closed in order begin another epoch: records that were read may
/// be gone from their ends, of a lazy topic or by a repair, and others come to stand there. Whoever kept
/// the epoch of what it read last sees by it that its position means nothing any more (KIP-320).
fn raised(shared: &Shared, topic: &Topic) -> impl Iterator<Item = Change> {
    let is_raised = |partition: &PartitionId| {
        let name = TopicPartition { topic: topic.name.clone(), partition: *partition };
        let log = LogId { id: topic.id, shard: partition.0 };
        // What runs was started by an earlier life of the controller.
        !shared.was_closed(log) && shared.partition(&name).is_none()
    };
    let raise = |partition: PartitionId| {
        let mut assigned = topic.partitions[partition.0 as usize].clone();
        let next = assigned.leader_epoch.0.saturating_add(1);
        assigned.leader_epoch = LeaderEpoch(next.min(EPOCH_MAX)).max(assigned.leader_epoch);
        Change::LeaderChanged { id: topic.id, partition, assigned }
    };
    topic.partition_ids().filter(is_raised).map(raise)
}

/// What [`heal`] came to.
pub(super) struct Healed {
    /// The deleted topics of which nothing is left.
    pub(super) removed: Vec<Change>,
    /// Whether nothing is left to be done.
    pub(super) is_whole: bool,
}

/// Starts whatever does not run, and removes whatever was deleted: what a crash, or a disk that
/// refused, had left half done. One topic that cannot be helped holds up no other.
pub(super) async fn heal(
    shared: Arc<Shared>,
    local: Rc<Local>,
    topics: Vec<Topic>,
    deleting: Vec<Topic>,
) -> Healed {
    let mut healed = Healed { removed: Vec::new(), is_whole: true };
    for topic in &topics {
        if let Err(error) = carry_out::start_missing(&shared, &local, topic).await {
            tracing::warn!(topic = %topic.name, %error, "a topic does not run as a whole; it is tried again");
            healed.is_whole = false;
        }
    }
    // After the coordinators run, which have to forget these.
    for topic in &deleting {
        match carry_out::remove(&shared, &local, topic).await {
            Ok(()) => healed.removed.push(Change::TopicRemoved { id: topic.id }),
            Err(error) => {
                tracing::warn!(topic = %topic.name, %error, "a deleted topic is not gone yet; it is tried again");
                healed.is_whole = false;
            }
        }
    }
    healed
}

/// Once in the life of the process: journals, and the marks of a clean stop.
async fn read_what_was_left(shared: &Shared, local: &Rc<Local>) -> Result<(), TopicError> {
    if shared.was_started() {
        return Ok(());
    }
    let mut left = Left::default();
    for directory in &shared.spec.directories {
        let disk = local.disk(&directory.path)?;
        let replayed = journal::replay(&disk, &directory.path)
            .await
            .map_err(|error| TopicError::Journal { reason: error.to_string() })?;
        let journals = replayed.journals().with_file_bytes(shared.spec.journal_bytes);
        local.services().journals.insert(directory.path.to_path_buf(), journals);
        left.journaled.extend(replayed.logs.clone());
        left.closed.extend(directory.take_closed(&disk).await?);
        left.journals.push((directory.clone(), replayed));
    }
    shared.left(left);
    look_for_room_in(shared, local).await;
    Ok(())
}

/// Old journals go once every log that they speak of has their entries; those of a log that cannot
/// be opened stay.
pub(super) async fn settle_journals(shared: Arc<Shared>, local: Rc<Local>) {
    for (directory, replayed) in shared.take_journals() {
        if let Err(error) = settle_journal(&shared, &local, &directory, &replayed).await {
            let path = directory.path.display();
            tracing::warn!(%path, %error, "old journals stay, and are replayed once more");
        }
    }
}

async fn settle_journal(
    shared: &Shared,
    local: &Rc<Local>,
    directory: &DataDirectory,
    replayed: &Replayed,
) -> Result<(), TopicError> {
    let mut unsettled: BTreeSet<LogId> = replayed.logs.keys().copied().collect();
    for (_, running) in shared.partitions.entries() {
        // Answered once the log is open, and so has its entries.
        let is_open = replayed.logs.contains_key(&running.log())
            && matches!(running.address.send(FindOffset::new(At::Earliest)).await, Ok(Ok(_)));
        if is_open {
            unsettled.remove(&running.log());
        }
    }
    // The log of a directory that is not there today may be there tomorrow.
    let disk = local.disk(&directory.path)?;
    Ok(replayed.retire(&disk, &unsettled).await?)
}

/// Tells every log how much room there is.
pub(super) async fn look_for_room(shared: Arc<Shared>, local: Rc<Local>) {
    look_for_room_in(&shared, &local).await;
}

async fn look_for_room_in(shared: &Shared, local: &Rc<Local>) {
    for directory in &shared.spec.directories {
        let Ok(disk) = local.disk(&directory.path) else { continue };
        match disk.space(&*directory.path).await {
            Ok(space) => directory.room.set(space),
            Err(error) => tracing::warn!(%error, "cannot see how much room there is"),
        }
    }
}

/// Leaves what makes the next start quick: the partitions have been drained.
pub(super) async fn stop(
    shared: Arc<Shared>,
    local: Rc<Local>,
    coordination: Option<Box<dyn Coordination>>,
) {
    if let Some(mut coordination) = coordination
        && let Err(error) = coordination.close().await
    {
        tracing::warn!(%error, "the catalogue was not closed in order; it will be recovered");
    }
    for directory in &shared.spec.directories {
        if let Err(error) = leave(&shared, &local, directory).await {
            tracing::warn!(%error, "the logs were not marked as closed; they will be recovered");
        }
    }
}

async fn leave(
    shared: &Shared,
    local: &Rc<Local>,
    directory: &DataDirectory,
) -> Result<(), TopicError> {
    let disk = local.disk(&directory.path)?;
    let mut closed = BTreeMap::new();
    let mut all_closed = true;
    for (_, running) in shared.partitions.entries() {
        if running.directory().id == directory.id {
            match running.closed() {
                Some(partition) => drop(closed.insert(running.log(), partition)),
                None => all_closed = false,
            }
        }
    }
    directory.leave_closed(local, &disk, &closed).await?;
    // What no partition was given is still owed to a log that could not be started.
    if all_closed && !shared.has_journaled() {
        journal::clear(&disk, &directory.path).await?;
    }
    Ok(())
}
