//! The supervisor: an actor that carries out what the policy decides, and the handle of one.
//!
//! Supervisors stand on the control thread, apart from the arbiters whose wedging they survive. A
//! supervisor is itself a supervised actor: its parent makes it anew as it would any other, and its
//! children's mailboxes, which stand in the specs, outlive it.

mod handle;
mod messages;

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, Context};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Exit, Incarnation, StartError,
    cell::Control,
    spec::{ChildSpec, SupervisorSpec},
    state::{ChildId, Core, Effect, Policy, Run, State, Timer},
};
use crate::{
    ids::ArbiterId,
    mailbox::{ActorName, tell},
    placement::{CONTROL, Placement, choose},
    rng::Rng,
};

pub use handle::{
    ChildState, ChildStatus, MailboxDepth, Mailboxes, StartChildError, StopChildError,
    SupervisorGone, SupervisorRef,
};
pub(crate) use messages::{ArbiterLost, Happened, Reporter};
use messages::{Drained, TimerElapsed};

/// Carries out the policy for its children.
pub(crate) struct Supervisor {
    me: Incarnation<Supervisor>,
    core: Core,
    /// Boxed: a map keeps room for nearly twice what is in it.
    children: BTreeMap<ChildId, Box<Kept>>,
    names: BTreeMap<ActorName, ChildId>,
    placement: Arc<dyn Placement>,
    began: Instant,
    rng: Rng,
    handle: SupervisorRef,
    /// Those who wait for the end of a child. Beside the children: few are asked to end.
    stopping: BTreeMap<ChildId, Vec<oneshot::Sender<()>>>,
    /// Those who wait for the end of all children.
    stops: Vec<oneshot::Sender<()>>,
}

struct Kept {
    spec: ChildSpec,
    arbiter: Option<ArbiterId>,
    /// Added after the start: forgotten once it is done.
    added: bool,
    starting: Option<oneshot::Sender<Result<(), StartChildError>>>,
}

impl Supervisor {
    pub(crate) fn new(
        spec: &SupervisorSpec,
        me: &Incarnation<Supervisor>,
        handle: &SupervisorRef,
    ) -> Result<Self, StartError> {
        let local = me.local();
        let placement = local
            .placement()
            .ok_or_else(|| StartError::new("a supervisor runs on the control thread"))?;
        me.starts_later();
        let mut supervisor = Supervisor {
            me: me.clone(),
            core: Core::new(spec.strategy, spec.intensity, spec.backoff),
            children: BTreeMap::new(),
            names: BTreeMap::new(),
            placement: placement.clone(),
            began: Instant::now(),
            rng: local.rng(&spec.name),
            handle: handle.clone(),
            stopping: BTreeMap::new(),
            stops: Vec::new(),
        };
        for child in &spec.children {
            if supervisor.names.contains_key(&child.name) {
                return Err(StartError::new(format_args!(
                    "two children are named `{}`",
                    child.name
                )));
            }
            // One that was done for good in an earlier life of this supervisor stays so.
            if !child.behind.is_closed() {
                let id = supervisor.core.add(policy(child));
                supervisor.keep(id, child.clone(), false);
            }
        }
        Ok(supervisor)
    }

    fn keep(&mut self, id: ChildId, spec: ChildSpec, added: bool) -> &mut Kept {
        self.names.insert(spec.name.clone(), id);
        let kept = Kept { spec, arbiter: None, added, starting: None };
        self.children.entry(id).insert_entry(Box::new(kept)).into_mut()
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn named(&self, name: &str) -> Option<(ChildId, &Kept)> {
        let id = *self.names.get(name)?;
        let state = self.core.child(id)?.state;
        (state != State::Done).then(|| (id, &*self.children[&id]))
    }

    // ---- Effects -------------------------------------------------------------------------------

    fn apply(&mut self, mut effects: Vec<Effect>) {
        while !effects.is_empty() {
            let mut more = Vec::new();
            for effect in effects {
                more.extend(self.carry_out(effect));
            }
            effects = more;
        }
    }

    /// Carries out one effect, and gives what the policy wants next where that is known at once.
    fn carry_out(&mut self, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::Start(id, run) => return self.begin(id, run),
            Effect::Drain(id, run) => self.drain(id, run),
            Effect::Finish(id) => self.order(id, Control::FINISH),
            Effect::Kill(id) => self.order(id, Control::KILL),
            Effect::Close(id, exit) => self.close(id, &exit),
            Effect::WakeAfter(timer, after) => self.wake(timer, after),
            Effect::WakeBackedOff(timer, most) => {
                let half = most / 2;
                let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
                let jitter = Duration::from_nanos(self.rng.below(nanos.saturating_add(1)));
                self.wake(timer, most - half + jitter);
            }
            Effect::Started(id) => {
                if let Some(starting) = self.children.get_mut(&id).and_then(|c| c.starting.take()) {
                    drop(starting.send(Ok(())));
                }
            }
            Effect::Up => {
                self.me.is_started();
                self.handle.is_up();
            }
            Effect::Ended(exit) => {
                for stop in self.stops.drain(..) {
                    let _ = stop.send(());
                }
                match exit {
                    Exit::Failed(why) => self.me.fail(why),
                    _ => self.me.finish(),
                }
            }
        }
        Vec::new()
    }

    fn begin(&mut self, id: ChildId, run: Run) -> Vec<Effect> {
        let now = self.now();
        let era = self.me.number();
        let Some(kept) = self.children.get_mut(&id) else { return Vec::new() };
        let reporter = Reporter::to(self.me.0.cell.clone(), era, id, run);
        let behind = kept.spec.behind.clone();
        let Some(begun) = behind.begin() else {
            let closed = Exit::Failed("its mailbox was closed before it started".into());
            return self.core.on_exited(id, run, closed, now);
        };
        if behind.supervisor().is_some() {
            kept.arbiter = Some(CONTROL);
            behind.run(begun, &Rc::clone(self.me.local()), reporter);
            return Vec::new();
        }
        kept.arbiter = choose(&*self.placement, &kept.spec.place, kept.arbiter);
        let Some(arbiter) = kept.arbiter else {
            let gone = Exit::Failed("there is no arbiter to run it".into());
            return self.core.on_exited(id, run, gone, now);
        };
        self.placement.services().places.insert(kept.spec.name.clone(), arbiter);
        let job = Box::new(move |local: &_| behind.run(begun, local, reporter));
        // Refused by a dead thread that the watchdog has not met yet: it will move this child, too.
        let _ = self.placement.run_on(arbiter, job);
        Vec::new()
    }

    /// A child that does not end when it is told to is a defect that somebody should hear of.
    fn report_late(&self, timer: Timer, effects: &[Effect]) {
        if let Timer::Deadline(id, _) = timer
            && effects.contains(&Effect::Kill(id))
            && let Some(kept) = self.children.get(&id)
        {
            let (actor, within) = (&kept.spec.name, kept.spec.stop_within);
            tracing::warn!(%actor, ?within, "an actor did not stop in time and was killed");
        }
    }

    fn order(&self, id: ChildId, order: u8) {
        if let Some(kept) = self.children.get(&id) {
            kept.spec.behind.order(order);
        }
    }

    fn drain(&self, id: ChildId, run: Run) {
        let Some(kept) = self.children.get(&id) else { return };
        let (drained, to, era) = (kept.spec.behind.drain(), self.me.address(), self.me.number());
        actix_rt::spawn(async move {
            // An actor that ends instead of answering reports its exit.
            if drained.await.is_ok() {
                tell(&to, Drained { era, id, run });
            }
        });
    }

    fn wake(&self, timer: Timer, after: Duration) {
        let (to, era) = (self.me.address(), self.me.number());
        actix_rt::spawn(async move {
            tokio::time::sleep(after).await;
            tell(&to, TimerElapsed { era, timer });
        });
    }

    fn close(&mut self, id: ChildId, exit: &Exit) {
        let Some(kept) = self.children.get_mut(&id) else { return };
        kept.spec.behind.close(exit);
        self.placement.services().places.remove(&*kept.spec.name);
        if let Some(starting) = kept.starting.take() {
            let name = kept.spec.name.clone();
            drop(starting.send(Err(StartChildError::Failed { name, exit: exit.clone() })));
        }
        for stopping in self.stopping.remove(&id).unwrap_or_default() {
            let _ = stopping.send(());
        }
        if kept.added {
            self.names.remove(&kept.spec.name);
            self.children.remove(&id);
            self.core.forget(id);
        }
    }
}

fn policy(spec: &ChildSpec) -> Policy {
    Policy { name: spec.name.clone(), restart: spec.restart, stop_within: spec.stop_within }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let effects = self.core.start();
        self.apply(effects);
    }
}

impl Drop for Supervisor {
    /// Nobody watches the children any more: they end with their supervisor.
    fn drop(&mut self) {
        for kept in self.children.values().rev() {
            kept.spec.behind.order(Control::KILL);
        }
    }
}
