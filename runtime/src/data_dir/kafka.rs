//! A log directory of Kafka's own, and how it becomes a data directory of ours.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, fcntl_lock, flock},
    io::Errno,
};
use uuid::Uuid;

use super::{
    CLEAN, DataDirError, LOCK, META, META_TMP, io_error,
    properties::{Meta, MetaError},
    write_whole,
};

/// Keeps Kafka and every node of ours out of a directory until it is dropped.
#[derive(Debug)]
pub struct Held(
    #[expect(dead_code, reason = "the locks are held as long as the file is open")] File,
);

/// Keeps Kafka and every node of ours out of Kafka's directory at `path`. Nothing that is in it changes.
///
/// # Errors
/// [`DataDirError::InUse`] where one of them runs on it.
pub fn hold(path: &Path) -> Result<Held, DataDirError> {
    let file = path.join(LOCK);
    let opened = File::options().write(true).create(true).truncate(false).open(&file);
    let lock = opened.map_err(io_error("open", &file))?;
    // The first is our nodes', the second that of Java: neither knows of the other's.
    let operation = FlockOperation::NonBlockingLockExclusive;
    match flock(&lock, operation).and_then(|()| fcntl_lock(&lock, operation)) {
        Ok(()) => Ok(Held(lock)),
        Err(Errno::WOULDBLOCK | Errno::ACCESS) => {
            Err(DataDirError::InUse { path: path.into(), pid: None })
        }
        Err(error) => Err(io_error("lock", &file)(error.into())),
    }
}

/// What Kafka's `meta.properties` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KafkaDir {
    meta: Meta,
    is_clean: bool,
}

impl KafkaDir {
    /// What `path` is, if it is a log directory of Kafka's; none where it is ours, or another's.
    ///
    /// # Errors
    /// [`DataDirError`] where Kafka made it in a way that is not understood.
    pub fn find(path: &Path) -> Result<Option<KafkaDir>, DataDirError> {
        let file = path.join(META);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &file)(error)),
        };
        match Meta::parse(&text) {
            Err(MetaError::Missing("flumen.format")) => {}
            _ => return Ok(None),
        }
        let meta = Meta::parse_kafka(&text);
        let meta = meta.map_err(|error| DataDirError::Meta { path: file, error })?;
        Ok(Some(KafkaDir { meta, is_clean: path.join(CLEAN).exists() }))
    }

    /// What `path` was before an import that was cut short had finished with it; none where it never was
    /// anybody's.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn taken(path: &Path) -> Result<Option<KafkaDir>, DataDirError> {
        let file = path.join(META);
        match fs::read_to_string(&file) {
            Ok(text) => Ok(Meta::parse(&text).ok().map(|meta| KafkaDir { meta, is_clean: true })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &file)(error)),
        }
    }

    /// Whether Kafka stopped in order, and does not run.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_clean
    }

    /// Kafka's node.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.meta.node
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> Uuid {
        self.meta.cluster
    }

    /// The directory.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.meta.directory
    }

    /// The directory at `path` is ours from now on, and belongs to `node`.
    ///
    /// # Errors
    /// [`DataDirError::Io`]; it is Kafka's then, or ours already.
    pub fn take_over(&self, path: &Path, node: u32) -> Result<(), DataDirError> {
        let meta = Meta { node, ..self.meta };
        write_whole(path, META, META_TMP, meta.to_string().as_bytes())
    }
}
