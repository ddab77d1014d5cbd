//! The disk actor: one an arbiter and data directory; and the handle through which logs use it.
//!
//! ```text
//!   DiskHandle::write(..) ── Submit{op, reply} ──► DiskActor ── submit_to(op, reply) ──► driver
//!         └──────────────────── Answer ◄── reply, from wherever the operation completes ───┘
//! ```
//!
//! The actor keeps nothing for an operation: the reply goes along to the driver, so that a
//! completion is one wake-up of whoever asked, and not a turn of the actor.
//!
//! # Failure
//! It has no state that could break, and is not restarted: its arbiter's end is its end. Handles
//! then answer [`DiskError::Closed`].

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use actix::{Actor, Addr, Context, Handler, Message};
use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Disk, DiskError, DiskResult, Done, Entry, File, Op, OpenMode, Reply, Space,
    deferred::WriteDeferred, inline,
};
use crate::{
    era::Ticket,
    failpoint,
    ids::ArbiterId,
    journal::{Commit, Journal, JournalEntry, Journals, StartJournal},
    mailbox,
    meters::Meter,
    rng::Rng,
};

/// See the module.
pub struct DiskActor {
    pub(crate) driver: Rc<dyn Disk>,
    pub(crate) journal: Option<Journal>,
}

impl Actor for DiskActor {
    type Context = Context<Self>;
}

/// Starts an operation.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Submit {
    /// Which.
    pub op: Op,
    /// Where its outcome goes.
    pub reply: Reply,
    /// Where it is counted if it holds up the arbiter.
    pub meter: Option<Arc<Meter>>,
}

impl Handler<Submit> for DiskActor {
    type Result = ();

    fn handle(&mut self, submit: Submit, _: &mut Self::Context) {
        self.driver.submit_to(submit.op, submit.reply);
        if let Some(stalled) = inline::take_stall()
            && let Some(meter) = submit.meter
        {
            meter.stalls.note(stalled);
        }
    }
}

/// A disk actor's address, with a method for each operation. The operation is on its way when the
/// method returns, and is carried out whether or not its [`Answer`] is kept (DISK-1).
///
/// A handle belongs to the arbiter of its actor.
#[derive(Clone)]
pub struct DiskHandle {
    /// Shared: each clone of an address is three allocations.
    actor: Rc<Addr<DiskActor>>,
    // Descriptors, buffers and wake-ups stay on one core: a handle that crossed would undo that.
    driver: Rc<dyn Disk>,
    /// Where the waiting of whoever uses it is counted.
    meter: Option<Arc<Meter>>,
}

impl DiskHandle {
    /// Starts an actor that owns `driver` on the current arbiter.
    #[must_use]
    pub fn start(driver: Rc<dyn Disk>) -> Self {
        let actor = DiskActor { driver: driver.clone(), journal: None }.start();
        Self { actor: Rc::new(actor), driver, meter: None }
    }

    /// The same, with the waiting of whoever uses it counted there.
    #[must_use]
    pub fn metered(self, meter: Arc<Meter>) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// One line: which driver, why, and what would change it.
    #[must_use]
    pub fn describe(&self) -> String {
        self.driver.describe()
    }

    /// Begins the directory's journal for this arbiter, once; entries that were committed before made
    /// their logs sync for themselves. `rng` draws what nobody outside may guess. The journal's own syncs
    /// are counted where the handle's are.
    pub fn start_journal(&self, journals: &Journals, arbiter: ArbiterId, rng: Rng) {
        let journals = journals.clone();
        let meter = self.meter.clone();
        mailbox::tell(&self.actor, StartJournal { journals, arbiter, rng, meter });
    }

    /// Makes an entry of a log durable together with those of other logs: see
    /// [`journal`](crate::journal). `ticket` is the log's.
    pub fn commit(&self, entry: JournalEntry, ticket: &Ticket) -> Answer<()> {
        let (reply, outcome) = oneshot::channel();
        // Bounded as every operation is.
        mailbox::tell(&self.actor, Commit { entry, ticket: ticket.clone(), reply });
        Answer { outcome, take: unit, timed: self.timed() }
    }

    /// Times what is waited for as a sync.
    fn timed(&self) -> Option<(Instant, Arc<Meter>)> {
        self.meter.as_ref().map(|meter| (Instant::now(), meter.clone()))
    }

    fn ask<T>(&self, op: Op, take: fn(Done) -> Option<T>) -> Answer<T> {
        let (reply, outcome) = oneshot::channel();
        let timed =
            matches!(op, Op::Sync { .. } | Op::SyncDir { .. }).then(|| self.timed()).flatten();
        let meter = self.meter.as_ref().filter(|_| matches!(op, Op::Write { .. })).cloned();
        // Bounded by who asks: each waits for its answers under the permits that it holds.
        mailbox::tell(&self.actor, Submit { op, reply, meter });
        Answer { outcome, take, timed }
    }

    /// Opens a file, whatever era it is; see [`DiskHandle::open_under`].
    pub fn open(&self, path: impl Into<PathBuf>, mode: OpenMode) -> Answer<File> {
        self.ask_open(path.into(), mode, None)
    }

    /// Opens a file of a log, which it may make, under the right to write there.
    pub fn open_under(
        &self,
        path: impl Into<PathBuf>,
        mode: OpenMode,
        ticket: &Ticket,
    ) -> Answer<File> {
        self.ask_open(path.into(), mode, Some(ticket.clone()))
    }

    fn ask_open(&self, path: PathBuf, mode: OpenMode, ticket: Option<Ticket>) -> Answer<File> {
        self.ask(Op::Open { path, mode, ticket }, |done| match done {
            Done::File(file) => Some(file),
            _ => None,
        })
    }

    /// Writes `bufs`, one after the other, from byte `position` on.
    pub fn write(
        &self,
        file: &File,
        position: u64,
        bufs: Vec<Bytes>,
        ticket: &Ticket,
    ) -> Answer<()> {
        self.ask(Op::Write { file: file.clone(), position, bufs, ticket: ticket.clone() }, unit)
    }

    /// Makes the writes that were put off until now under `ticket`'s gate, by whatever era: they are in
    /// their file then, and not durable there.
    pub fn write_deferred(&self, ticket: &Ticket) -> Answer<()> {
        let (reply, outcome) = oneshot::channel();
        let (ticket, meter) = (ticket.clone(), self.meter.clone());
        // Bounded as every operation is.
        mailbox::tell(&self.actor, WriteDeferred { ticket, reply, meter });
        Answer { outcome, take: unit, timed: None }
    }

    /// Writes `len` zero bytes from byte `position` on.
    pub fn zero(&self, file: &File, position: u64, len: u64, ticket: &Ticket) -> Answer<()> {
        self.ask(Op::Zero { file: file.clone(), position, len, ticket: ticket.clone() }, unit)
    }

    /// Finds blocks for `len` bytes from byte `position` on, where the file system can.
    pub fn reserve(&self, file: &File, position: u64, len: u64, ticket: &Ticket) -> Answer<()> {
        self.ask(Op::Reserve { file: file.clone(), position, len, ticket: ticket.clone() }, unit)
    }

    /// Makes what was written to `file`, and its length, durable (DISK-3).
    pub fn sync(&self, file: &File) -> Answer<()> {
        self.ask(Op::Sync { file: file.clone() }, unit)
    }

    /// Reads `len` bytes from byte `position` on; fewer at the end of the file (DISK-7).
    pub fn read(&self, file: &File, position: u64, len: usize) -> Answer<Bytes> {
        self.ask(Op::Read { file: file.clone(), position, len }, |done| match done {
            Done::Bytes(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// Drops what the page cache has of `file` from byte `from` on and the disk has too (DISK-8).
    pub fn forget(&self, file: &File, from: u64) -> Answer<()> {
        self.ask(Op::Forget { file: file.clone(), from }, unit)
    }

    /// Cuts or extends `file` to `len` bytes.
    pub fn truncate(&self, file: &File, len: u64, ticket: &Ticket) -> Answer<()> {
        self.ask(Op::Truncate { file: file.clone(), len, ticket: ticket.clone() }, unit)
    }

    /// Length of `file` in bytes.
    pub fn len(&self, file: &File) -> Answer<u64> {
        self.ask(Op::Len { file: file.clone() }, |done| match done {
            Done::Len(len) => Some(len),
            _ => None,
        })
    }

    /// Makes a directory and its parents, none of them durable; see [`DiskHandle::make_dir`].
    pub fn create_dir(&self, path: impl Into<PathBuf>) -> Answer<()> {
        self.ask(Op::CreateDir { path: path.into() }, unit)
    }

    /// Makes the names in a directory durable (DISK-4).
    pub fn sync_dir(&self, path: impl Into<PathBuf>) -> Answer<()> {
        self.ask(Op::SyncDir { path: path.into() }, unit)
    }

    /// The entries of a directory, in the order of names.
    pub fn list(&self, path: impl Into<PathBuf>) -> Answer<Vec<Entry>> {
        self.ask(Op::List { path: path.into() }, |done| match done {
            Done::Entries(entries) => Some(entries),
            _ => None,
        })
    }

    /// Renames a file or directory, whatever era it is; see [`DiskHandle::rename_under`].
    pub fn rename(&self, from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Answer<()> {
        self.ask(Op::Rename { from: from.into(), to: to.into(), ticket: None }, unit)
    }

    /// Renames a file or directory of a log, under the right to write it.
    pub fn rename_under(
        &self,
        from: impl Into<PathBuf>,
        to: impl Into<PathBuf>,
        ticket: &Ticket,
    ) -> Answer<()> {
        let ticket = Some(ticket.clone());
        self.ask(Op::Rename { from: from.into(), to: to.into(), ticket }, unit)
    }

    /// Removes a file, whatever era it is; see [`DiskHandle::remove_under`].
    pub fn remove(&self, path: impl Into<PathBuf>) -> Answer<()> {
        self.ask(Op::Remove { path: path.into(), ticket: None }, unit)
    }

    /// Removes a file of a log, under the right to write it.
    pub fn remove_under(&self, path: impl Into<PathBuf>, ticket: &Ticket) -> Answer<()> {
        self.ask(Op::Remove { path: path.into(), ticket: Some(ticket.clone()) }, unit)
    }

    /// Removes a directory with all in it, whatever era it is.
    pub fn remove_dir(&self, path: impl Into<PathBuf>) -> Answer<()> {
        self.ask(Op::RemoveDir { path: path.into(), ticket: None }, unit)
    }

    /// Removes a directory with all in it, under the right to write there.
    pub fn remove_dir_under(&self, path: impl Into<PathBuf>, ticket: &Ticket) -> Answer<()> {
        self.ask(Op::RemoveDir { path: path.into(), ticket: Some(ticket.clone()) }, unit)
    }

    /// Free and total bytes of the file system that holds `path`.
    pub fn space(&self, path: impl Into<PathBuf>) -> Answer<Space> {
        self.ask(Op::Space { path: path.into() }, |done| match done {
            Done::Space(space) => Some(space),
            _ => None,
        })
    }

    /// Puts `bytes` at `path` so that a crash leaves the old content or the new, never a mixture:
    /// written beside it as `<path>.tmp`, synced, renamed over it, and the directory synced. Only
    /// one writer of a path at a time. This one is a sequence: it goes on only while polled.
    ///
    /// # Errors
    /// The first step that fails; the old content stands then.
    pub fn write_atomically(
        &self,
        path: &Path,
        bytes: Bytes,
        ticket: &Ticket,
    ) -> impl Future<Output = Result<(), DiskError>> + 'static + use<> {
        let (disk, path, ticket) = (self.clone(), path.to_owned(), ticket.clone());
        async move {
            let beside = beside(&path);
            let file = disk.open_under(&beside, OpenMode::Create, &ticket).await?;
            disk.truncate(&file, 0, &ticket).await?;
            disk.write(&file, 0, vec![bytes], &ticket).await?;
            disk.sync(&file).await?;
            failpoint::pass("file: written beside its place");
            disk.rename_under(&beside, &path, &ticket).await?;
            failpoint::pass("file: renamed to its place");
            disk.sync_dir(parent(&path)).await
        }
    }

    /// Makes a directory that is missing, and each parent that is: all of them durable by name when
    /// this answers, and none before its own is, also where an earlier process was killed at it.
    ///
    /// # Errors
    /// The first step that fails; what was made until then stays.
    pub async fn make_dir(&self, path: &Path) -> Result<(), DiskError> {
        let (mut missing, mut at) = (Vec::new(), path);
        let found = loop {
            match self.list(at).await {
                Err(error) if error.is_not_found() && parent(at) != at => missing.push(at),
                found => break found?,
            }
            at = parent(at);
        };
        // Nothing is put into a directory before its name is durable: only of an empty one it may
        // not be.
        if found.is_empty() {
            self.sync_dir(parent(at)).await?;
        }
        for dir in missing.into_iter().rev() {
            self.create_dir(dir).await?;
            self.sync_dir(parent(dir)).await?;
        }
        Ok(())
    }
}

/// The directory in which `path` stands.
fn parent(path: &Path) -> &Path {
    let parent = path.parent().unwrap_or(path);
    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
}

fn unit(done: Done) -> Option<()> {
    matches!(done, Done::Unit).then_some(())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// The outcome of an operation that is on its way.
#[must_use = "the operation is carried out all the same, but whether it failed is known here only"]
#[derive(Debug)]
pub struct Answer<T> {
    outcome: oneshot::Receiver<DiskResult>,
    take: fn(Done) -> Option<T>,
    /// Since when a sync is waited for, and where that is counted.
    timed: Option<(Instant, Arc<Meter>)>,
}

impl<T> Future for Answer<T> {
    type Output = Result<T, DiskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = ready!(Pin::new(&mut this.outcome).poll(cx));
        if let Some((since, meter)) = this.timed.take() {
            meter.syncs.note(since.elapsed());
        }
        Poll::Ready(outcome.unwrap_or(Err(DiskError::Closed)).map(|done| {
            (this.take)(done).expect("a driver answers each operation with its kind of answer")
        }))
    }
}

#[cfg(test)]
mod tests;
