//! FindCoordinator: the broker in charge of a group or of a transaction.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse;

    /// Who is in charge?
    struct FindCoordinatorRequest {
        /// Of what.
        key: ByteString [0..=3],
        /// 0 for a group, 1 for a transaction, 2 for a share of a group.
        key_type: i8 [1..],
        /// Of which.
        coordinator_keys: Vec<ByteString> [4..],
    }

    /// This broker.
    struct FindCoordinatorResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// How it went.
        error_code: ErrorCode [0..=3],
        /// What went wrong.
        error_message: Option<ByteString> [1..=3, null 1..=3, ignorable],
        /// The broker's number.
        node_id: i32 [0..=3],
        /// Where it listens.
        host: ByteString [0..=3],
        /// And on which port.
        port: i32 [0..=3],
        /// One for each key.
        coordinators: Vec<Coordinator> [4..],
    }

    /// Who is in charge of a key.
    struct Coordinator {
        /// The key.
        key: ByteString [4..],
        /// The broker's number.
        node_id: i32 [4..],
        /// Where it listens.
        host: ByteString [4..],
        /// And on which port.
        port: i32 [4..],
        /// How it went.
        error_code: ErrorCode [4..],
        /// What went wrong.
        error_message: Option<ByteString> [4.., null 4.., ignorable],
    }
}
