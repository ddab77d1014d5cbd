//! CreateTopics: make topics.

use bytestring::ByteString;
use uuid::Uuid;

use crate::gateway::error_code::ErrorCode;

messages! {
    CreateTopics: CreateTopicsRequest => CreateTopicsResponse;

    /// Make these.
    struct CreateTopicsRequest {
        /// The topics.
        topics: Vec<CreatableTopic> [0..],
        /// How long to wait until they are there.
        timeout_ms: i32 = 60000 [0..],
        /// Whether only to say how it would go.
        validate_only: bool [1..],
    }

    /// A topic to be made.
    struct CreatableTopic {
        /// Its name.
        name: ByteString [0..],
        /// How many partitions; −1 for the broker's default, or where they are assigned.
        num_partitions: i32 [0..],
        /// How many replicas of each; −1 likewise.
        replication_factor: i16 [0..],
        /// Where the replicas are to be; empty to leave that to the broker.
        assignments: Vec<CreatableReplicaAssignment> [0..],
        /// Its settings.
        configs: Vec<CreatableTopicConfig> [0..],
    }

    /// Where the replicas of a partition are to be.
    struct CreatableReplicaAssignment {
        /// The partition's number.
        partition_index: i32 [0..],
        /// The brokers.
        broker_ids: Vec<i32> [0..],
    }

    /// A setting.
    struct CreatableTopicConfig {
        /// Its name.
        name: ByteString [0..],
        /// Its value.
        value: Option<ByteString> [0.., null 0..],
    }

    /// Made.
    struct CreateTopicsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [2.., ignorable],
        /// Per topic.
        topics: Vec<CreatableTopicResult> [0..],
    }

    /// How it went for a topic.
    struct CreatableTopicResult {
        /// Its name.
        name: ByteString [0..],
        /// Its id.
        topic_id: Uuid [7.., ignorable],
        /// How it went.
        error_code: ErrorCode [0..],
        /// What went wrong.
        error_message: Option<ByteString> [1.., null 0.., ignorable],
        /// Why its settings are not told, where the client may not see them.
        topic_config_error_code: ErrorCode [5.., tag 0, ignorable],
        /// How many partitions it has; −1 where that is not told.
        num_partitions: i32 = -1 [5.., ignorable],
        /// How many replicas of each; −1 likewise.
        replication_factor: i16 = -1 [5.., ignorable],
        /// Its settings; `None` where they are not told.
        configs: Option<Vec<CreatableTopicConfigs>> [5.., null 5.., ignorable],
    }

    /// A setting as it is.
    struct CreatableTopicConfigs {
        /// Its name.
        name: ByteString [5..],
        /// Its value.
        value: Option<ByteString> [5.., null 5..],
        /// Whether it cannot be changed.
        read_only: bool [5..],
        /// Where it is set, by Kafka's number of the place.
        config_source: i8 = -1 [5.., ignorable],
        /// Whether it is secret.
        is_sensitive: bool [5..],
    }
}
