//! Produce: append batches to partitions.

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

use crate::gateway::error_code::ErrorCode;

messages! {
    Produce: ProduceRequest => ProduceResponse;

    /// Append these.
    struct ProduceRequest {
        /// The transaction that they are part of.
        transactional_id: Option<ByteString> [3.., null 3..],
        /// Whose word is awaited: −1 of all in sync, 1 of the leader, 0 of nobody, and then there is
        /// no answer.
        acks: i16 [0..],
        /// How long it is awaited.
        timeout_ms: i32 [0..],
        /// What to append.
        topic_data: Vec<TopicProduceData> [0..],
    }

    /// What to append to a topic.
    struct TopicProduceData {
        /// Its name.
        name: ByteString [0..=12, ignorable],
        /// Its id.
        topic_id: Uuid [13.., ignorable],
        /// Its partitions.
        partition_data: Vec<PartitionProduceData> [0..],
    }

    /// What to append to a partition.
    struct PartitionProduceData {
        /// Its number.
        index: i32 [0..],
        /// One batch of records, a slice of the frame.
        records: Option<Bytes> [0.., null 0..],
    }

    /// How that went.
    struct ProduceResponse {
        /// Per topic.
        responses: Vec<TopicProduceResponse> [0..],
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// Where the leaders are that `current_leader` names.
        node_endpoints: Vec<NodeEndpoint> [10.., tag 0],
    }

    /// How it went for a topic.
    struct TopicProduceResponse {
        /// Its name.
        name: ByteString [0..=12, ignorable],
        /// Its id.
        topic_id: Uuid [13.., ignorable],
        /// Its partitions.
        partition_responses: Vec<PartitionProduceResponse> [0..],
    }

    /// How it went for a partition.
    struct PartitionProduceResponse {
        /// Its number.
        index: i32 [0..],
        /// How it went.
        error_code: ErrorCode [0..],
        /// The offset that the first record was given.
        base_offset: i64 [0..],
        /// When it was appended, where the topic keeps that time; −1 where it keeps the client's.
        log_append_time_ms: i64 = -1 [2.., ignorable],
        /// The first offset that there is.
        log_start_offset: i64 = -1 [5.., ignorable],
        /// Which records are to blame.
        record_errors: Vec<BatchIndexAndErrorMessage> [8.., ignorable],
        /// What is wrong with the batch as a whole.
        error_message: Option<ByteString> [8.., null 8.., ignorable],
        /// Who leads, where it is not this broker.
        current_leader: LeaderIdAndEpoch [10.., tag 0],
    }

    /// A record that is to blame.
    struct BatchIndexAndErrorMessage {
        /// Its place in the batch.
        batch_index: i32 [8..],
        /// What is wrong with it.
        batch_index_error_message: Option<ByteString> [8.., null 8..],
    }

    /// Who leads, and since when.
    struct LeaderIdAndEpoch {
        /// Its number; −1 where it is not known.
        leader_id: i32 = -1 [10..],
        /// Its epoch; −1 where it is not known.
        leader_epoch: i32 = -1 [10..],
    }

    /// A broker.
    struct NodeEndpoint {
        /// Its number.
        node_id: i32 [10..],
        /// Where it listens.
        host: ByteString [10..],
        /// And on which port.
        port: i32 [10..],
        /// Where it stands.
        rack: Option<ByteString> [10.., null 10..],
    }
}
