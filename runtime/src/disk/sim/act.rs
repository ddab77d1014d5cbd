//! What each operation does to the simulated world, at the moment it finishes.

use std::path::{Path, PathBuf};

use super::{
    Faults,
    file::{PAGE_BYTES, SimFile, Stamp},
    tree::Ino,
    world::{Descriptor, World},
};
use crate::disk::{
    Backing, DiskError, DiskResult, Done, Entry, File, Op, OpenMode, RESERVE, SYNC, SYNC_DIR, Space,
};

impl World {
    pub(super) fn carry_out(&mut self, op: &Op, upto: Stamp) -> DiskResult {
        match op {
            Op::Open { path, .. } | Op::List { path } if self.faults.out_of_files => {
                Err(os("open", path, libc::EMFILE))
            }
            Op::Open { path, mode, .. } => self.open(path, *mode),
            Op::Write { file, position, bufs, .. } => self.write(file, *position, &bufs.concat()),
            Op::Zero { file, position, len, .. } => self.zero(file, *position, *len),
            Op::Reserve { file, position, len, .. } => {
                self.written(RESERVE, file)?;
                let room = self.room_at(file, *position);
                self.written(RESERVE, file)?.reserve(*position, (*len).min(room));
                // What was found until then stays.
                let is_there = *len <= room;
                is_there.then_some(Done::Unit).ok_or_else(|| os(RESERVE, file.path(), libc::ENOSPC))
            }
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
            Op::Forget { file, from } => {
                self.file_mut(file).ok_or_else(|| bad_file("forget", file))?.forget(*from);
                Ok(Done::Unit)
            }
            Op::Len { file } => {
                Ok(Done::Len(self.look(file).ok_or_else(|| bad_file("measure", file))?.len()))
            }
            Op::CreateDir { path } => self.create_dir(path),
            Op::SyncDir { path } => {
                let dir = self.dir(SYNC_DIR, path)?;
                if !self.lies.sync_dir {
                    self.tree.sync(dir);
                }
                Ok(Done::Unit)
            }
            Op::List { path } => self.list(path),
            Op::Rename { from, to, .. } => self.rename(from, to),
            Op::Remove { path, .. } => match self.tree.find(path) {
                None => Ok(Done::Unit),
                Some(ino) if self.tree.is_dir(ino) => Err(os("remove", path, libc::EISDIR)),
                Some(_) => {
                    self.unlink(path);
                    Ok(Done::Unit)
                }
            },
            Op::RemoveDir { path, .. } => self.remove_dir(path),
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
        let (lie, code) = (self.lies.sync, self.faults.sync_error);
        let found = self.file_mut(file).ok_or_else(|| bad_file(SYNC, file))?;
        found.syncs_in_flight = found.syncs_in_flight.saturating_sub(1);
        if failed {
            found.lose(upto);
            self.seen.sync_errors += 1;
            return Err(os(SYNC, file.path(), code));
        }
        if !lie {
            found.sync(upto);
        }
        Ok(Done::Unit)
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> DiskResult {
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
    pub(super) fn cut(&mut self, position: u64, len: usize) -> usize {
        let first = PAGE_BYTES - (position % PAGE_BYTES as u64) as usize;
        let pages = (len.saturating_sub(first)).div_ceil(PAGE_BYTES) as u64 + 1;
        match self.rng.below(pages + 1) as usize {
            0 => 0,
            count => (first + (count - 1) * PAGE_BYTES).min(len),
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

    pub(super) fn file_mut(&mut self, file: &File) -> Option<&mut SimFile> {
        let ino = self.descriptor(file)?.ino;
        self.files.get_mut(&ino)
    }

    fn written(&mut self, action: &'static str, file: &File) -> Result<&mut SimFile, DiskError> {
        if !self.descriptor(file).is_some_and(|descriptor| descriptor.writes) {
            return Err(bad_file(action, file));
        }
        self.file_mut(file).ok_or_else(|| bad_file(action, file))
    }
}

fn os(action: &'static str, path: &Path, code: i32) -> DiskError {
    DiskError::Os { action, path: path.to_owned(), code }
}

fn bad_file(action: &'static str, file: &File) -> DiskError {
    os(action, file.path(), libc::EBADF)
}
