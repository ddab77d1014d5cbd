//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: who is a member, and of which generation.

use std::sync::Arc;

use bytestring::ByteString;

use super::{ask, generation, instance, kept, member, number, shared_text, text};
use crate::{
    broker::group_coordinator::{
        ids::{GroupId, MemberId},
        messages::{
            Heartbeat, JoinGroup, JoinedGroup, LeaveGroup, LeavingMember, Protocol, SyncGroup,
        },
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        messages::{
            heartbeat::{HeartbeatRequest, HeartbeatResponse},
            join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember},
            leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse},
            sync_group::{SyncGroupRequest, SyncGroupResponse},
        },
    },
};

/// First version of JoinGroup in which a new member is first only given its name (KIP-394).
const KNOWN_ID_FIRST: i16 = 4;
/// First version of JoinGroup in which a leader can be told not to assign (KIP-814).
const SKIP_ASSIGNMENT_FIRST: i16 = 9;
/// First version of LeaveGroup that names several members, each with an error of its own.
const LEAVE_BATCH_FIRST: i16 = 3;

pub(in crate::gateway) async fn join(
    shared: Arc<Shared>,
    context: RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let group = text(&request.group_id);
    let sent = joining(&context, &request);
    // What the answer names where there is no membership: what the request brought.
    let member_id = text(&request.member_id);
    let is_static = request.group_instance_id.is_some();
    drop(request);
    let refused = |error_code, member_id| JoinGroupResponse {
        throttle_time_ms: context.throttle_time_ms(),
        error_code,
        member_id,
        protocol_name: (context.version < 7).then(ByteString::new),
        ..JoinGroupResponse::default()
    };
    if !authorize(&context, Operation::Read, Resource::Group(&group)) {
        return refused(ErrorCode::GroupAuthorizationFailed, member_id);
    }
    let Some(sent) = sent else { return refused(ErrorCode::InvalidSessionTimeout, member_id) };
    let coordinator = match super::coordinator(&shared, &group).await {
        Ok(coordinator) => coordinator,
        Err(error) => return refused(error, member_id),
    };
    use crate::broker::group_coordinator::error::GroupError;
    match coordinator.send(sent).await {
        Ok(Ok(joined)) => joined_response(&context, joined),
        Ok(Err(GroupError::MemberIdRequired(given))) if !is_static => {
            refused(ErrorCode::MemberIdRequired, text(given.as_str()))
        }
        Ok(Err(error)) => refused(super::refused(&group, &error), member_id),
        Err(_) => refused(ErrorCode::CoordinatorNotAvailable, member_id),
    }
}

fn joining(context: &RequestContext, request: &JoinGroupRequest) -> Option<JoinGroup> {
    let session_timeout_ms = u32::try_from(request.session_timeout_ms).ok()?;
    // Version 0 has one timeout for both.
    let rebalance_timeout_ms =
        u32::try_from(request.rebalance_timeout_ms).unwrap_or(session_timeout_ms);
    let protocols = request.protocols.iter().map(|protocol| Protocol {
        name: shared_text(&protocol.name),
        metadata: kept(&protocol.metadata),
    });
    Some(JoinGroup {
        group: GroupId::from(&*request.group_id),
        member_id: member(&request.member_id),
        instance_id: instance(request.group_instance_id.as_ref()),
        client_id: context.client_name(),
        client_host: context.client_host(),
        session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: shared_text(&request.protocol_type),
        protocols: protocols.collect(),
        needs_known_id: context.version >= KNOWN_ID_FIRST,
        can_skip_assignment: context.version >= SKIP_ASSIGNMENT_FIRST,
    })
}

fn joined_response(context: &RequestContext, joined: JoinedGroup) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: text(member.member_id.as_str()),
        group_instance_id: member.instance_id.map(|id| text(id.as_str())),
        metadata: member.metadata,
    });
    JoinGroupResponse {
        throttle_time_ms: context.throttle_time_ms(),
        error_code: ErrorCode::None,
        generation_id: number(joined.generation),
        protocol_type: Some(text(&joined.protocol_type)),
        protocol_name: Some(text(&joined.protocol)),
        leader: text(joined.leader.as_str()),
        skip_assignment: joined.is_assignment_skipped,
        member_id: text(joined.member_id.as_str()),
        members: members.collect(),
    }
}

pub(in crate::gateway) async fn sync(
    shared: Arc<Shared>,
    context: RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let assignments = request
        .assignments
        .iter()
        .map(|assignment| (MemberId::from(&*assignment.member_id), kept(&assignment.assignment)));
    let sync = SyncGroup {
        group: GroupId::from(&*request.group_id),
        generation: generation(request.generation_id),
        member_id: MemberId::from(&*request.member_id),
        instance_id: instance(request.group_instance_id.as_ref()),
        protocol_type: request.protocol_type.as_ref().map(shared_text),
        protocol: request.protocol_name.as_ref().map(shared_text),
        assignments: assignments.collect(),
    };
    let throttle_time_ms = context.throttle_time_ms();
    // What is parked holds nothing of the request.
    let group = text(&request.group_id);
    drop(request);
    match ask(&shared, &context, Operation::Read, &group, sync).await {
        Ok(synced) => SyncGroupResponse {
            throttle_time_ms,
            error_code: ErrorCode::None,
            protocol_type: Some(text(&synced.protocol_type)),
            protocol_name: Some(text(&synced.protocol)),
            assignment: synced.assignment,
        },
        Err(error_code) => {
            SyncGroupResponse { throttle_time_ms, error_code, ..SyncGroupResponse::default() }
        }
    }
}

pub(in crate::gateway) async fn heartbeat(
    shared: Arc<Shared>,
    context: RequestContext,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let heartbeat = Heartbeat {
        group: GroupId::from(&*request.group_id),
        generation: generation(request.generation_id),
        member_id: MemberId::from(&*request.member_id),
        instance_id: instance(request.group_instance_id.as_ref()),
    };
    let alive = ask(&shared, &context, Operation::Read, &request.group_id, heartbeat).await;
    HeartbeatResponse {
        throttle_time_ms: context.throttle_time_ms(),
        error_code: alive.err().unwrap_or(ErrorCode::None),
    }
}

pub(in crate::gateway) async fn leave(
    shared: Arc<Shared>,
    context: RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let is_batch = context.version >= LEAVE_BATCH_FIRST;
    let one =
        || MemberIdentity { member_id: request.member_id.clone(), ..MemberIdentity::default() };
    let leaving = if is_batch { request.members } else { vec![one()] };
    let members = leaving.iter().map(|identity| LeavingMember {
        member_id: member(&identity.member_id),
        instance_id: instance(identity.group_instance_id.as_ref()),
    });
    let leave = LeaveGroup { group: GroupId::from(&*request.group_id), members: members.collect() };
    let left = ask(&shared, &context, Operation::Read, &request.group_id, leave).await;
    let mut response = LeaveGroupResponse {
        throttle_time_ms: context.throttle_time_ms(),
        ..LeaveGroupResponse::default()
    };
    let outcomes = match left {
        Ok(left) => left.members,
        // Of a group that is not there, nobody was a member.
        Err(ErrorCode::UnknownMemberId) if is_batch => {
            let unknown = |identity: MemberIdentity| MemberResponse {
                member_id: identity.member_id,
                group_instance_id: identity.group_instance_id,
                error_code: ErrorCode::UnknownMemberId,
            };
            response.members = leaving.into_iter().map(unknown).collect();
            return response;
        }
        Err(error) => {
            response.error_code = error;
            return response;
        }
    };
    let codes = outcomes.iter().map(|(_, left)| match left {
        Ok(()) => ErrorCode::None,
        Err(error) => error.into(),
    });
    if is_batch {
        let members = leaving.iter().zip(codes).map(|(identity, error_code)| MemberResponse {
            member_id: identity.member_id.clone(),
            group_instance_id: identity.group_instance_id.clone(),
            error_code,
        });
        response.members = members.collect();
    } else {
        response.error_code = codes.into_iter().next().unwrap_or(ErrorCode::None);
    }
    response
}
