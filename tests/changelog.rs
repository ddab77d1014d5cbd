//! Sums are kept in a changelog: each record counts once, for as many names as there are, whatever is
//! killed, restarted, moved to another member or compacted.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use flumen::{
    node::{self, Node, NodeOptions},
    pipeline::{Buffer, Pipeline, PipelineError},
    stream::{
        Operators,
        fold::{Fold, Tally},
        outlet::Outlet,
        worker::{self, Progress, StageOptions},
    },
    typed::Raw,
};
use flumen_actors::broker::{
    TopicSpec,
    consumer::{ConsumerOptions, member::MemberOptions},
    names::{PartitionId, TopicName, TopicPartition},
    partition::messages::{Append, Status},
};
use flumen_runtime::{
    batch::{BatchBuilder, RecordRef},
    failpoint,
};
use tokio::time::Instant;

/// So many that they are far beyond what stands beside a position.
const NAMES: u64 = 10_000;
const CHANGELOG: &str = "p-sum-changelog";
/// Longer than anything takes on a slow and busy machine.
const LONG: Duration = Duration::from_secs(180);

fn options(dir: &Path) -> NodeOptions {
    let mut options = NodeOptions::new(dir.join("data"));
    options.offsets_partitions = 2;
    options
}

/// Appends a line a name to the log that is tailed.
fn write(dir: &Path, names: std::ops::Range<u64>) {
    let log = dir.join("app.log");
    let mut file = OpenOptions::new().append(true).create(true).open(log).unwrap();
    let text: String = names.map(|name| format!("name-{}\n", name % NAMES)).collect();
    file.write_all(text.as_bytes()).unwrap();
}

fn one(line: Bytes) -> (String, u64) {
    (String::from_utf8_lossy(&line).into_owned(), 1)
}

/// Lines to the topic `a`, from which they are counted.
fn counting(dir: &Path, members: usize, tally: &Tally) -> Pipeline {
    let mut pipeline = Pipeline::new("p");
    pipeline
        .tail("lines", [dir.join("app.log").display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", TopicSpec::new("a", 2).unwrap());
    pipeline.read("a", Raw).map("one", one).members(members).sum("sum", tally);
    pipeline
}

/// Waits until `lines` lines are in the topic that is counted.
async fn until_published(node: &Node, lines: u64) {
    let (topic, limit) = (TopicName::new("a").unwrap(), Instant::now() + LONG);
    while node.ends(&topic).await.values().map(|end| end.0).sum::<u64>() < lines {
        assert!(Instant::now() < limit, "the lines are not published");
        // Real time: a file is tailed.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asserts that of the first `lines` lines each was counted once.
#[track_caller]
fn assert_counted(tally: &Tally, lines: u64) {
    let counted = tally.total();
    let wanted = |name: u64| lines / NAMES + u64::from(name < lines % NAMES);
    let wanted: BTreeMap<String, u64> = (0..NAMES)
        .filter(|name| wanted(*name) > 0)
        .map(|name| (format!("name-{name}"), wanted(name)))
        .collect();
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    assert_eq!(sum(&counted), sum(&wanted), "{} names", counted.len());
    assert!(counted == wanted, "the sum is right, and the names' are not");
}

/// A changelog whose segments are so small that it is compacted all the time.
async fn make_small_changelog(node: &Node) {
    let settings = [
        ("cleanup.policy", "compact"),
        ("max.message.bytes", "67108864"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.bytes", "65536"),
    ];
    let spec = TopicSpec::new(CHANGELOG, 2).unwrap();
    let spec = settings.iter().try_fold(spec, |spec, (name, value)| spec.set(name, value)).unwrap();
    node.broker().ensure_topic(spec).await.unwrap();
}

/// Bytes that the changelog takes, and the records that were appended to it.
async fn changelog(node: &Node) -> (u64, u64) {
    let (mut bytes, mut appended) = (0, 0);
    for partition in 0..2 {
        let topic = TopicName::new(CHANGELOG).unwrap();
        let at = TopicPartition { topic, partition: PartitionId(partition) };
        let status = node.broker().partition(&at).unwrap().send(Status).await.unwrap();
        bytes += status.bytes;
        appended += status.marks.log_end.0;
    }
    (bytes, appended)
}

#[test]
fn ten_thousand_names_are_summed_once_whatever_is_killed_and_compacted() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 0..0);
    let mut lines = 0;
    for members in [1, 2, 1] {
        let tally = Tally::default();
        let pipeline = counting(dir.path(), members, &tally);
        let data = dir.path();
        lines = node::run(options(data), |node| async move {
            make_small_changelog(&node).await;
            let running = pipeline.start(&node).await?;
            let sums: &[&str] = if members == 1 { &["p/sum"] } else { &["p/sum/0", "p/sum/1"] };
            let others = ["partition/p-sum-changelog-0", "partition/a-1", "coordinator/0"];
            let others =
                others.iter().chain(["partition/p-sum-changelog-1", "coordinator/1"].iter());
            for victim in sums.iter().chain(others).chain(sums) {
                write(data, lines..lines + NAMES);
                lines += NAMES;
                while node.root().inject_panic(victim).await.is_err() {
                    // Real time: it has not started yet.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                // Real time: what was killed comes back meanwhile, and the others have something to do.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            until_published(&node, lines).await;
            let drained = running.drain().await;
            assert!(drained.left.is_empty(), "{drained}");
            let limit = Instant::now() + LONG;
            loop {
                let (bytes, appended) = changelog(&node).await;
                // Each took more than 20 bytes, and the last batches are never compacted.
                if bytes < 15 * appended {
                    break;
                }
                assert!(Instant::now() < limit, "{bytes} bytes are left of {appended} records");
                // Real time: a partition looks once a second.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok::<_, PipelineError>(lines)
        })
        .unwrap();
        assert_counted(&tally, lines);
    }
}

/// A member of the group of sums, beside others.
fn member(node: &Node, number: usize, tally: &Tally, progress: &Progress) -> StageOptions {
    let topic = TopicName::new("a").unwrap();
    let (broker, tally) = (node.broker().clone(), tally.clone());
    let changelog = TopicName::new(CHANGELOG).unwrap();
    let outlet = move || {
        let operators = Operators::read(Raw).map(one);
        Box::new(Fold::new("p/sum", changelog.clone(), operators, broker.clone(), tally.clone()))
            as Box<dyn Outlet>
    };
    StageOptions {
        name: format!("member-{number}").into(),
        broker: node.broker().clone(),
        member: MemberOptions::new("p/sum", vec![topic]),
        consumer: ConsumerOptions::default(),
        commit_interval: Duration::from_millis(20),
        outlet: Arc::new(outlet),
        observer: None,
        progress: progress.clone(),
    }
}

#[test]
fn sums_go_along_where_a_partition_goes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 0..0);
    let mut lines = Pipeline::new("lines");
    lines
        .tail("lines", [dir.path().join("app.log").display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", TopicSpec::new("a", 2).unwrap());
    // Each member shows its own, so that what it took over is seen in what it counts on from.
    let tallies = [Tally::default(), Tally::default()];
    let progress = [Progress::default(), Progress::default()];
    let shown = tallies.clone();
    let data = dir.path();
    let (first, second) = node::run(options(data), |node| async move {
        let running = lines.start(&node).await?;
        let read = |of: &Progress, partition: u32| {
            let topic = TopicName::new("a").unwrap();
            let at = TopicPartition { topic, partition: PartitionId(partition) };
            of.partitions().get(&at).copied().unwrap_or_default()
        };
        let caught_up = async |of: &[(usize, u32)]| {
            let limit = Instant::now() + LONG;
            for (member, partition) in of {
                let topic = TopicName::new("a").unwrap();
                let at =
                    TopicPartition { topic: topic.clone(), partition: PartitionId(*partition) };
                while read(&progress[*member], *partition) < node.ends(&topic).await[&at] {
                    assert!(Instant::now() < limit, "member {member} does not get on with {at}");
                    // Real time: members hear of each other at heartbeats.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        let start = async |number: usize| {
            let options = member(&node, number, &shown[number], &progress[number]);
            node.pipelines().start_child(worker::child_spec(options).0).await.unwrap();
        };
        write(data, 0..NAMES);
        start(0).await;
        until_published(&node, NAMES).await;
        caught_up(&[(0, 0), (0, 1)]).await;
        // The second takes one of the partitions over, whichever it is, while lines come.
        write(data, NAMES..2 * NAMES);
        start(1).await;
        until_published(&node, 2 * NAMES).await;
        let limit = Instant::now() + LONG;
        let taken = loop {
            assert!(Instant::now() < limit, "the second member gets no partition");
            let taken = (0..2).find(|partition| read(&progress[1], *partition).0 > 0);
            if let Some(taken) = taken {
                break taken;
            }
            // Real time: members hear of each other at heartbeats.
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        caught_up(&[(1, taken), (0, 1 - taken)]).await;
        let both = shown[1].total().values().sum::<u64>();
        // And all goes back to the first.
        let _ = node.pipelines().stop_child("member-1").await;
        write(data, 2 * NAMES..3 * NAMES);
        until_published(&node, 3 * NAMES).await;
        caught_up(&[(0, 0), (0, 1)]).await;
        let _ = node.pipelines().stop_child("member-0").await;
        running.drain().await;
        Ok::<_, PipelineError>((shown[0].total().values().sum::<u64>(), both))
    })
    .unwrap();
    assert_eq!(first, 3 * NAMES);
    assert_counted(&tallies[0], 3 * NAMES);
    assert!(second > NAMES / 2, "what the first had summed of its partition is in it: {second}");
}

/// Says where the node of the last test lives, and at which passage it dies.
const LIFE: &str = "FLUMEN_TEST_CHANGELOG";

#[test]
#[ignore = "it is the pipeline that the next test kills"]
fn sums_that_are_killed() {
    let Some(life) = std::env::var_os(LIFE).map(|life| life.into_string().unwrap()) else { return };
    let (nth, dir) = life.split_once(' ').unwrap();
    failpoint::arm("fold: sums appended", nth.parse().unwrap());
    let dir = PathBuf::from(dir);
    let pipeline = counting(&dir, 1, &Tally::default());
    node::run(options(&dir), |node| async move {
        let _running = pipeline.start(&node).await?;
        // Real time: it lives until it is killed.
        tokio::time::sleep(LONG).await;
        Ok::<_, PipelineError>(())
    })
    .unwrap();
}

#[test]
fn what_was_summed_and_not_committed_is_not_summed_again() {
    let dir = tempfile::tempdir().unwrap();
    let lines = 3 * NAMES / 2;
    for (life, nth) in [1, 2, 1].into_iter().enumerate() {
        let first = life as u64 * NAMES / 2;
        write(dir.path(), first..first + NAMES / 2);
        let killed = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sums_that_are_killed", "--ignored"])
            .env(LIFE, format!("{nth} {}", dir.path().display()))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(killed.signal(), Some(9), "life {life} did not come by: {killed}");
    }
    let tally = Tally::default();
    let pipeline = counting(dir.path(), 1, &tally);
    node::run(options(dir.path()), |node| async move {
        let running = pipeline.start(&node).await?;
        until_published(&node, lines).await;
        let drained = running.drain().await;
        assert!(drained.left.is_empty(), "{drained}");
        Ok::<_, PipelineError>(())
    })
    .unwrap();
    assert_counted(&tally, lines);
}

#[test]
fn a_few_records_that_make_far_more_than_fits_one_batch_are_kept_in_several() {
    let dir = tempfile::tempdir().unwrap();
    let (tally, records) = (Tally::default(), 1800);
    let mut pipeline = Pipeline::new("p");
    // Each makes 40 KB, all of them 72 MB, and a batch takes 64.
    let names = |record: Bytes| {
        let record = String::from_utf8(record.to_vec()).unwrap();
        (0..40).map(move |name| (format!("{record}-{name:01000}"), 1))
    };
    pipeline.read("a", Raw).flat_map("names", names).sum("sum", &tally);
    node::run(options(dir.path()), |node| async move {
        make_small_changelog(&node).await;
        node.broker().create_topic(TopicSpec::new("a", 1).unwrap()).await?;
        let mut batch = BatchBuilder::new(0);
        for record in 0..records {
            let value = record.to_string();
            batch.push(RecordRef { value: Some(value.as_bytes()), ..RecordRef::default() });
        }
        let at = TopicPartition { topic: TopicName::new("a").unwrap(), partition: PartitionId(0) };
        let append = Append::new(batch.build());
        node.broker().partition(&at).unwrap().send(append).await.unwrap().unwrap();
        let drained = pipeline.start(&node).await?.drain().await;
        assert!(drained.left.is_empty(), "{drained}");
        Ok::<_, PipelineError>(())
    })
    .unwrap();
    let counted = tally.total();
    assert_eq!(counted.len(), 40 * records);
    assert!(counted.values().all(|count| *count == 1));
}

#[test]
fn a_lazy_topic_is_synced_for_its_sums_and_what_a_power_cut_may_take_is_not_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let tally = Tally::default();
    let mut pipeline = Pipeline::new("p");
    pipeline.read("a", Raw).map("one", one).sum("sum", &tally);
    let seen = tally.clone();
    node::run(options(dir.path()), |node| async move {
        let lazy = TopicSpec::new("a", 1).unwrap();
        let lazy = lazy.set("flush.messages", &i64::MAX.to_string()).unwrap();
        let lazy = lazy.set("flush.ms", "3600000").unwrap();
        node.broker().create_topic(lazy).await?;
        let at = TopicPartition { topic: TopicName::new("a").unwrap(), partition: PartitionId(0) };
        let address = node.broker().partition(&at).unwrap();
        let publish = async || {
            let mut batch = BatchBuilder::new(0);
            batch.push(RecordRef { value: Some(b"name-0"), ..RecordRef::default() });
            address.send(Append::new(batch.build())).await.unwrap().unwrap();
        };
        let running = pipeline.start(&node).await?;
        publish().await;
        for _ in 0..1000 {
            if !seen.total().is_empty() {
                break;
            }
            // Real time: it is a whole node.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let marks = address.send(Status).await.unwrap().marks;
        assert_eq!((marks.high_watermark.0, marks.durable_end.0), (1, 1), "long before its time");
        publish().await;
        let drained = running.drain().await;
        assert!(drained.left.is_empty(), "{drained}");
        Ok::<_, PipelineError>(())
    })
    .unwrap();
    assert_eq!(tally.total(), BTreeMap::from([("name-0".to_owned(), 2)]));
}

#[test]
fn without_its_changelog_all_is_summed_anew() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 0..NAMES);
    for _ in 0..2 {
        let tally = Tally::default();
        let pipeline = counting(dir.path(), 1, &tally);
        node::run(options(dir.path()), |node| async move {
            let running = pipeline.start(&node).await?;
            until_published(&node, NAMES).await;
            running.drain().await;
            let topic = TopicName::new(CHANGELOG).unwrap();
            node.broker().delete_topic(&topic).await.unwrap();
            Ok::<_, PipelineError>(())
        })
        .unwrap();
        assert_counted(&tally, NAMES);
    }
}
