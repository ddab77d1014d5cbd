//! The node that is killed: real files, real threads, and all that a node does at once.
//!
//! ```text
//!   files ─► tail ─► durable channel ─► topic `lines`  ─► group `keep`   ─► part files
//!   test  ─► idempotent appends ──────► topic `direct` ─► group `readers` ─► test, then commit
//! ```

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::Addr;
use bytes::{Bytes, BytesMut};
use flumen::{
    node::{self, Node, NodeError, NodeOptions},
    pipeline::{Buffer, Pipeline, PipelineError},
    running::Running,
    stream::{
        Operators,
        files::Files,
        outlet::Outlet,
        worker::{self, Progress, StageOptions},
    },
    typed::Raw,
};
use flumen_actors::broker::{
    TopicError, TopicSpec,
    consumer::{ConsumedTo, Consumer, ConsumerOptions, Delivery, Reads, member::MemberOptions},
    names::{PartitionId, TopicName, TopicPartition},
    partition::{
        Partition,
        messages::{Append, Fetch},
    },
};
use flumen_runtime::{
    batch::{self, BatchBuilder, RecordRef},
    disk::{Engine, unsynced},
    failpoint,
    ids::Offset,
    log::LogConfig,
};
use futures::{StreamExt as _, channel::mpsc};

use crate::talk::{self, Ask, DIRECT, LINES, Life, PARTITIONS, Records, Say};

#[derive(Debug, thiserror::Error)]
enum ServerError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error("{0}")]
    Other(String),
}

fn other(error: impl std::fmt::Display) -> ServerError {
    ServerError::Other(error.to_string())
}

/// The test's end of the socket pair stands as standard input.
#[derive(Clone)]
struct Test(Arc<Mutex<UnixStream>>);

impl Test {
    fn say(&self, say: &Say) {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A test that has gone needs no answer: the node ends with it.
        let _ = stream.write_all(talk::line(say).as_bytes());
    }
}

fn connect() -> (Test, mpsc::UnboundedReceiver<Ask>) {
    let end: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let stream = UnixStream::from(end);
    let reading = BufReader::new(stream.try_clone().unwrap());
    // The test sends no more than its producers may have in flight.
    let (asks, asked) = mpsc::unbounded();
    std::thread::spawn(move || {
        for line in reading.lines().map_while(Result::ok) {
            if asks.unbounded_send(talk::parse(&line)).is_err() {
                break;
            }
        }
    });
    (Test(Arc::new(Mutex::new(stream))), asked)
}

/// Runs one life of the node, up to its end.
pub(crate) fn live(life: &Life) {
    if let Some((point, nth)) = &life.point {
        failpoint::arm(point, *nth);
    }
    if life.syncs_are_off {
        unsynced::turn_syncs_off();
    }
    let (test, asked) = connect();
    let mut options = NodeOptions::new(&life.data);
    options.engine = if life.is_ring { Engine::Uring } else { Engine::Threads };
    options.threads.arbiters = 2;
    options.offsets_partitions = 2;
    options.log = LogConfig { checkpoint_bytes: 24 << 10, ..LogConfig::default() };
    let life = life.clone();
    let outcome = node::run(options, |node| {
        let test = test.clone();
        async move { serve(&node, &life, &test, asked).await }
    });
    if let Err(error) = outcome {
        test.say(&Say::Failed { why: error.to_string() });
        panic!("{error}");
    }
}

fn spec(name: &str) -> Result<TopicSpec, ServerError> {
    let spec = TopicSpec::new(name, PARTITIONS).map_err(other)?;
    let settings =
        [("segment.bytes", "65536"), ("index.interval.bytes", "1024"), ("retention.ms", "-1")];
    settings.iter().try_fold(spec, |spec, (name, value)| spec.set(name, value)).map_err(other)
}

async fn serve(
    node: &Node,
    life: &Life,
    test: &Test,
    mut asked: mpsc::UnboundedReceiver<Ask>,
) -> Result<(), ServerError> {
    for topic in [DIRECT, LINES] {
        node.broker().ensure_topic(spec(topic)?).await?;
    }
    let mut partitions = Vec::new();
    for partition in 0..PARTITIONS {
        let name = TopicPartition { topic: name(DIRECT)?, partition: PartitionId(partition) };
        let at = node.broker().partition(&name).ok_or_else(|| other("it is not there"))?;
        dump(partition, &at, test).await?;
        partitions.push(at);
    }
    test.say(&Say::Ready);
    let stage = start_keeping(node, life).await?;
    actix_rt::spawn(read(node.clone(), test.clone()));
    let running = follow(node, life).await?;
    while let Some(Ask::Append { partition, producer, sequence, values }) = asked.next().await {
        let append =
            partitions[partition as usize].send(Append::new(batch(producer, sequence, &values)));
        let test = test.clone();
        actix_rt::spawn(async move {
            let why = match append.await {
                Ok(Ok(appended)) => {
                    let offset = appended.base_offset.0;
                    return test.say(&Say::Appended { partition, producer, sequence, offset });
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            test.say(&Say::Refused { partition, producer, sequence, why });
        });
    }
    running.stop().await;
    // One that has ended is stopped.
    let _ = node.pipelines().stop_child(&stage).await;
    Ok(())
}

fn name(topic: &str) -> Result<TopicName, ServerError> {
    TopicName::new(topic).map_err(other)
}

fn batch(producer: i64, sequence: i32, values: &[String]) -> BytesMut {
    let mut builder = BatchBuilder::new(1_000).producer(producer, 0, sequence);
    for value in values {
        let value = Some(value.as_bytes());
        builder.push(RecordRef { timestamp: 1_000, key: None, value, headers: &[] });
    }
    builder.build()
}

/// Says all that a partition holds, each batch's sum checked.
async fn dump(partition: u32, at: &Addr<Partition>, test: &Test) -> Result<(), ServerError> {
    let mut next = Offset::ZERO;
    loop {
        let fetched = at.send(Fetch::from(next)).await.map_err(other)?.map_err(other)?;
        let records = records(&fetched.batches, next)?;
        let Some((last, _)) = records.last() else { return Ok(()) };
        next = Offset(last + 1);
        test.say(&Say::Held { partition, records });
    }
}

fn records(batches: &[Bytes], from: Offset) -> Result<Records, ServerError> {
    let mut found = Vec::new();
    for bytes in batches {
        for part in batch::split(bytes) {
            let (header, part) = part.map_err(other)?;
            batch::check(part, &header).map_err(other)?;
            for record in batch::records(&bytes.slice_ref(part), &header).map_err(other)? {
                let record = record.map_err(other)?;
                let value = record.value.unwrap_or_default();
                found.push((record.offset.0, String::from_utf8_lossy(&value).into_owned()));
            }
        }
    }
    found.retain(|(offset, _)| *offset >= from.0);
    Ok(found)
}

/// Follows the files into their topic.
async fn follow(node: &Node, life: &Life) -> Result<Running, ServerError> {
    let mut pipeline = Pipeline::new("follow");
    pipeline
        .tail("tail", [life.logs.clone()])
        .channel("buffer", Buffer::durable())
        .topic("publish", spec(LINES)?);
    Ok(pipeline.start(node).await?)
}

/// A member that takes up at once what its last life had: it has a lasting name.
fn member(group: &str, topic: &str) -> Result<MemberOptions, ServerError> {
    let instance_id = Some(group.into());
    Ok(MemberOptions { instance_id, ..MemberOptions::new(group, vec![name(topic)?]) })
}

/// Writes the lines into part files; returns the actor's name.
async fn start_keeping(node: &Node, life: &Life) -> Result<String, ServerError> {
    let dir = PathBuf::from(&life.parts);
    let outlet = move || Box::new(Files::new(Operators::read(Raw), &dir)) as Box<dyn Outlet>;
    let (child, _) = worker::child_spec(StageOptions {
        name: "keep".into(),
        broker: node.broker().clone(),
        member: member("keep", LINES)?,
        consumer: ConsumerOptions::default(),
        commit_interval: Duration::from_millis(20),
        outlet: Arc::new(outlet),
        observer: None,
        progress: Progress::default(),
    });
    node.pipelines().start_child(child).await.map_err(other)?;
    Ok("keep".to_owned())
}

/// Reads as a member of a group: says what it is given, commits it, and says so.
async fn read(node: Node, test: Test) {
    let Ok(member) = member("readers", DIRECT) else { return };
    let lookup = Arc::new(node.broker().clone());
    let reads = Reads::Subscribed(member);
    let (consumer, mut deliveries) = Consumer::start(lookup, reads, ConsumerOptions::default());
    while let Some(delivery) = deliveries.next().await {
        match delivery {
            Delivery::Assigned(all) => {
                for assigned in all {
                    let partition = assigned.partition.partition.0;
                    test.say(&Say::Assigned { partition, position: assigned.position.0 });
                }
            }
            Delivery::Records(given) => {
                let partition = given.partition.partition.0;
                match records(&given.batches, given.position) {
                    Ok(records) => test.say(&Say::Delivered { partition, records }),
                    Err(why) => return test.say(&Say::Failed { why: why.to_string() }),
                }
                let position = ConsumedTo::new(given.partition.clone(), given.next);
                match consumer.commit(vec![position]).await {
                    Ok(()) => test.say(&Say::Committed { partition, next: given.next.0 }),
                    Err(error) => tracing::warn!(%error, "the test's commit"),
                }
            }
            Delivery::Revoking(revocation) => revocation.finish(),
            Delivery::Lost(_) => {}
            Delivery::Unreadable { reason, .. } => tracing::warn!(%reason, "the test's reader"),
            Delivery::Failed(error) => {
                return test.say(&Say::Failed { why: format!("the reader: {error}") });
            }
        }
    }
}
