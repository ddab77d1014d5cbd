//! The commit journal: one sync makes the batches of many lightly written logs durable.
//!
//! ```text
//!   log ── commit ──┬──► gathered ── one write, one sync ──► <data>/.journal/<boot>-<arbiter>-<number>
//!                   │        └──◄── all that waited are answered      two that take turns, 32 MiB each
//!                   │                                                     │
//!                   └──► put off ── one write for many ──► its segment ◄──┘ synced before one is
//!                                                                           used again
//! ```
//!
//! Each arbiter has a journal of its own in each data directory, inside the directory's disk actor.
//! When a commit is answered, its batches are durable whatever becomes of the segment. The write to the
//! segment is [put off](crate::disk::deferred): it is made when somebody needs it. A file is used again
//! only when every segment that it covers has been synced. At the next start [`replay()`] gives each log
//! what its segments may lack.
//!
//! # What a log has to do
//! - It has what was put off written before it does anything else with its segment.
//! - It syncs a segment before it relies on a sync of the next one: what only the journal has of the
//!   older one would otherwise be a hole.
//! - A truncation brings its recovery point down first; then it is committed; then its files are cut;
//!   and only then it appends again. Trimming and deleting are durable in its own files and names before
//!   they are answered: entries below a log's start or of an unknown log mean nothing.
//!
//! # Invariants
//! The first, JRN-1, stands with the bytes in `journal/format.rs`.
//!
//! - JRN-2: a file is written only after it was made, and its name is durable.
//! - JRN-3: a file is used again only when every segment that its entries cover has been synced since.
//! - JRN-4: a file is never written beyond the blocks that were zeroed when it was made: a file that
//!   grows makes each sync wait for the file system's own journal.
//! - JRN-5: an entry has at most 1 MiB; the segment of a larger one is synced instead, as are those of
//!   the first few that come before a file is made.
//! - JRN-6: replay gives every entry that was answered and not voided, in the order of each log, and
//!   none of an earlier use of a file.
//! - JRN-7: entries of one log are ordered by a number that all arbiters of the directory draw from,
//!   so that what an abandoned arbiter left does not come after what its successor did.
//!
//! # Failure
//! A file that cannot be written or synced is set aside for the next start and another is begun; after
//! a few of them each log syncs for itself. A segment that cannot be synced ends its log: later
//! commits of it are refused, no later life of it in this process opens it, and its file is set
//! aside for the next start, since it holds the only durable copy.
//!
//! # Why it waits a little
//! A sync costs about 60 µs of CPU however little it covers. When many logs commit at a rate, the
//! journal waits 2 ms for more; one log, or a few that each wait for their acks, are
//! synced at once.

mod format;
mod replay;
mod state;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, WrapFuture as _};
use bytes::Bytes;
use tokio::time::Instant;

pub use self::{
    format::FileError,
    replay::{Journaled, ReplayError, Replayed, clear, give_up, replay},
};
use self::{
    format::What,
    state::{Effect, Layout, State},
};
use crate::{
    disk::{self, Disk, DiskError, Done, File, Op, OpenMode, Reply, actor::DiskActor},
    era::Ticket,
    failpoint,
    ids::{ArbiterId, LeaderEpoch, LogId, Offset},
    meters::Meter,
    rng::Rng,
};

/// Folder of the journals in a data directory.
const FOLDER: &str = ".journal";
/// Bytes of each of the two files of a journal, as a rule.
pub const FILE_BYTES: u64 = 32 << 20;

/// How long to wait for room, or for the next life of a log, before a segment is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a log wants to be durable.
#[derive(Clone, Debug)]
pub enum JournalEntry {
    /// Batches at the end of the log's segment, which the journal has written there later on.
    Append {
        /// The log.
        log: LogId,
        /// The epoch of the batches.
        epoch: LeaderEpoch,
        /// Offset of the first record.
        base_offset: Offset,
        /// Offset after the last record.
        end_offset: Offset,
        /// The batches' bytes, whole batches one after the other.
        payload: Vec<Bytes>,
        /// The segment that they belong to.
        file: File,
        /// Where in it.
        position: u64,
    },
    /// The log removes everything from `offset` up, and its recovery point says so durably: earlier
    /// entries from there up are void. Answered before anything is cut, or else appended.
    TruncatedTo {
        /// The log.
        log: LogId,
        /// Its new end.
        offset: Offset,
    },
    /// The log is gone, and all its entries are void.
    Deleted {
        /// The log.
        log: LogId,
    },
}

impl JournalEntry {
    fn into_parts(self, seq: u64) -> (format::Record, Option<File>) {
        let (log, what, file) = match self {
            JournalEntry::Append { log, epoch, base_offset, end_offset, payload, file, .. } => {
                let (base, end) = (base_offset, end_offset);
                (log, format::What::Append { epoch, base, end, payload }, Some(file))
            }
            JournalEntry::TruncatedTo { log, offset } => {
                (log, format::What::TruncatedTo(offset), None)
            }
            JournalEntry::Deleted { log } => (log, format::What::Deleted, None),
        };
        (format::Record { log, seq, what }, file)
    }
}

/// What the journals of one data directory share in one run of the node. Made by [`replay()`].
#[derive(Clone, Debug)]
pub struct Journals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    boot: u64,
    next_seq: AtomicU64,
    half_bytes: u64,
}

impl Journals {
    fn new(data: &Path, boot: u64, first_seq: u64) -> Journals {
        let (dir, next_seq) = (data.join(FOLDER), AtomicU64::new(first_seq));
        Journals(Arc::new(Shared { dir, boot, next_seq, half_bytes: FILE_BYTES }))
    }

    /// The same with files of another size: at least 64 KiB; before any is started.
    #[must_use]
    pub fn with_file_bytes(self, bytes: u64) -> Journals {
        let Shared { dir, boot, next_seq, .. } = &*self.0;
        let next_seq = AtomicU64::new(next_seq.load(Ordering::Relaxed));
        let half_bytes = bytes.max(64 << 10);
        Journals(Arc::new(Shared { dir: dir.clone(), boot: *boot, next_seq, half_bytes }))
    }
}

/// One arbiter's journal, in its disk actor.
pub(crate) struct Journal {
    state: State<Reply>,
    shared: Journals,
    /// The rights of the logs that have committed something, for what becomes of their segments.
    tickets: BTreeMap<LogId, Ticket>,
    /// The right to write the journal's own files.
    ticket: Ticket,
    started: Instant,
    meter: Option<Arc<Meter>>,
}

impl Journal {
    fn new(start: StartJournal) -> Journal {
        let StartJournal { journals: shared, arbiter, rng, meter } = start;
        let Shared { dir, boot, half_bytes, .. } = &*shared.0;
        let layout = Layout {
            dir: dir.clone(),
            prefix: format!("{boot}-{}", arbiter.0),
            boot: *boot,
            half_bytes: *half_bytes,
        };
        let ticket = Ticket::unshared(dir);
        let (tickets, started) = (BTreeMap::new(), Instant::now());
        Journal { state: State::new(layout, rng), shared, tickets, ticket, started, meter }
    }

    /// A segment of `log` could not be synced: only the journal has what was answered, and no later
    /// life of the log may go on without it before the journal is replayed.
    fn note(&self, log: LogId, error: Option<&DiskError>) {
        if let (Some(error), Some(ticket)) =
            (error.filter(|e| e.is_failed_sync()), self.tickets.get(&log))
        {
            ticket.gate.note_failed_sync(error);
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Begins a journal: [`DiskHandle::start_journal`](crate::disk::actor::DiskHandle::start_journal).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StartJournal {
    /// What it shares with those of other arbiters.
    pub journals: Journals,
    /// Whose it is.
    pub arbiter: ArbiterId,
    /// Draws its salts.
    pub rng: Rng,
    /// Where its waiting is counted.
    pub meter: Option<Arc<Meter>>,
}

impl Handler<StartJournal> for DiskActor {
    type Result = ();

    fn handle(&mut self, start: StartJournal, _: &mut Context<Self>) {
        self.journal.get_or_insert_with(|| Journal::new(start));
    }
}

/// Has an entry made durable: [`DiskHandle::commit`](crate::disk::actor::DiskHandle::commit).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Commit {
    /// What.
    pub entry: JournalEntry,
    /// The right to write the log.
    pub ticket: Ticket,
    /// Where the outcome goes.
    pub reply: Reply,
}

impl Handler<Commit> for DiskActor {
    type Result = ();

    fn handle(&mut self, commit: Commit, ctx: &mut Context<Self>) {
        let Commit { entry, ticket, reply } = commit;
        let deferred = match &entry {
            JournalEntry::Append { file, position, payload, .. } => {
                ticket.gate.defer(ticket.era, (file, *position), payload)
            }
            JournalEntry::Deleted { .. } => ticket.gate.forget_deferred(ticket.era),
            JournalEntry::TruncatedTo { .. } => Ok(()),
        };
        if let Err(fenced) = deferred {
            return drop(reply.send(Err(fenced.into())));
        }
        let Some(journal) = &mut self.journal else {
            return self.commit_without(entry, ticket, reply, ctx);
        };
        let draw = || journal.shared.0.next_seq.fetch_add(1, Ordering::Relaxed);
        // Under the gate: a number that a superseded log draws is below all of its successor's
        // (JRN-7), so the write itself may land as late as it likes.
        match ticket.gate.inline(ticket.era, draw) {
            Err(fenced) => drop(reply.send(Err(fenced.into()))),
            Ok(seq) => {
                let (record, file) = entry.into_parts(seq);
                if file.is_some() {
                    let known = journal.tickets.entry(record.log).or_insert_with(|| ticket.clone());
                    if known.era != ticket.era {
                        *known = ticket;
                    }
                } else if record.what == What::Deleted {
                    journal.tickets.remove(&record.log);
                }
                journal.state.commit(journal.now(), record, file, reply);
                self.run_journal(ctx);
            }
        }
    }
}

impl DiskActor {
    /// Without a journal each log syncs for itself, and there is nothing to be voided.
    fn commit_without(
        &self,
        entry: JournalEntry,
        ticket: Ticket,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        match entry {
            JournalEntry::Append { file, .. } => self.sync_instead(Some(ticket), file, reply, ctx),
            JournalEntry::TruncatedTo { .. } | JournalEntry::Deleted { .. } => {
                drop(reply.send(Ok(Done::Unit)));
            }
        }
    }

    /// Answers when a segment is synced, with all that was put off for it.
    fn sync_instead(
        &self,
        ticket: Option<Ticket>,
        file: File,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let driver = self.driver.clone();
        let meter = self.journal.as_ref().and_then(|journal| journal.meter.clone());
        let synced = async move {
            if let Some(ticket) = ticket {
                disk::write_deferred(driver.clone(), ticket, meter).await?;
            }
            driver.submit(Op::Sync { file }).await
        };
        ctx.spawn(async { drop(reply.send(synced.await)) }.into_actor(self));
    }

    /// Carries out what the journal wants done.
    fn run_journal(&mut self, ctx: &mut Context<Self>) {
        while let Some(journal) = &mut self.journal
            && let Some(effect) = journal.state.next(journal.now())
        {
            let (ticket, meter) = (journal.ticket.clone(), journal.meter.clone());
            self.carry_out(effect, ticket, meter, ctx);
        }
    }

    fn carry_out(
        &self,
        effect: Effect<Reply>,
        ticket: Ticket,
        meter: Option<Arc<Meter>>,
        ctx: &mut Context<Self>,
    ) {
        let driver = self.driver.clone();
        match effect {
            Effect::Make { half, path, len } => {
                let made = make(driver, ticket, path, len);
                self.then(ctx, made, move |journal, made| journal.state.on_made(half, made));
            }
            Effect::Write { file, header, position, bytes } => {
                let parts = header.map(|header| (0, header)).into_iter().chain([(position, bytes)]);
                let written = write_in_order(driver, ticket, meter, file, parts);
                self.then(ctx, written, |journal, written| journal.state.on_written(written));
            }
            Effect::SyncSegment { half, number, log, file } => {
                let ticket = self.ticket_of(log);
                let synced = sync_segment(driver, ticket, file.clone(), meter);
                self.then(ctx, synced, move |journal, synced| {
                    journal.note(log, synced.as_ref().err());
                    journal.state.on_segment_synced((half, number), (log, file), synced);
                });
            }
            Effect::Wait(time) => {
                self.then(ctx, driver.wait(time), |journal, ()| journal.state.on_wait());
            }
            Effect::SyncInstead { log, file, reply } => {
                self.sync_instead(self.ticket_of(log), file, reply, ctx);
            }
            Effect::Answer { replies, result } => {
                // Whoever asked may be gone by now: the entry is durable all the same.
                for reply in replies {
                    let _ = reply.send(result.clone().map(|()| Done::Unit));
                }
            }
        }
    }

    fn ticket_of(&self, log: LogId) -> Option<Ticket> {
        self.journal.as_ref().and_then(|journal| journal.tickets.get(&log).cloned())
    }

    /// Takes the outcome of `work` as a step of its own.
    fn then<T: 'static>(
        &self,
        ctx: &mut Context<Self>,
        work: impl Future<Output = T> + 'static,
        step: impl FnOnce(&mut Journal, T) + 'static,
    ) {
        ctx.spawn(work.into_actor(self).map(move |outcome, act, ctx| {
            if let Some(journal) = &mut act.journal {
                step(journal, outcome);
            }
            act.run_journal(ctx);
        }));
    }
}

/// Syncs a segment that a file of the journal covers, with all that was put off for it. Where there is no
/// room for that, or it is the log's next life that has to write it, the error comes after a while. Without
/// a ticket its log is deleted.
async fn sync_segment(
    driver: Rc<dyn Disk>,
    ticket: Option<Ticket>,
    file: File,
    meter: Option<Arc<Meter>>,
) -> Result<(), DiskError> {
    if let Some(ticket) = ticket {
        match disk::write_deferred(driver.clone(), ticket.clone(), meter).await {
            Err(DiskError::Fenced(_)) if !ticket.gate.is_deferring(ticket.era) => {}
            Err(error) if state::is_passing(&error) => {
                driver.wait(TRY_AGAIN_AFTER).await;
                return Err(error);
            }
            written => written?,
        }
    }
    driver.submit(Op::Sync { file }).await.map(drop)
}

async fn make(
    driver: Rc<dyn Disk>,
    ticket: Ticket,
    path: PathBuf,
    len: u64,
) -> Result<File, DiskError> {
    let dir = path.parent().expect("it was joined to the folder").to_path_buf();
    driver.submit(Op::CreateDir { path: dir.clone() }).await?;
    let opened = driver.submit(Op::Open { path, mode: OpenMode::CreateNew, ticket: None }).await?;
    let Done::File(file) = opened else { unreachable!("an open answers with a file") };
    driver.submit(Op::Zero { file: file.clone(), position: 0, len, ticket }).await?;
    driver.submit(Op::Sync { file: file.clone() }).await?;
    driver.submit(Op::SyncDir { path: dir.clone() }).await?;
    if let Some(data) = dir.parent() {
        driver.submit(Op::SyncDir { path: data.to_path_buf() }).await?;
    }
    Ok(file)
}

/// Writes and syncs each part before the next.
async fn write_in_order(
    driver: Rc<dyn Disk>,
    ticket: Ticket,
    meter: Option<Arc<Meter>>,
    file: File,
    parts: impl Iterator<Item = (u64, Bytes)>,
) -> Result<(), DiskError> {
    for (position, bytes) in parts {
        let (file, ticket) = (file.clone(), ticket.clone());
        let sync = Op::Sync { file: file.clone() };
        let written = driver.submit(Op::Write { file, position, bufs: vec![bytes], ticket });
        if let (Some(stalled), Some(meter)) = (disk::take_stall(), &meter) {
            meter.stalls.note(stalled);
        }
        written.await?;
        failpoint::pass("journal: written");
        let since = Instant::now();
        driver.submit(sync).await?;
        if let Some(meter) = &meter {
            meter.syncs.note(since.elapsed());
        }
        failpoint::pass("journal: synced");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
