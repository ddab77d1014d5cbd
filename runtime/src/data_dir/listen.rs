//! Where the process that uses a data directory can be reached.
//!
//! ```text
//!   flumen.listen 1            magic and version
//!   127.0.0.1:9092             an address, each on a line
//! ```
//!
//! It is put there whole, and taken away at a clean stop and at the next start. It says something only
//! while the directory's lock is held, so nothing is synced for it.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::Path,
};

use super::{DataDir, DataDirError, LOCK, io_error};

pub(super) const LISTEN: &str = "flumen.listen";
const LISTEN_TMP: &str = "flumen.listen.tmp";
const MAGIC: &str = "flumen.listen 1";

impl DataDir {
    /// Tells other processes where this one can be reached.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn announce(&self, addresses: &[SocketAddr]) -> Result<(), DataDirError> {
        let (beside, target) = (self.path.join(LISTEN_TMP), self.path.join(LISTEN));
        let lines: String = addresses.iter().map(|address| format!("{address}\n")).collect();
        let written = fs::write(&beside, format!("{MAGIC}\n{lines}"));
        written.and_then(|()| fs::rename(&beside, &target)).map_err(io_error("write", &target))
    }
}

/// Where the process can be reached that uses the directory `path` now; `None` where nobody uses it, or
/// who does listens nowhere.
///
/// # Errors
/// [`DataDirError`] where the directory cannot be read.
pub fn reached_at(path: &Path) -> Result<Option<Vec<SocketAddr>>, DataDirError> {
    let file = path.join(LISTEN);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &file)(error)),
    };
    if !is_held(path)? {
        return Ok(None);
    }
    Ok(parse(&text))
}

fn parse(text: &str) -> Option<Vec<SocketAddr>> {
    let mut lines = text.lines();
    (lines.next() == Some(MAGIC)).then_some(())?;
    let addresses: Vec<SocketAddr> = lines.map(|line| line.parse().ok()).collect::<Option<_>>()?;
    (!addresses.is_empty()).then_some(addresses)
}

/// Whether a process holds the lock of the directory.
fn is_held(path: &Path) -> Result<bool, DataDirError> {
    let file = path.join(LOCK);
    let lock = match File::open(&file) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_error("open", &file)(error)),
    };
    // Those who only look do not keep each other out, and let go at once.
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(io_error("lock", &file)(error.into())),
    }
}

/// Takes away what this process or one before it has told.
pub(super) fn forget(path: &Path) -> Result<(), DataDirError> {
    let file = path.join(LISTEN);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", &file)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data_dir::Identity, rng::Rng};

    #[test]
    fn what_is_told_is_found_while_the_directory_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let open = || DataDir::open(&path, Identity::default(), &mut Rng::seeded(1)).unwrap();
        let node = open();
        assert_eq!(reached_at(&path).unwrap(), None, "it listens nowhere");
        let addresses: Vec<SocketAddr> =
            ["127.0.0.1:9092", "[::1]:9093"].map(|text| text.parse().unwrap()).into();
        node.announce(&addresses).unwrap();
        assert_eq!(reached_at(&path).unwrap(), Some(addresses.clone()));

        drop(node);
        assert!(path.join(LISTEN).exists(), "it had no time to take it away");
        assert_eq!(reached_at(&path).unwrap(), None, "nobody is there any more");
        let node = open();
        assert_eq!(reached_at(&path).unwrap(), None, "who came after it listens nowhere");

        node.announce(&addresses).unwrap();
        node.close().unwrap();
        assert!(!path.join(LISTEN).exists());
    }

    #[test]
    fn what_a_later_version_tells_is_not_guessed_at() {
        assert_eq!(parse("flumen.listen 2\n127.0.0.1:9092\n"), None);
        assert_eq!(parse("flumen.listen 1\nnowhere\n"), None);
        assert_eq!(parse("flumen.listen 1\n"), None);
        assert_eq!(parse(""), None);
    }
}
