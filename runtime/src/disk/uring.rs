//! The ring: what was handed to the kernel, what waits to be, and what has come back.
//!
//! ```text
//!   start ──► backlog ──submit──► table + submission queue ──► kernel
//!                ▲                     │
//!                └── carried on ◄── reap ──► replies
//! ```
//!
//! Nothing is linked or drained: the kernel promises no order between a write and a sync even so
//! (axboe/liburing #561), hence whoever needs one waits. No buffers are registered: that gains
//! nothing for buffered files, and runs into the limit on locked memory. The ring is not tied to
//! one issuer, so that another thread can take it over, which costs nothing that could be measured.
//!
//! # Invariants
//! - URING-1: what the kernel may still touch is owned by the table, and is leaked rather than
//!   freed where the ring goes first (DISK-6). (It touches a wait only when it takes it.)
//! - URING-2: no more operations are with the kernel than the submission queue has entries, so
//!   neither queue overflows.
//! - URING-3: an abandoned ring starts nothing: what was not with the kernel by then fails.

#![expect(unsafe_code, reason = "the kernel is handed addresses, and hands back descriptors")]

pub(super) mod driver;
mod task;

use std::{
    collections::VecDeque,
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
};

use io_uring::IoUring;
use rustix::io::Errno;
use tokio::io::{Interest, unix::AsyncFd};

pub(super) use self::task::Opcodes;
use self::task::{Came, Iovecs, Step, Task};
use super::{DiskError, DiskResult};

/// Entries of a ring.
const ENTRIES: u32 = 256;
/// Most kernel threads of a ring for files: `fdatasync`s wait in parallel.
const WORKERS: u32 = 16;

// SAFETY: the addresses point into buffers that the same task owns, or into statics, and only the
// kernel follows them. They are bound to no thread.
unsafe impl Send for Iovecs {}

/// See the module.
pub(super) struct Ring {
    ring: IoUring,
    table: Vec<Option<Task>>,
    free: Vec<usize>,
    backlog: VecDeque<Task>,
    abandoned: bool,
}

/// An operation that is over.
pub(super) struct Finished(Task, DiskResult);

impl Finished {
    /// Releases the gate, then answers; not to be called under the ring's lock.
    pub(super) fn answer(self) {
        self.0.answer(self.1);
    }
}

impl Ring {
    /// A ring of [`ENTRIES`].
    pub(super) fn new() -> io::Result<Ring> {
        let ring = build(ENTRIES)?;
        // A kernel before 5.15 does not know it; its own limit is 4 a core then.
        let _ = ring.submitter().register_iowq_max_workers(&mut [WORKERS, 0]);
        let entries = ring.params().sq_entries() as usize;
        Ok(Ring {
            ring,
            table: (0..entries).map(|_| None).collect(),
            free: (0..entries).rev().collect(),
            backlog: VecDeque::new(),
            abandoned: false,
        })
    }

    /// A descriptor of its own that becomes readable when something has completed.
    pub(super) fn completions(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring's descriptor is open for as long as `self.ring` is.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()
    }

    /// Takes `task`, to be handed to the kernel by the next [`Ring::submit`].
    fn start(&mut self, task: Task) {
        self.backlog.push_back(task);
    }

    /// Whether there is something to be reaped.
    fn has_completed(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Whether nothing that somebody waits for is with the kernel, nor waits to be: a wait ends
    /// with its ring (DISK-9).
    pub(super) fn is_quiescent(&self) -> bool {
        self.backlog.is_empty() && self.table.iter().flatten().all(Task::is_wait)
    }

    /// Whether a submission would hand something over.
    pub(super) fn has_more(&self) -> bool {
        !self.abandoned && !self.backlog.is_empty() && !self.free.is_empty()
    }

    /// Starts nothing any more (URING-3).
    pub(super) fn abandon(&mut self, finished: &mut Vec<Finished>) {
        self.abandoned = true;
        let never = self.backlog.drain(..);
        finished.extend(never.map(|task| Finished(task, Err(DiskError::Closed))));
    }

    /// Hands over what waits, as far as there is room.
    ///
    /// # Errors
    /// What the kernel says where it did not take all for now: to be tried again.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        if self.abandoned {
            return Ok(());
        }
        while !self.backlog.is_empty() {
            let Some(index) = self.free.pop() else { break };
            let Some(mut task) = self.backlog.pop_front() else { break };
            let entry = task.entry().user_data(index as u64);
            self.table[index] = Some(task);
            // SAFETY: all that the entry points to is on the heap and owned by the task, which
            // stays in the table, unchanged, until its completion has been reaped (URING-1).
            let pushed = unsafe { self.ring.submission().push(&entry) };
            assert!(pushed.is_ok(), "URING-2: the submission queue is full");
        }
        while !self.ring.submission().is_empty() {
            if self.ring.submit()? == 0 {
                return Err(Errno::AGAIN.into());
            }
        }
        Ok(())
    }

    /// Takes what has completed. What came back short is carried on by the next submission.
    pub(super) fn reap(&mut self, finished: &mut Vec<Finished>) {
        for completion in self.ring.completion() {
            let index = completion.user_data() as usize;
            let mut task = self.table[index].take().expect("the kernel completes a task once");
            self.free.push(index);
            let came = came(&mut task, completion.result());
            match task.advance(came) {
                Step::Done(result) => finished.push(Finished(task, result)),
                // It keeps its gate until here: the successor waits for it.
                Step::Again if self.abandoned => {
                    finished.push(Finished(task, Err(DiskError::Closed)));
                }
                Step::Again => self.backlog.push_back(task),
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.table.iter().flatten().all(Task::is_wait) {
            // URING-1: the kernel may still read and write their buffers.
            mem::forget(mem::take(&mut self.table));
        }
    }
}

/// Watches a ring's descriptor on the reactor of the current thread.
fn watch(completions: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` answers with the same open descriptor for as long as it lives.
    let watched = unsafe { AsyncFd::register_with_interest(completions, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// How often the current thread has given up its core to wait for something.
pub(super) fn waits() -> i64 {
    let mut usage = mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure at this address; all zeros are a value of it, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    usage.ru_nvcsw
}

/// A ring with the flags that suit, or on an old kernel (before 5.19) without them.
pub(super) fn build(entries: u32) -> io::Result<IoUring> {
    match IoUring::builder().setup_coop_taskrun().setup_submit_all().build(entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(entries),
        other => other,
    }
}

/// What the kernel's `result` means for `task`.
fn came(task: &mut Task, result: i32) -> Result<Came, Errno> {
    let Ok(count) = u32::try_from(result) else {
        return Err(Errno::from_raw_os_error(-result));
    };
    if task.opens() {
        // SAFETY: an open that succeeded answers with a new descriptor, which nobody else owns.
        return Ok(Came::Opened(unsafe { OwnedFd::from_raw_fd(result) }));
    }
    if let Some(bytes) = task.reads_into() {
        let len = bytes.len() + count as usize;
        assert!(len <= bytes.capacity(), "DISK-6: the kernel wrote past the buffer");
        // SAFETY: the kernel has written `count` bytes behind the first `bytes.len()`, which the
        // entry had as its address, within the capacity.
        unsafe { bytes.set_len(len) };
    }
    Ok(Came::Count(count as usize))
}
