//! One arbiter a core: the placement of a real process.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    num::NonZero,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use actix_rt::Arbiter;

use super::{Activity, ArbiterGone, Job, Local, Placement, Services, Sockets};
use crate::ids::ArbiterId;

thread_local! {
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// How a [`ThreadPlacement`] lays out its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadOptions {
    /// Arbiters; at least 1. By default one for each core that this process may use.
    pub arbiters: u32,
    /// Whether arbiter n is bound to core n. Off by default: on a shared machine the scheduler knows
    /// better, and two pinned arbiters on idle cores pay a full wake-up for each message between them.
    pub pin: bool,
    /// How long an arbiter may give no sign of life before it is taken for wedged.
    pub wedged_after: Duration,
}

impl Default for ThreadOptions {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            arbiters: u32::try_from(cores).unwrap_or(u32::MAX),
            pin: false,
            wedged_after: Duration::from_secs(2),
        }
    }
}

/// Arbiters that are threads. Made by launch code, inside an actix system.
pub struct ThreadPlacement {
    options: ThreadOptions,
    services: Services,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u32,
    arbiters: BTreeMap<ArbiterId, Running>,
}

struct Running {
    arbiter: Arbiter,
    core: u32,
    activity: Arc<Activity>,
    sockets: Sockets,
}

impl ThreadPlacement {
    /// Starts the arbiters.
    ///
    /// # Errors
    /// Where a thread cannot be made.
    ///
    /// # Panics
    /// Outside an actix system.
    pub fn start(options: ThreadOptions, services: Services) -> io::Result<Arc<ThreadPlacement>> {
        let placement = ThreadPlacement { options, services, state: Mutex::default() };
        for core in 0..options.arbiters.max(1) {
            placement.add(core)?;
        }
        Ok(Arc::new(placement))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Entries are put in and taken out whole; nothing under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, core: u32) -> io::Result<()> {
        let mut state = self.lock();
        let id = ArbiterId(state.next);
        state.next += 1;
        let pin = self.options.pin;
        let arbiter = Arbiter::try_with_tokio_rt(move || {
            if pin {
                pin_to(core);
            }
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        })?;
        let (activity, sockets) = (Arc::<Activity>::default(), Sockets::default());
        let (services, shared) = (self.services.clone(), (activity.clone(), sockets.clone()));
        arbiter.spawn_fn(move || {
            let local = Local::new(id, services, shared.0, shared.1, None);
            LOCAL.with(|here| here.borrow_mut().replace(local));
        });
        state.arbiters.insert(id, Running { arbiter, core, activity, sockets });
        Ok(())
    }

    /// Ends all arbiters; they drop what they hold on their own threads.
    pub fn stop(&self) {
        for (_, running) in std::mem::take(&mut self.lock().arbiters) {
            running.arbiter.stop();
        }
    }
}

fn pin_to(core: u32) {
    let mut cores = rustix::thread::CpuSet::new();
    let count = thread::available_parallelism().map_or(1, NonZero::get);
    cores.set(core as usize % count);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &cores) {
        tracing::warn!(core, %error, "cannot bind an arbiter to its core; it runs on any");
    }
}

impl Placement for ThreadPlacement {
    fn services(&self) -> &Services {
        &self.services
    }

    fn arbiters(&self) -> Vec<ArbiterId> {
        self.lock().arbiters.keys().copied().collect()
    }

    fn run_on(&self, on: ArbiterId, job: Job) -> Result<(), ArbiterGone> {
        let state = self.lock();
        let running = state.arbiters.get(&on).ok_or(ArbiterGone(on))?;
        let taken = running.arbiter.spawn_fn(move || {
            let local = LOCAL.with(|here| here.borrow().clone());
            job(&local.expect("the first job of every arbiter has put it there"));
        });
        if taken { Ok(()) } else { Err(ArbiterGone(on)) }
    }

    fn activity(&self, arbiter: ArbiterId) -> Option<Arc<Activity>> {
        self.lock().arbiters.get(&arbiter).map(|running| running.activity.clone())
    }

    fn abandon(&self, arbiter: ArbiterId) {
        let Some(lost) = self.lock().arbiters.remove(&arbiter) else { return };
        lost.sockets.shut_down();
        self.services.disks.abandoned(arbiter);
        // Obeyed when its thread comes back, if ever.
        lost.arbiter.stop();
        if let Err(error) = self.add(lost.core) {
            tracing::error!(%error, "no thread in place of {arbiter}; the others carry its actors");
        }
        assert!(!self.arbiters().contains(&arbiter), "PLACE-1");
    }

    fn wedged_after(&self) -> Duration {
        self.options.wedged_after
    }
}
