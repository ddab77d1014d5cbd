//! Who may take what: the offsets of a channel, its transactions, and who holds the right to use it.
//!
//! ```text
//!          head            taken                 end
//!   ────────┬───────────────┬─────────────────────┬──────►  offsets
//!   given   │ transaction 7 │ transaction 8 │ .... │
//!   back    │   taken, and not committed    │ free │
//!           └─ commit 7 moves the head       └─ the next take begins here
//! ```
//!
//! Transactions are taken in order and end in order: a commit ends its transaction and every earlier
//! one, a rollback its transaction and every later one. So what is committed is always a prefix, and
//! one number, the head, says all that must last.
//!
//! # Invariants
//! - CH-1: `head <= taken <= end`.
//! - CH-3: a taken event leaves the channel only at commit; rollback offers it again, in order.
//!
//! What a superseded source or sink still sends changes nothing: it shows a session that is not the
//! present one. The capacity is kept by the credit that every put brings with it (CH-2, in
//! [`crate::agent::channel`]).

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use flumen_runtime::ids::Offset;

/// Number of a take transaction, 1, 2, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId(pub u64);

/// The right of one life of a source or sink to use a channel. A new life gets a new one, and the
/// earlier becomes worthless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session(pub u64);

/// Why a transaction cannot be ended.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TransactionError {
    /// There is no such transaction, or no longer.
    #[error("transaction {} is not open in this channel", .0.0)]
    NotOpen(TransactionId),
}

#[derive(Debug)]
struct Open {
    id: TransactionId,
    first: Offset,
}

/// The offsets and transactions of one channel.
#[derive(Debug)]
pub struct Ledger {
    head: Offset,
    taken: Offset,
    end: Offset,
    open: VecDeque<Open>,
    next_transaction: u64,
    next_session: u64,
    sink: Option<Session>,
    sources: BTreeMap<String, Session>,
}

impl Ledger {
    /// The ledger of a channel that holds `head..end`. `life` is the number of the channel actor's
    /// incarnation: sessions of an earlier one must not be taken for sessions of this one.
    #[must_use]
    pub fn new(head: Offset, end: Offset, life: u64) -> Self {
        assert!(head <= end, "CH-1: a channel whose head {head} lies beyond its end {end}");
        Self {
            head,
            taken: head,
            end,
            open: VecDeque::new(),
            next_transaction: 1,
            next_session: life << 32,
            sink: None,
            sources: BTreeMap::new(),
        }
    }

    /// The first offset that was not committed.
    #[must_use]
    pub fn head(&self) -> Offset {
        self.head
    }

    /// The first offset that was not taken.
    #[must_use]
    pub fn taken(&self) -> Offset {
        self.taken
    }

    /// The offset after the last one that may be taken.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// What may be taken grows up to `end`.
    pub fn extend_to(&mut self, end: Offset) {
        assert!(self.end <= end, "CH-1: the end of a channel goes back from {} to {end}", self.end);
        self.end = end;
    }

    /// Takes everything up to `end` that was not taken yet.
    pub fn take(&mut self, end: Offset) -> TransactionId {
        assert!(self.taken < end && end <= self.end, "CH-1: take of {}..{end}", self.taken);
        let id = TransactionId(self.next_transaction);
        self.next_transaction += 1;
        self.open.push_back(Open { id, first: self.taken });
        self.taken = end;
        id
    }

    /// Ends `id` and every earlier transaction for good; answers what left the channel.
    ///
    /// # Errors
    /// [`TransactionError`] where `id` is not open.
    pub fn commit(&mut self, id: TransactionId) -> Result<Range<Offset>, TransactionError> {
        let at = self.position_of(id)?;
        self.open.drain(..=at);
        let left = self.head..self.open.front().map_or(self.taken, |next| next.first);
        self.head = left.end;
        self.check();
        Ok(left)
    }

    /// Passes what holds no event, where nothing is open.
    pub fn skip_to(&mut self, to: Offset) {
        assert!(self.open.is_empty(), "CH-3: open transactions cannot be passed");
        assert!(self.head <= to && to <= self.end, "CH-1: {to} is passed");
        (self.head, self.taken) = (to, to);
    }

    /// Undoes `id` and every later transaction; answers the offset from which on events are offered
    /// again.
    ///
    /// # Errors
    /// [`TransactionError`] where `id` is not open.
    pub fn rollback(&mut self, id: TransactionId) -> Result<Offset, TransactionError> {
        let at = self.position_of(id)?;
        self.taken = self.open[at].first;
        self.open.truncate(at);
        self.check();
        Ok(self.taken)
    }

    fn position_of(&self, id: TransactionId) -> Result<usize, TransactionError> {
        self.open.iter().position(|open| open.id == id).ok_or(TransactionError::NotOpen(id))
    }

    /// A new sink takes over: everything that was taken and not committed is offered again.
    pub fn attach_sink(&mut self) -> Session {
        self.open.clear();
        self.taken = self.head;
        self.check();
        let session = self.new_session();
        self.sink = Some(session);
        session
    }

    /// Whether `session` is the sink's own.
    #[must_use]
    pub fn is_sink(&self, session: Session) -> bool {
        self.sink == Some(session)
    }

    /// A new life of the source called `source`.
    pub fn attach_source(&mut self, source: &str) -> Session {
        let session = self.new_session();
        self.sources.insert(source.to_owned(), session);
        session
    }

    /// Whether `session` belongs to `source`'s present life.
    #[must_use]
    pub fn is_source(&self, source: &str, session: Session) -> bool {
        self.sources.get(source) == Some(&session)
    }

    fn new_session(&mut self) -> Session {
        self.next_session += 1;
        Session(self.next_session)
    }

    fn check(&self) {
        let in_order = self.head <= self.taken && self.taken <= self.end;
        assert!(in_order, "CH-1: head {}, taken {}, end {}", self.head, self.taken, self.end);
        let first = self.open.front().map_or(self.taken, |open| open.first);
        assert!(first == self.head, "CH-3: open from {first}, and the head is {}", self.head);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ledger(end: u64) -> Ledger {
        Ledger::new(Offset(0), Offset(end), 1)
    }

    #[test]
    fn a_commit_ends_the_earlier_transactions_too_and_a_rollback_the_later_ones() {
        let mut ledger = ledger(10);
        let ids: Vec<_> = (1..=4).map(|n| ledger.take(Offset(n * 2))).collect();
        assert_eq!(ledger.rollback(ids[2]), Ok(Offset(4)));
        assert_eq!(ledger.commit(ids[3]), Err(TransactionError::NotOpen(ids[3])));
        assert_eq!(ledger.commit(ids[1]), Ok(Offset(0)..Offset(4)));
        assert_eq!(ledger.commit(ids[0]), Err(TransactionError::NotOpen(ids[0])));
        assert_eq!((ledger.head(), ledger.taken()), (Offset(4), Offset(4)));
    }

    #[test]
    fn a_new_sink_is_offered_what_the_last_one_did_not_commit() {
        let mut ledger = ledger(10);
        let old = ledger.attach_sink();
        let id = ledger.take(Offset(6));
        let new = ledger.attach_sink();
        assert!(!ledger.is_sink(old) && ledger.is_sink(new));
        assert_eq!(ledger.taken(), Offset(0));
        assert!(ledger.commit(id).is_err());
    }

    #[test]
    fn a_session_of_an_earlier_life_of_the_channel_is_worthless() {
        let old = Ledger::new(Offset(0), Offset(0), 1).attach_source("tail");
        let mut ledger = Ledger::new(Offset(0), Offset(0), 2);
        let new = ledger.attach_source("tail");
        assert!(ledger.is_source("tail", new) && !ledger.is_source("tail", old));
        assert!(!ledger.is_source("other", new));
    }

    proptest! {
        /// Against the obvious model: a list of what was committed and a queue of what is there.
        #[test]
        fn what_is_committed_is_a_prefix_whatever_is_taken_and_rolled_back(
            actions in proptest::collection::vec((0_u8..5, 0_u64..7), 1..200)
        ) {
            let mut ledger = ledger(0);
            let mut open: Vec<(TransactionId, u64, u64)> = Vec::new();
            let (mut end, mut taken, mut head) = (0, 0, 0);
            for (action, n) in actions {
                match action {
                    0 => { end += n; ledger.extend_to(Offset(end)); }
                    1 if taken < end => {
                        let to = (taken + 1 + n).min(end);
                        open.push((ledger.take(Offset(to)), taken, to));
                        taken = to;
                    }
                    2 if !open.is_empty() => {
                        let at = n as usize % open.len();
                        let (id, _, to) = open[at];
                        prop_assert_eq!(ledger.commit(id), Ok(Offset(head)..Offset(to)));
                        head = to;
                        open.drain(..=at);
                    }
                    3 if !open.is_empty() => {
                        let at = n as usize % open.len();
                        let (id, first, _) = open[at];
                        prop_assert_eq!(ledger.rollback(id), Ok(Offset(first)));
                        taken = first;
                        open.truncate(at);
                    }
                    4 => { ledger.attach_sink(); open.clear(); taken = head; }
                    _ => {}
                }
                prop_assert_eq!((ledger.head(), ledger.taken(), ledger.end()), (Offset(head), Offset(taken), Offset(end)));
            }
        }
    }
}
