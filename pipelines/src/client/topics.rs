//! Topics: what there is of them, and how they are made and changed.

use std::{collections::BTreeMap, time::Duration};

use flumen_actors::gateway::{
    error_code::ErrorCode,
    messages::{
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        describe_configs::{
            DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
        },
        describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest},
        describe_producers::{DescribeProducersRequest, TopicRequest},
        incremental_alter_configs::{
            AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
        },
        metadata::MetadataResponseTopic,
        offset_for_leader_epoch::{
            OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
        },
    },
};
use serde::Serialize;
use uuid::Uuid;

use super::{ANY, Client, ClientError, Patience, check};

/// How long a node may take to make or delete topics.
const WITHIN_MS: i32 = 30_000;
const WITHIN: Duration = Duration::from_millis(WITHIN_MS as u64);
/// The kinds of resources that topics and nodes are (`ConfigResource.Type`).
const TOPIC: i8 = 2;
const NODE: i8 = 4;
/// Where a setting of the topic itself comes from (`ConfigSource`).
const SET_ON_TOPIC: i8 = 1;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Whether it is the node's own.
    pub is_internal: bool,
    /// Its partitions, by number.
    pub partitions: BTreeMap<i32, Partition>,
}

/// A partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Who leads it.
    pub leader: Option<i32>,
    /// On whom it is offline, where nobody leads it.
    pub offline_on: Option<i32>,
    /// Since which epoch; −1 where that is not told.
    pub leader_epoch: i32,
    /// How it is.
    pub error: ErrorCode,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigEntry {
    /// Kafka's name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether it was set on the topic.
    pub is_set: bool,
    /// What it means.
    pub doc: Option<String>,
}

/// What has settings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resource<'a> {
    /// The topic of that name.
    Topic(&'a str),
    /// The node of that number, which alone can tell its own.
    Node(i32),
}

/// A change of a setting: a value, or none for the default.
pub type ConfigChange = (String, Option<String>);

impl Topic {
    /// Who is to be asked for `partition`: who leads it, or, where that is nobody, whoever has it offline
    /// and can say why.
    ///
    /// # Errors
    /// [`ClientError::NoLeader`].
    pub fn leader(&self, partition: i32) -> Result<i32, ClientError> {
        let part = self.partitions.get(&partition);
        let leader = part.and_then(|part| part.leader.or(part.offline_on));
        leader.ok_or_else(|| ClientError::NoLeader(format!("{}-{partition}", self.name)))
    }
}

impl From<MetadataResponseTopic> for Topic {
    fn from(told: MetadataResponseTopic) -> Self {
        let partitions = told.partitions.iter().map(|told| {
            let leader = (told.leader_id >= 0).then_some(told.leader_id);
            let offline_on = told.offline_replicas.first().filter(|_| leader.is_none()).copied();
            let (leader_epoch, error) = (told.leader_epoch, told.error_code);
            (told.partition_index, Partition { leader, offline_on, leader_epoch, error })
        });
        Self {
            partitions: partitions.collect(),
            name: told.name.unwrap_or_default().to_string(),
            id: told.topic_id,
            is_internal: told.is_internal,
        }
    }
}

impl Client {
    /// All topics, in the order of their names.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn topics(&mut self) -> Result<Vec<Topic>, ClientError> {
        let told = self.metadata(None, false).await?;
        let mut topics: Vec<Topic> = told.topics.into_iter().map(Topic::from).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The topic called `name`; `None` where there is none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn topic(
        &mut self,
        name: &str,
        may_create: bool,
    ) -> Result<Option<Topic>, ClientError> {
        let patience = Patience::default();
        loop {
            let told = self.metadata(Some(&[name]), may_create).await?;
            let Some(topic) = told.topics.into_iter().next() else { return Ok(None) };
            if topic.error_code == ErrorCode::UnknownTopicOrPartition {
                return Ok(None);
            }
            match check(topic.error_code, None, || format!("topic `{name}`")) {
                Ok(()) => return Ok(Some(topic.into())),
                Err(error) => patience.with(error).await?,
            }
        }
    }

    /// Makes a topic; how many partitions it has.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: Option<i32>,
        replicas: Option<i16>,
        configs: &[(String, String)],
    ) -> Result<i32, ClientError> {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: name.as_str().into(),
            value: Some(value.as_str().into()),
        });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions.unwrap_or(-1),
            replication_factor: replicas.unwrap_or(-1),
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: WITHIN_MS,
            ..CreateTopicsRequest::default()
        };
        let told = self.ask(&request).await?;
        let mut made = partitions.unwrap_or(-1);
        for topic in told.topics {
            let what = || format!("cannot make topic `{name}`");
            check(topic.error_code, topic.error_message.as_deref(), what)?;
            made = topic.num_partitions;
        }
        Ok(made)
    }

    /// Deletes topics, and says of each how it went.
    ///
    /// # Errors
    /// [`ClientError`] of the first that was refused, when all have been tried.
    pub async fn delete_topics(&mut self, names: &[String]) -> Result<(), ClientError> {
        let named = |name: &String| DeleteTopicState {
            name: Some(name.as_str().into()),
            ..DeleteTopicState::default()
        };
        let request = DeleteTopicsRequest {
            topics: names.iter().map(named).collect(),
            topic_names: names.iter().map(|name| name.as_str().into()).collect(),
            timeout_ms: WITHIN_MS,
        };
        let told = self.ask(&request).await?;
        told.responses.into_iter().try_for_each(|topic| {
            let name = topic.name.unwrap_or_default();
            check(topic.error_code, topic.error_message.as_deref(), || {
                format!("cannot delete topic `{name}`")
            })
        })
    }

    /// Gives a topic more partitions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grow_topic(&mut self, name: &str, count: i32) -> Result<(), ClientError> {
        let topic = CreatePartitionsTopic { name: name.into(), count, assignments: None };
        let topics = vec![topic];
        let request =
            CreatePartitionsRequest { topics, timeout_ms: WITHIN_MS, validate_only: false };
        let told = self.ask(&request).await?;
        told.results.into_iter().try_for_each(|topic| {
            let what = || format!("cannot give `{name}` {count} partitions");
            check(topic.error_code, topic.error_message.as_deref(), what)
        })
    }

    /// Deletes all records before these offsets; where each partition begins then, or why nothing was
    /// deleted of it.
    ///
    /// # Errors
    /// [`ClientError`] where a leader cannot be asked.
    pub async fn delete_records(
        &mut self,
        topic: &Topic,
        before: &BTreeMap<i32, i64>,
    ) -> Result<BTreeMap<i32, Result<i64, ErrorCode>>, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<DeleteRecordsPartition>> = BTreeMap::new();
        for (partition, offset) in before {
            let asked = DeleteRecordsPartition { partition_index: *partition, offset: *offset };
            by_leader.entry(topic.leader(*partition)?).or_default().push(asked);
        }
        let mut begins = BTreeMap::new();
        for (leader, partitions) in by_leader {
            let name = topic.name.as_str().into();
            let topics = vec![DeleteRecordsTopic { name, partitions }];
            let request = DeleteRecordsRequest { topics, timeout_ms: WITHIN_MS };
            let told = self.ask_node(leader, &request, WITHIN).await?;
            for part in told.topics.into_iter().flat_map(|topic| topic.partitions) {
                let begin = match part.error_code {
                    ErrorCode::None => Ok(part.low_watermark),
                    error => Err(error),
                };
                begins.insert(part.partition_index, begin);
            }
        }
        Ok(begins)
    }

    /// Changes settings of a topic, all of them or none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn alter_topic(
        &mut self,
        name: &str,
        changes: &[ConfigChange],
    ) -> Result<(), ClientError> {
        let configs = changes.iter().map(|(name, value)| AlterableConfig {
            name: name.as_str().into(),
            config_operation: i8::from(value.is_none()),
            value: value.as_deref().map(Into::into),
        });
        let resource = AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: name.into(),
            configs: configs.collect(),
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let told = self.ask(&request).await?;
        told.responses.into_iter().try_for_each(|topic| {
            let what = || format!("cannot change `{name}`");
            check(topic.error_code, topic.error_message.as_deref(), what)
        })
    }

    /// All settings of a topic, in the order of their names.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn topic_configs(&mut self, name: &str) -> Result<Vec<ConfigEntry>, ClientError> {
        self.configs(Resource::Topic(name), None).await
    }

    /// The settings of a topic or node, or the one that is asked for.
    pub(super) async fn configs(
        &mut self,
        of: Resource<'_>,
        only: Option<&'static str>,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let (node, resource_type, name) = match of {
            Resource::Topic(name) => (ANY, TOPIC, name.to_owned()),
            Resource::Node(node) => (node, NODE, node.to_string()),
        };
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: name.as_str().into(),
            configuration_keys: only.map(|key| vec![key.into()]),
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: false,
            include_documentation: true,
        };
        let told = self.ask_node(node, &request, Duration::ZERO).await?;
        let mut entries = Vec::new();
        for topic in told.results {
            let what = || format!("cannot describe `{name}`");
            check(topic.error_code, topic.error_message.as_deref(), what)?;
            entries.extend(topic.configs.into_iter().map(entry));
        }
        entries.sort_by(|a: &ConfigEntry, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Where the log of a partition ends, what is not safe yet included.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn log_end(&mut self, topic: &Topic, partition: i32) -> Result<i64, ClientError> {
        let leader = topic.leader(partition)?;
        let part = &topic.partitions[&partition];
        let asked = OffsetForLeaderPartition {
            partition,
            leader_epoch: part.leader_epoch,
            // Of an older one it would be the end of that.
            current_leader_epoch: part.leader_epoch,
        };
        let name = topic.name.as_str().into();
        let topics = vec![OffsetForLeaderTopic { topic: name, partitions: vec![asked] }];
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
        let told = self.ask_node(leader, &request, Duration::ZERO).await?;
        let told = told.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let told = told.unwrap_or_default();
        check(told.error_code, None, || format!("the end of `{}-{partition}`", topic.name))?;
        Ok(told.end_offset)
    }

    /// The sequence number of the last record that a producer has written to a partition; none where it
    /// has written nothing, or where the partition has forgotten it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn last_sequence(
        &mut self,
        topic: &Topic,
        partition: i32,
        producer: i64,
    ) -> Result<Option<i32>, ClientError> {
        let leader = topic.leader(partition)?;
        let asked =
            TopicRequest { name: topic.name.as_str().into(), partition_indexes: vec![partition] };
        let request = DescribeProducersRequest { topics: vec![asked] };
        let told = self.ask_node(leader, &request, Duration::ZERO).await?;
        let told = told.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let told = told.unwrap_or_default();
        let what = || format!("the producers of `{}-{partition}`", topic.name);
        check(told.error_code, told.error_message.as_deref(), what)?;
        let mut all = told.active_producers.into_iter();
        let found = all.find(|state| state.producer_id == producer);
        Ok(found.map(|state| state.last_sequence).filter(|last| *last >= 0))
    }

    /// How many bytes each partition of a topic takes on the disks of the node that is asked.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sizes(&mut self, topic: &Topic) -> Result<BTreeMap<i32, i64>, ClientError> {
        let partitions = topic.partitions.keys().copied().collect();
        let wanted = DescribableLogDirTopic { topic: topic.name.as_str().into(), partitions };
        let told = self.ask(&DescribeLogDirsRequest { topics: Some(vec![wanted]) }).await?;
        let parts = told.results.iter().flat_map(|dir| &dir.topics);
        let parts =
            parts.filter(|told| *told.name == *topic.name).flat_map(|told| &told.partitions);
        Ok(parts.map(|part| (part.partition_index, part.partition_size)).collect())
    }
}

fn entry(told: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: told.name.to_string(),
        value: told.value.unwrap_or_default().to_string(),
        is_set: told.config_source == SET_ON_TOPIC,
        doc: told.documentation.map(|doc| doc.to_string()),
    }
}
