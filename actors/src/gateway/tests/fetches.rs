//! Fetch: what is read, when it is answered, and what is refused.

use super::*;
use crate::gateway::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};

async fn append(client: &mut Client, partition: i32, values: &[&str]) {
    let request = produce(-1, vec![(partition, batch(values).freeze())]);
    let response = client.ask(9, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::None);
}

fn parts(response: FetchResponse) -> Vec<PartitionData> {
    assert_eq!(response.error_code, ErrorCode::None);
    response.responses.into_iter().flat_map(|topic| topic.partitions).collect()
}

/// Number and bytes of each partition that was told.
fn sizes(response: FetchResponse) -> Vec<(i32, usize)> {
    parts(response).iter().map(|part| (part.partition_index, part.records.len())).collect()
}

#[test]
fn records_come_from_several_partitions_and_are_never_null() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        append(&mut client, 0, &["a"]).await;
        append(&mut client, 2, &["b", "c"]).await;
        for version in 4..=12 {
            let found = parts(client.ask(version, &fetch(&[(0, 0), (1, 0), (2, 0)])).await);
            let numbers: Vec<_> = found.iter().map(|part| part.partition_index).collect();
            assert_eq!(numbers, [0, 1, 2]);
            let marks: Vec<_> =
                found.iter().map(|p| (p.high_watermark, p.last_stable_offset)).collect();
            assert_eq!(marks, [(1, 1), (0, 0), (2, 2)]);
            let bytes: Vec<_> = found.iter().map(|part| part.records.len()).collect();
            let (one, two) = (batch(&["a"]).len(), batch(&["b", "c"]).len());
            assert_eq!(bytes, [one, 0, two], "version {version}");
            assert!(found.iter().all(|part| part.aborted_transactions.is_none()));
        }
        let committed = FetchRequest { isolation_level: 1, ..fetch(&[(0, 0)]) };
        let found = parts(client.ask(12, &committed).await);
        assert_eq!(found[0].aborted_transactions, Some(vec![]), "it asks, and there are none");
    });
}

#[test]
fn topics_are_found_by_their_ids_and_a_deleted_one_is_not_taken_for_its_successor() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        append(&mut client, 0, &["old"]).await;
        let spec = || TopicSpec::new("t", 3).unwrap();
        let name = spec().name;
        let old = world.broker.topics()[&name].id;
        let mut request = fetch(&[(0, 0)]);
        request.topics[0].topic_id = old;
        for version in 13..=18 {
            let response = client.ask(version, &request).await;
            assert_eq!(response.responses[0].topic_id, old);
            assert!(!parts(response)[0].records.is_empty(), "version {version}");
        }
        world.broker.delete_topic(&name).await.unwrap();
        let gone = parts(client.ask(13, &request).await);
        assert_eq!(gone[0].error_code, ErrorCode::UnknownTopicId);
        let gone = parts(client.ask(12, &request).await);
        assert_eq!(gone[0].error_code, ErrorCode::UnknownTopicOrPartition);
        world.broker.create_topic(spec()).await.unwrap();
        let still = parts(client.ask(13, &request).await);
        assert_eq!(still[0].error_code, ErrorCode::UnknownTopicId);
        let anew = parts(client.ask(12, &request).await);
        assert_eq!((anew[0].error_code, anew[0].high_watermark), (ErrorCode::None, 0));
    });
}

#[test]
fn an_empty_fetch_waits_its_time_and_a_produce_wakes_it() {
    paused(async {
        let world = World::with_topic().await;
        let (mut reader, mut writer) = (world.connect().await, world.connect().await);
        for wanted in [&[(0, 0)][..], &[(0, 0), (1, 0)]] {
            let begin = tokio::time::Instant::now();
            let found = sizes(reader.ask(11, &fetch(wanted)).await);
            assert!(found.iter().all(|(_, bytes)| *bytes == 0));
            assert_eq!(begin.elapsed().as_millis() / 100, 5, "{wanted:?}: it waited its time");
        }
        for (round, wanted) in [&[(1, 0)][..], &[(0, 0), (1, 1), (2, 0)]].into_iter().enumerate() {
            let long = FetchRequest { max_wait_ms: 60_000, ..fetch(wanted) };
            let begin = tokio::time::Instant::now();
            let header = reader.send(11, &long).await;
            pass(Duration::from_secs(5)).await;
            append(&mut writer, 1, &["x"]).await;
            let found = parts(reader.receive::<FetchRequest>(&header).await);
            let one = found.iter().find(|part| part.partition_index == 1).unwrap();
            assert_eq!(one.high_watermark, round as i64 + 1);
            assert_eq!(one.records.len(), batch(&["x"]).len());
            assert_eq!(begin.elapsed().as_secs(), 5);
        }
    });
}

#[test]
fn a_fetch_waits_for_as_many_bytes_as_it_asks() {
    paused(async {
        let world = World::with_topic().await;
        let (mut reader, mut writer) = (world.connect().await, world.connect().await);
        let size = batch(&["x"]).len();
        for wanted in [&[(0, 0)][..], &[(1, 0), (2, 0)]] {
            let min_bytes = 2 * size as i32;
            let patient = FetchRequest { max_wait_ms: 60_000, min_bytes, ..fetch(wanted) };
            let begin = tokio::time::Instant::now();
            let header = reader.send(11, &patient).await;
            for (partition, _) in [wanted[0], *wanted.last().unwrap()] {
                // Longer than a partition has in memory what came.
                pass(Duration::from_secs(5)).await;
                append(&mut writer, partition, &["x"]).await;
            }
            let found = sizes(reader.receive::<FetchRequest>(&header).await);
            assert_eq!(found.iter().map(|(_, bytes)| bytes).sum::<usize>(), 2 * size, "{wanted:?}");
            assert_eq!(begin.elapsed().as_secs(), 10);
        }
    });
}

#[test]
fn what_is_enough_is_given_at_once_however_it_is_spread() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let value = "x".repeat(100_000);
        let size = batch(&[&value]).len();
        for _ in 0..9 {
            append(&mut client, 1, &[&value]).await;
        }
        let begin = tokio::time::Instant::now();
        let given = |found: Vec<(i32, usize)>| found.iter().map(|(_, bytes)| bytes).sum::<usize>();
        let patient = |max_bytes: usize, min_bytes: usize, wanted: &[(i32, i64)]| FetchRequest {
            max_wait_ms: 60_000,
            max_bytes: max_bytes as i32,
            min_bytes: min_bytes as i32,
            ..fetch(wanted)
        };
        // More than its share, where the others have nothing.
        let most = patient(1 << 20, 6 * size, &[(0, 0), (1, 0), (2, 0)]);
        assert!(given(sizes(client.ask(11, &most).await)) >= 6 * size);
        // As much as whole batches make of it, where there is more.
        for wanted in [&[(1, 0)][..], &[(0, 0), (1, 0)]] {
            let odd = patient(5 * size / 2, 5 * size / 2, wanted);
            assert_eq!(given(sizes(client.ask(11, &odd).await)), 2 * size, "{wanted:?}");
        }
        // Nobody is asked, so nobody is waited for.
        client.ask(11, &patient(1 << 20, 1, &[])).await;
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        // What is wanted of a partition is less than is waited for.
        let mut never = patient(1 << 20, 3 * size, &[(1, 0)]);
        never.topics[0].partitions[0].partition_max_bytes = 2 * size as i32;
        assert_eq!(given(sizes(client.ask(11, &never).await)), 2 * size);
        assert_eq!(begin.elapsed().as_secs(), 60);
    });
}

#[test]
fn nobody_waits_longer_than_five_minutes() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let begin = tokio::time::Instant::now();
        for wanted in [&[(0, 0)][..], &[(0, 0), (1, 0)]] {
            let for_weeks = FetchRequest { max_wait_ms: i32::MAX, ..fetch(wanted) };
            client.ask(11, &for_weeks).await;
        }
        assert_eq!(begin.elapsed().as_secs(), 600);
    });
}

#[test]
fn limits_hold_but_for_the_first_batch_of_the_first_that_has_any() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let value = "x".repeat(10_000);
        let size = batch(&[&value]).len();
        for partition in 0..3 {
            for _ in 0..3 {
                append(&mut client, partition, &[&value]).await;
            }
        }
        let all = fetch(&[(0, 0), (1, 0), (2, 0)]);
        let max_bytes = |max_bytes| FetchRequest { max_bytes, ..all.clone() };
        let found = sizes(client.ask(11, &max_bytes(1)).await);
        assert_eq!(found, [(0, size), (1, 0), (2, 0)], "one batch, however small the limit");
        let found = sizes(client.ask(11, &max_bytes(0)).await);
        assert_eq!(found, [(0, size), (1, 0), (2, 0)]);
        let found = sizes(client.ask(11, &max_bytes(4 * size as i32)).await);
        assert!(found.iter().map(|(_, bytes)| bytes).sum::<usize>() <= 4 * size, "{found:?}");
        let mut narrow = all.clone();
        narrow.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = 1);
        let found = sizes(client.ask(11, &narrow).await);
        assert_eq!(found, [(0, size), (1, 0), (2, 0)]);
        narrow.topics[0].partitions[0].fetch_offset = 3;
        let found = sizes(client.ask(11, &narrow).await);
        assert_eq!(found, [(0, 0), (1, size), (2, 0)], "the first has nothing");
        // A share is less than a batch of each, but there is room for two of them.
        let value = "x".repeat(100_000);
        let (large, mut shared) = (batch(&[&value]).len(), all.clone());
        for (place, partition) in shared.topics[0].partitions.iter_mut().enumerate() {
            append(&mut client, place as i32, &[&value]).await;
            partition.fetch_offset = 3;
        }
        shared.max_bytes = 5 * large as i32 / 2;
        let found = sizes(client.ask(11, &shared).await);
        assert_eq!(found, [(0, large), (1, large), (2, 0)]);
    });
}

/// What is larger than an answer may be is read only once there is room for all of it.
#[test]
fn a_batch_beyond_all_limits_waits_for_its_room() {
    paused(async {
        let world = World::new().await;
        let spec = TopicSpec::new("t", 3).unwrap().set("max.message.bytes", "10000000").unwrap();
        world.broker.create_topic(spec).await.unwrap();
        let (mut writer, mut reader) = (world.connect().await, world.connect().await);
        let large = "x".repeat(6 << 20);
        let size = batch(&[&large]).len();
        append(&mut writer, 1, &[&large]).await;
        append(&mut writer, 2, &["y"]).await;
        let room = &world.shared.answer_room;
        for wanted in [&[(1, 0)][..], &[(0, 0), (1, 0), (2, 0)]] {
            // Enough for everything else.
            let taken = room.try_acquire(1, room.whole().bytes - (5 << 20)).unwrap();
            let header = reader.send(11, &fetch(wanted)).await;
            pass(Duration::from_secs(2)).await;
            assert!(room.out().bytes <= room.whole().bytes);
            drop(taken);
            let begin = tokio::time::Instant::now();
            let found = sizes(reader.receive::<FetchRequest>(&header).await);
            let given: Vec<_> = found.iter().filter(|(_, bytes)| *bytes > 0).collect();
            assert_eq!(given, [&(1, size)], "{wanted:?}");
            assert!(begin.elapsed() < Duration::from_secs(1));
            assert_eq!(room.out().count, 0);
        }
    });
}

/// Whoever asks in the same order each time gets what is larger than an answer, too.
#[test]
fn a_batch_that_an_answer_has_no_room_for_beside_others_comes_with_the_next() {
    paused(async {
        let world = World::new().await;
        let spec = TopicSpec::new("t", 3).unwrap().set("max.message.bytes", "10000000").unwrap();
        world.broker.create_topic(spec).await.unwrap();
        let mut client = world.connect().await;
        let (small, large) = ("x", "x".repeat(6 << 20));
        for (partition, value) in [(0, small), (1, &large), (2, &large)] {
            append(&mut client, partition, &[value]).await;
        }
        let mut wanted = fetch(&[(0, 0), (1, 0), (2, 0)]);
        wanted.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = 8 << 20);
        let given = async |client: &mut Client, max_bytes| {
            let found = sizes(client.ask(11, &FetchRequest { max_bytes, ..wanted.clone() }).await);
            let given = found.iter().filter(|(_, bytes)| *bytes > 0);
            given.map(|(partition, _)| *partition).collect::<Vec<_>>()
        };
        // Nothing is ever taken, so there is always all of it.
        for partition in [0, 1, 2, 0] {
            assert_eq!(given(&mut client, 50 << 20).await, [partition]);
        }
        // As in Kafka, the order is the client's where its own limit leaves something out.
        let mut other = world.connect().await;
        for _ in 0..3 {
            assert_eq!(given(&mut other, 1 << 20).await, [0]);
        }
    });
}

/// Sarama, for one, keeps only the second of two entries of a topic.
#[test]
fn a_topic_has_one_entry_in_an_answer_whichever_of_its_partitions_comes_first() {
    paused(async {
        let world = World::new().await;
        for name in ["t", "u"] {
            let spec = TopicSpec::new(name, 3).unwrap();
            let spec = spec.set("max.message.bytes", "10000000").unwrap();
            world.broker.create_topic(spec).await.unwrap();
        }
        let mut client = world.connect().await;
        let large = "x".repeat(6 << 20);
        append(&mut client, 0, &["x"]).await;
        append(&mut client, 1, &[&large]).await;
        let mut both = fetch(&[(0, 0), (1, 0), (2, 0)]);
        both.topics.push(FetchTopic { topic: "u".into(), ..both.topics[0].clone() });
        let parts = both.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        parts.for_each(|part| part.partition_max_bytes = 8 << 20);
        let entries = |response: FetchResponse| {
            let entry = |topic: &FetchableTopicResponse| {
                let number = |part: &PartitionData| part.partition_index;
                (topic.topic.to_string(), topic.partitions.iter().map(number).collect::<Vec<_>>())
            };
            response.responses.iter().map(entry).collect::<Vec<_>>()
        };
        // The second begins with what the first had no room for.
        for of_t in [vec![0, 1, 2], vec![1, 2, 0]] {
            let answer =
                client.ask(11, &FetchRequest { max_bytes: 50 << 20, ..both.clone() }).await;
            let wanted = [("t".to_owned(), of_t), ("u".to_owned(), vec![0, 1, 2])];
            assert_eq!(entries(answer), wanted);
        }

        // In a session, whoever was served goes behind the others.
        let mut session = FetchRequest { session_epoch: 0, ..both };
        session.topics[0].partitions[1].fetch_offset = 1;
        let first = client.ask(11, &session).await;
        append(&mut client, 0, &["y"]).await;
        append(&mut client, 1, &["y"]).await;
        let mut produced = produce(-1, vec![(2, batch(&["y"]).freeze())]);
        produced.topic_data[0].name = "u".into();
        client.ask(9, &produced).await;
        let (session_id, session_epoch) = (first.session_id, 1);
        let next = FetchRequest { session_id, session_epoch, topics: Vec::new(), ..session };
        let answer = entries(client.ask(11, &next).await);
        assert_eq!(answer, [("t".to_owned(), vec![1, 0]), ("u".to_owned(), vec![2])]);
    });
}

#[test]
fn offsets_and_epochs_that_are_not_there_are_refused_at_once() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        append(&mut client, 0, &["a"]).await;
        let begin = tokio::time::Instant::now();
        let with = |offset: i64, epoch: i32, partition: i32| {
            let mut request = fetch(&[(partition, offset)]);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            request
        };
        for (request, error) in [
            (with(2, -1, 0), ErrorCode::OffsetOutOfRange),
            (with(-1, -1, 0), ErrorCode::OffsetOutOfRange),
            (with(0, 5, 0), ErrorCode::UnknownLeaderEpoch),
            (with(0, -1, 3), ErrorCode::UnknownTopicOrPartition),
            (with(0, -1, -1), ErrorCode::UnknownTopicOrPartition),
        ] {
            let found = parts(client.ask(11, &request).await);
            assert_eq!((found[0].error_code, found[0].records.len()), (error, 0));
        }
        assert!(begin.elapsed() < Duration::from_millis(100));
    });
}

#[test]
fn a_session_tells_only_what_is_new_and_ends_with_its_connection() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        append(&mut client, 1, &["a"]).await;
        let first = FetchRequest { session_epoch: 0, ..fetch(&[(0, 0), (1, 0)]) };
        let full = client.ask(11, &first).await;
        let session_id = full.session_id;
        assert!(session_id > 0);
        assert_eq!(sizes(full), [(0, 0), (1, batch(&["a"]).len())]);
        append(&mut client, 0, &["b"]).await;
        let mut next = FetchRequest { session_id, session_epoch: 1, ..fetch(&[(1, 1)]) };
        assert_eq!(sizes(client.ask(11, &next).await), [(0, batch(&["b"]).len())]);
        next.session_epoch = 7;
        let refused = client.ask(11, &next).await.error_code;
        assert_eq!(refused, ErrorCode::InvalidFetchSessionEpoch);
        let mut other = world.connect().await;
        next.session_epoch = 2;
        let refused = other.ask(11, &next).await.error_code;
        assert_eq!(refused, ErrorCode::FetchSessionIdNotFound);
    });
}

/// While a partition's actor is made anew, clients are told to try again, and then it answers.
#[test]
fn a_partition_that_is_made_anew_is_a_passing_error() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        append(&mut client, 0, &["a"]).await;
        world.root.inject_panic("partition/t-0").await.unwrap();
        let mut passing = 0;
        loop {
            let found = parts(client.ask(11, &fetch(&[(0, 0)])).await);
            match found[0].error_code {
                ErrorCode::None => break assert_eq!(found[0].records.len(), batch(&["a"]).len()),
                ErrorCode::NotLeaderOrFollower => passing += 1,
                other => panic!("{other:?} is not passing"),
            }
            assert!(passing < 1_000, "it never comes back");
            pass(Duration::from_millis(10)).await;
        }
    });
}

/// A client that is told who leads need not ask for that.
#[test]
fn beside_a_refusal_the_leader_is_named_in_versions_that_can_say_it() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let mut patient = FetchRequest { max_wait_ms: 60_000, ..fetch(&[(0, 0)]) };
        patient.topics[0].topic_id = world.broker.topics()[&"t".parse().unwrap()].id;
        for (version, is_named) in [(15, false), (16, true), (17, true)] {
            let header = client.send(version, &patient).await;
            pass(Duration::from_secs(1)).await;
            world.root.inject_panic("partition/t-0").await.unwrap();
            let mut refused = client.receive::<FetchRequest>(&header).await;
            let endpoints = std::mem::take(&mut refused.node_endpoints);
            let part = &parts(refused)[0];
            assert_eq!(part.error_code, ErrorCode::NotLeaderOrFollower);
            let named = (part.current_leader.leader_id, part.current_leader.leader_epoch);
            let at: Vec<_> = endpoints.iter().map(|at| (at.node_id, &*at.host, at.port)).collect();
            match is_named {
                true => assert_eq!((named, &at[..]), ((1, 0), &[(1, "within", 0)][..])),
                false => assert_eq!((named, &at[..]), ((-1, -1), &[][..])),
            }
        }
    });
}

#[test]
fn a_client_with_an_older_epoch_is_told_the_newer_one_and_who_leads_in_it() {
    paused(async {
        let disks = disks(Faults::none());
        let world = World::on(machine(&disks), Limits::default(), broker_spec()).await;
        world.broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        append(&mut world.connect().await, 0, &["a"]).await;
        disks.kill();
        let world = World::on(machine(&disks), Limits::default(), broker_spec()).await;
        let mut client = world.connect().await;
        let mut older = fetch(&[(0, 0)]);
        older.topics[0].topic_id = world.broker.topics()[&"t".parse().unwrap()].id;
        older.topics[0].partitions[0].current_leader_epoch = 0;
        let mut refused = client.ask(17, &older).await;
        let endpoints = std::mem::take(&mut refused.node_endpoints);
        let at: Vec<_> = endpoints.iter().map(|at| (at.node_id, &*at.host, at.port)).collect();
        let part = &parts(refused)[0];
        assert_eq!(part.error_code, ErrorCode::FencedLeaderEpoch);
        let named = (part.current_leader.leader_id, part.current_leader.leader_epoch);
        assert_eq!((named, &at[..]), ((1, 1), &[(1, "within", 0)][..]));
    });
}

/// Whoever has nothing to read holds none of the node's room.
#[test]
fn a_fetch_that_waits_holds_no_room() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let long = FetchRequest { max_wait_ms: 60_000, ..fetch(&[(0, 0), (1, 0)]) };
        let header = client.send(11, &long).await;
        pass(Duration::from_secs(1)).await;
        assert_eq!(world.shared.request_room.out(), (0, 0));
        assert_eq!(world.shared.answer_room.out().count, 0);
        client.receive::<FetchRequest>(&header).await;
        assert_eq!(world.shared.answer_room.out().count, 0);
    });
}

/// Of what fetches wait for there is an end: beyond it they are answered at once, as often as they ask.
#[test]
fn who_would_wait_for_more_than_there_is_room_for_is_answered_at_once() {
    paused(async {
        let world = World::with(Limits { session_partitions_max: 2, ..Limits::default() }).await;
        world.broker.create_topic(TopicSpec::new("t", 3).unwrap()).await.unwrap();
        let (mut first, mut second) = (world.connect().await, world.connect().await);
        let two = FetchRequest { max_wait_ms: 60_000, ..fetch(&[(0, 0), (1, 0)]) };
        let begin = tokio::time::Instant::now();
        let header = first.send(11, &two).await;
        pass(Duration::from_millis(10)).await;
        second.ask(11, &FetchRequest { max_wait_ms: 60_000, ..fetch(&[(2, 0)]) }).await;
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        first.receive::<FetchRequest>(&header).await;
        assert_eq!(begin.elapsed().as_secs(), 60);
        assert_eq!(world.shared.waiting_room.out().count, 0);
    });
}
