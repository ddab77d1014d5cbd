//! Every API in every version: whatever is asked, the answer can be said in the version of the
//! question.

use super::*;
use crate::gateway::{
    api::ApiKey,
    codec::sample::Sample,
    messages::{
        api_versions::{ApiVersionsRequest, ApiVersionsResponse},
        join_group::JoinGroupRequest,
        metadata::MetadataRequest,
    },
};

/// How many requests of each version are drawn.
const DRAWS: u64 = 12;

macro_rules! every_api {
    ($($module:ident $request:ident),* $(,)?) => {
        /// Asks drawn and empty requests of every version; the versions that were asked.
        async fn ask_all(world: &World) -> Vec<(ApiKey, i16)> {
            let mut asked = Vec::new();
            $(asked.extend(ask_api::<crate::gateway::messages::$module::$request>(world).await);)*
            asked
        }
    };
}

every_api! {
    alter_configs AlterConfigsRequest,
    api_versions ApiVersionsRequest,
    create_partitions CreatePartitionsRequest,
    create_topics CreateTopicsRequest,
    delete_groups DeleteGroupsRequest,
    delete_records DeleteRecordsRequest,
    delete_topics DeleteTopicsRequest,
    describe_cluster DescribeClusterRequest,
    describe_configs DescribeConfigsRequest,
    describe_groups DescribeGroupsRequest,
    describe_log_dirs DescribeLogDirsRequest,
    describe_producers DescribeProducersRequest,
    describe_topic_partitions DescribeTopicPartitionsRequest,
    fetch FetchRequest,
    find_coordinator FindCoordinatorRequest,
    heartbeat HeartbeatRequest,
    incremental_alter_configs IncrementalAlterConfigsRequest,
    init_producer_id InitProducerIdRequest,
    join_group JoinGroupRequest,
    leave_group LeaveGroupRequest,
    list_config_resources ListConfigResourcesRequest,
    list_groups ListGroupsRequest,
    list_offsets ListOffsetsRequest,
    metadata MetadataRequest,
    offset_commit OffsetCommitRequest,
    offset_delete OffsetDeleteRequest,
    offset_fetch OffsetFetchRequest,
    offset_for_leader_epoch OffsetForLeaderEpochRequest,
    produce ProduceRequest,
    sync_group SyncGroupRequest,
}

async fn ask_api<R>(world: &World) -> Vec<(ApiKey, i16)>
where
    R: Request + Sample + Default + std::fmt::Debug + 'static,
{
    let known = R::API.versions().unwrap();
    let versions = known.advertised_first.max(known.first)..=known.advertised_last;
    for number in versions.clone() {
        let version = R::API.version(number).unwrap();
        let mut client = world.connect().await;
        let mut rng = Rng::seeded(number as u64).split(&R::API.to_string());
        for draw in 0..=DRAWS {
            // The default, where the version can say it.
            let default = Some(R::default()).filter(|r| draw == 0 && can_be_said(number, r));
            let mut request = default.unwrap_or_else(|| R::sample(&mut rng, version));
            tame(&mut request);
            let header = client.send(number, &request).await;
            let frame = client.frame().await;
            let frame = frame.unwrap_or_else(|| panic!("no answer to {:?} {request:?}", R::API));
            let answer = header.response::<R::Response>(frame);
            answer.unwrap_or_else(|error| panic!("{error}: {request:?}"));
        }
    }
    versions.map(|version| (R::API, version)).collect()
}

fn can_be_said<R: Request>(version: i16, request: &R) -> bool {
    let header = RequestHeader::new::<R>(version, 0, None).unwrap();
    header.request(request, &mut Output::new()).is_ok()
}

/// No acks, no answer; and nobody waits for weeks.
fn tame<R: 'static>(request: &mut R) {
    let request: &mut dyn std::any::Any = request;
    if let Some(produce) = request.downcast_mut::<ProduceRequest>() {
        produce.acks = 1;
    }
    if let Some(fetch) = request.downcast_mut::<FetchRequest>() {
        fetch.max_wait_ms = 100;
    }
    if let Some(join) = request.downcast_mut::<JoinGroupRequest>() {
        (join.session_timeout_ms, join.rebalance_timeout_ms) = (6_000, 6_000);
    }
}

#[test]
fn every_answer_can_be_said_in_the_version_of_its_question() {
    paused(async {
        let world = World::with_topic().await;
        let asked = ask_all(&world).await;
        let wanted = ApiKey::advertised().flat_map(|(api, versions)| {
            versions.filter(move |version| api.serves(*version)).map(move |version| (api, version))
        });
        let (asked, wanted): (std::collections::BTreeSet<_>, _) =
            (asked.into_iter().collect(), wanted.collect());
        assert_eq!(asked, wanted);
    });
}

#[test]
fn topics_asked_for_by_id_are_answered_in_every_version() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let mut request =
            MetadataRequest { topics: Some(vec![Default::default()]), ..Default::default() };
        for version in 10..=13 {
            for known in [false, true] {
                let id = world.broker.topics()[&"t".parse().unwrap()].id;
                let topic_id = if known { id } else { Uuid::from_u128(77) };
                request.topics.as_mut().unwrap()[0].topic_id = topic_id;
                let topic = client.ask(version, &request).await.topics.remove(0);
                // Before version 12 an answer without a name cannot be said.
                let error = match (version < 12, known) {
                    (true, _) => ErrorCode::InvalidRequest,
                    (false, false) => ErrorCode::UnknownTopicId,
                    (false, true) => ErrorCode::None,
                };
                assert_eq!((topic.error_code, topic.topic_id), (error, topic_id));
            }
        }
    });
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    paused(async {
        let world = World::new().await;
        let mut client = world.connect().await;
        let mut frame = vec![0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 5, 255, 255];
        client.stream.write_all(&frame).await.unwrap();
        let header = RequestHeader::new::<ApiVersionsRequest>(0, 5, None).unwrap();
        let answer = client.frame().await.unwrap();
        let (number, answer) = header.response::<ApiVersionsResponse>(answer).unwrap();
        assert_eq!((number, answer.error_code), (5, ErrorCode::UnsupportedVersion));
        let range =
            answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version));
        assert_eq!(range.collect::<Vec<_>>(), [(18, 0, 4)]);
        // The connection goes on: the client asks again.
        let answer = client.ask(3, &ApiVersionsRequest::default()).await;
        assert_eq!(answer.api_keys.len(), ApiKey::advertised().count());
        // Of any other API, the connection ends.
        frame[5] = 3;
        client.stream.write_all(&frame).await.unwrap();
        assert!(client.is_closed().await);
    });
}
