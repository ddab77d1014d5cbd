//! The last offset of each key, in bounded memory.

use std::collections::BTreeMap;

use crate::ids::Offset;

/// Bytes that an entry takes besides its key.
const ENTRY_BYTES: usize = 48;

/// Keys and the offset of the last record of each. Keys are kept whole, so that no two are taken
/// for one.
#[derive(Debug)]
pub(crate) struct Keys {
    last: BTreeMap<Box<[u8]>, Offset>,
    bytes: usize,
    bytes_max: usize,
}

impl Keys {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { last: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// A record of `key` stands at `offset`, after all that were noted before.
    pub(crate) fn note(&mut self, key: &[u8], offset: Offset) {
        if let Some(last) = self.last.get_mut(key) {
            *last = offset;
            return;
        }
        self.bytes += key.len() + ENTRY_BYTES;
        self.last.insert(key.into(), offset);
    }

    /// Whether no more should be noted.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Whether a later record of `key` is known than the one at `offset`.
    pub(crate) fn supersedes(&self, key: &[u8], offset: Offset) -> bool {
        self.last.get(key).is_some_and(|last| *last > offset)
    }

    pub(crate) fn clear(&mut self) {
        self.last.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_counts_and_memory_is_bounded() {
        let mut keys = Keys::new(3 * (ENTRY_BYTES + 1));
        for offset in 0..10 {
            keys.note(b"a", Offset(offset));
            keys.note(b"b", Offset(offset + 100));
        }
        assert!(!keys.is_full(), "a key takes its room once");
        assert!(keys.supersedes(b"a", Offset(8)) && !keys.supersedes(b"a", Offset(9)));
        assert!(!keys.supersedes(b"c", Offset(0)));
        keys.note(b"c", Offset(200));
        assert!(keys.is_full());
        keys.clear();
        assert!(!keys.is_full() && !keys.supersedes(b"a", Offset(0)));
    }
}
