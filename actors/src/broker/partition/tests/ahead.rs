//! What is read before it is asked for.

use flumen_runtime::log::READ_BYTES_MIN;

use super::*;

const RECORDS: i32 = 20;

/// So large that a part of the log is two of them.
fn padded(n: i32) -> String {
    format!("{n:0>1000}")
}

async fn fill(node: &Node) {
    for n in 0..RECORDS {
        node.append(record(n, &padded(n))).await.unwrap();
    }
}

/// The next part: two batches.
async fn part(node: &Node, from: u64) -> Result<Fetched, FetchError> {
    let bytes_max = 2 * record(0, &padded(0)).len();
    node.partition.send(Fetch { bytes_max, ..Fetch::from(Offset(from)) }).await.unwrap()
}

/// Takes two parts one after the other, and leaves time for the third to be read.
async fn two_parts(world: &World, node: &Node) {
    fill(node).await;
    part(node, 0).await.unwrap();
    part(node, 2).await.unwrap();
    world.pass(SECOND / 10).await;
}

/// Where the log's only segment is, and how many bytes a batch of it has.
fn segment() -> (&'static str, u64) {
    ("/data/orders-0/00000000000000000000.log", record(0, &padded(0)).len() as u64)
}

/// How often the disk has read from where the batch at `from` begins.
fn reads(world: &World, from: u64) -> usize {
    let (path, bytes) = segment();
    let read = format!("disk read {path} {}+", from * bytes);
    world.trace.lines().iter().filter(|line| line.contains(&read)).count()
}

fn values(fetched: &Fetched) -> Vec<Bytes> {
    let mut values = Vec::new();
    for batches in &fetched.batches {
        for split in batch::split(batches) {
            let (header, batch) = split.unwrap();
            let bytes = batches.slice_ref(batch);
            values.extend(
                batch::records(&bytes, &header).unwrap().map(|r| r.unwrap().value.unwrap()),
            );
        }
    }
    values
}

/// Damages the batches from one on, or mends them again.
fn damage(world: &World, from: u64) {
    let (path, bytes) = segment();
    for n in from..RECORDS as u64 {
        assert!(world.disks.flip_bit(path.as_ref(), n * bytes + bytes / 2, 0));
    }
}

#[test]
fn whoever_takes_one_part_after_the_other_finds_the_next_one_read() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            fill(node).await;
            let room = &node.handle.directory().read_ahead;
            part(node, 0).await.unwrap();
            world.pass(SECOND / 10).await;
            assert_eq!(room.out().count, 0, "one read is no sign that there is a next");
            part(node, 2).await.unwrap();
            world.pass(SECOND / 10).await;
            let out = room.out();
            assert_eq!((out.count, out.bytes), (1, READ_BYTES_MIN), "what a read holds at least");
            damage(&world, 4);
            let fetched = part(node, 4).await.unwrap();
            assert_eq!(values(&fetched), [padded(4), padded(5)]);
            assert_eq!(fetched.marks.high_watermark, Offset(RECORDS as u64));
            let anew = part(node, 6).await;
            assert!(matches!(anew, Err(FetchError::Unreadable { .. })), "{anew:?}");
            assert_eq!(room.out().count, 0);
            damage(&world, 4);
            for from in (6..RECORDS as u64).step_by(2) {
                let expected = [padded(from as i32), padded(from as i32 + 1)];
                assert_eq!(values(&part(node, from).await.unwrap()), expected);
            }
            world.pass(SECOND / 10).await;
            assert_eq!(room.out().count, 0, "there is nothing after the end");
        })
        .await;
    });
}

#[test]
fn whoever_comes_while_it_is_read_waits_for_it_and_is_told_where_that_fails() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            fill(node).await;
            part(node, 0).await.unwrap();
            for from in (2..10).step_by(2) {
                // Without a pause: what is read ahead is still under way.
                let expected = [padded(from), padded(from + 1)];
                assert_eq!(values(&part(node, from as u64).await.unwrap()), expected);
            }
            damage(&world, 10);
            let failed = part(node, 10).await;
            assert!(matches!(failed, Err(FetchError::Unreadable { .. })), "{failed:?}");
            damage(&world, 10);
            assert_eq!(values(&part(node, 10).await.unwrap()), [padded(10), padded(11)]);
        })
        .await;
    });
}

#[test]
fn another_place_and_a_smaller_part_are_read_as_they_are_asked_for() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            two_parts(&world, node).await;
            let smaller = node.fetch(Fetch { bytes_max: 1, ..Fetch::from(Offset(4)) }).await;
            assert_eq!(values(&smaller), [padded(4)]);
            part(node, 5).await.unwrap();
            world.pass(SECOND / 10).await;
            assert_eq!(values(&part(node, 9).await.unwrap()), [padded(9), padded(10)]);
            assert_eq!(values(&part(node, 7).await.unwrap()), [padded(7), padded(8)]);
            world.pass(3 * SECOND).await;
            assert_eq!(node.handle.directory().read_ahead.out().count, 0);
        })
        .await;
    });
}

#[test]
fn a_tick_and_another_reader_void_nothing_that_was_read_ahead() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            fill(node).await;
            // The first tick of a log that was idle comes at once; that of another within the second.
            world.pass(SECOND * 41 / 2).await;
            part(node, 0).await.unwrap();
            part(node, 2).await.unwrap();
            world.pass(SECOND * 9 / 10).await;
            part(node, 11).await.unwrap();
            damage(&world, 4);
            assert_eq!(values(&part(node, 4).await.unwrap()), [padded(4), padded(5)]);
        })
        .await;
    });
}

#[test]
fn whoever_waits_for_what_is_being_read_while_ticks_pass_waits_for_one_read() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            fill(node).await;
            part(node, 0).await.unwrap();
            world.disks.set_faults(Faults { latency_ms: 1_500, ..Faults::none() });
            for from in (2..RECORDS as u64).step_by(2) {
                let expected = [padded(from as i32), padded(from as i32 + 1)];
                assert_eq!(values(&part(node, from).await.unwrap()), expected);
            }
            for from in (2..RECORDS as u64).step_by(2) {
                assert_eq!(reads(&world, from), 1, "of what begins at {from}");
            }
        })
        .await;
    });
}

#[test]
fn readers_that_take_turns_each_find_their_next_part_read() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            fill(node).await;
            let room = &node.handle.directory().read_ahead;
            for from in [0, 5, 10, 15, 2, 7, 12, 17] {
                part(node, from).await.unwrap();
            }
            world.pass(SECOND / 10).await;
            assert_eq!(room.out().count, 4);
            damage(&world, 0);
            for from in [4, 9, 14] {
                let expected = [padded(from), padded(from + 1)];
                assert_eq!(values(&part(node, from as u64).await.unwrap()), expected);
            }
            damage(&world, 0);
            // There is no end of readers, but one of what is held for them.
            for from in [0, 2, 5, 7, 10, 12, 1, 3] {
                part(node, from).await.unwrap();
            }
            world.pass(SECOND / 10).await;
            assert_eq!(room.out().count, 4);
        })
        .await;
    });
}

#[test]
fn what_is_larger_than_the_part_asked_for_is_read_once_and_once_more_as_a_whole() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            fill(node).await;
            part(node, 0).await.unwrap();
            let strict = Fetch { portion: messages::Portion::Strict, ..Fetch::from(Offset(2)) };
            let withheld = node.fetch(Fetch { bytes_max: 100, ..strict }).await;
            assert_eq!((withheld.bytes(), withheld.withheld as u64), (0, segment().1));
            let whole = node.fetch(Fetch { bytes_max: withheld.withheld, ..strict }).await;
            assert_eq!(values(&whole), [padded(2)]);
            assert_eq!(reads(&world, 2), 2);
            // One that is given although it is larger says the same of the next.
            world.pass(3 * SECOND).await;
            part(node, 5).await.unwrap();
            let larger = node.fetch(Fetch { bytes_max: 100, ..Fetch::from(Offset(7)) }).await;
            assert_eq!(values(&larger), [padded(7)]);
            world.pass(SECOND / 10).await;
            assert_eq!(reads(&world, 8), 0);
        })
        .await;
    });
}

#[test]
fn what_is_read_ahead_of_two_who_read_the_same_is_read_once() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            fill(node).await;
            part(node, 0).await.unwrap();
            part(node, 2).await.unwrap();
            part(node, 2).await.unwrap();
            world.pass(SECOND / 10).await;
            part(node, 2).await.unwrap();
            world.pass(SECOND / 10).await;
            assert_eq!(reads(&world, 4), 1);
            assert_eq!(node.handle.directory().read_ahead.out().count, 1);
        })
        .await;
    });
}

#[test]
fn whoever_waits_for_what_is_being_read_when_the_log_is_cut_may_ask_again() {
    simulate(async |world| {
        let follower =
            PartitionOptions { role: Role::Follower, epoch: LeaderEpoch(1), ..options() };
        life(&world, follower, End::Exit, async |node| {
            for n in 0..RECORDS {
                let mut batch = record(n, &padded(n));
                batch::stamp(&mut batch, Offset(n as u64), LeaderEpoch(1));
                let (batches, leader_epoch) = (batch.freeze(), LeaderEpoch(1));
                let high_watermark = Offset(10);
                let append = AppendAsFollower { batches, leader_epoch, high_watermark };
                node.partition.send(append).await.unwrap().unwrap();
            }
            part(node, 0).await.unwrap();
            world.disks.set_faults(Faults { latency_ms: 500, ..Faults::none() });
            part(node, 2).await.unwrap();
            let bytes_max = 2 * record(0, &padded(0)).len();
            let asked = node.partition.send(Fetch { bytes_max, ..Fetch::from(Offset(4)) });
            let asked = actix_rt::spawn(asked);
            let cut = actix_rt::spawn(node.partition.send(TruncateTo { offset: Offset(15) }));
            let answer = asked.await.unwrap().unwrap();
            assert!(
                matches!(&answer, Err(FetchError::Offline(why)) if why.is_passing),
                "{answer:?}"
            );
            cut.await.unwrap().unwrap().unwrap();
            assert_eq!(values(&part(node, 4).await.unwrap()), [padded(4), padded(5)]);
        })
        .await;
    });
}

#[test]
fn what_nobody_asks_for_is_let_go() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            two_parts(&world, node).await;
            assert_eq!(node.handle.directory().read_ahead.out().count, 1);
            world.pass(3 * SECOND).await;
            assert_eq!(node.handle.directory().read_ahead.out().count, 0);
            assert_eq!(values(&part(node, 4).await.unwrap()), [padded(4), padded(5)]);
        })
        .await;
    });
}

#[test]
fn what_was_trimmed_since_is_not_given() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            two_parts(&world, node).await;
            node.partition.send(TrimTo { offset: Offset(6) }).await.unwrap().unwrap();
            let trimmed = part(node, 4).await;
            assert!(matches!(trimmed, Err(FetchError::OutOfRange { .. })), "{trimmed:?}");
        })
        .await;
    });
}
