//! OffsetCommit: keep how far a group has come.

use bytestring::ByteString;
use uuid::Uuid;

use crate::gateway::error_code::ErrorCode;

messages! {
    OffsetCommit: OffsetCommitRequest => OffsetCommitResponse;

    /// We are this far.
    struct OffsetCommitRequest {
        /// The group.
        group_id: ByteString [0..],
        /// Its generation, or the member's epoch; −1 for a consumer without a membership.
        generation_id_or_member_epoch: i32 = -1 [1.., ignorable],
        /// Who commits.
        member_id: ByteString [1.., ignorable],
        /// The name by which it is known across restarts.
        group_instance_id: Option<ByteString> [7.., null 7..],
        /// How long to keep it; −1 for as long as the broker keeps them.
        retention_time_ms: i64 = -1 [2..=4, ignorable],
        /// In which topics.
        topics: Vec<OffsetCommitRequestTopic> [0..],
    }

    /// A topic.
    struct OffsetCommitRequestTopic {
        /// Its name.
        name: ByteString [0..=9, ignorable],
        /// Its id.
        topic_id: Uuid [10.., ignorable],
        /// Its partitions.
        partitions: Vec<OffsetCommitRequestPartition> [0..],
    }

    /// A partition.
    struct OffsetCommitRequestPartition {
        /// Its number.
        partition_index: i32 [0..],
        /// The offset to go on with.
        committed_offset: i64 [0..],
        /// The epoch of the last record that was read; −1 where that is not known.
        committed_leader_epoch: i32 = -1 [6.., ignorable],
        /// What the client wants to find again beside it.
        committed_metadata: Option<ByteString> [0.., null 0..],
    }

    /// Kept.
    struct OffsetCommitResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [3.., ignorable],
        /// Per topic.
        topics: Vec<OffsetCommitResponseTopic> [0..],
    }

    /// How it went for a topic.
    struct OffsetCommitResponseTopic {
        /// Its name.
        name: ByteString [0..=9, ignorable],
        /// Its id.
        topic_id: Uuid [10.., ignorable],
        /// Its partitions.
        partitions: Vec<OffsetCommitResponsePartition> [0..],
    }

    /// How it went for a partition.
    struct OffsetCommitResponsePartition {
        /// Its number.
        partition_index: i32 [0..],
        /// How it went.
        error_code: ErrorCode [0..],
    }
}
