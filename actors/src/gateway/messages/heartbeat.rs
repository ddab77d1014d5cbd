//! Heartbeat: a member is alive.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    Heartbeat: HeartbeatRequest => HeartbeatResponse;

    /// I am here.
    struct HeartbeatRequest {
        /// The group.
        group_id: ByteString [0..],
        /// Its generation.
        generation_id: i32 [0..],
        /// Who it is.
        member_id: ByteString [0..],
        /// The name by which it is known across restarts.
        group_instance_id: Option<ByteString> [3.., null 3..],
    }

    /// Stay, or join again.
    struct HeartbeatResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// How it went.
        error_code: ErrorCode [0..],
    }
}
