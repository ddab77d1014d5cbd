//! DescribeProducers: the producers of which partitions keep a state.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    DescribeProducers: DescribeProducersRequest => DescribeProducersResponse;

    /// Who writes here?
    struct DescribeProducersRequest {
        /// In which topics.
        topics: Vec<TopicRequest> [0..],
    }

    /// A topic.
    struct TopicRequest {
        /// Its name.
        name: ByteString [0..],
        /// Its partitions.
        partition_indexes: Vec<i32> [0..],
    }

    /// These.
    struct DescribeProducersResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0..],
        /// Per topic.
        topics: Vec<TopicResponse> [0..],
    }

    /// A topic.
    struct TopicResponse {
        /// Its name.
        name: ByteString [0..],
        /// Its partitions.
        partitions: Vec<PartitionResponse> [0..],
    }

    /// A partition.
    struct PartitionResponse {
        /// Its number.
        partition_index: i32 [0..],
        /// How it went.
        error_code: ErrorCode [0..],
        /// What went wrong.
        error_message: Option<ByteString> [0.., null 0..],
        /// Its producers.
        active_producers: Vec<ProducerState> [0..],
    }

    /// A producer.
    struct ProducerState {
        /// Its number.
        producer_id: i64 [0..],
        /// Its epoch.
        producer_epoch: i32 [0..],
        /// The sequence number of the last record; −1 for none.
        last_sequence: i32 = -1 [0..],
        /// The timestamp of the last record; −1 for none.
        last_timestamp: i64 = -1 [0..],
        /// The epoch of the coordinator that wrote its last marker.
        coordinator_epoch: i32 [0..],
        /// Where its open transaction began; −1 for none.
        current_txn_start_offset: i64 = -1 [0..],
    }
}
