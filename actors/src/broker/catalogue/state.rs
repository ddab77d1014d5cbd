//! The catalogue's core: what a sequence of changes makes of an empty catalogue.
//!
//! Requests are checked against the state and come out as a [`Change`]; the state moves only by
//! [`Catalogue::apply`], which is also what replays it.
//!
//! # Invariants
//! - CAT-1: a topic's id is not used again while anything of it is left, and a name belongs to at most
//!   one topic, deleted ones that are not gone yet among them.
//! - CAT-2: partitions are only ever added, and are numbered 0, 1, … without a gap.
//! - CAT-3: a leader epoch never goes back.
//! - CAT-4: a block of producer ids is handed out once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flumen_runtime::ids::LeaderEpoch;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    node_settings::{NodeSettings, NodeValues, Nodes},
    settings::Settings,
};
use crate::broker::names::{PartitionId, ProducerId, TopicName};

/// Most partitions that one topic may have, and where nothing else is set all of them together.
pub const PARTITIONS_MAX: u32 = 100_000;

/// How many producer ids a node takes at a time.
pub const PRODUCER_IDS_BLOCK: i64 = 1000;

/// Topics whose partitions hold the broker's own state, found by the hash of a name: they can be
/// neither deleted nor grown.
const KEPT: &[&str] = &["__consumer_offsets", "__transaction_state"];

/// Number of a node of the cluster.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeId(pub i32);

/// Where one partition lives and who leads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The node that leads.
    pub leader: NodeId,
    /// Number of its leadership.
    pub leader_epoch: LeaderEpoch,
    /// The nodes whose copies count.
    pub in_sync: Vec<NodeId>,
    /// The data directory that holds it: `directory.id` of its `meta.properties`.
    pub directory: Uuid,
}

/// A topic of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its identity: another topic of the same name later has another.
    pub id: Uuid,
    /// Its name.
    pub name: TopicName,
    /// Its partitions; their place is their number. Shared by all who know the topic: there may be
    /// thousands.
    pub partitions: Arc<Vec<Assigned>>,
    /// What was set of its settings.
    pub settings: Settings,
    /// Whether it is the node's own, and hidden from lists by default.
    pub is_internal: bool,
}

impl Topic {
    /// The numbers of its partitions.
    pub fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.partitions.len() as u32).map(PartitionId)
    }
}

/// One committed change of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A topic came to be.
    TopicCreated(Topic),
    /// A topic was asked to go; its directories may still be there.
    TopicDeleted {
        /// Which.
        id: Uuid,
    },
    /// The last directory of a deleted topic is gone.
    TopicRemoved {
        /// Which.
        id: Uuid,
    },
    /// A topic got more partitions.
    PartitionsAdded {
        /// Which topic.
        id: Uuid,
        /// The new ones, after those it had.
        partitions: Vec<Assigned>,
    },
    /// A topic's settings changed.
    TopicConfigured {
        /// Which topic.
        id: Uuid,
        /// All that is set from now on.
        settings: Settings,
    },
    /// A partition has another leader, epoch or in-sync set.
    LeaderChanged {
        /// Which topic.
        id: Uuid,
        /// Which partition.
        partition: PartitionId,
        /// Where it lives and who leads it now.
        assigned: Assigned,
    },
    /// A block of producer ids was taken.
    ProducerIdsTaken {
        /// The first id that is still free.
        next: ProducerId,
    },
    /// The settings of a node, or of all, changed.
    NodesConfigured {
        /// Of which.
        nodes: Nodes,
        /// All that is set from now on.
        values: NodeValues,
    },
}

impl Change {
    /// The topic that it is about.
    #[must_use]
    pub fn topic(&self) -> Option<Uuid> {
        match self {
            Change::TopicCreated(topic) => Some(topic.id),
            Change::TopicDeleted { id }
            | Change::TopicRemoved { id }
            | Change::PartitionsAdded { id, .. }
            | Change::TopicConfigured { id, .. }
            | Change::LeaderChanged { id, .. } => Some(*id),
            Change::ProducerIdsTaken { .. } | Change::NodesConfigured { .. } => None,
        }
    }
}

/// The topic cannot be made.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CreateTopicError {
    /// It is there.
    #[error("there is a topic `{0}` already")]
    Exists(TopicName),
    /// One of that name was deleted, and is not gone yet.
    #[error(
        "a topic `{0}` is still being deleted: its directories could not be removed yet, which is \
         tried again by itself; see the log for why"
    )]
    Deleting(TopicName),
    /// Kafka's metrics map `.` to `_`, so such names would be one there; its brokers refuse it too.
    #[error("topic `{new}` cannot stand beside `{there}`: they differ only by `.` and `_`")]
    Collides {
        /// The name asked for.
        new: TopicName,
        /// The topic that is there.
        there: TopicName,
    },
    /// The number of partitions does not fit.
    #[error("a topic has 1 to {PARTITIONS_MAX} partitions, not {0}")]
    Partitions(u32),
}

/// The change names something that is not there, or asks for what cannot be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChangeTopicError {
    /// There is no such topic.
    #[error("there is no topic `{0}`")]
    Unknown(TopicName),
    /// The broker stands on it.
    #[error(
        "topic `{0}` holds the state of groups or transactions: it can be neither deleted nor grown"
    )]
    Kept(TopicName),
    /// Partitions cannot be taken away.
    #[error(
        "topic `{topic}` has {now} partitions: it can get more, up to {PARTITIONS_MAX}, not {wanted}"
    )]
    Partitions {
        /// Which topic.
        topic: TopicName,
        /// How many it has.
        now: u32,
        /// How many were asked for.
        wanted: u32,
    },
}

/// All topics together would have too many partitions.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{wanted} partitions more are too many: there are {now}, those that are being deleted among them, \
     and `max.partitions` is {partitions_max}: raise it, or delete topics"
)]
pub struct TooManyPartitions {
    /// How many were asked for.
    pub wanted: usize,
    /// How many there are.
    pub now: usize,
    /// The most that there may be.
    pub partitions_max: u32,
}

/// Every topic, and what else must outlive the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    topics: BTreeMap<TopicName, Topic>,
    names: BTreeMap<Uuid, TopicName>,
    deleting: BTreeMap<Uuid, Topic>,
    used: BTreeSet<Uuid>,
    producer_ids_next: i64,
    nodes: NodeSettings,
}

/// The catalogue as version 1 of its snapshot has it: without settings of nodes.
#[derive(Serialize, Deserialize)]
pub(super) struct CatalogueV1 {
    topics: BTreeMap<TopicName, Topic>,
    names: BTreeMap<Uuid, TopicName>,
    deleting: BTreeMap<Uuid, Topic>,
    used: BTreeSet<Uuid>,
    producer_ids_next: i64,
}

impl From<CatalogueV1> for Catalogue {
    fn from(old: CatalogueV1) -> Self {
        let CatalogueV1 { topics, names, deleting, used, producer_ids_next } = old;
        let nodes = NodeSettings::default();
        Self { topics, names, deleting, used, producer_ids_next, nodes }
    }
}

impl Catalogue {
    /// The topics, in the order of names.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// What was set of nodes.
    #[must_use]
    pub fn node_settings(&self) -> &NodeSettings {
        &self.nodes
    }

    /// The topic called `name`.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The topic whose id is `id`, and which was not deleted.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Topic> {
        self.topics.get(self.names.get(&id)?)
    }

    /// Topics that were deleted and whose directories may still be there.
    pub fn deleting(&self) -> impl Iterator<Item = &Topic> {
        self.deleting.values()
    }

    /// The change that makes a topic, whose partitions `assign` places.
    ///
    /// # Errors
    /// [`CreateTopicError`] where the name is taken or the number of partitions does not fit.
    pub fn create(
        &self,
        id: Uuid,
        name: &TopicName,
        partitions: u32,
        settings: Settings,
        assign: impl FnMut(PartitionId) -> Assigned,
    ) -> Result<Change, CreateTopicError> {
        if self.topics.contains_key(name) {
            return Err(CreateTopicError::Exists(name.clone()));
        }
        // Their directories have the same names.
        if self.deleting.values().any(|topic| topic.name == *name) {
            return Err(CreateTopicError::Deleting(name.clone()));
        }
        let folded = |name: &TopicName| name.as_str().replace('.', "_");
        if let Some(there) = self.topics.keys().find(|there| folded(there) == folded(name)) {
            return Err(CreateTopicError::Collides { new: name.clone(), there: there.clone() });
        }
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            return Err(CreateTopicError::Partitions(partitions));
        }
        Ok(Change::TopicCreated(Topic {
            id,
            name: name.clone(),
            partitions: Arc::new((0..partitions).map(PartitionId).map(assign).collect()),
            settings,
            is_internal: KEPT.contains(&name.as_str()),
        }))
    }

    fn known(&self, name: &TopicName) -> Result<&Topic, ChangeTopicError> {
        self.topics.get(name).ok_or_else(|| ChangeTopicError::Unknown(name.clone()))
    }

    /// The topic of that name, where its partitions are not the broker's own to count on.
    fn not_kept(&self, name: &TopicName) -> Result<&Topic, ChangeTopicError> {
        let topic = self.known(name)?;
        match KEPT.contains(&name.as_str()) {
            true => Err(ChangeTopicError::Kept(name.clone())),
            false => Ok(topic),
        }
    }

    /// The change that deletes a topic.
    ///
    /// # Errors
    /// [`ChangeTopicError`] where the topic is not there, or is one that the broker stands on.
    pub fn delete(&self, name: &TopicName) -> Result<Change, ChangeTopicError> {
        Ok(Change::TopicDeleted { id: self.not_kept(name)?.id })
    }

    /// The change that grows a topic to `partitions` in all.
    ///
    /// # Errors
    /// [`ChangeTopicError`] where the topic is not there or has as many.
    pub fn grow(
        &self,
        name: &TopicName,
        partitions: u32,
        assign: impl FnMut(PartitionId) -> Assigned,
    ) -> Result<Change, ChangeTopicError> {
        let topic = self.not_kept(name)?;
        let now = topic.partitions.len() as u32;
        if partitions <= now || partitions > PARTITIONS_MAX {
            let topic = name.clone();
            return Err(ChangeTopicError::Partitions { topic, now, wanted: partitions });
        }
        let partitions = (now..partitions).map(PartitionId).map(assign).collect();
        Ok(Change::PartitionsAdded { id: topic.id, partitions })
    }

    /// Whether `change` leaves no more than `partitions_max` partitions, which also bounds the topics:
    /// each has one. Those that the broker itself stands on do not count, or groups could not begin
    /// once others have taken all; those of deleted topics do as long as anything of them is left.
    ///
    /// # Errors
    /// [`TooManyPartitions`].
    pub fn check_total(
        &self,
        change: &Change,
        partitions_max: u32,
    ) -> Result<(), TooManyPartitions> {
        let counts = |topic: &&Topic| !KEPT.contains(&topic.name.as_str());
        let wanted = match change {
            Change::TopicCreated(topic) if counts(&topic) => topic.partitions.len(),
            Change::PartitionsAdded { partitions, .. } => partitions.len(),
            _ => return Ok(()),
        };
        let topics = self.topics.values().chain(self.deleting.values()).filter(counts);
        let now = topics.map(|topic| topic.partitions.len()).sum::<usize>();
        match now + wanted <= partitions_max as usize {
            true => Ok(()),
            false => Err(TooManyPartitions { wanted, now, partitions_max }),
        }
    }

    /// The change that gives a topic other settings.
    ///
    /// # Errors
    /// [`ChangeTopicError::Unknown`].
    pub fn configure(
        &self,
        name: &TopicName,
        settings: Settings,
    ) -> Result<Change, ChangeTopicError> {
        Ok(Change::TopicConfigured { id: self.known(name)?.id, settings })
    }

    /// The change that takes the next block of producer ids, and the first id of the block.
    #[must_use]
    pub fn take_producer_ids(&self) -> (Change, ProducerId) {
        let first = self.producer_ids_next;
        let next = first.checked_add(PRODUCER_IDS_BLOCK).expect("2^63 producer ids suffice");
        assert!(next < ProducerId::OWNED_FIRST.0, "CAT-4: producer ids meet the owned range");
        (Change::ProducerIdsTaken { next: ProducerId(next) }, ProducerId(first))
    }

    fn by_id(&mut self, id: Uuid) -> Option<&mut Topic> {
        let name = self.names.get(&id)?;
        self.topics.get_mut(name)
    }

    /// Carries out a committed change. One that names a topic which is gone does nothing: it was
    /// committed after the deletion.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::TopicCreated(topic) => {
                assert!(self.used.insert(topic.id), "CAT-1: topic id {} used twice", topic.id);
                let taken = self.names.insert(topic.id, topic.name.clone());
                assert!(taken.is_none(), "CAT-1");
                let before = self.topics.insert(topic.name.clone(), topic);
                assert!(before.is_none(), "CAT-1: two topics of one name");
            }
            Change::TopicDeleted { id } => {
                let topic = self.names.remove(&id).and_then(|name| self.topics.remove(&name));
                self.deleting.extend(topic.map(|topic| (id, topic)));
            }
            Change::TopicRemoved { id } => {
                self.deleting.remove(&id);
                // Ids are random: what must not be met again is what may still be on a disk.
                self.used.remove(&id);
            }
            Change::PartitionsAdded { id, partitions } => {
                if let Some(topic) = self.by_id(id) {
                    Arc::make_mut(&mut topic.partitions).extend(partitions);
                    assert!(topic.partitions.len() <= PARTITIONS_MAX as usize, "CAT-2");
                }
            }
            Change::TopicConfigured { id, settings } => {
                if let Some(topic) = self.by_id(id) {
                    topic.settings = settings;
                }
            }
            Change::LeaderChanged { id, partition, assigned } => {
                let topic =
                    self.by_id(id).filter(|topic| topic.partitions.len() > partition.0 as usize);
                if let Some(topic) = topic {
                    let slot = &mut Arc::make_mut(&mut topic.partitions)[partition.0 as usize];
                    assert!(assigned.leader_epoch >= slot.leader_epoch, "CAT-3");
                    *slot = assigned;
                }
            }
            Change::ProducerIdsTaken { next } => {
                assert!(next.0 > self.producer_ids_next, "CAT-4: producer ids go back");
                self.producer_ids_next = next.0;
            }
            Change::NodesConfigured { nodes, values } => self.nodes.replace(nodes, values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(_: PartitionId) -> Assigned {
        Assigned {
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(0),
            in_sync: vec![NodeId(1)],
            directory: Uuid::nil(),
        }
    }

    fn name(text: &str) -> TopicName {
        TopicName::new(text).unwrap()
    }

    fn with_topic(text: &str, partitions: u32) -> Catalogue {
        let mut catalogue = Catalogue::default();
        let id = Uuid::from_u128(7);
        let change =
            catalogue.create(id, &name(text), partitions, Settings::default(), assigned).unwrap();
        catalogue.apply(change);
        catalogue
    }

    #[test]
    fn a_name_can_be_taken_once_and_again_after_deletion() {
        let mut catalogue = with_topic("orders", 2);
        let again = |catalogue: &Catalogue, text: &str| {
            catalogue.create(Uuid::from_u128(8), &name(text), 1, Settings::default(), assigned)
        };
        assert!(matches!(again(&catalogue, "orders"), Err(CreateTopicError::Exists(_))));
        catalogue.apply(catalogue.delete(&name("orders")).unwrap());
        assert_eq!(catalogue.deleting().count(), 1, "its directories are still to be removed");
        let early = again(&catalogue, "orders");
        assert!(
            matches!(early, Err(CreateTopicError::Deleting(_))),
            "its directories are the same"
        );
        catalogue.apply(Change::TopicRemoved { id: Uuid::from_u128(7) });
        assert_eq!(catalogue.deleting().count(), 0);
        let change = again(&catalogue, "orders").unwrap();
        catalogue.apply(change);
        assert_eq!(catalogue.topic(&name("orders")).unwrap().id, Uuid::from_u128(8));
    }

    #[test]
    fn names_that_differ_only_by_dot_and_underscore_collide() {
        let catalogue = with_topic("a.b", 1);
        let error = catalogue
            .create(Uuid::nil(), &name("a_b"), 1, Settings::default(), assigned)
            .unwrap_err();
        assert!(matches!(error, CreateTopicError::Collides { .. }));
    }

    #[test]
    fn a_topic_that_the_broker_stands_on_stays_as_it_is() {
        let catalogue = with_topic("__consumer_offsets", 2);
        let kept = name("__consumer_offsets");
        assert_eq!(catalogue.delete(&kept), Err(ChangeTopicError::Kept(kept.clone())));
        assert_eq!(catalogue.grow(&kept, 3, assigned), Err(ChangeTopicError::Kept(kept)));
    }

    #[test]
    fn partitions_only_grow() {
        let mut catalogue = with_topic("t", 2);
        assert!(catalogue.grow(&name("t"), 2, assigned).is_err());
        assert!(catalogue.grow(&name("t"), PARTITIONS_MAX + 1, assigned).is_err());
        catalogue.apply(catalogue.grow(&name("t"), 5, assigned).unwrap());
        let numbers: Vec<_> = catalogue.topic(&name("t")).unwrap().partition_ids().collect();
        assert_eq!(numbers, (0..5).map(PartitionId).collect::<Vec<_>>());
    }

    #[test]
    fn all_partitions_together_have_an_end_which_is_not_that_of_the_broker_s_own() {
        let mut catalogue = with_topic("t", 2);
        let create = |catalogue: &Catalogue, text: &str, partitions| {
            let id = Uuid::from_u128(8);
            catalogue.create(id, &name(text), partitions, Settings::default(), assigned).unwrap()
        };
        let full = |wanted, now| Err(TooManyPartitions { wanted, now, partitions_max: 3 });
        assert_eq!(catalogue.check_total(&create(&catalogue, "u", 1), 3), Ok(()));
        assert_eq!(catalogue.check_total(&create(&catalogue, "u", 2), 3), full(2, 2));
        assert_eq!(
            catalogue.check_total(&catalogue.grow(&name("t"), 3, assigned).unwrap(), 3),
            Ok(())
        );
        let growth = catalogue.grow(&name("t"), 5, assigned).unwrap();
        assert_eq!(catalogue.check_total(&growth, 3), full(3, 2));
        let kept = create(&catalogue, "__consumer_offsets", 50);
        assert_eq!(catalogue.check_total(&kept, 3), Ok(()));
        catalogue.apply(kept);
        assert_eq!(catalogue.check_total(&create(&catalogue, "u", 1), 3), Ok(()));
        catalogue.apply(catalogue.delete(&name("t")).unwrap());
        assert_eq!(
            catalogue.check_total(&create(&catalogue, "u", 2), 3),
            full(2, 2),
            "being deleted"
        );
        catalogue.apply(Change::TopicRemoved { id: Uuid::from_u128(7) });
        assert_eq!(catalogue.check_total(&create(&catalogue, "u", 2), 3), Ok(()));
    }

    #[test]
    fn changes_of_a_deleted_topic_do_nothing() {
        let mut catalogue = with_topic("t", 1);
        let grow = catalogue.grow(&name("t"), 2, assigned).unwrap();
        catalogue.apply(catalogue.delete(&name("t")).unwrap());
        let before = catalogue.clone();
        catalogue.apply(grow);
        assert_eq!(catalogue, before);
    }

    #[test]
    fn blocks_of_producer_ids_do_not_overlap() {
        let mut catalogue = Catalogue::default();
        let (change, first) = catalogue.take_producer_ids();
        catalogue.apply(change);
        let (_, second) = catalogue.take_producer_ids();
        assert_eq!(second.0 - first.0, PRODUCER_IDS_BLOCK);
    }
}
