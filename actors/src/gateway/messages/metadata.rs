//! Metadata: brokers, topics, and who leads each partition.

use bytestring::ByteString;
use uuid::Uuid;

use crate::gateway::error_code::ErrorCode;

messages! {
    Metadata: MetadataRequest => MetadataResponse;

    /// Where is what?
    struct MetadataRequest {
        /// The topics asked for; `None`, and in version 0 an empty list, means all.
        topics: Option<Vec<MetadataRequestTopic>> [0.., null 1..],
        /// Whether topics that are missing may be made.
        allow_auto_topic_creation: bool = true [4..],
        /// Whether to say what the client may do with the cluster.
        include_cluster_authorized_operations: bool [8..=10],
        /// Whether to say what it may do with each topic.
        include_topic_authorized_operations: bool [8..],
    }

    /// A topic, by name or by id.
    struct MetadataRequestTopic {
        /// Its id; zero where it is asked for by name.
        topic_id: Uuid [10.., ignorable],
        /// Its name; `None` where it is asked for by id.
        name: Option<ByteString> [0.., null 10..],
    }

    /// The cluster.
    struct MetadataResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [3.., ignorable],
        /// Brokers that are alive.
        brokers: Vec<MetadataResponseBroker> [0..],
        /// The cluster's id.
        cluster_id: Option<ByteString> [2.., null 2.., ignorable],
        /// The broker to which changes go; −1 where none is known.
        controller_id: i32 = -1 [1.., ignorable],
        /// The topics asked for.
        topics: Vec<MetadataResponseTopic> [0..],
        /// Bits of what the client may do with the cluster.
        cluster_authorized_operations: i32 = -2147483648 [8..=10],
        /// Whether the client must find the cluster anew.
        error_code: ErrorCode [13.., ignorable],
    }

    /// A broker.
    struct MetadataResponseBroker {
        /// Its number.
        node_id: i32 [0..],
        /// Where it listens.
        host: ByteString [0..],
        /// And on which port.
        port: i32 [0..],
        /// Where it stands.
        rack: Option<ByteString> [1.., null 1.., ignorable],
    }

    /// A topic.
    struct MetadataResponseTopic {
        /// How it went.
        error_code: ErrorCode [0..],
        /// Its name; `None` where there is none of the id asked for.
        name: Option<ByteString> [0.., null 12..],
        /// Its id.
        topic_id: Uuid [10.., ignorable],
        /// Whether it is the broker's own.
        is_internal: bool [1.., ignorable],
        /// Its partitions.
        partitions: Vec<MetadataResponsePartition> [0..],
        /// Bits of what the client may do with it.
        topic_authorized_operations: i32 = -2147483648 [8..],
    }

    /// A partition.
    struct MetadataResponsePartition {
        /// How it went.
        error_code: ErrorCode [0..],
        /// Its number.
        partition_index: i32 [0..],
        /// Who leads it; −1 for nobody.
        leader_id: i32 [0..],
        /// Since which epoch.
        leader_epoch: i32 = -1 [7.., ignorable],
        /// Who keeps it.
        replica_nodes: Vec<i32> [0..],
        /// Who is in sync.
        isr_nodes: Vec<i32> [0..],
        /// Who is offline.
        offline_replicas: Vec<i32> [5.., ignorable],
    }
}
