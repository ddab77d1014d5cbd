//! What is in a golden directory, and how one is made.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use flumen::{
    node::{self, Node, NodeOptions},
    pipeline::{Buffer, Pipeline, PipelineError},
    typed::{Bincode, Format as _, Record, TYPE_HEADER},
};
use flumen_actors::broker::{
    TopicSpec,
    consumer::{ConsumedTo, Consumer, ConsumerOptions, Delivery, Reads, Start},
    names::{PartitionId, TopicName, TopicPartition},
    partition::messages::Append,
};
use flumen_runtime::{
    batch::{self, BatchBuilder, RecordRef},
    ids::Offset,
    log::LogConfig,
};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

/// Records of `access-0`, three a batch.
pub(crate) const ACCESSES: u64 = 120;
/// Records of `lines-0`, which came through a durable channel.
pub(crate) const LINES: u64 = 10;
/// The group, and what it has committed of `access-0`.
pub(crate) const GROUP: &str = "readers";
pub(crate) const COMMITTED: u64 = 51;

/// The type of then.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AccessV1 {
    pub(crate) path: String,
    pub(crate) status: u16,
}

impl Record for AccessV1 {
    const TYPE: &'static str = "access";
    const VERSION: u16 = 1;
}

pub(crate) fn access(number: u64) -> AccessV1 {
    AccessV1 {
        path: format!("/page/{number}"),
        status: if number.is_multiple_of(7) { 404 } else { 200 },
    }
}

pub(crate) fn partition(topic: &str) -> TopicPartition {
    TopicPartition { topic: TopicName::new(topic).unwrap(), partition: PartitionId(0) }
}

pub(crate) fn options(data: &Path) -> NodeOptions {
    let mut options = NodeOptions::new(data);
    options.offsets_partitions = 1;
    options.threads.arbiters = 1;
    options.log = LogConfig { checkpoint_bytes: 4096, ..LogConfig::default() };
    options
}

fn spec(topic: &str) -> TopicSpec {
    let settings =
        [("segment.bytes", "4096"), ("index.interval.bytes", "512"), ("retention.ms", "-1")];
    let spec = TopicSpec::new(topic, 1).unwrap();
    settings.iter().fold(spec, |spec, (name, value)| spec.set(name, value).unwrap())
}

/// Follows `files` into the topic `lines`.
pub(crate) fn pipeline(files: &str) -> Pipeline {
    let mut pipeline = Pipeline::new("golden");
    pipeline
        .tail("tail", [files])
        .channel("buffer", Buffer::durable())
        .topic("publish", spec("lines"));
    pipeline
}

/// Every file below `dir`, by its path there, with its bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                all.insert(name, fs::read(path).unwrap());
            }
        }
    }
    all
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for (name, bytes) in contents(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Writes the directories that this version leaves: to `target` as a crash leaves it, and beside it as a
/// clean stop does.
pub(crate) fn make(target: &Path) {
    let root = tempfile::tempdir().unwrap();
    let (data, log) = (root.path().join("data"), root.path().join("app.log"));
    let lines: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
    fs::write(&log, lines).unwrap();
    let from = data.clone();
    node::run(options(&data), |node| async move {
        let running = pipeline(log.to_str().unwrap()).start(&node).await?;
        node.broker().ensure_topic(spec("access")).await?;
        append(&node).await;
        commit(&node).await;
        while node.ends(&TopicName::new("lines").unwrap()).await[&partition("lines")].0 < LINES {
            tokio::task::yield_now().await;
        }
        // Real time: the head of the channel is written a few times a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        copy(&from, target);
        running.drain().await;
        Ok::<(), PipelineError>(())
    })
    .unwrap();
    as_a_crash_leaves_it(target);
    let mut clean = target.as_os_str().to_owned();
    clean.push("-clean");
    copy(&data, Path::new(&clean));
}

async fn append(node: &Node) {
    let format = Bincode::<AccessV1>::default();
    let (at, kind) =
        (node.broker().partition(&partition("access")).unwrap(), format.type_header().unwrap());
    for first in (0..ACCESSES).step_by(3) {
        let time = 1_767_225_600_000 + i64::try_from(first).unwrap();
        let mut builder = BatchBuilder::new(time).producer(5_000, 0, i32::try_from(first).unwrap());
        for number in first..first + 3 {
            let mut value = Vec::new();
            format.write(&access(number), &mut value).unwrap();
            let headers = &[(TYPE_HEADER, Some(kind.as_bytes()))];
            builder.push(RecordRef { timestamp: time, key: None, value: Some(&value), headers });
        }
        at.send(Append::new(builder.build())).await.unwrap().unwrap();
    }
}

async fn commit(node: &Node) {
    let partitions = vec![(partition("access"), Start::Earliest)];
    let reads = Reads::Partitions { partitions, group: Some(GROUP.into()) };
    node.broker().coordinator(&GROUP.into()).await.unwrap();
    let lookup = Arc::new(node.broker().clone());
    let (consumer, mut deliveries) = Consumer::start(lookup, reads, ConsumerOptions::default());
    while let Some(delivery) = deliveries.next().await {
        if matches!(&delivery, Delivery::Records(records) if records.next.0 >= COMMITTED) {
            let position = ConsumedTo::new(partition("access"), Offset(COMMITTED));
            consumer.commit(vec![position]).await.unwrap();
            return consumer.close().await;
        }
    }
}

/// A crash takes the page cache: the last batch of `access-0` stands in the journal alone. The zeros
/// behind what the journal holds are left out.
fn as_a_crash_leaves_it(dir: &Path) {
    let all = contents(dir);
    let active =
        all.keys().rfind(|name| name.starts_with("access-0/") && name.ends_with(".log")).unwrap();
    let bytes = &all[active];
    let (last, _) = batch::split(bytes).last().unwrap().unwrap();
    fs::write(dir.join(active), &bytes[..bytes.len() - last.batch_bytes as usize]).unwrap();
    for (name, bytes) in all.iter().filter(|(name, _)| name.starts_with(".journal/")) {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let whole = end.next_multiple_of(4096).min(bytes.len());
        fs::write(dir.join(name), &bytes[..whole]).unwrap();
    }
}
