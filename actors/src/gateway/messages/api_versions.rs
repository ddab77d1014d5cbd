//! ApiVersions: which APIs a broker speaks, and which features are on.

use std::ops::RangeInclusive;

use bytestring::ByteString;

use crate::gateway::{api::ApiKey, error_code::ErrorCode};

messages! {
    ApiVersions: ApiVersionsRequest => ApiVersionsResponse;

    /// What do you speak?
    struct ApiVersionsRequest {
        /// Name of the client's library.
        client_software_name: ByteString [3.., ignorable],
        /// Its version.
        client_software_version: ByteString [3.., ignorable],
        /// The cluster that the client believes it speaks with.
        cluster_id: Option<ByteString> [5.., null 5.., ignorable],
        /// The node that it believes it speaks with.
        node_id: i32 = -1 [5.., ignorable],
    }

    /// These APIs, and these features.
    struct ApiVersionsResponse {
        /// How it went.
        error_code: ErrorCode [0..],
        /// Each API that is spoken.
        api_keys: Vec<ApiVersion> [0..],
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// Features that could be on.
        supported_features: Vec<SupportedFeatureKey> [3.., tag 0, ignorable],
        /// Which state of the cluster the finalized features are of; −1 where that is unknown.
        finalized_features_epoch: i64 = -1 [3.., tag 1, ignorable],
        /// Features that are on.
        finalized_features: Vec<FinalizedFeatureKey> [3.., tag 2, ignorable],
        /// Only Kafka's own migration from ZooKeeper sets it.
        zk_migration_ready: bool [3.., tag 3, ignorable],
    }

    /// An API and its versions.
    struct ApiVersion {
        /// Its number: one that this program does not know is no error.
        api_key: i16 [0..],
        /// The first version.
        min_version: i16 [0..],
        /// The last one.
        max_version: i16 [0..],
    }

    /// A feature that could be on.
    struct SupportedFeatureKey {
        /// Its name.
        name: ByteString [3..],
        /// The lowest level.
        min_version: i16 [3..],
        /// The highest one.
        max_version: i16 [3..],
    }

    /// A feature that is on.
    struct FinalizedFeatureKey {
        /// Its name.
        name: ByteString [3..],
        /// The highest level that is on.
        max_version_level: i16 [3..],
        /// The lowest one.
        min_version_level: i16 [3..],
    }
}

impl From<(ApiKey, RangeInclusive<i16>)> for ApiVersion {
    fn from((api, versions): (ApiKey, RangeInclusive<i16>)) -> Self {
        let (min_version, max_version) = versions.into_inner();
        Self { api_key: api.number(), min_version, max_version }
    }
}
