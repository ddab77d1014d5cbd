//! IncrementalAlterConfigs: change single settings of a resource.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse;

    /// Change these.
    struct IncrementalAlterConfigsRequest {
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
        /// What to change.
        configs: Vec<AlterableConfig> [0..],
    }

    /// A change of a setting.
    struct AlterableConfig {
        /// Its name.
        name: ByteString [0..],
        /// 0 to set it, 1 to go back to the default, 2 to add to a list, 3 to take from one.
        config_operation: i8 [0..],
        /// The value; `None` where none is needed.
        value: Option<ByteString> [0.., null 0..],
    }

    /// Changed.
    struct IncrementalAlterConfigsResponse {
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
