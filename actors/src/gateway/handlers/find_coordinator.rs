//! FindCoordinator: who coordinates a group. On one node, that is this one.

use std::sync::Arc;

use bytestring::ByteString;

use crate::{
    broker::group_coordinator::ids::GroupId,
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        messages::find_coordinator::{
            Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
        },
    },
};

/// Key type of groups; 1 is that of transactions, which are not served.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(in crate::gateway) async fn handle(
    shared: Arc<Shared>,
    context: RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let mut response = FindCoordinatorResponse {
        throttle_time_ms: context.throttle_time_ms(),
        ..FindCoordinatorResponse::default()
    };
    if context.version >= 4 {
        for key in request.coordinator_keys {
            response.coordinators.push(find(&shared, &context, key, request.key_type).await);
        }
        return response;
    }
    let found = find(&shared, &context, request.key, request.key_type).await;
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..response
    }
}

async fn find(
    shared: &Shared,
    context: &RequestContext,
    key: ByteString,
    key_type: i8,
) -> Coordinator {
    let refused = |error_code, why: &str| Coordinator {
        key: key.clone(),
        node_id: -1,
        host: ByteString::new(),
        port: -1,
        error_code,
        error_message: Some(why.into()),
    };
    if key_type != GROUP {
        let why = "only groups have coordinators here: transactions are not served";
        // librdkafka takes only that for final, and tries for ever to find a coordinator otherwise.
        let error = match key_type {
            TRANSACTION => ErrorCode::TransactionalIdAuthorizationFailed,
            _ => ErrorCode::InvalidRequest,
        };
        return refused(error, why);
    }
    if !authorize(context, Operation::Describe, Resource::Group(&key)) {
        return refused(ErrorCode::GroupAuthorizationFailed, "not allowed");
    }
    let group = GroupId::from(&*key);
    match shared.broker.coordinator(&group).await {
        Ok(_) => Coordinator {
            key: key.clone(),
            node_id: shared.node.0,
            host: ByteString::from(&*context.listener.host),
            port: i32::from(context.listener.port),
            error_code: ErrorCode::None,
            error_message: None,
        },
        Err(error) => refused(ErrorCode::CoordinatorNotAvailable, &error.to_string()),
    }
}
