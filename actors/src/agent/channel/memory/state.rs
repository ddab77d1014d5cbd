//! The core of the memory channel: events between head and end, and what each put moves.

use std::collections::VecDeque;

use flumen_runtime::ids::Offset;

use crate::agent::{
    channel::{
        Taken, TakenEvent,
        ledger::{Ledger, TransactionError, TransactionId},
    },
    event::{Advance, Event, Positions},
};

/// Events and bytes that left the channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// How many events.
    pub events: usize,
    /// What they cost.
    pub bytes: usize,
}

#[derive(Debug)]
struct Stored {
    event: Event,
    put_ms: i64,
    bytes: usize,
}

/// What the channel holds.
#[derive(Debug)]
pub struct Buffer {
    ledger: Ledger,
    /// From the head to the end.
    stored: VecDeque<Stored>,
    /// How far the sources' positions move when the head reaches an offset.
    advances: VecDeque<(Offset, Advance)>,
    /// Where the sources stand with all that was committed.
    committed: Positions,
}

impl Buffer {
    /// An empty buffer that begins at `head`, in the life of this number, with `committed` as its
    /// sources' positions.
    #[must_use]
    pub fn new(head: Offset, life: u64, committed: Positions) -> Self {
        let ledger = Ledger::new(head, head, life);
        Self { ledger, stored: VecDeque::new(), advances: VecDeque::new(), committed }
    }

    /// Its offsets and rights.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Its offsets and rights, to begin new ones.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Events that it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// Where the sources stand with all that was committed.
    #[must_use]
    pub fn committed(&self) -> &Positions {
        &self.committed
    }

    /// Where the sources stand with all that was put.
    #[must_use]
    pub fn positions(&self) -> Positions {
        let mut positions = self.committed.clone();
        self.advances.iter().for_each(|(_, advance)| positions.apply(advance));
        positions
    }

    /// Adds events; answers the offset after them.
    pub fn put(&mut self, events: Vec<Event>, put_ms: i64, advance: Advance) -> Offset {
        let end = self.ledger.end().plus(events.len() as u64);
        self.stored.extend(events.into_iter().map(|event| {
            let bytes = event.cost();
            Stored { event, put_ms, bytes }
        }));
        self.ledger.extend_to(end);
        self.advances.push_back((end, advance));
        self.settle();
        end
    }

    /// Takes what fits into both limits, and at least one event; `None` where there is none.
    pub fn take(&mut self, events_max: usize, bytes_max: usize) -> Option<Taken> {
        let first = self.ledger.taken();
        let skipped = self.index_of(first);
        let mut bytes = 0;
        let mut events = Vec::new();
        for stored in self.stored.iter().skip(skipped).take(events_max.max(1)) {
            bytes += stored.bytes;
            if bytes > bytes_max && !events.is_empty() {
                break;
            }
            let offset = first.plus(events.len() as u64);
            let (put_ms, event) = (stored.put_ms, stored.event.clone());
            events.push(TakenEvent { offset, put_ms, event });
        }
        let last = events.last()?.offset;
        Some(Taken { transaction: self.ledger.take(last.next()), events })
    }

    /// Ends a transaction and all earlier ones.
    ///
    /// # Errors
    /// [`TransactionError`] where it is not open.
    pub fn commit(&mut self, id: TransactionId) -> Result<Freed, TransactionError> {
        let left = self.ledger.commit(id)?;
        let events = left.end.since(left.start) as usize;
        let bytes = self.stored.drain(..events).map(|stored| stored.bytes).sum();
        self.settle();
        Ok(Freed { events, bytes })
    }

    /// Undoes a transaction and all later ones.
    ///
    /// # Errors
    /// [`TransactionError`] where it is not open.
    pub fn rollback(&mut self, id: TransactionId) -> Result<(), TransactionError> {
        self.ledger.rollback(id).map(drop)
    }

    fn index_of(&self, offset: Offset) -> usize {
        offset.since(self.ledger.head()) as usize
    }

    /// Moves the positions that the head has passed.
    fn settle(&mut self) {
        let head = self.ledger.head();
        while self.advances.front().is_some_and(|(end, _)| *end <= head) {
            let (_, advance) = self.advances.pop_front().expect("it was just looked at");
            self.committed.apply(&advance);
        }
        let held = self.ledger.end().since(head) as usize;
        assert!(held == self.stored.len(), "CH-1: {held} between head and end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::event::PositionBytes;

    fn advance(to: u8) -> Advance {
        Advance { source: "s".into(), parts: vec![("p".into(), Some(PositionBytes(vec![to])))] }
    }

    fn buffer() -> Buffer {
        Buffer::new(Offset(100), 1, Positions::default())
    }

    #[test]
    fn a_take_ends_at_whichever_limit_comes_first_but_takes_at_least_one() {
        let mut buffer = buffer();
        let events = ["a", "bb", "ccc"].map(Event::new).to_vec();
        let cost = events[0].cost();
        buffer.put(events, 7, advance(1));
        let offsets = |taken: Option<Taken>| -> Vec<u64> {
            taken.into_iter().flat_map(|t| t.events).map(|event| event.offset.0).collect()
        };
        assert_eq!(offsets(buffer.take(2, usize::MAX)), [100, 101]);
        assert_eq!(offsets(buffer.take(9, 1)), [102]);
        assert_eq!(offsets(buffer.take(9, 9)), [0; 0]);
        buffer.ledger_mut().attach_sink();
        assert_eq!(offsets(buffer.take(9, 2 * cost)), [100], "the second is larger than the first");
    }

    #[test]
    fn positions_are_committed_with_the_last_event_that_came_with_them() {
        let mut buffer = buffer();
        buffer.put(vec![Event::new("a"), Event::new("b")], 0, advance(1));
        buffer.put(vec![], 0, advance(2));
        buffer.put(vec![Event::new("c")], 0, advance(3));
        let at = |positions: &Positions| positions.of("s").get("p").map(|p| p.0[0]);
        let first = buffer.take(1, usize::MAX).unwrap().transaction;
        let second = buffer.take(1, usize::MAX).unwrap().transaction;
        buffer.commit(first).unwrap();
        assert_eq!((at(buffer.committed()), at(&buffer.positions())), (None, Some(3)));
        buffer.commit(second).unwrap();
        assert_eq!((at(buffer.committed()), at(&buffer.positions())), (Some(2), Some(3)));
        assert_eq!(buffer.len(), 1);
    }
}
