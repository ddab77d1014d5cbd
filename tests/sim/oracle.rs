//! What was asked and answered, and what must therefore be there in the end.
//!
//! It knows nothing of the node: it keeps what the producers of the workload were told, and judges
//! what a reader finds after everything has healed.

use std::collections::BTreeMap;

/// The value of one record: who made it, and which of its records it is (0, 1, … per partition).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value {
    /// Number of the producer.
    pub(crate) producer: u32,
    /// Number of the record.
    pub(crate) number: u64,
}

impl Value {
    /// As the bytes of a record, padded to `len`.
    pub(crate) fn to_bytes(self, len: usize) -> Vec<u8> {
        let text = format!("{}/{}/", self.producer, self.number);
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len().max(len), b'.');
        bytes
    }

    /// The value in the bytes of a record.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Value> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split('/');
        let producer = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        Some(Value { producer, number })
    }
}

/// The ledger of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    acknowledged: BTreeMap<u64, Value>,
    /// Records that each producer has sent, acknowledged or not.
    sent: BTreeMap<u32, u64>,
}

impl Ledger {
    /// The next value of `producer`.
    pub(crate) fn next(&mut self, producer: u32) -> Value {
        let sent = self.sent.entry(producer).or_default();
        *sent += 1;
        Value { producer, number: *sent - 1 }
    }

    /// `value` was acknowledged at `offset`.
    pub(crate) fn acknowledge(&mut self, offset: u64, value: Value) {
        if let Some(other) = self.acknowledged.insert(offset, value) {
            assert_eq!(other, value, "offset {offset} was acknowledged for two values");
        }
    }

    /// All from `end` on was lost, and may be: its offsets go to others.
    pub(crate) fn cut(&mut self, end: u64) {
        self.acknowledged.split_off(&end);
    }

    /// How many were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Judges all that a reader finds, in its order, from offset `start` on.
    pub(crate) fn judge(&self, start: u64, found: &[(u64, Value)]) {
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for (index, (offset, value)) in found.iter().enumerate() {
            assert_eq!(*offset, start + index as u64, "a gap in the offsets that a reader sees");
            let sent = self.sent.get(&value.producer).copied().unwrap_or(0);
            assert!(value.number < sent, "{value:?} at {offset} was never sent");
            match last.insert(value.producer, value.number) {
                Some(before) if before >= value.number => {
                    panic!("doubled or out of order: {value:?} at {offset} after number {before}")
                }
                _ => {}
            }
        }
        for (offset, value) in self.acknowledged.range(start..) {
            let there = offset.checked_sub(start).and_then(|index| found.get(index as usize));
            let there = there.map(|(_, value)| *value);
            assert_eq!(there, Some(*value), "LOG-2: acknowledged at {offset} and not there");
        }
    }
}

#[test]
#[should_panic(expected = "LOG-2")]
fn what_was_acknowledged_and_is_gone_is_found() {
    let mut ledger = Ledger::default();
    let (first, second) = (ledger.next(1), ledger.next(1));
    ledger.acknowledge(0, first);
    ledger.acknowledge(1, second);
    ledger.judge(0, &[(0, first)]);
}

#[test]
#[should_panic(expected = "doubled")]
fn a_double_is_found() {
    let mut ledger = Ledger::default();
    let first = ledger.next(1);
    ledger.acknowledge(0, first);
    ledger.judge(0, &[(0, first), (1, first)]);
}

#[test]
#[should_panic(expected = "never sent")]
fn what_nobody_sent_is_found() {
    Ledger::default().judge(0, &[(0, Value { producer: 1, number: 0 })]);
}

#[test]
fn what_was_sent_and_not_acknowledged_may_be_there_or_not() {
    let mut ledger = Ledger::default();
    let (first, second) = (ledger.next(1), ledger.next(1));
    ledger.acknowledge(0, first);
    ledger.judge(0, &[(0, first)]);
    ledger.judge(0, &[(0, first), (1, second)]);
    assert_eq!(Value::parse(&second.to_bytes(50)), Some(second));
}
