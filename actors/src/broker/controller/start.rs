//! From a stopped node to a running one, and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use flumen_runtime::{
    ids::LogId,
    journal::{self, Replayed},
    placement::Local,
};

use super::carry_out;
use crate::broker::{
    Shared, TopicError,
    catalogue::{
        coordination::Coordination,
        local::LocalCoordination,
        state::{Catalogue, Change},
    },
    directories::DataDirectory,
    partition::messages::{Condition, Status},
};

/// Reads what the last stop left, opens the catalogue, and starts every partition that does not run.
pub(super) async fn start(
    shared: Arc<Shared>,
    local: Rc<Local>,
) -> Result<(Box<dyn Coordination>, Catalogue), TopicError> {
    let replayed = read_what_was_left(&shared, &local).await?;
    let (mut coordination, mut catalogue) =
        LocalCoordination::open(&local, &shared.first_directory().path).await?;
    let topics: Vec<_> = catalogue.topics().cloned().collect();
    for topic in &topics {
        carry_out::start_missing(&shared, &local, topic).await?;
    }
    // A crash came between the deletion of these and the end of their directories.
    for topic in catalogue.deleting().cloned().collect::<Vec<_>>() {
        carry_out::remove(&shared, &local, &topic).await?;
        let removed = Change::TopicRemoved { id: topic.id };
        coordination.commit(&removed).await?;
        catalogue.apply(removed);
    }
    settle_journals(&shared, &local, replayed).await?;
    Ok((Box::new(coordination), catalogue))
}

/// Once in the life of the process: journals, and the marks of a clean stop.
async fn read_what_was_left(
    shared: &Shared,
    local: &Rc<Local>,
) -> Result<Vec<(DataDirectory, Replayed)>, TopicError> {
    if shared.was_started() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    let (mut journaled, mut closed) = (BTreeMap::new(), BTreeMap::new());
    for directory in &shared.spec.directories {
        let disk = local.disk(&directory.path)?;
        let replayed = journal::replay(&disk, &directory.path)
            .await
            .map_err(|error| TopicError::Journal { reason: error.to_string() })?;
        local.services().journals.insert(directory.path.clone(), replayed.journals());
        journaled.extend(replayed.logs.clone());
        closed.extend(directory.take_closed(&disk).await?);
        all.push((directory.clone(), replayed));
    }
    shared.left(journaled, closed);
    look_for_room_in(shared, local).await;
    Ok(all)
}

/// Old journals go once every log that they speak of has their entries; those of a log that cannot
/// be opened stay.
async fn settle_journals(
    shared: &Shared,
    local: &Rc<Local>,
    replayed: Vec<(DataDirectory, Replayed)>,
) -> Result<(), TopicError> {
    for (directory, replayed) in replayed {
        let mut unsettled: BTreeSet<LogId> = BTreeSet::new();
        let mut known = BTreeSet::new();
        for (_, running) in shared.partitions.entries() {
            if !replayed.logs.contains_key(&running.log) {
                continue;
            }
            known.insert(running.log);
            let status = running.address.send(Status).await;
            let is_open = status.is_ok_and(|status| matches!(status.condition, Condition::Leading));
            if !is_open {
                unsettled.insert(running.log);
            }
        }
        // The log of a directory that is not there today may be there tomorrow.
        unsettled.extend(replayed.logs.keys().filter(|log| !known.contains(log)));
        let disk = local.disk(&directory.path)?;
        replayed.retire(&disk, &unsettled).await?;
    }
    Ok(())
}

/// Tells every log how much room there is.
pub(super) async fn look_for_room(shared: Arc<Shared>, local: Rc<Local>) {
    look_for_room_in(&shared, &local).await;
}

async fn look_for_room_in(shared: &Shared, local: &Rc<Local>) {
    for directory in &shared.spec.directories {
        let Ok(disk) = local.disk(&directory.path) else { continue };
        match disk.space(&directory.path).await {
            Ok(space) => directory.room.set(space.free),
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
        if running.directory == directory.id {
            match running.handover.closed() {
                Some(partition) => drop(closed.insert(running.log, partition)),
                None => all_closed = false,
            }
        }
    }
    directory.leave_closed(local, &disk, &closed).await?;
    if all_closed {
        journal::clear(&disk, &directory.path).await?;
    }
    Ok(())
}
