//! Simulated arbiters on one `LocalSet`: the placement of tests and of the simulation.
//!
//! They share a thread, so nothing wedges really: [`LocalPlacement::wedge`] stops all lives of an
//! arbiter between two messages, and one of them with a message in its hands. The watchdog finds and
//! abandons it as it would a thread. [`LocalPlacement::release`] then lets the late effects come: the
//! held message is handled by the superseded life, and its spawned futures get one turn.
//! In a simulation the seed puts turns off ([`crate::sim::is_turn_put_off`]), so that it orders what
//! reaches which actor first; each mailbox stays in its order.

use std::{
    collections::BTreeMap,
    fmt,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use futures::{StreamExt, channel::mpsc};

use super::{Activity, ArbiterGone, Job, Local, Placement, Services, Sockets};
use crate::{ids::ArbiterId, mailbox::ActorName};

/// Arbiters that are tasks of the current `LocalSet`.
pub struct LocalPlacement {
    services: Services,
    wedged_after: Duration,
    state: Mutex<BTreeMap<ArbiterId, Running>>,
}

struct Running {
    jobs: mpsc::UnboundedSender<Job>,
    activity: Arc<Activity>,
    sockets: Sockets,
    wedge: Arc<Wedge>,
    abandoned: bool,
}

/// The switch of a simulated arbiter.
#[derive(Default)]
struct Wedge {
    on: AtomicBool,
    state: Mutex<Wedged>,
}

#[derive(Default)]
struct Wedged {
    /// The actor that holds a message while it is wedged.
    victim: Option<ActorName>,
    sleepers: Vec<Waker>,
}

impl Wedge {
    fn lock(&self) -> MutexGuard<'_, Wedged> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalPlacement {
    /// `arbiters` simulated arbiters (at least 1).
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    #[must_use]
    pub fn new(arbiters: u32, services: Services) -> Arc<LocalPlacement> {
        let mut state = BTreeMap::new();
        for id in (0..arbiters.max(1)).map(ArbiterId) {
            let (jobs, mut queued) = mpsc::unbounded::<Job>();
            let (activity, sockets) = (Arc::<Activity>::default(), Sockets::default());
            let wedge = Arc::<Wedge>::default();
            let simulated = Rc::new(Simulated { wedge: wedge.clone() });
            let (services, shared) = (services.clone(), (activity.clone(), sockets.clone()));
            actix_rt::spawn(async move {
                let local = Local::new(id, services, shared.0, shared.1, Some(simulated.clone()));
                while let Some(job) = queued.next().await {
                    simulated.awake().await;
                    job(&local);
                }
            });
            state.insert(id, Running { jobs, activity, sockets, wedge, abandoned: false });
        }
        let (wedged_after, state) = (Duration::from_secs(2), Mutex::new(state));
        Arc::new(LocalPlacement { services, wedged_after, state })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ArbiterId, Running>> {
        // Entries change in one step each; nothing under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops `arbiter` as a handler that does not return would. `victim`, where given, takes its next
    /// message first, and sits on it.
    pub fn wedge(&self, arbiter: ArbiterId, victim: Option<&ActorName>) {
        let state = self.lock();
        let running = state.get(&arbiter).expect("the arbiters are those that it was made with");
        running.wedge.lock().victim = victim.cloned();
        running.wedge.on.store(true, Ordering::Relaxed);
    }

    /// Lets a wedged arbiter go on: what is late comes now.
    pub fn release(&self, arbiter: ArbiterId) {
        let sleepers = {
            let state = self.lock();
            let running = state.get(&arbiter).expect("the arbiters are those it was made with");
            running.wedge.on.store(false, Ordering::Relaxed);
            std::mem::take(&mut running.wedge.lock().sleepers)
        };
        sleepers.into_iter().for_each(Waker::wake);
    }
}

impl Placement for LocalPlacement {
    fn services(&self) -> &Services {
        &self.services
    }

    fn arbiters(&self) -> Vec<ArbiterId> {
        self.lock().iter().filter(|(_, running)| !running.abandoned).map(|(id, _)| *id).collect()
    }

    fn run_on(&self, on: ArbiterId, job: Job) -> Result<(), ArbiterGone> {
        let state = self.lock();
        let running = state.get(&on).filter(|running| !running.abandoned).ok_or(ArbiterGone(on))?;
        running.jobs.unbounded_send(job).map_err(|_| ArbiterGone(on))
    }

    fn activity(&self, arbiter: ArbiterId) -> Option<Arc<Activity>> {
        self.lock().get(&arbiter).map(|running| running.activity.clone())
    }

    fn abandon(&self, arbiter: ArbiterId) {
        let sockets = {
            let mut state = self.lock();
            let Some(running) = state.get_mut(&arbiter) else { return };
            running.abandoned = true;
            running.sockets.clone()
        };
        sockets.shut_down();
        self.services.disks.abandoned(arbiter);
        assert!(!self.arbiters().contains(&arbiter), "PLACE-1");
    }

    fn wedged_after(&self) -> Duration {
        self.wedged_after
    }
}

/// What a simulated arbiter asks of the lives that stand on it.
pub(crate) struct Simulated {
    wedge: Arc<Wedge>,
}

#[cfg(any(test, feature = "sim"))]
use crate::sim::is_turn_put_off;

#[cfg(not(any(test, feature = "sim")))]
fn is_turn_put_off() -> bool {
    false
}

/// What a life may do with its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SimulatedTurn {
    Go,
    /// Nothing; it is woken later.
    Sleep,
    /// Take a message and sit on it.
    SleepHolding,
}

impl Simulated {
    /// Asked by the life of `name` at each of its turns.
    pub(crate) fn turn(&self, name: &ActorName, waker: &Waker) -> SimulatedTurn {
        if !self.wedge.on.load(Ordering::Relaxed) {
            if is_turn_put_off() {
                waker.wake_by_ref();
                return SimulatedTurn::Sleep;
            }
            return SimulatedTurn::Go;
        }
        let mut wedged = self.wedge.lock();
        wedged.sleepers.push(waker.clone());
        if wedged.victim.as_ref() == Some(name) {
            SimulatedTurn::SleepHolding
        } else {
            SimulatedTurn::Sleep
        }
    }

    /// Resolves while the arbiter is not wedged.
    async fn awake(&self) {
        std::future::poll_fn(|cx| {
            if !self.wedge.on.load(Ordering::Relaxed) {
                return std::task::Poll::Ready(());
            }
            self.wedge.lock().sleepers.push(cx.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }
}

impl fmt::Debug for LocalPlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPlacement").field("arbiters", &self.arbiters()).finish()
    }
}
