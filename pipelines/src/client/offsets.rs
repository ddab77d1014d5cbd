//! Where partitions begin and end, and where in them a time is.

use std::{collections::BTreeMap, time::Duration};

use flumen_actors::gateway::{
    error_code::ErrorCode,
    messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
};

use super::{Client, ClientError, Topic};

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first offset that there is.
    Earliest,
    /// The end, as consumers may read.
    Latest,
    /// The first record of that time or later, in Unix ms.
    Time(i64),
}

impl Place {
    fn number(self) -> i64 {
        match self {
            Place::Latest => -1,
            Place::Earliest => -2,
            Place::Time(millis) => millis.max(0),
        }
    }
}

impl Client {
    /// The offset of `place` in each of `partitions` of `topic`, or why it is not known; `None` where
    /// nothing is that late.
    ///
    /// # Errors
    /// [`ClientError`] where a node cannot be asked.
    pub async fn offsets(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        place: Place,
    ) -> Result<BTreeMap<i32, Result<Option<i64>, ErrorCode>>, ClientError> {
        let mut found = BTreeMap::new();
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for number in partitions {
            if let Ok(leader) = topic.leader(*number) {
                by_leader.entry(leader).or_default().push(*number);
                continue;
            }
            let error = match topic.partitions.get(number) {
                Some(part) if !part.error.is_none() => part.error,
                Some(_) => ErrorCode::LeaderNotAvailable,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            found.insert(*number, Err(error));
        }
        for (leader, numbers) in by_leader {
            let partitions = numbers.iter().map(|number| ListOffsetsPartition {
                partition_index: *number,
                timestamp: place.number(),
                ..ListOffsetsPartition::default()
            });
            let asked = ListOffsetsTopic {
                name: topic.name.as_str().into(),
                partitions: partitions.collect(),
            };
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: vec![asked],
                ..ListOffsetsRequest::default()
            };
            let told = match self.ask_node(leader, &request, Duration::ZERO).await {
                Ok(told) => told,
                // Whoever has partitions offline that nobody leads may be gone with them.
                Err(_)
                    if numbers.iter().all(|number| topic.partitions[number].leader.is_none()) =>
                {
                    let unled = |number| (number, Err(ErrorCode::LeaderNotAvailable));
                    found.extend(numbers.into_iter().map(unled));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for part in told.topics.into_iter().flat_map(|topic| topic.partitions) {
                let offset = match part.error_code {
                    ErrorCode::None => Ok((part.offset >= 0).then_some(part.offset)),
                    error => Err(error),
                };
                found.insert(part.partition_index, offset);
            }
        }
        Ok(found)
    }
}
