//! Placement: which arbiter runs what, injected, so that no actor asks for a thread.
//!
//! ```text
//!   Supervisor ── job ──► Placement ──► arbiter 0: Local   (one thread a core, or simulated
//!                                   └─► arbiter 1: Local    arbiters on one LocalSet)
//! ```
//!
//! A [`Local`] is what stands on one arbiter and never leaves it: its disks, and what the outside
//! needs to know of it: the sockets to shut down and the actor that is running when it is given up.
//! Only launch code makes a [`ThreadPlacement`] (ARCH-5); tests and the simulation run everything on
//! a [`LocalPlacement`], under paused time.
//!
//! # Invariants
//! - PLACE-1: an abandoned arbiter is never given a job again, and its id is never used again.

mod local;
mod sockets;
mod threads;

use std::{
    cell::RefCell,
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    clock::{Clock, SystemClock},
    disk::{DiskError, DiskHandle, DiskMaker},
    ids::ArbiterId,
    journal::Journals,
    mailbox::ActorName,
    meters::Meters,
    registry::{Directory, EraGates},
    rng::Rng,
};

pub use local::LocalPlacement;
pub(crate) use local::{Simulated, SimulatedTurn};
pub use sockets::{SocketGuard, Sockets};
pub use threads::{ThreadOptions, ThreadPlacement};

/// The thread of the supervisors and of the watchdog; no actor that does the work stands there.
pub const CONTROL: ArbiterId = ArbiterId(u32::MAX);

/// What an arbiter is asked to run.
pub type Job = Box<dyn FnOnce(&Rc<Local>) + Send>;

/// The arbiter has ended, or was given up.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} is gone")]
pub struct ArbiterGone(pub ArbiterId);

/// Where a child is put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Anywhere; it stays there over restarts.
    #[default]
    Any,
    /// On this arbiter, while it lives.
    On(ArbiterId),
    /// On the arbiter of that actor, where it runs already; anywhere otherwise.
    With(ActorName),
}

/// Runs jobs on arbiters. Its methods are called from the control thread.
pub trait Placement: Send + Sync {
    /// What every arbiter is given.
    fn services(&self) -> &Services;

    /// The arbiters that work, in the order of their ids.
    fn arbiters(&self) -> Vec<ArbiterId>;

    /// Queues `job` on the arbiter `on`.
    ///
    /// # Errors
    /// [`ArbiterGone`] where its thread has ended or it was abandoned; the job is dropped then.
    fn run_on(&self, on: ArbiterId, job: Job) -> Result<(), ArbiterGone>;

    /// What the arbiter was doing when it was last seen.
    fn activity(&self, arbiter: ArbiterId) -> Option<Arc<Activity>>;

    /// Gives a wedged or dead arbiter up: it gets no more jobs, its sockets are shut down, its disks
    /// are told, and another takes its place where that can be.
    fn abandon(&self, arbiter: ArbiterId);

    /// How long an arbiter may give no sign of life before it is taken for wedged.
    fn wedged_after(&self) -> Duration;
}

/// Picks the arbiter for an actor: where `place` says, else where it was, else the next in turn.
pub(crate) fn choose(
    placement: &dyn Placement,
    place: &Place,
    was_on: Option<ArbiterId>,
) -> Option<ArbiterId> {
    let arbiters = placement.arbiters();
    let wanted = match place {
        Place::Any => was_on,
        Place::On(arbiter) => Some(*arbiter),
        Place::With(name) => placement.services().places.get(name).or(was_on),
    };
    if let Some(wanted) = wanted.filter(|wanted| arbiters.contains(wanted)) {
        return Some(wanted);
    }
    let turn = placement.services().turn.fetch_add(1, Ordering::Relaxed);
    arbiters.get(turn % arbiters.len().max(1)).copied()
}

/// What every arbiter of a process shares. Clones share it.
#[derive(Clone)]
pub struct Services {
    /// Tells the time of day.
    pub clock: Arc<dyn Clock>,
    /// The gates of all that is written.
    pub gates: EraGates,
    /// Makes the disks of each arbiter.
    pub disks: Arc<dyn DiskMaker>,
    /// On which arbiter each supervised actor runs.
    pub places: Directory<ActorName, ArbiterId>,
    /// The commit journals of each data directory, once it has been replayed.
    pub journals: Directory<PathBuf, Journals>,
    /// How long actors waited for disks, by their kind.
    pub meters: Meters,
    rng: Arc<Mutex<Rng>>,
    turn: Arc<AtomicUsize>,
    fatal: Arc<watch::Sender<Option<String>>>,
}

impl Services {
    /// Those of a process whose random draws all come from `rng`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, rng: Rng, disks: Arc<dyn DiskMaker>) -> Self {
        Self {
            clock,
            disks,
            gates: EraGates::new(),
            places: Directory::new(),
            journals: Directory::new(),
            meters: Meters::default(),
            rng: Arc::new(Mutex::new(rng)),
            turn: Arc::default(),
            fatal: Arc::new(watch::channel(None).0),
        }
    }

    /// Those of a real process: the machine's clock and random.
    #[must_use]
    pub fn of_system(disks: Arc<dyn DiskMaker>) -> Self {
        Self::new(Arc::new(SystemClock), Rng::from_system(), disks)
    }

    /// A generator for the concern called `name`, different each time, so that the lives of an actor
    /// do not draw the same identifiers again. The seed and the order of calls decide it.
    #[must_use]
    pub fn rng(&self, name: &str) -> Rng {
        // One number under the lock: a panic cannot leave it torn.
        let drawn = self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        Rng::seeded(drawn).split(name)
    }

    /// Ends the tree of supervisors, and so the process, with this sentence: for what may not go on,
    /// such as writes of a superseded actor that do not end.
    pub fn fatal(&self, error: impl fmt::Display) {
        let error = error.to_string();
        tracing::error!(%error, "the process must end");
        self.fatal.send_modify(|fatal| {
            fatal.get_or_insert(error);
        });
    }

    /// Resolves with the first sentence given to [`Services::fatal`].
    pub(crate) async fn fatal_error(&self) -> String {
        let mut fatal = self.fatal.subscribe();
        let error = fatal.wait_for(Option::is_some).await;
        error.expect("the sender is ours").clone().expect("it was waited for")
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("places", &self.places).finish_non_exhaustive()
    }
}

/// Which actor an arbiter is running, for the watchdog.
#[derive(Debug, Default)]
pub struct Activity {
    /// The number of its mailbox; 0 for none.
    running: AtomicU64,
}

impl Activity {
    pub(crate) fn enter(&self, cell: u64) {
        self.running.store(cell, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.running.store(0, Ordering::Relaxed);
    }

    pub(crate) fn running(&self) -> Option<u64> {
        Some(self.running.load(Ordering::Relaxed)).filter(|cell| *cell != 0)
    }
}

/// What stands on one arbiter.
pub struct Local {
    arbiter: ArbiterId,
    services: Services,
    activity: Arc<Activity>,
    sockets: Sockets,
    disks: RefCell<BTreeMap<PathBuf, OpenedDisk>>,
    simulated: Option<Rc<Simulated>>,
    /// On the control thread: what supervisors place their children with.
    placement: Option<Arc<dyn Placement>>,
}

struct OpenedDisk {
    disk: DiskHandle,
    has_journal: bool,
}

impl Local {
    pub(crate) fn new(
        arbiter: ArbiterId,
        services: Services,
        activity: Arc<Activity>,
        sockets: Sockets,
        simulated: Option<Rc<Simulated>>,
    ) -> Rc<Local> {
        let (disks, placement) = (RefCell::default(), None);
        Rc::new(Local { arbiter, services, activity, sockets, disks, simulated, placement })
    }

    /// That of the control thread.
    pub(crate) fn control(placement: Arc<dyn Placement>) -> Rc<Local> {
        Rc::new(Local {
            arbiter: CONTROL,
            services: placement.services().clone(),
            activity: Arc::default(),
            sockets: Sockets::default(),
            disks: RefCell::default(),
            simulated: None,
            placement: Some(placement),
        })
    }

    pub(crate) fn placement(&self) -> Option<&Arc<dyn Placement>> {
        self.placement.as_ref()
    }

    /// Which arbiter this is.
    #[must_use]
    pub fn arbiter(&self) -> ArbiterId {
        self.arbiter
    }

    /// The time of day.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.services.clock
    }

    /// As [`Services::rng`].
    #[must_use]
    pub fn rng(&self, name: &str) -> Rng {
        self.services.rng(name)
    }

    /// The disk actor of this arbiter for the data directory `dir`; started when first asked for, and
    /// its journal when first asked for after the directory's were replayed.
    ///
    /// # Errors
    /// [`DiskError`] where the system gives no driver.
    pub fn disk(&self, dir: &Path) -> Result<DiskHandle, DiskError> {
        let mut disks = self.disks.borrow_mut();
        let opened = match disks.entry(dir.to_owned()) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(none) => {
                let disk = DiskHandle::start(self.services.disks.make(self.arbiter, dir)?);
                none.insert(OpenedDisk { disk, has_journal: false })
            }
        };
        if !opened.has_journal
            && let Some(journals) = self.services.journals.get(dir)
        {
            let meter = self.services.meters.of("journal", self.arbiter);
            let disk = opened.disk.clone().metered(meter);
            disk.start_journal(&journals, self.arbiter, self.rng("journal"));
            opened.has_journal = true;
        }
        Ok(opened.disk.clone())
    }

    /// The same, for actors of a kind whose waiting is counted ([`Services::meters`]).
    ///
    /// # Errors
    /// As [`Local::disk`].
    pub fn metered_disk(&self, dir: &Path, kind: &'static str) -> Result<DiskHandle, DiskError> {
        let meter = self.services.meters.of(kind, self.arbiter);
        Ok(self.disk(dir)?.metered(meter))
    }

    /// The gates of all that is written in this process.
    #[must_use]
    pub fn gates(&self) -> &EraGates {
        &self.services.gates
    }

    /// The sockets that must be shut down when this arbiter is given up.
    #[must_use]
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// What all arbiters share.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// As [`Services::fatal`].
    pub fn fatal(&self, error: impl fmt::Display) {
        self.services.fatal(error);
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(crate) fn simulated(&self) -> Option<&Rc<Simulated>> {
        self.simulated.as_ref()
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("arbiter", &self.arbiter).finish_non_exhaustive()
    }
}
