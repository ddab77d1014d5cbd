//! What must be true of a history: pure functions over it, each with histories that it must reject.
//!
//! The log is a register that is only appended to, and so these are all that can be asked of it:
//!
//! | complaint | what happened |
//! |---|---|
//! | lost | an acknowledged record is not held in the end, and none after it of the same key |
//! | doubled | a record is held twice |
//! | reordered | a producer's records are held in another order than it sent them |
//! | phantom | a record is held that nobody sent there |
//! | changed | an offset was seen with two contents, or with bytes that nobody sent |
//! | stale | a record was acknowledged below one that had been acknowledged before it was sent |
//!
//! And of the group that reads it:
//!
//! | complaint | what happened |
//! |---|---|
//! | regressed | the committed offset was seen below one whose commit had been answered, or begun from there |
//! | skipped | a member passed over records, or began behind what anybody had committed |
//! | repeated | a member was given a record again without losing the partition in between |
//! | unseen | no member was given a record |
//!
//! A record may be given to the group again where a member began anew from what was committed: it
//! commits after it reads. These topics hold nothing but records, and so offsets are without gaps; but
//! for those of a compacted one, whose records have keys: there a record may be gone, and passed over,
//! once a later one of its key is there. What is held in the end was there all the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::history::{Event, Place, Record, What, by_partition};

/// A name of the table, where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) name: &'static str,
    pub(crate) text: String,
}

type Part<'a> = [(u64, &'a What)];
type Found = Vec<(&'static str, String)>;

/// Everything that is wrong with a history.
pub(crate) fn check(events: &[Event]) -> Vec<Complaint> {
    let checkers: [fn(&Part<'_>, &mut Found); 8] =
        [lost, doubled, reordered, phantom, changed, stale, regressed, polls];
    let mut complaints = Vec::new();
    for (place, part) in by_partition(events) {
        let mut found = Found::new();
        checkers.iter().for_each(|checker| checker(&part, &mut found));
        complaints.extend(found.into_iter().map(|found| complaint(place, found)));
    }
    complaints
}

fn complaint(place: &Place, (name, text): (&'static str, String)) -> Complaint {
    Complaint { name, text: format!("{name}: {place}, {text}") }
}

fn held<'a>(part: &'a Part<'_>) -> impl Iterator<Item = (i64, &'a Record)> {
    part.iter().filter_map(|(_, what)| match what {
        What::Held { record, offset } => Some((*offset, record)),
        _ => None,
    })
}

fn acknowledged<'a>(part: &'a Part<'_>) -> impl Iterator<Item = (u64, i64, &'a Record)> {
    part.iter().filter_map(|(at, what)| match what {
        What::Acknowledged { record, offset } => Some((*at, *offset, record)),
        _ => None,
    })
}

fn sent<'a>(part: &'a Part<'_>) -> impl Iterator<Item = (u64, &'a Record)> {
    part.iter().filter_map(|(at, what)| match what {
        What::Sent(record) => Some((*at, record)),
        _ => None,
    })
}

/// Producer and number: what tells records apart, whatever became of their bytes.
fn id(record: &Record) -> (&str, u64) {
    (&record.producer, record.number)
}

fn key(record: &Record) -> Option<&str> {
    record.key.as_deref()
}

fn lost(part: &Part<'_>, found: &mut Found) {
    let there: BTreeSet<_> = held(part).map(|(_, record)| id(record)).collect();
    let of_key = |(_, record)| key(record).zip(Some(record.number));
    // The last of each key; a key has one producer, whose records stand in their order.
    let newest: BTreeMap<_, _> = held(part).filter_map(of_key).collect();
    for (_, offset, record) in acknowledged(part) {
        let newest = key(record).and_then(|key| newest.get(key));
        let is_superseded = newest.is_some_and(|newest| *newest > record.number);
        if !there.contains(&id(record)) && !is_superseded {
            found.push(("lost", format!("{record}, acknowledged at {offset}")));
        }
    }
}

fn doubled(part: &Part<'_>, found: &mut Found) {
    let mut first = BTreeMap::new();
    for (offset, record) in held(part) {
        if let Some(before) = first.insert(id(record), offset) {
            found.push(("doubled", format!("{record} at {before} and at {offset}")));
        }
    }
}

fn reordered(part: &Part<'_>, found: &mut Found) {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut end = -1;
    for (offset, record) in held(part) {
        if offset <= end {
            found.push(("reordered", format!("offset {offset} after {end}")));
        }
        end = offset;
        let last = last.entry(&record.producer).or_default();
        if record.number < *last {
            found.push(("reordered", format!("{record} at {offset}, behind number {last}")));
        }
        *last = record.number;
    }
}

fn phantom(part: &Part<'_>, found: &mut Found) {
    let sent: BTreeSet<_> = sent(part).map(|(_, record)| id(record)).collect();
    let none = held(part).filter(|(_, record)| !sent.contains(&id(record)));
    found.extend(none.map(|(offset, record)| ("phantom", format!("{record} at {offset}"))));
}

fn changed(part: &Part<'_>, found: &mut Found) {
    let sums: BTreeMap<_, _> = sent(part).map(|(_, record)| (id(record), record.sum)).collect();
    let mut at: BTreeMap<i64, &Record> = BTreeMap::new();
    for (_, what) in part {
        let (What::Acknowledged { record, offset }
        | What::Polled { record, offset, .. }
        | What::Held { record, offset }) = what
        else {
            continue;
        };
        if sums.get(&id(record)).is_some_and(|sum| *sum != record.sum) {
            found.push(("changed", format!("{record} at {offset}, other bytes than were sent")));
        }
        // A client that learns that its record was there already does not learn where.
        if *offset >= 0 && at.entry(*offset).or_insert(record) != &record {
            found.push(("changed", format!("offset {offset} was {} and is {record}", at[offset])));
        }
    }
}

fn stale(part: &Part<'_>, found: &mut Found) {
    let began: BTreeMap<_, _> = sent(part).map(|(at, record)| (id(record), at)).collect();
    // In the order of their times, the highest offset that was acknowledged by then.
    let mut highest: Vec<(u64, i64)> = Vec::new();
    for (at, offset, _) in acknowledged(part) {
        let before = highest.last().map_or(-1, |(_, offset)| *offset);
        highest.push((at, before.max(offset)));
    }
    for (_, offset, record) in acknowledged(part).filter(|(_, offset, _)| *offset >= 0) {
        let Some(began) = began.get(&id(record)) else { continue };
        let before = highest.partition_point(|(at, _)| at < began);
        let known = before.checked_sub(1).map_or(-1, |last| highest[last].1);
        if offset <= known {
            found.push(("stale", format!("{record} at {offset}, sent after {known} was")));
        }
    }
}

fn regressed(part: &Part<'_>, found: &mut Found) {
    for (_, what) in part {
        let What::Looked { next, began } = what else { continue };
        let least = answered_by(part, *began);
        if *next < least {
            found.push(("regressed", format!("{next} is committed, and {least} was")));
        }
    }
}

/// The highest committed offset that somebody knew by `time`.
fn answered_by(part: &Part<'_>, time: u64) -> i64 {
    let known = part.iter().filter(|(at, _)| *at < time).filter_map(|(_, what)| match what {
        What::Committed { next, known: true, .. } | What::Looked { next, .. } => Some(*next),
        _ => None,
    });
    known.max().unwrap_or_default()
}

/// The highest offset that anybody may have committed by `time`.
fn tried_by(part: &Part<'_>, time: u64) -> i64 {
    let tried = part.iter().filter_map(|(_, what)| match what {
        What::Committed { next, began, .. } if *began < time => Some(*next),
        _ => None,
    });
    tried.max().unwrap_or_default()
}

fn polls(part: &Part<'_>, found: &mut Found) {
    // Of each member: when it was given the partition, and what it must be given next.
    let mut members: BTreeMap<&str, (u64, Option<i64>)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let is_compacted = held(part).any(|(_, record)| record.key.is_some());
    let there: BTreeSet<i64> = held(part).map(|(offset, _)| offset).collect();
    let is_gone = |gap: Range<i64>| is_compacted && there.range(gap).next().is_none();
    for (at, what) in part {
        match what {
            What::Assigned { member } => {
                members.insert(member, (*at, None));
            }
            What::Polled { member, record, offset } => {
                seen.insert(*offset);
                let Some((since, next)) = members.get_mut(member.as_str()) else {
                    found.push(("repeated", format!("{record} for {member}, who has it not")));
                    continue;
                };
                let (least, most) = match next {
                    Some(next) => (*next, *next),
                    None => (answered_by(part, *since), tried_by(part, *at)),
                };
                let is_first = next.is_none();
                *next = Some(offset + 1);
                if *offset > most && !is_gone(most..*offset) {
                    let text = format!("{member} was given {offset}, and {most} was next");
                    found.push(("skipped", text));
                } else if *offset < least {
                    let name = if is_first { "regressed" } else { "repeated" };
                    found.push((name, format!("{member} was given {offset} after {least}")));
                }
            }
            _ => {}
        }
    }
    let unseen = held(part).filter(|(offset, _)| !seen.contains(offset));
    found.extend(unseen.map(|(offset, record)| ("unseen", format!("{record} at {offset}"))));
}
