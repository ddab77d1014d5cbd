//! JoinGroup: become a member of a group, and learn who leads it.

use bytes::Bytes;
use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    JoinGroup: JoinGroupRequest => JoinGroupResponse;

    /// Let me in.
    struct JoinGroupRequest {
        /// The group.
        group_id: ByteString [0..],
        /// How long the member may be silent.
        session_timeout_ms: i32 [0..],
        /// How long it may take to join again; −1 for as long as the session.
        rebalance_timeout_ms: i32 = -1 [1.., ignorable],
        /// Who it is; empty where it is new.
        member_id: ByteString [0..],
        /// The name by which it is known across restarts.
        group_instance_id: Option<ByteString> [5.., null 5..],
        /// What kind of group it is: `consumer`, `connect`, ….
        protocol_type: ByteString [0..],
        /// How it could be assigned its share, in the order of its liking.
        protocols: Vec<JoinGroupRequestProtocol> [0..],
        /// Why it joins.
        reason: Option<ByteString> [8.., null 8.., ignorable],
    }

    /// A way to assign.
    struct JoinGroupRequestProtocol {
        /// Its name.
        name: ByteString [0..],
        /// What the leader is to know of the member.
        metadata: Bytes [0..],
    }

    /// You are in.
    struct JoinGroupResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [2.., ignorable],
        /// How it went.
        error_code: ErrorCode [0..],
        /// The generation that begins.
        generation_id: i32 = -1 [0..],
        /// What kind of group it is.
        protocol_type: Option<ByteString> [7.., null 7.., ignorable],
        /// The way to assign that all members know.
        protocol_name: Option<ByteString> [0.., null 7..],
        /// Who leads.
        leader: ByteString [0..],
        /// Whether the leader is to leave the assignment as it is.
        skip_assignment: bool [9..],
        /// Who the member is.
        member_id: ByteString [0..],
        /// All members, for the leader only.
        members: Vec<JoinGroupResponseMember> [0..],
    }

    /// A member.
    struct JoinGroupResponseMember {
        /// Who it is.
        member_id: ByteString [0..],
        /// The name by which it is known across restarts.
        group_instance_id: Option<ByteString> [5.., null 5.., ignorable],
        /// What the leader is to know of it.
        metadata: Bytes [0..],
    }
}
