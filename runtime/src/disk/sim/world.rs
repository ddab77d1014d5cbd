//! The world behind all simulated drivers: names, files, descriptors and what is in flight.
//!
//! An operation begins (its era is checked, what a sync covers is fixed), takes its time, and has
//! its whole effect when it finishes; a kill or power cut finishes some of those in flight in part.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::channel::oneshot;

use super::{
    Faults, Lies, Seen,
    file::{PAGE_BYTES, SimFile, Stamp},
    tree::{Ino, ROOT, Tree},
};
use crate::{
    disk::{Backing, DiskError, DiskResult, Done, Entry, File, Op, OpenMode, Space},
    era::{InFlight, Ticket},
    ids::ArbiterId,
    rng::Rng,
};

/// Sees one line for each operation that completed, and each crash.
pub type Witness = Box<dyn FnMut(String) + Send>;

/// How long an operation takes.
pub(super) enum Delay {
    /// Turns of the scheduler.
    Turns(u64),
    /// Virtual time; tokio's timer counts in milliseconds.
    Millis(u64),
}

type Reply = oneshot::Sender<DiskResult>;

struct Started {
    op: Op,
    /// What a sync covers: changes up to here.
    upto: Stamp,
    /// Holds the gate until the operation is done with (DISK-5).
    gate: Option<InFlight>,
}

#[derive(Clone, Copy)]
struct Descriptor {
    ino: Ino,
    writes: bool,
}

pub(super) struct World {
    pub(super) faults: Faults,
    pub(super) lies: Lies,
    pub(super) seen: Seen,
    pub(super) witness: Option<Witness>,
    pub(super) wedged: BTreeSet<ArbiterId>,
    rng: Rng,
    tree: Tree,
    files: BTreeMap<Ino, SimFile>,
    descriptors: BTreeMap<u64, Descriptor>,
    in_flight: BTreeMap<u64, Started>,
    held: Vec<(ArbiterId, Op, Reply)>,
    /// Life of the process: drivers and descriptors of an earlier one are dead.
    boot: u64,
    next: u64,
    stamp: Stamp,
}

impl World {
    pub(super) fn new(rng: Rng, faults: Faults) -> World {
        World {
            faults,
            lies: Lies::default(),
            seen: Seen::default(),
            witness: None,
            wedged: BTreeSet::new(),
            rng,
            tree: Tree::new(),
            files: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            held: Vec::new(),
            boot: 0,
            next: 1,
            stamp: 0,
        }
    }

    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    pub(super) fn hold(&mut self, arbiter: ArbiterId, op: Op) -> oneshot::Receiver<DiskResult> {
        let (reply, answer) = oneshot::channel();
        self.held.push((arbiter, op, reply));
        answer
    }

    pub(super) fn take_held(&mut self, arbiter: ArbiterId) -> Vec<(Op, Reply)> {
        let (taken, kept) = std::mem::take(&mut self.held)
            .into_iter()
            .partition::<Vec<_>, _>(|(held_for, ..)| *held_for == arbiter);
        self.held = kept;
        taken.into_iter().map(|(_, op, reply)| (op, reply)).collect()
    }

    /// The kernel takes `op`, or refuses it for its era.
    pub(super) fn begin(&mut self, op: Op) -> Result<(u64, Delay), DiskError> {
        let gate = match ticket(&op) {
            Some(ticket) if !self.lies.era => match ticket.gate.begin(ticket.era) {
                Ok(gate) => Some(gate),
                Err(fenced) => {
                    self.seen.fenced += 1;
                    self.tell(|| format!("{} refused: {fenced}", line(&op)));
                    return Err(fenced.into());
                }
            },
            _ => None,
        };
        if let Op::Sync { file } = &op
            && let Some(file) = self.file_mut(file)
        {
            file.syncs_in_flight += 1;
        }
        let delay = self.delay();
        let id = self.fresh();
        self.in_flight.insert(id, Started { op, upto: self.stamp, gate });
        Ok((id, delay))
    }

    /// The time of operation `id` has come; none where a crash has taken it.
    pub(super) fn finish(&mut self, id: u64) -> Option<DiskResult> {
        let started = self.in_flight.remove(&id)?;
        let result = self.carry_out(&started.op, started.upto);
        self.tell(|| match &result {
            Ok(_) => line(&started.op),
            Err(error) => format!("{}: {error}", line(&started.op)),
        });
        drop(started.gate);
        Some(result)
    }

    pub(super) fn kill(&mut self) {
        self.seen.kills += 1;
        self.tell(|| "process killed".to_owned());
        self.end_process();
    }

    pub(super) fn crash(&mut self) {
        self.seen.crashes += 1;
        self.tell(|| "power cut".to_owned());
        self.end_process();
        self.tree.crash(&mut self.rng, self.faults.names_in_any_order, &mut self.seen);
        let kept = self.tree.reachable();
        self.files.retain(|ino, _| kept.contains(ino));
        for file in self.files.values_mut() {
            file.crash(&mut self.rng, self.faults.tears, &mut self.seen);
        }
    }

    pub(super) fn content(&self, path: &Path) -> Option<Bytes> {
        let file = self.files.get(&self.tree.find(path)?)?;
        Some(file.read(0, file.len() as usize))
    }

    pub(super) fn all_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        self.tree.walk(ROOT, Path::new("/"), &mut found);
        found.into_iter().map(|(path, _)| path).collect()
    }

    pub(super) fn install(&mut self, path: &Path, content: &[u8]) {
        let parent = path.parent().unwrap_or(Path::new("/"));
        self.create_dir(parent).expect("no file stands where a directory is installed");
        let slot = self.tree.slot(path).expect("its directory was just made");
        self.tree.unlink(slot.clone());
        let ino = self.fresh();
        let stamp = self.next_stamp();
        let mut file = SimFile::default();
        file.write(0, content, stamp);
        file.sync(stamp);
        self.files.insert(ino, file);
        self.tree.link(slot, ino);
        for dir in parent.ancestors() {
            let dir = self.tree.find(dir).expect("its directory was just made");
            self.tree.sync(dir);
        }
    }

    pub(super) fn flip_bit(&mut self, path: &Path, byte: u64, bit: u8) -> bool {
        let found = self.tree.find(path).and_then(|ino| self.files.get_mut(&ino));
        found.is_some_and(|file| file.flip_bit(byte, bit))
    }

    /// What is in flight lands, in part, or not; then nothing of the process is left.
    fn end_process(&mut self) {
        let mut in_flight: Vec<Started> =
            std::mem::take(&mut self.in_flight).into_values().collect();
        while !in_flight.is_empty() {
            let index = self.rng.below(in_flight.len() as u64) as usize;
            let Started { op, upto, gate } = in_flight.swap_remove(index);
            if self.rng.chance(1, 2) {
                match &op {
                    Op::Write { file, position, bufs, .. } => {
                        let bytes = bufs.concat();
                        let landed = self.cut(*position, bytes.len());
                        let stamp = self.next_stamp();
                        if let Some(file) = self.file_mut(file) {
                            file.write(*position, &bytes[..landed], stamp);
                        }
                    }
                    // The answer has nobody to go to.
                    _ => drop(self.carry_out(&op, upto)),
                }
            }
            drop(gate);
        }
        for file in self.files.values_mut() {
            file.syncs_in_flight = 0;
        }
        self.descriptors.clear();
        self.held.clear();
        self.wedged.clear();
        self.boot += 1;
    }

    fn carry_out(&mut self, op: &Op, upto: Stamp) -> DiskResult {
        match op {
            Op::Open { path, mode } => self.open(path, *mode),
            Op::Write { file, position, bufs, .. } => self.write(file, *position, &bufs.concat()),
            Op::Zero { file, position, len, .. } => self.zero(file, *position, *len),
            Op::Sync { file } => self.sync(file, upto),
            Op::Read { file, position, len } => {
                let found = self.look(file).ok_or_else(|| bad_file("read", file))?;
                Ok(Done::Bytes(found.read(*position, *len)))
            }
            Op::Truncate { file, len, .. } => {
                let stamp = self.next_stamp();
                let found = self.written("truncate", file)?;
                found.truncate(*len, stamp);
                Ok(Done::Unit)
            }
            Op::Len { file } => {
                Ok(Done::Len(self.look(file).ok_or_else(|| bad_file("measure", file))?.len()))
            }
            Op::CreateDir { path } => self.create_dir(path),
            Op::SyncDir { path } => {
                let dir = self.dir("sync", path)?;
                if !self.lies.sync_dir {
                    self.tree.sync(dir);
                }
                Ok(Done::Unit)
            }
            Op::List { path } => self.list(path),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Remove { path } => match self.tree.find(path) {
                None => Ok(Done::Unit),
                Some(ino) if self.tree.is_dir(ino) => Err(os("remove", path, libc::EISDIR)),
                Some(_) => {
                    self.unlink(path);
                    Ok(Done::Unit)
                }
            },
            Op::RemoveDir { path } => self.remove_dir(path),
            Op::Space { .. } => Ok(Done::Space(self.space())),
        }
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> DiskResult {
        let ino = match (self.tree.find(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(os("create", path, libc::EEXIST)),
            (Some(ino), _) if self.tree.is_dir(ino) => return Err(os("open", path, libc::EISDIR)),
            (Some(ino), _) => ino,
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(os("open", path, libc::ENOENT));
            }
            (None, OpenMode::CreateNew | OpenMode::Create) => {
                let slot = self.tree.slot(path).ok_or_else(|| os("create", path, libc::ENOENT))?;
                let ino = self.fresh();
                self.files.insert(ino, SimFile::default());
                self.tree.link(slot, ino);
                ino
            }
        };
        let number = self.fresh();
        self.descriptors.insert(number, Descriptor { ino, writes: mode != OpenMode::Read });
        Ok(Done::File(File::new(path.to_owned(), Backing::Simulated(number))))
    }

    fn write(&mut self, file: &File, position: u64, bytes: &[u8]) -> DiskResult {
        self.written("write", file)?;
        let failed = self.rng.chance(self.faults.write_errors, 1000);
        let room = self.room_at(file, position);
        let (landed, answer) = if failed {
            self.seen.write_errors += 1;
            (self.cut(position, bytes.len()), Err(os("write", file.path(), libc::EIO)))
        } else if bytes.len() as u64 > room {
            self.seen.full += 1;
            (room as usize, Err(os("write", file.path(), libc::ENOSPC)))
        } else {
            (bytes.len(), Ok(Done::Unit))
        };
        let stamp = self.next_stamp();
        self.written("write", file)?.write(position, &bytes[..landed], stamp);
        answer
    }

    fn zero(&mut self, file: &File, position: u64, len: u64) -> DiskResult {
        self.written("write", file)?;
        if len > self.room_at(file, position) {
            self.seen.full += 1;
            return Err(os("write", file.path(), libc::ENOSPC));
        }
        let stamp = self.next_stamp();
        self.written("write", file)?.zero(position, len, stamp);
        Ok(Done::Unit)
    }

    fn sync(&mut self, file: &File, upto: Stamp) -> DiskResult {
        let failed = self.rng.chance(self.faults.sync_errors, 1000);
        let lie = self.lies.sync;
        let found = self.file_mut(file).ok_or_else(|| bad_file("sync", file))?;
        found.syncs_in_flight = found.syncs_in_flight.saturating_sub(1);
        if failed {
            found.lose(upto);
            self.seen.sync_errors += 1;
            return Err(os("sync", file.path(), libc::EIO));
        }
        if !lie {
            found.sync(upto);
        }
        Ok(Done::Unit)
    }

    fn create_dir(&mut self, path: &Path) -> DiskResult {
        let parts: Vec<&Path> = path.ancestors().collect();
        for part in parts.into_iter().rev() {
            match self.tree.find(part) {
                Some(ino) if self.tree.is_dir(ino) => {}
                Some(_) => return Err(os("create", path, libc::ENOTDIR)),
                None => {
                    let slot = self.tree.slot(part).expect("its parent was just made");
                    let ino = self.fresh();
                    self.tree.add_dir(ino);
                    self.tree.link(slot, ino);
                }
            }
        }
        Ok(Done::Unit)
    }

    fn list(&self, path: &Path) -> DiskResult {
        let dir = self.dir("list", path)?;
        let entry = |(name, ino): (&String, &Ino)| Entry {
            name: name.clone(),
            is_dir: self.tree.is_dir(*ino),
            len: self.files.get(ino).map_or(0, SimFile::len),
        };
        Ok(Done::Entries(self.tree.entries(dir).map(entry).collect()))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> DiskResult {
        let moved = self.tree.find(from).ok_or_else(|| os("rename", from, libc::ENOENT))?;
        let source = self.tree.slot(from).ok_or_else(|| os("rename", from, libc::ENOENT))?;
        let target = self.tree.slot(to).ok_or_else(|| os("rename", to, libc::ENOENT))?;
        match self.tree.find(to) {
            Some(there) if there == moved => return Ok(Done::Unit),
            Some(there) if self.tree.is_dir(there) => return Err(os("rename", to, libc::EEXIST)),
            _ => {}
        }
        self.tree.rename(source, target);
        Ok(Done::Unit)
    }

    fn remove_dir(&mut self, path: &Path) -> DiskResult {
        let Some(dir) = self.tree.find(path) else { return Ok(Done::Unit) };
        if !self.tree.is_dir(dir) {
            return Err(os("remove", path, libc::ENOTDIR));
        }
        let inside: Vec<(PathBuf, Ino)> =
            self.tree.entries(dir).map(|(name, ino)| (path.join(name), *ino)).collect();
        for (path, ino) in inside {
            if self.tree.is_dir(ino) {
                self.remove_dir(&path)?;
            } else {
                self.unlink(&path);
            }
        }
        self.unlink(path);
        Ok(Done::Unit)
    }

    fn unlink(&mut self, path: &Path) {
        if let Some(slot) = self.tree.slot(path) {
            self.tree.unlink(slot);
        }
    }

    fn space(&self) -> Space {
        let reachable = self.tree.reachable();
        let used: u64 = self
            .files
            .iter()
            .filter(|(ino, _)| reachable.contains(ino))
            .map(|(_, file)| file.allocated())
            .sum();
        let total = self.faults.capacity;
        Space { free: total.saturating_sub(used), total }
    }

    /// Bytes that can be written at `position`: what lies there already, and what is free.
    fn room_at(&self, file: &File, position: u64) -> u64 {
        if self.faults.capacity >= Faults::none().capacity {
            return u64::MAX;
        }
        let there = self.look(file).map_or(0, |file| file.allocated().saturating_sub(position));
        // Less a page, since a write that begins inside a page allocates all of it.
        there.max(self.space().free.saturating_sub(PAGE_BYTES as u64) + there)
    }

    /// How much of a write of `len` bytes at `position` lands when it is cut short: whole pages.
    fn cut(&mut self, position: u64, len: usize) -> usize {
        let first = PAGE_BYTES - (position % PAGE_BYTES as u64) as usize;
        let pages = (len.saturating_sub(first)).div_ceil(PAGE_BYTES) as u64 + 1;
        match self.rng.below(pages + 1) as usize {
            0 => 0,
            count => (first + (count - 1) * PAGE_BYTES).min(len),
        }
    }

    fn delay(&mut self) -> Delay {
        let faults = self.faults;
        let most =
            if self.rng.chance(faults.slow, 1000) { faults.slow_ms } else { faults.latency_ms };
        match self.rng.below(most + 1) {
            0 => Delay::Turns(self.rng.below(5)),
            ms => Delay::Millis(ms),
        }
    }

    fn dir(&self, action: &'static str, path: &Path) -> Result<Ino, DiskError> {
        let ino = self.tree.find(path).ok_or_else(|| os(action, path, libc::ENOENT))?;
        if self.tree.is_dir(ino) { Ok(ino) } else { Err(os(action, path, libc::ENOTDIR)) }
    }

    fn descriptor(&self, file: &File) -> Option<Descriptor> {
        match file.backing() {
            Backing::Simulated(number) => self.descriptors.get(number).copied(),
            Backing::Descriptor(_) => None,
        }
    }

    fn look(&self, file: &File) -> Option<&SimFile> {
        self.files.get(&self.descriptor(file)?.ino)
    }

    fn file_mut(&mut self, file: &File) -> Option<&mut SimFile> {
        let ino = self.descriptor(file)?.ino;
        self.files.get_mut(&ino)
    }

    fn written(&mut self, action: &'static str, file: &File) -> Result<&mut SimFile, DiskError> {
        if !self.descriptor(file).is_some_and(|descriptor| descriptor.writes) {
            return Err(bad_file(action, file));
        }
        self.file_mut(file).ok_or_else(|| bad_file(action, file))
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn next_stamp(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(witness) = &mut self.witness {
            witness(line());
        }
    }
}

fn ticket(op: &Op) -> Option<&Ticket> {
    match op {
        Op::Write { ticket, .. } | Op::Zero { ticket, .. } | Op::Truncate { ticket, .. } => {
            Some(ticket)
        }
        _ => None,
    }
}

fn os(action: &'static str, path: &Path, code: i32) -> DiskError {
    DiskError::Os { action, path: path.to_owned(), code }
}

fn bad_file(action: &'static str, file: &File) -> DiskError {
    os(action, file.path(), libc::EBADF)
}

/// An operation as a line of the trace.
fn line(op: &Op) -> String {
    let path = |file: &File| file.path().display().to_string();
    match op {
        Op::Open { path, mode } => format!("open {} {mode:?}", path.display()),
        Op::Write { file, position, bufs, .. } => {
            let len: usize = bufs.iter().map(Bytes::len).sum();
            format!("write {} {position}+{len}", path(file))
        }
        Op::Zero { file, position, len, .. } => format!("zero {} {position}+{len}", path(file)),
        Op::Sync { file } => format!("sync {}", path(file)),
        Op::Read { file, position, len } => format!("read {} {position}+{len}", path(file)),
        Op::Truncate { file, len, .. } => format!("truncate {} {len}", path(file)),
        Op::Len { file } => format!("len {}", path(file)),
        Op::CreateDir { path } => format!("create-dir {}", path.display()),
        Op::SyncDir { path } => format!("sync-dir {}", path.display()),
        Op::List { path } => format!("list {}", path.display()),
        Op::Rename { from, to } => format!("rename {} {}", from.display(), to.display()),
        Op::Remove { path } => format!("remove {}", path.display()),
        Op::RemoveDir { path } => format!("remove-dir {}", path.display()),
        Op::Space { path } => format!("space {}", path.display()),
    }
}
