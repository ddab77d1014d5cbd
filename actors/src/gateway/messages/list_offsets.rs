//! ListOffsets: offsets by time, and the ends of partitions.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    ListOffsets: ListOffsetsRequest => ListOffsetsResponse;

    /// Which offset is at that time?
    struct ListOffsetsRequest {
        /// Number of the follower; −1 of a consumer.
        replica_id: i32 [0..],
        /// 0 for all records, 1 for committed ones.
        isolation_level: i8 [2..],
        /// Of which topics.
        topics: Vec<ListOffsetsTopic> [0..],
        /// How long to look in remote storage.
        timeout_ms: i32 [10.., ignorable],
    }

    /// A topic.
    struct ListOffsetsTopic {
        /// Its name.
        name: ByteString [0..],
        /// Its partitions.
        partitions: Vec<ListOffsetsPartition> [0..],
    }

    /// A partition.
    struct ListOffsetsPartition {
        /// Its number.
        partition_index: i32 [0..],
        /// The leader's epoch that the client knows of; −1 for none.
        current_leader_epoch: i32 = -1 [4.., ignorable],
        /// In milliseconds; −1 for the end, −2 for the start, −3 for the latest timestamp, −4 and less
        /// for what Kafka keeps elsewhere.
        timestamp: i64 [0..],
    }

    /// These.
    struct ListOffsetsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [2.., ignorable],
        /// Per topic.
        topics: Vec<ListOffsetsTopicResponse> [0..],
    }

    /// The offsets of a topic.
    struct ListOffsetsTopicResponse {
        /// Its name.
        name: ByteString [0..],
        /// Its partitions.
        partitions: Vec<ListOffsetsPartitionResponse> [0..],
    }

    /// The offset of a partition.
    struct ListOffsetsPartitionResponse {
        /// Its number.
        partition_index: i32 [0..],
        /// How it went.
        error_code: ErrorCode [0..],
        /// The record's timestamp; −1 where none was asked for.
        timestamp: i64 = -1 [1..],
        /// The offset; −1 where there is none.
        offset: i64 = -1 [1..],
        /// The epoch in which it was written; −1 where that is not known.
        leader_epoch: i32 = -1 [4..],
    }
}
