//! Clients that are none, want too much, or never end.

use super::*;
use crate::gateway::{
    api::ApiKey,
    messages::{
        api_versions::ApiVersionsRequest,
        describe_configs::{DescribeConfigsRequest, DescribeConfigsResource},
        metadata::MetadataRequest,
    },
};

#[test]
fn what_is_no_request_ends_the_connection() {
    paused(async {
        let world = World::new().await;
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
            b"\0\0\0\0",
            b"\xff\xff\xff\xff",
            b"\0\0\0\x02\0\0",
            b"\0\0\0\x0a\x7f\xff\0\0\0\0\0\0\xff\xff",
            // Metadata, a topic list as long as can be said.
            b"\0\0\0\x0e\0\x03\0\x01\0\0\0\0\xff\xff\x7f\xff\xff\xff",
            // Produce version 2.
            b"\0\0\0\x0a\0\0\0\x02\0\0\0\0\xff\xff",
        ] {
            let mut client = world.connect().await;
            client.stream.write_all(bytes).await.unwrap();
            assert!(client.is_closed().await, "{}", bytes.escape_ascii());
        }
        assert_eq!(world.shared.request_room.out(), (0, 0));
    });
}

/// Bytes behind a request's end are no part of it, but they were read: what waits must not keep them.
#[test]
fn a_request_that_waits_long_keeps_nothing_of_its_frame() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let long = FetchRequest { max_wait_ms: 600_000, ..fetch(&[(0, 0), (1, 0)]) };
        let header = RequestHeader::new::<FetchRequest>(11, 1, Some("a client".into())).unwrap();
        let mut output = Output::new();
        header.request(&long, &mut output).unwrap();
        let mut frame = output.take_bytes().to_vec();
        frame.resize(frame.len() + 10_000, 0);
        let length = (frame.len() as u32 - 4).to_be_bytes();
        frame[..4].copy_from_slice(&length);
        client.stream.write_all(&frame).await.unwrap();
        pass(Duration::from_secs(1)).await;
        assert_eq!(world.shared.request_room.out(), (0, 0), "it counts for nothing");
        assert_eq!(world.shared.answer_room.out().bytes, 0);
    });
}

#[test]
fn a_node_that_stops_answers_what_it_has_and_lets_everybody_go() {
    paused(async {
        let world = World::with_topic().await;
        let (mut idle, mut busy) = (world.connect().await, world.connect().await);
        let waits = FetchRequest { max_wait_ms: 2_000, ..fetch(&[(0, 0)]) };
        let first = busy.send(11, &waits).await;
        // It must wait for the first, and is not taken up any more.
        busy.send(11, &waits).await;
        pass(Duration::from_millis(10)).await;
        let begin = tokio::time::Instant::now();
        let root = world.root.clone();
        let stopping = tokio::task::spawn_local(async move { root.stop().await });
        busy.receive::<FetchRequest>(&first).await;
        assert!(busy.is_closed().await && idle.is_closed().await);
        assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
        stopping.await.unwrap();
    });
}

#[test]
fn one_client_that_takes_no_answers_does_not_hold_up_another() {
    paused(async {
        let world = World::with_topic().await;
        let mut deaf = world.connect().await;
        let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
        for _ in 0..500 {
            deaf.send(9, &all).await;
        }
        let mut other = world.connect().await;
        assert_eq!(other.ask(9, &all).await.topics.len(), 1);
    });
}

/// Half a megabyte of empty texts is 16 MiB of them in memory: that has its room, too.
#[test]
fn what_requests_are_decoded_to_is_counted() {
    paused(async {
        let world = World::with_topic().await;
        let resource = DescribeConfigsResource {
            resource_type: 2,
            resource_name: "nowhere".into(),
            configuration_keys: Some(vec![Default::default(); 500_000]),
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        // Nobody's answer is begun, so all of them wait with what was decoded.
        let turns = &world.shared.turns.at_hand;
        let taken = turns.try_acquire(turns.whole().count, 0).unwrap();
        let mut asked = Vec::new();
        for _ in 0..6 {
            let mut client = world.connect().await;
            let header = client.send(4, &request).await;
            asked.push((client, header));
        }
        pass(Duration::from_secs(1)).await;
        let decoded = world.shared.request_room.decoded();
        assert!(decoded.whole().bytes <= 64 << 20);
        let out = decoded.out();
        assert!(out.count == 4 && out.bytes >= 64_000_000, "{out:?}");
        // What takes little memory needs none of it.
        let mut small = world.connect().await;
        assert_eq!(small.ask(3, &ApiVersionsRequest::default()).await.error_code, ErrorCode::None);
        drop(taken);
        for (mut client, header) in asked {
            let answer = client.receive::<DescribeConfigsRequest>(&header).await;
            assert_eq!(answer.results[0].error_code, ErrorCode::UnknownTopicOrPartition);
        }
        assert_eq!((decoded.out().count, world.shared.request_room.out()), (0, (0, 0)));
    });
}

/// The answers to many questions about everything are not all made before the first is taken.
#[test]
fn large_answers_are_counted_and_made_one_at_a_time() {
    paused(async {
        let world = World::new().await;
        for number in 0..3 {
            let spec = TopicSpec::new(&format!("t{number}"), 1_000).unwrap();
            world.broker.create_topic(spec).await.unwrap();
        }
        let mut deaf = world.connect().await;
        let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
        let mut sent = Vec::new();
        for _ in 0..10 {
            sent.push(deaf.send(9, &all).await);
        }
        pass(Duration::from_secs(1)).await;
        let out = world.shared.answer_room.out();
        assert!(out.count == 1 && out.bytes > 64_000, "{out:?}");
        for header in sent {
            assert_eq!(deaf.receive::<MetadataRequest>(&header).await.topics.len(), 3);
        }
        assert_eq!(world.shared.answer_room.out().count, 0);
    });
}

/// Nor are those of many connections: what is built has its room, or is one of a few.
#[test]
fn few_large_answers_are_built_while_there_is_no_room_for_them() {
    paused(async {
        let world = World::new().await;
        for number in 0..3 {
            let spec = TopicSpec::new(&format!("t{number}"), 1_000).unwrap();
            world.broker.create_topic(spec).await.unwrap();
        }
        let room = &world.shared.answer_room;
        let taken = room.try_acquire(1, room.whole().bytes).unwrap();
        let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
        let mut asked = Vec::new();
        for _ in 0..20 {
            let mut client = world.connect().await;
            let header = client.send(9, &all).await;
            asked.push((client, header));
        }
        pass(Duration::from_secs(1)).await;
        let counts = world.shared.counters.all();
        let built = counts.iter().find(|counts| counts.api == ApiKey::Metadata).unwrap();
        assert_eq!((built.requests, built.time.count()), (20, 4));
        // Others are answered meanwhile.
        let ours = world.connect().await.ask(3, &ApiVersionsRequest::default()).await;
        assert_eq!(ours.error_code, ErrorCode::None);
        drop(taken);
        for (mut client, header) in asked {
            assert_eq!(client.receive::<MetadataRequest>(&header).await.topics.len(), 3);
        }
        assert_eq!(room.out().count, 0);
    });
}

/// What is asked for again and again is told as long as the answer stays within its bounds.
#[test]
fn no_answer_grows_by_naming_the_same_thing_again_and_again() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let node = DescribeConfigsResource {
            resource_type: 4,
            resource_name: "1".into(),
            ..DescribeConfigsResource::default()
        };
        let request = DescribeConfigsRequest {
            resources: vec![node; 2_000],
            include_synonyms: true,
            include_documentation: true,
        };
        let answer = client.ask(4, &request).await.results;
        let codes: Vec<_> = answer.iter().map(|result| result.error_code).collect();
        let told = codes.iter().filter(|code| **code == ErrorCode::None).count();
        assert!((100..1_900).contains(&told), "{told}");
        assert!(codes[told..].iter().all(|code| *code == ErrorCode::PolicyViolation));
        let why = answer.last().unwrap().error_message.as_deref().unwrap();
        assert!(why.contains("ask for the rest"), "{why}");
    });
}

/// A thousand idle clients cost a node no more than a few megabytes: besides this, a connection has
/// its actor's mailbox, a timer and its place in a few lists, and no buffer.
#[test]
fn an_idle_connection_is_small() {
    let own = size_of::<super::connection::Connection<tokio::net::TcpStream>>()
        + size_of::<super::requests::Requests>();
    assert!(own <= 1_280, "{own} bytes");
}
