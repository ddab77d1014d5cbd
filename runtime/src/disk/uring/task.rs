//! One operation on the ring: what it hands to the kernel, and what it does with what comes back.
//!
//! ```text
//!   entry() ──► kernel ──► advance(came) ──► Done(result)
//!      ▲                        │
//!      └──────── Again ◄────────┘   a short write or read, the next chunk of zeros, an open
//!                                   directory to be synced, an interruption
//! ```
//!
//! A wait is one, too, so that it is as exact as the kernel's clock.

use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use io_uring::{Probe, opcode, squeue, types};
use rustix::io::Errno;

use crate::{
    disk::{
        Backing, DiskError, DiskResult, Done, File, OPEN_DIR, Op, OpenMode, RESERVE, Reply, SYNC,
        SYNC_DIR,
        calls::{self, BUFS_MAX, FILE_MODE, ZEROS},
    },
    era::{InFlight, Ticket},
};

/// Reads beyond this go to a kernel thread at once, since a cached one is copied by who submits it.
const READ_BYTES_SUBMIT: usize = 1 << 20;
/// Most bytes of one read or write call, below what the kernel takes at most.
const CALL_BYTES_MAX: usize = 1 << 30;

/// The operations of this kernel beyond `writev`, `read`, `fsync` and `timeout`.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::disk) struct Opcodes {
    openat: bool,
    renameat: bool,
    unlinkat: bool,
    ftruncate: bool,
    fallocate: bool,
}

impl Opcodes {
    /// What `probe` found; nothing where not even writes, reads, syncs and timeouts are
    /// there.
    pub(in crate::disk) fn of(probe: &Probe) -> Option<Opcodes> {
        let needed = [
            opcode::Writev::CODE,
            opcode::Write::CODE,
            opcode::Read::CODE,
            opcode::Fsync::CODE,
            opcode::Timeout::CODE,
        ];
        needed.into_iter().all(|code| probe.is_supported(code)).then(|| Opcodes {
            openat: probe.is_supported(opcode::OpenAt::CODE),
            renameat: probe.is_supported(opcode::RenameAt::CODE),
            unlinkat: probe.is_supported(opcode::UnlinkAt::CODE),
            ftruncate: probe.is_supported(opcode::Ftruncate::CODE),
            fallocate: probe.is_supported(opcode::Fallocate::CODE),
        })
    }

    /// Whether `op` goes through the ring.
    pub(super) fn take(self, op: &Op) -> bool {
        match op {
            Op::Write { file, .. }
            | Op::Zero { file, .. }
            | Op::Sync { file }
            | Op::Read { file, .. } => file.descriptor().is_ok(),
            Op::Truncate { file, .. } => self.ftruncate && file.descriptor().is_ok(),
            Op::Reserve { file, .. } => self.fallocate && file.descriptor().is_ok(),
            Op::Open { path, .. } | Op::SyncDir { path } => self.openat && name(path).is_some(),
            Op::Rename { from, to, .. } => {
                self.renameat && name(from).is_some() && name(to).is_some()
            }
            Op::Remove { path, .. } => self.unlinkat && name(path).is_some(),
            _ => false,
        }
    }
}

/// Addresses of buffers, for the kernel alone.
#[derive(Default)]
pub(super) struct Iovecs(Vec<libc::iovec>);

impl Iovecs {
    fn push(&mut self, bytes: &[u8]) {
        self.0
            .push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
    }
}

/// What came back.
pub(super) enum Came {
    /// A descriptor.
    Opened(OwnedFd),
    /// How many bytes, or nothing of interest.
    Count(usize),
}

/// What is next.
pub(super) enum Step {
    /// It goes to the kernel once more.
    Again,
    /// It is over.
    Done(DiskResult),
}

/// See the module.
pub(super) struct Task {
    work: Work,
    ticket: Option<Ticket>,
    gate: Option<InFlight>,
    reply: Reply,
    /// It must not be tried on the submitting thread first.
    by_worker: bool,
}

enum Work {
    Open {
        path: PathBuf,
        name: CString,
        mode: OpenMode,
    },
    Write {
        file: File,
        position: u64,
        bufs: Vec<Bytes>,
        total: usize,
        written: usize,
        at: Iovecs,
    },
    Zero {
        file: File,
        position: u64,
        len: u64,
    },
    Reserve {
        file: File,
        position: u64,
        len: u64,
    },
    Sync {
        file: File,
    },
    Read {
        file: File,
        position: u64,
        len: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: File,
        len: u64,
    },
    SyncDir {
        path: PathBuf,
        name: CString,
        dir: Option<OwnedFd>,
    },
    Rename {
        from: PathBuf,
        names: (CString, CString),
    },
    Remove {
        path: PathBuf,
        name: CString,
    },
    /// On the heap, since its entry points to it.
    Wait {
        time: Box<types::Timespec>,
    },
}

impl Task {
    /// `op`, which [`Opcodes::take`]s it, with its gate held.
    pub(super) fn new(op: Op, gate: Option<InFlight>, reply: Reply) -> Task {
        let ticket = op.ticket().cloned();
        let named = |path: &Path| name(path).expect("looked at by `Opcodes::take`");
        let work = match op {
            Op::Open { path, mode, .. } => Work::Open { name: named(&path), path, mode },
            Op::Write { file, position, bufs, .. } => {
                let total = bufs.iter().map(Bytes::len).sum();
                Work::Write { file, position, bufs, total, written: 0, at: Iovecs::default() }
            }
            Op::Zero { file, position, len, .. } => Work::Zero { file, position, len },
            Op::Reserve { file, position, len, .. } => Work::Reserve { file, position, len },
            Op::Sync { file } => Work::Sync { file },
            Op::Read { file, position, len } => {
                Work::Read { file, position, len, bytes: Vec::with_capacity(len) }
            }
            Op::Truncate { file, len, .. } => Work::Truncate { file, len },
            Op::SyncDir { path } => Work::SyncDir { name: named(&path), path, dir: None },
            Op::Rename { from, to, .. } => Work::Rename { names: (named(&from), named(&to)), from },
            Op::Remove { path, .. } => Work::Remove { name: named(&path), path },
            other => unreachable!("`Opcodes::take` does not let {other:?} through"),
        };
        let by_worker = matches!(work, Work::Read { len, .. } if len > READ_BYTES_SUBMIT);
        Task { work, ticket, gate, reply, by_worker }
    }

    /// The end of `time`.
    pub(super) fn wait(time: Duration, reply: Reply) -> Task {
        let work = Work::Wait { time: Box::new(time.into()) };
        Task { work, ticket: None, gate: None, reply, by_worker: false }
    }

    /// Whether nobody needs it once its ring is given up.
    pub(super) fn is_wait(&self) -> bool {
        matches!(self.work, Work::Wait { .. })
    }

    /// Whether what comes back is a descriptor.
    pub(super) fn opens(&self) -> bool {
        matches!(self.work, Work::Open { .. } | Work::SyncDir { dir: None, .. })
    }

    /// The buffer behind whose bytes the kernel writes.
    pub(super) fn reads_into(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.work {
            Work::Read { bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    /// What is handed to the kernel next; it points into `self`, on the heap.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        let entry = self.work.entry();
        if self.by_worker { entry.flags(squeue::Flags::ASYNC) } else { entry }
    }

    /// Takes note of what came back.
    pub(super) fn advance(&mut self, came: Result<Came, Errno>) -> Step {
        match came {
            // Cancelled: the thread that had submitted it has ended before a worker came to it.
            Err(Errno::INTR | Errno::CANCELED) => self.go_on(),
            // A worker waits where the attempt on the submitting thread would not.
            Err(Errno::AGAIN) if !self.by_worker => {
                self.by_worker = true;
                self.go_on()
            }
            Err(Errno::NOENT) if matches!(self.work, Work::Remove { .. }) => {
                Step::Done(Ok(Done::Unit))
            }
            Err(Errno::OPNOTSUPP) if matches!(self.work, Work::Reserve { .. }) => {
                Step::Done(Ok(Done::Unit))
            }
            Err(Errno::TIME) if self.is_wait() => Step::Done(Ok(Done::Unit)),
            Err(errno) => Step::Done(Err(self.work.error(errno))),
            Ok(came) => match self.work.advance(came) {
                Step::Again => self.go_on(),
                done => done,
            },
        }
    }

    /// Once more, unless it has been superseded: its successor waits for it, and needs no more of
    /// it than the kernel has done.
    fn go_on(&self) -> Step {
        let superseded = self.ticket.as_ref().and_then(|ticket| ticket.check().err());
        superseded.map_or(Step::Again, |fenced| Step::Done(Err(fenced.into())))
    }

    /// Releases the gate, then answers.
    pub(super) fn answer(self, result: DiskResult) {
        // Before the answer: who has it may count on the gate.
        drop((self.gate, self.ticket, self.work));
        // Whoever asked may be gone by now: the operation is done all the same (DISK-1).
        let _ = self.reply.send(result);
    }
}

impl Work {
    fn entry(&mut self) -> squeue::Entry {
        const HERE: types::Fd = types::Fd(libc::AT_FDCWD);
        match self {
            Work::Open { name, mode, .. } => opcode::OpenAt::new(HERE, name.as_ptr())
                .flags(calls::open_flags(*mode).bits().cast_signed())
                .mode(FILE_MODE)
                .build(),
            Work::Write { file, position, bufs, written, at, .. } => {
                gather(at, bufs, *written);
                opcode::Writev::new(fd(file), at.0.as_ptr(), at.0.len() as u32)
                    .offset(*position + *written as u64)
                    .build()
            }
            Work::Zero { file, position, len } => {
                let piece = (*len).min(ZEROS.len() as u64) as u32;
                opcode::Write::new(fd(file), ZEROS.as_ptr(), piece).offset(*position).build()
            }
            Work::Reserve { file, position, len } => opcode::Fallocate::new(fd(file), *len)
                .offset(*position)
                .mode(libc::FALLOC_FL_KEEP_SIZE)
                .build(),
            Work::Sync { file } => {
                opcode::Fsync::new(fd(file)).flags(types::FsyncFlags::DATASYNC).build()
            }
            Work::Read { file, position, len, bytes } => {
                let want = (*len - bytes.len()).min(CALL_BYTES_MAX) as u32;
                let from = *position + bytes.len() as u64;
                let to = bytes.spare_capacity_mut().as_mut_ptr().cast();
                opcode::Read::new(fd(file), to, want).offset(from).build()
            }
            Work::Truncate { file, len } => opcode::Ftruncate::new(fd(file), *len).build(),
            Work::SyncDir { dir: Some(dir), .. } => {
                opcode::Fsync::new(types::Fd(dir.as_raw_fd())).build()
            }
            Work::SyncDir { name, dir: None, .. } => opcode::OpenAt::new(HERE, name.as_ptr())
                .flags(calls::dir_flags().bits().cast_signed())
                .build(),
            Work::Rename { names: (from, to), .. } => {
                opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build()
            }
            Work::Remove { name, .. } => opcode::UnlinkAt::new(HERE, name.as_ptr()).build(),
            Work::Wait { time } => opcode::Timeout::new(&raw const **time).build(),
        }
    }

    fn advance(&mut self, came: Came) -> Step {
        match (&mut *self, came) {
            (Work::Open { path, .. }, Came::Opened(fd)) => {
                let file = File::new(std::mem::take(path), Backing::Descriptor(fd));
                return Step::Done(Ok(Done::File(file)));
            }
            (Work::SyncDir { dir, .. }, Came::Opened(fd)) => {
                *dir = Some(fd);
                return Step::Again;
            }
            (Work::Write { .. } | Work::Zero { .. }, Came::Count(0)) => {
                return Step::Done(Err(self.error(Errno::IO)));
            }
            (Work::Write { total, written, .. }, Came::Count(count)) => {
                *written += count;
                if written < total {
                    return Step::Again;
                }
            }
            (Work::Zero { position, len, .. }, Came::Count(count)) => {
                *position += count as u64;
                *len -= count as u64;
                if *len > 0 {
                    return Step::Again;
                }
            }
            (Work::Read { len, bytes, .. }, Came::Count(count)) => {
                if count > 0 && bytes.len() < *len {
                    return Step::Again;
                }
                return Step::Done(Ok(Done::Bytes(Bytes::from(std::mem::take(bytes)))));
            }
            _ => {}
        }
        Step::Done(Ok(Done::Unit))
    }

    fn error(&self, errno: Errno) -> DiskError {
        let (action, path) = match self {
            Work::Open { path, .. } => ("open", path.as_path()),
            Work::Write { file, .. } => ("write", file.path()),
            Work::Zero { file, .. } => ("zero", file.path()),
            Work::Reserve { file, .. } => (RESERVE, file.path()),
            Work::Sync { file } => (SYNC, file.path()),
            Work::Read { file, .. } => ("read", file.path()),
            Work::Truncate { file, .. } => ("truncate", file.path()),
            Work::SyncDir { path, dir: None, .. } => (OPEN_DIR, path.as_path()),
            Work::SyncDir { path, .. } => (SYNC_DIR, path.as_path()),
            Work::Rename { from, .. } => ("rename", from.as_path()),
            Work::Remove { path, .. } => ("remove", path.as_path()),
            Work::Wait { .. } => ("wait on", Path::new("the ring")),
        };
        DiskError::os(action, path, errno)
    }
}

/// The addresses of what of `bufs` comes after the first `skip` bytes, as far as one call takes it.
fn gather(at: &mut Iovecs, bufs: &[Bytes], mut skip: usize) {
    at.0.clear();
    let mut room = CALL_BYTES_MAX;
    for buf in bufs {
        if skip >= buf.len() {
            skip -= buf.len();
            continue;
        }
        let piece = &buf[skip..buf.len().min(skip.saturating_add(room))];
        at.push(piece);
        room -= piece.len();
        skip = 0;
        if at.0.len() == BUFS_MAX || room == 0 {
            break;
        }
    }
}

fn name(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

fn fd(file: &File) -> types::Fd {
    // `Opcodes::take` lets only files with a descriptor through.
    types::Fd(file.descriptor().map_or(-1, |fd| -> RawFd { fd.as_raw_fd() }))
}
