//! Which transactions of a partition are undecided, and which were aborted.
//!
//! ```text
//!   producer 7:  [ data @ 10 ] ……… [ abort @ 42 ]
//!                 └ open ─────────┘└ decided: still holds the last stable offset at 10 until the
//!                                    high watermark has passed 42, then listed as aborted
//! ```

use std::collections::VecDeque;

use flumen_runtime::ids::Offset;

use super::messages::AbortedTransaction;

/// A decided transaction whose marker is not committed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decided {
    first: Offset,
    marker: Offset,
}

/// Decided transactions of one partition. The open ones stand with their producers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    decided: VecDeque<Decided>,
    /// In the order of their markers.
    aborted: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Those that a snapshot names, all of them settled.
    #[must_use]
    pub fn restored(aborted: Vec<AbortedTransaction>) -> Self {
        Self { decided: VecDeque::new(), aborted }
    }

    /// All aborted transactions that somebody may still read, in the order of their markers.
    #[must_use]
    pub fn aborted(&self) -> &[AbortedTransaction] {
        &self.aborted
    }

    /// A transaction ended with the marker at `transaction.last_offset`.
    pub fn end(&mut self, transaction: AbortedTransaction, is_commit: bool) {
        let (first, marker) = (transaction.first_offset, transaction.last_offset);
        self.decided.push_back(Decided { first, marker });
        if !is_commit {
            self.aborted.push(transaction);
        }
    }

    /// The high watermark is `mark` now.
    pub fn on_high_watermark(&mut self, mark: Offset) {
        while self.decided.front().is_some_and(|decided| decided.marker < mark) {
            self.decided.pop_front();
        }
    }

    /// The log begins at `start` now: nobody reads what was aborted below.
    pub fn trim_to(&mut self, start: Offset) {
        let gone = self.aborted.partition_point(|aborted| aborted.last_offset < start);
        self.aborted.drain(..gone);
    }

    /// First offset of a decided transaction whose marker is not committed yet.
    #[must_use]
    pub fn first_unsettled(&self) -> Option<Offset> {
        self.decided.iter().map(|decided| decided.first).min()
    }

    /// The aborted transactions with records or marker in `from..end`.
    #[must_use]
    pub fn aborted_between(&self, from: Offset, end: Offset) -> Vec<AbortedTransaction> {
        let first = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        self.aborted[first..].iter().filter(|aborted| aborted.first_offset < end).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::names::ProducerId;

    fn ended(first: u64, last: u64) -> AbortedTransaction {
        let (first_offset, last_offset) = (Offset(first), Offset(last));
        AbortedTransaction { producer: ProducerId(1), first_offset, last_offset }
    }

    #[test]
    fn a_decided_transaction_is_unsettled_until_its_marker_is_committed() {
        let mut transactions = Transactions::default();
        transactions.end(ended(10, 42), false);
        transactions.end(ended(5, 50), true);
        transactions.on_high_watermark(Offset(42));
        assert_eq!(transactions.first_unsettled(), Some(Offset(5)));
        transactions.on_high_watermark(Offset(51));
        assert_eq!(transactions.first_unsettled(), None);
    }

    #[test]
    fn only_aborted_transactions_that_touch_the_range_are_listed() {
        let mut transactions = Transactions::default();
        transactions.end(ended(10, 20), false);
        transactions.end(ended(12, 30), true);
        transactions.end(ended(25, 40), false);
        assert_eq!(transactions.aborted_between(Offset(0), Offset(10)), []);
        assert_eq!(transactions.aborted_between(Offset(20), Offset(25)), [ended(10, 20)]);
        assert_eq!(transactions.aborted_between(Offset(0), Offset(99)).len(), 2);
        transactions.trim_to(Offset(21));
        assert_eq!(transactions.aborted_between(Offset(0), Offset(99)), [ended(25, 40)]);
    }
}
