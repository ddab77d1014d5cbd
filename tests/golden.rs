//! Data directories that earlier versions left, committed beside this file: each opens, and gives what
//! was put into it.
//!
//! ```text
//!   tests/golden/v1/   a node of format 1, as a crash leaves it: catalogue, rolled segments with indexes
//!                      and snapshots, recovery points, a durable channel, committed offsets, and a
//!                      journal that alone has the last batch of `access-0`
//!   tests/golden/v1-clean/   the same after a clean stop, with its mark
//! ```
//!
//! A new format gets directories of its own, and the old ones stay:
//! `FLUMEN_GOLDEN=tests/golden/vN cargo test --test golden -- --ignored` writes them.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "golden/make.rs"]
mod make;
#[path = "golden/newer.rs"]
mod newer;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use flumen::{
    node::{self, Node},
    pipeline::PipelineError,
    running::Running,
    typed::{Bincode, Format as _, Record, TYPE_HEADER, ValueError},
};
use flumen_actors::agent::channel::ChannelStatus;
use flumen_actors::broker::{
    consumer::{Consumer, ConsumerOptions, Delivery, Reads, Start},
    names::{TopicName, TopicPartition},
    partition::messages::Fetch,
};
use flumen_runtime::{batch, ids::Offset};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use self::make::{ACCESSES, AccessV1, COMMITTED, GROUP, LINES, access, copy, options, partition};

/// What the programs of today make of `access@1`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Access {
    path: String,
    status: u16,
    is_cached: bool,
}

impl Record for Access {
    const TYPE: &'static str = "access";
    const VERSION: u16 = 2;

    fn upgrade(version: u16, value: &[u8]) -> Result<Self, ValueError> {
        match version {
            1 => {
                let AccessV1 { path, status } = flumen::typed::decode(value)?;
                Ok(Access { path, status, is_cached: false })
            }
            _ => Err(ValueError::mismatch::<Self>(Self::TYPE, version)),
        }
    }
}

/// A copy of the golden directory of this version, which a test may write.
fn golden(version: &str) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version), &data);
    (root, data)
}

/// All records of a partition: offset, value, type.
async fn records(node: &Node, name: &TopicPartition) -> Vec<(u64, Bytes, Option<Vec<u8>>)> {
    let at = node.broker().partition(name).unwrap();
    let (mut next, mut found) = (Offset::ZERO, Vec::new());
    loop {
        let fetched = at.send(Fetch::from(next)).await.unwrap().unwrap();
        if fetched.batches.is_empty() {
            return found;
        }
        for bytes in &fetched.batches {
            for part in batch::split(bytes) {
                let (header, part) = part.unwrap();
                batch::check(part, &header).unwrap();
                next = header.next_offset();
                for record in batch::records(&bytes.slice_ref(part), &header).unwrap() {
                    let record = record.unwrap();
                    let kind = record.header(TYPE_HEADER).map(<[u8]>::to_vec);
                    found.push((record.offset.0, record.value.unwrap(), kind));
                }
            }
        }
    }
}

/// Where the group goes on in `access-0`.
async fn position(node: &Node) -> u64 {
    let partitions = vec![(partition("access"), Start::Earliest)];
    let reads = Reads::Partitions { partitions, group: Some(GROUP.into()) };
    node.broker().coordinator(&GROUP.into()).await.unwrap();
    let lookup = Arc::new(node.broker().clone());
    let (consumer, mut deliveries) = Consumer::start(lookup, reads, ConsumerOptions::default());
    let first = deliveries.next().await;
    let Some(Delivery::Assigned(all)) = first else { panic!("{first:?}") };
    consumer.close().await;
    all[0].position.0
}

async fn channel_of(running: &Running) -> ChannelStatus {
    running.status().await.channels.into_values().next().unwrap()
}

#[test]
fn the_directory_of_version_1_gives_what_was_put_into_it() {
    let (_root, data) = golden("v1");
    gives_what_was_put_into_it(&data, LINES + 1);
}

#[test]
fn the_directory_that_version_1_left_in_order_gives_the_same() {
    let (_root, data) = golden("v1-clean");
    // A source that stops says once more where it was.
    gives_what_was_put_into_it(&data, LINES + 2);
}

/// Opens `data`, in whose channel `puts` events were put.
fn gives_what_was_put_into_it(data: &Path, puts: u64) {
    node::run(options(data), |node| async move {
        let topics = node.broker().topics();
        let settings = topics[&TopicName::new("access").unwrap()].settings.explicit();
        let settings: BTreeMap<_, _> =
            settings.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(settings["segment.bytes"], "4096", "the catalogue keeps settings");

        let found = records(&node, &partition("access")).await;
        assert_eq!(found.len() as u64, ACCESSES, "also what only the journal has");
        for (number, (offset, value, kind)) in (0..).zip(&found) {
            assert_eq!((*offset, kind.as_deref()), (number, Some(&b"access@1"[..])));
            // The program of then, and that of now.
            let old = Bincode::<AccessV1>::default().read(value.into(), kind.as_deref()).unwrap();
            assert_eq!(old, access(number));
            let new = Bincode::<Access>::default().read(value.into(), kind.as_deref()).unwrap();
            assert_eq!(new, Access { path: old.path, status: old.status, is_cached: false });
        }
        let lines = records(&node, &partition("lines")).await;
        let wanted: Vec<Bytes> = (0..LINES).map(|line| format!("line {line}").into()).collect();
        assert_eq!(lines.into_iter().map(|(_, value, _)| value).collect::<Vec<_>>(), wanted);
        assert_eq!(position(&node).await, COMMITTED);

        // The channel's log and head are read, and its sink finds what it has delivered.
        let running = make::pipeline("nothing-*.log").start(&node).await?;
        let mut channel = channel_of(&running).await;
        while channel.offline.is_none() && channel.end == Offset::ZERO {
            // It is being opened.
            tokio::task::yield_now().await;
            channel = channel_of(&running).await;
        }
        // A line each, and where the source was; all of it is delivered.
        assert_eq!((channel.offline.as_deref(), channel.end.0), (None, puts));
        assert_eq!((channel.head, channel.events), (channel.end, 0));
        running.drain().await;
        assert_eq!(records(&node, &partition("lines")).await.len() as u64, LINES, "none doubled");
        Ok::<(), PipelineError>(())
    })
    .unwrap();
}

#[test]
fn the_golden_directories_have_every_kind_of_file() {
    let (_root, data) = golden("v1");
    let names: Vec<String> = make::contents(&data).into_keys().collect();
    let kinds = [
        "meta.properties",
        ".catalogue/",
        ".journal/",
        "access-0/00000000000000000000.log",
        "access-0/00000000000000000000.index",
        "access-0/00000000000000000000.timeindex",
        ".snapshot",
        "access-0/recovery-point",
        "access-0/leader-epoch-checkpoint",
        "access-0/partition.metadata",
        "__consumer_offsets-0/00000000000000000000.log",
        "channels/",
        "/head",
    ];
    for kind in kinds {
        assert!(names.iter().any(|name| name.contains(kind)), "no `{kind}` in {names:#?}");
    }
    let (_root, clean) = golden("v1-clean");
    let names: Vec<String> = make::contents(&clean).into_keys().collect();
    for mark in [".kafka_cleanshutdown", "flumen-clean-stop"] {
        assert!(names.iter().any(|name| name == mark), "no `{mark}` in {names:#?}");
    }
}

#[test]
#[ignore = "it writes the golden directories of this version"]
fn make_the_golden_directories_of_this_version() {
    if let Some(target) = std::env::var_os("FLUMEN_GOLDEN") {
        make::make(Path::new(&target));
    }
}
