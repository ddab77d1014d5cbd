//! `flumen consume --group` as a member: two share a topic, one goes, the other takes over.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::program::{Place, Running, wait_until};

/// A node whose groups do not wait for members to come.
fn serve(place: &Place) -> (Running, String) {
    let args = "serve --listen 127.0.0.1:0 --data data --set group.initial.rebalance.delay.ms=0";
    let node = place.start(args);
    node.has_said("an acknowledged record");
    let address = node.word_after("listening on ");
    (node, address)
}

fn described(place: &Place, address: &str) -> Value {
    let told = place.run(&format!("groups describe g -b {address} --json"));
    // Before its first member has come there is no such group.
    serde_json::from_str::<Value>(&told.out).map_or(Value::Null, |mut all| all[0].take())
}

/// How many partitions each member reads.
fn shares(group: &Value) -> Vec<usize> {
    let members = group["members"].as_array().into_iter().flatten();
    let mut shares: Vec<usize> =
        members.map(|member| member["partitions"].as_array().unwrap().len()).collect();
    shares.sort_unstable();
    shares
}

fn lines(from: u32, to: u32) -> String {
    (from..to).map(|line| format!("{line}\n")).collect()
}

fn share_and_take_over(assignor: &str) {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    place.succeed(&format!("topics create t --partitions 4 -b {address}"));
    place.feed(&format!("produce t -b {address}"), &lines(0, 400));
    let args = format!("consume t --follow --group g --assignor {assignor} -b {address}");
    let first = place.start(&args);
    wait_until("it reads all", || shares(&described(&place, &address)) == [4]);
    wait_until("all is committed", || described(&place, &address)["lag"] == 0);

    let second = place.start(&args);
    wait_until("both read", || shares(&described(&place, &address)) == [2, 2]);
    let group = described(&place, &address);
    assert_eq!((&group["state"], &group["assignor"]), (&"Stable".into(), &assignor.into()));
    // Runs of keyless lines go to the partitions in turn: enough of them reach both.
    place.feed(&format!("produce t -b {address}"), &lines(400, 2_000));
    wait_until("all is committed", || described(&place, &address)["lag"] == 0);

    let first = first.interrupt();
    assert!(first.status.success(), "{}", first.err);
    first.tells(&["stopped after", "group `g` goes on behind them"]);
    // It has left: nobody waits for its session to end.
    wait_until("the other reads all", || shares(&described(&place, &address)) == [4]);
    place.feed(&format!("produce t -b {address}"), &lines(2_000, 2_400));
    second.has_printed("2399\n");
    wait_until("all is committed", || described(&place, &address)["lag"] == 0);
    let second = second.interrupt();
    assert!(second.status.success(), "{}", second.err);

    let all: Vec<&str> = first.out.lines().chain(second.out.lines()).collect();
    let once: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!((all.len(), once.len()), (2_400, 2_400), "each line once");
    assert!(first.out.lines().count() >= 400 && second.out.lines().count() >= 400);
    assert_eq!(shares(&described(&place, &address)), [0; 0]);
    assert_eq!(place.succeed(&format!("consume t --group g -b {address}")), "");
}

#[test]
fn members_share_a_topic_and_one_that_leaves_is_followed_at_once() {
    share_and_take_over("range");
}

#[test]
fn cooperative_members_do_the_same() {
    share_and_take_over("cooperative-sticky");
}

#[test]
fn a_leader_shares_out_the_topics_that_only_another_member_wants() {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    place.succeed(&format!("topics create a -b {address}"));
    place.succeed(&format!("topics create b --partitions 2 -b {address}"));
    let leader = place.start(&format!("consume a --follow --group g -b {address}"));
    wait_until("it reads `a`", || shares(&described(&place, &address)) == [1]);
    let other = place.start(&format!("consume a b --follow --group g -b {address}"));
    wait_until("`b` is read", || shares(&described(&place, &address)).iter().sum::<usize>() == 3);
    place.feed(&format!("produce b --partition 1 -b {address}"), "one\n");
    other.has_printed("one\n");
    // What such a topic is given is shared out, too.
    place.succeed(&format!("topics grow b 3 -b {address}"));
    place.feed(&format!("produce b --partition 2 -b {address}"), "two\n");
    other.has_printed("two\n");
    assert!(leader.interrupt().status.success() && other.interrupt().status.success());
}

#[test]
fn a_member_ends_with_what_it_was_given_and_a_reader_of_partitions_is_none() {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    place.succeed(&format!("topics create t --partitions 2 -b {address}"));
    place.feed(&format!("produce t --partition 0 -b {address}"), &lines(0, 10));
    place.feed(&format!("produce t --partition 1 -b {address}"), &lines(10, 30));
    let read = place.succeed(&format!("consume t --group g --max 7 -b {address}"));
    assert_eq!(read.lines().count(), 7);
    let rest = place.succeed(&format!("consume t --group g -b {address}"));
    assert_eq!(rest.lines().count(), 23, "it goes on behind them, and ends");

    let follower = place.start(&format!("consume t --follow --group g -b {address}"));
    wait_until("it has joined", || shares(&described(&place, &address)) == [2]);
    place.feed(&format!("produce t --partition 1 -b {address}"), &lines(30, 31));
    follower.has_printed("30\n");
    // Whoever names partitions does not join.
    let apart = format!("consume t --group h --partition 1 -b {address}");
    assert_eq!(place.succeed(&apart).lines().count(), 21);
    assert_eq!(place.succeed(&apart), "", "it has committed");
    place.refuse(
        &format!("consume t --group g --assignor roundrobin -b {address}"),
        &["group `g`", "--assignor"],
    );
    place.refuse(&format!("consume t --assignor range -b {address}"), &["--group"]);
    assert!(follower.interrupt().status.success());
}

#[test]
fn a_member_of_a_node_that_is_opened_for_it_joins_and_leaves_just_the_same() {
    let Some(place) = Place::new() else { return };
    place.feed("produce t --data data", &lines(0, 5));
    assert_eq!(place.succeed("consume t --group g --data data"), lines(0, 5));
    assert_eq!(place.succeed("consume t --group g --data data"), "");
    // Java's hash of "g", modulo 50.
    let log = "dump-log data/__consumer_offsets-3";
    let told = place.succeed(&format!("{log} --records"));
    for words in [
        "group g  t-0  offset 5  ",
        "group g  generation 1  consumer  assigned by range  leader flumen-",
        "(flumen at /127.0.0.1) instance flumen-consume reads [t-0]",
        "no members",
    ] {
        assert!(told.contains(words), "no `{words}` in {told}");
    }
    let told = place.succeed(&format!("{log} --records --json"));
    let records: Vec<Value> =
        told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    let of = |kind: &str| {
        let decoded = records.iter().map(|record| &record["decoded"]);
        decoded.filter(|decoded| decoded["type"] == kind).collect::<Vec<_>>()
    };
    let commit = of("offset_commit")[0];
    assert_eq!((&commit["group"], &commit["topic"]), (&"g".into(), &"t".into()));
    assert_eq!((&commit["partition"], &commit["value"]["offset"]), (&0.into(), &5.into()));
    let members = &of("group_metadata")[0]["value"]["members"];
    assert_eq!(members[0]["client_id"], "flumen");
    assert_eq!(
        (&members[0]["topics"][0], &members[0]["partitions"][0]),
        (&"t".into(), &"t-0".into())
    );

    // The same file elsewhere says nothing of itself.
    let segment = "data/__consumer_offsets-3/00000000000000000000.log";
    std::fs::create_dir(place.path("copy")).unwrap();
    let copy = "copy/00000000000000000000.log";
    std::fs::copy(place.path(segment), place.path(copy)).unwrap();
    assert!(!place.succeed(&format!("dump-log {copy} --records")).contains("offset 5"));
    assert!(place.succeed(&format!("dump-log {copy} --offsets-decoder")).contains("offset 5"));
    // Those of another topic are none of these.
    let told = place.succeed("dump-log data/t-0/00000000000000000000.log --offsets-decoder");
    assert!(told.contains("UNREADABLE"), "{told}");
}
