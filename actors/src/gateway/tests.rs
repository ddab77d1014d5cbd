//! The gateway as clients meet it: a whole broker on simulated arbiters and disks, our own codec as
//! the client, and a pipe between them.

mod access;
mod answers;
mod cluster;
mod compression;
mod configs;
mod deadlines;
mod fetches;
mod groups;
mod hostile;
mod listening;
mod moves;
mod produces;
mod topics;
mod transactions;

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use flumen_runtime::{
    batch::{BatchBuilder, RecordRef},
    clock::ManualClock,
    disk::sim::{Faults, SimDisks},
    ids::ArbiterId,
    mailbox::ActorName,
    placement::{LocalPlacement, Services},
    registry::Directory,
    rng::Rng,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use uuid::Uuid;

use super::{
    codec::{Output, Request, RequestHeader},
    error_code::ErrorCode,
    messages::{
        fetch::{FetchPartition, FetchRequest, FetchTopic},
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
    *,
};
use crate::broker::{self, BrokerSpec, DataDirectory, TopicSpec};

/// Runs `test` on a paused clock.
fn paused(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test);
}

/// Lets virtual time pass.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// An empty disk of these faults.
fn disks(faults: Faults) -> SimDisks {
    let disks = SimDisks::new(&Rng::seeded(1), faults);
    disks.install(Path::new("/data/.keep"), b"");
    disks
}

/// A machine with these disks, whose faults may be changed.
fn machine(disks: &SimDisks) -> Services {
    let clock = Arc::new(ManualClock::at(1_000_000));
    Services::new(clock, Rng::seeded(2), Arc::new(disks.clone()))
}

/// A machine with an empty disk of these faults.
fn services(faults: Faults) -> Services {
    machine(&disks(faults))
}

fn broker_spec() -> BrokerSpec {
    let spec = BrokerSpec::new(DataDirectory::new(Uuid::from_u128(1), "/data"));
    BrokerSpec { offsets_partitions: 3, ..spec }
}

fn gateway_spec(limits: Limits) -> GatewaySpec {
    GatewaySpec {
        listeners: Vec::new(),
        limits,
        node: NodeId(1),
        cluster: "a cluster".into(),
        defaults: TopicDefaults::default(),
    }
}

/// A node with a gateway, in which nobody listens: clients come over pipes.
struct World {
    root: SupervisorRef,
    broker: Broker,
    shared: Arc<Shared>,
    /// On which arbiter each actor is.
    places: Directory<ActorName, ArbiterId>,
    placement: Arc<LocalPlacement>,
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        Self::made(limits, |_| {}).await
    }

    /// With a broker that is told otherwise by `tell`.
    async fn made(limits: Limits, tell: impl FnOnce(&mut BrokerSpec)) -> Self {
        let mut spec = broker_spec();
        tell(&mut spec);
        Self::on(services(Faults::none()), limits, spec).await
    }

    async fn on(services: Services, limits: Limits, spec: BrokerSpec) -> Self {
        let (child, broker) = broker::start(spec);
        let (gateway_child, gateway) = start(gateway_spec(limits), broker.clone());
        let root = SupervisorSpec::new("root").child(child).child(gateway_child);
        let places = services.places.clone();
        let placement = LocalPlacement::new(2, services);
        let root = root.start(placement.clone());
        broker.ready().await.expect("a sound machine starts");
        Self { root, broker, shared: gateway.shared, places, placement }
    }

    /// The same with a topic `t` of three partitions.
    async fn with_topic() -> Self {
        let world = Self::new().await;
        world.broker.create_topic(TopicSpec::new("t", 3).unwrap()).await.unwrap();
        world
    }

    async fn connect(&self) -> Client {
        let gateway = Gateway { shared: self.shared.clone(), listeners: Arc::default() };
        Client { stream: gateway.connect().await.unwrap(), next: 0 }
    }
}

/// A client of few words.
struct Client<S = DuplexStream> {
    stream: S,
    next: i32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends a request; the number that its answer will carry.
    async fn send<R: Request>(&mut self, version: i16, request: &R) -> RequestHeader {
        self.next += 1;
        let header = RequestHeader::new::<R>(version, self.next, Some("a client".into())).unwrap();
        let mut output = Output::new();
        header.request(request, &mut output).unwrap();
        self.stream.write_all(&output.take_bytes()).await.unwrap();
        header
    }

    /// The next frame; none where the connection was closed.
    async fn frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_u32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.unwrap();
        Some(frame.into())
    }

    async fn receive<R: Request>(&mut self, header: &RequestHeader) -> R::Response {
        let frame = self.frame().await.expect("the connection is open");
        let (number, response) = header.response(frame).unwrap();
        assert_eq!(number, header.correlation_id, "answers come in the order of requests");
        response
    }

    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let header = self.send(version, request).await;
        self.receive::<R>(&header).await
    }

    async fn is_closed(&mut self) -> bool {
        self.stream.read_u8().await.is_err()
    }
}

/// A batch of `values`.
fn batch(values: &[&str]) -> BytesMut {
    fill(BatchBuilder::new(1_000_000), values)
}

/// A batch of `values` of producer 7.
fn numbered(sequence: i32, values: &[&str]) -> BytesMut {
    fill(BatchBuilder::new(1_000_000).producer(7, 0, sequence), values)
}

fn fill(mut builder: BatchBuilder, values: &[&str]) -> BytesMut {
    for value in values {
        let value = Some(value.as_bytes());
        builder.push(RecordRef { timestamp: 1_000_000, value, ..RecordRef::default() });
    }
    builder.build()
}

/// A request to append each of `parts` to its partition of `t`.
fn produce(acks: i16, parts: Vec<(i32, Bytes)>) -> ProduceRequest {
    let data = parts
        .into_iter()
        .map(|(index, records)| PartitionProduceData { index, records: Some(records) });
    let topic = TopicProduceData {
        name: "t".into(),
        partition_data: data.collect(),
        ..TopicProduceData::default()
    };
    ProduceRequest { acks, timeout_ms: 1_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// A request for partitions of `t`, each from an offset.
fn fetch(parts: &[(i32, i64)]) -> FetchRequest {
    let partitions = parts.iter().map(|(partition, fetch_offset)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    });
    let partitions = partitions.collect();
    let topic = FetchTopic { topic: "t".into(), partitions, ..FetchTopic::default() };
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}
