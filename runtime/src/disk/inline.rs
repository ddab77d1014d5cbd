//! What is done at once, on the arbiter's own thread, since it does not wait for the disk.
//!
//! A buffered write is a copy into the page cache: handing it to a ring or a thread costs 8 to 18
//! times as much as doing it (4 KiB to 64 KiB, ext4, whose buffered writes io_uring always hands to
//! a kernel thread). But the kernel may hold a writer back, when too much is dirty or its journal
//! is full. So the time each takes is looked at: one beyond [`STALL_MIN`] sends that file's writes
//! elsewhere for [`AVOID_TIMES`] as long, and is counted: whatever the disk does, an arbiter stalls
//! for a small part of its time, and after a short stall writes are not kept elsewhere for long, where
//! each costs the wake-up of a thread. It must have waited, too: on a busy machine a thread loses its
//! core for milliseconds, and to write elsewhere would only cost it more.

use std::{
    cell::Cell,
    io::IoSliceMut,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rustix::io::ReadWriteFlags;
use tokio::time::Instant;

use super::{DiskError, DiskResult, Done, File, Op, calls, uring};

/// Most bytes of an inline write: a log's largest, with the zeros behind it.
pub(super) const WRITE_BYTES_MAX: usize = 512 * 1024;
/// Most bytes of an inline read.
const READ_BYTES_MAX: usize = 64 * 1024;
const STALL_MIN: Duration = Duration::from_millis(2);
const AVOID_TIMES: u32 = 32;

thread_local! {
    /// How long the last operation here was held up, if it was, until that is taken.
    static STALLED: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// How long the operation that was just carried out held up this thread, if it did.
pub(crate) fn take_stall() -> Option<Duration> {
    STALLED.take()
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Counts the inline writes that took longer than they may.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalls(Arc<AtomicU64>);

impl Stalls {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self, file: &File, started: Instant, ended: Instant, has_waited: impl Fn() -> bool) {
        let took = ended.duration_since(started);
        if took <= STALL_MIN || !has_waited() {
            return;
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        STALLED.set(Some(took));
        let until = ended.duration_since(*START) + took * AVOID_TIMES;
        file.0.stalled_until_us.store(until.as_micros() as u64, Ordering::Relaxed);
    }
}

fn avoids(file: &File, now: Instant) -> bool {
    let until = file.0.stalled_until_us.load(Ordering::Relaxed);
    until > 0 && (now.duration_since(*START).as_micros() as u64) < until
}

/// Carries out `op` where that does not wait for the disk, or gives it back.
pub(super) fn attempt(op: Op, stalls: &Stalls) -> Result<DiskResult, Op> {
    match op {
        Op::Write { file, position, bufs, ticket } => {
            let started = Instant::now();
            let bytes = bufs.iter().fold(0_usize, |sum, buf| sum.saturating_add(buf.len()));
            if bytes > WRITE_BYTES_MAX || avoids(&file, started) {
                return Err(Op::Write { file, position, bufs, ticket });
            }
            let waits = uring::waits();
            let written = ticket.gate.inline(ticket.era, || {
                file.descriptor().and_then(|fd| calls::write_all(fd, position, &bufs))
            });
            stalls.note(&file, started, Instant::now(), || uring::waits() != waits);
            Ok(written.map_err(DiskError::Fenced).and_then(|written| match written {
                Ok(()) => Ok(Done::Unit),
                Err(errno) => Err(DiskError::os("write", file.path(), errno)),
            }))
        }
        Op::Read { file, position, len } if len <= READ_BYTES_MAX => {
            match read_cached(&file, position, len) {
                Some(bytes) => Ok(Ok(Done::Bytes(bytes))),
                None => Err(Op::Read { file, position, len }),
            }
        }
        Op::Zero { len: 0, ticket, .. } => {
            Ok(ticket.check().map(|()| Done::Unit).map_err(DiskError::Fenced))
        }
        Op::Len { file } => Ok(calls::length(&file)),
        other => Err(other),
    }
}

/// What the page cache holds of the range, if that is all of it.
fn read_cached(file: &File, position: u64, len: usize) -> Option<Bytes> {
    let fd = file.descriptor().ok()?;
    let mut bytes = vec![0; len];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let taken = rustix::io::preadv2(fd, &mut slices, position, ReadWriteFlags::NOWAIT).ok()?;
    (taken == len).then(|| Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        disk::OpenMode,
        era::{EraGate, take_over},
    };

    #[test]
    fn a_thread_that_waits_is_seen_to_have_waited() {
        let before = uring::waits();
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        assert!(never.recv_timeout(Duration::from_millis(5)).is_err());
        assert!(uring::waits() > before);
    }

    #[tokio::test]
    async fn a_stalled_inline_write_sends_its_file_elsewhere_for_some_time_and_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let open =
            Op::Open { path: dir.path().join("file"), mode: OpenMode::CreateNew, ticket: None };
        let Ok(Done::File(file)) = calls::run(open) else { panic!("a new file opens") };
        let ticket =
            take_over(&EraGate::new(Path::new("f")), Duration::from_secs(1)).await.unwrap();
        let write = |len: usize| Op::Write {
            file: file.clone(),
            position: 0,
            bufs: vec![vec![1; len].into()],
            ticket: ticket.clone(),
        };
        let stalls = Stalls::default();
        assert!(attempt(write(WRITE_BYTES_MAX), &stalls).is_ok());
        assert!(attempt(write(WRITE_BYTES_MAX + 1), &stalls).is_err(), "too large");

        let now = Instant::now();
        // A copy of 512 KiB on a busy machine may have been one.
        file.0.stalled_until_us.store(0, Ordering::Relaxed);
        let before = stalls.count();
        stalls.note(&file, now, now + STALL_MIN, || true);
        assert!(!avoids(&file, now));
        assert_eq!(stalls.count(), before, "as long as it may take");
        stalls.note(&file, now, now + STALL_MIN * 2, || false);
        assert_eq!(stalls.count(), before, "it has not waited, but been without a core");
        stalls.note(&file, now, now + STALL_MIN * 2, || true);
        assert_eq!(stalls.count(), before + 1);
        assert_eq!(take_stall(), Some(STALL_MIN * 2), "it is told once");
        assert_eq!(take_stall(), None);
        stalls.note(&file, now, now + Duration::from_secs(60), || true);
        assert!(attempt(write(1), &stalls).is_err(), "it would be made elsewhere");
        stalls.note(&file, now, now + STALL_MIN * 2, || true);
        let ended = now + STALL_MIN * 2;
        let long = STALL_MIN * 2 * AVOID_TIMES;
        assert!(avoids(&file, ended + long - STALL_MIN));
        assert!(!avoids(&file, ended + long + STALL_MIN));
    }
}
