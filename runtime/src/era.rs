//! The take-over rule: at most one incarnation of an actor may *write*.
//!
//! A wedged handler cannot be stopped, and a submitted write cannot be recalled. So every write
//! carries the era of the incarnation that made it, and a gate that all incarnations share decides:
//!
//! ```text
//!   take-over:  revoke era n ──► wait until no write of an era ≤ n is in flight ──► era n+1 reads
//!               (under the lock that an inline write holds)      (or the process ends)
//! ```
//!
//! The gate also remembers a sync that failed: the kernel then takes for clean what never reached the
//! disk, and shows it to every reader as if it had. So no incarnation of this process may read it and
//! go on from there. And it keeps the writes that one incarnation has put off, for the next one.
//!
//! # Invariants
//! - ERA-1: a write of an era that is not the current one never starts.
//! - ERA-2: [`take_over`] returns only when no write of an earlier era is in flight.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Duration,
};

use bytes::Bytes;

use crate::disk::{Deferred, DiskError, File};

/// Number of an incarnation's right to write: 1, 2, ….
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Era(pub u64);

#[derive(Debug)]
struct GateState {
    current: Era,
    /// Writes that were submitted and have not completed, of any era.
    in_flight: usize,
    failed_sync: Option<Box<DiskError>>,
    was_opened: bool,
    deferred: Option<Box<Deferred>>,
}

/// What all incarnations of one writer share.
#[derive(Debug)]
pub struct EraGate {
    what: Arc<Path>,
    state: Mutex<GateState>,
}

/// The write was made by an incarnation that has been superseded.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("write of a superseded era {} to `{what}` (now {})", era.0, current.0)]
pub struct FencedError {
    /// What was to be written.
    pub what: Box<Path>,
    /// The era of the write.
    pub era: Era,
    /// The era that may write.
    pub current: Era,
}

/// Writes of the superseded incarnation did not end in time: only the end of the process ends them.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "writes to `{what}` by a superseded actor did not end within {within:?}; the process must end"
)]
pub struct TakeOverError {
    /// What is being written.
    pub what: Box<Path>,
    /// How long was waited.
    pub within: Duration,
}

impl EraGate {
    /// A gate for the writers of `what` (a log's directory, for messages); nobody may write yet.
    #[must_use]
    pub fn new(what: impl Into<Arc<Path>>) -> Arc<EraGate> {
        let (current, in_flight, was_opened) = (Era(0), 0, false);
        let state = GateState { current, in_flight, failed_sync: None, was_opened, deferred: None };
        Arc::new(EraGate { what: what.into(), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        // Each change of the guarded state is complete in itself: a panic cannot leave it torn.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, state: &GateState, era: Era) -> Result<(), FencedError> {
        if state.current == era {
            return Ok(());
        }
        Err(FencedError { what: (*self.what).into(), era, current: state.current })
    }

    /// The era that may write now.
    #[must_use]
    pub fn current(&self) -> Era {
        self.lock().current
    }

    /// Remembers, for the rest of this process, that a sync of what is written here has failed.
    pub fn note_failed_sync(&self, error: &DiskError) {
        self.lock().failed_sync.get_or_insert_with(|| Box::new(error.clone()));
    }

    /// The first sync that has failed: what the page cache shows is not what the disk holds.
    #[must_use]
    pub fn failed_sync(&self) -> Option<DiskError> {
        self.lock().failed_sync.as_deref().cloned()
    }

    /// Remembers, for the rest of this process, that what is written here has been open: somebody may have
    /// read what only the page cache has.
    pub(crate) fn note_opened(&self) {
        self.lock().was_opened = true;
    }

    pub(crate) fn was_opened(&self) -> bool {
        self.lock().was_opened
    }

    /// Puts off a write of `bufs` to `position` in `file`.
    ///
    /// # Errors
    /// [`FencedError`] where `era` has been revoked.
    pub(crate) fn defer(
        &self,
        era: Era,
        (file, position): (&File, u64),
        bufs: &[Bytes],
    ) -> Result<(), FencedError> {
        let mut state = self.lock();
        self.check(&state, era)?;
        let deferred =
            state.deferred.get_or_insert_with(|| Box::new(Deferred::at(era, file, position)));
        deferred.push(file, position, bufs);
        Ok(())
    }

    /// What was put off: where, and its bytes.
    ///
    /// # Errors
    /// [`FencedError`] where `era` has been revoked.
    pub(crate) fn deferred(&self, era: Era) -> Result<Option<(File, u64, Bytes)>, FencedError> {
        let state = self.lock();
        self.check(&state, era)?;
        Ok(state.deferred.as_ref().map(|deferred| deferred.parts()))
    }

    /// Whether what `era`, or one before it, has put off is not written yet, whoever may write it now.
    pub(crate) fn is_deferring(&self, era: Era) -> bool {
        self.lock().deferred.as_ref().is_some_and(|deferred| deferred.is_of(era))
    }

    /// Gives up what was put off: its log is deleted.
    ///
    /// # Errors
    /// [`FencedError`] where `era` has been revoked.
    pub(crate) fn forget_deferred(&self, era: Era) -> Result<(), FencedError> {
        let mut state = self.lock();
        self.check(&state, era)?;
        state.deferred = None;
        Ok(())
    }

    /// What was put off is written up to `end`; an era that was revoked meanwhile has nothing to say.
    pub(crate) fn note_written(&self, era: Era, end: u64) {
        let mut state = self.lock();
        if state.current == era {
            state.deferred = state.deferred.take().and_then(|d| d.after(end)).map(Box::new);
        }
    }

    /// Runs `write` while holding the gate, so that a take-over waits for it (ERA-1, ERA-2).
    ///
    /// # Errors
    /// [`FencedError`] where `era` has been revoked; `write` is not run then.
    pub fn inline<T>(&self, era: Era, write: impl FnOnce() -> T) -> Result<T, FencedError> {
        let state = self.lock();
        self.check(&state, era)?;
        Ok(write())
    }

    /// Marks a write as in flight until the guard is dropped (ERA-2). The guard must live in the
    /// ring's or pool's own table of operations, not in the future of the one who waits for it.
    ///
    /// # Errors
    /// [`FencedError`] where `era` has been revoked.
    pub fn begin(self: &Arc<Self>, era: Era) -> Result<InFlight, FencedError> {
        let mut state = self.lock();
        self.check(&state, era)?;
        state.in_flight += 1;
        Ok(InFlight(self.clone()))
    }
}

/// A write that the kernel may still carry out.
#[derive(Debug)]
pub struct InFlight(Arc<EraGate>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

/// The right to write under one era; travels with every write.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The gate of what is written.
    pub gate: Arc<EraGate>,
    /// The era under which it is written.
    pub era: Era,
    /// Held by the put-off write of this era that is under way.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Ticket {
    fn new(gate: Arc<EraGate>, era: Era) -> Ticket {
        Ticket { gate, era, turn: Arc::default() }
    }

    /// One that never writes.
    #[must_use]
    pub fn void(gate: Arc<EraGate>) -> Ticket {
        Ticket::new(gate, Era::default())
    }

    /// The turn to make the writes that were put off (DEF-2).
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Whether its era may still write.
    ///
    /// # Errors
    /// [`FencedError`] where it has been revoked.
    pub fn check(&self) -> Result<(), FencedError> {
        self.gate.check(&self.gate.lock(), self.era)
    }

    /// The right to write `what`, of which there is never a second incarnation: files whose names
    /// are not given twice.
    #[must_use]
    pub fn unshared(what: &Path) -> Ticket {
        let gate = EraGate::new(what);
        let era = Era(1);
        gate.lock().current = era;
        Ticket::new(gate, era)
    }
}

/// Revokes every earlier era of `gate`, waits until none of its writes is in flight, and returns
/// the ticket of the new era.
///
/// # Errors
/// [`TakeOverError`] where that takes longer than `within`: the caller must end the process.
pub async fn take_over(gate: &Arc<EraGate>, within: Duration) -> Result<Ticket, TakeOverError> {
    const POLL: Duration = Duration::from_millis(1);
    let failed = || TakeOverError { what: (*gate.what).into(), within };
    let deadline = tokio::time::Instant::now() + within;
    let mut era = None;
    loop {
        // An inline write that hangs in the kernel holds the lock: trying must not hang with it.
        match gate.state.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Poisoned(poisoned)) => {
                drop(poisoned);
                gate.state.clear_poison();
            }
            Ok(mut state) => {
                let mine = *era.get_or_insert_with(|| {
                    state.current = Era(state.current.0 + 1);
                    state.current
                });
                if state.in_flight == 0 {
                    return Ok(Ticket::new(gate.clone(), mine));
                }
            }
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(failed());
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_superseded_era_cannot_write() {
        let gate = EraGate::new(Path::new("log"));
        let old = take_over(&gate, Duration::from_secs(1)).await.unwrap();
        let new = take_over(&gate, Duration::from_secs(1)).await.unwrap();
        assert!(gate.inline(old.era, || ()).is_err(), "ERA-1");
        assert!(gate.begin(old.era).is_err(), "ERA-1");
        assert!(gate.inline(new.era, || ()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn take_over_waits_for_writes_in_flight_and_gives_up_at_its_deadline() {
        let gate = EraGate::new(Path::new("log"));
        let old = take_over(&gate, Duration::from_secs(1)).await.unwrap();
        let in_flight = gate.begin(old.era).unwrap();
        assert!(take_over(&gate, Duration::from_secs(1)).await.is_err(), "ERA-2");
        drop(in_flight);
        assert!(take_over(&gate, Duration::from_secs(1)).await.is_ok());
    }
}
