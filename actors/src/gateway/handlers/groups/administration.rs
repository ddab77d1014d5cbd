//! DescribeGroups, ListGroups, DeleteGroups: groups as their administrators see them.

use std::sync::Arc;

use bytestring::ByteString;

use super::{ask, text};
use crate::{
    broker::group_coordinator::{
        ids::GroupId,
        messages::{self, DeleteGroup, DescribeGroup, GroupState},
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        large::Allowance,
        messages::{
            delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse},
            describe_groups::{
                DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
            },
            list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup},
        },
    },
};

/// The type of all groups there are (KIP-848 has others).
const CLASSIC: &str = "classic";
/// First version of DescribeGroups that tells a missing group from a dead one (KIP-1043), and has room for
/// a sentence.
const NOT_FOUND_FIRST: i16 = 6;

pub(in crate::gateway) async fn describe(
    shared: Arc<Shared>,
    context: RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    context.turn.begin(&shared.turns.gathered).await;
    let mut allowance = Allowance::default();
    let mut groups = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        if !allowance.is_left() {
            groups.push(left_out(&context, group_id));
            continue;
        }
        let describe = DescribeGroup { group: GroupId::from(&*group_id) };
        let found = ask(&shared, &context, Operation::Describe, &group_id, describe).await;
        groups.push(match found {
            Ok(group) => {
                let group = described(group_id, group);
                allowance.spend(group.members.iter().map(bytes).sum());
                group
            }
            Err(ErrorCode::GroupIdNotFound) => missing(&context, group_id),
            Err(error_code) => DescribedGroup { error_code, group_id, ..DescribedGroup::default() },
        });
    }
    DescribeGroupsResponse { throttle_time_ms: context.throttle_time_ms(), groups }
}

/// One that there is no more room for: clients take it for one that is to be asked for again.
fn left_out(context: &RequestContext, group_id: ByteString) -> DescribedGroup {
    let has_message = context.version >= NOT_FOUND_FIRST;
    DescribedGroup {
        error_code: ErrorCode::CoordinatorLoadInProgress,
        error_message: has_message.then(|| Allowance::OVER.into()),
        group_id,
        ..DescribedGroup::default()
    }
}

/// About what a member takes in an answer.
fn bytes(member: &DescribedGroupMember) -> usize {
    let texts = member.member_id.len() + member.client_id.len() + member.client_host.len();
    let slices = member.member_metadata.len() + member.member_assignment.len();
    size_of::<DescribedGroupMember>() + texts + slices
}

/// A group that there is not: dead, and from version 6 on also an error.
fn missing(context: &RequestContext, group_id: ByteString) -> DescribedGroup {
    let is_error = context.version >= NOT_FOUND_FIRST;
    DescribedGroup {
        error_code: if is_error { ErrorCode::GroupIdNotFound } else { ErrorCode::None },
        error_message: is_error.then(|| format!("there is no group `{group_id}`").into()),
        group_id,
        group_state: text(GroupState::Dead.as_str()),
        ..DescribedGroup::default()
    }
}

fn described(group_id: ByteString, group: messages::DescribedGroup) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| DescribedGroupMember {
        member_id: text(member.member_id.as_str()),
        group_instance_id: member.instance_id.map(|id| text(id.as_str())),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    DescribedGroup {
        group_id,
        group_state: text(group.state.as_str()),
        protocol_type: text(&group.protocol_type),
        protocol_data: text(&group.protocol),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

pub(in crate::gateway) async fn list(
    shared: Arc<Shared>,
    context: RequestContext,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let mut response = ListGroupsResponse {
        throttle_time_ms: context.throttle_time_ms(),
        ..ListGroupsResponse::default()
    };
    let types = &request.types_filter;
    if !types.is_empty() && !types.iter().any(|kind| kind.eq_ignore_ascii_case(CLASSIC)) {
        return response;
    }
    let states = states(&request.states_filter);
    if states.is_empty() && !request.states_filter.is_empty() {
        return response;
    }
    context.turn.begin(&shared.turns.gathered).await;
    for coordinator in shared.broker.coordinators() {
        match coordinator.send(messages::ListGroups { states: states.clone() }).await {
            Ok(Ok(groups)) => {
                let seen = groups.into_iter().filter(|group| {
                    authorize(&context, Operation::Describe, Resource::Group(group.group.as_str()))
                });
                response.groups.extend(seen.map(|group| ListedGroup {
                    group_id: text(group.group.as_str()),
                    protocol_type: text(&group.protocol_type),
                    group_state: text(group.state.as_str()),
                    group_type: text(CLASSIC),
                }));
            }
            Ok(Err(error)) => response.error_code = (&error).into(),
            Err(_) => response.error_code = ErrorCode::CoordinatorNotAvailable,
        }
    }
    response
}

/// The states of those names, in any spelling of case.
fn states(names: &[ByteString]) -> Vec<GroupState> {
    const ALL: [GroupState; 5] = [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
        GroupState::Dead,
    ];
    let is_named =
        |state: &GroupState| names.iter().any(|name| name.eq_ignore_ascii_case(state.as_str()));
    ALL.into_iter().filter(is_named).collect()
}

pub(in crate::gateway) async fn delete(
    shared: Arc<Shared>,
    context: RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let delete = DeleteGroup { group: GroupId::from(&*group_id) };
        let deleted = ask(&shared, &context, Operation::Delete, &group_id, delete).await;
        let error_code = deleted.err().unwrap_or(ErrorCode::None);
        results.push(DeletableGroupResult {
            group_id,
            error_code,
            ..DeletableGroupResult::default()
        });
    }
    DeleteGroupsResponse { throttle_time_ms: context.throttle_time_ms(), results }
}
