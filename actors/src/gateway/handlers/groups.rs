//! The classic group APIs: what members say goes to the coordinator of their group, and what it
//! answers comes back under Kafka's names.

pub(in crate::gateway) mod administration;
pub(in crate::gateway) mod membership;
pub(in crate::gateway) mod offsets;

use std::sync::Arc;

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use bytes::Bytes;
use bytestring::ByteString;

use crate::{
    broker::{
        group_coordinator::{
            GroupCoordinator,
            error::GroupError,
            ids::{GenerationId, GroupId, InstanceId, MemberId},
        },
        names::{PartitionId, TopicPartition},
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
    },
};

/// Sends `message` to the coordinator of `group`.
async fn ask<M, T>(
    shared: &Shared,
    context: &RequestContext,
    operation: Operation,
    group: &str,
    message: M,
) -> Result<T, ErrorCode>
where
    M: Message<Result = Result<T, GroupError>> + Send + 'static,
    T: Send + 'static,
    GroupCoordinator: Handler<M>,
    actix::Context<GroupCoordinator>: ToEnvelope<GroupCoordinator, M>,
{
    if !authorize(context, operation, Resource::Group(group)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let coordinator = coordinator(shared, group).await?;
    match coordinator.send(message).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(refused(group, &error)),
        Err(_) => Err(ErrorCode::CoordinatorNotAvailable),
    }
}

/// What a refusal is called. Where it is for a limit, only the log has room to say which.
fn refused(group: &str, error: &GroupError) -> ErrorCode {
    if error.is_limit() {
        tracing::warn!(%group, why = %error, "a group was refused what it asked");
    }
    error.into()
}

async fn coordinator(shared: &Shared, group: &str) -> Result<Addr<GroupCoordinator>, ErrorCode> {
    let found = shared.broker.coordinator(&GroupId::from(group)).await;
    found.map_err(|error| {
        tracing::warn!(%error, %group, "a group has no coordinator");
        ErrorCode::CoordinatorNotAvailable
    })
}

impl From<&GroupError> for ErrorCode {
    fn from(error: &GroupError) -> Self {
        ErrorCode::from_number(error.code())
    }
}

/// Generation −1 stands for none.
fn generation(number: i32) -> Option<GenerationId> {
    u32::try_from(number).ok().map(GenerationId)
}

fn number(generation: GenerationId) -> i32 {
    i32::try_from(generation.0).unwrap_or(i32::MAX)
}

/// The empty name stands for none.
fn member(id: &ByteString) -> Option<MemberId> {
    (!id.is_empty()).then(|| MemberId::from(&**id))
}

fn instance(id: Option<&ByteString>) -> Option<InstanceId> {
    id.map(|id| InstanceId::from(&**id))
}

fn text(text: &str) -> ByteString {
    ByteString::from(text)
}

fn shared_text(text: &ByteString) -> Arc<str> {
    Arc::from(&**text)
}

/// A copy that does not hold the frame: the coordinator keeps it.
fn kept(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// The partition of that name and number, where both can be.
fn partition(topic: &str, index: i32) -> Result<TopicPartition, ErrorCode> {
    let topic = topic.parse().map_err(|_| ErrorCode::InvalidTopicException)?;
    let index = u32::try_from(index).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    Ok(TopicPartition { topic, partition: PartitionId(index) })
}
