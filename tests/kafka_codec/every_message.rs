//! All messages of the codec, for what is to be done with each.

/// Calls a macro with every message: the module that it stands in, and its name.
macro_rules! every_message {
    ($call:ident) => {
        $call! {
            alter_configs AlterConfigsRequest AlterConfigsResponse,
            api_versions ApiVersionsRequest ApiVersionsResponse,
            create_partitions CreatePartitionsRequest CreatePartitionsResponse,
            create_topics CreateTopicsRequest CreateTopicsResponse,
            delete_groups DeleteGroupsRequest DeleteGroupsResponse,
            delete_records DeleteRecordsRequest DeleteRecordsResponse,
            delete_topics DeleteTopicsRequest DeleteTopicsResponse,
            describe_cluster DescribeClusterRequest DescribeClusterResponse,
            describe_configs DescribeConfigsRequest DescribeConfigsResponse,
            describe_groups DescribeGroupsRequest DescribeGroupsResponse,
            describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse,
            describe_producers DescribeProducersRequest DescribeProducersResponse,
            describe_topic_partitions
                DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
            fetch FetchRequest FetchResponse,
            find_coordinator FindCoordinatorRequest FindCoordinatorResponse,
            heartbeat HeartbeatRequest HeartbeatResponse,
            incremental_alter_configs
                IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
            init_producer_id InitProducerIdRequest InitProducerIdResponse,
            join_group JoinGroupRequest JoinGroupResponse,
            leave_group LeaveGroupRequest LeaveGroupResponse,
            list_config_resources ListConfigResourcesRequest ListConfigResourcesResponse,
            list_groups ListGroupsRequest ListGroupsResponse,
            list_offsets ListOffsetsRequest ListOffsetsResponse,
            metadata MetadataRequest MetadataResponse,
            offset_commit OffsetCommitRequest OffsetCommitResponse,
            offset_delete OffsetDeleteRequest OffsetDeleteResponse,
            offset_fetch OffsetFetchRequest OffsetFetchResponse,
            offset_for_leader_epoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
            produce ProduceRequest ProduceResponse,
            sync_group SyncGroupRequest SyncGroupResponse,
        }
    };
}
