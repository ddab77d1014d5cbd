//! A data directory: whose it is, which format it has, and that nobody else uses it now.
//!
//! ```text
//!   <data>/meta.properties        Kafka's: version, node.id, cluster.id, directory.id; and flumen.format
//!   <data>/.lock                  held (flock) while a process uses the directory
//!   <data>/.kafka_cleanshutdown   Kafka's: there from a clean stop to the next start
//!   <data>/flumen.listen          where the process that uses it can be reached, while it listens
//! ```
//!
//! This runs before any actor does and once more when all have stopped, so it uses `std::fs` and may
//! block. What it writes is durable when it returns: file, and name in the directory.
//!
//! # Invariants
//! - DIR-1: a directory that is refused is left as it was.
//! - DIR-2: `meta.properties` is written once, whole (beside, synced, renamed), and never changed.
//! - DIR-3: the marker of a clean stop is gone, durably, before anything else of the directory can
//!   be written.

pub mod kafka;
mod listen;
mod properties;

pub use listen::reached_at;

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::rng::Rng;
use properties::{Meta, MetaError};

/// The newest layout of a data directory that this program knows, and the one it makes.
pub const FORMAT: u32 = 1;

const META: &str = "meta.properties";
const META_TMP: &str = "meta.properties.tmp";
const LOCK: &str = ".lock";
const CLEAN: &str = ".kafka_cleanshutdown";

/// A data directory in use. Others are kept out until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    meta: Meta,
    was_clean: bool,
    /// Released by the kernel with the descriptor, however the process ends.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Not even the directory above it is there.
    #[error(
        "data directory `{}` cannot be made because `{}` does not exist: make that first, or check \
         that its disk is mounted",
        path.display(), parent.display()
    )]
    NoParent {
        /// The data directory.
        path: PathBuf,
        /// What is missing.
        parent: PathBuf,
    },
    /// The operating system refuses.
    #[error(
        "cannot {action} `{}`: {error}: the user of this process needs a directory that it may \
         write, on a disk with room", path.display()
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        #[source]
        error: io::Error,
    },
    /// Another process uses it.
    #[error(
        "data directory `{}` is in use by another process{}: stop that one, or give this one a \
         directory of its own", path.display(), owner(*pid)
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The process that holds it, where it could be told.
        pid: Option<u32>,
    },
    /// It has files in it, and no `meta.properties`.
    #[error(
        "directory `{}` holds other files (`{found}`) and no {META}: it is no data directory; give \
         an empty one, or a new path", path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of its files.
        found: String,
    },
    /// A later version of this program made it.
    #[error(
        "data directory `{}` has format {found}, and this program knows formats up to {FORMAT}; it \
         was left untouched: use the newer program that made it", path.display()
    )]
    Newer {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Its `meta.properties` makes no sense.
    #[error("`{}` {error}; the directory was left untouched: put that file back from a copy", path.display())]
    Meta {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: MetaError,
    },
    /// It belongs to another node.
    #[error(
        "data directory `{}` belongs to node {found}, not to node {wanted}: give each node its own \
         directory", path.display()
    )]
    OtherNode {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: u32,
        /// Who wanted it.
        wanted: u32,
    },
    /// It belongs to another cluster than the node's other directories.
    #[error(
        "data directory `{}` belongs to cluster {found}, and the node's others to {wanted}: all \
         directories of a node must belong to one cluster", path.display()
    )]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// Its cluster, as Kafka prints it.
        found: String,
        /// The others'.
        wanted: String,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// Whom a directory has to belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The node's number; `None` takes what the directory says, and 1 for a new directory.
    pub node: Option<u32>,
    /// The cluster; `None` takes what the directory says, and makes a new one for a new directory.
    pub cluster: Option<Uuid>,
}

impl DataDir {
    /// Takes the directory into use; makes it (but not its parents) where it is not there. `rng`
    /// draws the ids of a new one.
    ///
    /// # Errors
    /// [`DataDirError`]; the directory is then left as it was (DIR-1).
    pub fn open(path: &Path, identity: Identity, rng: &mut Rng) -> Result<DataDir, DataDirError> {
        make_directory(path)?;
        // A directory that is not ours must not even get a lock file.
        check_contents(path, identity)?;
        let lock = lock(path)?;
        // Another process may have made it ours, or someone else's, before we held the lock.
        let meta = match check_contents(path, identity)? {
            Some(meta) => meta,
            None => create(path, identity, rng)?,
        };
        let was_clean = take_clean_marker(path)?;
        listen::forget(path)?;
        Ok(DataDir { path: path.to_path_buf(), meta, was_clean, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node that it belongs to.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.meta.node
    }

    /// The cluster that it belongs to.
    #[must_use]
    pub fn cluster(&self) -> Uuid {
        self.meta.cluster
    }

    /// Its own id: partitions say by it which directory they lie in (KIP-858).
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.meta.directory
    }

    /// Whether the process before stopped cleanly: every log cut to its last batch, synced, and its
    /// end recorded. False in a new directory.
    #[must_use]
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Records a clean stop and lets go of the directory: the last thing that a process does, when
    /// every log in it has been closed.
    ///
    /// # Errors
    /// [`DataDirError::Io`]: the next start then has to look through the logs' tails.
    pub fn close(self) -> Result<(), DataDirError> {
        listen::forget(&self.path)?;
        // Kafka's version 0; the epoch of a broker that has no controller is -1.
        let marker = br#"{"version":0,"brokerEpoch":-1}"#;
        write_whole(&self.path, CLEAN, ".kafka_cleanshutdown.tmp", marker)
    }
}

/// A UUID as Kafka writes it: base64 of RFC 4648 §5, without padding, 22 characters.
#[must_use]
pub fn kafka_id(id: Uuid) -> String {
    properties::to_base64(id)
}

/// The UUID that Kafka writes so: what [`kafka_id`] undoes.
#[must_use]
pub fn from_kafka_id(text: &str) -> Option<Uuid> {
    properties::from_base64(text)
}

impl DataDirError {
    /// Whether there was no room on its disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { error, .. } if matches!(error.kind(), StorageFull | QuotaExceeded))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |error| DataDirError::Io { action, path: path.to_path_buf(), error }
}

/// Only the last name is made: a missing parent is more often a disk that is not mounted.
fn make_directory(path: &Path) -> Result<(), DataDirError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    if !parent.exists() {
        return Err(DataDirError::NoParent { path: path.into(), parent: parent.into() });
    }
    fs::create_dir(path).map_err(io_error("make the data directory", path))?;
    sync_directory(parent)
}

/// What `meta.properties` says where it is there and ours; `None` in an empty directory.
fn check_contents(path: &Path, wanted: Identity) -> Result<Option<Meta>, DataDirError> {
    let file = path.join(META);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return check_empty(path).map(|()| None);
        }
        Err(error) => return Err(io_error("read", &file)(error)),
    };
    let meta = match Meta::parse(&text) {
        Ok(meta) => meta,
        Err(MetaError::Newer(found)) => {
            return Err(DataDirError::Newer { path: path.into(), found });
        }
        Err(error) => return Err(DataDirError::Meta { path: file, error }),
    };
    if let Some(wanted) = wanted.node.filter(|wanted| *wanted != meta.node) {
        let found = meta.node;
        return Err(DataDirError::OtherNode { path: path.into(), found, wanted });
    }
    match wanted.cluster {
        Some(cluster) if cluster != meta.cluster => Err(DataDirError::OtherCluster {
            path: path.into(),
            found: kafka_id(meta.cluster),
            wanted: kafka_id(cluster),
        }),
        _ => Ok(Some(meta)),
    }
}

fn check_empty(path: &Path) -> Result<(), DataDirError> {
    let entries = fs::read_dir(path).map_err(io_error("list", path))?;
    for entry in entries {
        let entry = entry.map_err(io_error("list", path))?;
        let name = entry.file_name();
        // What a start that was interrupted leaves, and what every new ext4 has.
        let expected = [META_TMP, LOCK, "lost+found"];
        if !expected.iter().any(|expected| name == *expected) {
            let found = name.to_string_lossy().into_owned();
            return Err(DataDirError::Foreign { path: path.into(), found });
        }
    }
    Ok(())
}

/// Keeps every node out of the data directory `path` until it is dropped: for tools that change
/// files behind a node's back.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File);

/// Keeps every node out of a data directory.
///
/// # Errors
/// [`DataDirError::InUse`] where a node runs on it.
pub fn hold(path: &Path) -> Result<Held, DataDirError> {
    lock(path).map(Held)
}

/// Whether a node runs on the data directory `path`, as far as can be told; nothing is changed by asking.
#[must_use]
pub fn is_in_use(path: &Path) -> bool {
    let Ok(lock) = File::open(path.join(LOCK)) else { return false };
    let operation = rustix::fs::FlockOperation::NonBlockingLockShared;
    rustix::fs::flock(&lock, operation) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// Takes the lock, and writes our number into its file for the sentence that others get.
fn lock(path: &Path) -> Result<File, DataDirError> {
    let file = path.join(LOCK);
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&file);
    let mut lock = opened.map_err(io_error("open", &file))?;
    let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    match rustix::fs::flock(&lock, operation) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let pid = lock.read_to_string(&mut pid).ok().and_then(|_| pid.trim().parse().ok());
            return Err(DataDirError::InUse { path: path.into(), pid });
        }
        Err(error) => return Err(io_error("lock", &file)(error.into())),
    }
    let pid = format!("{}\n", std::process::id());
    let noted =
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(pid.as_bytes()));
    noted.map_err(io_error("write", &file))?;
    Ok(lock)
}

fn create(path: &Path, identity: Identity, rng: &mut Rng) -> Result<Meta, DataDirError> {
    let cluster = identity.cluster.unwrap_or_else(|| rng.uuid());
    let node = identity.node.unwrap_or(1);
    let meta = Meta { node, cluster, directory: rng.uuid() };
    write_whole(path, META, META_TMP, meta.to_string().as_bytes())?;
    Ok(meta)
}

/// Whether the marker of a clean stop was there; it is not any more (DIR-3).
fn take_clean_marker(path: &Path) -> Result<bool, DataDirError> {
    let marker = path.join(CLEAN);
    match fs::remove_file(&marker) {
        Ok(()) => sync_directory(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("remove", &marker)(error)),
    }
}

/// Writes a file so that it is there whole or not at all (DIR-2).
fn write_whole(dir: &Path, name: &str, beside: &str, bytes: &[u8]) -> Result<(), DataDirError> {
    let (beside, target) = (dir.join(beside), dir.join(name));
    let write = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &target)
    };
    write().map_err(io_error("write", &target))?;
    sync_directory(dir)
}

fn sync_directory(path: &Path) -> Result<(), DataDirError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(io_error("sync", path))
}

#[cfg(test)]
mod tests;
