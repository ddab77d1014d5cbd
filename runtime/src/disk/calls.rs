//! Each operation as plain system calls, to its end, on the thread that calls.
//!
//! Rights are not looked at here: who calls [`run`] holds the gate of the operation's ticket.

use std::{
    fs, io,
    io::IoSlice,
    iter,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    fs::{Advice, FallocateFlags, Mode, OFlags},
    io::Errno,
};
use smallvec::SmallVec;

use super::{
    Backing, DiskError, DiskResult, Done, Entry, File, OPEN_DIR, Op, OpenMode, RESERVE, SYNC,
    SYNC_DIR, Space,
};

/// Most buffers that one call takes (`IOV_MAX`).
pub(super) const BUFS_MAX: usize = 1024;
/// No piece in which the page cache holds a file is larger, or crosses a multiple of it: ext4's have
/// at most 2 MiB (Linux 6.18).
const CACHED_PIECE_BYTES: u64 = 8 << 20;
/// Rights of new files, before the process's umask.
pub(super) const FILE_MODE: u32 = 0o644;
/// What files are zeroed with, as often as it takes: one call, one piece. The page cache keeps what
/// one call wrote in pages as large as the call, and a small write into a large one pays for all of
/// it (4 KiB into what 1 MiB calls had zeroed, ext4 of Linux 6.18: 3.0 µs; into this: 1.1 µs).
pub(super) static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Buffers of `len` zeros in all, for the end of a write; they take no memory.
pub(crate) fn zeros(len: u64) -> impl Iterator<Item = Bytes> {
    let whole = iter::repeat_n(&ZEROS[..], (len / ZEROS.len() as u64) as usize);
    let rest = &ZEROS[..(len % ZEROS.len() as u64) as usize];
    whole.chain((!rest.is_empty()).then_some(rest)).map(Bytes::from_static)
}

/// The flags that open a file in `mode`.
pub(super) fn open_flags(mode: OpenMode) -> OFlags {
    OFlags::CLOEXEC
        | match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::ReadWrite => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE,
        }
}

/// Carries out `op`.
pub(super) fn run(op: Op) -> DiskResult {
    match op {
        Op::Open { path, mode, .. } => open(path.as_path(), mode).map(Done::File),
        Op::Write { file, position, bufs, .. } => {
            on(&file, "write", |fd| write_all(fd, position, &bufs)).map(unit)
        }
        Op::Zero { file, position, len, .. } => {
            on(&file, "zero", |fd| zero(fd, position, len)).map(unit)
        }
        Op::Reserve { file, position, len, .. } => {
            on(&file, RESERVE, |fd| reserve(fd, position, len)).map(unit)
        }
        Op::Sync { file } => on(&file, SYNC, |fd| retry(|| rustix::fs::fdatasync(fd))).map(unit),
        Op::Read { file, position, len } => {
            on(&file, "read", |fd| read(fd, position, len)).map(Done::Bytes)
        }
        Op::Truncate { file, len, .. } => {
            on(&file, "truncate", |fd| retry(|| rustix::fs::ftruncate(fd, len))).map(unit)
        }
        Op::Forget { file, from } => {
            // What is cached as one piece is dropped as a whole or not at all.
            let from = from - from % CACHED_PIECE_BYTES;
            let rest = |fd: BorrowedFd<'_>| rustix::fs::fadvise(fd, from, None, Advice::DontNeed);
            on(&file, "drop the cache of", rest).map(unit)
        }
        Op::Len { file } => length(&file),
        Op::CreateDir { path } => at(&path, "create directory", fs::create_dir_all(&path)),
        Op::SyncDir { path } => sync_dir(&path),
        Op::List { path } => list(&path)
            .map(Done::Entries)
            .map_err(|error| DiskError::os("list directory", &path, error)),
        Op::Rename { from, to, .. } => at(&from, "rename", fs::rename(&from, &to)),
        Op::Remove { path, .. } => at(&path, "remove", unless_gone(fs::remove_file(&path))),
        Op::RemoveDir { path, .. } => {
            at(&path, "remove directory", unless_gone(fs::remove_dir_all(&path)))
        }
        Op::Space { path } => space(&path),
    }
}

fn unit((): ()) -> Done {
    Done::Unit
}

fn on<T>(
    file: &File,
    action: &'static str,
    call: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
) -> Result<T, DiskError> {
    file.descriptor().and_then(call).map_err(|errno| DiskError::os(action, file.path(), errno))
}

fn at(path: &Path, action: &'static str, result: io::Result<()>) -> DiskResult {
    result.map(unit).map_err(|error| DiskError::os(action, path, error))
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn open(path: &Path, mode: OpenMode) -> Result<File, DiskError> {
    retry(|| rustix::fs::open(path, open_flags(mode), Mode::from_raw_mode(FILE_MODE)))
        .map(|fd: OwnedFd| File::new(path.to_owned(), Backing::Descriptor(fd)))
        .map_err(|errno| DiskError::os("open", path, errno))
}

/// Writes all of `bufs` from `position` on (DISK-2).
pub(super) fn write_all(fd: BorrowedFd<'_>, position: u64, bufs: &[Bytes]) -> Result<(), Errno> {
    let total: usize = bufs.iter().map(Bytes::len).sum();
    let mut written = 0;
    while written < total {
        let slices = slices_after(bufs, written);
        let taken = retry(|| rustix::io::pwritev(fd, &slices, position + written as u64))?;
        if taken == 0 {
            return Err(Errno::IO);
        }
        written += taken;
    }
    Ok(())
}

/// What of `bufs` comes after the first `skip` bytes, as far as one call takes it.
fn slices_after(bufs: &[Bytes], mut skip: usize) -> SmallVec<[IoSlice<'_>; 16]> {
    let mut slices = SmallVec::new();
    for buf in bufs {
        if skip >= buf.len() {
            skip -= buf.len();
            continue;
        }
        slices.push(IoSlice::new(&buf[skip..]));
        skip = 0;
        if slices.len() == BUFS_MAX {
            break;
        }
    }
    slices
}

fn zero(fd: BorrowedFd<'_>, position: u64, len: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < len {
        let want = (len - done).min(ZEROS.len() as u64) as usize;
        let taken = retry(|| rustix::io::pwrite(fd, &ZEROS[..want], position + done))?;
        if taken == 0 {
            return Err(Errno::IO);
        }
        done += taken as u64;
    }
    Ok(())
}

fn reserve(fd: BorrowedFd<'_>, position: u64, len: u64) -> Result<(), Errno> {
    match retry(|| rustix::fs::fallocate(fd, FallocateFlags::KEEP_SIZE, position, len)) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

fn read(fd: BorrowedFd<'_>, position: u64, len: usize) -> Result<Bytes, Errno> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        // The allocator may have given more room than was asked for: it must not be filled.
        let missing = len - bytes.len();
        let from = position + bytes.len() as u64;
        let taken = if bytes.capacity() == len {
            retry(|| rustix::io::pread(fd, spare_capacity(&mut bytes), from))?
        } else {
            let start = bytes.len();
            bytes.resize(len, 0);
            let taken = retry(|| rustix::io::pread(fd, &mut bytes[start..], from));
            bytes.truncate(start + *taken.as_ref().unwrap_or(&0));
            taken?
        };
        debug_assert!(taken <= missing);
        if taken == 0 {
            break;
        }
    }
    Ok(Bytes::from(bytes))
}

/// Length of an open file: its inode is in memory, so this never waits for the disk.
pub(super) fn length(file: &File) -> DiskResult {
    on(file, "stat", |fd| rustix::fs::fstat(fd)).map(|stat| Done::Len(stat.st_size.max(0) as u64))
}

fn sync_dir(path: &Path) -> DiskResult {
    let dir = rustix::fs::open(path, dir_flags(), Mode::empty());
    // Nothing is lost where only that failed.
    let dir = dir.map_err(|errno| DiskError::os(OPEN_DIR, path, errno))?;
    at(path, SYNC_DIR, retry(|| rustix::fs::fsync(&dir)).map_err(io::Error::from))
}

/// The flags that open a directory to be synced.
pub(super) fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn list(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let stat = match entry.metadata() {
            Ok(stat) => stat,
            // Removed since its name was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        let len = if stat.is_dir() { 0 } else { stat.len() };
        entries.push(Entry { name, is_dir: stat.is_dir(), len });
    }
    entries.sort_unstable();
    Ok(entries)
}

fn space(path: &Path) -> DiskResult {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| DiskError::os("ask for the free space of", path, errno))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Done::Space(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) }))
}
