//! DescribeLogDirs: how much space partitions take in each data directory.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    DescribeLogDirs: DescribeLogDirsRequest => DescribeLogDirsResponse;

    /// How much is where?
    struct DescribeLogDirsRequest {
        /// Of which topics; `None` for all.
        topics: Option<Vec<DescribableLogDirTopic>> [0.., null 0..],
    }

    /// A topic.
    struct DescribableLogDirTopic {
        /// Its name.
        topic: ByteString [0..],
        /// Its partitions.
        partitions: Vec<i32> [0..],
    }

    /// So much.
    struct DescribeLogDirsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0..],
        /// How it went.
        error_code: ErrorCode [3.., ignorable],
        /// Per directory.
        results: Vec<DescribeLogDirsResult> [0..],
    }

    /// A directory.
    struct DescribeLogDirsResult {
        /// How it went.
        error_code: ErrorCode [0..],
        /// Its path.
        log_dir: ByteString [0..],
        /// Per topic.
        topics: Vec<DescribeLogDirsTopic> [0..],
        /// Size of its volume; −1 where that is not known.
        total_bytes: i64 = -1 [4.., ignorable],
        /// How much of it can be used; −1 where that is not known.
        usable_bytes: i64 = -1 [4.., ignorable],
        /// Whether nothing new is put there.
        is_cordoned: bool [5.., ignorable],
    }

    /// A topic.
    struct DescribeLogDirsTopic {
        /// Its name.
        name: ByteString [0..],
        /// Its partitions.
        partitions: Vec<DescribeLogDirsPartition> [0..],
    }

    /// A partition.
    struct DescribeLogDirsPartition {
        /// Its number.
        partition_index: i32 [0..],
        /// Bytes of its segments.
        partition_size: i64 [0..],
        /// How far it is behind the high watermark.
        offset_lag: i64 [0..],
        /// Whether it is on its way into this directory.
        is_future_key: bool [0..],
    }
}
