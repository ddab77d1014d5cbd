//! The head file: how much of the channel was committed, and what its sink keeps.
//!
//! One small file beside the log, `head`, replaced as a whole: an envelope of kind `FLCH`, version 1,
//! around [`Head`] in bincode.
//!
//! # Why it may lag
//! It is written a few times a second, not at each commit. A sink that can tell from its own output
//! what it delivered (a topic, parts named by offsets) is offered the events since then again after
//! a crash, and skips them; any other sink delivers them twice, as it might at any crash between
//! delivery and commit. What frees the disk is the head in the file, never the one in memory.

use bytes::Bytes;
use flumen_runtime::{
    codec::{self, UnsealError},
    ids::Offset,
};
use serde::{Deserialize, Serialize};

const KIND: [u8; 4] = *b"FLCH";
const VERSION: u16 = 1;

/// Its name.
pub const FILE: &str = "head";

/// Events and bytes since the channel was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Events.
    pub events: u64,
    /// What they cost in credit.
    pub bytes: u64,
}

impl Totals {
    /// With one event more.
    pub fn add(&mut self, bytes: usize) {
        self.events += 1;
        self.bytes += bytes as u64;
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Totals) -> Totals {
        assert!(self.events >= earlier.events, "CH-5: more was committed than was ever put");
        Totals { events: self.events - earlier.events, bytes: self.bytes - earlier.bytes }
    }
}

/// What the head file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The first offset that was not committed.
    pub head: Offset,
    /// All that was committed.
    pub committed: Totals,
    /// What the sink keeps, as of that offset.
    #[serde(with = "serde_bytes")]
    pub sink_state: Option<Vec<u8>>,
}

impl Head {
    /// As the bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::seal(KIND, VERSION, self).expect("numbers and bytes are encodable")
    }

    /// From the bytes of the file.
    ///
    /// # Errors
    /// [`UnsealError`] where they are damaged, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Head, UnsealError> {
        codec::unseal(KIND, VERSION, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_first_version_are_fixed() {
        let committed = Totals { events: 2, bytes: 300 };
        let head = Head { head: Offset(5), committed, sink_state: Some(vec![1, 2]) };
        let bytes = head.encode();
        assert_eq!(Head::decode(&bytes), Ok(head));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (envelope, rest) = hex.split_at(20);
        assert_eq!(envelope, "464c4348010023000000");
        let (_sum, payload) = rest.split_at(8);
        assert_eq!(
            payload,
            "0500000000000000\
             02000000000000002c01000000000000\
             0102000000000000000102"
        );
    }

    #[test]
    fn a_later_version_is_refused() {
        let bytes = codec::seal(KIND, VERSION + 1, &Head::default()).unwrap();
        assert!(matches!(Head::decode(&bytes), Err(UnsealError::Newer { .. })));
    }
}
