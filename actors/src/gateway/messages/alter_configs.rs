//! AlterConfigs: set all settings of a resource anew.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    AlterConfigs: AlterConfigsRequest => AlterConfigsResponse;

    /// Set these; what is not named goes back to its default.
    struct AlterConfigsRequest {
        /// The resources.
        resources: Vec<AlterConfigsResource> [0..],
        /// Whether only to say how it would go.
        validate_only: bool [0..],
    }

    /// A resource.
    struct AlterConfigsResource {
        /// 2 for a topic, 4 for a broker.
        resource_type: i8 [0..],
        /// Its name.
        resource_name: ByteString [0..],
        /// Its settings.
        configs: Vec<AlterableConfig> [0..],
    }

    /// A setting.
    struct AlterableConfig {
        /// Its name.
        name: ByteString [0..],
        /// Its value.
        value: Option<ByteString> [0.., null 0..],
    }

    /// Set.
    struct AlterConfigsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0..],
        /// Per resource.
        responses: Vec<AlterConfigsResourceResponse> [0..],
    }

    /// How it went for a resource.
    struct AlterConfigsResourceResponse {
        /// How it went.
        error_code: ErrorCode [0..],
        /// What went wrong.
        error_message: Option<ByteString> [0.., null 0..],
        /// 2 for a topic, 4 for a broker.
        resource_type: i8 [0..],
        /// Its name.
        resource_name: ByteString [0..],
    }
}
