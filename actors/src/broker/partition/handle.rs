//! What a partition hands to its next life, and the handle that whoever started it keeps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering};

use actix::Addr;
use flumen_runtime::{ids::LogId, journal::Journaled, mailbox::tell};

use super::{Partition, Shared, at_rest::Over, options::ClosedPartition};
use crate::broker::{directories::DataDirectory, traffic::Traffic};

/// A partition that was started, for whoever did. Clones are of the same.
#[derive(Clone)]
pub struct PartitionHandle {
    /// Its actor, in all of its lives.
    pub address: Addr<Partition>,
    pub(super) shared: Arc<Shared>,
}

impl PartitionHandle {
    /// The id of its log.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.shared.log
    }

    /// The data directory that holds it.
    #[must_use]
    pub fn directory(&self) -> &DataDirectory {
        &self.shared.directory
    }

    /// What it said of itself when it was drained; `None` where it was not, or had failed.
    #[must_use]
    pub fn closed(&self) -> Option<ClosedPartition> {
        self.shared.handover.closed()
    }

    /// Whether its log is not served until somebody sees to its disk, or there is room on it.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.shared.is_offline.load(Ordering::Relaxed)
    }

    /// Whether it rests, and the time has come at which its log has something to do.
    pub(crate) fn has_rested(&self, now_ms: i64) -> bool {
        self.shared.rest.is_over(now_ms)
    }

    /// Has it look whether it rests on. Told once for each rest, so that no mailbox grows of it.
    pub(crate) fn rest_is_over(&self) {
        self.shared.rest.is_told();
        tell(&self.address, Over);
    }

    /// Where what goes into its topic and out of it is counted.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.shared.traffic
    }
}

/// What goes from one life of a partition to the next, of this process or of another.
pub(super) struct Handover(Mutex<Handed>);

struct Handed {
    /// Boxed: a partition that runs holds none.
    closed: Option<Box<ClosedPartition>>,
    journaled: Box<[Journaled]>,
}

impl Handover {
    pub(super) fn new(closed: Option<ClosedPartition>, journaled: Vec<Journaled>) -> Self {
        let (closed, journaled) = (closed.map(Box::new), journaled.into());
        Self(Mutex::new(Handed { closed, journaled }))
    }

    fn lock(&self) -> MutexGuard<'_, Handed> {
        // Each part is replaced as a whole: a panic cannot leave it torn.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> Option<ClosedPartition> {
        self.lock().closed.as_deref().cloned()
    }

    pub(super) fn take_closed(&self) -> Option<ClosedPartition> {
        self.lock().closed.take().map(|closed| *closed)
    }

    pub(super) fn set_closed(&self, closed: ClosedPartition) {
        self.lock().closed = Some(Box::new(closed));
    }

    /// A copy; the payloads are shared.
    pub(super) fn journaled(&self) -> Vec<Journaled> {
        self.lock().journaled.to_vec()
    }

    /// The log holds them now.
    pub(super) fn journal_is_used(&self) {
        self.lock().journaled = Box::default();
    }
}
