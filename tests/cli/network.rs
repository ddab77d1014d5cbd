//! The commands that speak with a node: the same over the network, over the data directory of a node
//! that runs, and over that of one that does not.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::program::{Place, Running, wait_until};

/// A node that listens where the system lets it, and its address.
fn serve(place: &Place) -> (Running, String) {
    let node = place.start("serve --listen 127.0.0.1:0 --data data");
    node.has_said("an acknowledged record");
    let address = node.word_after("listening on ");
    (node, address)
}

fn json(place: &Place, args: &str) -> Value {
    serde_json::from_str(&place.succeed(&format!("{args} --json"))).unwrap()
}

/// What is told of topic `t` and group `g`.
fn described(place: &Place, node: &str) -> (Value, Value) {
    let mut topic = json(place, &format!("topics describe t {node}"));
    // Segments are made longer than their batches while a node runs.
    for partition in topic[0]["partitions"].as_array_mut().unwrap() {
        assert!(partition.as_object_mut().unwrap().remove("bytes").unwrap().is_u64());
    }
    (topic, json(place, &format!("groups describe g {node}")))
}

#[test]
fn commands_do_the_same_over_the_network_and_on_a_directory_in_use_or_not() {
    let Some(place) = Place::new() else { return };
    let (node, address) = serve(&place);
    let (network, directory) = (format!("-b {address}"), "--data data");
    let made = json(&place, &format!("topics create t -p 2 --set retention.ms=1000000 {network}"));
    assert_eq!(made["action"], "created");
    place.refuse(&format!("topics create t {directory}"), &["there is a topic `t` already"]);
    let done = place.feed(
        &format!("produce t --key-separator = --header by=hand --json {network}"),
        "a=1\nb=2\nc=3\na=4\n",
    );
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((&done["records"], &done["all"]), (&4.into(), &true.into()), "{done}");

    let read = |node: &str| {
        let mut lines: Vec<Value> = place
            .succeed(&format!("consume t --format json {node}"))
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        lines.sort_by_key(|line| line["value"].to_string());
        lines
    };
    let records = read(&network);
    let keys: Vec<_> = records.iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "b", "c", "a"]);
    assert_eq!(records[0]["partition"], records[3]["partition"], "a key has one partition");
    assert_eq!(records[0]["headers"][0]["value"], "hand");
    assert_eq!(read(directory), records);
    assert_eq!(place.succeed(&format!("consume t --group g {network}")).lines().count(), 4);
    assert_eq!(place.succeed(&format!("consume t --group g {directory}")), "");
    let (topic, group) = described(&place, &network);
    assert_eq!(group[0]["lag"], 0);
    assert_eq!(described(&place, directory), (topic.clone(), group.clone()));

    assert!(node.terminate().status.success());
    place.refuse(&format!("topics {network}"), &[&address, "nobody listens there", "--bootstrap"]);
    assert_eq!(read(directory), records, "the node has stopped, and its directory is read");
    assert_eq!(described(&place, directory), (topic, group));
}

#[test]
fn topics_are_changed_grown_and_deleted() {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    let topics = |args: &str| place.succeed(&format!("topics {args} -b {address}"));
    topics("create t");
    topics("create t --if-missing");
    topics("grow t 3");
    topics("alter t --set retention.ms=5000 --set flush.messages=9223372036854775807");
    let told = topics("t");
    assert!(told.contains("retention.ms=5000") && told.contains("lost in a power cut"), "{told}");
    assert_eq!(told.lines().filter(|line| line.trim().starts_with(['0', '1', '2'])).count(), 3);
    topics("alter t --reset flush.messages");
    assert!(topics("t").contains("is on the disk"));
    assert!(topics("describe t --settings").contains("most bytes of one record batch"));
    let refuse = |args: &str, words: &[&str]| {
        place.refuse(&format!("topics {args} -b {address}"), words);
    };
    refuse("alter t --set retention.ms=soon", &["retention.ms", "soon"]);
    refuse("alter t --set no.such.setting=1", &["no.such.setting"]);
    refuse("alter t", &["--reset", "Usage"]);
    refuse("grow t 2", &["cannot give `t` 2 partitions"]);
    refuse("delete u", &["no topic `u`", "the topics here are t"]);
    topics("delete t");
    assert_eq!(topics("list --json"), "[]\n");
}

#[test]
fn a_topic_is_trimmed_to_a_place_in_each_partition() {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    let node = format!("-b {address}");
    place.succeed(&format!("topics create t --partitions 2 {node}"));
    place.feed(&format!("produce t --partition 0 {node}"), &"line\n".repeat(20));
    place.feed(&format!("produce t --partition 1 {node}"), &"line\n".repeat(8));
    let begins = |place: &Place| {
        let told = json(place, &format!("topics describe t {node}"));
        [0, 1].map(|part| told[0]["partitions"][part]["first_offset"].as_i64().unwrap())
    };
    let done = json(&place, &format!("topics trim t --to 5 --partition 0 {node}"));
    assert_eq!((&done["action"], &done["topics"][0]), (&"trimmed".into(), &"t".into()));
    let wanted = serde_json::json!([{ "partition": 0, "was": 0, "first_offset": 5 }]);
    assert_eq!(done["partitions"], wanted);
    assert_eq!(begins(&place), [5, 0]);
    let table = place.succeed(&format!("topics trim t --to -6 {node}"));
    assert!(table.contains("BEGINS AT") && table.contains("14"), "{table}");
    assert_eq!(begins(&place), [14, 2], "the last six of each");
    // What is gone stays gone.
    place.succeed(&format!("topics trim t --to beginning {node}"));
    place.succeed(&format!("topics trim t --to 3 {node}"));
    assert_eq!(begins(&place), [14, 3]);
    place.succeed(&format!("topics trim t --to end {node}"));
    assert_eq!(begins(&place), [20, 8]);
    assert_eq!(place.succeed(&format!("consume t {node}")), "");
    place.refuse(&format!("topics trim t --to lunch {node}"), &["--to lunch", "beginning"]);
    place.refuse(&format!("topics trim t {node}"), &["--to", "Usage"]);
    place.refuse(&format!("topics trim u --to end {node}"), &["no topic `u`"]);
    place.refuse(&format!("topics trim t --to end -p 7 {node}"), &["--partition 7"]);
}

#[test]
fn a_partition_that_cannot_be_read_does_not_look_well() {
    let Some(place) = Place::new() else { return };
    let lines = "line\n".repeat(1_000);
    place.succeed("topics create t -p 2 --data data");
    for partition in [0, 1] {
        place.feed(&format!("produce t -p {partition} --data data"), &lines);
    }
    let states = |node: &str| {
        let told = json(&place, &format!("topics describe t {node}"));
        let parts = told[0]["partitions"].as_array().unwrap().clone();
        let state = |part: &Value| part["state"].as_str().unwrap().to_owned();
        let why = |part: &Value| part["error"].as_str().unwrap_or_default().to_owned();
        parts.iter().map(|part| (state(part), why(part))).collect::<Vec<_>>()
    };
    let well = ("online".to_owned(), String::new());
    assert_eq!(states("--data data"), [well.clone(), well.clone()]);
    // What a log was when it was closed is still known of one that is gone.
    fs::rename(place.path("data/t-1"), place.path("elsewhere")).unwrap();
    let gone = states("--data data");
    assert_eq!((&gone[0], &*gone[1].0), (&well, "unreadable"), "{gone:?}");
    assert!(gone[1].1.contains("t-1"), "{gone:?}");
    let table = place.succeed("topics t --data data");
    assert!(table.contains("online") && table.contains("unreadable"), "{table}");

    // A node that was killed looks through its logs when it begins.
    let (node, _) = serve(&place);
    node.kill();
    let log = place.path("data/t-0/00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[70] ^= 1;
    fs::write(&log, bytes).unwrap();
    let (node, address) = serve(&place);
    let damaged = states(&format!("-b {address}"));
    assert_eq!(damaged[0].0, "unreadable", "{damaged:?}");
    assert!(damaged[0].1.contains("`t-0`"), "{damaged:?}");
    // It does not even open a log that has lost a file, and says so to whoever asks.
    node.kill();
    fs::remove_file(log).unwrap();
    let (_node, address) = serve(&place);
    let lost = states(&format!("-b {address}"));
    assert_eq!(lost[0].0, "offline", "{lost:?}");
    for words in ["`t-0` is offline: ", "start again"] {
        assert!(lost[0].1.contains(words), "no `{words}` in {lost:?}");
    }
}

#[test]
fn what_was_printed_is_committed_though_another_partition_cannot_be_read() {
    let Some(place) = Place::new() else { return };
    for topic in ["a", "b"] {
        place.feed(&format!("produce {topic} --data data"), "one\ntwo\n");
    }
    // What a log was when it was closed is still known of one that is gone.
    fs::rename(place.path("data/b-0"), place.path("elsewhere")).unwrap();
    let read = || {
        let said = place.run("consume a b -g g --data data");
        assert!(!said.status.success(), "{}", said.out);
        said.tells(&["`b-0`"]);
        said.out
    };
    assert_eq!(read(), "one\ntwo\n");
    assert_eq!(read(), "", "it was committed");
    assert_eq!(place.succeed("consume a -g g --data data"), "");
}

/// Nobody leads it; its node says all the same what is wrong.
#[test]
fn a_partition_that_is_offline_is_told_with_its_reason() {
    let Some(place) = Place::new() else { return };
    place.succeed("topics create t -p 2 --data data");
    for partition in [0, 1] {
        place.feed(&format!("produce t -p {partition} --data data"), "line\n");
    }
    // A later version's, which this one does not take for its own.
    fs::remove_file(place.path("data/flumen-clean-stop")).unwrap();
    let point = place.path("data/t-1/recovery-point");
    let mut bytes = fs::read(&point).unwrap();
    let copies = bytes.chunks_mut(512).filter(|copy| copy.starts_with(b"FLRP"));
    copies.for_each(|copy| copy[5] = 2);
    fs::write(&point, bytes).unwrap();
    let (_node, address) = serve(&place);
    let node = format!("-b {address}");
    let told = &json(&place, &format!("topics describe t {node}"))[0]["partitions"];
    let seen = [0, 1].map(|part| (&told[part]["state"], &told[part]["leader"]));
    let wanted = [("online".into(), 1.into()), ("offline".into(), Value::Null)];
    assert_eq!(seen, [(&wanted[0].0, &wanted[0].1), (&wanted[1].0, &wanted[1].1)], "{told}");
    let reason = ["`t-1` is offline", "recovery-point"];
    assert!(reason.iter().all(|word| told[1]["error"].as_str().unwrap().contains(word)), "{told}");
    place.refuse(&format!("consume t -p 1 {node}"), &reason);
    place.refuse(&format!("topics trim t --to end {node}"), &reason);
    assert_eq!(place.succeed(&format!("consume t -p 0 {node}")), "line\n");
}

#[test]
fn a_group_is_moved_and_forgotten() {
    let Some(place) = Place::new() else { return };
    place.feed("produce t --data data", &"line\n".repeat(20));
    assert_eq!(place.succeed("consume t -g g --data data").lines().count(), 20);
    let at = |place: &Place| {
        json(place, "groups g --data data")[0]["partitions"][0]["committed"].clone()
    };
    assert_eq!(at(&place), 20);
    place.succeed("groups reset g --to -5 --dry-run --data data");
    assert_eq!(at(&place), 20, "nothing was changed");
    for (to, wanted) in [("-5", 15), ("+2", 17), ("7", 7), ("end", 20), ("1h ago", 0), ("99", 20)] {
        place.succeed_with(&["groups", "reset", "g", "--to", to, "--data", "data"]);
        assert_eq!(at(&place), wanted, "{to}");
    }
    let said = place.run("groups reset g --to 99 --json --data data");
    assert!(said.status.success(), "{}", said.err);
    said.tells(&["`t-0` ends at offset 20: the group goes on there, and not at 99"]);
    let done: Value = serde_json::from_str(&said.out).unwrap();
    let cut = &done["partitions"][0];
    assert_eq!((&cut["asked"], &cut["to"]), (&99.into(), &20.into()), "{done}");
    let said = place.run("groups reset g --to -21 --data data");
    said.tells(&["`t-0` begins at offset 0: the group goes on there, and not at -1"]);
    assert_eq!(place.run("groups reset g --to 7 --data data").err, "", "there is such an offset");
    place.succeed("groups reset g --to beginning --topic t --data data");
    assert_eq!(place.succeed("consume t -g g --data data").lines().count(), 20);
    place.refuse("groups reset g --to lunch --data data", &["--to lunch", "beginning", "2h ago"]);
    place.refuse("groups reset new --to end --data data", &["`new`", "name a topic"]);
    place.refuse("groups h --data data", &["no group `h`", "the groups here are g"]);
    place.succeed("groups delete g --data data");
    place.refuse("groups g --data data", &["no group `g`", "no groups yet"]);
}

#[test]
fn the_lag_of_all_groups_is_told_at_once() {
    let Some(place) = Place::new() else { return };
    let none = place.run("groups describe --all --data data");
    assert!(!none.status.success(), "there is no such directory");
    place.feed("produce t --data data", &"line\n".repeat(20));
    place.run("groups describe --all --data data").tells(&["there are no groups yet"]);
    assert_eq!(json(&place, "groups describe --all --data data"), serde_json::json!([]));
    for (group, read) in [("g", 20), ("h", 5)] {
        place.succeed(&format!("consume t -g {group} --max {read} --data data"));
    }
    let told = json(&place, "groups describe --all --data data");
    let lag = |at: usize| (told[at]["group"].as_str().unwrap(), told[at]["lag"].as_i64().unwrap());
    assert_eq!((lag(0), lag(1)), (("g", 0), ("h", 15)), "{told}");
    assert_eq!(told, json(&place, "groups describe g h --data data"), "as if each were named");
    let table = place.succeed("groups describe --all --data data");
    assert!(table.contains("g  empty") && table.contains("15 records behind"), "{table}");
    place.refuse("groups describe --all g --data data", &["--all", "Usage"]);
    place.refuse("groups describe --data data", &["Usage"]);
}

#[test]
fn a_topic_is_followed_until_ctrl_c_or_so_many_records() {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    place.feed(&format!("produce t -b {address}"), "one\ntwo\nthree\n");
    let out = place.succeed(&format!("consume t --max 2 -b {address}"));
    assert_eq!(out, "one\ntwo\n");
    assert_eq!(place.succeed(&format!("consume t --from -1 -b {address}")), "three\n");
    let follower = place.start(&format!("consume t --follow --group g -b {address}"));
    follower.has_printed("three\n");
    place.feed(&format!("produce t -b {address}"), "four\n");
    follower.has_printed("four\n");
    let said = follower.interrupt();
    assert!(said.status.success(), "{}", said.err);
    assert_eq!(said.out, "one\ntwo\nthree\nfour\n");
    said.tells(&["stopped after 4 records", "group `g` goes on behind them"]);
    assert_eq!(place.succeed(&format!("consume t --group g -b {address}")), "");
}

#[test]
fn several_topics_are_read_by_one_command_and_as_a_group() {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    place.succeed(&format!("topics create a -p 2 -b {address}"));
    place.feed(&format!("produce a -p 0 -b {address}"), "a0\n");
    place.feed(&format!("produce a -p 1 -b {address}"), "a1\n");
    place.feed(&format!("produce b -b {address}"), "b0\nb1\n");
    let read = |args: &str| {
        let out = place.succeed(&format!("consume {args} -b {address}"));
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(read("a b"), ["a0", "a1", "b0", "b1"]);
    let shown = read("a b --show topic,partition,offset,value --separator :");
    assert_eq!(shown, ["a:0:0:a0", "a:1:0:a1", "b:0:0:b0", "b:0:1:b1"]);
    assert_eq!(read("a b --from -1 --partition 0"), ["a0", "b1"]);
    assert_eq!(read("a b --group g --max 3").len(), 3);
    assert_eq!(read("a b --group g").len(), 1, "it goes on in both");
    assert_eq!(json(&place, &format!("groups g -b {address}"))[0]["lag"], 0);
    place.refuse(&format!("consume a c -b {address}"), &["no topic `c`", "a, b"]);

    let follower = place.start(&format!("consume b a --follow --group g -b {address}"));
    place.feed(&format!("produce b -b {address}"), "b2\n");
    follower.has_printed("b2\n");
    place.succeed(&format!("topics grow a 3 -b {address}"));
    place.feed(&format!("produce a -p 2 -b {address}"), "a2\n");
    follower.has_printed("a2\n");
    assert_eq!(follower.interrupt().out, "b2\na2\n");
}

#[test]
fn where_to_begin_is_refused_only_where_it_is_in_no_topic_and_means_something() {
    let Some(place) = Place::new() else { return };
    place.feed("produce long --data data", "0\n1\n2\n3\n");
    place.feed("produce short --data data", "0\n");
    let said = place.run("consume long short --from 3 --data data");
    assert_eq!((&*said.out, said.status.success()), ("3\n", true), "{}", said.err);
    said.tells(&["`short` ends before offset 3", "from where it ends"]);
    assert!(!said.err.contains("`long`"), "{}", said.err);
    let why = ["--from 9", "all topics end before that offset", "flumen topics long short"];
    place.refuse("consume long short --from 9 --data data", &why);
    place.refuse("consume long -g g --from 9 --data data", &["--from 9", "the topic ends"]);
    place.succeed("consume long -g g --max 2 --data data");
    let said = place.run("consume long -g g --from 9 --data data");
    assert_eq!((&*said.out, said.status.success()), ("2\n3\n", true), "{}", said.err);
    said.tells(&["group `g` goes on where it has committed, and not at `--from 9`"]);
    place.succeed("topics grow long 3 --data data");
    let said = place.run("consume long -g g --from beginning --data data");
    said.tells(&["1 of 3 partitions goes on where group `g` has committed", "groups reset g"]);
}

#[test]
fn others_are_followed_on_when_a_topic_is_deleted_and_it_ends_with_the_last() {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    let produce = |topic: &str, line: &str| {
        place.feed(&format!("produce {topic} -b {address}"), &format!("{line}\n"));
    };
    for (topic, line) in [("a", "one"), ("b", "two")] {
        produce(topic, line);
    }
    let alone = place.start(&format!("consume a b --follow -b {address}"));
    let member = place.start(&format!("consume a b --follow -g g -b {address}"));
    for follower in [&alone, &member] {
        follower.has_printed("one\n");
        follower.has_printed("two\n");
    }
    place.succeed(&format!("topics delete b -b {address}"));
    for follower in [&alone, &member] {
        follower.has_said("`b` was deleted; the others are read on");
    }
    produce("a", "three");
    produce("b", "four");
    for follower in [&alone, &member] {
        follower.has_printed("three\n");
        follower.has_printed("four\n");
    }
    place.succeed(&format!("topics delete b -b {address}"));
    for follower in [&alone, &member] {
        follower.has_said("was made again, and is read from its beginning");
    }
    place.succeed(&format!("topics delete a -b {address}"));
    let said = alone.ended();
    assert!(!said.status.success(), "nothing is left");
    said.tells(&["`a` was deleted"]);
    assert!(!member.ended().status.success());
}

#[test]
fn partitions_that_a_followed_topic_is_given_are_followed_too() {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    place.feed(&format!("produce t -b {address}"), "one\n");
    let follower = place.start(&format!("consume t --follow -b {address}"));
    follower.has_printed("one\n");
    place.succeed(&format!("topics grow t 2 -b {address}"));
    place.feed(&format!("produce t -p 1 -b {address}"), "two\n");
    follower.has_printed("two\n");
    assert_eq!(follower.interrupt().out, "one\ntwo\n");
}

#[test]
fn what_was_taken_is_counted_where_another_partition_refuses() {
    let Some(place) = Place::new() else { return };
    place.succeed("topics create t -p 2 --set cleanup.policy=compact --data data");
    let lines = "{\"partition\":0,\"value\":\"no key\"}\n\
                 {\"partition\":1,\"key\":\"k\",\"value\":\"v\"}\n";
    let said = place.fed("produce t --format json --data data", lines);
    assert!(!said.status.success());
    said.tells(&["1 record went into `t`", "`t-0`", "have no key"]);
    assert_eq!(place.succeed("consume t --data data"), "v\n");
    // A line that is none is named even where those before it cannot be sent.
    let said =
        place.fed("produce t --format json --data data", &lines.replace("{\"partition\":1", "x"));
    assert!(!said.status.success());
    said.tells(&["line 2 of standard input", "`t-0`", "have no key"]);
}

#[test]
fn a_record_that_is_too_large_is_named_by_its_line_and_those_before_it_are_sent() {
    let Some(place) = Place::new() else { return };
    place.succeed("topics create t --set max.message.bytes=1000 --data data");
    let large = "x".repeat(2_000);
    let lines = format!("first\n{large}\nlast\n");
    let said = place.fed("produce t --data data", &lines);
    assert!(!said.status.success());
    let words = ["line 2 of standard input", "1000 at most", "the topic's `max.message.bytes`"];
    said.tells(&words);
    said.tells(&["1 record went into `t`"]);
    assert_eq!(place.succeed("consume t --data data"), "first\n");
    let object = format!("{{\"value\":\"{large}\"}}\n");
    place.fed("produce t --format json --data data", &object).tells(&["line 1", words[1]]);
    // What is small enough once it is compressed is none of these.
    place.feed("produce t -z zstd --data data", &lines);
    assert_eq!(place.succeed("consume t --data data"), format!("first\n{lines}"));
}

#[test]
fn a_node_that_takes_small_requests_is_sent_such_and_no_record_is_tried_in_vain() {
    let Some(place) = Place::new() else { return };
    let args = "serve --listen 127.0.0.1:0 --data data --set socket.request.max.bytes=2000";
    let node = place.start(args);
    node.has_said("an acknowledged record");
    let address = node.word_after("listening on ");
    place.succeed(&format!("topics create t -p 4 -b {address}"));
    let lines: String = (0..400).map(|line| format!("{line}=of some length, {line}\n")).collect();
    place.feed(&format!("produce t --key-separator = -b {address}"), &lines);
    assert_eq!(place.succeed(&format!("consume t -b {address}")).lines().count(), 400);
    let began = Instant::now();
    let said = place.fed(&format!("produce t -b {address}"), &"x".repeat(3_000));
    assert!(!said.status.success());
    said.tells(&["line 1 of standard input", "the node's `socket.request.max.bytes`"]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn batches_are_no_larger_than_their_topic_takes_and_stay_in_order() {
    let Some(place) = Place::new() else { return };
    let lines: String = (0..1_000).map(|line| format!("line {line}, told apart\n")).collect();
    for codec in ["none", "zstd"] {
        place.succeed(&format!("topics create {codec} --set max.message.bytes=500 --data data"));
        place.feed(&format!("produce {codec} -z {codec} --data data"), &lines);
        assert_eq!(place.succeed(&format!("consume {codec} --data data")), lines, "{codec}");
    }
}

#[test]
fn records_go_through_json_as_they_are_and_a_bad_line_is_named() {
    let Some(place) = Place::new() else { return };
    place.feed("produce t --data data --key-separator :", "k:v\nno key\n");
    let object = r#"{"value_hex":"ff00","headers":[{"name":"n","value":null}],"timestamp":5}"#;
    place.feed("produce t --data data --format json", &format!("{object}\n"));
    let lines = place.succeed("consume t --data data --json");
    place.feed("produce copy --data data --format json", &lines);
    let copied = place.succeed("consume copy --data data --json");
    assert_eq!(copied.replace("\"copy\"", "\"t\""), lines);
    let said = place.fed("produce t --data data --format json", "{\"value\":\"x\"}\nnonsense\n");
    assert!(!said.status.success());
    said.tells(&["line 2 of standard input", "{\"key\":\"k\"", "1 record went into `t`"]);
    let array = "[null,null,0,0,\"k\",null,\"v\",null,[]]\n";
    place
        .fed("produce t --data data --format json", array)
        .tells(&["line 1", "expected an object"]);
    let lines = place.succeed("consume t --data data --json");
    assert_eq!(lines.lines().count(), 4, "the one before it was taken");
}

#[test]
fn how_far_it_is_is_drawn_at_a_terminal_but_not_among_records() {
    let Some(place) = Place::new() else { return };
    fs::write(place.path("input"), "line\n".repeat(1_000)).unwrap();
    let Some(drawn) = place.at_terminal("produce t --data data <input") else { return };
    for words in ["100%", "1000 records", "left"] {
        assert!(drawn.contains(words), "no `{words}` in {drawn:?}");
    }
    let drawn = |args: &str| place.at_terminal(args).unwrap();
    assert!(drawn("consume t --data data >out").contains("1000 records"));
    let printed = drawn("consume t --data data");
    assert!(printed.contains("line\r\nline") && !printed.contains('%'), "{printed:?}");
    let bar = drawn("dump-log data/t-0 >out");
    assert!(bar.contains('%') && bar.contains("left"), "{bar:?}");
    assert!(!drawn("dump-log data/t-0").contains("left"));
}

#[test]
fn a_separator_is_refused_where_it_separates_nothing() {
    let Some(place) = Place::new() else { return };
    place.feed("produce t --data data --key-separator :", "k:v\n");
    let read = |args: &str| place.succeed(&format!("consume t --data data {args}"));
    assert_eq!(read("--format key-value"), "k\tv\n");
    assert_eq!(read("--format key-value --separator ="), "k=v\n");
    assert_eq!(read("--show value,key --key-separator ="), "v=k\n");
    for form in ["", " --json", " --format json", " --format value", " --show value"] {
        let why = ["`--separator =`", "nothing is separated", "--show key,value"];
        place.refuse(&format!("consume t --data data --separator ={form}"), &why);
    }
}

#[test]
fn records_are_sent_and_read_under_every_codec() {
    let Some(place) = Place::new() else { return };
    let lines: String =
        (0..1_000).map(|line| format!("a line like all others, {line}\n")).collect();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        place.feed(&format!("produce {codec} -z {codec} --data data"), &lines);
        assert_eq!(place.succeed(&format!("consume {codec} --data data")), lines, "{codec}");
        let told = place.succeed(&format!("dump-log data/{codec}-0 --records --json"));
        assert!(told.contains(&format!("\"compression\":\"{codec}\"")), "{told}");
        assert!(told.contains("a line like all others, 999"), "{codec}");
    }
}

#[test]
fn who_is_no_node_or_cannot_be_asked_is_said_in_a_sentence() {
    let Some(place) = Place::new() else { return };
    let closes = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = closes.local_addr().unwrap();
    let web = thread::spawn(move || {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
            let (mut stream, _) = closes.accept().unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    place.refuse(&format!("topics -b {at}"), &[&at.to_string(), "no Kafka node", "HTTP/1.1 400"]);
    place.refuse(&format!("topics -b {at}"), &[&at.to_string(), "closed the connection", "TLS"]);
    web.join().unwrap();
    place.refuse(&format!("topics -b {at}"), &["nobody listens there", "flumen serve"]);
    place.refuse("topics -b nonsense", &["`nonsense`", "HOST:PORT"]);

    place.write("a.log", 0..3);
    let tail = place.start("tail logs/*.log --topic t --data data");
    let log = place.path("data/t-0/00000000000000000000.log");
    wait_until("the lines are in", || log.metadata().is_ok_and(|is| is.len() > 0));
    place.refuse("topics --data data", &["in use by another process", "flumen serve"]);
    assert!(tail.interrupt().status.success());
}

#[test]
fn of_several_addresses_the_first_that_answers_is_asked() {
    let Some(place) = Place::new() else { return };
    let (_node, address) = serve(&place);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.succeed(&format!("topics create t -b {nobody},{address}"));
    let lines = "one\ntwo\n";
    place.feed(&format!("produce t -b {address},{nobody}"), lines);
    for given in [format!("{nobody}, {address}"), format!("{nobody},{nobody},{address}")] {
        assert_eq!(place.succeed_with(&["consume", "t", "-b", &given]), lines, "{given}");
    }
    place.succeed(&format!("groups -b {nobody} -b {address}"));
    let said = place.refuse(
        &format!("topics -b {nobody},nonsense"),
        &["none of these addresses", &nobody.to_string(), "nobody listens there", "`nonsense`"],
    );
    assert_eq!(said.lines().count(), 3, "{said}");
    place.refuse(&format!("topics -b {address},"), &["an address is empty", "HOST:PORT"]);
}

#[test]
fn a_node_that_has_as_many_connections_as_it_may_is_no_stranger() {
    let Some(place) = Place::new() else { return };
    let node = place.start("serve --listen 127.0.0.1:0 --data data --set max.connections.per.ip=1");
    node.has_said("an acknowledged record");
    let address = node.word_after("listening on ");
    let mut only = TcpStream::connect(&address).unwrap();
    // ApiVersions, version 0; the answer shows that the connection is counted.
    only.write_all(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff").unwrap();
    only.read_exact(&mut [0; 8]).unwrap();
    let why = ["closed the connection before it answered", "`max.connections.per.ip`", &address];
    place.refuse(&format!("topics -b {address}"), &why);
    drop(only);
    wait_until("its place is free", || place.run(&format!("topics -b {address}")).status.success());
}

#[test]
fn the_files_of_a_log_are_shown_and_damage_in_them_is_named() {
    let Some(place) = Place::new() else { return };
    place.feed("produce t --data data --key-separator :", "k:v\nno key\n");
    let told = place.succeed("dump-log data/t-0 --records");
    for words in [
        "00000000000000000000.log",
        "offsets 0 to 1  records 2  byte 0",
        "| 0  time",
        "key \"k\"  value \"v\"",
        "key null  value \"no key\"",
        "00000000000000000000.timeindex",
        "00000000000000000002.snapshot",
        "last sequence 1  last offset 1",
    ] {
        assert!(told.contains(words), "no `{words}` in {told}");
    }
    let log = "data/t-0/00000000000000000000.log";
    let batch: Value =
        serde_json::from_str(&place.succeed(&format!("dump-log {log} --json"))).unwrap();
    assert_eq!((&batch["records"], &batch["crc_is_right"]), (&2.into(), &true.into()), "{batch}");

    let mut bytes = fs::read(place.path(log)).unwrap();
    let whole = bytes.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(place.path(log), &bytes).unwrap();
    place.refuse(&format!("dump-log {log}"), &["byte 0", "fails its checksum", "1 file damaged"]);
    fs::write(place.path(log), &whole[..whole.len() - 1]).unwrap();
    place.refuse(&format!("dump-log {log}"), &["byte 0", "a batch of", "are left"]);
    fs::write(place.path(log), [&whole[..], &[0; 100]].concat()).unwrap();
    assert!(place.succeed(&format!("dump-log {log}")).contains("zeros from byte"));
    fs::write(place.path(log), [&whole[..], &[0; 100], b"x"].concat()).unwrap();
    place.refuse(&format!("dump-log {log}"), &["zeros, and other bytes behind them"]);
    place.refuse("dump-log data/meta.properties", &["no file of a log", ".log"]);
    place.refuse("dump-log logs", &["no log", "<topic>-<partition>"]);
    place.refuse("dump-log nowhere.log", &["nowhere.log"]);
}
