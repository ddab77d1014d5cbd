//! ListConfigResources: what has settings. Version 0 asks for client metrics only.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    ListConfigResources: ListConfigResourcesRequest => ListConfigResourcesResponse;

    /// What has settings?
    struct ListConfigResourcesRequest {
        /// Of which types; empty for all.
        resource_types: Vec<i8> [1..],
    }

    /// These.
    struct ListConfigResourcesResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0..],
        /// How it went.
        error_code: ErrorCode [0..],
        /// The resources.
        config_resources: Vec<ConfigResource> [0..],
    }

    /// A resource.
    struct ConfigResource {
        /// Its name.
        resource_name: ByteString [0..],
        /// 2 for a topic, 4 for a broker, 16 for client metrics, 32 for a group.
        resource_type: i8 = 16 [1.., ignorable],
    }
}
