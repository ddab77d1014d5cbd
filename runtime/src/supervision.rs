//! Supervision: actors are made by factories, watched, and made anew behind the same address.
//!
//! ```text
//!   control thread                                   arbiter n
//!   Supervisor ── job: make life k ───────────────►  factory(&Incarnation) ─► actor
//!     policy  ◄── started / exited(k) ─────────────  Life: catch_unwind(actix context)
//!     (state.rs)                                       └ Pump ◄─ Cell: mailbox, outlives lives
//!   watchdog ── ping ──► arbiter; no answer ⇒ abandon it, move all its actors
//! ```
//!
//! The mailbox stands outside the actor, in a cell. Each life of the actor (an [`Incarnation`])
//! takes one message at a time out of it, so what a broken life did not take, the next one answers,
//! and the address stays good. The message that broke it is answered with `MailboxError::Closed`.
//!
//! # Invariants
//! - SUP-1: at most one incarnation of an actor may *write*: a wedged one still runs, so writes
//!   carry an era ([`crate::era`]), and only the newest incarnation is given messages.
//! - SUP-2: every incarnation comes from the factory, never from a dead one's state.
//! - SUP-3: more than `restarts_max` restarts within `period` end the supervisor itself.
//! - SUP-4: children of the spec start in order, each after the one before it has started, and stop
//!   in reverse. Those added later count as one more rank at the end, which starts and stops at once.
//! - SUP-5: each message is given to at most one incarnation, in the order in which they came.
//! - SUP-6: a report about a run that is no longer the child's newest changes nothing.
//!
//! # Failure
//! | what happens | exit | permanent | transient | temporary |
//! |---|---|---|---|---|
//! | panic: handler, spawned future, `started`, factory | `Panicked` | anew | anew | gone |
//! | [`Incarnation::fail`], factory's error | `Failed` | anew | anew | gone |
//! | its arbiter wedged or died | `Killed` | moved | moved | gone |
//! | [`Incarnation::finish`], `ctx.stop()` | `Normal` | anew | done | done |
//!
//! A panic inside a future that a handler *returned* as `ResponseFuture` is in a task of its own:
//! its caller gets `Closed` and the actor lives on; such futures never hold actor state.
//! A move counts against the budget of the supervisor whose child wedged, not of its neighbours.
//! `stopping` and `stopped` run only when an actor ends well, never on a broken one: there a second
//! panic would abort the process.
//!
//! # Cost
//! Release build, 2 shared cores under load, medians of 15 interleaved rounds, 2026-11-24, a message
//! to a supervised actor against stock actix on the same arbiter: 1,024 in flight 214 ns against
//! 207 ns (1.04; against actix's default mailbox of 16, which a full window blocks, 0.53); one at a
//! time 345 ns against 291 ns (1.2, with a spread of 0.7 to 1.6). The lock of a mailbox is taken once
//! a message and is never contended; orders and the watchdog's stamp are one load and two stores a
//! turn. An idle supervised actor takes 2.0 KB in 26 allocations, its address and spec included;
//! 10,000 children are added in 0.25 s.
//!
//! # Why not actix's `Supervisor`
//! It restarts after `ctx.stop()` and does nothing after a panic, and keeps the same struct.

mod cell;
mod incarnation;
mod life;
mod policy;
mod spec;
mod state;
mod supervisor;
mod watchdog;

pub use incarnation::Incarnation;
pub use policy::{Backoff, Exit, Intensity, Restart, StartError, Strategy};
pub use spec::{ChildSpec, SupervisorSpec};
pub use supervisor::{
    ChildState, ChildStatus, MailboxDepth, Mailboxes, StartChildError, StopChildError,
    SupervisorGone, SupervisorRef,
};

#[cfg(test)]
mod tests;
