//! The core of the durable channel: what stands in its log, and what of it may be taken.
//!
//! ```text
//!     head           taken          loaded        durable          appended
//!   ────┬──────────────┬───────────────┬──────────────┬───────────────┬────► offsets of the log
//!       │ transactions │  window: in   │ to be read   │ not yet       │
//!       │              │  memory       │ when wanted  │ to be taken   │
//! ```
//!
//! The window holds what the sink will take next: filled by puts while the sink keeps up, and by
//! reads of the log where it does not. Taken events are not kept: after a rollback they are read
//! again.
//!
//! # Invariants
//! - CH-4: an event is offered only when it is durable, and a put is answered only then.
//! - CH-5: what was committed was put: the totals at the head never exceed those at the end.
//! - CH-6: a source is told a position only when every event before it is durable.

use std::collections::VecDeque;

use bytes::Bytes;
use flumen_runtime::{
    batch::BatchHeader,
    codec,
    ids::Offset,
    log::{Owner, Replay},
};
use serde::{Deserialize, Serialize};

use crate::agent::{
    channel::{
        Session, Taken, TakenEvent,
        durable::{
            head::{Head, Totals},
            record::{self, Decoded},
        },
        ledger::{Ledger, TransactionError, TransactionId},
        memory::state::Freed,
    },
    event::{Advance, Event, Position, Positions},
};

/// Most bytes that the window holds; more is read from the log when it is wanted.
const WINDOW_BYTES_MAX: usize = 4 << 20;

const SNAPSHOT_KIND: [u8; 4] = *b"FLCS";
const SNAPSHOT_VERSION: u16 = 1;

/// What the channel's log amounts to: kept at its recovery point, and replayed from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// All that was ever put.
    pub put: Totals,
    /// Where the sources stand after it.
    pub positions: Positions,
    /// Why a batch of the log could not be taken in.
    #[serde(skip)]
    pub error: Option<String>,
}

impl Replayed {
    fn on_put(&mut self, events: impl Iterator<Item = usize>, advance: Option<&Advance>) {
        events.for_each(|bytes| self.put.add(bytes));
        if let Some(advance) = advance {
            self.positions.apply(advance);
        }
    }
}

impl Replay for Replayed {
    fn restore(&mut self, snapshot: &[u8], _at: Offset) -> bool {
        if snapshot.is_empty() {
            *self = Self::default();
            return true;
        }
        let restored = codec::unseal(SNAPSHOT_KIND, SNAPSHOT_VERSION, snapshot);
        if let Ok(restored) = restored {
            *self = restored;
            return true;
        }
        false
    }

    fn batch(&mut self, header: &BatchHeader, batch: &[u8]) {
        match record::decode(&Bytes::copy_from_slice(batch), header, Offset::ZERO) {
            Ok(Decoded { advance, events }) => {
                self.on_put(events.iter().map(|taken| taken.event.cost()), advance.as_ref());
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }
}

impl Owner for Replayed {
    fn snapshot(&self) -> Option<Bytes> {
        let sealed = codec::seal(SNAPSHOT_KIND, SNAPSHOT_VERSION, self);
        Some(sealed.expect("names and bytes are encodable"))
    }
}

/// Where log and head file contradict each other.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "its head file says that everything below {head} was committed, and its log holds {start} to \
     {end}: one of them is not of this channel; restore both from one copy, or move both away"
)]
pub struct MismatchError {
    /// The head of the file.
    pub head: Offset,
    /// Where the log starts.
    pub start: Offset,
    /// Where it ends.
    pub end: Offset,
}

/// The core.
#[derive(Debug)]
pub struct Store {
    ledger: Ledger,
    /// As of the log's end.
    replayed: Replayed,
    /// As of the head.
    committed: Totals,
    sink_state: Option<Bytes>,
    /// Events from `window_start`, where the next take begins, to `loaded`.
    window: VecDeque<TakenEvent>,
    window_bytes: usize,
    window_start: Offset,
    loaded: Offset,
    /// Where the log ends, durable or not.
    appended: Offset,
    /// Events and bytes of each open transaction.
    open: VecDeque<(TransactionId, Freed)>,
}

impl Store {
    /// The core of a channel whose log holds `start..end`, in the life of this number.
    ///
    /// # Errors
    /// [`MismatchError`] where the head is not in the log.
    pub fn new(
        head: Head,
        replayed: Replayed,
        start: Offset,
        end: Offset,
        life: u64,
    ) -> Result<Self, MismatchError> {
        if head.head < start || head.head > end || head.committed.events > replayed.put.events {
            return Err(MismatchError { head: head.head, start, end });
        }
        Ok(Self {
            ledger: Ledger::new(head.head, end, life),
            replayed,
            committed: head.committed,
            sink_state: head.sink_state.map(Bytes::from),
            window: VecDeque::new(),
            window_bytes: 0,
            window_start: head.head,
            loaded: head.head,
            appended: end,
            open: VecDeque::new(),
        })
    }

    /// Its offsets and rights.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The state that the log keeps.
    #[must_use]
    pub fn replayed(&self) -> &Replayed {
        &self.replayed
    }

    /// What it holds: put and not committed.
    #[must_use]
    pub fn held(&self) -> Totals {
        self.replayed.put.since(self.committed)
    }

    /// What the sink keeps.
    #[must_use]
    pub fn sink_state(&self) -> Option<&Bytes> {
        self.sink_state.as_ref()
    }

    /// What the head file should say.
    #[must_use]
    pub fn head(&self) -> Head {
        let sink_state = self.sink_state.as_ref().map(|state| state.to_vec());
        Head { head: self.ledger.head(), committed: self.committed, sink_state }
    }

    /// A new life of a source: what an earlier one still sends is refused from here on.
    pub fn attach_source(&mut self, source: &str) -> Session {
        self.ledger.attach_source(source)
    }

    /// Where `source` stands, once all that it has put is durable (CH-6).
    #[must_use]
    pub fn position_of(&self, source: &str) -> Position {
        self.replayed.positions.of(source)
    }

    /// A put was appended to the log at `first`; its batch ends at `end`.
    pub fn on_appended(
        &mut self,
        events: Vec<Event>,
        advance: &Advance,
        put_ms: i64,
        first: Offset,
        end: Offset,
    ) {
        assert!(
            first == self.appended,
            "CH-6: appended at {first}, and the end is {}",
            self.appended
        );
        self.replayed.on_put(events.iter().map(Event::cost), Some(advance));
        self.appended = end;
        if self.loaded < first || self.window_bytes > WINDOW_BYTES_MAX {
            return;
        }
        let mut offset = Offset(end.0 - events.len() as u64);
        for event in events {
            self.load(TakenEvent { offset, put_ms, event });
            offset = offset.next();
        }
        self.loaded = end;
    }

    fn load(&mut self, event: TakenEvent) {
        self.window_bytes += event.event.cost();
        self.window.push_back(event);
    }

    /// The log is durable up to `end`.
    pub fn on_durable(&mut self, end: Offset) {
        assert!(end <= self.appended, "CH-4: durable to {end}, and the end is {}", self.appended);
        self.ledger.extend_to(end);
        self.pass_moves();
    }

    /// From where on the log is to be read, and how far: when the sink wants what is not in memory.
    #[must_use]
    pub fn wanted_read(&self) -> Option<(Offset, Offset)> {
        let is_wanted = self.window.is_empty() && self.loaded < self.ledger.end();
        is_wanted.then_some((self.loaded, self.ledger.end()))
    }

    /// A read of the log from `from` on gave these events; the next one begins at `next`. A read
    /// that a rollback overtook is of no use any more.
    pub fn on_read(&mut self, from: Offset, events: Vec<TakenEvent>, next: Offset) {
        if from != self.loaded {
            return;
        }
        for event in events {
            self.load(event);
        }
        self.loaded = next.max(self.loaded);
    }

    /// Takes what fits into both limits, and at least one event; `None` where none is in memory.
    pub fn take(&mut self, events_max: usize, bytes_max: usize) -> Option<Taken> {
        let durable = self.ledger.end();
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.window.front() {
            let cost = next.event.cost();
            let is_enough = events.len() >= events_max || bytes + cost > bytes_max;
            if next.offset >= durable || (is_enough && !events.is_empty()) {
                break;
            }
            bytes += cost;
            events.extend(self.window.pop_front());
        }
        self.window_bytes -= bytes;
        let last = events.last()?.offset;
        let transaction = self.ledger.take(last.next());
        self.window_start = last.next();
        self.open.push_back((transaction, Freed { events: events.len(), bytes }));
        Some(Taken { transaction, events })
    }

    /// Ends a transaction and all earlier ones.
    ///
    /// # Errors
    /// [`TransactionError`] where it is not open.
    pub fn commit(
        &mut self,
        id: TransactionId,
        sink_state: Option<Bytes>,
    ) -> Result<Freed, TransactionError> {
        self.ledger.commit(id)?;
        let mut freed = Freed::default();
        while self.open.front().is_some_and(|(open, _)| *open <= id) {
            let (_, part) = self.open.pop_front().expect("it was just looked at");
            freed.events += part.events;
            freed.bytes += part.bytes;
        }
        self.committed.events += freed.events as u64;
        self.committed.bytes += freed.bytes as u64;
        self.sink_state = sink_state.or_else(|| self.sink_state.take());
        self.pass_moves();
        Ok(freed)
    }

    /// Undoes a transaction and all later ones.
    ///
    /// # Errors
    /// [`TransactionError`] where it is not open.
    pub fn rollback(&mut self, id: TransactionId) -> Result<(), TransactionError> {
        self.ledger.rollback(id)?;
        self.open.retain(|(open, _)| *open < id);
        self.reload();
        Ok(())
    }

    /// A new sink: what the last one did not commit is offered again.
    pub fn attach_sink(&mut self) -> Session {
        let session = self.ledger.attach_sink();
        self.open.clear();
        self.reload();
        session
    }

    /// Keeps what the sink must not forget.
    pub fn keep_sink_state(&mut self, sink_state: Bytes) {
        self.sink_state = Some(sink_state);
    }

    /// Begins the window anew where the next take begins, if that moved.
    fn reload(&mut self) {
        let start = self.ledger.taken();
        if self.window_start != start {
            self.window.clear();
            self.window_bytes = 0;
            (self.window_start, self.loaded) = (start, start);
        }
    }

    /// Where every event was committed, what is left are moves of positions: the head passes them,
    /// so that the log below can go.
    fn pass_moves(&mut self) {
        let end = self.ledger.end();
        if self.held().events == 0 && self.ledger.head() < end {
            self.ledger.skip_to(end);
            self.window_start = end;
            self.loaded = self.loaded.max(end);
        }
    }
}

#[cfg(test)]
mod tests;
