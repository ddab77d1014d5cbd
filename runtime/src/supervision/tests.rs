//! Supervision as an actor sees it: on simulated arbiters under paused time, and on threads where a
//! wedge must be real.

mod lives;
mod moves;
mod trees;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult,
    ResponseActFuture, WrapFuture,
};

use super::*;
use crate::{
    clock::ManualClock,
    disk::sim::{Faults, SimDisks},
    ids::ArbiterId,
    mailbox::Drain,
    placement::{LocalPlacement, Services},
    rng::Rng,
};

fn services() -> Services {
    let rng = Rng::seeded(7);
    let disks = Arc::new(SimDisks::new(&rng, Faults::none()));
    Services::new(Arc::new(ManualClock::at(0)), rng, disks)
}

fn placement(arbiters: u32) -> Arc<LocalPlacement> {
    LocalPlacement::new(arbiters, services())
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn push(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Counts, and breaks on demand.
struct Probe {
    incarnation: Incarnation<Probe>,
    seen: Seen,
    count: u64,
    drains_within: Duration,
}

impl Probe {
    fn new(incarnation: &Incarnation<Probe>, seen: &Seen) -> Probe {
        let incarnation = incarnation.clone();
        Probe { incarnation, seen: seen.clone(), count: 0, drains_within: Duration::ZERO }
    }

    fn spec(name: &str, seen: &Seen) -> (ChildSpec, actix::Addr<Probe>) {
        let seen = seen.clone();
        ChildSpec::actor(name, move |incarnation| Ok(Probe::new(incarnation, &seen)))
    }

    fn says(&self, what: &str) {
        self.seen.push(format!("{what} {}#{}", self.incarnation.name(), self.incarnation.number()));
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.says("started");
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.says("stopped");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.says("dropped");
    }
}

impl Handler<Drain> for Probe {
    type Result = actix::ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) -> Self::Result {
        self.says("drains");
        // Real time: no, whoever sets this has paused it.
        Box::pin(tokio::time::sleep(self.drains_within))
    }
}

/// Answers how often it was asked in this life.
#[derive(Message)]
#[rtype(result = "u64")]
struct Count;

impl Handler<Count> for Probe {
    type Result = u64;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> u64 {
        self.count += 1;
        self.count
    }
}

/// Which life answers, and where.
#[derive(Message)]
#[rtype(result = "(u64, ArbiterId)")]
struct Who;

impl Handler<Who> for Probe {
    type Result = MessageResult<Who>;

    fn handle(&mut self, _: Who, _: &mut Context<Self>) -> Self::Result {
        MessageResult((self.incarnation.number(), self.incarnation.local().arbiter()))
    }
}

/// Ways to break.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
enum Break {
    Handler,
    ReturnedFuture,
    SpawnedFuture,
    Wait,
    Fail,
    Finish,
    Stop,
}

impl Handler<Break> for Probe {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, how: Break, ctx: &mut Context<Self>) -> Self::Result {
        match how {
            Break::Handler => panic!("injected: handler"),
            Break::ReturnedFuture => {
                return Box::pin(
                    async {}.into_actor(self).map(|(), _, _| panic!("injected: reply")),
                );
            }
            Break::SpawnedFuture => {
                ctx.spawn(async {}.into_actor(self).map(|(), _, _| panic!("injected: spawned")));
            }
            Break::Wait => {
                ctx.wait(async {}.into_actor(self).map(|(), _, _| panic!("injected: awaited")));
            }
            Break::Fail => self.incarnation.fail("it cannot go on"),
            Break::Finish => self.incarnation.finish(),
            Break::Stop => ctx.stop(),
        }
        Box::pin(std::future::ready(()).into_actor(self))
    }
}

async fn status(supervisor: &SupervisorRef, name: &str) -> ChildStatus {
    let children = supervisor.children().await.unwrap();
    children.into_iter().find(|child| &*child.name == name).unwrap()
}
