//! Groups: who is in them, and how far they have come.

use std::{collections::BTreeMap, time::Duration};

use flumen_actors::{
    broker::{
        group_coordinator::{
            ids::{GenerationId, MemberId},
            protocol::{Assignment, CONSUMER_PROTOCOL_TYPE},
        },
        names::TopicPartition,
    },
    gateway::{
        codec::Request,
        error_code::ErrorCode,
        messages::{
            delete_groups::DeleteGroupsRequest,
            describe_groups::{DescribeGroupsRequest, DescribedGroup},
            find_coordinator::FindCoordinatorRequest,
            list_groups::ListGroupsRequest,
            offset_commit::{
                OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
            },
            offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup},
        },
    },
};
use serde::Serialize;

use super::{Client, ClientError, Patience, check, is_passing};

/// How far a group has come: the next offset of each partition, by topic and number.
pub type Committed = BTreeMap<(String, i32), i64>;

/// A group, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ListedGroup {
    /// Its id.
    pub group: String,
    /// Its state.
    pub state: String,
    /// What kind of group it is; empty for one that only keeps offsets.
    pub protocol: String,
}

/// A group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its state.
    pub state: String,
    /// How its partitions are assigned.
    pub assignor: String,
    /// The node in charge of it.
    pub coordinator: i32,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// What its client calls itself.
    pub client: String,
    /// Where it is.
    pub host: String,
    /// What it reads.
    pub partitions: Vec<TopicPartition>,
}

impl Client {
    /// The node in charge of a group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn coordinator(&mut self, group: &str) -> Result<i32, ClientError> {
        let patience = Patience::default();
        loop {
            let request = FindCoordinatorRequest {
                coordinator_keys: vec![group.into()],
                ..FindCoordinatorRequest::default()
            };
            let told = self.ask(&request).await?;
            let found = told.coordinators.into_iter().next().unwrap_or_default();
            let what = || format!("the coordinator of group `{group}`");
            match check(found.error_code, found.error_message.as_deref(), what) {
                Ok(()) => return Ok(found.node_id),
                Err(error) => patience.with(error).await?,
            }
        }
    }

    /// Asks the node in charge of a group until it is ready; `error` finds in an answer what is wrong.
    async fn ask_coordinator<R: Request>(
        &mut self,
        group: &str,
        request: &R,
        error: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ClientError> {
        let patience = Patience::default();
        loop {
            let node = self.coordinator(group).await?;
            let told = self.ask_node(node, request, Duration::ZERO).await?;
            let code = error(&told);
            if !is_passing(code) {
                return Ok(told);
            }
            let what = format!("group `{group}`");
            patience.with(ClientError::Refused { what, code, message: None }).await?;
        }
    }

    /// All groups, in the order of their names.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn groups(&mut self) -> Result<Vec<ListedGroup>, ClientError> {
        let nodes = self.metadata(Some(&[]), false).await?.brokers;
        let mut groups = Vec::new();
        for node in nodes {
            let patience = Patience::default();
            let told = loop {
                let request = ListGroupsRequest::default();
                let told = self.ask_node(node.node_id, &request, Duration::ZERO).await?;
                match check(told.error_code, None, || "cannot list the groups".to_owned()) {
                    Ok(()) => break told,
                    Err(error) => patience.with(error).await?,
                }
            };
            groups.extend(told.groups.into_iter().map(|told| ListedGroup {
                group: told.group_id.to_string(),
                state: told.group_state.to_string(),
                protocol: told.protocol_type.to_string(),
            }));
        }
        groups.sort();
        Ok(groups)
    }

    /// Who is in a group; `None` where there is none of that name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn describe_group(
        &mut self,
        group: &str,
    ) -> Result<Option<GroupDescription>, ClientError> {
        let request = DescribeGroupsRequest {
            groups: vec![group.into()],
            ..DescribeGroupsRequest::default()
        };
        let code = |told: &<DescribeGroupsRequest as Request>::Response| {
            told.groups.first().map_or(ErrorCode::None, |group| group.error_code)
        };
        let told = self.ask_coordinator(group, &request, code).await?;
        let Some(found) = told.groups.into_iter().next() else { return Ok(None) };
        // Older nodes say that a group is dead which there never was.
        if found.error_code == ErrorCode::GroupIdNotFound || &*found.group_state == "Dead" {
            return Ok(None);
        }
        let what = || format!("cannot describe group `{group}`");
        check(found.error_code, found.error_message.as_deref(), what)?;
        let coordinator = self.coordinator(group).await?;
        Ok(Some(described(found, coordinator)))
    }

    /// How far a group has come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn committed(&mut self, group: &str) -> Result<Committed, ClientError> {
        let asked = OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        };
        let request = OffsetFetchRequest { groups: vec![asked], ..OffsetFetchRequest::default() };
        let code = |told: &<OffsetFetchRequest as Request>::Response| {
            told.groups.first().map_or(ErrorCode::None, |group| group.error_code)
        };
        let told = self.ask_coordinator(group, &request, code).await?;
        let mut committed = Committed::new();
        for found in told.groups {
            check(found.error_code, None, || format!("the offsets of group `{group}`"))?;
            for topic in found.topics {
                for part in topic.partitions.iter().filter(|part| part.committed_offset >= 0) {
                    let key = (topic.name.to_string(), part.partition_index);
                    committed.insert(key, part.committed_offset);
                }
            }
        }
        Ok(committed)
    }

    /// Keeps how far a group has come, for one that has no members.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn commit(&mut self, group: &str, offsets: &Committed) -> Result<(), ClientError> {
        self.commit_as(group, None, offsets).await
    }

    /// The same for one of its members, in that generation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn commit_as(
        &mut self,
        group: &str,
        member: Option<&(MemberId, GenerationId)>,
        offsets: &Committed,
    ) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_metadata: Some("".into()),
                ..OffsetCommitRequestPartition::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name: name.into(),
            partitions,
            ..OffsetCommitRequestTopic::default()
        });
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: member.map_or(-1, |(_, generation)| generation.as_i32()),
            member_id: member.map(|(id, _)| id.as_str().into()).unwrap_or_default(),
            topics: topics.collect(),
            ..OffsetCommitRequest::default()
        };
        let first = |told: &<OffsetCommitRequest as Request>::Response| {
            let mut parts = told.topics.iter().flat_map(|topic| &topic.partitions);
            let bad = parts.find(|part| !part.error_code.is_none());
            bad.map_or(ErrorCode::None, |part| part.error_code)
        };
        let told = self.ask_coordinator(group, &request, first).await?;
        check(first(&told), None, || format!("cannot keep the offsets of group `{group}`"))
    }

    /// Forgets a group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_group(&mut self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![group.into()] };
        let code = |told: &<DeleteGroupsRequest as Request>::Response| {
            told.results.first().map_or(ErrorCode::None, |group| group.error_code)
        };
        let told = self.ask_coordinator(group, &request, code).await?;
        let result = told.results.into_iter().next().unwrap_or_default();
        check(result.error_code, result.error_message.as_deref(), || {
            format!("cannot delete group `{group}`")
        })
    }
}

fn described(told: DescribedGroup, coordinator: i32) -> GroupDescription {
    let is_consumer = &*told.protocol_type == CONSUMER_PROTOCOL_TYPE;
    let members = told.members.into_iter().map(|member| GroupMember {
        id: member.member_id.to_string(),
        client: member.client_id.to_string(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        // Only consumers' assignments have a known form; of others, and of garbage, there is nothing
        // to be said.
        partitions: match is_consumer {
            true => Assignment::decode(&member.member_assignment).unwrap_or_default().partitions,
            false => Vec::new(),
        },
    });
    GroupDescription {
        state: told.group_state.to_string(),
        assignor: told.protocol_data.to_string(),
        coordinator,
        members: members.collect(),
    }
}
