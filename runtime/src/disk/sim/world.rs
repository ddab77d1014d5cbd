//! The world behind all simulated drivers: names, files, descriptors and what is in flight.
//!
//! An operation begins (its era is checked, what a sync covers is fixed), takes its time, and has
//! its whole effect when it finishes; a kill or power cut finishes some of those in flight in part.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    Faults, Lies, Seen,
    file::{SimFile, Stamp},
    tree::{Ino, ROOT, Tree},
};
use crate::{
    disk::{DiskError, DiskResult, File, Op, Reply},
    era::InFlight,
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

struct Started {
    op: Op,
    /// What a sync covers: changes up to here.
    upto: Stamp,
    /// Holds the gate until the operation is done with (DISK-5).
    gate: Option<InFlight>,
}

/// What an open file may do.
#[derive(Clone, Copy)]
pub(super) struct Descriptor {
    pub(super) ino: Ino,
    pub(super) writes: bool,
}

pub(super) struct World {
    pub(super) faults: Faults,
    pub(super) lies: Lies,
    pub(super) seen: Seen,
    pub(super) witness: Option<Witness>,
    pub(super) wedged: BTreeSet<ArbiterId>,
    pub(super) rng: Rng,
    pub(super) tree: Tree,
    pub(super) files: BTreeMap<Ino, SimFile>,
    pub(super) descriptors: BTreeMap<u64, Descriptor>,
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

    pub(super) fn hold(&mut self, arbiter: ArbiterId, op: Op, reply: Reply) {
        self.held.push((arbiter, op, reply));
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
        let gate = self.enter(&op)?;
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

    /// Checks the right to do `op`, and holds its gate (DISK-5).
    fn enter(&mut self, op: &Op) -> Result<Option<InFlight>, DiskError> {
        let Some(ticket) = op.ticket() else { return Ok(None) };
        if self.lies.era {
            self.seen.stale += u64::from(ticket.gate.current() != ticket.era);
            return Ok(None);
        }
        match ticket.gate.begin(ticket.era) {
            Ok(gate) => Ok(Some(gate)),
            Err(fenced) => {
                self.seen.fenced += 1;
                self.tell(|| format!("{} refused: {fenced}", line(op)));
                Err(fenced.into())
            }
        }
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
        let parent = path.parent().unwrap_or_else(|| Path::new("/"));
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

    fn delay(&mut self) -> Delay {
        let faults = self.faults;
        let most =
            if self.rng.chance(faults.slow, 1000) { faults.slow_ms } else { faults.latency_ms };
        match self.rng.below(most + 1) {
            0 => Delay::Turns(self.rng.below(5)),
            ms => Delay::Millis(ms),
        }
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn next_stamp(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(witness) = &mut self.witness {
            witness(line());
        }
    }
}

/// An operation as a line of the trace.
fn line(op: &Op) -> String {
    let path = |file: &File| file.path().display().to_string();
    match op {
        Op::Open { path, mode, .. } => format!("open {} {mode:?}", path.display()),
        Op::Write { file, position, bufs, .. } => {
            let len: usize = bufs.iter().map(Bytes::len).sum();
            format!("write {} {position}+{len}", path(file))
        }
        Op::Zero { file, position, len, .. } => format!("zero {} {position}+{len}", path(file)),
        Op::Reserve { file, position, len, .. } => {
            format!("reserve {} {position}+{len}", path(file))
        }
        Op::Sync { file } => format!("sync {}", path(file)),
        Op::Read { file, position, len } => format!("read {} {position}+{len}", path(file)),
        Op::Truncate { file, len, .. } => format!("truncate {} {len}", path(file)),
        Op::Forget { file, from } => format!("forget {} {from}", path(file)),
        Op::Len { file } => format!("len {}", path(file)),
        Op::CreateDir { path } => format!("create-dir {}", path.display()),
        Op::SyncDir { path } => format!("sync-dir {}", path.display()),
        Op::List { path } => format!("list {}", path.display()),
        Op::Rename { from, to, .. } => format!("rename {} {}", from.display(), to.display()),
        Op::Remove { path, .. } => format!("remove {}", path.display()),
        Op::RemoveDir { path, .. } => format!("remove-dir {}", path.display()),
        Op::Space { path } => format!("space {}", path.display()),
    }
}
