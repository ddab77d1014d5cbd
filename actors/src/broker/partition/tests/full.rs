//! A disk that is full when a partition is opened or stopped.

use flumen_runtime::journal::Journaled;

use super::*;

/// Numbers of `errno(3)`.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

fn without_room() -> Faults {
    Faults { capacity: 0, ..Faults::none() }
}

/// What only the journal has of the log.
fn journaled() -> Vec<Journaled> {
    let mut batch = record(0, "a");
    batch::stamp(&mut batch, Offset(0), LeaderEpoch(0));
    let (base_offset, end_offset) = (Offset(0), Offset(1));
    vec![Journaled { epoch: LeaderEpoch(0), base_offset, end_offset, payload: batch.freeze() }]
}

#[test]
fn a_log_that_lacks_room_to_be_opened_opens_by_itself_and_holds_what_only_the_journal_had() {
    simulate(async |world| {
        // The log is there, and its only batch in the journal alone.
        life(&world, options(), End::Kill, async |node| {
            node.status().await;
            world.pass(SECOND).await;
        })
        .await;
        world.disks.set_faults(without_room());
        let given = PartitionOptions { journaled: journaled(), ..options() };
        life(&world, given, End::Exit, async |node| {
            for _ in 0..3 {
                let refused = node.append(record(1, "b")).await;
                let Err(AppendError::Offline(why)) = &refused else { panic!("{refused:?}") };
                assert!(why.is_passing && !why.reason.is_empty(), "{why}");
                world.pass(20 * SECOND).await;
            }
            let condition = node.status().await.condition;
            assert!(matches!(condition, Condition::Offline { .. }), "{condition:?}");
            assert!(node.handle.is_offline());
            world.disks.set_faults(Faults::none());
            world.pass(16 * SECOND).await;
            assert_eq!(node.read_all(Offset(0)).await, ["a"]);
            node.append(record(1, "b")).await.unwrap();
            assert_eq!(node.status().await.condition, Condition::Leading);
            assert!(!node.handle.is_offline());
            assert_eq!(node.restarts().await, 0);
        })
        .await;
    });
}

#[test]
fn a_log_that_finds_no_room_when_it_is_synced_at_its_opening_opens_by_itself() {
    for (sync_error, is_full) in [(ENOSPC, true), (EDQUOT, true), (EIO, false)] {
        simulate(async |world| {
            life(&world, options(), End::Kill, async |node| {
                node.append(record(0, "a")).await.unwrap();
            })
            .await;
            let faults = Faults { sync_errors: 1_000, sync_error, ..Faults::none() };
            world.disks.set_faults(faults);
            life(&world, options(), End::Exit, async |node| {
                let refused = node.append(record(1, "b")).await;
                let Err(AppendError::Offline(why)) = &refused else { panic!("{refused:?}") };
                assert_eq!(why.is_passing, is_full, "{why}");
                world.disks.set_faults(Faults::none());
                world.pass(16 * SECOND).await;
                if is_full {
                    node.append(record(1, "b")).await.unwrap();
                    assert_eq!(node.read_all(Offset(0)).await, ["a", "b"]);
                }
                let condition = node.status().await.condition;
                assert_eq!(condition == Condition::Leading, is_full, "{condition:?}");
                assert_eq!(node.restarts().await, 0);
            })
            .await;
        });
    }
}

#[test]
fn records_that_were_read_before_a_sync_had_no_room_for_them_are_not_replaced_in_the_same_process()
{
    simulate(async |world| {
        let log = LogConfig { sync_batches: u64::MAX, ..LogConfig::default() }.into();
        let config = PartitionConfig { log, ..PartitionConfig::default() }.into();
        let lazy = PartitionOptions { config, ..options() };
        life(&world, lazy, End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            assert_eq!(node.read_all(Offset(0)).await, ["a"]);
            let (sync_errors, sync_error) = (1_000, ENOSPC);
            world.disks.set_faults(Faults { sync_errors, sync_error, ..Faults::none() });
            node.root.inject_panic("partition/orders-0").await.unwrap();
            world.pass(SECOND).await;
            world.disks.set_faults(Faults::none());
            world.pass(60 * SECOND).await;
            let refused = node.append(record(1, "b")).await;
            let Err(AppendError::Offline(why)) = &refused else { panic!("{refused:?}") };
            assert!(!why.is_passing, "{why}");
        })
        .await;
    });
}

#[test]
fn a_new_log_that_lacks_room_takes_up_its_role_once_it_opens() {
    simulate(async |world| {
        world.disks.set_faults(without_room());
        life(&world, options(), End::Exit, async |node| {
            assert!(node.append(record(0, "a")).await.is_err());
            let assume = Assume { role: Role::Follower, epoch: LeaderEpoch(3) };
            let assumed = actix_rt::spawn(node.partition.send(assume));
            world.pass(40 * SECOND).await;
            assert!(!assumed.is_finished());
            world.disks.set_faults(Faults::none());
            assumed.await.unwrap().unwrap().unwrap();
            let status = node.status().await;
            assert_eq!((status.condition, status.epoch), (Condition::Following, LeaderEpoch(3)));
        })
        .await;
    });
}

#[test]
fn a_partition_that_waits_for_room_stops_at_once() {
    for waited in [0, 1, 7, 100] {
        simulate(async |world| {
            world.disks.set_faults(without_room());
            life(&world, options(), End::Exit, async |node| {
                world.pass(waited * SECOND / 2).await;
                let began = tokio::time::Instant::now();
                node.root.stop().await;
                assert!(began.elapsed() < SECOND, "after {:?}", began.elapsed());
                assert!(node.handle.closed().is_none(), "nothing was closed");
            })
            .await;
        });
    }
}

#[test]
fn a_partition_that_is_stopped_on_a_full_disk_is_closed_in_order_once_there_is_room() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            world.disks.set_faults(without_room());
            let (root, began) = (node.root.clone(), tokio::time::Instant::now());
            let stopped = actix_rt::spawn(async move { root.stop().await });
            let told = || world.trace.logged("the disk has no room to close the log in order");
            world.pass(SECOND / 2).await;
            assert_eq!(told(), 0, "that may pass");
            world.pass(SECOND * 7 / 2).await;
            assert!(!stopped.is_finished());
            assert_eq!(told(), 1);
            world.disks.set_faults(Faults::none());
            stopped.await.unwrap();
            assert!(began.elapsed() < 7 * SECOND, "after {:?}", began.elapsed());
            assert!(node.handle.closed().is_some(), "it was closed in order");
        })
        .await;
        life(&world, options(), End::Exit, async |node| {
            assert_eq!(node.read_all(Offset(0)).await, ["a"]);
        })
        .await;
    });
}

/// Gives a follower four records, the offsets 0 to 3.
async fn follow(partition: &Addr<Partition>) {
    for n in 0..4 {
        let mut batch = record(n, "x");
        batch::stamp(&mut batch, Offset(n as u64), LeaderEpoch(1));
        let (batches, leader_epoch) = (batch.freeze(), LeaderEpoch(1));
        let high_watermark = Offset(0);
        let append = AppendAsFollower { batches, leader_epoch, high_watermark };
        partition.send(append).await.unwrap().unwrap();
    }
}

#[test]
fn a_log_that_is_cut_for_longer_than_a_tick_is_cut_within_one_life() {
    simulate(async |world| {
        let follower =
            PartitionOptions { role: Role::Follower, epoch: LeaderEpoch(1), ..options() };
        life(&world, follower, End::Exit, async |node| {
            follow(&node.partition).await;
            world.disks.set_faults(Faults { latency_ms: 3_000, ..Faults::none() });
            let cut = node.partition.send(TruncateTo { offset: Offset(1) }).await;
            assert_eq!(cut.unwrap().unwrap(), Offset(1));
            assert_eq!(node.restarts().await, 0);
        })
        .await;
    });
}

#[test]
fn a_log_that_is_cut_on_a_full_disk_is_cut_once_there_is_room() {
    simulate(async |world| {
        let follower =
            PartitionOptions { role: Role::Follower, epoch: LeaderEpoch(1), ..options() };
        life(&world, follower, End::Exit, async |node| {
            follow(&node.partition).await;
            world.disks.set_faults(without_room());
            let cut = actix_rt::spawn(node.partition.send(TruncateTo { offset: Offset(1) }));
            world.pass(10 * SECOND).await;
            world.disks.set_faults(Faults::none());
            world.pass(20 * SECOND).await;
            assert!(cut.is_finished(), "it is not tried again");
            cut.await.unwrap().unwrap().unwrap();
            assert_eq!(node.status().await.marks.log_end, Offset(1));
        })
        .await;
    });
}
