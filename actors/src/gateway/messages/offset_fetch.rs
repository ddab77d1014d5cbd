//! OffsetFetch: how far groups have come.

use bytestring::ByteString;
use uuid::Uuid;

use crate::gateway::error_code::ErrorCode;

messages! {
    OffsetFetch: OffsetFetchRequest => OffsetFetchResponse;

    /// How far are we?
    struct OffsetFetchRequest {
        /// The group.
        group_id: ByteString [0..=7],
        /// In which topics; `None` for all.
        topics: Option<Vec<OffsetFetchRequestTopic>> [0..=7, null 2..=7],
        /// Each group.
        groups: Vec<OffsetFetchRequestGroup> [8..],
        /// Whether to refuse while a transaction over these offsets is undecided.
        require_stable: bool [7..],
    }

    /// A topic.
    struct OffsetFetchRequestTopic {
        /// Its name.
        name: ByteString [0..=7],
        /// Its partitions.
        partition_indexes: Vec<i32> [0..=7],
    }

    /// A group.
    struct OffsetFetchRequestGroup {
        /// Its id.
        group_id: ByteString [8..],
        /// Who asks.
        member_id: Option<ByteString> [9.., null 9.., ignorable],
        /// The member's epoch; −1 for none.
        member_epoch: i32 = -1 [9.., ignorable],
        /// In which topics; `None` for all.
        topics: Option<Vec<OffsetFetchRequestTopics>> [8.., null 8..],
    }

    /// A topic.
    struct OffsetFetchRequestTopics {
        /// Its name.
        name: ByteString [8..=9, ignorable],
        /// Its id.
        topic_id: Uuid [10.., ignorable],
        /// Its partitions.
        partition_indexes: Vec<i32> [8..],
    }

    /// This far.
    struct OffsetFetchResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [3.., ignorable],
        /// Per topic.
        topics: Vec<OffsetFetchResponseTopic> [0..=7],
        /// How it went for the group.
        error_code: ErrorCode [2..=7, ignorable],
        /// Per group.
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }

    /// A topic.
    struct OffsetFetchResponseTopic {
        /// Its name.
        name: ByteString [0..=7],
        /// Its partitions.
        partitions: Vec<OffsetFetchResponsePartition> [0..=7],
    }

    /// A partition.
    struct OffsetFetchResponsePartition {
        /// Its number.
        partition_index: i32 [0..=7],
        /// The offset to go on with; −1 for none.
        committed_offset: i64 [0..=7],
        /// The epoch of the last record that was read; −1 where that is not known.
        committed_leader_epoch: i32 = -1 [5..=7, ignorable],
        /// What the client wanted to find again beside it.
        metadata: Option<ByteString> [0..=7, null 0..=7],
        /// How it went.
        error_code: ErrorCode [0..=7],
    }

    /// A group.
    struct OffsetFetchResponseGroup {
        /// Its id.
        group_id: ByteString [8..],
        /// Per topic.
        topics: Vec<OffsetFetchResponseTopics> [8..],
        /// How it went for the group.
        error_code: ErrorCode [8..],
    }

    /// A topic.
    struct OffsetFetchResponseTopics {
        /// Its name.
        name: ByteString [8..=9, ignorable],
        /// Its id.
        topic_id: Uuid [10.., ignorable],
        /// Its partitions.
        partitions: Vec<OffsetFetchResponsePartitions> [8..],
    }

    /// A partition.
    struct OffsetFetchResponsePartitions {
        /// Its number.
        partition_index: i32 [8..],
        /// The offset to go on with; −1 for none.
        committed_offset: i64 [8..],
        /// The epoch of the last record that was read; −1 where that is not known.
        committed_leader_epoch: i32 = -1 [8.., ignorable],
        /// What the client wanted to find again beside it.
        metadata: Option<ByteString> [8.., null 8..],
        /// How it went.
        error_code: ErrorCode [8..],
    }
}
