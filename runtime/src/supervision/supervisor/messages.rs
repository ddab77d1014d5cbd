//! What a supervisor is told and asked, and what it does then.

use std::sync::Arc;

use actix::{Context, Handler, Message, MessageResult, ResponseFuture};
use tokio::sync::oneshot;

use super::{
    ChildSpec, ChildState, ChildStatus, Control, Mailboxes, StartChildError, StopChildError,
    Supervisor, policy,
};
use crate::{
    ids::ArbiterId,
    mailbox::{ActorName, Drain, tell},
    supervision::{
        Exit,
        cell::Cell,
        spec::Behind,
        state::{ChildId, Run, State, Timer},
    },
};

// ---- From below --------------------------------------------------------------------------------

/// What became of a run.
#[derive(Clone, Debug)]
pub(crate) enum Happened {
    Started,
    Exited(Exit),
}

/// Tells whoever watches a run what became of it.
#[derive(Clone)]
pub(crate) enum Reporter {
    Supervisor {
        /// Shared by all children: each clone of an address is an allocation or two.
        to: Arc<Cell<Supervisor>>,
        era: u64,
        id: ChildId,
        run: Run,
    },
    /// The root is watched by nobody: its end closes it.
    Root(Arc<dyn Behind>),
}

impl Reporter {
    pub(crate) fn to(to: Arc<Cell<Supervisor>>, era: u64, id: ChildId, run: Run) -> Self {
        Reporter::Supervisor { to, era, id, run }
    }

    pub(crate) fn report(&self, happened: Happened) {
        match (self, happened) {
            (Reporter::Supervisor { to, era, id, run }, happened) => {
                tell(to.address(), Report { era: *era, id: *id, run: *run, happened });
            }
            (Reporter::Root(root), Happened::Exited(exit)) => root.close(&exit),
            (Reporter::Root(_), Happened::Started) => {}
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Report {
    era: u64,
    id: ChildId,
    run: Run,
    happened: Happened,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drained {
    pub(crate) era: u64,
    pub(crate) id: ChildId,
    pub(crate) run: Run,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TimerElapsed {
    pub(crate) era: u64,
    pub(crate) timer: Timer,
}

/// From the watchdog, through the root to all.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ArbiterLost {
    pub(crate) arbiter: ArbiterId,
    /// The mailbox of the actor that was running on it.
    pub(crate) culprit: Option<u64>,
}

impl Handler<Report> for Supervisor {
    type Result = ();

    fn handle(&mut self, report: Report, _: &mut Context<Self>) {
        let Report { era, id, run, happened } = report;
        if era != self.me.number() {
            return; // SUP-6, of an earlier life of this supervisor
        }
        let now = self.now();
        let effects = match happened {
            Happened::Started => self.core.on_started(id, run, now),
            Happened::Exited(exit) => {
                if let Some(kept) = self.children.get(&id).filter(|_| exit.is_failure()) {
                    tracing::warn!(actor = %kept.spec.name, %exit, "an actor left");
                }
                self.core.on_exited(id, run, exit, now)
            }
        };
        self.apply(effects);
    }
}

impl Handler<Drained> for Supervisor {
    type Result = ();

    fn handle(&mut self, Drained { era, id, run }: Drained, _: &mut Context<Self>) {
        if era == self.me.number() {
            let effects = self.core.on_drained(id, run);
            self.apply(effects);
        }
    }
}

impl Handler<TimerElapsed> for Supervisor {
    type Result = ();

    fn handle(&mut self, TimerElapsed { era, timer }: TimerElapsed, _: &mut Context<Self>) {
        if era == self.me.number() {
            let effects = self.core.on_timer(timer);
            self.report_late(timer, &effects);
            self.apply(effects);
        }
    }
}

impl Handler<ArbiterLost> for Supervisor {
    type Result = ();

    fn handle(&mut self, lost: ArbiterLost, _: &mut Context<Self>) {
        let (mut gone, mut culprit) = (Vec::new(), None);
        for (id, kept) in &self.children {
            kept.spec.behind.arbiter_lost(lost);
            if kept.arbiter == Some(lost.arbiter) {
                gone.push(*id);
                if lost.culprit == Some(kept.spec.behind.number()) {
                    culprit = Some(*id);
                }
            }
        }
        let charged = culprit.is_some() || lost.culprit.is_none();
        let now = self.now();
        let effects = self.core.on_arbiter_lost(&gone, culprit, charged, now);
        self.apply(effects);
    }
}

// ---- From above and outside ----------------------------------------------------------------------

#[derive(Message)]
#[rtype(result = "Result<(), StartChildError>")]
pub(crate) struct StartChild(pub(crate) ChildSpec);

#[derive(Message)]
#[rtype(result = "Result<(), StopChildError>")]
pub(crate) struct StopChild(pub(crate) ActorName);

#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct InjectPanic(pub(crate) ActorName);

#[derive(Message)]
#[rtype(result = "Vec<ChildStatus>")]
pub(crate) struct Children;

/// The mailboxes of all children, and of theirs.
#[derive(Message)]
#[rtype(result = "Mailboxes")]
pub(crate) struct LookAtMailboxes;

impl Handler<StartChild> for Supervisor {
    type Result = ResponseFuture<Result<(), StartChildError>>;

    fn handle(&mut self, StartChild(spec): StartChild, _: &mut Context<Self>) -> Self::Result {
        let name = spec.name.clone();
        if !self.core.is_up() {
            return Box::pin(async { Err(StartChildError::Gone) });
        }
        if self.named(&name).is_some() {
            return Box::pin(async { Err(StartChildError::Exists { name }) });
        }
        if let Some(done) = self.names.remove(&name) {
            self.children.remove(&done);
            self.core.forget(done);
        }
        let (id, effects) = self.core.start_child(policy(&spec));
        let (starting, started) = oneshot::channel();
        self.keep(id, spec, true).starting = Some(starting);
        self.apply(effects);
        Box::pin(async { started.await.unwrap_or(Err(StartChildError::Gone)) })
    }
}

impl Handler<StopChild> for Supervisor {
    type Result = ResponseFuture<Result<(), StopChildError>>;

    fn handle(&mut self, StopChild(name): StopChild, _: &mut Context<Self>) -> Self::Result {
        let Some((id, _)) = self.named(&name) else {
            return Box::pin(async { Err(StopChildError::Unknown { name }) });
        };
        let (stopping, stopped) = oneshot::channel();
        self.stopping.entry(id).or_default().push(stopping);
        let effects = self.core.stop_child(id);
        self.apply(effects);
        Box::pin(async { stopped.await.map_err(|_| StopChildError::Gone) })
    }
}

impl Handler<Drain> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) -> Self::Result {
        let (stop, stopped) = oneshot::channel();
        self.stops.push(stop);
        let effects = self.core.stop();
        self.apply(effects);
        Box::pin(async { drop(stopped.await) })
    }
}

impl Handler<InjectPanic> for Supervisor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, InjectPanic(name): InjectPanic, _: &mut Context<Self>) -> Self::Result {
        if let Some((_, kept)) = self.named(&name) {
            kept.spec.behind.order(Control::PANIC);
            return Box::pin(async { true });
        }
        let below: Vec<_> = self
            .children
            .values()
            .filter_map(|kept| kept.spec.behind.supervisor().cloned())
            .collect();
        Box::pin(async move {
            for supervisor in below {
                if supervisor.inject_panic(&name).await.is_ok() {
                    return true;
                }
            }
            false
        })
    }
}

impl Handler<Children> for Supervisor {
    type Result = MessageResult<Children>;

    fn handle(&mut self, _: Children, _: &mut Context<Self>) -> Self::Result {
        let statuses = self.core.children().filter_map(|(id, child)| {
            let kept = self.children.get(&id)?;
            Some(ChildStatus {
                name: kept.spec.name.clone(),
                state: match child.state {
                    State::Down => ChildState::Waiting,
                    State::Waiting => ChildState::BackingOff,
                    State::Starting => ChildState::Starting,
                    State::Running => ChildState::Running,
                    State::Draining | State::Killing => ChildState::Stopping,
                    State::Done => ChildState::Done,
                },
                restarts: child.restarts,
                arbiter: kept.arbiter,
                last_exit: child.last_exit.clone(),
            })
        });
        MessageResult(statuses.collect())
    }
}

impl Handler<LookAtMailboxes> for Supervisor {
    type Result = ResponseFuture<Mailboxes>;

    fn handle(&mut self, _: LookAtMailboxes, _: &mut Context<Self>) -> Self::Result {
        let (mut all, mut below) = (Mailboxes::new(), Vec::new());
        for kept in self.children.values() {
            let behind = &kept.spec.behind;
            all.entry(behind.kind()).or_default().add(behind.waiting());
            below.extend(behind.supervisor().cloned());
        }
        Box::pin(async move {
            for supervisor in below {
                // One that has ended has no mailboxes any more.
                for (kind, theirs) in supervisor.mailboxes().await.unwrap_or_default() {
                    all.entry(kind).or_default().merge(theirs);
                }
            }
            all
        })
    }
}
