//! The names of a simulated file system: what a reader sees, and which changes are durable.
//!
//! Each change of a name is kept until a sync of its directory makes it durable; a power cut keeps
//! a prefix of them, or any subset. A rename is one change, also across directories: both of its
//! names change or none.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use super::faults::Seen;
use crate::rng::Rng;

/// Number of a file or directory.
pub(super) type Ino = u64;

/// The root directory.
pub(super) const ROOT: Ino = 0;

#[derive(Default)]
struct Dir {
    now: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
}

/// A name in a directory.
type Slot = (Ino, String);

enum Change {
    Link(Slot, Ino),
    Unlink(Slot, Ino),
    Move { from: Slot, to: Slot, ino: Ino },
}

impl Change {
    fn touches(&self, dirs: &BTreeSet<Ino>) -> bool {
        match self {
            Change::Link((dir, _), _) | Change::Unlink((dir, _), _) => dirs.contains(dir),
            Change::Move { from, to, .. } => dirs.contains(&from.0) || dirs.contains(&to.0),
        }
    }
}

/// All names.
pub(super) struct Tree {
    dirs: BTreeMap<Ino, Dir>,
    /// Changes that are not durable, in their order.
    changes: Vec<Change>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { dirs: BTreeMap::from([(ROOT, Dir::default())]), changes: Vec::new() }
    }

    pub(super) fn is_dir(&self, ino: Ino) -> bool {
        self.dirs.contains_key(&ino)
    }

    /// What stands at `path`.
    pub(super) fn find(&self, path: &Path) -> Option<Ino> {
        let mut at = ROOT;
        for name in names(path) {
            at = *self.dirs.get(&at)?.now.get(name)?;
        }
        Some(at)
    }

    /// The directory and last name of `path`; none where the directory is missing.
    pub(super) fn slot(&self, path: &Path) -> Option<(Ino, String)> {
        let name = names(path).last()?.to_owned();
        let dir = self.find(path.parent()?)?;
        self.is_dir(dir).then_some((dir, name))
    }

    pub(super) fn entries(&self, dir: Ino) -> impl Iterator<Item = (&String, &Ino)> {
        self.dirs.get(&dir).into_iter().flat_map(|dir| dir.now.iter())
    }

    /// Every file, with its path below `dir`.
    pub(super) fn walk(&self, dir: Ino, under: &Path, out: &mut Vec<(std::path::PathBuf, Ino)>) {
        for (name, ino) in self.entries(dir) {
            let path = under.join(name);
            if self.is_dir(*ino) {
                self.walk(*ino, &path, out);
            } else {
                out.push((path, *ino));
            }
        }
    }

    pub(super) fn add_dir(&mut self, ino: Ino) {
        self.dirs.insert(ino, Dir::default());
    }

    pub(super) fn link(&mut self, slot: Slot, ino: Ino) {
        self.now(slot.0).insert(slot.1.clone(), ino);
        self.changes.push(Change::Link(slot, ino));
    }

    pub(super) fn unlink(&mut self, slot: Slot) {
        if let Some(ino) = self.now(slot.0).remove(&slot.1) {
            self.changes.push(Change::Unlink(slot, ino));
        }
    }

    pub(super) fn rename(&mut self, from: Slot, to: Slot) {
        if let Some(ino) = self.now(from.0).remove(&from.1) {
            self.now(to.0).insert(to.1.clone(), ino);
            self.changes.push(Change::Move { from, to, ino });
        }
    }

    /// Makes the names of `dir` durable, and what they rest on.
    pub(super) fn sync(&mut self, dir: Ino) {
        let mut wanted = BTreeSet::from([dir]);
        let mut chosen = vec![false; self.changes.len()];
        // Backwards: a change between two directories rests on what was done in either before.
        for (index, change) in self.changes.iter().enumerate().rev() {
            if change.touches(&wanted) {
                chosen[index] = true;
                if let Change::Move { from, to, .. } = change {
                    wanted.extend([from.0, to.0]);
                }
            }
        }
        let mut rest = Vec::new();
        for (change, chosen) in std::mem::take(&mut self.changes).into_iter().zip(chosen) {
            if chosen {
                self.settle(change);
            } else {
                rest.push(change);
            }
        }
        self.changes = rest;
    }

    /// The power goes: of the changes since, a prefix or (`any_order`) any subset has landed.
    pub(super) fn crash(&mut self, rng: &mut Rng, any_order: bool, seen: &mut Seen) {
        let changes = std::mem::take(&mut self.changes);
        let prefix = rng.below(changes.len() as u64 + 1) as usize;
        let subset = any_order && rng.chance(1, 2);
        for (index, change) in changes.into_iter().enumerate() {
            if if subset { rng.chance(1, 2) } else { index < prefix } {
                self.settle(change);
            } else {
                seen.lost_names += 1;
            }
        }
        for dir in self.dirs.values_mut() {
            dir.now = dir.durable.clone();
        }
        let kept = self.reachable();
        self.dirs.retain(|ino, _| kept.contains(ino));
    }

    /// Files and directories that a name leads to.
    pub(super) fn reachable(&self) -> BTreeSet<Ino> {
        let mut found = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(dir) = open.pop() {
            for (_, ino) in self.entries(dir) {
                if found.insert(*ino) {
                    open.push(*ino);
                }
            }
        }
        found
    }

    fn now(&mut self, dir: Ino) -> &mut BTreeMap<String, Ino> {
        &mut self.dirs.get_mut(&dir).expect("the caller has found this directory").now
    }

    fn durable(&mut self, dir: Ino) -> &mut BTreeMap<String, Ino> {
        &mut self.dirs.entry(dir).or_default().durable
    }

    fn settle(&mut self, change: Change) {
        match change {
            Change::Link((dir, name), ino) => {
                self.durable(dir).insert(name, ino);
            }
            Change::Unlink((dir, name), ino) => {
                // Another file may have taken the name, where an earlier change was lost.
                if self.durable(dir).get(&name) == Some(&ino) {
                    self.durable(dir).remove(&name);
                }
            }
            Change::Move { from, to, ino } => {
                if self.durable(from.0).get(&from.1) == Some(&ino) {
                    self.durable(from.0).remove(&from.1);
                    self.durable(to.0).insert(to.1, ino);
                }
            }
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_str().expect("simulated names are UTF-8")),
        _ => None,
    })
}
