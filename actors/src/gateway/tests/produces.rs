//! Produce: what is appended, what is refused, and in which order.

use flumen_runtime::{batch::Attributes, ids::Offset};

use super::*;
use crate::broker::{
    names::{PartitionId, TopicName, TopicPartition},
    partition::messages::Fetch,
};

/// All bytes of a partition of `t`.
pub(super) async fn stored(world: &World, number: u32) -> Vec<u8> {
    let topic = TopicName::new("t").unwrap();
    let partition = TopicPartition { topic, partition: PartitionId(number) };
    let address = world.broker.partition(&partition).unwrap();
    let fetched = address.send(Fetch::from(Offset(0))).await.unwrap().unwrap();
    fetched.batches.concat()
}

/// A batch as it is kept: with its offset, which stands in front of what the sum is of.
fn kept(batch: &[u8], offset: u64) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &batch[8..]].concat()
}

/// What each partition of the one topic was answered.
pub(super) async fn outcomes(
    client: &mut Client,
    version: i16,
    request: &ProduceRequest,
) -> Vec<(i32, ErrorCode, i64)> {
    let response = client.ask(version, request).await;
    let parts = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
    parts.map(|part| (part.index, part.error_code, part.base_offset)).collect()
}

#[test]
fn batches_arrive_in_their_partitions_byte_for_byte() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let batches: Vec<Bytes> =
            [&["a", "b"][..], &["c"], &["d", "e", "f"]].map(|b| batch(b).freeze()).into();
        for (round, version) in [3, 7, 9, 11].into_iter().enumerate() {
            // Not in the order of their numbers, and each with its own.
            let parts =
                vec![(2, batches[2].clone()), (0, batches[0].clone()), (1, batches[1].clone())];
            let at = round as i64;
            let wanted = [(2, 3 * at), (0, 2 * at), (1, at)]
                .map(|(index, offset)| (index, ErrorCode::None, offset));
            let acks = if round % 2 == 0 { -1 } else { 1 };
            assert_eq!(outcomes(&mut client, version, &produce(acks, parts)).await, wanted);
        }
        for (number, batch) in batches.iter().enumerate() {
            let records = [2, 1, 3][number];
            let wanted: Vec<u8> = (0..4).flat_map(|round| kept(batch, round * records)).collect();
            // The epoch is stamped too, and is zero as the client's was not: it is left out.
            let stored = stored(&world, number as u32).await;
            assert_eq!(stored.len(), wanted.len());
            for at in (0..4).map(|round| round * batch.len()) {
                assert_eq!(stored[at..at + 12], wanted[at..at + 12], "offset and length");
                let after = at + 16..at + batch.len();
                assert_eq!(stored[after.clone()], wanted[after], "magic, sum and records");
            }
        }
    });
}

/// Everything that is refused, and why; what stands beside it in the request is taken.
#[test]
fn what_may_not_be_appended_is_refused_and_what_stands_beside_it_is_taken() {
    let with = |attributes: u16| {
        let builder = BatchBuilder::new(1_000_000).attributes(Attributes(attributes));
        fill(builder, &["x"]).freeze()
    };
    let changed = |at: usize, byte: u8| {
        let mut batch = batch(&["x"]);
        batch[at] = byte;
        batch.freeze()
    };
    let two = [batch(&["x"]), batch(&["y"])].concat();
    let sum = batch(&["x"])[17] ^ 1;
    let cases: Vec<(&str, Bytes, ErrorCode)> = vec![
        ("control", with(0x20), ErrorCode::InvalidRecord),
        ("transactional", with(0x10), ErrorCode::InvalidTxnState),
        ("magic 1", changed(16, 1), ErrorCode::InvalidRecord),
        ("two batches", two.into(), ErrorCode::InvalidRecord),
        ("a wrong sum", changed(17, sum), ErrorCode::CorruptMessage),
        ("no batch", Bytes::new(), ErrorCode::InvalidRecord),
        ("half a header", batch(&["x"]).freeze().slice(..30), ErrorCode::InvalidRecord),
        ("half a batch", batch(&["x"]).freeze().slice(..65), ErrorCode::InvalidRecord),
    ];
    paused(async move {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        for (good, (what, bad, error)) in cases.into_iter().enumerate() {
            let request = produce(-1, vec![(0, bad), (1, batch(&["good"]).freeze())]);
            let wanted = [(0, error, -1), (1, ErrorCode::None, good as i64)];
            assert_eq!(outcomes(&mut client, 9, &request).await, wanted, "{what}");
        }
        assert!(stored(&world, 0).await.is_empty());
    });
}

/// The others of its batch are good: a client that is told which are not sends them again.
#[test]
fn records_that_are_to_blame_are_named() {
    paused(async {
        let world = World::new().await;
        let compacted = TopicSpec::new("t", 1).unwrap().set("cleanup.policy", "compact").unwrap();
        world.broker.create_topic(compacted).await.unwrap();
        let mut client = world.connect().await;
        let mut builder = BatchBuilder::new(1_000_000);
        for key in [Some(&b"k"[..]), None, Some(b"l"), None] {
            builder.push(RecordRef { key, value: Some(b"x"), ..RecordRef::default() });
        }
        let request = produce(-1, vec![(0, builder.build().freeze())]);
        let response = client.ask(9, &request).await;
        let part = &response.responses[0].partition_responses[0];
        assert_eq!(part.error_code, ErrorCode::InvalidRecord);
        let blamed: Vec<i32> = part.record_errors.iter().map(|one| one.batch_index).collect();
        assert_eq!(blamed, [1, 3]);
        assert!(stored(&world, 0).await.is_empty());
    });
}

#[test]
fn places_that_are_not_there_and_requests_that_cannot_be_are_refused() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let good = || batch(&["x"]).freeze();
        for number in [3, -1, i32::MAX] {
            let request = produce(-1, vec![(number, good())]);
            let unknown = [(number, ErrorCode::UnknownTopicOrPartition, -1)];
            assert_eq!(outcomes(&mut client, 9, &request).await, unknown);
        }
        let mut elsewhere = produce(-1, vec![(0, good())]);
        elsewhere.topic_data[0].name = "elsewhere".into();
        let unknown = [(0, ErrorCode::UnknownTopicOrPartition, -1)];
        assert_eq!(outcomes(&mut client, 9, &elsewhere).await, unknown);
        let transactional = ProduceRequest {
            transactional_id: Some("mine".into()),
            ..produce(-1, vec![(0, good())])
        };
        let refused = [(0, ErrorCode::TransactionalIdAuthorizationFailed, -1)];
        assert_eq!(outcomes(&mut client, 9, &transactional).await, refused);
        let acks = produce(2, vec![(0, good())]);
        let refused = [(0, ErrorCode::InvalidRequiredAcks, -1)];
        assert_eq!(outcomes(&mut client, 9, &acks).await, refused);
        let mut zstd = batch(&["x"]);
        zstd[22] |= 4;
        let refused = [(0, ErrorCode::UnsupportedCompressionType, -1)];
        assert_eq!(outcomes(&mut client, 6, &produce(-1, vec![(0, zstd.freeze())])).await, refused);
        assert!(stored(&world, 0).await.is_empty());
    });
}

#[test]
fn nobody_appends_to_the_topics_of_the_node_itself() {
    paused(async {
        let world = World::with_topic().await;
        world.broker.coordinator(&"g".into()).await.unwrap();
        let mut client = world.connect().await;
        let mut request = produce(-1, vec![(0, batch(&["x"]).freeze())]);
        request.topic_data[0].name = broker::OFFSETS_TOPIC.into();
        let refused = [(0, ErrorCode::InvalidTopicException, -1)];
        assert_eq!(outcomes(&mut client, 9, &request).await, refused);
    });
}

#[test]
fn the_repeat_of_a_batch_gets_its_old_offset_and_a_gap_is_refused() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let send = |sequence| produce(-1, vec![(0, numbered(sequence, &["a", "b"]).freeze())]);
        let none = ErrorCode::None;
        assert_eq!(outcomes(&mut client, 9, &send(0)).await, [(0, none, 0)]);
        assert_eq!(outcomes(&mut client, 9, &send(2)).await, [(0, none, 2)]);
        assert_eq!(outcomes(&mut client, 9, &send(0)).await, [(0, none, 0)], "the repeat");
        let gap = ErrorCode::OutOfOrderSequenceNumber;
        assert_eq!(outcomes(&mut client, 9, &send(9)).await, [(0, gap, -1)]);
        assert_eq!(stored(&world, 0).await.len(), 2 * numbered(0, &["a", "b"]).len());
    });
}

#[test]
fn a_silent_producer_is_forgotten_when_the_node_s_start_said_so() {
    paused(async {
        for (age_s, offset) in [(1_000, 0), (10, 1)] {
            let clock = ManualClock::at(1_000_000);
            let mut services = services(Faults::none());
            services.clock = Arc::new(clock.clone());
            let producer_age = Duration::from_secs(age_s);
            let spec = BrokerSpec { producer_age, ..broker_spec() };
            let world = World::on(services, Limits::default(), spec).await;
            world.broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
            let mut client = world.connect().await;
            let send = || produce(-1, vec![(0, numbered(0, &["a"]).freeze())]);
            assert_eq!(outcomes(&mut client, 9, &send()).await, [(0, ErrorCode::None, 0)]);
            for _ in 0..100 {
                clock.advance(1_000);
                pass(Duration::from_secs(1)).await;
            }
            // Of a producer that is known it is the repeat, of one that is not a new batch.
            assert_eq!(outcomes(&mut client, 9, &send()).await, [(0, ErrorCode::None, offset)]);
        }
    });
}

#[test]
fn beside_a_refusal_the_leader_is_named_in_versions_that_can_say_it() {
    paused(async {
        let slow = services(Faults { latency_ms: 10_000, ..Faults::none() });
        let world = World::on(slow, Limits::default(), broker_spec()).await;
        world.broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        let mut client = world.connect().await;
        for (version, is_named) in [(9, false), (10, true), (11, true)] {
            let request = produce(-1, vec![(0, batch(&["a"]).freeze())]);
            let header = client.send(version, &request).await;
            // It is being written.
            pass(Duration::from_millis(20)).await;
            world.root.inject_panic("partition/t-0").await.unwrap();
            let refused = client.receive::<ProduceRequest>(&header).await;
            let part = &refused.responses[0].partition_responses[0];
            assert_eq!(part.error_code, ErrorCode::NotLeaderOrFollower, "{part:?}");
            let named = (part.current_leader.leader_id, part.current_leader.leader_epoch);
            let endpoints = refused.node_endpoints.iter();
            let at: Vec<_> = endpoints.map(|at| (at.node_id, &*at.host, at.port)).collect();
            match is_named {
                true => assert_eq!((named, &at[..]), ((1, 0), &[(1, "within", 0)][..])),
                false => assert_eq!((named, &at[..]), ((-1, -1), &[][..])),
            }
        }
    });
}

/// Over partitions on two arbiters, and with the next request sent before any answer is read.
#[test]
fn requests_of_a_connection_take_effect_and_are_answered_in_their_order() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let mut sent = Vec::new();
        for number in 0..60 {
            let partition = number % 3;
            let batch = numbered(number / 3, &["x"]).freeze();
            sent.push((client.send(9, &produce(-1, vec![(partition, batch)])).await, number));
        }
        for (header, number) in sent {
            let response = client.receive::<ProduceRequest>(&header).await;
            let part = &response.responses[0].partition_responses[0];
            let wanted = (number % 3, ErrorCode::None, i64::from(number / 3));
            assert_eq!((part.index, part.error_code, part.base_offset), wanted);
        }
    });
}

#[test]
fn a_request_without_acks_is_not_answered_and_one_that_fails_closes_the_connection() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let silent = produce(0, vec![(0, batch(&["a"]).freeze())]);
        client.send(9, &silent).await;
        let loud = produce(1, vec![(0, batch(&["b"]).freeze())]);
        assert_eq!(outcomes(&mut client, 9, &loud).await, [(0, ErrorCode::None, 1)]);
        client.send(9, &produce(0, vec![(9, batch(&["c"]).freeze())])).await;
        assert!(client.is_closed().await);
    });
}

/// A frame that nobody else holds is stamped in place.
#[test]
fn batches_are_not_copied_on_their_way() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let big = "x".repeat(100_000);
        let batch = batch(&[&big]).freeze();
        let before = handlers::produce::COPIED.get();
        let answer = outcomes(&mut client, 9, &produce(-1, vec![(0, batch)])).await;
        assert_eq!(answer, [(0, ErrorCode::None, 0)]);
        assert_eq!(handlers::produce::COPIED.get(), before);
    });
}
