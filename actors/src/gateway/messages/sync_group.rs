//! SyncGroup: the leader hands out shares, each member takes its own.

use bytes::Bytes;
use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    SyncGroup: SyncGroupRequest => SyncGroupResponse;

    /// What is mine?
    struct SyncGroupRequest {
        /// The group.
        group_id: ByteString [0..],
        /// Its generation.
        generation_id: i32 [0..],
        /// Who asks.
        member_id: ByteString [0..],
        /// The name by which it is known across restarts.
        group_instance_id: Option<ByteString> [3.., null 3..],
        /// What kind of group it is.
        protocol_type: Option<ByteString> [5.., null 5.., ignorable],
        /// The way in which shares were assigned.
        protocol_name: Option<ByteString> [5.., null 5.., ignorable],
        /// All shares, from the leader only.
        assignments: Vec<SyncGroupRequestAssignment> [0..],
    }

    /// A share.
    struct SyncGroupRequestAssignment {
        /// Whose it is.
        member_id: ByteString [0..],
        /// What it is, in the members' own format.
        assignment: Bytes [0..],
    }

    /// This.
    struct SyncGroupResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// How it went.
        error_code: ErrorCode [0..],
        /// What kind of group it is.
        protocol_type: Option<ByteString> [5.., null 5.., ignorable],
        /// The way in which shares were assigned.
        protocol_name: Option<ByteString> [5.., null 5.., ignorable],
        /// The member's share.
        assignment: Bytes [0..],
    }
}
