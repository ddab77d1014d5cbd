//! What is delivered lies below the high watermark, and no more than that is committed (GRP-2).

use flumen_actors::broker::names::TopicPartition;
use flumen_runtime::ids::Offset;

/// Looks at an offset that was delivered or committed, where the high watermark was seen so far.
pub(crate) fn check(partition: &TopicPartition, offset: Offset, high_watermark: Offset) {
    assert!(
        offset <= high_watermark,
        "GRP-2: {partition} was read up to {offset}, and is readable up to {high_watermark}"
    );
}

#[test]
#[should_panic(expected = "GRP-2")]
fn more_than_there_is_is_found() {
    let topic = flumen_actors::broker::names::TopicName::new("t").expect("it is a name");
    let partition = flumen_actors::broker::names::PartitionId(0);
    check(&TopicPartition { topic, partition }, Offset(2), Offset(1));
}
