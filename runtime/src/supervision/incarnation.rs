//! One life of an actor, as the actor sees it.

use std::{
    cell::{Cell as Flag, RefCell},
    fmt,
    rc::Rc,
    sync::Arc,
};

use actix::{Actor, Addr, dev::Envelope};

use super::{
    Exit,
    cell::{Cell, Control},
    supervisor::{Happened, Reporter},
};
use crate::{mailbox::ActorName, placement::Local};

/// The nth life of a supervised actor: given to its factory, kept by the actor.
pub struct Incarnation<A: Actor>(pub(crate) Rc<Shared<A>>);

/// What the life, its pump and its actor share.
pub(crate) struct Shared<A: Actor> {
    pub(crate) cell: Arc<Cell<A>>,
    pub(crate) life: u64,
    pub(crate) control: Arc<Control>,
    pub(crate) local: Rc<Local>,
    pub(crate) reporter: Reporter,
    /// How the actor said that it ends. Boxed: it is said once, and kept room for by all.
    pub(crate) exit: Flag<Option<Box<Exit>>>,
    pub(crate) ends: Flag<bool>,
    /// Messages that may still be handled in this turn.
    pub(crate) budget: Flag<u32>,
    /// The message on which a simulated wedge sits.
    pub(crate) held: RefCell<Option<Envelope<A>>>,
    /// The actor says itself when it has started.
    pub(crate) starts_later: Flag<bool>,
}

impl<A: Actor> Shared<A> {
    fn end(&self, exit: Exit) {
        let said = self.exit.take().unwrap_or_else(|| exit.into());
        self.exit.set(Some(said));
        self.ends.set(true);
        self.control.wake();
    }
}

impl<A: Actor> Incarnation<A> {
    /// The actor's name.
    #[must_use]
    pub fn name(&self) -> &ActorName {
        self.0.cell.name()
    }

    /// Which life of the actor this is: 1, 2, ….
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.life
    }

    /// The address that stays good over all lives. (`ctx.address()` is good for this life only.)
    #[must_use]
    pub fn address(&self) -> Addr<A> {
        self.0.cell.address().clone()
    }

    /// What stands on the arbiter of this life.
    #[must_use]
    pub fn local(&self) -> &Rc<Local> {
        &self.0.local
    }

    /// Ends this life with [`Exit::Failed`]: no message after the one at hand is handled by it, and
    /// `stopping` and `stopped` are not called. The first of several ends counts.
    pub fn fail(&self, error: impl fmt::Display) {
        self.0.end(Exit::Failed(error.to_string()));
    }

    /// Ends this life with [`Exit::Normal`] after the message at hand.
    pub fn finish(&self) {
        self.0.end(Exit::Normal);
    }

    /// The supervisor waits with what comes after this actor until [`Incarnation::is_started`].
    pub(crate) fn starts_later(&self) {
        self.0.starts_later.set(true);
    }

    pub(crate) fn is_started(&self) {
        self.0.reporter.report(Happened::Started);
    }
}

impl<A: Actor> Clone for Incarnation<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> fmt::Debug for Incarnation<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incarnation")
            .field("name", self.name())
            .field("number", &self.number())
            .field("arbiter", &self.0.local.arbiter())
            .finish()
    }
}
