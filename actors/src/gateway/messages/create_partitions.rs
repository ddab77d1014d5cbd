//! CreatePartitions: let topics grow.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    CreatePartitions: CreatePartitionsRequest => CreatePartitionsResponse;

    /// Let these grow.
    struct CreatePartitionsRequest {
        /// The topics.
        topics: Vec<CreatePartitionsTopic> [0..],
        /// How long to wait until the partitions are there.
        timeout_ms: i32 [0..],
        /// Whether only to say how it would go.
        validate_only: bool [0..],
    }

    /// A topic.
    struct CreatePartitionsTopic {
        /// Its name.
        name: ByteString [0..],
        /// How many partitions it is to have, those that it has included.
        count: i32 [0..],
        /// Where the replicas of each new one are to be; `None` to leave that to the broker.
        assignments: Option<Vec<CreatePartitionsAssignment>> [0.., null 0..],
    }

    /// Where the replicas of a partition are to be.
    struct CreatePartitionsAssignment {
        /// The brokers.
        broker_ids: Vec<i32> [0..],
    }

    /// Grown.
    struct CreatePartitionsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0..],
        /// Per topic.
        results: Vec<CreatePartitionsTopicResult> [0..],
    }

    /// How it went for a topic.
    struct CreatePartitionsTopicResult {
        /// Its name.
        name: ByteString [0..],
        /// How it went.
        error_code: ErrorCode [0..],
        /// What went wrong.
        error_message: Option<ByteString> [0.., null 0..],
    }
}
