//! OffsetDelete: forget how far a group has come.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    OffsetDelete: OffsetDeleteRequest => OffsetDeleteResponse;

    /// Forget these.
    struct OffsetDeleteRequest {
        /// The group.
        group_id: ByteString [0..],
        /// In which topics.
        topics: Vec<OffsetDeleteRequestTopic> [0..],
    }

    /// A topic.
    struct OffsetDeleteRequestTopic {
        /// Its name.
        name: ByteString [0..],
        /// Its partitions.
        partitions: Vec<OffsetDeleteRequestPartition> [0..],
    }

    /// A partition.
    struct OffsetDeleteRequestPartition {
        /// Its number.
        partition_index: i32 [0..],
    }

    /// Forgotten.
    struct OffsetDeleteResponse {
        /// How it went for the group.
        error_code: ErrorCode [0..],
        /// How long the client must pause.
        throttle_time_ms: i32 [0.., ignorable],
        /// Per topic.
        topics: Vec<OffsetDeleteResponseTopic> [0..],
    }

    /// How it went for a topic.
    struct OffsetDeleteResponseTopic {
        /// Its name.
        name: ByteString [0..],
        /// Its partitions.
        partitions: Vec<OffsetDeleteResponsePartition> [0..],
    }

    /// How it went for a partition.
    struct OffsetDeleteResponsePartition {
        /// Its number.
        partition_index: i32 [0..],
        /// How it went.
        error_code: ErrorCode [0..],
    }
}
