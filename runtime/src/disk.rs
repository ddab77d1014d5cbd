//! The disk port: what a driver does with files, and what it promises.
//!
//! ```text
//!   DiskHandle ── Submit ──► DiskActor ── Op, Reply ──► driver ──► completion ──► whoever asked
//!   (typed methods)                                     uring │ threaded │ sim
//! ```
//!
//! # Contract
//! One suite, `disk/contract.rs`, runs on every driver.
//!
//! - DISK-1: an operation starts when it is submitted, not when its future is first polled, and
//!   runs to its end whether or not the future is kept. Nothing orders two operations that are in
//!   flight together: whoever needs an order waits for the first before submitting the second.
//! - DISK-2: [`Op::Write`] completes `Ok` only when every byte was taken by the kernel; a short
//!   write is carried on by the driver, and a write that cannot be completed is an error.
//! - DISK-3: [`Op::Sync`] that completes `Ok` makes durable every write to that file which had
//!   completed before it was submitted, and the file's length. A sync that failed says nothing about
//!   later syncs: its file must be given up.
//! - DISK-4: a new, renamed or removed name is durable once [`Op::SyncDir`] of its directory
//!   completes.
//! - DISK-5: writes carry a [`Ticket`], and so does what makes, renames or removes a name that a
//!   successor may use; one whose era is revoked is refused with [`DiskError::Fenced`] and touches nothing, and
//!   one in flight holds its gate until the kernel is done with it, even when the arbiter's thread
//!   is gone.
//! - DISK-6: the buffers of an operation belong to the driver until the kernel is done with them.
//! - DISK-7: a read returns what was asked for, or less only at the end of the file.
//! - DISK-8: after [`Op::Forget`] of a synced file, reads of what it names return what the disk holds.
//! - DISK-9: [`Disk::wait`] ends when its time has passed, or sooner where the driver is given up; it
//!   holds up nothing else: no operation, no take-over, and not the driver's end.

pub mod actor;
mod calls;
#[cfg(any(test, feature = "sim"))]
pub mod contract;
pub mod deferred;
mod inline;
pub mod maker;
mod pool;
mod probe;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod threaded;
#[cfg(any(test, feature = "sim"))]
pub mod unsynced;
mod uring;

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::LocalBoxFuture};
use tokio::sync::oneshot;

pub use self::{
    actor::{Answer, DiskActor, DiskHandle, Submit},
    maker::{DiskMaker, Engine, EngineError, RealDisks},
};

pub(crate) use self::{
    calls::zeros,
    deferred::{Deferred, write_deferred},
    inline::take_stall,
};
use crate::era::{FencedError, Ticket};

/// An open file. Clones share one descriptor, which closes with the last of them; operations in
/// flight hold a clone of their own.
#[derive(Clone)]
pub struct File(Arc<Opened>);

struct Opened {
    path: PathBuf,
    backing: Backing,
    /// Until when inline writes to it are avoided, since one has stalled: see `inline.rs`.
    stalled_until_us: AtomicU64,
}

/// What stands behind an open file.
#[derive(Debug)]
pub enum Backing {
    /// A descriptor of this process.
    Descriptor(OwnedFd),
    /// A file of the simulated disk, by its number there.
    Simulated(u64),
}

impl File {
    /// Wraps what a driver opened at `path`.
    #[must_use]
    pub fn new(path: PathBuf, backing: Backing) -> Self {
        Self(Arc::new(Opened { path, backing, stalled_until_us: AtomicU64::new(0) }))
    }

    /// The path it was opened by; it may have been renamed since.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What stands behind it.
    #[must_use]
    pub fn backing(&self) -> &Backing {
        &self.0.backing
    }

    /// Its descriptor; a file of the simulated disk has none, which is `EBADF`.
    fn descriptor(&self) -> Result<BorrowedFd<'_>, rustix::io::Errno> {
        match &self.0.backing {
            Backing::Descriptor(fd) => Ok(fd.as_fd()),
            Backing::Simulated(_) => Err(rustix::io::Errno::BADF),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.0.path).finish()
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must be there; reads only.
    Read,
    /// It must be there; reads and writes.
    ReadWrite,
    /// It must not be there: made anew, empty; reads and writes.
    CreateNew,
    /// Made where it is missing; reads and writes.
    Create,
}

/// What is tried by [`Op::Reserve`], as errors name it.
const RESERVE: &str = "reserve blocks of";
/// The same of [`Op::Sync`].
const SYNC: &str = "sync";
/// The same of [`Op::SyncDir`], and of what must come before.
const SYNC_DIR: &str = "sync directory";
const OPEN_DIR: &str = "open directory";

/// One operation.
#[derive(Debug)]
pub enum Op {
    /// Opens a file. Answer: [`Done::File`].
    Open {
        /// Where.
        path: PathBuf,
        /// How.
        mode: OpenMode,
        /// Under whose right, where it may make the file: a superseded writer must not leave one
        /// that its successor takes for its own.
        ticket: Option<Ticket>,
    },
    /// Writes `bufs` one after the other from `position` on. Answer: [`Done::Unit`].
    Write {
        /// The file.
        file: File,
        /// Byte in the file where the first buffer goes.
        position: u64,
        /// What to write.
        bufs: Vec<Bytes>,
        /// Under whose right.
        ticket: Ticket,
    },
    /// Writes `len` zero bytes from `position` on, so that later writes there find their blocks
    /// written before. Answer: [`Done::Unit`].
    Zero {
        /// The file.
        file: File,
        /// First byte.
        position: u64,
        /// Bytes.
        len: u64,
        /// Under whose right.
        ticket: Ticket,
    },
    /// Finds blocks for `len` bytes from `position` on, and changes neither the file's content nor its
    /// length: later writes there need not wait for them. What the file does not use of them is given
    /// back when it is cut. Fine where the file system cannot. Answer: [`Done::Unit`].
    Reserve {
        /// The file.
        file: File,
        /// First byte.
        position: u64,
        /// Bytes.
        len: u64,
        /// Under whose right.
        ticket: Ticket,
    },
    /// Makes the file's data and length durable (`fdatasync`). Answer: [`Done::Unit`].
    Sync {
        /// The file.
        file: File,
    },
    /// Reads up to `len` bytes. Answer: [`Done::Bytes`].
    Read {
        /// The file.
        file: File,
        /// First byte.
        position: u64,
        /// Most bytes; at most 64 MiB, which the caller checks against what it trusts.
        len: usize,
    },
    /// Cuts or extends the file to `len` bytes. Answer: [`Done::Unit`].
    Truncate {
        /// The file.
        file: File,
        /// Its new length.
        len: u64,
        /// Under whose right.
        ticket: Ticket,
    },
    /// Drops what the page cache has of the file and the disk has too, or is believed to have: what a
    /// failed sync left there would otherwise be read as if it were safe. Answer: [`Done::Unit`].
    Forget {
        /// The file.
        file: File,
        /// Byte from which on; what lies before it may be dropped or not.
        from: u64,
    },
    /// Length of the file. Answer: [`Done::Len`].
    Len {
        /// The file.
        file: File,
    },
    /// Makes a directory, and its parents; fine where it is there. Answer: [`Done::Unit`].
    CreateDir {
        /// Where.
        path: PathBuf,
    },
    /// Makes the names in a directory durable (`fsync`). Answer: [`Done::Unit`].
    SyncDir {
        /// Which.
        path: PathBuf,
    },
    /// Lists a directory in the order of names. Answer: [`Done::Entries`].
    List {
        /// Which.
        path: PathBuf,
    },
    /// Renames a file or directory, replacing a file of the new name. Answer: [`Done::Unit`].
    Rename {
        /// From.
        from: PathBuf,
        /// To.
        to: PathBuf,
        /// Under whose right, where someone else may come to write that name.
        ticket: Option<Ticket>,
    },
    /// Removes a file; fine where it is gone. Answer: [`Done::Unit`].
    Remove {
        /// Which.
        path: PathBuf,
        /// Under whose right, where someone else may come to write that name.
        ticket: Option<Ticket>,
    },
    /// Removes a directory with all in it; fine where it is gone. Answer: [`Done::Unit`].
    RemoveDir {
        /// Which.
        path: PathBuf,
        /// Under whose right, where someone else may come to write that name.
        ticket: Option<Ticket>,
    },
    /// Free and total bytes of the file system that holds `path`. Answer: [`Done::Space`].
    Space {
        /// Any path on it.
        path: PathBuf,
    },
}

impl Op {
    /// The right under which it is done, where it needs one (DISK-5).
    #[must_use]
    pub fn ticket(&self) -> Option<&Ticket> {
        match self {
            Op::Write { ticket, .. }
            | Op::Zero { ticket, .. }
            | Op::Reserve { ticket, .. }
            | Op::Truncate { ticket, .. } => Some(ticket),
            Op::Open { ticket, .. }
            | Op::Rename { ticket, .. }
            | Op::Remove { ticket, .. }
            | Op::RemoveDir { ticket, .. } => ticket.as_ref(),
            _ => None,
        }
    }
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// File name without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes, of a file.
    pub len: u64,
}

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that may still be written.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The answer to an [`Op`].
#[derive(Debug)]
pub enum Done {
    /// It is done.
    Unit,
    /// The opened file.
    File(File),
    /// The bytes read.
    Bytes(Bytes),
    /// The length.
    Len(u64),
    /// The directory's entries, in the order of names.
    Entries(Vec<Entry>),
    /// The room.
    Space(Space),
}

/// Why an operation failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DiskError {
    /// Its era was revoked; nothing was touched.
    #[error(transparent)]
    Fenced(#[from] FencedError),
    /// The operating system refused it.
    #[error("cannot {action} `{}`: {}", path.display(), io::Error::from_raw_os_error(*code))]
    Os {
        /// What was tried: `open`, `write`, `sync`, ….
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// `errno` as in `errno(3)`.
        code: i32,
    },
    /// It is not as it was left in order: somebody has written since.
    #[error("`{}` has {len} bytes, and had {left} when it was closed", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
        /// Its length now; 0 where it is gone.
        len: u64,
        /// Its length then.
        left: u64,
    },
    /// The disk actor is gone, and its directory with it.
    #[error("the disk actor of this directory has stopped")]
    Closed,
}

impl DiskError {
    /// The operating system's refusal `error` to `action` on `path`.
    fn os(action: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        let code = error.into().raw_os_error().unwrap_or(libc::EIO);
        DiskError::Os { action, path: path.to_owned(), code }
    }

    /// Whether the file or directory was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, DiskError::Os { code, .. } if *code == libc::ENOENT)
    }

    /// Whether the file was already there.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        matches!(self, DiskError::Os { code, .. } if *code == libc::EEXIST)
    }

    /// Whether no more files can be open at once: nothing is lost by it.
    #[must_use]
    pub fn is_out_of_files(&self) -> bool {
        matches!(self, DiskError::Os { code: libc::EMFILE | libc::ENFILE, .. })
    }

    /// Whether the disk is full, and nothing is lost by it: the same may be tried again. A sync that
    /// finds no room (thin provisioning, quotas, delayed allocation) has lost what it was to save.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_without_room() && !self.is_failed_sync()
    }

    /// Whether the disk is full, also where something is lost by it.
    fn is_without_room(&self) -> bool {
        matches!(self, DiskError::Os { code: libc::ENOSPC | libc::EDQUOT, .. })
    }

    /// Whether a sync of a file has found no room for what it was to save.
    pub(crate) fn is_full_sync(&self) -> bool {
        let is_of_file = matches!(self, DiskError::Os { action, .. } if *action == SYNC);
        self.is_without_room() && is_of_file
    }

    /// Whether a sync has failed, of a file or of a directory: DISK-3 says what that means.
    #[must_use]
    pub fn is_failed_sync(&self) -> bool {
        matches!(self, DiskError::Os { action, .. } if *action == SYNC || *action == SYNC_DIR)
    }
}

/// What an operation comes to.
pub type DiskResult = Result<Done, DiskError>;

/// Completion of a submitted operation.
pub type Pending = LocalBoxFuture<'static, DiskResult>;

/// Where the answer to a submitted operation goes, from whichever thread completes it.
pub type Reply = oneshot::Sender<DiskResult>;

/// A driver: one an arbiter and data directory. The contract stands in the module's doc.
pub trait Disk {
    /// Starts `op`.
    fn submit(&self, op: Op) -> Pending;

    /// Starts `op`, whose outcome goes to `reply`. Drivers that answer from elsewhere override it,
    /// and so save a task for each operation.
    fn submit_to(&self, op: Op, reply: Reply) {
        let pending = self.submit(op);
        tokio::task::spawn_local(async move {
            // Whoever asked may be gone by now: the operation is done all the same (DISK-1).
            let _ = reply.send(pending.await);
        });
    }

    /// Waits for `time` (DISK-9); for a few callers, since each takes room of the driver. One whose
    /// kernel keeps time better than tokio's timer, which has whole milliseconds, overrides it.
    fn wait(&self, time: Duration) -> LocalBoxFuture<'static, ()> {
        tokio::time::sleep(time).boxed_local()
    }

    /// One line for the person who starts the node: which driver this is, why, and what would
    /// change it.
    fn describe(&self) -> String;
}
