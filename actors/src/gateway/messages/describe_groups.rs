//! DescribeGroups: the members of groups, and their shares.

use bytes::Bytes;
use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    DescribeGroups: DescribeGroupsRequest => DescribeGroupsResponse;

    /// Who is in these?
    struct DescribeGroupsRequest {
        /// The groups.
        groups: Vec<ByteString> [0..],
        /// Whether to say what the client may do with them.
        include_authorized_operations: bool [3..],
    }

    /// These.
    struct DescribeGroupsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// The groups.
        groups: Vec<DescribedGroup> [0..],
    }

    /// A group.
    struct DescribedGroup {
        /// How it went.
        error_code: ErrorCode [0..],
        /// What went wrong.
        error_message: Option<ByteString> [6.., null 6..],
        /// Its id.
        group_id: ByteString [0..],
        /// Its state: `Stable`, `Empty`, `Dead`, ….
        group_state: ByteString [0..],
        /// What kind of group it is.
        protocol_type: ByteString [0..],
        /// The way in which shares were assigned.
        protocol_data: ByteString [0..],
        /// Its members.
        members: Vec<DescribedGroupMember> [0..],
        /// Bits of what the client may do with it.
        authorized_operations: i32 = -2147483648 [3..],
    }

    /// A member.
    struct DescribedGroupMember {
        /// Who it is.
        member_id: ByteString [0..],
        /// The name by which it is known across restarts.
        group_instance_id: Option<ByteString> [4.., null 4.., ignorable],
        /// Who its client says that it is.
        client_id: ByteString [0..],
        /// Where it is.
        client_host: ByteString [0..],
        /// What the leader is to know of it.
        member_metadata: Bytes [0..],
        /// Its share.
        member_assignment: Bytes [0..],
    }
}
