//! What a supervisor is told: its children, how each is made, and when it is made anew.

use std::{fmt, panic::AssertUnwindSafe, rc::Rc, sync::Arc, time::Duration};

use actix::{Addr, MailboxError};
use futures::{FutureExt, future::BoxFuture};

use super::{
    Backoff, Exit, Incarnation, Intensity, Restart, StartError, Strategy,
    cell::{Cell, Control},
    incarnation::Shared,
    life::{Life, guarded},
    supervisor::{ArbiterLost, Happened, Reporter, Supervisor, SupervisorRef},
};
use crate::{
    mailbox::{ActorName, Drain, Supervised, tell},
    placement::{Local, Place},
};

/// How a child is made, and when it is made anew. Clones are of the same child.
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) behind: Arc<dyn Behind>,
    pub(crate) name: ActorName,
    pub(crate) restart: Restart,
    pub(crate) place: Place,
    pub(crate) stop_within: Duration,
}

impl ChildSpec {
    /// An actor called `name`, made by `factory`, and the address that is good from now on: messages
    /// wait until the actor has started. Permanent, placed anywhere, and given 10 s to stop.
    ///
    /// The factory runs on the arbiter, once for each life. What takes long or can fail later belongs
    /// into `started` and the futures it spawns.
    pub fn actor<A: Supervised>(
        name: impl Into<ActorName>,
        factory: impl Fn(&Incarnation<A>) -> Result<A, StartError> + Send + Sync + 'static,
    ) -> (ChildSpec, Addr<A>) {
        let name = name.into();
        let cell = Cell::new(name.clone());
        let address = cell.address().clone();
        let spec = ChildSpec {
            behind: Arc::new(ActorBehind { cell, factory }),
            name,
            restart: Restart::Permanent,
            place: Place::Any,
            stop_within: Duration::from_secs(10),
        };
        (spec, address)
    }

    /// A supervisor under a supervisor, and its handle. Transient, on the control thread, and given
    /// 60 s to stop all that is under it.
    pub fn supervisor(spec: SupervisorSpec) -> (ChildSpec, SupervisorRef) {
        let name = spec.name.clone();
        let cell = Cell::new(name.clone());
        let supervisor = SupervisorRef::new(name.clone(), cell.address().clone());
        let (spec, made) = (Arc::new(spec), supervisor.clone());
        let children = spec.clone();
        let factory =
            move |incarnation: &Incarnation<Supervisor>| Supervisor::new(&spec, incarnation, &made);
        let behind = ActorBehind { cell, factory };
        let behind = SupervisorBehind { behind, spec: children, supervisor: supervisor.clone() };
        let child = ChildSpec {
            behind: Arc::new(behind),
            name,
            restart: Restart::Transient,
            place: Place::Any,
            stop_within: Duration::from_secs(60),
        };
        (child, supervisor)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ActorName {
        &self.name
    }

    /// When it is made anew.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Where it is put; of no effect on a supervisor.
    #[must_use]
    pub fn place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// How long it may take to finish what is in before it is killed.
    #[must_use]
    pub fn stop_within(mut self, within: Duration) -> Self {
        self.stop_within = within;
        self
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("restart", &self.restart)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// What a supervisor is.
#[derive(Clone, Debug)]
pub struct SupervisorSpec {
    /// Its name.
    pub name: ActorName,
    /// Who falls with a child that fails.
    pub strategy: Strategy,
    /// How many restarts it pays for.
    pub intensity: Intensity,
    /// How long it waits before one.
    pub backoff: Backoff,
    /// Its children, in the order in which they start.
    pub children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// One-for-one, with the default intensity and back-off, and no child yet.
    pub fn new(name: impl Into<ActorName>) -> Self {
        Self {
            name: name.into(),
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            children: Vec::new(),
        }
    }

    /// Adds a child behind the others.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }
}

/// A begun life that has not been made yet.
pub(crate) struct Begun {
    life: u64,
    control: Arc<Control>,
}

/// A child whose type is forgotten.
pub(crate) trait Behind: Send + Sync {
    /// The number of its mailbox.
    fn number(&self) -> u64;

    /// What kind of actor it is: the name of its type, as in `group_coordinator`.
    fn kind(&self) -> String;

    /// How many messages wait in its mailbox.
    fn waiting(&self) -> usize;

    /// Begins a life: the one before takes no more messages. `None` where the mailbox is closed.
    fn begin(&self) -> Option<Begun>;

    /// Makes the actor of that life, on its arbiter.
    fn run(&self, begun: Begun, local: &Rc<Local>, reporter: Reporter);

    /// Tells the newest life something: see [`Control`].
    fn order(&self, order: u8);

    /// Resolves when the actor has finished what was in.
    fn drain(&self) -> BoxFuture<'static, Result<(), MailboxError>>;

    /// Closes the mailbox for good.
    fn close(&self, exit: &Exit);

    fn is_closed(&self) -> bool;

    /// The handle, where this is a supervisor.
    fn supervisor(&self) -> Option<&SupervisorRef> {
        None
    }

    /// Passed down to supervisors.
    fn arbiter_lost(&self, _lost: ArbiterLost) {}
}

struct ActorBehind<A: Supervised, F> {
    cell: Arc<Cell<A>>,
    factory: F,
}

impl<A, F> Behind for ActorBehind<A, F>
where
    A: Supervised,
    F: Fn(&Incarnation<A>) -> Result<A, StartError> + Send + Sync,
{
    fn number(&self) -> u64 {
        self.cell.number()
    }

    fn kind(&self) -> String {
        kind_of(std::any::type_name::<A>())
    }

    fn waiting(&self) -> usize {
        self.cell.waiting()
    }

    fn begin(&self) -> Option<Begun> {
        self.cell.begin_life().map(|(life, control)| Begun { life, control })
    }

    fn run(&self, begun: Begun, local: &Rc<Local>, reporter: Reporter) {
        let Begun { life, control } = begun;
        if control.orders() & (Control::SUPERSEDED | Control::KILL) != 0 {
            reporter.report(Happened::Exited(Exit::Killed));
            return;
        }
        let shared = Rc::new(Shared {
            cell: self.cell.clone(),
            life,
            control,
            local: local.clone(),
            reporter: reporter.clone(),
            exit: Default::default(),
            ends: Default::default(),
            budget: Default::default(),
            held: Default::default(),
            starts_later: Default::default(),
        });
        local.activity().enter(self.cell.number());
        let made = guarded(AssertUnwindSafe(|| (self.factory)(&Incarnation(shared.clone()))));
        local.activity().leave();
        match made {
            Ok(Ok(actor)) => drop(actix_rt::spawn(Life::new(shared, actor))),
            Ok(Err(error)) => reporter.report(Happened::Exited(Exit::Failed(error.to_string()))),
            Err(what) => reporter.report(Happened::Exited(Exit::Panicked(what))),
        }
    }

    fn order(&self, order: u8) {
        self.cell.order(order);
    }

    fn drain(&self) -> BoxFuture<'static, Result<(), MailboxError>> {
        self.cell.address().send(Drain).boxed()
    }

    fn close(&self, _: &Exit) {
        self.cell.close();
    }

    fn is_closed(&self) -> bool {
        self.cell.is_closed()
    }
}

/// `a::b::SomeActor<c::D>` is a `some_actor`.
fn kind_of(type_name: &str) -> String {
    let plain = type_name.split('<').next().unwrap_or_default();
    let name = plain.rsplit("::").next().unwrap_or_default();
    let mut kind = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_uppercase() && !kind.is_empty() {
            kind.push('_');
        }
        kind.extend(letter.to_lowercase());
    }
    kind
}

struct SupervisorBehind<F> {
    behind: ActorBehind<Supervisor, F>,
    spec: Arc<SupervisorSpec>,
    supervisor: SupervisorRef,
}

impl<F> Behind for SupervisorBehind<F>
where
    F: Fn(&Incarnation<Supervisor>) -> Result<Supervisor, StartError> + Send + Sync,
{
    fn number(&self) -> u64 {
        self.behind.number()
    }

    fn kind(&self) -> String {
        self.behind.kind()
    }

    fn waiting(&self) -> usize {
        self.behind.waiting()
    }

    fn begin(&self) -> Option<Begun> {
        self.behind.begin()
    }

    fn run(&self, begun: Begun, local: &Rc<Local>, reporter: Reporter) {
        self.behind.run(begun, local, reporter);
    }

    fn order(&self, order: u8) {
        self.behind.order(order);
    }

    fn drain(&self) -> BoxFuture<'static, Result<(), MailboxError>> {
        self.behind.drain()
    }

    fn close(&self, exit: &Exit) {
        self.behind.close(exit);
        self.spec.children.iter().for_each(|child| child.behind.close(exit));
        self.supervisor.has_ended(exit.clone());
    }

    fn is_closed(&self) -> bool {
        self.behind.is_closed()
    }

    fn supervisor(&self) -> Option<&SupervisorRef> {
        Some(&self.supervisor)
    }

    fn arbiter_lost(&self, lost: ArbiterLost) {
        tell(self.behind.cell.address(), lost);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_kind_is_the_name_of_a_type_without_its_place_and_parameters() {
        for (name, kind) in [
            ("flumen::broker::Partition", "partition"),
            ("flumen::broker::GroupCoordinator", "group_coordinator"),
            ("a::Connection<tokio::net::TcpStream>", "connection"),
            ("Plain", "plain"),
        ] {
            assert_eq!(super::kind_of(name), kind);
        }
    }
}
