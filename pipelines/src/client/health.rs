//! How a partition is: whether it can be read, and what its leader says is wrong with it.

use std::time::Duration;

use flumen_actors::gateway::{
    error_code::ErrorCode,
    messages::{
        describe_producers::{DescribeProducersRequest, TopicRequest},
        fetch::{FetchPartition, FetchRequest, FetchTopic},
    },
};

use super::{Client, ClientError, Topic};

impl Client {
    /// Reads what a partition has at `offset`, and throws it away: how that went.
    ///
    /// # Errors
    /// [`ClientError`] where its leader cannot be asked.
    pub async fn try_read(
        &mut self,
        topic: &Topic,
        partition: i32,
        offset: i64,
    ) -> Result<ErrorCode, ClientError> {
        let leader = topic.leader(partition)?;
        let asked = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: 1,
            ..FetchPartition::default()
        };
        let topic = FetchTopic {
            topic: topic.name.as_str().into(),
            topic_id: topic.id,
            partitions: vec![asked],
        };
        let request = FetchRequest { max_bytes: 1, topics: vec![topic], ..FetchRequest::default() };
        let told = self.ask_node(leader, &request, Duration::ZERO).await?;
        let parts = told.responses.iter().flat_map(|topic| &topic.partitions);
        let codes = parts.map(|part| part.error_code).chain([told.error_code]);
        Ok(codes.into_iter().find(|code| !code.is_none()).unwrap_or(ErrorCode::None))
    }

    /// What the leader of a partition says is wrong with it, in its own words: of all that can be asked,
    /// it has words only for who asks for its producers. None where it has none, or cannot be asked.
    pub async fn told_wrong(&mut self, topic: &str, partition: i32) -> Option<String> {
        let topic = self.topic(topic, false).await.ok()??;
        let asked =
            TopicRequest { name: topic.name.as_str().into(), partition_indexes: vec![partition] };
        let request = DescribeProducersRequest { topics: vec![asked] };
        let leader = topic.leader(partition).ok()?;
        let told = self.ask_node(leader, &request, Duration::ZERO).await.ok()?;
        let told = told.topics.into_iter().flat_map(|topic| topic.partitions).next()?;
        told.error_message.map(|message| message.to_string()).filter(|message| !message.is_empty())
    }
}
