//! Each record counts once, from wherever a fold begins.

use flumen_actors::broker::partition::messages::Append;
use flumen_runtime::batch::{self, BatchBuilder, BatchHeader, RecordRef};

use super::*;
use crate::{
    node::Node,
    stream::{
        changelog,
        testing::{counts, on_a_node, partition},
    },
    typed::Raw,
};

const STAGE: &str = "p/s";

fn input() -> TopicPartition {
    partition("t", 0)
}

fn changelog_topic() -> TopicName {
    TopicName::new(&changelog::name(STAGE)).unwrap()
}

fn batch_of(records: u64) -> bytes::BytesMut {
    let mut batch = BatchBuilder::new(0);
    (0..records).for_each(|_| batch.push(RecordRef { value: Some(b"a"), ..RecordRef::default() }));
    batch.build()
}

/// Puts `records` records more into the topic that is read.
async fn publish(node: &Node, records: u64) {
    asking::append(node.broker(), &input(), || Append::new(batch_of(records))).await.unwrap();
}

/// A fold that counts records under their value.
fn fold(node: &Node) -> (Fold, Tally) {
    let tally = Tally::default();
    let one = |line: bytes::Bytes| (String::from_utf8_lossy(&line).into_owned(), 1);
    let operators = Operators::read(Raw).map(one);
    let broker = node.broker().clone();
    (Fold::new(STAGE, changelog_topic(), operators, broker, tally.clone()), tally)
}

/// Shows `fold` the records of `offsets`.
fn take(fold: &mut Fold, offsets: std::ops::Range<u64>) -> Result<(), StageError> {
    let bytes = batch_of(offsets.end - offsets.start).freeze();
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.base_offset = Offset(offsets.start);
    let mut records = batch::records(&bytes, &header).unwrap();
    while let Some(record) = records.lend() {
        fold.take(&input(), &record.unwrap())?;
    }
    Ok(())
}

async fn begin(fold: &mut Fold, position: u64, state: Option<&str>) -> Result<Offset, StageError> {
    fold.begin(&input(), Begin { state, ..Begin::at(Offset(position)) }).await
}

async fn take_and_finish(fold: &mut Fold, offsets: std::ops::Range<u64>) {
    let end = Offset(offsets.end);
    take(fold, offsets).unwrap();
    assert_eq!(fold.finish(&input(), end).await.unwrap(), "");
}

#[test]
fn where_the_topic_has_lost_its_end_what_comes_in_its_place_is_counted_once() {
    on_a_node(async |node| {
        publish(&node, 800).await;
        let opened = Changelog::open(node.broker(), STAGE, &changelog_topic(), &input()).await;
        opened.unwrap().0.append(Offset(1000), &counts([("a", 1000)])).await.unwrap();
        for life in 0..2 {
            let (mut first, tally) = fold(&node);
            assert_eq!(begin(&mut first, 1000, Some("")).await.unwrap(), Offset(800), "{life}");
            assert_eq!(tally.total(), counts([("a", 1000)]));
            // It is got beyond 1,000 in the first life, and not counted there.
            if life == 0 {
                publish(&node, 300).await;
            }
        }
        let (mut second, tally) = fold(&node);
        assert_eq!(begin(&mut second, 1000, Some("")).await.unwrap(), Offset(800));
        take_and_finish(&mut second, 800..900).await;
        take_and_finish(&mut second, 900..1100).await;
        assert_eq!(tally.total(), counts([("a", 1300)]));
        let (mut third, tally) = fold(&node);
        assert_eq!(begin(&mut third, 1000, Some("")).await.unwrap(), Offset(1100));
        assert_eq!(tally.total(), counts([("a", 1300)]));
    });
}

#[test]
fn where_it_is_known_from_where_on_records_are_lost_it_goes_on_there() {
    on_a_node(async |node| {
        publish(&node, 1100).await;
        let opened = Changelog::open(node.broker(), STAGE, &changelog_topic(), &input()).await;
        opened.unwrap().0.append(Offset(1000), &counts([("a", 1000)])).await.unwrap();
        let (mut first, tally) = fold(&node);
        let cut = Begin { state: Some(""), is_cut: true, ..Begin::at(Offset(800)) };
        assert_eq!(first.begin(&input(), cut).await.unwrap(), Offset(800), "others stand there");
        take_and_finish(&mut first, 800..1100).await;
        assert_eq!(tally.total(), counts([("a", 1300)]));
    });
}

#[test]
fn so_are_those_that_stand_beside_a_position_once() {
    on_a_node(async |node| {
        publish(&node, 800).await;
        let state = Some(r#"{"a":1000}"#);
        let (mut first, tally) = fold(&node);
        assert_eq!(begin(&mut first, 1000, state).await.unwrap(), Offset(800));
        assert_eq!(tally.total(), counts([("a", 1000)]));
        publish(&node, 300).await;
        let (mut second, _) = fold(&node);
        assert_eq!(begin(&mut second, 1000, state).await.unwrap(), Offset(800));
        take_and_finish(&mut second, 800..1100).await;
        let (mut third, tally) = fold(&node);
        assert_eq!(begin(&mut third, 1000, state).await.unwrap(), Offset(1100));
        assert_eq!(tally.total(), counts([("a", 1300)]));
    });
}

#[test]
fn what_is_counted_already_is_refused_where_it_comes_again() {
    on_a_node(async |node| {
        publish(&node, 10).await;
        let (mut fold, tally) = fold(&node);
        assert_eq!(begin(&mut fold, 4, None).await.unwrap(), Offset(4));
        take_and_finish(&mut fold, 4..10).await;
        for (again, wanted) in [(0..1, "offset 0 came"), (9..11, "offset 9 came")] {
            let refused = take(&mut fold, again).unwrap_err().to_string();
            assert!(refused.contains(wanted), "{refused}");
        }
        take_and_finish(&mut fold, 10..11).await;
        assert_eq!(tally.total(), counts([("a", 7)]));
    });
}

#[test]
fn sums_that_stand_beside_a_position_are_taken_over() {
    on_a_node(async |node| {
        publish(&node, 10).await;
        for state in ["[]", r#"{"a":-1}"#, "{"] {
            let refused = begin(&mut fold(&node).0, 5, Some(state)).await.unwrap_err();
            assert!(matches!(refused, StageError::State { .. }), "{state}: {refused}");
        }
        let state = Some(r#"{"a":3,"b":2}"#);
        // Until something is finished they stand there only.
        for _ in 0..2 {
            let (mut first, tally) = fold(&node);
            assert_eq!(begin(&mut first, 5, state).await.unwrap(), Offset(5));
            assert_eq!(tally.total(), counts([("a", 3), ("b", 2)]));
            take(&mut first, 5..7).unwrap();
        }
        let (mut second, _) = fold(&node);
        begin(&mut second, 5, state).await.unwrap();
        take_and_finish(&mut second, 5..7).await;
        // From then on they stand in the changelog only, also where the position was not committed.
        let (mut third, tally) = fold(&node);
        assert_eq!(begin(&mut third, 5, state).await.unwrap(), Offset(7));
        assert_eq!(tally.total(), counts([("a", 5), ("b", 2)]));
    });
}

#[test]
fn without_a_changelog_it_begins_where_the_group_does_or_anew() {
    on_a_node(async |node| {
        publish(&node, 10).await;
        assert_eq!(begin(&mut fold(&node).0, 4, None).await.unwrap(), Offset(4));
        assert_eq!(begin(&mut fold(&node).0, 4, Some("")).await.unwrap(), Offset(0));
        assert_eq!(begin(&mut fold(&node).0, 40, None).await.unwrap(), Offset(10));
    });
}

#[test]
fn it_tells_how_much_it_has_to_keep_at_once() {
    on_a_node(async |node| {
        let (mut fold, _) = fold(&node);
        begin(&mut fold, 0, None).await.unwrap();
        let bytes = batch_of(1).freeze();
        let header = BatchHeader::parse(&bytes).unwrap();
        let mut tell = |offset: u64| {
            let header = BatchHeader { base_offset: Offset(offset), ..header };
            let mut records = batch::records(&bytes, &header).unwrap();
            fold.take(&input(), &records.lend().unwrap().unwrap()).unwrap()
        };
        assert_eq!([tell(0), tell(1)], [entry_bytes("a"); 2], "a name counts once");
        fold.finish(&input(), Offset(2)).await.unwrap();
        let mut records = batch::records(&bytes, &BatchHeader { base_offset: Offset(2), ..header });
        let record = records.as_mut().unwrap().lend().unwrap().unwrap();
        assert_eq!(fold.take(&input(), &record).unwrap(), entry_bytes("a"), "it is kept");
    });
}
