//! ApiVersions (KIP-35, KIP-511): what this node speaks.

use std::sync::Arc;

use crate::gateway::{
    Shared,
    api::ApiKey,
    context::RequestContext,
    messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse},
};

pub(in crate::gateway) async fn handle(
    _: Arc<Shared>,
    context: RequestContext,
    _: ApiVersionsRequest,
) -> ApiVersionsResponse {
    ApiVersionsResponse {
        api_keys: ApiKey::advertised().map(ApiVersion::from).collect(),
        throttle_time_ms: context.throttle_time_ms(),
        // No feature is on; Java's clients look at none where the epoch is negative.
        finalized_features_epoch: 0,
        ..ApiVersionsResponse::default()
    }
}
