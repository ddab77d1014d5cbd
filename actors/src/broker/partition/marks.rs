//! The ruler of a partition.
//!
//! ```text
//!  log start    last stable   high watermark   durable end    log end
//!      │             │              │               │             │
//!      ▼             ▼              ▼               ▼             ▼
//!  ────[··· decided ·)[· undecided ·)[· not on all ·)[· not yet ···)
//!      readable with  readable by    followers only  synced here
//!      read_committed all consumers
//! ```
//!
//! Each is the offset *after* the last record it covers, except log start, the first one kept. On a
//! lazy topic the durable end trails and nothing waits for it.

use flumen_runtime::ids::Offset;

/// The five numbers of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// First offset kept.
    pub log_start: Offset,
    /// Every transaction with a record below it is decided.
    pub last_stable: Offset,
    /// Every record below it is committed: consumers read up to here.
    pub high_watermark: Offset,
    /// Every record below it survives a power cut of this machine.
    pub durable_end: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
}

impl Marks {
    /// Checks what holds of the marks at any moment.
    ///
    /// # Panics
    /// Where it does not hold, which no input may bring about.
    pub fn check(&self) {
        let is_ordered = self.log_start <= self.last_stable
            && self.last_stable <= self.high_watermark
            && self.high_watermark <= self.log_end;
        assert!(is_ordered, "PART-1: {self:?}");
        assert!(self.durable_end <= self.log_end, "PART-6: {self:?}");
    }
}
