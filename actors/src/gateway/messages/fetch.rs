//! Fetch: read batches from partitions, within a session or without one.

use bytestring::ByteString;
use uuid::Uuid;

use crate::gateway::{codec::Records, error_code::ErrorCode};

messages! {
    Fetch: FetchRequest => FetchResponse;

    /// Send me what there is.
    struct FetchRequest {
        /// The cluster that the follower belongs to.
        cluster_id: Option<ByteString> [12.., tag 0, ignorable],
        /// Number of the follower; −1 of a consumer.
        replica_id: i32 = -1 [0..=14],
        /// Who the follower is.
        replica_state: ReplicaState [15.., tag 1],
        /// How long to wait for `min_bytes`.
        max_wait_ms: i32 [0..],
        /// How much is worth an answer.
        min_bytes: i32 [0..],
        /// How much to send at most; the first batch is sent however long it is.
        max_bytes: i32 = 0x7fffffff [3.., ignorable],
        /// 0 for all records, 1 for committed ones.
        isolation_level: i8 [4.., ignorable],
        /// The session; 0 for none, or for a new one.
        session_id: i32 [7.., ignorable],
        /// Number of the request in its session; 0 begins one, −1 ends one or wants none.
        session_epoch: i32 = -1 [7.., ignorable],
        /// What to send: all of it, or within a session what has changed.
        topics: Vec<FetchTopic> [0..],
        /// What to take out of the session.
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        /// Where the consumer stands.
        rack_id: ByteString [11.., ignorable],
    }

    /// Who a follower is.
    struct ReplicaState {
        /// Its number; −1 of a consumer.
        replica_id: i32 = -1 [15..],
        /// Its epoch.
        replica_epoch: i64 = -1 [15..],
    }

    /// What to send of a topic.
    struct FetchTopic {
        /// Its name.
        topic: ByteString [0..=12, ignorable],
        /// Its id.
        topic_id: Uuid [13.., ignorable],
        /// Its partitions.
        partitions: Vec<FetchPartition> [0..],
    }

    /// What to send of a partition.
    struct FetchPartition {
        /// Its number.
        partition: i32 [0..],
        /// The leader's epoch that the client knows of; −1 for none.
        current_leader_epoch: i32 = -1 [9.., ignorable],
        /// From which offset on.
        fetch_offset: i64 [0..],
        /// The epoch of the last record that the client has; −1 for none.
        last_fetched_epoch: i32 = -1 [12..],
        /// The first offset that the follower has.
        log_start_offset: i64 = -1 [5.., ignorable],
        /// How much to send at most.
        partition_max_bytes: i32 [0..],
        /// The directory that the follower keeps it in.
        replica_directory_id: Uuid [17.., tag 0, ignorable],
        /// The high watermark that the follower knows of.
        high_watermark: i64 = 0x7fffffffffffffff [18.., tag 1, ignorable],
    }

    /// What to take out of a session.
    struct ForgottenTopic {
        /// The topic's name.
        topic: ByteString [7..=12, ignorable],
        /// Its id.
        topic_id: Uuid [13.., ignorable],
        /// Its partitions.
        partitions: Vec<i32> [7..],
    }

    /// What there is.
    struct FetchResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// How it went for the session.
        error_code: ErrorCode [7.., ignorable],
        /// The session; 0 for none.
        session_id: i32 [7..],
        /// Per topic.
        responses: Vec<FetchableTopicResponse> [0..],
        /// Where the leaders are that `current_leader` names.
        node_endpoints: Vec<NodeEndpoint> [16.., tag 0],
    }

    /// What there is of a topic.
    struct FetchableTopicResponse {
        /// Its name.
        topic: ByteString [0..=12, ignorable],
        /// Its id.
        topic_id: Uuid [13.., ignorable],
        /// Its partitions.
        partitions: Vec<PartitionData> [0..],
    }

    /// What there is of a partition.
    struct PartitionData {
        /// Its number.
        partition_index: i32 [0..],
        /// How it went.
        error_code: ErrorCode [0..],
        /// The end of what all in sync have.
        high_watermark: i64 [0..],
        /// The end of what is decided; −1 where that is not known.
        last_stable_offset: i64 = -1 [4.., ignorable],
        /// The first offset that there is.
        log_start_offset: i64 = -1 [5.., ignorable],
        /// Where the client's log parts from the leader's.
        diverging_epoch: EpochEndOffset [12.., tag 0],
        /// Who leads, where it is not this broker.
        current_leader: LeaderIdAndEpoch [12.., tag 1],
        /// The snapshot that a follower must fetch instead.
        snapshot_id: SnapshotId [12.., tag 2],
        /// Transactions of which the records are to be passed over; `None` where all are sent.
        aborted_transactions: Option<Vec<AbortedTransaction>> [4.., null 4.., ignorable],
        /// Which replica to read from instead; −1 for this one.
        preferred_read_replica: i32 = -1 [11..],
        /// The batches.
        records: Records [0..],
    }

    /// The last offset of an epoch.
    struct EpochEndOffset {
        /// The epoch; −1 for none.
        epoch: i32 = -1 [12..],
        /// Where it ends.
        end_offset: i64 = -1 [12..],
    }

    /// Who leads, and since when.
    struct LeaderIdAndEpoch {
        /// Its number; −1 where it is not known.
        leader_id: i32 = -1 [12..],
        /// Its epoch; −1 where it is not known.
        leader_epoch: i32 = -1 [12..],
    }

    /// A snapshot.
    struct SnapshotId {
        /// Where it ends; −1 for none.
        end_offset: i64 = -1 [0..],
        /// In which epoch.
        epoch: i32 = -1 [0..],
    }

    /// A transaction that was aborted.
    struct AbortedTransaction {
        /// Of which producer.
        producer_id: i64 [4..],
        /// From which offset on.
        first_offset: i64 [4..],
    }

    /// A broker.
    struct NodeEndpoint {
        /// Its number.
        node_id: i32 [16..],
        /// Where it listens.
        host: ByteString [16..],
        /// And on which port.
        port: i32 [16..],
        /// Where it stands.
        rack: Option<ByteString> [16.., null 16..],
    }
}
