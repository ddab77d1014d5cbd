//! One life of a simulated process: its arbiters, and all of its tasks, which end with it at once.

use std::{future::Future, rc::Rc, sync::Arc};

use tokio::task::LocalSet;

use super::World;
use crate::{
    ids::ArbiterId,
    mailbox::ActorName,
    placement::{LocalPlacement, Services},
};

/// How a simulated process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself: what it had started, it has finished.
    Exit,
    /// Killed: the page cache survives it.
    Kill,
    /// With the power: only what is durable survives.
    PowerCut,
}

/// One life of a process.
pub struct Process {
    world: World,
    /// Its arbiters, and what they share; the start of all supervision.
    pub placement: Arc<LocalPlacement>,
}

impl World {
    /// Runs `main` in a process of its own, with `arbiters` arbiters, until it says how the process
    /// ends. Nothing that it started goes on after that.
    pub async fn process<F, T>(&self, arbiters: u32, main: impl FnOnce(Rc<Process>) -> F) -> T
    where
        F: Future<Output = (End, T)>,
    {
        let tasks = LocalSet::new();
        let main = async {
            let disks = Arc::new(self.disks.clone());
            // Each life draws differently: identifiers made in one must not come again in the next.
            let rng = self.rng.split(&format!("process {}", self.disks.lives()));
            let services = Services::new(Arc::new(self.clock.clone()), rng, disks);
            let placement = LocalPlacement::new(arbiters, services);
            main(Rc::new(Process { world: self.clone(), placement })).await
        };
        let (end, value) = Box::pin(tasks.run_until(main)).await;
        self.trace.line(format_args!("process ends: {end:?}"));
        match end {
            End::Exit | End::Kill => self.disks.kill(),
            End::PowerCut => self.disks.crash(),
        }
        drop(tasks);
        value
    }
}

impl Process {
    /// Stops `arbiter` as a handler that does not return would, `victim` with a message in its hands:
    /// nothing of it moves, and what its actors hand to the disk does not reach it.
    pub fn wedge(&self, arbiter: ArbiterId, victim: Option<&ActorName>) {
        self.world.trace.line(format_args!("{arbiter} wedges, {victim:?}"));
        self.placement.wedge(arbiter, victim);
        self.world.disks.wedge(arbiter);
    }

    /// Lets it go on: its late effects come now.
    pub fn release(&self, arbiter: ArbiterId) {
        self.world.trace.line(format_args!("{arbiter} goes on"));
        self.placement.release(arbiter);
        self.world.disks.unwedge(arbiter);
    }
}
