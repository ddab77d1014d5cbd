//! ListGroups: the groups that a broker is in charge of.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    ListGroups: ListGroupsRequest => ListGroupsResponse;

    /// Which are yours?
    struct ListGroupsRequest {
        /// In which states; empty for all.
        states_filter: Vec<ByteString> [4..],
        /// Of which types; empty for all.
        types_filter: Vec<ByteString> [5..],
    }

    /// These.
    struct ListGroupsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// How it went.
        error_code: ErrorCode [0..],
        /// The groups.
        groups: Vec<ListedGroup> [0..],
    }

    /// A group.
    struct ListedGroup {
        /// Its id.
        group_id: ByteString [0..],
        /// What kind of group it is.
        protocol_type: ByteString [0..],
        /// Its state.
        group_state: ByteString [4.., ignorable],
        /// Its type: `classic`, ….
        group_type: ByteString [5.., ignorable],
    }
}
