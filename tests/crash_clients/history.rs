//! What clients saw, event by event, of all processes in the order of their common clock.

use std::collections::{BTreeMap, BTreeSet};

use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A record: no two of a history have the same producer and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Record {
    pub(crate) producer: String,
    pub(crate) number: u64,
    /// In a compacted topic, where each producer has keys of its own.
    pub(crate) key: Option<String>,
    /// Sum over its bytes.
    pub(crate) sum: u32,
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} ({:08x})", self.producer, self.number, self.sum)
    }
}

/// One event.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    /// When it was over; of [`What::Sent`], when it began.
    pub(crate) at: u64,
    #[serde(flatten)]
    pub(crate) place: Place,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What happened.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub(crate) enum What {
    /// A producer is about to send a record.
    Sent(Record),
    /// It is acknowledged, at this offset if the client knows it.
    Acknowledged {
        #[serde(flatten)]
        record: Record,
        offset: i64,
    },
    /// The client gave it up: it may be there or not.
    Failed {
        #[serde(flatten)]
        record: Record,
        why: String,
    },
    /// A member was given the partition.
    Assigned { member: String },
    /// A member was given a record.
    Polled {
        member: String,
        #[serde(flatten)]
        record: Record,
        offset: i64,
    },
    /// A member committed; whether it `known`s that it did.
    Committed { next: i64, began: u64, known: bool },
    /// What the group has committed, as someone asked.
    Looked { next: i64, began: u64 },
    /// What the log holds in the end.
    Held {
        #[serde(flatten)]
        record: Record,
        offset: i64,
    },
}

/// The events of a history, by partition, each in the order of their times.
pub(crate) fn by_partition(events: &[Event]) -> BTreeMap<&Place, Vec<(u64, &What)>> {
    let mut parts = BTreeMap::<&Place, Vec<(u64, &What)>>::new();
    for event in events {
        parts.entry(&event.place).or_default().push((event.at, &event.what));
    }
    parts.values_mut().for_each(|part| part.sort_by_key(|(at, _)| *at));
    parts
}

/// The time by the clock that all processes of a machine share, in nanoseconds.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How many records were sent before one of these `ends` of the node and acknowledged after it; and
/// how many of them a member of the group had been given before that end, so that the log had them.
pub(crate) fn across(events: &[Event], ends: &[u64]) -> (usize, usize) {
    let (mut across, mut known) = (0, 0);
    for part in by_partition(events).values() {
        let mut sent = BTreeMap::new();
        let mut polled = BTreeSet::new();
        for (at, what) in part {
            match what {
                What::Sent(record) => {
                    sent.insert(record, *at);
                }
                What::Polled { record, .. } => {
                    polled.insert((record, ends.partition_point(|end| end < at)));
                }
                What::Acknowledged { record, .. } => {
                    let life = |at: u64| ends.partition_point(|end| *end < at);
                    let first = sent.get(record).map_or_else(|| life(*at), |sent| life(*sent));
                    across += usize::from(first < life(*at));
                    known += usize::from(
                        (first..life(*at)).any(|life| polled.contains(&(record, life))),
                    );
                }
                _ => {}
            }
        }
    }
    (across, known)
}

/// How many acknowledged records are not held in the end: they went for later ones of their keys.
pub(crate) fn gone(events: &[Event]) -> usize {
    let (mut acknowledged, mut held) = (BTreeSet::new(), BTreeSet::new());
    for event in events {
        match &event.what {
            What::Acknowledged { record, .. } => acknowledged.insert(record),
            What::Held { record, .. } => held.insert(record),
            _ => false,
        };
    }
    acknowledged.difference(&held).count()
}
