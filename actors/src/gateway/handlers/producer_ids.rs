//! InitProducerId (KIP-98): an id for an idempotent producer.

use std::sync::Arc;

use crate::gateway::{
    Shared,
    context::{Operation, RequestContext, Resource, authorize},
    error_code::ErrorCode,
    messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse},
};

pub(in crate::gateway) async fn init(
    shared: Arc<Shared>,
    context: RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let mut response = InitProducerIdResponse {
        throttle_time_ms: context.throttle_time_ms(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    };
    if request.transactional_id.is_some() {
        // Transactions are not served; said so that a client stops, and does not try for ever.
        response.error_code = ErrorCode::TransactionalIdAuthorizationFailed;
        return response;
    }
    // What Kafka calls `IdempotentWrite`.
    if !authorize(&context, Operation::Write, Resource::Cluster) {
        response.error_code = ErrorCode::ClusterAuthorizationFailed;
        return response;
    }
    // Always a new one, whatever id it had: one that lost its place raises its epoch by itself.
    match shared.broker.new_producer_id().await {
        Ok(id) => (response.producer_id, response.producer_epoch) = (id.0, 0),
        Err(error) => {
            tracing::warn!(%error, "no producer id was given");
            response.error_code = ErrorCode::CoordinatorNotAvailable;
        }
    }
    response
}
