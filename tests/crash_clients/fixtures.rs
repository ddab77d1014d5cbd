//! Histories that the checkers must reject, each a good one in which one thing is changed.

use crate::{
    checkers::check,
    history::{Event, Place, Record, What},
};

fn record(producer: &str, number: u64) -> Record {
    Record { producer: producer.to_owned(), number, key: None, sum: 7 * number as u32 }
}

fn event(at: u64, what: What) -> Event {
    Event { at, place: Place { topic: "a".to_owned(), partition: 0 }, what }
}

/// Two producers send three records each in turn; two members read them, one after the other; the
/// log is read.
fn good() -> Vec<Event> {
    let mut events = Vec::new();
    let records: Vec<Record> =
        (0..6).map(|n| record(if n % 2 == 0 { "p" } else { "q" }, n / 2)).collect();
    for (offset, record) in (0..).zip(&records) {
        let at = 10 * offset as u64;
        events.push(event(at, What::Sent(record.clone())));
        events.push(event(at + 5, What::Acknowledged { record: record.clone(), offset }));
    }
    let member = |at, name: &str, range: std::ops::Range<i64>| {
        let mut events = vec![event(at, What::Assigned { member: name.to_owned() })];
        for offset in range.clone() {
            let (member, record) = (name.to_owned(), records[offset as usize].clone());
            events.push(event(at + 1 + offset as u64, What::Polled { member, record, offset }));
        }
        let (next, began) = (range.end, at + 10);
        events.push(event(at + 12, What::Committed { next, began, known: true }));
        events
    };
    events.extend(member(100, "m", 0..4));
    events.extend(member(120, "n", 4..6));
    // What it had is given to the other again, without a commit in between.
    events.push(event(150, What::Looked { next: 6, began: 149 }));
    for (offset, record) in (0..).zip(records) {
        events.push(event(200, What::Held { record, offset }));
    }
    events
}

/// The names of the complaints about a good history that `spoil` changed.
fn spoiled(spoil: impl FnOnce(&mut Vec<Event>)) -> Vec<&'static str> {
    let mut events = good();
    spoil(&mut events);
    let mut names: Vec<_> = check(&events).into_iter().map(|complaint| complaint.name).collect();
    names.dedup();
    names
}

/// The place of the nth event like this.
fn nth(events: &[Event], nth: usize, is: impl Fn(&What) -> bool) -> usize {
    let like = events.iter().enumerate().filter(|(_, event)| is(&event.what));
    like.map(|(at, _)| at).nth(nth).expect("there are as many")
}

fn is_held(what: &What) -> bool {
    matches!(what, What::Held { .. })
}

fn is_polled(what: &What) -> bool {
    matches!(what, What::Polled { .. })
}

fn record_of(event: &mut Event) -> &mut Record {
    match &mut event.what {
        What::Held { record, .. } | What::Polled { record, .. } => record,
        What::Acknowledged { record, .. } | What::Sent(record) => record,
        other => panic!("{other:?} has none"),
    }
}

fn held(offset: i64, record: Record) -> Event {
    event(200, What::Held { record, offset })
}

#[test]
fn a_good_history_is_accepted() {
    assert_eq!(check(&good()), []);
}

#[test]
fn an_unanswered_record_may_be_held_or_not_and_a_member_may_begin_again_at_its_commit() {
    let mut events = good();
    events.push(event(60, What::Sent(record("p", 3))));
    events.push(event(61, What::Sent(record("q", 3))));
    let polled = |member: &str, offset| What::Polled {
        member: member.to_owned(),
        record: record("q", 3),
        offset,
    };
    for (at, member) in [(160, "m"), (170, "n")] {
        events.push(event(at, What::Assigned { member: member.to_owned() }));
        events.push(event(at + 1, polled(member, 6)));
    }
    events.push(held(6, record("q", 3)));
    assert_eq!(check(&events), []);
}

#[test]
fn a_lost_record_is_found() {
    let names = spoiled(|events| {
        events.remove(nth(events, 3, is_held));
    });
    assert_eq!(names, ["lost"]);
}

#[test]
fn a_doubled_record_is_found() {
    let names = spoiled(|events| events.push(held(6, record("q", 2))));
    assert_eq!(names, ["doubled", "unseen"]);
}

#[test]
fn records_in_another_order_are_found() {
    let names = spoiled(|events| {
        for is in [is_held as fn(&What) -> bool, is_polled] {
            let (first, second) = (nth(events, 0, is), nth(events, 2, is));
            *record_of(&mut events[first]) = record("p", 1);
            *record_of(&mut events[second]) = record("p", 0);
        }
    });
    assert_eq!(names, ["reordered", "changed"]);
    let names = spoiled(|events| {
        let (first, second) = (nth(events, 0, is_held), nth(events, 1, is_held));
        events.swap(first, second);
    });
    assert_eq!(names, ["reordered"]);
}

#[test]
fn a_record_that_nobody_sent_there_is_found() {
    let names = spoiled(|events| events.push(held(6, record("r", 0))));
    assert_eq!(names, ["phantom", "unseen"]);
}

#[test]
fn changed_bytes_are_found_wherever_they_are_seen() {
    for is in [is_held as fn(&What) -> bool, is_polled] {
        let names = spoiled(|events| {
            let at = nth(events, 2, is);
            record_of(&mut events[at]).sum += 1;
        });
        assert_eq!(names, ["changed"]);
    }
}

#[test]
fn an_offset_with_two_records_is_found() {
    let names = spoiled(|events| {
        let acknowledged = |what: &What| matches!(what, What::Acknowledged { .. });
        let at = nth(events, 5, acknowledged);
        let What::Acknowledged { offset, .. } = &mut events[at].what else { unreachable!() };
        *offset = 9;
        let at = nth(events, 4, acknowledged);
        let What::Acknowledged { offset, .. } = &mut events[at].what else { unreachable!() };
        *offset = 5;
    });
    assert_eq!(names, ["changed"]);
}

#[test]
fn a_record_acknowledged_below_what_was_known_when_it_was_sent_is_found() {
    let names = spoiled(|events| {
        let at = nth(events, 2, |what| matches!(what, What::Acknowledged { .. }));
        let What::Acknowledged { offset, .. } = &mut events[at].what else { unreachable!() };
        *offset = 1;
    });
    assert_eq!(names, ["changed", "stale"]);
}

#[test]
fn a_committed_offset_that_goes_back_is_found() {
    let is_looked = |what: &What| matches!(what, What::Looked { .. });
    let names = spoiled(|events| {
        let at = nth(events, 0, is_looked);
        events[at].what = What::Looked { next: 5, began: 149 };
    });
    assert_eq!(names, ["regressed"]);
    // It may be that a commit is on its way.
    let names = spoiled(|events| {
        let at = nth(events, 0, is_looked);
        events[at].what = What::Looked { next: 4, began: 132 };
    });
    assert_eq!(names, [] as [&str; 0]);
    // A member that begins before what the other had committed has seen it as well.
    let names = spoiled(|events| {
        let (member, record) = ("n".to_owned(), record("q", 1));
        events.push(event(121, What::Polled { member, record, offset: 3 }));
    });
    assert_eq!(names, ["regressed"]);
}

#[test]
fn a_member_that_passes_over_records_is_found_and_what_nobody_saw_too() {
    let names = spoiled(|events| {
        events.remove(nth(events, 1, is_polled));
    });
    assert_eq!(names, ["skipped", "unseen"]);
    let names = spoiled(|events| {
        events.remove(nth(events, 4, is_polled));
    });
    assert_eq!(names, ["skipped", "unseen"]);
}

#[test]
fn a_member_that_is_given_a_record_again_is_found() {
    let names = spoiled(|events| {
        let (member, record) = ("m".to_owned(), record("q", 0));
        events.push(event(108, What::Polled { member, record, offset: 1 }));
    });
    assert_eq!(names, ["repeated"]);
}

/// The good history, of a compacted topic where each producer has one key; only what `stays` is held.
fn compacted(stays: impl Fn(&Record) -> bool) -> Vec<Event> {
    let mut events = good();
    for event in &mut events {
        if let What::Sent(record)
        | What::Acknowledged { record, .. }
        | What::Polled { record, .. }
        | What::Held { record, .. } = &mut event.what
        {
            record.key = Some(record.producer.clone());
        }
    }
    events.retain(|event| match &event.what {
        What::Held { record, .. } => stays(record),
        _ => true,
    });
    events
}

fn names(events: &[Event]) -> Vec<&'static str> {
    check(events).into_iter().map(|complaint| complaint.name).collect()
}

#[test]
fn a_record_of_a_compacted_topic_may_go_for_a_later_one_of_its_key_and_members_pass_over_it() {
    let mut events = compacted(|record| record.number != 1);
    assert_eq!(check(&events), []);
    events.retain(|event| match &event.what {
        What::Polled { record, .. } => record.number != 1,
        _ => true,
    });
    assert_eq!(check(&events), []);
    // What nobody acknowledged may take its place as well.
    let last = Record { key: Some("p".to_owned()), ..record("p", 3) };
    events.push(event(60, What::Sent(last.clone())));
    events
        .push(event(130, What::Polled { member: "n".to_owned(), record: last.clone(), offset: 6 }));
    events.retain(
        |event| !matches!(&event.what, What::Held { record, .. } if record.producer == "p"),
    );
    events.push(held(6, last));
    assert_eq!(check(&events), []);
}

#[test]
fn a_compacted_topic_that_lost_the_last_of_a_key_is_found() {
    assert_eq!(names(&compacted(|record| record.number < 2)), ["lost", "lost"]);
    assert_eq!(names(&compacted(|record| record.producer == "p")), ["lost", "lost", "lost"]);
    // A key of another's does not make up for it.
    assert_eq!(names(&compacted(|record| record.number < 2 || record.producer == "q")), ["lost"]);
}

#[test]
fn a_record_of_a_compacted_topic_that_moved_or_was_passed_over_is_found() {
    let mut events = compacted(|record| record.number == 2);
    let at = nth(&events, 0, is_held);
    let What::Held { offset, .. } = &mut events[at].what else { unreachable!() };
    *offset -= 1;
    assert!(names(&events).contains(&"changed"));
    let mut events = compacted(|record| record.number == 2);
    events.remove(nth(&events, 4, is_polled));
    assert_eq!(names(&events), ["skipped", "unseen"]);
}
