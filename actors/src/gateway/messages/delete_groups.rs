//! DeleteGroups: forget groups that have no members.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    DeleteGroups: DeleteGroupsRequest => DeleteGroupsResponse;

    /// Forget these.
    struct DeleteGroupsRequest {
        /// The groups.
        groups_names: Vec<ByteString> [0..],
    }

    /// Forgotten.
    struct DeleteGroupsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0..],
        /// Per group.
        results: Vec<DeletableGroupResult> [0..],
    }

    /// How it went for a group.
    struct DeletableGroupResult {
        /// Its id.
        group_id: ByteString [0..],
        /// How it went.
        error_code: ErrorCode [0..],
        /// What went wrong.
        error_message: Option<ByteString> [3.., null 3.., ignorable],
    }
}
