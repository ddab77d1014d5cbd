//! The simulated disk: a file system in memory that forgets, tears, delays and lies as real ones do.
//!
//! ```text
//!   SimDisk (one an arbiter) ──┐                 ┌── cached: what a reader sees
//!   SimDisk ───────────────────┼──► World ───────┤
//!   SimDisk (next incarnation) ┘   one for all   └── durable: what a power cut leaves
//! ```
//!
//! All drivers of one [`SimDisks`] share one world, which outlives arbiters, incarnations and node
//! restarts. Time is tokio's, so a paused clock makes it free; every draw comes from one seed.
//!
//! # What it does, and what the system must survive
//! | fault | how it shows | the system must |
//! |---|---|---|
//! | late and reordered completions | each operation takes its own seeded time | wait for one before it relies on it |
//! | kill ([`SimDisks::kill`]) | the cache survives; writes in flight land, in part, or not | lose nothing acknowledged |
//! | power cut ([`SimDisks::crash`]) | of each unsynced page any version since its sync survives, also torn by 512-byte sector; lengths apart from pages; unsynced names lost, renames whole | lose nothing acknowledged as durable |
//! | write error | `EIO`, after a part has landed | take that log offline, not the node |
//! | sync error | `EIO` once; the pages are clean from then on and never reach the disk | never trust that file again |
//! | full | `ENOSPC`, after what fits has landed | refuse writes, go on reading, resume |
//! | no more files | `EMFILE` when a file is opened or a directory listed | try again |
//! | bit flip at rest ([`SimDisks::flip_bit`]) | one bit of a durable page | refuse by name, never serve |
//! | wedge ([`SimDisks::wedge`]) | an arbiter's operations are held before the kernel sees them, and reach it after the take-over | have them refused by their era |
//!
//! A sync that failed, a full disk and a flipped bit are survived by refusing; all others must not
//! be seen by a client at all.
//!
//! # Why not stricter, why not laxer
//! Names follow no file's sync, and unsynced pages have no order, which no single file system does
//! all at once: what holds here holds on ext4, XFS and Btrfs. A rename is whole, as on all of them.
//! A write is seen by readers only when it has completed, which the contract allows and which
//! catches those who count on less.
//!
//! [`Lies`] switches off one promise of the contract at a time, so that a test can show that the
//! tests see it.

mod act;
mod faults;
mod file;
mod tree;
mod world;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::oneshot;

use self::world::{Delay, World};
pub use self::{
    faults::{Faults, Lies, Seen},
    world::Witness,
};
use super::{Disk, DiskError, DiskMaker, Op, Pending, Reply};
use crate::{ids::ArbiterId, rng::Rng};

/// The shared world of simulated disks.
#[derive(Clone)]
pub struct SimDisks(Arc<Mutex<World>>);

impl SimDisks {
    /// An empty file system with nothing but `/`, whose draws `rng` decides.
    #[must_use]
    pub fn new(rng: &Rng, faults: Faults) -> SimDisks {
        SimDisks(Arc::new(Mutex::new(World::new(rng.split("disk"), faults))))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A driver for `arbiter`. It answers [`DiskError::Closed`] from the next kill or power cut on,
    /// like the process that it belonged to.
    #[must_use]
    pub fn disk_for(&self, arbiter: ArbiterId) -> Rc<dyn Disk> {
        let boot = self.world().boot();
        Rc::new(SimDisk { world: self.clone(), arbiter, boot })
    }

    /// The faults it commits now.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.world().faults
    }

    /// From now on these faults.
    pub fn set_faults(&self, faults: Faults) {
        self.world().faults = faults;
    }

    /// From now on these broken promises.
    pub fn set_lies(&self, lies: Lies) {
        self.world().lies = lies;
    }

    /// Shows every operation, as it completes, to `witness`.
    pub fn set_witness(&self, witness: Witness) {
        self.world().witness = Some(witness);
    }

    /// The power goes: what was not durable is lost by the seeded rule, nothing in flight answers.
    pub fn crash(&self) {
        self.world().crash();
    }

    /// The process ends: its descriptors and what it had in flight end with it, the cache stays.
    pub fn kill(&self) {
        self.world().kill();
    }

    /// Holds whatever `arbiter` submits from now on, before the kernel sees it.
    pub fn wedge(&self, arbiter: ArbiterId) {
        self.world().wedged.insert(arbiter);
    }

    /// Lets go of `arbiter` again: what was held reaches the kernel now, in its order.
    pub fn unwedge(&self, arbiter: ArbiterId) {
        let held = {
            let mut world = self.world();
            world.wedged.remove(&arbiter);
            world.take_held(arbiter)
        };
        for (op, reply) in held {
            self.start(op, reply);
        }
    }

    /// How many lives of the process have ended on it.
    #[must_use]
    pub fn lives(&self) -> u64 {
        self.world().boot()
    }

    /// What the runs so far have met; a test that met nothing has shown nothing.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.world().seen
    }

    /// Whole content of a file as a reader sees it, or none where it is not there.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Bytes> {
        self.world().content(path)
    }

    /// Paths of all files, in order.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.world().all_files()
    }

    /// Makes `path` a durable file of this content, parents included: what an installer, or another
    /// program whose writes are not in question, did.
    pub fn install(&self, path: &Path, content: &[u8]) {
        self.world().install(path, content);
    }

    /// Turns one bit of a file around, in the cache and on the platter. False where there is no
    /// such byte.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> bool {
        self.world().flip_bit(path, byte, bit)
    }

    fn start(&self, op: Op, reply: Reply) {
        let begun = self.world().begin(op);
        let (id, delay) = match begun {
            Ok(begun) => begun,
            // Whoever asked may be gone by now, here and below.
            Err(refused) => return drop(reply.send(Err(refused))),
        };
        let world = self.clone();
        drop(tokio::task::spawn_local(async move {
            delay.pass().await;
            // Where a crash took it, the reply is dropped without a word.
            let result = world.world().finish(id);
            if let Some(result) = result {
                drop(reply.send(result));
            }
        }));
    }
}

impl DiskMaker for SimDisks {
    fn make(&self, on: ArbiterId, _: &Path) -> Result<Rc<dyn Disk>, DiskError> {
        Ok(self.disk_for(on))
    }

    fn describe(&self) -> String {
        "disk: simulated; chosen by the test that runs it".to_owned()
    }

    /// What was begun goes on by itself. What the arbiter submits later is not refused here but by
    /// its era, as if it had passed this check just before.
    fn abandoned(&self, arbiter: ArbiterId) {
        self.world().tell(|| format!("{arbiter} abandoned"));
    }
}

impl Delay {
    async fn pass(self) {
        match self {
            Delay::Turns(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            }
            Delay::Millis(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }
}

/// One arbiter's driver.
struct SimDisk {
    world: SimDisks,
    arbiter: ArbiterId,
    /// The life of the process that it belongs to.
    boot: u64,
}

impl Disk for SimDisk {
    fn submit(&self, op: Op) -> Pending {
        let (reply, answer) = oneshot::channel();
        self.submit_to(op, reply);
        answer.map(|answered| answered.unwrap_or(Err(DiskError::Closed))).boxed_local()
    }

    fn submit_to(&self, op: Op, reply: Reply) {
        let mut world = self.world.world();
        if world.boot() != self.boot {
            drop(reply.send(Err(DiskError::Closed)));
        } else if world.wedged.contains(&self.arbiter) {
            world.hold(self.arbiter, op, reply);
        } else {
            drop(world);
            self.world.start(op, reply);
        }
    }

    fn describe(&self) -> String {
        self.world.describe()
    }
}
