//! What is kept, by whom, and what is taken for it.

use flumen_actors::broker::{Settings, partition::messages::TrimTo};

use super::*;
use crate::{
    node::Node,
    stream::testing::{counts, on_a_node, partition},
};

async fn open_of(
    node: &Node,
    stage: &str,
    input: &TopicPartition,
) -> Result<(Changelog, Kept), StageError> {
    let topic = TopicName::new(&name(stage)).unwrap();
    Changelog::open(node.broker(), stage, &topic, input).await
}

async fn open(node: &Node, number: u32) -> Result<(Changelog, Kept), StageError> {
    open_of(node, "p/s", &partition("t", number)).await
}

async fn refused(node: &Node) -> String {
    open(node, 0).await.err().expect("it is refused").to_string()
}

#[test]
fn of_two_who_have_read_it_one_appends_and_the_other_is_refused() {
    on_a_node(async |node| {
        let (mut old, kept) = open(&node, 0).await.unwrap();
        assert_eq!(kept, Kept::default());
        old.append(Offset(7), &counts([("a", 1)])).await.unwrap();
        let (mut new, _) = open(&node, 0).await.unwrap();
        new.append(Offset(8), &counts([("a", 2)])).await.unwrap();
        let error = old.append(Offset(9), &counts([("b", 3)])).await.unwrap_err().to_string();
        assert!(error.contains("another has appended"), "{error}");
        new.append(Offset(9), &counts([("position", 4)])).await.unwrap();
        let (_, kept) = open(&node, 0).await.unwrap();
        let wanted = counts([("a", 2), ("position", 4)]);
        assert_eq!(kept, Kept { sums: wanted, next: Some(Offset(9)) });
    });
}

#[test]
fn what_had_landed_and_was_not_answered_is_kept_once_when_it_is_tried_again() {
    on_a_node(async |node| {
        let (mut log, _) = open(&node, 0).await.unwrap();
        for next in 1..=3 {
            let (end, sequence) = (log.end, log.sequence);
            let changed = counts([("a", next), ("b", next)]);
            for _ in 0..2 {
                (log.end, log.sequence) = (end, sequence);
                log.append(Offset(next), &changed).await.unwrap();
                assert_eq!((log.end, log.sequence), (Offset(3 * next), 3 * next as i32));
            }
        }
        let (_, kept) = open(&node, 0).await.unwrap();
        assert_eq!(kept, Kept { sums: counts([("a", 3), ("b", 3)]), next: Some(Offset(3)) });
        // Of another life it is another's.
        let (mut other, _) = open(&node, 0).await.unwrap();
        (other.end, other.sequence) = (Offset(6), 6);
        let error = other.append(Offset(3), &counts([("a", 3), ("b", 3)])).await.unwrap_err();
        assert!(error.to_string().contains("another has appended"), "{error}");
    });
}

#[test]
fn it_has_a_partition_for_each_that_is_read_also_of_those_that_come_later() {
    on_a_node(async |node| {
        let (mut first, _) = open(&node, 0).await.unwrap();
        first.append(Offset(1), &counts([("a", 1)])).await.unwrap();
        node.broker().grow_topic(&first.input, 3).await.unwrap();
        let both = futures::join!(open(&node, 1), open(&node, 2));
        let (mut second, kept) = both.0.unwrap();
        assert_eq!(kept, Kept::default());
        second.append(Offset(2), &counts([("b", 2)])).await.unwrap();
        assert_eq!(both.1.unwrap().1, Kept::default());
        assert_eq!(open(&node, 0).await.unwrap().1.next, Some(Offset(1)));
    });
}

#[test]
fn what_another_stage_has_kept_or_nobody_is_refused() {
    on_a_node(async |node| {
        let (mut log, _) = open_of(&node, "p-s", &partition("t", 0)).await.unwrap();
        log.append(Offset(1), &counts([("a", 1)])).await.unwrap();
        let error = refused(&node).await;
        assert!(error.contains("it is of the stage `p-s`"), "{error}");

        node.broker().delete_topic(&log.at.topic).await.unwrap();
        let (log, _) = open(&node, 0).await.unwrap();
        let mut other = BatchBuilder::new(0);
        push(&mut other, b"x", Some(b"y"));
        let other = other.build();
        let append = || Append::new(other.clone());
        asking::append(node.broker(), &log.at, append).await.unwrap();
        let error = refused(&node).await;
        assert!(error.contains("at offset 0, it holds nothing of a stage"), "{error}");
    });
}

#[test]
fn what_was_kept_of_a_topic_that_is_gone_is_taken_back_and_what_is_of_another_refused() {
    on_a_node(async |node| {
        let (mut log, _) = open(&node, 0).await.unwrap();
        // More than one batch takes back.
        let many = 3 * FORGET_BYTES / 1000;
        let many: Counts = (0..many).map(|n| (format!("{n:01000}"), 1)).collect();
        log.append(Offset(9), &many).await.unwrap();
        assert_eq!(open(&node, 0).await.unwrap().1.sums.len(), many.len());
        node.broker().create_topic(TopicSpec::new("u", 1).unwrap()).await.unwrap();
        let error = open_of(&node, "p/s", &partition("u", 0)).await.err().unwrap().to_string();
        assert!(error.contains("it is of the topic `t`, and not of `u`"), "{error}");

        node.broker().delete_topic(&log.input).await.unwrap();
        let error = refused(&node).await;
        assert!(error.contains("there is no such topic"), "{error}");
        node.broker().create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        let error = log.append(Offset(10), &Counts::new()).await.unwrap_err().to_string();
        assert!(error.contains("another than the one that was read"), "{error}");
        let (mut anew, kept) = open(&node, 0).await.unwrap();
        assert_eq!(kept, Kept::default());
        anew.append(Offset(1), &counts([("a", 1)])).await.unwrap();
        let kept = open(&node, 0).await.unwrap().1;
        assert_eq!(kept, Kept { sums: counts([("a", 1)]), next: Some(Offset(1)) });
    });
}

#[test]
fn a_topic_from_which_old_records_may_go_or_have_gone_is_refused() {
    on_a_node(async |node| {
        let topic = TopicName::new("p-s-changelog").unwrap();
        let spec = TopicSpec::new(topic.as_str(), 1).unwrap();
        node.broker().create_topic(spec).await.unwrap();
        let error = refused(&node).await;
        assert!(error.contains("its `cleanup.policy` is `delete`"), "{error}");
        let needed =
            NEEDED.iter().try_fold(Settings::default(), |all, (name, value)| all.with(name, value));
        let needed = needed.unwrap();
        for (name, value) in [
            ("cleanup.policy", "compact,delete"),
            ("message.timestamp.type", "CreateTime"),
            ("flush.messages", "9223372036854775807"),
            (BATCH_BYTES, "67108863"),
        ] {
            let settings = needed.clone().with(name, value).unwrap();
            node.broker().configure_topic(&topic, settings).await.unwrap();
            let error = refused(&node).await;
            assert!(error.contains(&format!("its `{name}` is `{value}`")), "{error}");
        }
        for enough in ["67108865", "67108864"] {
            let settings = needed.clone().with(BATCH_BYTES, enough).unwrap();
            node.broker().configure_topic(&topic, settings).await.unwrap();
            assert_eq!(open(&node, 0).await.unwrap().1, Kept::default());
        }
        let (mut log, _) = open(&node, 0).await.unwrap();
        for next in 1..=2 {
            log.append(Offset(next), &counts([("a", next)])).await.unwrap();
        }
        let address = node.broker().partition(&log.at).unwrap();
        address.send(TrimTo { offset: Offset(2) }).await.unwrap().unwrap();
        let error = refused(&node).await;
        assert!(error.contains("what was below offset 2 is missing"), "{error}");
        assert!(error.contains("delete what is kept: the changelog's topic"), "{error}");
    });
}
