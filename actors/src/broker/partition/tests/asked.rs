//! What a partition is asked besides records: epochs, producers, settings in every stage.

use super::*;
use crate::broker::partition::messages::{
    DescribeProducers, EpochEnd, FindEpochEnd, NotLeaderError, TruncateTo,
};

#[test]
fn an_epoch_ends_where_the_next_has_its_first_record() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            let ends = async |of, epoch: Option<u32>| {
                let (of, epoch) = (LeaderEpoch(of), epoch.map(LeaderEpoch));
                node.partition.send(FindEpochEnd { of, epoch }).await.unwrap()
            };
            let ended = |epoch, end, is_over| {
                let (epoch, end) = (LeaderEpoch(epoch), Offset(end));
                Ok(Some(EpochEnd { epoch, end, is_over }))
            };
            let (end, over) =
                (|epoch, end| ended(epoch, end, false), |epoch, end| ended(epoch, end, true));
            assert_eq!(ends(0, None).await, end(0, 0), "the current one, before its first record");
            node.append(record(0, "a")).await.unwrap();
            node.append(record(1, "b")).await.unwrap();
            lead(node, 3).await;
            assert_eq!(ends(3, None).await, end(3, 2), "nothing of it is there yet");
            assert_eq!(ends(2, None).await, over(0, 2), "it had no record, or has lost all it had");
            node.append(record(2, "c")).await.unwrap();
            assert_eq!(ends(0, Some(3)).await, over(0, 2));
            assert_eq!(ends(2, None).await, over(0, 2));
            assert_eq!(ends(3, None).await, end(3, 3));
            assert_eq!(ends(4, None).await, Ok(None), "it is yet to come");
            let refused = ends(0, Some(2)).await.unwrap_err();
            let now = NotLeaderError { is_leader: true, epoch: LeaderEpoch(3) };
            assert_eq!(refused, FetchError::NotLeader(now));
        })
        .await;
    });
}

#[test]
fn what_cannot_be_read_is_told_once_a_place_however_often_readers_ask_in_turn() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            for n in 0..40 {
                node.append(record(n, "x")).await.unwrap();
            }
            let bytes = record(0, "x").len() as u64;
            let path = "/data/orders-0/00000000000000000000.log";
            for n in 0..40 {
                assert!(world.disks.flip_bit(path.as_ref(), n * bytes + bytes - 1, 0));
            }
            let ask = async |place: u64| {
                let asked = node.partition.send(Fetch::from(Offset(place))).await.unwrap();
                assert!(matches!(asked, Err(FetchError::Unreadable { .. })), "{asked:?}");
            };
            let told = || world.trace.logged("records cannot be read");
            for _ in 0..5 {
                ask(0).await;
                ask(1).await;
                world.pass(31 * SECOND).await;
            }
            assert_eq!(told(), 2);
            for _ in 0..10 {
                for place in 0..40 {
                    ask(place).await;
                }
                world.pass(31 * SECOND).await;
            }
            assert_eq!(told(), 2 + 10, "of more than it remembers one a tick");
        })
        .await;
    });
}

async fn lead(node: &Node, epoch: u32) {
    let assume = Assume { role: Role::Leader, epoch: LeaderEpoch(epoch) };
    node.partition.send(assume).await.unwrap().unwrap();
}

#[test]
fn a_reader_of_another_epoch_is_refused_at_once_and_when_the_epoch_changes_while_it_waits() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            let fetch = |offset, epoch| Fetch::from(Offset(offset)).epoch(LeaderEpoch(epoch));
            assert_eq!(node.fetch(fetch(0, 0)).await.epoch, LeaderEpoch(0));
            let early = node.partition.send(fetch(0, 1)).await.unwrap();
            assert!(matches!(early, Err(FetchError::NotLeader(_))), "{early:?}");
            let parked = actix_rt::spawn(node.partition.send(fetch(1, 0).wait(60 * SECOND)));
            world.pass(SECOND).await;
            lead(node, 1).await;
            let fenced = parked.await.unwrap().unwrap();
            assert!(matches!(fenced, Err(FetchError::NotLeader(_))), "{fenced:?}");
            let late = FindOffset { epoch: Some(LeaderEpoch(0)), ..FindOffset::new(At::Latest) };
            let late = node.partition.send(late).await.unwrap();
            assert!(matches!(late, Err(FetchError::NotLeader(_))), "{late:?}");
        })
        .await;
    });
}

#[test]
fn the_producers_of_a_partition_can_be_told() {
    simulate(async |world| {
        life(&world, options(), End::PowerCut, async |node| {
            node.append(record(0, "a")).await.unwrap();
            node.append(record(1, "b")).await.unwrap();
        })
        .await;
        life(&world, options(), End::Exit, async |node| {
            let told = node.partition.send(DescribeProducers).await.unwrap().unwrap();
            let [producer] = &told[..] else { panic!("{told:?}") };
            assert_eq!((producer.producer, producer.epoch), (ProducerId(7), 0));
            assert_eq!((producer.last_sequence, producer.transaction_first), (1, None));
        })
        .await;
    });
}

fn small() -> Arc<PartitionConfig> {
    let log = LogConfig { batch_bytes_max: 100, ..LogConfig::default() };
    PartitionConfig { log: log.into(), ..PartitionConfig::default() }.into()
}

#[test]
fn settings_reach_a_partition_that_is_offline_and_hold_when_it_is_made_anew() {
    simulate(async |world| {
        life(&world, options(), End::Kill, async |node| {
            node.append(record(0, "a")).await.unwrap();
        })
        .await;
        let point = "/data/orders-0/recovery-point".as_ref();
        let own = world.disks.content(point).expect("it was made with the log");
        world.disks.install(point, &vec![1; own.len()]);
        life(&world, options(), End::Exit, async |node| {
            let refused = node.append(record(1, "b")).await;
            assert!(matches!(refused, Err(AppendError::Offline(_))), "{refused:?}");
            let configured = node.partition.send(Configure { config: small() }).await.unwrap();
            assert_eq!(configured, Ok(()));
            world.disks.install(point, &own);
            node.root.inject_panic("partition/orders-0").await.unwrap();
            let refused = node.append(record(1, &"x".repeat(100))).await;
            assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
        })
        .await;
    });
}

#[test]
fn settings_that_come_while_the_log_opens_are_those_it_opens_with() {
    simulate(async |world| {
        world.disks.set_faults(Faults { latency_ms: 20, ..Faults::none() });
        life(&world, options(), End::Exit, async |node| {
            let configured = node.partition.send(Configure { config: small() }).await.unwrap();
            assert_eq!(configured, Ok(()));
            let refused = node.append(record(0, &"x".repeat(100))).await;
            assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
        })
        .await;
    });
}

#[test]
fn a_trim_that_has_nothing_to_remove_and_a_truncation_of_a_leader_are_answered_at_once() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            world.pass(100 * SECOND).await;
            let began = tokio::time::Instant::now();
            for offset in [0, 1, 0] {
                let trimmed = node.partition.send(TrimTo { offset: Offset(offset) }).await.unwrap();
                assert!(trimmed.is_ok(), "{trimmed:?}");
            }
            let refused = node.partition.send(TruncateTo { offset: Offset(0) }).await.unwrap();
            assert!(matches!(refused, Err(FetchError::NotLeader(_))), "{refused:?}");
            assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        })
        .await;
    });
}

#[test]
fn readers_that_give_up_and_ask_again_leave_nothing_behind() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            for _ in 0..1_000 {
                let asked = node.partition.send(Fetch::from(Offset(0)).wait(60 * SECOND));
                // It was taken in, and nobody waits for it any more.
                drop(tokio::time::timeout(Duration::ZERO, asked).await);
                tokio::task::yield_now().await;
            }
            let parked = node.status().await.parked;
            assert!(parked <= 128, "{parked} fetches are parked, and nobody waits for one");
        })
        .await;
    });
}

fn timed(sequence: i32, timestamp: i64) -> BytesMut {
    let mut batch = BatchBuilder::new(timestamp).producer(7, 0, sequence);
    batch.push(RecordRef { timestamp, value: Some(&[7; 2_000]), ..RecordRef::default() });
    batch.build()
}

#[test]
fn the_largest_timestamp_is_found_in_a_segment_that_was_closed_in_an_earlier_life() {
    simulate(async |world| {
        let log = LogConfig { segment_bytes: 4_096, ..LogConfig::default() }.into();
        let config =
            PartitionConfig { log, ahead_max: Duration::MAX, ..PartitionConfig::default() };
        let config = Arc::new(config);
        let options = || PartitionOptions { config: config.clone(), ..options() };
        life(&world, options(), End::Kill, async |node| {
            for (sequence, timestamp) in [10, 99, 20, 30, 40, 50, 60].into_iter().enumerate() {
                node.append(timed(sequence as i32, timestamp)).await.unwrap();
            }
        })
        .await;
        life(&world, options(), End::Exit, async |node| {
            let found = node.partition.send(FindOffset::new(At::MaxTimestamp)).await.unwrap();
            let found = found.unwrap().expect("there are records");
            assert_eq!((found.offset, found.timestamp_ms), (Offset(1), 99));
        })
        .await;
    });
}
