//! Groups on the wire: who may join, who is told what, and what is kept of it.

use super::*;
use crate::gateway::messages::{
    delete_groups::DeleteGroupsRequest,
    delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
    find_coordinator::FindCoordinatorRequest,
    heartbeat::HeartbeatRequest,
    join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
    leave_group::{LeaveGroupRequest, MemberIdentity},
    offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics},
    sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
};

fn joining(member_id: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::from_static(b"what I read"),
    };
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

/// Joins as a client does: again while the coordinator loads, and under the name it is given.
async fn join(client: &mut Client, request: &JoinGroupRequest) -> JoinGroupResponse {
    let mut request = request.clone();
    loop {
        let joined = client.ask(5, &request).await;
        match joined.error_code {
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable => {
                pass(Duration::from_millis(10)).await;
            }
            ErrorCode::MemberIdRequired => request.member_id = joined.member_id,
            _ => return joined,
        }
    }
}

fn syncing(joined: &JoinGroupResponse, shares: &[(&str, &'static str)]) -> SyncGroupRequest {
    let share = |(member, share): &(&str, &'static str)| SyncGroupRequestAssignment {
        member_id: (*member).into(),
        assignment: Bytes::from_static(share.as_bytes()),
    };
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: shares.iter().map(share).collect(),
        ..SyncGroupRequest::default()
    }
}

async fn beat(client: &mut Client, member_id: &str, generation_id: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        generation_id,
        member_id: member_id.into(),
        ..HeartbeatRequest::default()
    };
    client.ask(3, &request).await.error_code
}

#[test]
fn a_member_joins_is_given_its_share_and_leaves() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let found = FindCoordinatorRequest { key: "g".into(), ..FindCoordinatorRequest::default() };
        let found = client.ask(2, &found).await;
        assert_eq!((found.error_code, found.node_id), (ErrorCode::None, 1));
        assert_eq!((&*found.host, found.port), ("within", 0), "the way on which it was asked");
        let first = client.ask(5, &joining("")).await;
        assert!(matches!(
            first.error_code,
            ErrorCode::MemberIdRequired | ErrorCode::CoordinatorLoadInProgress
        ));
        let joined = join(&mut client, &joining("")).await;
        assert_eq!((joined.error_code, &joined.leader), (ErrorCode::None, &joined.member_id));
        assert_eq!(joined.members[0].metadata, "what I read");
        let share = [(&*joined.member_id, "all of it")];
        let synced = client.ask(5, &syncing(&joined, &share)).await;
        assert_eq!((synced.error_code, &*synced.assignment), (ErrorCode::None, &b"all of it"[..]));
        let (me, now) = (&joined.member_id, joined.generation_id);
        assert_eq!(beat(&mut client, me, now).await, ErrorCode::None);
        assert_eq!(beat(&mut client, me, now + 1).await, ErrorCode::IllegalGeneration);
        assert_eq!(beat(&mut client, "stranger", now).await, ErrorCode::UnknownMemberId);
        let one = |id: &str| MemberIdentity { member_id: id.into(), ..MemberIdentity::default() };
        let leave = LeaveGroupRequest {
            group_id: "g".into(),
            members: vec![one("stranger"), one(me)],
            ..LeaveGroupRequest::default()
        };
        let left = client.ask(4, &leave).await;
        let codes: Vec<_> = left.members.iter().map(|member| member.error_code).collect();
        assert_eq!(codes, [ErrorCode::UnknownMemberId, ErrorCode::None]);
        assert_eq!(beat(&mut client, me, now).await, ErrorCode::UnknownMemberId);
        let leave = LeaveGroupRequest { member_id: me.clone(), ..LeaveGroupRequest::default() };
        let leave = LeaveGroupRequest { group_id: "g".into(), ..leave };
        assert_eq!(client.ask(1, &leave).await.error_code, ErrorCode::UnknownMemberId);
    });
}

#[test]
fn what_is_kept_for_its_last_records_cannot_be_trimmed_away() {
    paused(async {
        let world = World::new().await;
        world.broker.coordinator(&"g".into()).await.unwrap();
        let mut client = world.connect().await;
        for (topic, policy, told) in [
            (broker::OFFSETS_TOPIC, None, ErrorCode::InvalidTopicException),
            ("kept", Some("compact"), ErrorCode::PolicyViolation),
            ("aged", Some("compact,delete"), ErrorCode::None),
        ] {
            if let Some(policy) = policy {
                let spec = TopicSpec::new(topic, 1).unwrap().set("cleanup.policy", policy).unwrap();
                world.broker.create_topic(spec).await.unwrap();
            }
            let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
            let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
            let request = DeleteRecordsRequest { topics, ..DeleteRecordsRequest::default() };
            let response = client.ask(2, &request).await;
            assert_eq!(response.topics[0].partitions[0].error_code, told, "{topic}");
        }
    });
}

#[test]
fn members_that_cannot_be_are_refused() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let good = joining("");
        let unknown = join(&mut client, &joining("stranger")).await;
        assert_eq!(unknown.error_code, ErrorCode::UnknownMemberId);
        let nameless = JoinGroupRequest { group_id: "".into(), ..good.clone() };
        assert_eq!(join(&mut client, &nameless).await.error_code, ErrorCode::InvalidGroupId);
        for session_timeout_ms in [0, -1, i32::MAX] {
            let hasty = JoinGroupRequest { session_timeout_ms, ..good.clone() };
            let refused = join(&mut client, &hasty).await.error_code;
            assert_eq!(refused, ErrorCode::InvalidSessionTimeout);
        }
        let mute = JoinGroupRequest { protocols: Vec::new(), ..good.clone() };
        assert_eq!(join(&mut client, &mute).await.error_code, ErrorCode::InconsistentGroupProtocol);
    });
}

/// A static member comes back without its name and finds its place; the life before it is fenced.
#[test]
fn a_static_member_takes_the_place_of_its_former_life() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let still = || JoinGroupRequest { group_instance_id: Some("first".into()), ..joining("") };
        let old = join(&mut client, &still()).await;
        assert_eq!(old.error_code, ErrorCode::None);
        let share = [(&*old.member_id, "all of it")];
        assert_eq!(client.ask(5, &syncing(&old, &share)).await.error_code, ErrorCode::None);
        let new = join(&mut client, &still()).await;
        assert_eq!((new.error_code, new.generation_id), (ErrorCode::None, old.generation_id));
        assert_ne!(new.member_id, old.member_id);
        let synced = client.ask(5, &syncing(&new, &[])).await;
        assert_eq!(&*synced.assignment, b"all of it");
        let fenced = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: old.generation_id,
            member_id: old.member_id.clone(),
            group_instance_id: Some("first".into()),
        };
        assert_eq!(client.ask(3, &fenced).await.error_code, ErrorCode::FencedInstanceId);
    });
}

fn committing(generation: i32, partition_index: i32, metadata: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 42,
        committed_metadata: Some(metadata.into()),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: generation,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

async fn commit(client: &mut Client, request: &OffsetCommitRequest) -> ErrorCode {
    loop {
        let answer = client.ask(9, request).await;
        match answer.topics[0].partitions[0].error_code {
            ErrorCode::CoordinatorLoadInProgress => {
                pass(Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
}

#[test]
fn offsets_are_kept_of_partitions_that_are_there_and_given_back() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let none = ErrorCode::None;
        assert_eq!(commit(&mut client, &committing(-1, 1, "note")).await, none);
        let unknown = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(commit(&mut client, &committing(-1, 9, "")).await, unknown);
        let stray = commit(&mut client, &committing(3, 1, "")).await;
        assert_eq!(stray, ErrorCode::UnknownMemberId);
        let long = "x".repeat(5_000);
        let refused = commit(&mut client, &committing(-1, 1, &long)).await;
        assert_eq!(refused, ErrorCode::OffsetMetadataTooLarge);
        let topic = OffsetFetchRequestTopics {
            name: "t".into(),
            partition_indexes: vec![0, 1, 9],
            ..OffsetFetchRequestTopics::default()
        };
        let group = |topics| OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics,
            ..OffsetFetchRequestGroup::default()
        };
        let groups = vec![group(Some(vec![topic])), group(None)];
        let request =
            OffsetFetchRequest { groups, require_stable: true, ..OffsetFetchRequest::default() };
        let found = client.ask(8, &request).await;
        let offsets: Vec<Vec<_>> = found
            .groups
            .iter()
            .map(|group| {
                assert_eq!(group.error_code, ErrorCode::None);
                let parts = group.topics[0].partitions.iter();
                parts.map(|part| (part.partition_index, part.committed_offset)).collect()
            })
            .collect();
        assert_eq!(offsets, [vec![(0, -1), (1, 42), (9, -1)], vec![(1, 42)]]);
        let part = &found.groups[1].topics[0].partitions[0];
        assert_eq!(part.metadata.as_deref(), Some("note"));
    });
}

/// While a coordinator is made anew, a client is told to ask again, and then it has kept everything.
#[test]
fn groups_are_deleted_in_every_version_those_that_are_there_and_have_no_members() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let request = DeleteGroupsRequest { groups_names: vec!["g".into(), "stranger".into()] };
        let unknown = ErrorCode::GroupIdNotFound;
        for version in 0..=3 {
            let joined = join(&mut client, &joining("")).await;
            for first in [ErrorCode::NonEmptyGroup, ErrorCode::None, unknown] {
                let results = client.ask(version, &request).await.results;
                let told: Vec<_> =
                    results.iter().map(|one| (&*one.group_id, one.error_code)).collect();
                assert_eq!(told, [("g", first), ("stranger", unknown)], "version {version}");
                assert!(results.iter().all(|one| one.error_message.is_none()));
                let leave = LeaveGroupRequest {
                    group_id: "g".into(),
                    member_id: joined.member_id.clone(),
                    ..LeaveGroupRequest::default()
                };
                client.ask(1, &leave).await;
            }
        }
    });
}

#[test]
fn a_coordinator_that_is_made_anew_is_a_passing_error() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        assert_eq!(commit(&mut client, &committing(-1, 1, "")).await, ErrorCode::None);
        for number in 0..3 {
            world.root.inject_panic(&format!("coordinator/{number}")).await.unwrap();
        }
        let request = OffsetFetchRequest { group_id: "g".into(), ..OffsetFetchRequest::default() };
        for _ in 0..1_000 {
            let found = client.ask(7, &request).await;
            match found.error_code {
                ErrorCode::None => {
                    return assert_eq!(found.topics[0].partitions[0].committed_offset, 42);
                }
                ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator => {}
                other => panic!("{other:?} is not passing"),
            }
            pass(Duration::from_millis(10)).await;
        }
        panic!("it never comes back");
    });
}

/// What could never be written into the group's record is not taken up and kept meanwhile.
#[test]
fn a_member_that_says_too_much_of_itself_is_refused() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let mut loud = joining("");
        loud.protocols[0].metadata = vec![0; 1_100_000].into();
        assert_eq!(join(&mut client, &loud).await.error_code, ErrorCode::UnknownServerError);
    });
}

/// What waits for the other members, for minutes perhaps, is with the group.
#[test]
fn who_waits_for_others_of_its_group_holds_no_room() {
    paused(async {
        let world = World::with_topic().await;
        let (mut first, mut second) = (world.connect().await, world.connect().await);
        let joined = join(&mut first, &joining("")).await;
        let given = second.ask(5, &joining("")).await;
        assert_eq!(given.error_code, ErrorCode::MemberIdRequired);
        let parked = second.send(5, &joining(&given.member_id)).await;
        pass(Duration::from_secs(1)).await;
        assert_eq!(world.shared.request_room.out(), (0, 0));
        let again = join(&mut first, &joining(&joined.member_id)).await;
        let other = second.receive::<JoinGroupRequest>(&parked).await;
        assert_eq!((other.error_code, other.generation_id), (ErrorCode::None, again.generation_id));
        let parked = second.send(5, &syncing(&other, &[])).await;
        pass(Duration::from_secs(1)).await;
        assert_eq!(world.shared.request_room.out(), (0, 0));
        let shares = [(&*other.member_id, "a share")];
        first.ask(5, &syncing(&again, &shares)).await;
        let synced = second.receive::<SyncGroupRequest>(&parked).await;
        assert_eq!(&*synced.assignment, b"a share");
    });
}
