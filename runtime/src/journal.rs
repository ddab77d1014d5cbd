//! The commit journal: one sync makes the batches of many lightly written logs durable.

use actix::{Context, Handler, Message};
use bytes::Bytes;

use crate::{
    disk::{Done, File, Op, Reply, actor::DiskActor},
    era::Ticket,
    ids::{LeaderEpoch, LogId, Offset},
};

/// What a log wants to be durable.
#[derive(Clone, Debug)]
pub enum JournalEntry {
    /// Batches that the log has written to its segment: the write has completed.
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
        /// The segment that they were written to.
        file: File,
    },
    /// The log has removed everything from `offset` up, and its files say so durably: earlier
    /// entries from there up are void. Answered before anything else is appended.
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

    fn handle(&mut self, commit: Commit, _: &mut Context<Self>) {
        match commit.entry {
            JournalEntry::Append { file, .. } => {
                self.driver.submit_to(Op::Sync { file }, commit.reply);
            }
            JournalEntry::TruncatedTo { .. } | JournalEntry::Deleted { .. } => {
                let _ = commit.reply.send(Ok(Done::Unit));
            }
        }
    }
}
