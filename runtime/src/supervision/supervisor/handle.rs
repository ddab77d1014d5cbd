//! The handle of a supervisor, for every thread; and how a tree of them begins and ends.

use std::{collections::BTreeMap, fmt, sync::Arc};

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use futures::future::{Either, select};
use tokio::sync::watch;

use super::{
    ChildSpec, Supervisor, SupervisorSpec,
    messages::{Children, InjectPanic, LookAtMailboxes, Reporter, StartChild, StopChild},
};
use crate::{
    ids::ArbiterId,
    mailbox::{ActorName, Drain},
    placement::{Local, Placement},
    supervision::{Exit, watchdog},
};

impl SupervisorSpec {
    /// Starts this supervisor as the root of a process, with its watchdog, on the current thread,
    /// which is from then on the control thread. Its end is [`SupervisorRef::exited`]: launch code
    /// makes the process's exit code of it.
    ///
    /// # Panics
    /// Outside a `LocalSet` or an actix system.
    pub fn start(self, placement: Arc<dyn Placement>) -> SupervisorRef {
        let (child, supervisor) = ChildSpec::supervisor(self);
        let local = Local::control(placement.clone());
        let begun = child.behind.begin().expect("a new mailbox is open");
        child.behind.run(begun, &local, Reporter::Root(child.behind.clone()));
        let root = supervisor.clone();
        actix_rt::spawn(async move {
            let services = placement.services().clone();
            let watching = Box::pin(watchdog::watch(placement, root.address.clone()));
            let (exited, fatal) = (Box::pin(root.exited()), Box::pin(services.fatal_error()));
            if let Either::Left((Either::Right((why, _)), _)) =
                select(select(exited, fatal), watching).await
            {
                root.has_ended(Exit::Failed(why));
            }
        });
        supervisor
    }
}

/// How far a supervisor is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Up,
    Ended(Exit),
}

/// The handle of a supervisor; it stays good while the supervisor is made anew.
#[derive(Clone)]
pub struct SupervisorRef {
    name: ActorName,
    address: Addr<Supervisor>,
    stage: Arc<watch::Sender<Stage>>,
}

/// The supervisor has ended.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the supervisor has ended")]
pub struct SupervisorGone;

/// Why a child could not be added.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StartChildError {
    /// Another of that name is there.
    #[error("there is a child named `{name}` already")]
    Exists {
        /// The name.
        name: ActorName,
    },
    /// It ended before it had started once; it was not kept, and its address is closed.
    #[error("child `{name}` did not start: {exit}")]
    Failed {
        /// The name.
        name: ActorName,
        /// How it ended.
        exit: Exit,
    },
    /// The supervisor ends, or has ended.
    #[error("the supervisor has ended")]
    Gone,
}

/// Why a child could not be stopped or reached.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StopChildError {
    /// There is none of that name.
    #[error("there is no child named `{name}`")]
    Unknown {
        /// The name.
        name: ActorName,
    },
    /// The supervisor ends, or has ended.
    #[error("the supervisor has ended")]
    Gone,
}

/// Where a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// Its turn to start has not come.
    Waiting,
    /// It left, and is made anew after its back-off.
    BackingOff,
    /// It is being made.
    Starting,
    /// It runs.
    Running,
    /// It is asked to end.
    Stopping,
    /// It will not come back.
    Done,
}

/// What there is to know of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    /// Its name.
    pub name: ActorName,
    /// Where it stands.
    pub state: ChildState,
    /// How often it was made anew.
    pub restarts: u64,
    /// Where it runs, or ran last.
    pub arbiter: Option<ArbiterId>,
    /// How it left last.
    pub last_exit: Option<Exit>,
}

/// What waits for the actors of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailboxDepth {
    /// How many actors there are.
    pub actors: usize,
    /// Messages in the mailboxes of all of them.
    pub waiting: usize,
    /// Messages in the fullest.
    pub waiting_most: usize,
}

impl MailboxDepth {
    /// With another actor, which has so many.
    pub(super) fn add(&mut self, waiting: usize) {
        self.merge(Self { actors: 1, waiting, waiting_most: waiting });
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.actors += other.actors;
        self.waiting += other.waiting;
        self.waiting_most = self.waiting_most.max(other.waiting_most);
    }
}

/// What waits for actors, by their kind: the name of their type, as in `group_coordinator`.
pub type Mailboxes = BTreeMap<String, MailboxDepth>;

impl SupervisorRef {
    pub(crate) fn new(name: ActorName, address: Addr<Supervisor>) -> Self {
        Self { name, address, stage: Arc::new(watch::channel(Stage::Starting).0) }
    }

    /// The supervisor's name.
    #[must_use]
    pub fn name(&self) -> &ActorName {
        &self.name
    }

    async fn ask<M>(&self, message: M) -> Result<M::Result, SupervisorGone>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Supervisor: Handler<M>,
        actix::Context<Supervisor>: ToEnvelope<Supervisor, M>,
    {
        self.address.send(message).await.map_err(|_| SupervisorGone)
    }

    /// Adds a child; resolves when it has started.
    ///
    /// # Errors
    /// Where the name is taken, where the child ended before it had started once (it is not kept
    /// then), and where the supervisor ends.
    pub async fn start_child(&self, child: ChildSpec) -> Result<(), StartChildError> {
        self.ask(StartChild(child)).await.map_err(|_| StartChildError::Gone)?
    }

    /// Drains the child called `name`, ends it and closes its address; resolves when that is done.
    ///
    /// # Errors
    /// Where there is none of that name, and where the supervisor ends.
    pub async fn stop_child(&self, name: &str) -> Result<(), StopChildError> {
        self.ask(StopChild(name.into())).await.map_err(|_| StopChildError::Gone)?
    }

    /// Drains and ends all children, in reverse, then the supervisor; resolves when that is done.
    pub async fn stop(&self) {
        // Where it is gone already, that is what was wanted.
        let _ = self.ask(Drain).await;
        self.exited().await;
    }

    /// Makes the child called `name`, of this supervisor or of one below it, panic at its next turn.
    /// For tests and demonstrations.
    ///
    /// # Errors
    /// Where there is none of that name, and where the supervisor ends.
    pub async fn inject_panic(&self, name: &str) -> Result<(), StopChildError> {
        let found = self.ask(InjectPanic(name.into())).await.map_err(|_| StopChildError::Gone)?;
        if found { Ok(()) } else { Err(StopChildError::Unknown { name: name.into() }) }
    }

    /// What there is to know of its children, in their order.
    ///
    /// # Errors
    /// Where the supervisor has ended.
    pub async fn children(&self) -> Result<Vec<ChildStatus>, SupervisorGone> {
        self.ask(Children).await
    }

    /// What waits in the mailboxes of its children, of theirs, and so on. None of them has a turn
    /// for it, only the supervisors among them.
    ///
    /// # Errors
    /// Where the supervisor has ended.
    pub async fn mailboxes(&self) -> Result<Mailboxes, SupervisorGone> {
        self.ask(LookAtMailboxes).await
    }

    /// Resolves when all children of the spec have started.
    ///
    /// # Errors
    /// How the supervisor ended, where it did before.
    pub async fn up(&self) -> Result<(), Exit> {
        match self.wait_for(|stage| *stage != Stage::Starting).await {
            Stage::Ended(exit) => Err(exit),
            Stage::Starting | Stage::Up => Ok(()),
        }
    }

    /// Resolves when the supervisor has ended for good, and tells how. For the root: also when
    /// something said that the process must end ([`crate::placement::Services::fatal`]).
    pub async fn exited(&self) -> Exit {
        match self.wait_for(|stage| matches!(stage, Stage::Ended(_))).await {
            Stage::Ended(exit) => exit,
            Stage::Starting | Stage::Up => unreachable!("it was waited for"),
        }
    }

    async fn wait_for(&self, wanted: impl FnMut(&Stage) -> bool) -> Stage {
        let mut stage = self.stage.subscribe();
        stage.wait_for(wanted).await.expect("the sender is ours").clone()
    }

    pub(crate) fn is_up(&self) {
        self.stage.send_if_modified(|stage| {
            let starting = *stage == Stage::Starting;
            if starting {
                *stage = Stage::Up;
            }
            starting
        });
    }

    /// The first end counts.
    pub(crate) fn has_ended(&self, exit: Exit) {
        self.stage.send_if_modified(|stage| {
            let first = !matches!(stage, Stage::Ended(_));
            if first {
                *stage = Stage::Ended(exit);
            }
            first
        });
    }
}

impl fmt::Debug for SupervisorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorRef").field("name", &self.name).finish_non_exhaustive()
    }
}
