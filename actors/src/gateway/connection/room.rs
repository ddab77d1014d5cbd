//! Room for the bytes of requests.

use flumen_runtime::credit::Credit;

/// Requests from this length on share a room of their own.
const LARGE_BYTES: usize = 1 << 20;

/// The node's room for the bytes of requests. Large ones have their own, so that a few of them, sent
/// slowly, do not keep everybody else waiting; and so has what requests are decoded to, so that nobody
/// who waits for it holds what others wait for.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    small: Credit,
    large: Credit,
    decoded: Credit,
}

impl Room {
    /// Room for `bytes`, which is at least twice that of the largest request: a quarter of it for
    /// small requests, and another for what all are decoded to.
    pub(crate) fn new(bytes: usize) -> Self {
        let quarter = bytes / 4;
        Self {
            small: Credit::new(usize::MAX, quarter),
            large: Credit::new(usize::MAX, bytes - 2 * quarter),
            decoded: Credit::new(usize::MAX, quarter),
        }
    }

    /// Room for what requests are decoded to.
    pub(crate) fn decoded(&self) -> &Credit {
        &self.decoded
    }

    /// That of a request of `len` bytes.
    pub(super) fn of(&self, len: usize) -> &Credit {
        if len < LARGE_BYTES { &self.small } else { &self.large }
    }

    /// Requests that are held, and their bytes.
    pub(crate) fn out(&self) -> (usize, usize) {
        let (small, large, decoded) = (self.small.out(), self.large.out(), self.decoded.out());
        (small.count + large.count, small.bytes + large.bytes + decoded.bytes)
    }

    /// The bytes that there is room for in all.
    pub(crate) fn whole(&self) -> usize {
        [&self.small, &self.large, &self.decoded].map(|room| room.whole().bytes).iter().sum()
    }
}
