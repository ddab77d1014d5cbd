//! The newest batches of a log, kept in memory while someone follows its end.
//!
//! ```text
//!            start                        end = log end
//!   on disk ···│[ batch ][ batch ][ batch ]│
//!              └ a consumer at or after here is answered without a read: the bytes it is sent are
//!                the bytes that were appended
//! ```
//!
//! It costs what it holds, so it holds nothing that nobody reads: batches enter only while the log
//! is followed (a fetch is parked at its end, or was lately answered from here), at most
//! [`TAIL_BYTES_MAX`] of them, and what one whole tick did not need is let go.

use std::collections::VecDeque;

use bytes::Bytes;
use flumen_runtime::ids::Offset;

/// Most bytes kept: what a busy log appends while it is synced, for only then is it read. What lies
/// further back is read from the page cache.
pub const TAIL_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug)]
struct Kept {
    base: Offset,
    end: Offset,
    /// Bytes appended up to and with this batch, since the tail was made.
    bytes_end: u64,
    batch: Bytes,
}

impl Kept {
    fn bytes_start(&self) -> u64 {
        self.bytes_end - self.batch.len() as u64
    }
}

/// The newest batches.
#[derive(Debug, Default)]
pub struct Tail {
    kept: VecDeque<Kept>,
    bytes_end: u64,
    /// Whether batches are kept at all.
    is_followed: bool,
    /// Whether a fetch needed the tail since the last tick.
    is_used: bool,
    /// Appended before the last tick: `kept[..aged]`.
    aged: usize,
}

impl Tail {
    /// Someone waits at the end of the log, or reads close to it: keep what comes.
    pub fn follow(&mut self) {
        self.is_followed = true;
        self.is_used = true;
    }

    /// Whether batches that are appended now are kept.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.is_followed
    }

    /// A batch with offsets `base..end` was appended.
    pub fn push(&mut self, base: Offset, end: Offset, batch: &Bytes) {
        if !self.is_followed {
            return;
        }
        self.bytes_end += batch.len() as u64;
        self.kept.push_back(Kept { base, end, bytes_end: self.bytes_end, batch: batch.clone() });
        while self
            .kept
            .front()
            .is_some_and(|old| self.bytes_end - old.bytes_start() > TAIL_BYTES_MAX)
        {
            self.kept.pop_front();
            self.aged = self.aged.saturating_sub(1);
        }
    }

    fn position(&self, offset: Offset) -> Option<usize> {
        if self.kept.front().is_none_or(|first| offset < first.base) {
            return None;
        }
        let at = self.kept.partition_point(|kept| kept.end <= offset);
        (at < self.kept.len()).then_some(at)
    }

    /// Bytes of the batches from the one that holds `offset` up to `end`; `None` where that one is
    /// not here.
    #[must_use]
    pub fn bytes_between(&self, offset: Offset, end: Offset) -> Option<u64> {
        let first = self.position(offset)?;
        let after = self.kept.partition_point(|kept| kept.end <= end);
        if after <= first {
            return Some(0);
        }
        Some(self.kept[after - 1].bytes_end - self.kept[first].bytes_start())
    }

    /// The batches from the one that holds `offset` up to `end`, at most `bytes_max` bytes but at
    /// least one batch; `None` where the first is not here.
    #[must_use]
    pub fn read(&self, offset: Offset, end: Offset, bytes_max: usize) -> Option<Vec<Bytes>> {
        let first = self.position(offset)?;
        let mut batches = Vec::new();
        let mut bytes = 0;
        for kept in self.kept.range(first..).take_while(|kept| kept.end <= end) {
            bytes += kept.batch.len();
            if bytes > bytes_max && !batches.is_empty() {
                break;
            }
            batches.push(kept.batch.clone());
        }
        Some(batches)
    }

    /// A second or so has passed: lets go what was here at the last tick already, or all of it where
    /// nobody follows any more. `is_awaited` says that a fetch is parked.
    pub fn on_tick(&mut self, is_awaited: bool) {
        self.kept.drain(..self.aged);
        self.is_followed = is_awaited || self.is_used;
        self.is_used = false;
        if !self.is_followed {
            self.kept.clear();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        self.aged = self.kept.len();
    }

    /// Whether a tick has nothing to do here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.kept.is_empty() && !self.is_used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(batches: &[(u64, u64, usize)]) -> Tail {
        let mut tail = Tail::default();
        tail.follow();
        for (base, end, bytes) in batches {
            tail.push(Offset(*base), Offset(*end), &Bytes::from(vec![*base as u8; *bytes]));
        }
        tail
    }

    #[test]
    fn nothing_is_kept_that_nobody_follows() {
        let mut tail = Tail::default();
        tail.push(Offset(0), Offset(1), &Bytes::from_static(b"x"));
        assert!(tail.read(Offset(0), Offset(1), 100).is_none());
    }

    #[test]
    fn whole_batches_from_the_one_that_holds_the_offset_and_below_the_end() {
        let tail = tail_of(&[(0, 3, 10), (3, 5, 20), (5, 9, 30)]);
        let lengths = |offset, end, max| {
            let read = tail.read(Offset(offset), Offset(end), max)?;
            Some(read.iter().map(Bytes::len).collect::<Vec<_>>())
        };
        assert_eq!(lengths(0, 9, 100), Some(vec![10, 20, 30]));
        assert_eq!(lengths(4, 9, 100), Some(vec![20, 30]), "the batch may begin before the offset");
        assert_eq!(lengths(0, 5, 100), Some(vec![10, 20]), "not past the end");
        assert_eq!(lengths(0, 9, 30), Some(vec![10, 20]));
        assert_eq!(lengths(5, 9, 1), Some(vec![30]), "one batch even where it is larger");
        assert_eq!(lengths(9, 9, 100), None);
        assert_eq!(tail.bytes_between(Offset(4), Offset(9)), Some(50));
        assert_eq!(tail.bytes_between(Offset(5), Offset(5)), Some(0));
        assert_eq!(tail.bytes_between(Offset(9), Offset(9)), None);
    }

    #[test]
    fn at_most_its_bytes_are_kept_and_the_oldest_go_first() {
        let half = TAIL_BYTES_MAX as usize / 2;
        let tail = tail_of(&[(0, 1, half), (1, 2, half), (2, 3, 1)]);
        assert!(tail.read(Offset(0), Offset(3), 1).is_none());
        assert!(tail.read(Offset(1), Offset(3), 1).is_some());
        let too_large = tail_of(&[(0, 1, 2 * half + 1)]);
        assert!(too_large.read(Offset(0), Offset(1), 1).is_none());
    }

    #[test]
    fn what_a_whole_tick_did_not_need_is_let_go() {
        let mut tail = tail_of(&[(0, 1, 5)]);
        tail.on_tick(false);
        assert!(tail.read(Offset(0), Offset(1), 9).is_some(), "used within the tick");
        tail.on_tick(true);
        assert!(tail.read(Offset(0), Offset(1), 9).is_none(), "older than a tick");
        tail.push(Offset(1), Offset(2), &Bytes::from_static(b"x"));
        assert!(tail.read(Offset(1), Offset(2), 9).is_some(), "a parked fetch still follows");
        tail.on_tick(false);
        assert!(tail.is_idle() && !tail.is_followed());
    }
}
