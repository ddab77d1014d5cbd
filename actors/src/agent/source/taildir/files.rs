//! The port through which a tailer sees files, and the operating system behind it.
//!
//! These are files of other people, so they do not go through the disk actor: they may lie anywhere,
//! on anything, and each call may block. They are made on a thread that is allowed to.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::fs::{DirEntryExt, FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use rustix::fs::{AtFlags, CWD, FileType, OFlags, StatxFlags};

/// Which file it is, whatever its name: the identity that a rename keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileKey {
    /// Number of the device.
    pub device: u64,
    /// Number of the inode there.
    pub inode: u64,
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Which file it is.
    pub key: FileKey,
    /// When its inode was made, in nanoseconds since 1970, where the file system tells: two files
    /// that had the same inode number one after the other differ in it.
    pub born_ns: Option<i64>,
    /// When it was last written, in nanoseconds since 1970.
    pub written_ns: i64,
    /// Its length in bytes.
    pub len: u64,
    /// How many names it has; 0 once it is removed.
    pub links: u64,
    /// Whether it is a regular file: no directory, FIFO, socket or device.
    pub is_regular: bool,
}

impl FileStat {
    /// When it was last written, in whole milliseconds since 1970.
    #[must_use]
    pub fn written_ms(&self) -> i64 {
        self.written_ns.div_euclid(1_000_000)
    }
}

/// What a tailer asks of a file system.
pub trait Files {
    /// Whether a call may block its thread, as those of real files do.
    const BLOCKS: bool = true;

    /// An open file. Clones share it; it closes with the last of them.
    type Handle: Clone;

    /// Paths that match `pattern`, in the order of names.
    ///
    /// # Errors
    /// As the operating system says; a pattern that cannot be read is [`io::ErrorKind::InvalidInput`].
    fn glob(&mut self, pattern: &str) -> io::Result<Vec<PathBuf>>;

    /// Names in `dir`, with the inode number of each; but no symbolic links, which may lead to files
    /// that nobody asked for.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&mut self, dir: &Path) -> io::Result<Vec<(String, u64)>>;

    /// What stands at `path`, or where it leads to as a symbolic link.
    ///
    /// # Errors
    /// As the operating system says.
    fn stat(&mut self, path: &Path) -> io::Result<FileStat>;

    /// Opens the regular file at `path`, or where it leads to, for reading.
    ///
    /// # Errors
    /// As the operating system says; also where something other than a regular file stands there.
    fn open(&mut self, path: &Path) -> io::Result<(Self::Handle, FileStat)>;

    /// What an open file is like now.
    ///
    /// # Errors
    /// As the operating system says.
    fn stat_open(&mut self, file: &Self::Handle) -> io::Result<FileStat>;

    /// Up to `len` bytes from `position` on; less only at the end of the file.
    ///
    /// # Errors
    /// As the operating system says.
    fn read(&mut self, file: &Self::Handle, position: u64, len: usize) -> io::Result<Bytes>;
}

/// The machine's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

/// Asks for an inode's birth too, which `stat` does not tell.
fn look(dir: impl AsFd, path: &Path, flags: AtFlags) -> io::Result<FileStat> {
    let of = rustix::fs::statx(dir, path, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let tells_birth = of.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(FileStat {
        key: FileKey {
            device: rustix::fs::makedev(of.stx_dev_major, of.stx_dev_minor),
            inode: of.stx_ino,
        },
        born_ns: tells_birth.then(|| nanos(of.stx_btime.tv_sec, of.stx_btime.tv_nsec)),
        written_ns: nanos(of.stx_mtime.tv_sec, of.stx_mtime.tv_nsec),
        len: of.stx_size,
        links: u64::from(of.stx_nlink),
        is_regular: FileType::from_raw_mode(of.stx_mode.into()) == FileType::RegularFile,
    })
}

fn nanos(seconds: i64, nanos: u32) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos.into())
}

impl Files for SystemFiles {
    type Handle = Arc<File>;

    fn glob(&mut self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let paths = glob::glob(pattern)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        // A directory that cannot be read hides its files and no others.
        Ok(paths.filter_map(Result::ok).collect())
    }

    fn list(&mut self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_symlink() {
                continue;
            }
            // A name that is no UTF-8 cannot continue a name that was found by a pattern.
            if let Ok(name) = entry.file_name().into_string() {
                names.push((name, entry.ino()));
            }
        }
        names.sort();
        Ok(names)
    }

    fn stat(&mut self, path: &Path) -> io::Result<FileStat> {
        look(CWD, path, AtFlags::empty())
    }

    fn open(&mut self, path: &Path) -> io::Result<(Arc<File>, FileStat)> {
        // Not blocking, or a FIFO that came to stand there would hang the open.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("open flags are small");
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let stat = look(&file, Path::new(""), AtFlags::EMPTY_PATH)?;
        if !stat.is_regular {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok((Arc::new(file), stat))
    }

    fn stat_open(&mut self, file: &Arc<File>) -> io::Result<FileStat> {
        look(file.as_fd(), Path::new(""), AtFlags::EMPTY_PATH)
    }

    fn read(&mut self, file: &Arc<File>, position: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = BytesMut::zeroed(len);
        let mut filled = 0;
        while filled < len {
            match file.read_at(&mut bytes[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.freeze())
    }
}

#[cfg(test)]
mod tests;
