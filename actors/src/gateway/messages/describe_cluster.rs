//! DescribeCluster: the brokers, or the controllers, of a cluster.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    DescribeCluster: DescribeClusterRequest => DescribeClusterResponse;

    /// Who are you?
    struct DescribeClusterRequest {
        /// Whether to say what the client may do with the cluster.
        include_cluster_authorized_operations: bool [0..],
        /// 1 for brokers, 2 for controllers.
        endpoint_type: i8 = 1 [1..],
        /// Whether to tell of brokers that are fenced.
        include_fenced_brokers: bool [2..],
    }

    /// These.
    struct DescribeClusterResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0..],
        /// How it went.
        error_code: ErrorCode [0..],
        /// What went wrong.
        error_message: Option<ByteString> [0.., null 0..],
        /// 1 for brokers, 2 for controllers.
        endpoint_type: i8 = 1 [1..],
        /// The cluster's id.
        cluster_id: ByteString [0..],
        /// The broker to which changes go; −1 where none is known.
        controller_id: i32 = -1 [0..],
        /// The brokers.
        brokers: Vec<DescribeClusterBroker> [0..],
        /// Bits of what the client may do with the cluster.
        cluster_authorized_operations: i32 = -2147483648 [0..],
    }

    /// A broker.
    struct DescribeClusterBroker {
        /// Its number.
        broker_id: i32 [0..],
        /// Where it listens.
        host: ByteString [0..],
        /// And on which port.
        port: i32 [0..],
        /// Where it stands.
        rack: Option<ByteString> [0.., null 0..],
        /// Whether it is fenced.
        is_fenced: bool [2..],
    }
}
