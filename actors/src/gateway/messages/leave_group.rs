//! LeaveGroup: members go.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    LeaveGroup: LeaveGroupRequest => LeaveGroupResponse;

    /// Let us out.
    struct LeaveGroupRequest {
        /// The group.
        group_id: ByteString [0..],
        /// Who goes.
        member_id: ByteString [0..=2],
        /// Who go.
        members: Vec<MemberIdentity> [3..],
    }

    /// A member that goes.
    struct MemberIdentity {
        /// Who it is.
        member_id: ByteString [3..],
        /// The name by which it is known across restarts.
        group_instance_id: Option<ByteString> [3.., null 3..],
        /// Why it goes.
        reason: Option<ByteString> [5.., null 5.., ignorable],
    }

    /// You are out.
    struct LeaveGroupResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// How it went for the group.
        error_code: ErrorCode [0..],
        /// Per member.
        members: Vec<MemberResponse> [3..],
    }

    /// How it went for a member.
    struct MemberResponse {
        /// Who it is.
        member_id: ByteString [3..],
        /// The name by which it is known across restarts.
        group_instance_id: Option<ByteString> [3.., null 3..],
        /// How it went.
        error_code: ErrorCode [3..],
    }
}
