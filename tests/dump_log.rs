//! Kafka's own `DumpLogSegments` reads what the node leaves on the disk: after a roll, after a clean
//! stop, after a recovery that cut a torn tail, and where the node compressed anew. What it leaves that is
//! killed, and compacts, the tool reads in `tests/crash_clients.rs`.
//!
//! `tests/run` fetches the tool and names its folder in `FLUMEN_KAFKA_TOOLS`.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "dump_log/tool.rs"]
mod tool;

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use actix::Addr;
use bytes::BytesMut;
use flumen::node::{self, Node, NodeError, NodeOptions};
use flumen_actors::broker::{
    TopicSpec,
    names::{PartitionId, TopicName, TopicPartition},
    partition::{Partition, messages::Append},
};
use flumen_runtime::batch::{Attributes, BatchBuilder, RecordRef, control::Control};

use self::tool::{dump, has_extension, payloads, run_tool, tools};

const TOPIC: &str = "dumped";
const PRODUCER: i64 = 7_000;
const TRANSACTIONAL: i64 = 7_001;
/// What a torn write leaves behind a log that was not stopped: the beginning of a batch.
const TORN: [u8; 30] =
    [0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 1, 0, 0, 0, 0, 0, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn batch(producer: i64, sequence: i32, is_transactional: bool, values: &[String]) -> BytesMut {
    let bits = if is_transactional { Attributes::TRANSACTIONAL } else { 0 };
    let mut builder =
        BatchBuilder::new(now_ms()).attributes(Attributes(bits)).producer(producer, 0, sequence);
    for value in values {
        builder.push(RecordRef {
            timestamp: now_ms() + i64::from(sequence),
            key: Some(b"key"),
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    builder.build()
}

fn now_ms() -> i64 {
    use flumen_runtime::clock::{Clock as _, SystemClock};
    SystemClock.now_ms()
}

async fn append(at: &Addr<Partition>, append: Append) -> u64 {
    at.send(append).await.unwrap().unwrap().base_offset.0
}

/// Fills some segments from `sequence` on: plain records, an aborted transaction, a committed one.
async fn fill(at: &Addr<Partition>, sequence: i32, written: &mut BTreeMap<u64, String>) {
    for number in 0..40 {
        let values: Vec<String> =
            (0..3).map(|at| format!("value-{}-{at}-{:z<150}", sequence + number * 3, "")).collect();
        let base =
            append(at, Append::new(batch(PRODUCER, sequence + number * 3, false, &values))).await;
        written.extend((base..).zip(values));
    }
    for (number, end) in [
        (0, Control::Abort { coordinator_epoch: 0 }),
        (1, Control::Commit { coordinator_epoch: 0 }),
    ] {
        let values = [format!("transaction-{sequence}-{number}")];
        let sequence = sequence / 120 * 2 + number;
        let base = append(at, Append::new(batch(TRANSACTIONAL, sequence, true, &values))).await;
        written.extend((base..).zip(values));
        append(at, Append::new(end.batch(now_ms(), TRANSACTIONAL, 0)).as_coordinator()).await;
    }
}

/// Runs `program` on the one partition of a node in `data`.
fn on_partition(data: &Path, program: impl AsyncFnOnce(&Node, Addr<Partition>)) {
    on_partition_with(data, &[], program);
}

fn on_partition_with(
    data: &Path,
    settings: &[(&str, &str)],
    program: impl AsyncFnOnce(&Node, Addr<Partition>),
) {
    node::run(NodeOptions { offsets_partitions: 1, ..NodeOptions::new(data) }, |node| async move {
        let small = [("segment.bytes", "4096"), ("index.interval.bytes", "512")];
        let settings = small.iter().chain(settings);
        let set = |spec: TopicSpec, (name, value): &(&str, &str)| spec.set(name, value);
        let spec = settings.into_iter().try_fold(TopicSpec::new(TOPIC, 1).unwrap(), set).unwrap();
        node.broker().ensure_topic(spec).await?;
        let (topic, partition) = (TopicName::new(TOPIC).unwrap(), PartitionId(0));
        let at = node.broker().partition(&TopicPartition { topic, partition }).unwrap();
        program(&node, at).await;
        Ok::<(), NodeError>(())
    })
    .unwrap();
}

/// All that a stopped log holds: every batch, index and producer, and the payloads that were written.
fn check_stopped(tools: &str, dir: &Path, written: &BTreeMap<u64, String>) {
    let text = dump(tools, dir, &["log"], &["--deep-iteration", "--print-data-log"]);
    let found = payloads(&text);
    for (offset, value) in written {
        assert_eq!(found.get(offset), Some(value), "at offset {offset}");
    }
    assert!(
        text.contains("endTxnMarker: ABORT") && text.contains("endTxnMarker: COMMIT"),
        "{text:.2000}"
    );
    let text = dump(tools, dir, &["index"], &["--index-sanity-check"]);
    assert!(text.matches("passed sanity check").count() > 2, "{text}");
    // Without an option it looks each entry of an index up in its log.
    let text = dump(tools, dir, &["index", "timeindex"], &["--verify-index-only"]);
    assert!(text.contains("Dumping"), "{text}");
    let entries = dump(tools, dir, &["timeindex"], &[]);
    assert!(entries.matches("timestamp: ").count() > 2, "{entries}");
    let text = dump(tools, dir, &["snapshot"], &[]);
    for producer in [PRODUCER, TRANSACTIONAL] {
        assert!(text.contains(&format!("producerId: {producer}")), "{text}");
    }
    // Nothing but the log's end follows the last batch: no zeros, no torn batch.
    assert!(!text.contains("trailing"), "{text}");
}

#[test]
fn kafkas_tool_reads_rolled_stopped_and_recovered_logs() {
    let Some(tools) = tools() else { return };
    let root = tempfile::tempdir().unwrap();
    let (data, crashed) = (root.path().join("data"), root.path().join("crashed"));
    let dir = data.join(format!("{TOPIC}-0"));
    let mut written = BTreeMap::new();
    on_partition(&data, async |_, at| {
        fill(&at, 0, &mut written).await;
        // As the disk is now, it would be after a crash: everything is acknowledged.
        copy(&data, &crashed);
        let rolled: Vec<PathBuf> = closed_segments(&dir);
        assert!(rolled.len() > 2, "segments are rolled: {rolled:?}");
        let apart = root.path().join("rolled");
        fs::create_dir(&apart).unwrap();
        for segment in rolled {
            for kind in ["log", "index", "timeindex"] {
                let file = segment.with_extension(kind);
                fs::copy(&file, apart.join(file.file_name().unwrap())).unwrap();
            }
        }
        let text = dump(&tools, &apart, &["log"], &["--deep-iteration", "--print-data-log"]);
        assert!(
            payloads(&text).iter().all(|(at, value)| written.get(at).is_none_or(|is| is == value))
        );
        dump(&tools, &apart, &["index", "timeindex"], &["--index-sanity-check"]);
    });
    check_stopped(&tools, &dir, &written);
    check_that_damage_is_seen(&tools, &root.path().join("rolled"));

    let dir = crashed.join(format!("{TOPIC}-0"));
    let active = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let active = active.filter(|file| has_extension(file, "log")).max().unwrap();
    let torn = OpenOptions::new().append(true).open(active);
    torn.unwrap().write_all(&TORN).unwrap();
    on_partition(&crashed, async |_, at| fill(&at, 120, &mut written).await);
    check_stopped(&tools, &dir, &written);
}

#[test]
fn kafkas_tool_reads_what_the_node_compressed_anew() {
    let Some(tools) = tools() else { return };
    let root = tempfile::tempdir().unwrap();
    let values: Vec<String> = (0..50).map(|at| format!("value-{at}-{:z<50}", "")).collect();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let data = root.path().join(codec);
        on_partition_with(&data, &[("compression.type", codec)], async |_, at| {
            for number in 0..20 {
                append(&at, Append::new(batch(PRODUCER, number * 50, false, &values))).await;
            }
        });
        let dir = data.join(format!("{TOPIC}-0"));
        let files = ["log", "index", "timeindex", "snapshot"];
        let text = dump(&tools, &dir, &files, &["--deep-iteration", "--print-data-log"]);
        assert_eq!(text.matches(&format!("compresscodec: {codec}")).count(), 20, "{text:.2000}");
        assert!(payloads(&text).values().eq(values.iter().cycle().take(1_000)), "{text:.2000}");
    }
}

/// What holds the files above to something: the tool complains where one byte is another.
fn check_that_damage_is_seen(tools: &str, rolled: &Path) {
    for (kind, at, options) in [("index", 7, &[][..]), ("log", 100, &["--deep-iteration"][..])] {
        let file = rolled.join(format!("00000000000000000000.{kind}"));
        let whole = fs::read(&file).unwrap();
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&file, damaged).unwrap();
        let text = run_tool(tools, rolled, &[kind], options);
        assert!(text.is_err(), "{kind}: {text:?}");
        fs::write(&file, whole).unwrap();
    }
}

/// The log files of a directory, less the active one.
fn closed_segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files.filter(|file| has_extension(file, "log")).collect();
    logs.sort();
    logs.pop();
    logs
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
