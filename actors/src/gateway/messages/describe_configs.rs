//! DescribeConfigs: the settings of topics and brokers.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse;

    /// How are these set?
    struct DescribeConfigsRequest {
        /// The resources.
        resources: Vec<DescribeConfigsResource> [0..],
        /// Whether to tell where else each setting is looked for.
        include_synonyms: bool [1..],
        /// Whether to tell what each setting means.
        include_documentation: bool [3..],
    }

    /// A resource.
    struct DescribeConfigsResource {
        /// 2 for a topic, 4 for a broker.
        resource_type: i8 [0..],
        /// Its name.
        resource_name: ByteString [0..],
        /// Which settings; `None` for all.
        configuration_keys: Option<Vec<ByteString>> [0.., null 0..],
    }

    /// So.
    struct DescribeConfigsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0..],
        /// Per resource.
        results: Vec<DescribeConfigsResult> [0..],
    }

    /// The settings of a resource.
    struct DescribeConfigsResult {
        /// How it went.
        error_code: ErrorCode [0..],
        /// What went wrong.
        error_message: Option<ByteString> [0.., null 0..],
        /// 2 for a topic, 4 for a broker.
        resource_type: i8 [0..],
        /// Its name.
        resource_name: ByteString [0..],
        /// Its settings.
        configs: Vec<DescribeConfigsResourceResult> [0..],
    }

    /// A setting.
    struct DescribeConfigsResourceResult {
        /// Its name.
        name: ByteString [0..],
        /// Its value; `None` where it is secret.
        value: Option<ByteString> [0.., null 0..],
        /// Whether it cannot be changed.
        read_only: bool [0..],
        /// Where it is set: 1 for the topic, 2 to 4 for the broker, 5 for the default.
        config_source: i8 = -1 [1.., ignorable],
        /// Whether it is secret.
        is_sensitive: bool [0..],
        /// Where else it is looked for, in order.
        synonyms: Vec<DescribeConfigsSynonym> [1.., ignorable],
        /// What its value is: 1 a boolean, 2 text, 3 and 5 numbers, 7 a list, ….
        config_type: i8 [3.., ignorable],
        /// What it means.
        documentation: Option<ByteString> [3.., null 0.., ignorable],
    }

    /// A place where a setting is looked for.
    struct DescribeConfigsSynonym {
        /// The setting's name there.
        name: ByteString [1..],
        /// Its value there.
        value: Option<ByteString> [1.., null 0..],
        /// The place, as in `config_source`.
        source: i8 [1..],
    }
}
