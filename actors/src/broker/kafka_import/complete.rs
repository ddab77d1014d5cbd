//! Whether all partitions are there: a log directory of another disk may have been left out, and others
//! may be on other nodes.

use super::{ImportError, KAFKA_S_OWN, Topics, metadata::Metadata};
use crate::broker::names::TopicName;

/// Checks that the numbers of each topic have no gap, and that all is there that Kafka knew of, where its
/// metadata is.
///
/// # Errors
/// [`ImportError::Missing`].
pub(super) fn check(topics: &Topics, metadata: Option<&Metadata>) -> Result<(), ImportError> {
    for (topic, partitions) in topics {
        let missing = (0..).zip(partitions.keys()).find(|(wanted, number)| wanted != *number);
        if let Some((partition, _)) = missing {
            return Err(ImportError::Missing { topic: topic.clone(), partition });
        }
    }
    for (id, name, partitions) in metadata.into_iter().flat_map(Metadata::topics) {
        let Ok(topic) = TopicName::new(name) else { continue };
        if KAFKA_S_OWN.contains(&name) {
            continue;
        }
        let is_found = |number: &u32| {
            topics.get(&topic).and_then(|found| found.get(number)).is_some_and(|one| one.id == id)
        };
        if let Some(partition) = (0..partitions).find(|number| !is_found(number)) {
            return Err(ImportError::Missing { topic, partition });
        }
    }
    Ok(())
}
