//! Versions that the other codec lacks, byte by byte.
//!
//! The bytes are put together by hand from Kafka's description of each version: field by field, a
//! comment for each. They judge the shape that we gave a version, not what we think of it.

use bytes::Bytes;
use flumen_actors::gateway::{
    api::ApiKey,
    error_code::ErrorCode,
    messages::{
        api_versions::{ApiVersionsRequest, ApiVersionsResponse},
        delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse},
        describe_log_dirs::{
            DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResponse,
            DescribeLogDirsResult,
        },
        list_offsets::{
            ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
            ListOffsetsResponse, ListOffsetsTopic, ListOffsetsTopicResponse,
        },
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
            OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
        },
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
            OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopics,
        },
    },
};
use uuid::Uuid;

use crate::Tested;

/// What stands here.
pub(crate) const COVERED: [(ApiKey, i16); 6] = [
    (ApiKey::ListOffsets, 11),
    (ApiKey::OffsetCommit, 10),
    (ApiKey::OffsetFetch, 10),
    (ApiKey::ApiVersions, 5),
    (ApiKey::DescribeLogDirs, 5),
    (ApiKey::DeleteGroups, 3),
];

const ID: Uuid = Uuid::from_bytes(*b"sixteen bytes id");

#[track_caller]
fn assert_bytes<M: Tested>(message: M, version: i16, parts: &[&[u8]]) {
    let bytes = Bytes::from(parts.concat());
    assert_eq!(message.body(version), bytes, "what we write");
    assert_eq!(M::read(bytes, version).unwrap(), (message, 0), "what we read");
}

#[test]
fn api_versions_5_names_whom_the_client_believes_it_speaks_with() {
    let request = ApiVersionsRequest {
        client_software_name: "a".into(),
        client_software_version: "1".into(),
        cluster_id: Some("c".into()),
        node_id: 3,
    };
    assert_bytes(request, 5, &[b"\x02a", b"\x021", b"\x02c", b"\0\0\0\x03", b"\0"]);
    let anybody = ApiVersionsRequest::default();
    assert_bytes(anybody, 5, &[b"\x01", b"\x01", b"\0", b"\xff\xff\xff\xff", b"\0"]);
    let response = ApiVersionsResponse {
        error_code: ErrorCode::RebootstrapRequired,
        ..ApiVersionsResponse::default()
    };
    // Error 129, no APIs, throttle time, no tagged fields.
    assert_bytes(response, 5, &[b"\0\x81", b"\x01", b"\0\0\0\0", b"\0"]);
}

#[test]
fn list_offsets_11_has_the_shape_of_10() {
    let partition =
        ListOffsetsPartition { partition_index: 1, current_leader_epoch: 2, timestamp: -6 };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![ListOffsetsTopic { name: "t".into(), partitions: vec![partition] }],
        timeout_ms: 500,
    };
    let parts: &[&[u8]] = &[
        b"\xff\xff\xff\xff",                 // replica
        b"\x01",                             // isolation
        b"\x02\x02t",                        // one topic, its name
        b"\x02\0\0\0\x01",                   // one partition, its number
        b"\0\0\0\x02",                       // leader's epoch
        b"\xff\xff\xff\xff\xff\xff\xff\xfa", // timestamp
        b"\0\0",                             // tagged fields of partition and topic
        b"\0\0\x01\xf4",                     // timeout
        b"\0",
    ];
    assert_bytes(request, 11, parts);
    let partition = ListOffsetsPartitionResponse {
        partition_index: 1,
        offset: 9,
        leader_epoch: 2,
        ..ListOffsetsPartitionResponse::default()
    };
    let topic = ListOffsetsTopicResponse { name: "t".into(), partitions: vec![partition] };
    let response = ListOffsetsResponse { throttle_time_ms: 0, topics: vec![topic] };
    let parts: &[&[u8]] = &[
        b"\0\0\0\0",                         // throttle time
        b"\x02\x02t",                        // one topic, its name
        b"\x02\0\0\0\x01",                   // one partition, its number
        b"\0\0",                             // error
        b"\xff\xff\xff\xff\xff\xff\xff\xff", // timestamp
        b"\0\0\0\0\0\0\0\x09",               // offset
        b"\0\0\0\x02",                       // leader's epoch
        b"\0\0\0",                           // tagged fields
    ];
    assert_bytes(response, 11, parts);
}

#[test]
fn offset_commit_10_names_topics_by_id() {
    let partition = OffsetCommitRequestPartition {
        partition_index: 1,
        committed_offset: 2,
        committed_leader_epoch: 3,
        committed_metadata: None,
    };
    let topic = OffsetCommitRequestTopic {
        topic_id: ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: 4,
        member_id: "m".into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    let parts: &[&[u8]] = &[
        b"\x02g",                // group
        b"\0\0\0\x04",           // generation
        b"\x02m",                // member
        b"\0",                   // no instance
        b"\x02sixteen bytes id", // one topic, its id
        b"\x02\0\0\0\x01",       // one partition, its number
        b"\0\0\0\0\0\0\0\x02",   // offset
        b"\0\0\0\x03",           // leader's epoch
        b"\0",                   // no metadata
        b"\0\0\0",               // tagged fields
    ];
    assert_bytes(request, 10, parts);
    let partition =
        OffsetCommitResponsePartition { partition_index: 1, error_code: ErrorCode::UnknownTopicId };
    let topic = OffsetCommitResponseTopic {
        topic_id: ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let response = OffsetCommitResponse { throttle_time_ms: 0, topics: vec![topic] };
    let parts: &[&[u8]] = &[
        b"\0\0\0\0",             // throttle time
        b"\x02sixteen bytes id", // one topic, its id
        b"\x02\0\0\0\x01",       // one partition, its number
        b"\0\x64",               // error
        b"\0\0\0",               // tagged fields
    ];
    assert_bytes(response, 10, parts);
}

#[test]
fn offset_fetch_10_names_topics_by_id() {
    let topic =
        OffsetFetchRequestTopics { topic_id: ID, partition_indexes: vec![5], ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        topics: Some(vec![topic]),
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest {
        topics: None,
        groups: vec![group],
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let parts: &[&[u8]] = &[
        b"\x02\x02g",            // one group, its id
        b"\0",                   // no member
        b"\xff\xff\xff\xff",     // nor its epoch
        b"\x02sixteen bytes id", // one topic, its id
        b"\x02\0\0\0\x05",       // one partition
        b"\0\0",                 // tagged fields of topic and group
        b"\x01",                 // stable
        b"\0",
    ];
    assert_bytes(request, 10, parts);
    let partition = OffsetFetchResponsePartitions {
        partition_index: 5,
        committed_offset: 6,
        metadata: Some("".into()),
        ..OffsetFetchResponsePartitions::default()
    };
    let topic = OffsetFetchResponseTopics {
        topic_id: ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let group = OffsetFetchResponseGroup {
        group_id: "g".into(),
        topics: vec![topic],
        error_code: ErrorCode::None,
    };
    let response = OffsetFetchResponse { groups: vec![group], ..OffsetFetchResponse::default() };
    let parts: &[&[u8]] = &[
        b"\0\0\0\0",             // throttle time
        b"\x02\x02g",            // one group, its id
        b"\x02sixteen bytes id", // one topic, its id
        b"\x02\0\0\0\x05",       // one partition, its number
        b"\0\0\0\0\0\0\0\x06",   // offset
        b"\xff\xff\xff\xff",     // leader's epoch
        b"\x01",                 // metadata
        b"\0\0",                 // error
        b"\0\0",                 // tagged fields of partition and topic
        b"\0\0",                 // error of the group
        b"\0\0",                 // tagged fields
    ];
    assert_bytes(response, 10, parts);
}

#[test]
fn describe_log_dirs_5_tells_what_is_cordoned() {
    let topic = DescribableLogDirTopic { topic: "t".into(), partitions: vec![1] };
    let request = DescribeLogDirsRequest { topics: Some(vec![topic]) };
    assert_bytes(request, 5, &[b"\x02\x02t", b"\x02\0\0\0\x01", b"\0\0"]);
    let result = DescribeLogDirsResult {
        log_dir: "/d".into(),
        total_bytes: 7,
        usable_bytes: 6,
        is_cordoned: true,
        ..DescribeLogDirsResult::default()
    };
    let response = DescribeLogDirsResponse { results: vec![result], ..Default::default() };
    let parts: &[&[u8]] = &[
        b"\0\0\0\0",           // throttle time
        b"\0\0",               // error
        b"\x02\0\0\x03/d",     // one directory, its error and path
        b"\x01",               // no topics
        b"\0\0\0\0\0\0\0\x07", // total
        b"\0\0\0\0\0\0\0\x06", // usable
        b"\x01",               // cordoned
        b"\0\0",               // tagged fields
    ];
    assert_bytes(response, 5, parts);
}

#[test]
fn delete_groups_3_says_what_went_wrong() {
    let request = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    assert_bytes(request, 3, &[b"\x02\x02g", b"\0"]);
    let result = DeletableGroupResult {
        group_id: "g".into(),
        error_code: ErrorCode::NonEmptyGroup,
        error_message: Some("no".into()),
    };
    let response = DeleteGroupsResponse { throttle_time_ms: 0, results: vec![result] };
    let parts: &[&[u8]] = &[
        b"\0\0\0\0",  // throttle time
        b"\x02\x02g", // one group
        b"\0\x44",    // error
        b"\x03no",    // what went wrong
        b"\0\0",      // tagged fields
    ];
    assert_bytes(response, 3, parts);
}
