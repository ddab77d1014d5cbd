//! DeleteRecords: delete all records before an offset.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    DeleteRecords: DeleteRecordsRequest => DeleteRecordsResponse;

    /// Delete these.
    struct DeleteRecordsRequest {
        /// In which topics.
        topics: Vec<DeleteRecordsTopic> [0..],
        /// How long to wait until they are gone.
        timeout_ms: i32 [0..],
    }

    /// A topic.
    struct DeleteRecordsTopic {
        /// Its name.
        name: ByteString [0..],
        /// Its partitions.
        partitions: Vec<DeleteRecordsPartition> [0..],
    }

    /// A partition.
    struct DeleteRecordsPartition {
        /// Its number.
        partition_index: i32 [0..],
        /// The first offset to be kept; −1 for the high watermark.
        offset: i64 [0..],
    }

    /// Deleted.
    struct DeleteRecordsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0..],
        /// Per topic.
        topics: Vec<DeleteRecordsTopicResult> [0..],
    }

    /// How it went for a topic.
    struct DeleteRecordsTopicResult {
        /// Its name.
        name: ByteString [0..],
        /// Its partitions.
        partitions: Vec<DeleteRecordsPartitionResult> [0..],
    }

    /// How it went for a partition.
    struct DeleteRecordsPartitionResult {
        /// Its number.
        partition_index: i32 [0..],
        /// The first offset that there is.
        low_watermark: i64 [0..],
        /// How it went.
        error_code: ErrorCode [0..],
    }
}
