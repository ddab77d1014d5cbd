//! The controller: decides what topics there are, and starts and stops their partitions.
//!
//! ```text
//!   Command ──► Catalogue (core) ── Change ──► Coordination ── committed ──► apply ──► carry out ──► answer
//!                                                                            │
//!                          starts, stops, removes partitions and coordinators ◄┘
//! ```
//!
//! One change at a time: what is decided next sees what was decided before.
//!
//! # Failure
//! Permanent. A new life reads the catalogue from its log, and starts whatever of it does not run:
//! the partitions themselves live on meanwhile, under a supervisor of their own. Where the catalogue's
//! disk is full, the same life reads it again, and again until there is room; what it is asked
//! meanwhile it refuses. Where a sync of the catalogue has failed, no life of this process can read it:
//! it refuses every change, says why, and what runs goes on.

mod carry_out;
mod start;

use std::{collections::VecDeque, slice, sync::Arc, time::Duration};

use actix::prelude::*;
use flumen_runtime::{
    ids::LeaderEpoch,
    mailbox::Drain,
    supervision::{ChildSpec, Incarnation},
};
use uuid::Uuid;

use self::start::Started;
use super::{
    Settings, Shared, TopicError, TopicSpec,
    catalogue::{
        coordination::{Cause, Coordination, CoordinationError},
        node_settings::{NodeValues, Nodes},
        state::{Assigned, Catalogue, Change, Topic},
    },
    names::{PartitionId, ProducerId, TopicName},
};
use crate::answer::{Answer, Answering, later};

/// How often it looks how much room there is.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);
/// How long it waits before it opens the catalogue again whose disk was full.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// How often it looks whether retention has something to do in partitions at rest.
const REST_INTERVAL: Duration = Duration::from_secs(30);
/// How often it tries again to start or remove what could not be.
const HEAL_INTERVAL: Duration = Duration::from_secs(15);

/// What the controller may be asked to change.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Changed, TopicError>")]
pub enum Command {
    /// Makes a topic.
    Create(TopicSpec),
    /// Deletes one, and its records.
    Delete(TopicName),
    /// Gives one more partitions.
    Grow(TopicName, u32),
    /// Replaces what is set of its settings; where it says what they were, only if they still are.
    Configure(TopicName, Option<(Uuid, Settings)>, Settings),
    /// The same of a node, or of all.
    ConfigureNodes(Nodes, Option<NodeValues>, NodeValues),
    /// Takes a block of producer ids.
    TakeProducerIds,
    /// Says whether this would be done, and does not do it.
    TryOut(Box<Command>),
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Changed {
    /// The topic as it is now, or was when it was deleted.
    Topic(Box<Topic>),
    /// The first of a block of ids.
    ProducerIds(ProducerId),
    /// Nothing that could be told.
    Nothing,
}

/// See the module.
pub struct Controller {
    shared: Arc<Shared>,
    incarnation: Incarnation<Controller>,
    catalogue: Catalogue,
    /// Or why there is none.
    coordination: Result<Box<dyn Coordination>, TopicError>,
    waiting: VecDeque<(Command, Answer<Result<Changed, TopicError>>)>,
    is_busy: bool,
    /// Whether every partition runs and nothing deleted is left, as far as is known.
    is_whole: bool,
    is_looking: bool,
    draining: Option<Answer<()>>,
}

/// A controller under supervision, and its address.
pub(super) fn child_spec(shared: Arc<Shared>) -> (ChildSpec, Addr<Controller>) {
    ChildSpec::actor("controller", move |incarnation| {
        Ok(Controller {
            shared: shared.clone(),
            incarnation: incarnation.clone(),
            catalogue: Catalogue::default(),
            coordination: Err(TopicError::Stopped),
            waiting: VecDeque::new(),
            is_busy: false,
            is_whole: true,
            is_looking: false,
            draining: None,
        })
    })
}

impl Actor for Controller {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
        ctx.run_interval(ROOM_INTERVAL, |actor, ctx| {
            if std::mem::replace(&mut actor.is_looking, true) {
                return;
            }
            let looking =
                start::look_for_room(actor.shared.clone(), actor.incarnation.local().clone());
            let looking = looking.into_actor(actor);
            ctx.spawn(looking.map(|(), actor: &mut Self, _| actor.is_looking = false));
        });
        ctx.run_interval(HEAL_INTERVAL, Self::heal);
        ctx.run_interval(REST_INTERVAL, |actor, _| {
            let now_ms = actor.incarnation.local().clock().now_ms();
            let partitions = &actor.shared.partitions;
            for (_, partition) in partitions.entries_where(|at| at.has_rested(now_ms)) {
                partition.rest_is_over();
            }
        });
    }
}

impl Handler<Command> for Controller {
    type Result = Answering<Result<Changed, TopicError>>;

    fn handle(&mut self, command: Command, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        self.waiting.push_back((command, answer));
        self.next(ctx);
        answering
    }
}

impl Handler<Drain> for Controller {
    type Result = Answering<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        self.draining = Some(answer);
        self.next(ctx);
        answering
    }
}

impl Controller {
    /// Reads the catalogue, and starts whatever of it does not run.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_busy, true) {
            ctx.run_later(REOPEN_PAUSE, Self::begin);
            return;
        }
        let starting = start::start(self.shared.clone(), self.incarnation.local().clone());
        ctx.spawn(starting.into_actor(self).map(|started, actor, ctx| match started {
            Ok(started) => actor.on_started(started, ctx),
            Err(error) => {
                actor.shared.is_ready(Err(error.clone()));
                actor.read_anew(error, ctx);
            }
        }));
    }

    /// Nobody knows what the catalogue says now: what is there is read again, by the next life, or by this
    /// one where only its disk is full, since that may go on for longer than there are lives. After a
    /// failed sync only the next process can.
    fn read_anew(&mut self, error: TopicError, ctx: &mut Context<Self>) {
        let cause = match &error {
            TopicError::Coordination(error) => error.cause,
            _ => Cause::Other,
        };
        match cause {
            Cause::Other => return self.incarnation.fail(error),
            Cause::Unsynced => tracing::error!(%error, "topics cannot be changed any more"),
            Cause::Full => {
                if !matches!(self.coordination, Err(TopicError::Coordination(_))) {
                    tracing::warn!(%error, "it is opened again");
                }
                ctx.run_later(REOPEN_PAUSE, Self::begin);
            }
        }
        self.coordination = Err(error);
        self.is_busy = false;
        self.next(ctx);
    }

    fn on_started(&mut self, started: Started, ctx: &mut Context<Self>) {
        self.coordination = Ok(started.coordination);
        self.catalogue = started.catalogue;
        self.is_whole = started.is_whole;
        self.shared.publish(&self.catalogue);
        self.shared.is_ready(Ok(()));
        let (shared, local) = (self.shared.clone(), self.incarnation.local().clone());
        // Nobody waits for it, and some log may take long to open.
        let settling = start::settle_journals(shared, local);
        ctx.spawn(settling.into_actor(self));
        self.is_busy = false;
        self.next(ctx);
    }

    /// Tries again what was left half done.
    fn heal(&mut self, ctx: &mut Context<Self>) {
        if self.is_whole || self.is_busy {
            return;
        }
        self.is_busy = true;
        let topics = self.catalogue.topics().cloned().collect();
        let deleting = self.catalogue.deleting().cloned().collect();
        let (shared, local) = (self.shared.clone(), self.incarnation.local().clone());
        let healing = start::heal(shared, local, topics, deleting);
        ctx.spawn(healing.into_actor(self).map(|healed, actor, ctx| {
            actor.is_whole = healed.is_whole;
            actor.on_removed(healed.removed.into(), ctx);
        }));
    }

    /// Begins with the next change, where none is under way.
    fn next(&mut self, ctx: &mut Context<Self>) {
        while !self.is_busy {
            let Some((command, answer)) = self.waiting.pop_front() else { break };
            if let Err(why) = &self.coordination {
                answer.give(Err(why.clone()));
                continue;
            }
            match command {
                Command::TryOut(command) => {
                    answer.give(self.decide(*command).map(|_| Changed::Nothing));
                }
                command => match self.decide(command) {
                    Ok((change, ids)) => self.commit(change, ids, answer, ctx),
                    Err(error) => answer.give(Err(error)),
                },
            }
        }
        if !self.is_busy
            && let Some(answer) = self.draining.take()
        {
            self.is_busy = true;
            let stopped = Err(TopicError::Stopped);
            let coordination = std::mem::replace(&mut self.coordination, stopped).ok();
            let stopping =
                start::stop(self.shared.clone(), self.incarnation.local().clone(), coordination);
            ctx.spawn(stopping.into_actor(self).map(|(), _, _| answer.give(())));
        }
    }

    fn decide(&self, command: Command) -> Result<(Change, Option<ProducerId>), TopicError> {
        let catalogue = &self.catalogue;
        let mut load = self.shared.load(catalogue);
        let mut assign = |_: PartitionId| {
            // The directory with the fewest partitions, as Kafka chooses.
            let directory = load.iter_mut().min_by_key(|(_, partitions)| **partitions);
            let (directory, partitions) = directory.expect("a node has a data directory");
            *partitions += 1;
            self.assigned(*directory)
        };
        let change = match command {
            Command::Create(spec) => {
                let id = self.incarnation.local().rng("topic").uuid();
                catalogue.create(id, &spec.name, spec.partitions, spec.settings, &mut assign)?
            }
            Command::Delete(name) => catalogue.delete(&name)?,
            Command::Grow(name, partitions) => catalogue.grow(&name, partitions, &mut assign)?,
            Command::Configure(name, was, settings) => {
                let is = catalogue.topic(&name).map(|topic| (topic.id, &topic.settings));
                if was.is_some_and(|(id, was)| is != Some((id, &was))) {
                    return Err(TopicError::ChangedMeanwhile);
                }
                catalogue.configure(&name, settings)?
            }
            Command::ConfigureNodes(nodes, was, values) => {
                if was.is_some_and(|was| catalogue.node_settings().of(nodes) != was) {
                    return Err(TopicError::ChangedMeanwhile);
                }
                Change::NodesConfigured { nodes, values }
            }
            Command::TakeProducerIds => {
                let (change, first) = catalogue.take_producer_ids();
                return Ok((change, Some(first)));
            }
            Command::TryOut(command) => return self.decide(*command),
        };
        catalogue.check_total(&change, self.shared.partitions_max())?;
        Ok((change, None))
    }

    fn assigned(&self, directory: Uuid) -> Assigned {
        let node = self.shared.spec.node;
        Assigned { leader: node, leader_epoch: LeaderEpoch(0), in_sync: vec![node], directory }
    }

    fn commit(
        &mut self,
        change: Change,
        ids: Option<ProducerId>,
        answer: Answer<Result<Changed, TopicError>>,
        ctx: &mut Context<Self>,
    ) {
        let coordination = match &mut self.coordination {
            Ok(coordination) => coordination,
            Err(why) => return answer.give(Err(why.clone())),
        };
        self.is_busy = true;
        let committing = coordination.commit(slice::from_ref(&change));
        ctx.spawn(committing.into_actor(self).map(move |committed, actor, ctx| {
            actor.on_committed(committed, change, ids, answer, ctx);
        }));
    }

    fn on_committed(
        &mut self,
        committed: Result<(), CoordinationError>,
        change: Change,
        ids: Option<ProducerId>,
        answer: Answer<Result<Changed, TopicError>>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = committed {
            answer.give(Err(error.clone().into()));
            return self.read_anew(error.into(), ctx);
        }
        let before = change.topic().and_then(|id| self.catalogue.topic_by_id(id)).cloned();
        self.catalogue.apply(change.clone());
        let after = change.topic().and_then(|id| self.catalogue.topic_by_id(id)).cloned();
        self.shared.publish(&self.catalogue);
        let topic = after.or(before);
        let local = self.incarnation.local().clone();
        let carrying = carry_out::carry_out(self.shared.clone(), local, change, topic.clone());
        ctx.spawn(carrying.into_actor(self).map(move |carried, actor, ctx| {
            let changed = match (ids, topic) {
                (Some(first), _) => Changed::ProducerIds(first),
                (None, Some(topic)) => Changed::Topic(Box::new(topic)),
                (None, None) => Changed::Nothing,
            };
            actor.is_whole &= carried.is_ok();
            let removed = carried.as_ref().ok().and_then(Clone::clone);
            answer.give(carried.map(|_| changed));
            actor.on_removed(removed.into_iter().collect(), ctx);
        }));
    }

    /// The directories of deleted topics are gone: that they were there may be forgotten. Then goes
    /// on with the next change.
    fn on_removed(&mut self, mut removed: VecDeque<Change>, ctx: &mut Context<Self>) {
        let (Ok(coordination), Some(change)) = (&mut self.coordination, removed.pop_front()) else {
            self.is_busy = false;
            return self.next(ctx);
        };
        let committing = coordination.commit(slice::from_ref(&change));
        ctx.spawn(committing.into_actor(self).map(move |committed, actor, ctx| match committed {
            Ok(()) => {
                actor.catalogue.apply(change);
                actor.on_removed(removed, ctx);
            }
            Err(error) => {
                actor.is_whole = false;
                actor.read_anew(error.into(), ctx);
            }
        }));
    }
}
