//! Segments that are gone since a clean stop.

use flumen_runtime::disk::DiskHandle;

use super::*;
use crate::broker::partition::options::ClosedPartition;

/// A partition each of whose segments holds one record.
fn in_segments() -> PartitionOptions {
    let log = LogConfig { segment_bytes: 4_096, ..LogConfig::default() }.into();
    let config = PartitionConfig { log, ..PartitionConfig::default() };
    PartitionOptions { config: config.into(), ..options() }
}

/// What it says of itself when it is stopped in order, with `count` of them.
async fn stopped(world: &World, count: i32) -> Option<ClosedPartition> {
    life(world, in_segments(), End::Exit, async |node| {
        for n in 0..count {
            node.append(record(n, &"x".repeat(3_000))).await.unwrap();
        }
        node.root.stop().await;
        node.handle.closed()
    })
    .await
}

async fn remove(world: &World, base: u32) {
    let disk = DiskHandle::start(world.disks.disk_for(ArbiterId(0)));
    disk.remove(format!("{DATA}/orders-0/{base:020}.log")).await.unwrap();
}

#[test]
fn a_lost_segment_of_a_partition_that_rests_is_named_to_who_reads_it_and_to_who_writes() {
    simulate(async |world| {
        let given = PartitionOptions { closed: stopped(&world, 1).await, ..in_segments() };
        remove(&world, 0).await;
        life(&world, given, End::Exit, async |node| {
            let refused = node.partition.send(Fetch::from(Offset(0))).await.unwrap().unwrap_err();
            assert!(refused.to_string().contains("00000000000000000000.log` is gone"), "{refused}");
            assert!(node.append(record(1, "b")).await.is_err());
            let refused = node.append(record(1, "b")).await.unwrap_err().to_string();
            assert!(refused.contains("00000000000000000000.log"), "{refused}");
        })
        .await;
    });
}

#[test]
fn what_the_last_stop_said_is_kept_while_no_more_files_can_be_open() {
    simulate(async |world| {
        let given = PartitionOptions { closed: stopped(&world, 3).await, ..in_segments() };
        world.disks.set_faults(Faults { out_of_files: true, ..Faults::none() });
        life(&world, given, End::Exit, async |node| {
            let refused = node.append(record(3, "b")).await;
            let Err(AppendError::Offline(why)) = &refused else { panic!("{refused:?}") };
            assert!(why.is_passing && why.remedy.contains("ulimit"), "{why}");
            world.disks.set_faults(Faults::none());
            let before = world.trace.lines().len();
            world.pass(2 * SECOND).await;
            assert_eq!(node.append(record(3, "b")).await.unwrap().base_offset, Offset(3));
            let lines = world.trace.lines();
            let is_read = |line: &&String| line.contains("disk read /data/orders-0/");
            let read: Vec<_> = lines[before..].iter().filter(is_read).collect();
            assert!(read.is_empty(), "it was recovered: {read:?}");
        })
        .await;
    });
}

#[test]
fn a_log_of_which_a_segment_is_lost_since_the_last_stop_is_recovered_when_it_is_started() {
    simulate(async |world| {
        let given = PartitionOptions { closed: stopped(&world, 3).await, ..in_segments() };
        remove(&world, 0).await;
        life(&world, given, End::Exit, async |node| {
            world.pass(SECOND).await;
            let condition = node.status().await.condition;
            let Condition::Offline { reason, .. } = condition else { panic!("{condition:?}") };
            assert!(reason.contains("those before it are gone"), "{reason}");
        })
        .await;
    });
}
