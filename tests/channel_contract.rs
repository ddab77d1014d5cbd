//! One contract for every channel: the same tests on each kind.
//!
//! A test gets a [`Rig`]: a supervised channel, reached through its [`Channel`] handle as sources and
//! sinks reach it. Time is paused, disks are simulated.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "channel_contract/rig.rs"]
mod rig;

use std::time::Duration;

use flumen_actors::agent::{
    channel::{ChannelError, CommitTake, KeepSinkState, RollbackTake, Take},
    event::Event,
};
use futures::FutureExt;
use rig::{Kind, Rig, Sink, Source};

/// Runs a contract on both kinds of channel, each as a test of its own.
macro_rules! on_both {
    ($($on_each:ident)*) => {
        mod memory {
            $(#[actix_rt::test]
            async fn $on_each() {
                tokio::time::pause();
                super::$on_each(super::Kind::Memory).await;
            })*
        }
        mod durable {
            $(#[actix_rt::test]
            async fn $on_each() {
                tokio::time::pause();
                super::$on_each(super::Kind::Durable).await;
            })*
        }
    };
}

on_both! {
    events_are_taken_in_the_order_in_which_they_were_put
    a_take_waits_for_an_event_and_no_longer_than_it_wants_to
    rollback_offers_taken_events_again_in_order
    a_commit_ends_the_earlier_takes_too
    a_full_channel_holds_its_source_back_until_the_sink_commits
    a_put_that_no_permit_covers_is_refused_and_changes_nothing
    a_superseded_source_can_put_nothing
    a_superseded_sink_can_take_and_commit_nothing
    a_new_sink_is_offered_what_was_not_committed_and_gets_the_kept_state_back
    a_position_moves_with_its_events_or_alone
    headers_and_empty_bodies_come_out_as_they_went_in
    a_channel_that_dies_loses_nothing_and_the_offsets_of_a_durable_one_tell_what_comes_twice
    what_is_held_is_told
}

const LONG: Duration = Duration::from_secs(3600);

async fn events_are_taken_in_the_order_in_which_they_were_put(kind: Kind) {
    let rig = Rig::start(kind).await;
    let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
    source.put(&["a", "b", "c"]).await.unwrap();
    source.put(&["d"]).await.unwrap();
    assert_eq!(sink.take(2).await, ["a", "b"]);
    assert_eq!(sink.take_all().await, ["c", "d"]);
    let offsets = sink.offsets.clone();
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
}

async fn a_take_waits_for_an_event_and_no_longer_than_it_wants_to(kind: Kind) {
    let rig = Rig::start(kind).await;
    let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
    let before = tokio::time::Instant::now();
    sink.wait = Duration::from_secs(3);
    assert_eq!(sink.take(1).await, [""; 0]);
    assert_eq!(before.elapsed().as_secs(), 3);
    sink.wait = LONG;
    let (taken, ()) = futures::join!(sink.take(1), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        source.put(&["a"]).await.unwrap();
    });
    assert_eq!((taken, before.elapsed().as_secs()), (vec!["a".to_owned()], 5));
}

async fn rollback_offers_taken_events_again_in_order(kind: Kind) {
    let rig = Rig::start(kind).await;
    let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
    source.put(&["a", "b", "c", "d"]).await.unwrap();
    for n in [1, 1, 1] {
        sink.take(n).await;
    }
    let second = sink.open[1];
    sink.rollback(second).await.unwrap();
    assert_eq!(sink.take(9).await, ["b", "c", "d"]);
    assert!(matches!(sink.rollback(second).await, Err(ChannelError::Transaction { .. })));
}

async fn a_commit_ends_the_earlier_takes_too(kind: Kind) {
    let rig = Rig::start(kind).await;
    let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
    source.put(&["a", "b", "c"]).await.unwrap();
    sink.take(1).await;
    sink.take(1).await;
    let first = sink.open[0];
    sink.commit(None).await.unwrap();
    assert!(matches!(sink.rollback(first).await, Err(ChannelError::Transaction { .. })));
    let mut next = Sink::attach(&rig).await;
    assert_eq!(next.take(9).await, ["c"]);
}

async fn a_full_channel_holds_its_source_back_until_the_sink_commits(kind: Kind) {
    let rig = Rig::start_with(kind, 3).await;
    let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
    source.put(&["a", "b", "c"]).await.unwrap();
    let mut waiting = Box::pin(source.put(&["d", "e"]));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(sink.take(1).await, ["a"]);
    assert!(waiting.as_mut().now_or_never().is_none(), "taken is not committed");
    sink.commit(None).await.unwrap();
    assert!(waiting.as_mut().now_or_never().is_none(), "there is room for one, not for two");
    assert_eq!(sink.take(1).await, ["b"]);
    sink.commit(None).await.unwrap();
    waiting.await.unwrap();
    assert_eq!(sink.take_all().await, ["c", "d", "e"]);
}

async fn a_put_that_no_permit_covers_is_refused_and_changes_nothing(kind: Kind) {
    let rig = Rig::start(kind).await;
    let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
    let small = source.credit().try_acquire(1, 1).unwrap();
    let refused = source.put_under(&["a larger event"], small).await;
    assert!(matches!(refused, Err(ChannelError::Uncovered { .. })), "{refused:?}");
    let foreign = flumen_runtime::credit::Credit::new(100, 100_000).try_acquire(9, 9_000).unwrap();
    let refused = source.put_under(&["a"], foreign).await;
    assert!(matches!(refused, Err(ChannelError::Uncovered { .. })), "{refused:?}");
    sink.wait = Duration::ZERO;
    assert_eq!(sink.take(9).await, [""; 0]);
    assert_eq!(Source::open(&rig, "s").await.position, 0);
    assert_eq!(source.credit().out().count, 0);
}

async fn a_superseded_source_can_put_nothing(kind: Kind) {
    let rig = Rig::start(kind).await;
    let (mut old, mut other) = (Source::open(&rig, "s").await, Source::open(&rig, "t").await);
    old.put(&["a"]).await.unwrap();
    let mut new = Source::open(&rig, "s").await;
    assert!(matches!(old.put(&["b"]).await, Err(ChannelError::Superseded { .. })));
    assert_eq!(new.position, 1);
    new.put(&["b"]).await.unwrap();
    other.put(&["another source"]).await.unwrap();
    assert_eq!(Sink::attach(&rig).await.take_all().await, ["a", "b", "another source"]);
}

async fn a_superseded_sink_can_take_and_commit_nothing(kind: Kind) {
    let rig = Rig::start(kind).await;
    let mut source = Source::open(&rig, "s").await;
    source.put(&["a", "b"]).await.unwrap();
    let mut old = Sink::attach(&rig).await;
    old.take(1).await;
    let mut new = Sink::attach(&rig).await;
    let (session, transaction) = (old.session, old.open[0]);
    let take = Take { session, events_max: 1, bytes_max: 100, wait: Duration::ZERO };
    assert!(matches!(rig.channel.take(take).await, Err(ChannelError::Superseded { .. })));
    let commit = CommitTake { session, transaction, sink_state: None };
    assert!(matches!(rig.channel.commit_take(commit).await, Err(ChannelError::Superseded { .. })));
    let rollback = RollbackTake { session, transaction };
    assert!(matches!(
        rig.channel.rollback_take(rollback).await,
        Err(ChannelError::Superseded { .. })
    ));
    assert_eq!(new.take_all().await, ["a", "b"]);
}

async fn a_new_sink_is_offered_what_was_not_committed_and_gets_the_kept_state_back(kind: Kind) {
    let rig = Rig::start(kind).await;
    let mut source = Source::open(&rig, "s").await;
    source.put(&["a", "b", "c"]).await.unwrap();
    let sink = Sink::attach(&rig).await;
    assert_eq!(sink.state, None);
    let keep = KeepSinkState { session: sink.session, sink_state: "0".into() };
    rig.channel.keep_sink_state(keep).await.unwrap();
    assert_eq!(Sink::attach(&rig).await.state.as_deref(), Some(b"0".as_slice()));

    let mut sink = Sink::attach(&rig).await;
    sink.take(1).await;
    sink.commit(Some("1")).await.unwrap();
    sink.take(1).await;
    let mut next = Sink::attach(&rig).await;
    assert_eq!(next.state.as_deref(), Some(b"1".as_slice()));
    assert_eq!(next.take(9).await, ["b", "c"]);
    next.commit(None).await.unwrap();
    assert_eq!(Sink::attach(&rig).await.state.as_deref(), Some(b"1".as_slice()), "kept as it was");
}

async fn a_position_moves_with_its_events_or_alone(kind: Kind) {
    let rig = Rig::start(kind).await;
    let (mut one, mut two) = (Source::open(&rig, "one").await, Source::open(&rig, "two").await);
    one.put(&["a", "b"]).await.unwrap();
    two.put(&["c"]).await.unwrap();
    two.skip(4).await.unwrap();
    assert_eq!(Source::open(&rig, "one").await.position, 2);
    assert_eq!(Source::open(&rig, "two").await.position, 5);
    let mut sink = Sink::attach(&rig).await;
    assert_eq!(sink.take_all().await, ["a", "b", "c"]);
    sink.commit(None).await.unwrap();
    assert_eq!(Source::open(&rig, "two").await.position, 5);
}

async fn headers_and_empty_bodies_come_out_as_they_went_in(kind: Kind) {
    let rig = Rig::start(kind).await;
    let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
    let headers = [("host", "büro-1"), ("", ""), ("a", "b")].into_iter().collect();
    let sent = vec![Event { headers, body: "x".into() }, Event::new(""), Event::new(vec![0, 255])];
    source.put_events(sent.clone()).await.unwrap();
    assert_eq!(sink.take_events(9).await, sent);
}

async fn what_is_held_is_told(kind: Kind) {
    let rig = Rig::start_with(kind, 10).await;
    let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
    source.put(&["a", "b", "c"]).await.unwrap();
    sink.take(1).await;
    sink.commit(None).await.unwrap();
    sink.take(1).await;
    let status = rig.channel.status().await.unwrap();
    assert_eq!((status.events, status.capacity.events), (2, 10));
    assert_eq!(status.bytes, 2 * Event::new("b").cost());
    assert_eq!(status.taken, status.head.next());
    assert_eq!((status.offline, source.credit().out().count), (None, 2));
}

async fn a_channel_that_dies_loses_nothing_and_the_offsets_of_a_durable_one_tell_what_comes_twice(
    kind: Kind,
) {
    for seed in 0..20 {
        let mut rng = flumen_runtime::rng::Rng::seeded(seed);
        let rig = Rig::start_with(kind, 64).await;
        let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
        let (mut delivered, mut deaths, mut next_offset) = (Vec::new(), 0, 0);
        let mut held: Vec<(u64, u64)> = Vec::new();
        while delivered.len() < 300 {
            match rng.below(12) {
                0 => {
                    rig.kill().await;
                    deaths += 1;
                    source = Source::open(&rig, "s").await;
                    sink = Sink::attach(&rig).await;
                    held.clear();
                }
                1..=4 => {
                    // Charged with what the head file did not know to be committed, too.
                    let room = 64_u64.saturating_sub(source.credit().out().count as u64);
                    if room == 0 {
                        continue;
                    }
                    let count = rng.below(room.min(20) + 1);
                    let numbers: Vec<String> =
                        (0..count).map(|n| (source.position + n).to_string()).collect();
                    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
                    source.put(&numbers).await.unwrap();
                }
                5 if !sink.open.is_empty() => {
                    sink.rollback(sink.open[0]).await.unwrap();
                    sink.open.clear();
                    held.clear();
                }
                6..=8 => {
                    sink.wait = Duration::ZERO;
                    sink.offsets.clear();
                    let taken = sink.take(1 + rng.below(15) as usize).await;
                    let taken = sink.offsets.iter().zip(&taken);
                    held.extend(taken.map(|(at, body)| (*at, body.parse::<u64>().unwrap())));
                }
                9 | 10 if !sink.open.is_empty() => {
                    sink.commit(None).await.unwrap();
                    for (offset, number) in held.drain(..) {
                        // Its head file lags: what comes twice has the offset that it had.
                        let is_known = matches!(kind, Kind::Durable) && offset < next_offset;
                        if !is_known {
                            delivered.push(number);
                            next_offset = offset + 1;
                        }
                    }
                }
                // Real time: none passes, the test has paused it.
                _ => tokio::time::sleep(Duration::from_millis(150)).await,
            }
        }
        let mut next = 0;
        for number in delivered {
            let is_next = match kind {
                // It goes back to the begin of a put of which only a part was committed.
                Kind::Memory => number <= next,
                Kind::Durable => number == next,
            };
            assert!(is_next, "seed {seed}, after {deaths} deaths: {number} where {next} is next");
            next = next.max(number + 1);
        }
        assert!(deaths > 0, "seed {seed} killed nothing");
    }
}

/// A channel waits once a second, and answers as soon as it has looked.
const A_FEW_LOOKS: Duration = Duration::from_secs(4);

#[actix_rt::test]
async fn on_a_full_disk_a_durable_channel_waits_for_room_and_goes_on_by_itself() {
    tokio::time::pause();
    let rig = Rig::start(Kind::Durable).await;
    let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
    source.put(&["a", "b", "c"]).await.unwrap();
    assert_eq!(sink.take(1).await, ["a"]);
    rig.fill_disk();
    sink.commit(Some("one")).await.unwrap();
    // Real time: none passes, the test has paused it.
    tokio::time::sleep(A_FEW_LOOKS).await;
    assert_eq!(rig.channel.status().await.unwrap().offline, None, "its head file has no room");
    assert_eq!(sink.take(2).await, ["b", "c"], "takes go on");
    let session = sink.session;
    let state = KeepSinkState { session, sink_state: "two".into() };
    let mut keep = Box::pin(rig.channel.keep_sink_state(state));
    let mut put = Box::pin(source.put(&["d"]));
    assert!(tokio::time::timeout(A_FEW_LOOKS, &mut keep).await.is_err(), "not durable yet");
    assert!(tokio::time::timeout(A_FEW_LOOKS, &mut put).await.is_err(), "the source is held back");
    rig.make_room();
    tokio::time::timeout(A_FEW_LOOKS, keep).await.expect("there is room").unwrap();
    tokio::time::timeout(A_FEW_LOOKS, put).await.expect("there is room").unwrap();
    rig.kill().await;
    assert_eq!(Source::open(&rig, "s").await.position, 4);
    let mut sink = Sink::attach(&rig).await;
    assert_eq!(sink.state.as_deref(), Some(&b"two"[..]));
    assert_eq!(sink.take_all().await, ["b", "c", "d"]);
}

#[actix_rt::test]
async fn a_durable_channel_that_has_no_room_to_be_made_opens_when_there_is_some() {
    tokio::time::pause();
    let rig = Rig::start_without_room().await;
    let opening = async { (Source::open(&rig, "s").await, Sink::attach(&rig).await) };
    let mut opening = Box::pin(opening);
    assert!(tokio::time::timeout(A_FEW_LOOKS, &mut opening).await.is_err());
    assert_eq!(rig.channel.status().await.unwrap().offline, None);
    rig.make_room();
    let opened = tokio::time::timeout(A_FEW_LOOKS, opening).await;
    let (mut source, mut sink) = opened.expect("there is room");
    source.put(&["a"]).await.unwrap();
    assert_eq!(sink.take_all().await, ["a"]);
}

#[actix_rt::test]
async fn a_durable_channel_on_a_full_disk_can_be_stopped() {
    tokio::time::pause();
    for is_new in [true, false] {
        let rig = match is_new {
            true => Rig::start_without_room().await,
            false => Rig::start(Kind::Durable).await,
        };
        if !is_new {
            let (mut source, mut sink) = (Source::open(&rig, "s").await, Sink::attach(&rig).await);
            source.put(&["a"]).await.unwrap();
            sink.take_all().await;
            rig.fill_disk();
            sink.commit(None).await.unwrap();
        }
        let began = tokio::time::Instant::now();
        rig.stop().await;
        assert!(began.elapsed() < Duration::from_secs(9), "it was not stopped by force");
    }
}
