//! A stage: an actor that reads as a member of its group, runs records through an outlet, and commits
//! its position, together with what the outlet gives it to keep.
//!
//! ```text
//!   Assigned ──► begin      Records ──► take      timer, Revoking, Drain ──► finish ──► commit
//! ```
//!
//! # Failure
//! Permanent. Whatever fails ends this life; the next one begins from what was committed, or from what
//! the outlet knows of later.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::prelude::*;
use flumen_actors::{
    answer::{Answer, Answering, later},
    broker::{
        Broker,
        consumer::{
            CommitError, ConsumedTo, Consumer, ConsumerOptions, Deliveries, Delivery, Reads,
            Records, member::MemberOptions,
        },
        names::TopicPartition,
    },
};
use flumen_runtime::{
    batch::RecordView,
    ids::Offset,
    mailbox::{ActorName, Drain},
    supervision::{ChildSpec, Incarnation},
};
use futures::{FutureExt as _, StreamExt as _, future};
use tokio::{sync::watch, time::Instant};

use super::{
    outlet::{Begin, Outlet, StageError},
    reading::each_record,
};

/// Bytes after which a stage finishes and commits, whatever the time: of records, or of what they make an
/// outlet put out as one.
const FINISH_BYTES: usize = 4 << 20;

/// Sees every record that a stage takes in: for latencies.
pub type Observer = Arc<dyn Fn(&RecordView<'_>) + Send + Sync>;

/// What a stage is made with, in each of its lives.
#[derive(Clone)]
pub struct StageOptions {
    /// The name of its actor.
    pub name: ActorName,
    /// Where it reads.
    pub broker: Broker,
    /// As whom.
    pub member: MemberOptions,
    /// How it reads.
    pub consumer: ConsumerOptions,
    /// How often it finishes and commits.
    pub commit_interval: Duration,
    /// Makes the outlet of each life.
    pub outlet: Arc<dyn Fn() -> Box<dyn Outlet> + Send + Sync>,
    /// Sees every record; nobody, as a rule.
    pub observer: Option<Observer>,
    /// Where it tells how far it is.
    pub progress: Progress,
}

/// The positions that a stage has committed. Clones share them, over all lives and members.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<BTreeMap<TopicPartition, Offset>>>);

impl Progress {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Offset>> {
        // Positions that are replaced one by one: a panic cannot leave them torn.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, partition: &TopicPartition, committed: Offset) {
        self.lock().insert(partition.clone(), committed);
    }

    /// The position in each partition that was read.
    #[must_use]
    pub fn partitions(&self) -> BTreeMap<TopicPartition, Offset> {
        self.lock().clone()
    }
}

/// See the module.
pub struct Stage {
    options: StageOptions,
    incarnation: Incarnation<Stage>,
    stop: watch::Sender<bool>,
    draining: Vec<Answer<()>>,
    has_ended: bool,
}

/// A stage under supervision, and its address.
#[must_use]
pub fn child_spec(options: StageOptions) -> (ChildSpec, Addr<Stage>) {
    ChildSpec::actor(options.name.clone(), move |incarnation| {
        Ok(Stage {
            options: options.clone(),
            incarnation: incarnation.clone(),
            stop: watch::channel(false).0,
            draining: Vec::new(),
            has_ended: false,
        })
    })
}

impl Actor for Stage {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let running = run(self.options.clone(), self.stop.subscribe());
        ctx.spawn(running.into_actor(self).map(|ended, actor, _| {
            actor.has_ended = true;
            if let Err(error) = ended {
                actor.incarnation.fail(error);
            }
            actor.draining.drain(..).for_each(|answer| answer.give(()));
        }));
    }
}

impl Handler<Drain> for Stage {
    type Result = Answering<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        self.stop.send_replace(true);
        if self.has_ended {
            answer.give(());
        } else {
            self.draining.push(answer);
        }
        answering
    }
}

async fn run(options: StageOptions, mut stop: watch::Receiver<bool>) -> Result<(), StageError> {
    let refused = |error: &dyn std::fmt::Display| StageError::Group(error.to_string());
    options.broker.coordinator(&options.member.group).await.map_err(|error| refused(&error))?;
    let lookup = Arc::new(options.broker.clone());
    let reads = Reads::Subscribed(options.member.clone());
    let outlet = (options.outlet)();
    let mut reading = options.consumer.clone();
    reading.durable_only |= outlet.takes_durable_only();
    let (consumer, deliveries) = Consumer::start(lookup, reads, reading);
    let mut life = Life { options, consumer, outlet, taken: BTreeMap::new(), bytes: 0 };
    life.run(deliveries, &mut stop).await?;
    life.finish_all().await?;
    // Stopped, it may be started again with fewer members, or never.
    life.consumer.leave().await;
    Ok(())
}

struct Life {
    options: StageOptions,
    consumer: Consumer,
    outlet: Box<dyn Outlet>,
    /// Partitions of which something was taken in and not committed, and up to where.
    taken: BTreeMap<TopicPartition, Offset>,
    bytes: usize,
}

impl Life {
    /// Takes in what is delivered, until the stage is to stop.
    async fn run(
        &mut self,
        mut deliveries: Deliveries,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), StageError> {
        let mut finish_at = Instant::now() + self.options.commit_interval;
        loop {
            let stopped = stop.wait_for(|stop| *stop).map(drop).boxed_local();
            let next = tokio::time::timeout_at(finish_at, deliveries.next()).boxed_local();
            let delivery = match future::select(stopped, next).await {
                future::Either::Left(_) => return Ok(()),
                future::Either::Right((delivery, _)) => delivery,
            };
            match delivery {
                Ok(Some(delivery)) => self.on_delivery(delivery).await?,
                Ok(None) => return Err(StageError::Group("its consumer ended".to_owned())),
                Err(_) => {}
            }
            if self.bytes >= FINISH_BYTES || Instant::now() >= finish_at {
                self.finish_all().await?;
                finish_at = Instant::now() + self.options.commit_interval;
            }
        }
    }

    async fn on_delivery(&mut self, delivery: Delivery) -> Result<(), StageError> {
        match delivery {
            Delivery::Assigned(all) => {
                for assigned in all {
                    let (partition, position) = (&assigned.partition, assigned.position);
                    let is_cut = assigned.is_cut;
                    let committed = assigned.committed.filter(|c| is_cut || c.offset == position);
                    let state = committed.as_ref().map(|committed| &*committed.metadata);
                    let from = Begin { position, state, is_cut };
                    let begins = self.outlet.begin(partition, from).await?;
                    if begins != position {
                        self.consumer.seek(partition.clone(), begins).await;
                    }
                    self.options.progress.set(partition, begins);
                    if is_cut {
                        // Before anything is put out that a next life would not know of.
                        self.taken.insert(partition.clone(), begins);
                        self.finish(std::slice::from_ref(partition)).await?;
                    }
                }
            }
            Delivery::Records(records) => self.take(&records).await?,
            Delivery::Revoking(revocation) => {
                for partition in revocation.partitions() {
                    self.finish(std::slice::from_ref(partition)).await?;
                    self.outlet.end(partition);
                }
                revocation.finish();
            }
            Delivery::Lost(partitions) => {
                for partition in &partitions {
                    self.taken.remove(partition);
                    self.outlet.end(partition);
                }
            }
            Delivery::Unreadable { partition, offset, reason } => {
                return Err(StageError::Unreadable { partition, offset, reason });
            }
            Delivery::Failed(error) => return Err(StageError::Group(error.to_string())),
        }
        Ok(())
    }

    async fn take(&mut self, records: &Records) -> Result<(), StageError> {
        let partition = &records.partition;
        let mut is_gone = false;
        for bytes in &records.batches {
            let take = async |record: &RecordView<'_>| {
                if is_gone {
                    return Ok(());
                }
                let to_put_out = self.outlet.take(partition, record)?;
                self.options.observer.iter().for_each(|observe| observe(record));
                if to_put_out >= FINISH_BYTES {
                    self.taken.insert(partition.clone(), record.offset.next());
                    is_gone = !self.finish(std::slice::from_ref(partition)).await?.is_empty();
                }
                Ok(())
            };
            each_record(partition, bytes, records.position..records.next, take).await?;
            if is_gone {
                return Ok(());
            }
            self.bytes += bytes.len();
        }
        self.taken.insert(partition.clone(), records.next);
        Ok(())
    }

    async fn finish_all(&mut self) -> Result<(), StageError> {
        let partitions: Vec<TopicPartition> = self.taken.keys().cloned().collect();
        self.bytes = 0;
        self.finish(&partitions).await.map(drop)
    }

    /// Puts out what was taken in of `partitions`, and commits it. Answers those that are gone meanwhile,
    /// of which the outlet knows nothing any more.
    async fn finish(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<TopicPartition>, StageError> {
        let (mut positions, mut all_gone) = (Vec::new(), Vec::new());
        for partition in partitions {
            let Some(next) = self.taken.remove(partition) else { continue };
            let state = self.outlet.finish(partition, next).await?;
            let metadata = state.into();
            positions.push(ConsumedTo { metadata, ..ConsumedTo::new(partition.clone(), next) });
        }
        while !positions.is_empty() {
            match self.consumer.commit(positions.clone()).await {
                Ok(()) => break,
                Err(CommitError::NotAssigned(gone)) => {
                    // Another member has it, or will: what was put out of it is there, or is put out again.
                    self.outlet.end(&gone);
                    positions.retain(|position| position.partition != gone);
                    all_gone.push(gone);
                }
                Err(error) => return Err(StageError::Group(error.to_string())),
            }
        }
        for ConsumedTo { partition, offset, .. } in positions {
            self.options.progress.set(&partition, offset);
        }
        Ok(all_gone)
    }
}

#[cfg(test)]
mod tests;
