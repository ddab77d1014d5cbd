//! OffsetForLeaderEpoch: where the epoch of a leader ended.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse;

    /// Where did it end?
    struct OffsetForLeaderEpochRequest {
        /// Number of the follower; −1 of a consumer.
        replica_id: i32 = -2 [3.., ignorable],
        /// In which topics.
        topics: Vec<OffsetForLeaderTopic> [0..],
    }

    /// A topic.
    struct OffsetForLeaderTopic {
        /// Its name.
        topic: ByteString [0..],
        /// Its partitions.
        partitions: Vec<OffsetForLeaderPartition> [0..],
    }

    /// A partition.
    struct OffsetForLeaderPartition {
        /// Its number.
        partition: i32 [0..],
        /// The leader's epoch that the client knows of; −1 for none.
        current_leader_epoch: i32 = -1 [2.., ignorable],
        /// The epoch asked for.
        leader_epoch: i32 [0..],
    }

    /// Here.
    struct OffsetForLeaderEpochResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [2.., ignorable],
        /// Per topic.
        topics: Vec<OffsetForLeaderTopicResult> [0..],
    }

    /// A topic.
    struct OffsetForLeaderTopicResult {
        /// Its name.
        topic: ByteString [0..],
        /// Its partitions.
        partitions: Vec<EpochEndOffset> [0..],
    }

    /// A partition.
    struct EpochEndOffset {
        /// How it went.
        error_code: ErrorCode [0..],
        /// Its number.
        partition: i32 [0..],
        /// The last epoch that is not later than the one asked for; −1 for none.
        leader_epoch: i32 = -1 [1.., ignorable],
        /// Where it ended; −1 where that is not known.
        end_offset: i64 = -1 [0..],
    }
}
