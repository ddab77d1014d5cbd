//! Settings of topics and of nodes: how they are told, and that a change counts at once.

use super::*;
use crate::gateway::messages::{
    create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
    describe_configs::{
        DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    },
    incremental_alter_configs::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    },
    join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
    metadata::{MetadataRequest, MetadataRequestTopic},
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

async fn describe(
    client: &mut Client,
    (kind, name): (i8, &'static str),
) -> Vec<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        ..DescribeConfigsResource::default()
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let mut answer = client.ask(4, &request).await;
    let result = answer.results.pop().unwrap();
    assert_eq!(result.error_code, ErrorCode::None);
    result.configs
}

/// Value and source of one setting.
fn told<'a>(configs: &'a [DescribeConfigsResourceResult], name: &str) -> (&'a str, i8) {
    let config = configs.iter().find(|config| *config.name == *name).expect("it is told");
    (config.value.as_deref().unwrap(), config.config_source)
}

/// Sets settings, or takes those without a value back.
async fn alter(
    client: &mut Client,
    which: (i8, &'static str),
    settings: &[(&'static str, Option<&'static str>)],
) -> ErrorCode {
    let configs = settings.iter().map(|(name, value)| AlterableConfig {
        name: (*name).into(),
        config_operation: if value.is_some() { 0 } else { 1 },
        value: value.map(Into::into),
    });
    change(client, which, configs.collect()).await
}

async fn change(
    client: &mut Client,
    (kind, name): (i8, &'static str),
    configs: Vec<AlterableConfig>,
) -> ErrorCode {
    let (resource_type, resource_name) = (kind, name.into());
    let resource = AlterConfigsResource { resource_type, resource_name, configs };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    client.ask(1, &request).await.responses[0].error_code
}

#[test]
fn every_setting_is_told_with_its_type_and_what_has_no_meaning_says_so() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let of_topic = describe(&mut client, (TOPIC, "t")).await;
        for (name, kind, is_inert, on_node) in [
            ("cleanup.policy", 7, false, Some("log.cleanup.policy")),
            ("compression.type", 2, false, Some("compression.type")),
            ("compression.lz4.level", 3, true, Some("compression.lz4.level")),
            ("min.cleanable.dirty.ratio", 6, false, Some("log.cleaner.min.cleanable.ratio")),
            ("retention.ms", 5, false, Some("log.retention.ms")),
            ("preallocate", 1, true, Some("log.preallocate")),
            ("remote.storage.enable", 1, true, None),
            ("unclean.leader.election.enable", 1, true, Some("unclean.leader.election.enable")),
        ] {
            let config = of_topic.iter().find(|config| *config.name == *name).unwrap();
            let doc = config.documentation.as_deref().unwrap();
            assert_eq!(
                (config.config_type, doc.starts_with("no meaning here: ")),
                (kind, is_inert)
            );
            assert_eq!((config.config_source, config.read_only), (5, false), "{name}");
            // What nodes have no name for has no synonym where it is not set.
            let known_as: Vec<&str> = config.synonyms.iter().map(|one| &*one.name).collect();
            assert_eq!(known_as, on_node.into_iter().collect::<Vec<_>>(), "{name}");
        }
        let of_node = describe(&mut client, (BROKER, "1")).await;
        assert!(of_node.is_sorted_by(|a, b| *a.name < *b.name));
        for (name, is_fixed) in
            [("broker.id", true), ("log.retention.ms", false), ("num.partitions", false)]
        {
            let config = of_node.iter().find(|config| *config.name == *name).unwrap();
            assert_eq!(config.read_only, is_fixed, "{name}");
        }
        assert!(
            describe(&mut client, (BROKER, "")).await.is_empty(),
            "nothing is set of all nodes"
        );
    });
}

#[test]
fn a_setting_of_the_node_counts_at_once_where_the_topic_has_none_of_its_own() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let large = || batch(&[&"x".repeat(500)]).freeze();
        let outcome = |response: messages::produce::ProduceResponse| {
            response.responses[0].partition_responses[0].error_code
        };
        let taken = client.ask(9, &produce(-1, vec![(0, large())])).await;
        assert_eq!(outcome(taken), ErrorCode::None);
        let small = [("message.max.bytes", Some("300")), ("log.retention.ms", Some("77"))];
        assert_eq!(alter(&mut client, (BROKER, ""), &small).await, ErrorCode::None);
        let refused = client.ask(9, &produce(-1, vec![(0, large())])).await;
        assert_eq!(outcome(refused), ErrorCode::MessageTooLarge, "the running partition knows");
        let of_topic = describe(&mut client, (TOPIC, "t")).await;
        assert_eq!(told(&of_topic, "max.message.bytes"), ("300", 3));
        assert_eq!(told(&of_topic, "retention.ms"), ("77", 3));
        // For this node alone, and then for this topic alone.
        let own = [("log.retention.ms", Some("88"))];
        assert_eq!(alter(&mut client, (BROKER, "1"), &own).await, ErrorCode::None);
        let of_topic = describe(&mut client, (TOPIC, "t")).await;
        assert_eq!(told(&of_topic, "retention.ms"), ("88", 2));
        let own = [("max.message.bytes", Some("9000")), ("retention.ms", Some("99"))];
        assert_eq!(alter(&mut client, (TOPIC, "t"), &own).await, ErrorCode::None);
        let taken = client.ask(9, &produce(-1, vec![(0, large())])).await;
        assert_eq!(outcome(taken), ErrorCode::None);
        let of_topic = describe(&mut client, (TOPIC, "t")).await;
        let config = of_topic.iter().find(|config| *config.name == *"retention.ms").unwrap();
        let layers: Vec<_> = config
            .synonyms
            .iter()
            .map(|s| (&*s.name, s.value.as_deref().unwrap(), s.source))
            .collect();
        let wanted = [
            ("retention.ms", "99", 1),
            ("log.retention.ms", "88", 2),
            ("log.retention.ms", "77", 3),
            ("log.retention.ms", "604800000", 5),
        ];
        assert_eq!(layers, wanted);
        let of_node = describe(&mut client, (BROKER, "1")).await;
        assert_eq!(told(&of_node, "log.retention.ms"), ("88", 2));
        assert_eq!(told(&of_node, "message.max.bytes"), ("300", 3));
        // Taken back.
        let back = [("log.retention.ms", None)];
        assert_eq!(alter(&mut client, (BROKER, "1"), &back).await, ErrorCode::None);
        let of_node = describe(&mut client, (BROKER, "1")).await;
        assert_eq!(told(&of_node, "log.retention.ms"), ("77", 3));
    });
}

#[test]
fn topics_that_are_merely_named_follow_the_nodes_settings() {
    paused(async {
        let world = World::new().await;
        let mut client = world.connect().await;
        let naming = |name: &'static str| MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(name.into()),
                ..MetadataRequestTopic::default()
            }]),
            ..MetadataRequest::default()
        };
        let four = [("num.partitions", Some("4"))];
        assert_eq!(alter(&mut client, (BROKER, "1"), &four).await, ErrorCode::None);
        let made = client.ask(9, &naming("a")).await;
        assert_eq!(made.topics[0].partitions.len(), 4);
        let never = [("auto.create.topics.enable", Some("false"))];
        assert_eq!(alter(&mut client, (BROKER, ""), &never).await, ErrorCode::None);
        let refused = client.ask(9, &naming("b")).await;
        assert_eq!(refused.topics[0].error_code, ErrorCode::UnknownTopicOrPartition);
    });
}

#[test]
fn running_coordinators_keep_to_the_newest_limits() {
    paused(async {
        let world = World::new().await;
        let mut client = world.connect().await;
        let joining = |session_timeout_ms| JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms,
            rebalance_timeout_ms: 1_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                ..Default::default()
            }],
            ..JoinGroupRequest::default()
        };
        let mut error = ErrorCode::CoordinatorLoadInProgress;
        while error == ErrorCode::CoordinatorLoadInProgress {
            error = client.ask(5, &joining(7_000)).await.error_code;
            pass(Duration::from_millis(100)).await;
        }
        assert_eq!(error, ErrorCode::MemberIdRequired, "seven seconds are enough");
        let longer = [("group.min.session.timeout.ms", Some("8000"))];
        assert_eq!(alter(&mut client, (BROKER, "1"), &longer).await, ErrorCode::None);
        let refused = client.ask(5, &joining(7_000)).await.error_code;
        assert_eq!(refused, ErrorCode::InvalidSessionTimeout);
        // The first group has a place already, unless the coordinators are different ones.
        let one = [("max.groups", Some("1")), ("group.min.session.timeout.ms", None)];
        assert_eq!(alter(&mut client, (BROKER, "1"), &one).await, ErrorCode::None);
        let mut refusals = Vec::new();
        for group in ["a", "b", "c", "d", "e"] {
            let another = JoinGroupRequest { group_id: group.into(), ..joining(7_000) };
            refusals.push(client.ask(5, &another).await.error_code);
        }
        assert!(refusals.contains(&ErrorCode::PolicyViolation), "{refusals:?}");
    });
}

#[test]
fn what_nobody_knows_or_does_not_fit_is_refused_and_changes_nothing() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        for (which, name, value) in [
            ((TOPIC, "t"), "nonsense", "1"),
            ((TOPIC, "t"), "compression.type", "rar"),
            ((TOPIC, "t"), "log.retention.ms", "1"),
            ((BROKER, "1"), "nonsense", "1"),
            ((BROKER, "1"), "socket.request.max.bytes", "1"),
            ((BROKER, ""), "num.partitions", "none"),
        ] {
            let settings = [("retention.ms", Some("5")), (name, Some(value))];
            let settings = if which.0 == TOPIC { &settings[..] } else { &settings[1..] };
            assert_eq!(
                alter(&mut client, which, settings).await,
                ErrorCode::InvalidConfig,
                "{name}"
            );
        }
        let of_topic = describe(&mut client, (TOPIC, "t")).await;
        assert_eq!(told(&of_topic, "retention.ms"), ("604800000", 5));
        for (name, value) in [("nonsense", Some("1")), ("retention.ms", None)] {
            let config = CreatableTopicConfig { name: name.into(), value: value.map(Into::into) };
            let topic = CreatableTopic {
                name: "u".into(),
                num_partitions: 1,
                replication_factor: 1,
                configs: vec![config],
                ..CreatableTopic::default()
            };
            let request =
                CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
            let made = client.ask(5, &request).await;
            assert_eq!(made.topics[0].error_code, ErrorCode::InvalidConfig, "{name}");
        }
    });
}

#[test]
fn acks_of_all_are_refused_where_a_topic_wants_more_replicas_than_there_are() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let two = [("min.insync.replicas", Some("2"))];
        assert_eq!(alter(&mut client, (TOPIC, "t"), &two).await, ErrorCode::None);
        let small = || vec![(0, batch(&["a"]).freeze())];
        let part = async |client: &mut Client, acks| {
            let answer = client.ask(9, &produce(acks, small())).await;
            let part = &answer.responses[0].partition_responses[0];
            (part.error_code, part.base_offset)
        };
        assert_eq!(part(&mut client, -1).await, (ErrorCode::NotEnoughReplicas, -1));
        assert_eq!(part(&mut client, 1).await, (ErrorCode::None, 0), "nothing was appended");
        let none = [("min.insync.replicas", None)];
        assert_eq!(alter(&mut client, (TOPIC, "t"), &none).await, ErrorCode::None);
        assert_eq!(part(&mut client, -1).await, (ErrorCode::None, 1));
    });
}

#[test]
fn what_topics_are_given_at_the_node_s_start_has_its_source_and_the_node_s_name() {
    paused(async {
        let given = |spec: &mut BrokerSpec| {
            spec.topic_settings.set("retention.ms", "66").unwrap();
            spec.topic_settings.set("max.message.bytes", "5000").unwrap();
            spec.producer_age = Duration::from_secs(5);
        };
        let world = World::made(Limits::default(), given).await;
        world.broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        let mut client = world.connect().await;
        let of_node = describe(&mut client, (BROKER, "1")).await;
        assert_eq!(told(&of_node, "log.retention.ms"), ("66", 4));
        assert_eq!(told(&of_node, "message.max.bytes"), ("5000", 4));
        assert_eq!(told(&of_node, "producer.id.expiration.ms"), ("5000", 4));
        assert_eq!(told(&of_node, "log.segment.bytes"), ("1073741824", 5));
        let own = [("log.retention.ms", Some("77"))];
        assert_eq!(alter(&mut client, (BROKER, "1"), &own).await, ErrorCode::None);
        let layers = |configs: &[DescribeConfigsResourceResult], name: &str| {
            let config = configs.iter().find(|config| *config.name == *name).unwrap();
            let layers = config.synonyms.iter();
            let layers =
                layers.map(|s| format!("{}={}, {}", s.name, s.value.as_deref().unwrap(), s.source));
            layers.collect::<Vec<_>>()
        };
        let wanted =
            ["log.retention.ms=77, 2", "log.retention.ms=66, 4", "log.retention.ms=604800000, 5"];
        let of_node = describe(&mut client, (BROKER, "1")).await;
        assert_eq!(layers(&of_node, "log.retention.ms"), wanted);
        let of_topic = describe(&mut client, (TOPIC, "t")).await;
        assert_eq!(layers(&of_topic, "retention.ms"), wanted);
        assert_eq!(told(&of_topic, "max.message.bytes"), ("5000", 4));
        let wanted = ["message.max.bytes=5000, 4", "message.max.bytes=1048588, 5"];
        assert_eq!(layers(&of_topic, "max.message.bytes"), wanted);
    });
}

#[test]
fn all_of_kafkas_names_are_told_once_and_those_without_meaning_have_no_value() {
    /// The names that Kafka 4.4 tells of a broker, its internal ones left out.
    const NAMES: &str = include_str!("broker_settings.txt");
    paused(async {
        let world = World::new().await;
        let mut client = world.connect().await;
        let of_node = describe(&mut client, (BROKER, "1")).await;
        assert!(of_node.is_sorted_by(|a, b| *a.name < *b.name), "each once");
        let told: Vec<&str> = of_node.iter().map(|config| &*config.name).collect();
        let missing: Vec<_> = NAMES.lines().filter(|name| !told.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for config in &of_node {
            let doc = config.documentation.as_deref().unwrap();
            if config.value.is_none() {
                assert!(
                    doc.starts_with("no meaning here: ") && config.read_only,
                    "{}",
                    config.name
                );
                assert_eq!(
                    (config.config_source, config.synonyms.len()),
                    (5, 0),
                    "{}",
                    config.name
                );
            }
        }
        let of = |name: &str| of_node.iter().find(|config| *config.name == *name).unwrap();
        assert_eq!(of("ssl.keystore.location").value, None);
        assert_eq!(of("offsets.topic.num.partitions").value.as_deref(), Some("3"));
    });
}

#[test]
fn changes_that_meet_each_other_all_count() {
    paused(async {
        let world = World::with_topic().await;
        let (mut one, mut other) = (world.connect().await, world.connect().await);
        for which in [(TOPIC, "t"), (BROKER, "")] {
            let names = if which.0 == TOPIC {
                ["retention.ms", "segment.bytes"]
            } else {
                ["log.retention.ms", "log.segment.bytes"]
            };
            for round in ["20000", "30000", "40000"] {
                let [first, second] = names.map(|name| [(name, Some(round))]);
                let both = futures::join!(
                    alter(&mut one, which, &first),
                    alter(&mut other, which, &second)
                );
                assert_eq!(both, (ErrorCode::None, ErrorCode::None));
                let told_now = describe(&mut one, which).await;
                for name in names {
                    assert_eq!(told(&told_now, name).0, round, "{name}");
                }
            }
        }
    });
}

/// Changes a list: 2 appends, 3 takes away.
async fn edit(
    client: &mut Client,
    which: (i8, &'static str),
    setting: &'static str,
    (config_operation, value): (i8, &'static str),
) -> ErrorCode {
    let (name, value) = (setting.into(), Some(value.into()));
    change(client, which, vec![AlterableConfig { name, config_operation, value }]).await
}

#[test]
fn lists_are_added_to_and_taken_from_by_words_and_begin_with_what_counts() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let policy = "cleanup.policy";
        let spaced = [(policy, Some("compact, delete"))];
        assert_eq!(alter(&mut client, (TOPIC, "t"), &spaced).await, ErrorCode::None);
        for (change, wanted) in
            [((2, "delete"), "compact,delete"), ((3, "delete"), "compact"), ((3, "compact"), "")]
        {
            assert_eq!(edit(&mut client, (TOPIC, "t"), policy, change).await, ErrorCode::None);
            let now = describe(&mut client, (TOPIC, "t")).await;
            assert_eq!(told(&now, policy).0, wanted);
        }
        let of_node = (BROKER, "1");
        let added = edit(&mut client, of_node, "log.cleanup.policy", (2, "compact")).await;
        assert_eq!(added, ErrorCode::None);
        let now = describe(&mut client, of_node).await;
        assert_eq!(told(&now, "log.cleanup.policy").0, "delete,compact");
    });
}

#[test]
fn a_list_of_no_names_asks_for_all_settings_and_what_is_named_twice_is_refused() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let resource = DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: "t".into(),
            configuration_keys: Some(Vec::new()),
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            ..DescribeConfigsRequest::default()
        };
        let answer = client.ask(4, &request).await;
        assert!(answer.results[0].configs.len() > 30);
        let twice = [("retention.ms", Some("5")), ("retention.ms", Some("6"))];
        assert_eq!(alter(&mut client, (TOPIC, "t"), &twice).await, ErrorCode::InvalidRequest);
        let of_node = describe(&mut client, (BROKER, "1")).await;
        let kind = |name: &str| {
            of_node.iter().find(|config| *config.name == *name).map(|config| config.config_type)
        };
        assert_eq!((kind("log.dirs"), kind("node.id")), (Some(7), Some(3)));
        assert_eq!(
            (kind("delete.topic.enable"), kind("connections.max.idle.ms")),
            (Some(1), Some(5))
        );
    });
}

#[test]
fn who_produces_is_told_the_time_that_the_log_gave() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let time = async |client: &mut Client| {
            let answer = client.ask(9, &produce(-1, vec![(0, batch(&["a"]).freeze())])).await;
            answer.responses[0].partition_responses[0].log_append_time_ms
        };
        assert_eq!(time(&mut client).await, -1, "the producer's counts");
        let own = [("message.timestamp.type", Some("LogAppendTime"))];
        assert_eq!(alter(&mut client, (TOPIC, "t"), &own).await, ErrorCode::None);
        assert!(time(&mut client).await > 0);
    });
}
