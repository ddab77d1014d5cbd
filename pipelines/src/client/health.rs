//! How partitions are: whether their beginnings can be read, and what their nodes say is wrong with them.

use std::{collections::BTreeMap, time::Duration};

use flumen_actors::gateway::{
    error_code::ErrorCode,
    messages::{
        describe_producers::{DescribeProducersRequest, TopicRequest},
        fetch::{FetchPartition, FetchRequest, FetchTopic},
    },
};

use super::{Client, ClientError, Topic};

/// Bytes of an answer, and the least of them that a partition has.
const ANSWER_BYTES: i32 = 4 << 20;
const PARTITION_BYTES_MIN: i32 = 4 << 10;
/// Partitions of one question.
const AT_ONCE: usize = (ANSWER_BYTES / PARTITION_BYTES_MIN) as usize;

impl Client {
    /// Reads what partitions have at these offsets, and throws it away: how that went with each.
    ///
    /// Each leader is asked for many at once, and for a few megabytes of all together. It finds the first
    /// batch of each; one that has no room in the answer is not sent, nor is its content looked at.
    ///
    /// # Errors
    /// [`ClientError`] where a partition has no leader, or a leader cannot be asked.
    pub async fn try_read(
        &mut self,
        topic: &Topic,
        begins: &BTreeMap<i32, i64>,
    ) -> Result<BTreeMap<i32, ErrorCode>, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<FetchPartition>> = BTreeMap::new();
        for (partition, fetch_offset) in begins {
            let (partition, fetch_offset) = (*partition, *fetch_offset);
            let asked = FetchPartition { partition, fetch_offset, ..FetchPartition::default() };
            by_leader.entry(topic.leader(partition)?).or_default().push(asked);
        }
        let mut found = BTreeMap::new();
        for (leader, asked) in by_leader {
            for some in asked.chunks(AT_ONCE) {
                let request = first_batches(topic, some);
                let told = self.ask_node(leader, &request, Duration::ZERO).await?;
                let none = match told.error_code {
                    ErrorCode::None => ErrorCode::UnknownServerError,
                    code => code,
                };
                found.extend(some.iter().map(|asked| (asked.partition, none)));
                let parts = told.responses.into_iter().flat_map(|topic| topic.partitions);
                found.extend(parts.map(|part| (part.partition_index, part.error_code)));
            }
        }
        Ok(found)
    }

    /// What a node says is wrong with a partition, in its own words: of all that can be asked, it has
    /// words only for who asks for its producers. None where it has none, or cannot be asked.
    pub async fn told_wrong(&mut self, topic: &str, partition: i32) -> Option<String> {
        let topic = self.topic(topic, false).await.ok()??;
        let node = topic.leader(partition).ok()?;
        let asked =
            TopicRequest { name: topic.name.as_str().into(), partition_indexes: vec![partition] };
        let request = DescribeProducersRequest { topics: vec![asked] };
        let told = self.ask_node(node, &request, Duration::ZERO).await.ok()?;
        let told = told.topics.into_iter().flat_map(|topic| topic.partitions).next()?;
        let told = told.error_message.filter(|message| !message.is_empty())?;
        let name = format!("`{}-{partition}`", topic.name);
        let is_named = told.contains(&name);
        Some(if is_named { told.to_string() } else { format!("{name}: {told}") })
    }
}

/// Asks for the first batch of each of these, as far as there is room.
fn first_batches(topic: &Topic, asked: &[FetchPartition]) -> FetchRequest {
    let share = ANSWER_BYTES / i32::try_from(asked.len().max(1)).unwrap_or(i32::MAX);
    let partitions =
        asked.iter().map(|asked| FetchPartition { partition_max_bytes: share, ..asked.clone() });
    let topic = FetchTopic {
        topic: topic.name.as_str().into(),
        topic_id: topic.id,
        partitions: partitions.collect(),
    };
    FetchRequest { max_bytes: ANSWER_BYTES, topics: vec![topic], ..FetchRequest::default() }
}
