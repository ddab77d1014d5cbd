//! The head of a channel passes an event only when the partition has it durably (TSK-2).

use flumen_actors::agent::channel::durable::head::Head;

/// Looks at the head file of a channel whose events, and no others, go to a topic with so many
/// durable records.
pub(crate) fn check(head: &[u8], durable_records: u64) {
    let head = Head::decode(head).expect("TSK-2: a head file is replaced as a whole");
    assert!(
        head.committed.events <= durable_records,
        "TSK-2: {} events were committed, and {durable_records} are durable in the topic",
        head.committed.events
    );
}

#[test]
#[should_panic(expected = "TSK-2")]
fn a_head_that_is_ahead_is_found() {
    let mut head = Head::default();
    head.committed.events = 2;
    check(&head.encode(), 1);
}
