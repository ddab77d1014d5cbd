//! The task that runs one life of an actor: actix's own context, guarded, and a pump in it.
//!
//! ```text
//!   Life::poll ── catch_unwind ──► ContextFut::poll ──► Pump::poll ──► take one, handle it, …
//!     orders: finish, kill, panic, superseded          └ at most BUDGET a turn
//! ```
//!
//! A broken actor is terminated before it is dropped, inside `catch_unwind`: dropping a context that
//! is not terminated would poll it, and run `stopping` and `stopped` on the broken actor.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
};

use actix::{
    ActorContext, AsyncContext, Context,
    dev::{ContextFut, EnvelopeProxy},
    fut::ActorFuture,
};

use super::{Exit, cell::Control, incarnation::Shared, supervisor::Happened};
use crate::{
    mailbox::Supervised,
    placement::{CONTROL, Simulated, SimulatedTurn},
};

/// Messages that an actor handles before others of its arbiter have their turn: enough that a turn's
/// own cost does not show, little enough that two hundred full mailboxes make a turn of a few ms.
const BUDGET: u32 = 64;

pub(crate) struct Life<A: Supervised> {
    shared: Rc<Shared<A>>,
    actor: Option<ContextFut<A, Context<A>>>,
    started: bool,
}

impl<A: Supervised> Life<A> {
    pub(crate) fn new(shared: Rc<Shared<A>>, actor: A) -> Self {
        let mut context = Context::new();
        context.spawn(Pump(shared.clone()));
        Self { shared, actor: Some(context.into_future(actor)), started: false }
    }

    /// Gives the actor one turn; `Err` tells what it panicked with.
    fn turn(&mut self, cx: &mut TaskContext<'_>, orders: u8) -> Result<Poll<()>, String> {
        let Some(actor) = &mut self.actor else { return Ok(Poll::Ready(())) };
        let activity = self.shared.local.activity();
        self.shared.budget.set(BUDGET);
        activity.enter(self.shared.cell.number());
        let polled = guarded(|| {
            assert!(orders & Control::PANIC == 0, "injected panic");
            if orders & Control::FINISH != 0 {
                actor.ctx().stop();
            }
            Pin::new(actor).poll(cx)
        });
        activity.leave();
        polled
    }

    /// Ends the actor where it stands, and says so.
    fn end(&mut self, exit: Exit) -> Poll<()> {
        if self.release() {
            self.shared.reporter.report(Happened::Exited(exit));
        }
        Poll::Ready(())
    }

    /// Drops the actor without its hooks; false where that was done before.
    fn release(&mut self) -> bool {
        let Some(mut actor) = self.actor.take() else { return false };
        let dropped = guarded(move || {
            actor.ctx().terminate();
            drop(actor);
        });
        if let Err(what) = dropped {
            tracing::error!(actor = %self.shared.cell.name(), %what, "panic while dropped");
        }
        true
    }

    /// In a simulation: whether the arbiter is wedged at this moment.
    fn sleeps(&self, simulated: &Simulated, cx: &mut TaskContext<'_>) -> bool {
        let shared = &self.shared;
        let turn = simulated.turn(shared.cell.name(), cx.waker());
        if turn == SimulatedTurn::SleepHolding {
            shared.local.activity().enter(shared.cell.number());
            let mut held = shared.held.borrow_mut();
            if held.is_none()
                && let Poll::Ready(letter) = shared.cell.take(shared.life, cx)
            {
                *held = letter;
            }
        }
        turn != SimulatedTurn::Go
    }
}

impl<A: Supervised> Future for Life<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        const OVER: u8 = Control::KILL | Control::SUPERSEDED;
        let this = self.get_mut();
        this.shared.control.register(cx);
        if let Some(simulated) = this.shared.local.simulated()
            && this.sleeps(simulated, cx)
        {
            return Poll::Pending;
        }
        let orders = this.shared.control.orders();
        if orders & OVER != 0 && this.shared.held.borrow().is_none() {
            return this.end(Exit::Killed);
        }
        match this.turn(cx, orders) {
            Err(what) => return this.end(Exit::Panicked(what)),
            Ok(Poll::Ready(())) => {
                let said = this.shared.exit.take();
                return this.end(said.map_or(Exit::Normal, |said| *said));
            }
            Ok(Poll::Pending) => {}
        }
        if !std::mem::replace(&mut this.started, true) && !this.shared.starts_later.get() {
            this.shared.reporter.report(Happened::Started);
        }
        match this.shared.exit.take().map(|said| *said) {
            Some(Exit::Normal) => match this.turn(cx, Control::FINISH) {
                Err(what) => this.end(Exit::Panicked(what)),
                Ok(_) => this.end(Exit::Normal),
            },
            Some(exit) => this.end(exit),
            None if this.shared.control.orders() & OVER != 0 => this.end(Exit::Killed),
            None => Poll::Pending,
        }
    }
}

impl<A: Supervised> Drop for Life<A> {
    /// Dropped by its runtime, which ends. Its arbiter is dead then, and the watchdog moves all who
    /// were on it at once: were each to report for itself, each would be paid for, and tried again
    /// where there is nobody. Only the control thread has no watchdog.
    fn drop(&mut self) {
        if self.shared.local.arbiter() == CONTROL {
            let _ = self.end(Exit::Killed);
        } else {
            self.release();
        }
    }
}

/// Runs code of others; `Err` tells what it panicked with.
pub(crate) fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    // What the code leaves torn is dropped by the caller, never used again (SUP-2).
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| text(&*panic))
}

fn text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "something that is no text".to_owned())
}

/// Carries messages from the cell to the actor, while this life is the newest.
struct Pump<A: Supervised>(Rc<Shared<A>>);

impl<A: Supervised> ActorFuture<A> for Pump<A> {
    type Output = ();

    /// Never ready: a pump that is done would look to the context like an actor that is.
    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let shared = &self.0;
        if shared.local.simulated().is_some() {
            let held = shared.held.take();
            if let Some(mut letter) = held {
                letter.handle(actor, ctx);
            }
        }
        while !ctx.waiting() && !shared.ends.get() {
            let Some(budget) = shared.budget.get().checked_sub(1) else {
                cx.waker().wake_by_ref();
                break;
            };
            let Poll::Ready(Some(mut letter)) = shared.cell.take(shared.life, cx) else { break };
            shared.budget.set(budget);
            letter.handle(actor, ctx);
        }
        Poll::Pending
    }
}
