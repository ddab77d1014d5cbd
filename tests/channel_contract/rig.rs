//! A supervised channel on simulated disks, and a source and a sink as small as can be.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use flumen_actors::agent::{
    channel::{
        Capacity, Channel, ChannelError, CommitTake, Put, RollbackTake, Session, Take,
        TransactionId,
        durable::{DurableChannel, DurableChannelOptions},
        memory::{MemoryChannel, MemoryChannelOptions},
    },
    event::{Advance, Event, PositionBytes, cost_of},
};
use flumen_runtime::{
    clock::ManualClock,
    credit::{Credit, Permit},
    disk::sim::{Faults, SimDisks},
    placement::{LocalPlacement, Services},
    rng::Rng,
    supervision::{Backoff, ChildSpec, Intensity, SupervisorRef, SupervisorSpec},
};

/// Which channel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Memory,
    Durable,
}

/// A running channel.
pub(crate) struct Rig {
    pub(crate) channel: Channel,
    supervisor: SupervisorRef,
    disks: SimDisks,
}

/// A disk on which as many bytes fit.
fn room(bytes: u64) -> Faults {
    Faults { capacity: bytes, ..Faults::none() }
}

fn often() -> SupervisorSpec {
    let mut spec = SupervisorSpec::new("rig");
    spec.intensity = Intensity { restarts_max: 1_000_000, period: Duration::from_secs(1) };
    spec.backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(1) };
    spec
}

impl Rig {
    pub(crate) async fn start(kind: Kind) -> Rig {
        Self::start_with(kind, 1000).await
    }

    pub(crate) async fn start_with(kind: Kind, events: usize) -> Rig {
        Self::start_on(SimDisks::new(&Rng::seeded(1), Faults::none()), kind, events).await
    }

    /// A durable one on a disk that is full from the beginning.
    pub(crate) async fn start_without_room() -> Rig {
        Self::start_on(SimDisks::new(&Rng::seeded(1), room(0)), Kind::Durable, 1000).await
    }

    /// From now on nothing fits on the disk that is not there already.
    pub(crate) fn fill_disk(&self) {
        self.disks.set_faults(room(0));
    }

    /// Someone has made room.
    pub(crate) fn make_room(&self) {
        self.disks.set_faults(Faults::none());
    }

    async fn start_on(disks: SimDisks, kind: Kind, events: usize) -> Rig {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let services = Services::new(clock, Rng::seeded(2), Arc::new(disks.clone()));
        let capacity = Capacity { events, bytes: 1 << 20 };
        let (child, channel) = match kind {
            Kind::Memory => {
                let options = MemoryChannelOptions::new("c", capacity);
                let (child, address) = ChildSpec::actor("c", move |incarnation| {
                    Ok(MemoryChannel::new(options.clone(), incarnation))
                });
                (child, Channel::new("c", &address))
            }
            Kind::Durable => {
                let options = DurableChannelOptions::new("c", "/data", capacity);
                let (child, address) = ChildSpec::actor("c", move |incarnation| {
                    Ok(DurableChannel::new(options.clone(), incarnation))
                });
                (child, Channel::new("c", &address))
            }
        };
        let supervisor = often().child(child).start(LocalPlacement::new(1, services));
        supervisor.up().await.unwrap();
        Rig { channel, supervisor, disks }
    }

    /// Stops it in order.
    pub(crate) async fn stop(&self) {
        self.supervisor.stop_child("c").await.unwrap();
    }

    /// The channel's actor dies; the next one has begun when this returns.
    pub(crate) async fn kill(&self) {
        let before = self.restarts().await;
        self.supervisor.inject_panic("c").await.unwrap();
        while self.restarts().await == before {
            // Real time: none passes, the tests have paused it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Rig {
    async fn restarts(&self) -> u64 {
        self.supervisor.children().await.unwrap()[0].restarts
    }
}

/// A source whose position is a number: how many events it has put.
pub(crate) struct Source {
    channel: Channel,
    name: String,
    session: Session,
    credit: Credit,
    pub(crate) position: u64,
}

impl Source {
    pub(crate) async fn open(rig: &Rig, name: &str) -> Source {
        let opened = rig.channel.open_source(name.into()).await.unwrap();
        let position = opened
            .position
            .get("n")
            .map_or(0, |bytes| u64::from_le_bytes(bytes.0.as_slice().try_into().unwrap()));
        Source {
            channel: rig.channel.clone(),
            name: name.to_owned(),
            session: opened.session,
            credit: opened.credit,
            position,
        }
    }

    pub(crate) fn credit(&self) -> Credit {
        self.credit.clone()
    }

    pub(crate) async fn put(&mut self, bodies: &[&str]) -> Result<(), ChannelError> {
        self.put_events(events(bodies)).await
    }

    pub(crate) async fn put_events(&mut self, events: Vec<Event>) -> Result<(), ChannelError> {
        let permit = self.credit.acquire(events.len(), cost_of(&events)).await;
        self.send(events, permit).await
    }

    pub(crate) async fn put_under(
        &mut self,
        bodies: &[&str],
        permit: Permit,
    ) -> Result<(), ChannelError> {
        self.send(events(bodies), permit).await
    }

    /// Moves the position without an event.
    pub(crate) async fn skip(&mut self, count: u64) -> Result<(), ChannelError> {
        self.position += count;
        let nothing = self.credit.try_acquire(0, 0).unwrap();
        self.send(Vec::new(), nothing).await
    }

    async fn send(&mut self, events: Vec<Event>, permit: Permit) -> Result<(), ChannelError> {
        let position = self.position + events.len() as u64;
        let to = PositionBytes(position.to_le_bytes().to_vec());
        let advance = Advance { source: self.name.clone(), parts: vec![("n".into(), Some(to))] };
        self.channel.put(Put { session: self.session, events, advance, permit }).await?;
        self.position = position;
        Ok(())
    }
}

fn events(bodies: &[&str]) -> Vec<Event> {
    bodies.iter().map(|body| Event::new(body.as_bytes().to_vec())).collect()
}

/// A sink that remembers what it has open.
pub(crate) struct Sink {
    channel: Channel,
    pub(crate) session: Session,
    pub(crate) state: Option<Bytes>,
    pub(crate) open: Vec<TransactionId>,
    pub(crate) offsets: Vec<u64>,
    pub(crate) wait: Duration,
}

impl Sink {
    pub(crate) async fn attach(rig: &Rig) -> Sink {
        let attached = rig.channel.attach_sink().await.unwrap();
        Sink {
            channel: rig.channel.clone(),
            session: attached.session,
            state: attached.sink_state,
            open: Vec::new(),
            offsets: Vec::new(),
            wait: Duration::from_secs(1),
        }
    }

    pub(crate) async fn take(&mut self, events_max: usize) -> Vec<String> {
        let events = self.take_events(events_max).await;
        events.iter().map(|event| String::from_utf8(event.body.to_vec()).unwrap()).collect()
    }

    /// Takes until there is nothing left.
    pub(crate) async fn take_all(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let taken = self.take(100).await;
            if taken.is_empty() {
                return all;
            }
            all.extend(taken);
        }
    }

    pub(crate) async fn take_events(&mut self, events_max: usize) -> Vec<Event> {
        let (session, wait) = (self.session, self.wait);
        let take = Take { session, events_max, bytes_max: 1 << 20, wait };
        let Some(taken) = self.channel.take(take).await.unwrap() else { return Vec::new() };
        assert!(!taken.events.is_empty() && taken.events.len() <= events_max);
        self.open.push(taken.transaction);
        self.offsets.extend(taken.events.iter().map(|event| event.offset.0));
        taken.events.into_iter().map(|taken| taken.event).collect()
    }

    /// Commits all that is open.
    pub(crate) async fn commit(&mut self, state: Option<&'static str>) -> Result<(), ChannelError> {
        let transaction = *self.open.last().expect("something was taken");
        let sink_state = state.map(Bytes::from);
        let session = self.session;
        self.channel.commit_take(CommitTake { session, transaction, sink_state }).await?;
        self.open.clear();
        Ok(())
    }

    pub(crate) async fn rollback(&self, transaction: TransactionId) -> Result<(), ChannelError> {
        let session = self.session;
        self.channel.rollback_take(RollbackTake { session, transaction }).await
    }
}
