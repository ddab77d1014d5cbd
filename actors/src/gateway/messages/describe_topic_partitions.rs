//! DescribeTopicPartitions: the partitions of topics, page by page.

use bytestring::ByteString;
use uuid::Uuid;

use crate::gateway::{
    api::Version,
    codec::{DecodeError, Decoder, EncodeError, Encoder, Nullable, Wire},
    error_code::ErrorCode,
};

messages! {
    DescribeTopicPartitions: DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse;

    /// What partitions have these?
    struct DescribeTopicPartitionsRequest {
        /// The topics; empty for all.
        topics: Vec<TopicRequest> [0..],
        /// How many partitions to tell of at most.
        response_partition_limit: i32 = 2000 [0..],
        /// Where to go on; `None` to begin.
        cursor: Option<Cursor> [0.., null 0..],
    }

    /// A topic.
    struct TopicRequest {
        /// Its name.
        name: ByteString [0..],
    }

    /// A place in the list.
    struct Cursor {
        /// The topic.
        topic_name: ByteString [0..],
        /// The first partition of it.
        partition_index: i32 [0..],
    }

    /// These.
    struct DescribeTopicPartitionsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0.., ignorable],
        /// Per topic.
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0..],
        /// Where to go on; `None` at the end.
        next_cursor: Option<Cursor> [0.., null 0..],
    }

    /// A topic.
    struct DescribeTopicPartitionsResponseTopic {
        /// How it went.
        error_code: ErrorCode [0..],
        /// Its name.
        name: Option<ByteString> [0.., null 0..],
        /// Its id.
        topic_id: Uuid [0.., ignorable],
        /// Whether it is the broker's own.
        is_internal: bool [0.., ignorable],
        /// Its partitions.
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0..],
        /// Bits of what the client may do with it.
        topic_authorized_operations: i32 = -2147483648 [0..],
    }

    /// A partition.
    struct DescribeTopicPartitionsResponsePartition {
        /// How it went.
        error_code: ErrorCode [0..],
        /// Its number.
        partition_index: i32 [0..],
        /// Who leads it; −1 for nobody.
        leader_id: i32 [0..],
        /// Since which epoch.
        leader_epoch: i32 = -1 [0.., ignorable],
        /// Who keeps it.
        replica_nodes: Vec<i32> [0..],
        /// Who is in sync.
        isr_nodes: Vec<i32> [0..],
        /// Who could lead though not in sync; `None` where that is not known.
        eligible_leader_replicas: Option<Vec<i32>> [0.., null 0..],
        /// Who could last; `None` where that is not known.
        last_known_elr: Option<Vec<i32>> [0.., null 0..],
        /// Who is offline.
        offline_replicas: Vec<i32> [0.., ignorable],
    }
}

/// A structure that may be null is preceded by a byte: −1 for null, 1 otherwise.
impl Nullable for Cursor {
    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<Self>, DecodeError> {
        match i8::decode(decoder)? {
            ..0 => Ok(None),
            0.. => Cursor::decode(decoder).map(Some),
        }
    }

    fn encode_null(encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        (-1i8).encode(encoder)
    }

    fn encode_present(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        1i8.encode(encoder)?;
        self.encode(encoder)
    }

    fn least_nullable(_: Version) -> usize {
        1
    }
}
