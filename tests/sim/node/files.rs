//! Files of an application that writes logs and rotates them: what the agent follows.
//!
//! They lie on no disk of the node: what the application has written stays, whatever becomes of the
//! node. They are renamed at any moment, also while the node is down.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flumen_actors::agent::source::taildir::files::{FileKey, FileStat, Files};
use flumen_runtime::{clock::Clock, rng::Rng, sim::World};

use crate::oracle::Value;

const DIR: &str = "/logs";
/// What the agent follows.
pub(crate) const PATTERN: &str = "/logs/*.log";
/// Logs that are written.
const FAMILIES: u32 = 2;

#[derive(Default)]
struct Inode {
    data: Vec<u8>,
    born_ns: i64,
    written_ns: i64,
    links: u64,
}

#[derive(Default)]
struct Tree {
    names: BTreeMap<PathBuf, u64>,
    inodes: BTreeMap<u64, Inode>,
}

/// All of them. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct AppFiles(Arc<Mutex<Tree>>);

impl AppFiles {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tree {
    fn stat(&self, number: u64) -> FileStat {
        let inode = &self.inodes[&number];
        FileStat {
            key: FileKey { device: 1, inode: number },
            born_ns: Some(inode.born_ns),
            written_ns: inode.written_ns,
            len: inode.data.len() as u64,
            links: inode.links,
            is_regular: true,
        }
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for AppFiles {
    /// Memory does not block, and a turn elsewhere would come at no certain moment.
    const BLOCKS: bool = false;

    type Handle = u64;

    fn glob(&mut self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let (before, after) = pattern.split_once('*').ok_or(io::ErrorKind::InvalidInput)?;
        let matches = |path: &&PathBuf| {
            let path = path.to_string_lossy();
            path.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
        };
        Ok(self.tree().names.keys().filter(matches).cloned().collect())
    }

    fn list(&mut self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let tree = self.tree();
        let inside = tree.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside.filter_map(|(path, inode)| Some((name(path)?, *inode))).collect())
    }

    fn stat(&mut self, path: &Path) -> io::Result<FileStat> {
        let tree = self.tree();
        Ok(tree.stat(tree.find(path)?))
    }

    fn open(&mut self, path: &Path) -> io::Result<(u64, FileStat)> {
        let tree = self.tree();
        let inode = tree.find(path)?;
        Ok((inode, tree.stat(inode)))
    }

    fn stat_open(&mut self, file: &u64) -> io::Result<FileStat> {
        Ok(self.tree().stat(*file))
    }

    fn read(&mut self, file: &u64, position: u64, len: usize) -> io::Result<Bytes> {
        let tree = self.tree();
        let rest = tree.inodes[file].data.get(position as usize..).unwrap_or_default();
        Ok(Bytes::copy_from_slice(&rest[..rest.len().min(len)]))
    }
}

/// The application.
pub(crate) struct App {
    files: AppFiles,
    /// That of the machine they lie on, which nobody sets: rotated files are told apart by their
    /// stamps, and nothing else tells their order.
    clock: flumen_runtime::sim::SimClock,
    rng: Rng,
    /// Lines of each log, by its number: each log numbers its own.
    written: Vec<u64>,
    /// The rest of a line of each log that is written in two halves.
    unended: Vec<Vec<u8>>,
    rotations: u64,
}

impl App {
    pub(crate) fn new(world: &World) -> App {
        let count = FAMILIES as usize;
        App {
            files: AppFiles::default(),
            clock: flumen_runtime::sim::SimClock::starting_at(world.now_ms()),
            rng: world.rng.split("application"),
            written: vec![0; count],
            unended: vec![Vec::new(); count],
            rotations: 0,
        }
    }

    /// What the agent follows.
    pub(crate) fn files(&self) -> AppFiles {
        self.files.clone()
    }

    /// Lines of each log so far.
    pub(crate) fn written(&self) -> &[u64] {
        &self.written
    }

    fn now_ns(&self) -> i64 {
        self.clock.now_ms() * 1_000_000
    }

    /// Writes some lines into one of its logs, and rotates it now and then; tells when to go on.
    pub(crate) fn step(&mut self, may_rotate: bool) -> Duration {
        let log = self.rng.below(FAMILIES.into()) as usize;
        if may_rotate && self.rng.chance(1, 8) {
            self.rotate(log);
        }
        let mut bytes = std::mem::take(&mut self.unended[log]);
        for _ in 0..1 + self.rng.below(6) {
            let value = Value { producer: log as u32, number: self.written[log] };
            self.written[log] += 1;
            bytes.extend(value.to_bytes([0, 20, 300][self.rng.below(3) as usize]));
            bytes.push(b'\n');
        }
        if self.rng.chance(1, 6) {
            let half = bytes.len() - 1 - self.rng.below(4) as usize;
            self.unended[log] = bytes.split_off(half);
        }
        self.append(log, &bytes);
        Duration::from_millis(self.rng.below(200))
    }

    /// Ends every line.
    pub(crate) fn finish(&mut self) {
        for log in 0..self.unended.len() {
            let rest = std::mem::take(&mut self.unended[log]);
            self.append(log, &rest);
        }
    }

    /// Moves a log away, and those that were moved away before one further.
    pub(crate) fn rotate_any(&mut self) {
        let log = self.rng.below(FAMILIES.into()) as usize;
        self.rotate(log);
    }

    /// How often a log was rotated.
    pub(crate) fn rotations(&self) -> u64 {
        self.rotations
    }

    fn path(log: usize, rotated: usize) -> PathBuf {
        let name = if rotated == 0 { format!("{log}.log") } else { format!("{log}.log.{rotated}") };
        Path::new(DIR).join(name)
    }

    fn append(&mut self, log: usize, bytes: &[u8]) {
        let now = self.now_ns();
        let mut tree = self.files.tree();
        let path = App::path(log, 0);
        let inode = match tree.find(&path) {
            Ok(inode) => inode,
            Err(_) => {
                let inode = 100 + tree.inodes.len() as u64;
                let made = Inode { born_ns: now, links: 1, ..Inode::default() };
                tree.inodes.insert(inode, made);
                tree.names.insert(path, inode);
                inode
            }
        };
        let inode = tree.inodes.get_mut(&inode).expect("it has a name");
        inode.data.extend_from_slice(bytes);
        inode.written_ns = now;
    }

    fn rotate(&mut self, log: usize) {
        let rest = std::mem::take(&mut self.unended[log]);
        self.append(log, &rest);
        let mut tree = self.files.tree();
        let kept = (0..).take_while(|n| tree.names.contains_key(&App::path(log, *n))).count();
        for rotated in (0..kept).rev() {
            if let Some(inode) = tree.names.remove(&App::path(log, rotated)) {
                tree.names.insert(App::path(log, rotated + 1), inode);
            }
        }
        drop(tree);
        self.rotations += 1;
    }
}
