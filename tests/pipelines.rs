//! Pipelines on a whole node, on a real disk: what the builder promises.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use flumen::{
    demo::{self, DemoOptions},
    node::{self, Node, NodeError, NodeOptions},
    pipeline::{Buffer, Pipeline, PipelineError},
    running::Running,
    stream::fold::Tally,
    topology::TopologyError,
    typed::{Bincode, Json, Raw, Record},
};
use flumen_actors::{
    agent::interceptor::{host::Host, static_header::StaticHeader, timestamp::Timestamp},
    broker::{TopicSpec, names::TopicName},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

fn topic(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec::new(name, partitions).expect("it is a name")
}

/// A topic that has what comes compressed.
fn compressed(name: &str, partitions: u32, codec: &str) -> TopicSpec {
    topic(name, partitions).set("compression.type", codec).expect("it is a codec")
}

fn options(dir: &Path) -> NodeOptions {
    let mut options = NodeOptions::new(dir.join("data"));
    options.offsets_partitions = 2;
    options
}

fn append(log: &Path, lines: impl Iterator<Item = u32>) {
    let mut file =
        OpenOptions::new().append(true).create(true).open(log).expect("a log can be opened");
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    file.write_all(text.as_bytes()).expect("a log can be written");
}

async fn count(node: &Node, topic: &str) -> u64 {
    node.ends(&TopicName::new(topic).expect("a name")).await.values().map(|end| end.0).sum()
}

/// Waits until `topic` holds `wanted` records.
async fn until(node: &Node, topic: &str, wanted: u64) {
    for _ in 0..3000 {
        if count(node, topic).await >= wanted {
            return;
        }
        // Real time: disks and files do not know ours.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} records of `{topic}` after 30 s, and not {wanted}", count(node, topic).await);
}

/// A stage that shows what comes.
fn seen(pipeline: &mut Pipeline, topic: &str, name: &str) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shown = seen.clone();
    let show = move |value: Bytes| {
        shown.lock().expect("no panic").push(String::from_utf8_lossy(&value).into_owned());
    };
    pipeline.read(topic, Raw).for_each(name, show);
    seen
}

#[test]
fn every_stage_of_an_agent_and_of_streams_can_be_built() {
    let dir = tempfile::tempdir().unwrap();
    let (log, files) = (dir.path().join("app.log"), dir.path().join("rolled"));
    fs::create_dir(&files).unwrap();
    append(&log, 0..100);
    let mut pipeline = Pipeline::new("all");
    pipeline
        .tail("lines", [log.display().to_string()])
        .intercept("time", Timestamp::default)
        .intercept("host", || Host::named("web-1"))
        .intercept("zone", || StaticHeader::new("zone", "a"))
        .channel("safe", Buffer::durable())
        .topic("publish", topic("lines-read", 2))
        .channel("quick", Buffer::memory().events(1000).bytes(1 << 20))
        .files("roll", &files)
        .channel("shown", Buffer::memory())
        .logger("log")
        .channel("void", Buffer::memory())
        .null("drop");
    let tally = Tally::default();
    pipeline
        .read("lines-read", Raw)
        .flat_map("parse", |line: Bytes| String::from_utf8_lossy(&line).parse::<u32>().ok())
        .filter("even", |number| number % 2 == 0)
        .map("half", |number| number / 2)
        .key_by("by-number", u32::to_string)
        .topic("store", topic("halves", 3), Json);
    pipeline
        .read::<u32>("halves", Json)
        .map("amount", |half| ("sum".to_owned(), u64::from(half)))
        .members(2)
        .sum("add", &tally);
    let status = node::run(options(dir.path()), |node| async move {
        let running = pipeline.start(&node).await?;
        until(&node, "halves", 50).await;
        let status = running.status().await;
        let latency = running.latency();
        assert_eq!(latency.keys().collect::<Vec<_>>(), ["all/add", "all/store"]);
        let drained = running.drain().await;
        assert_eq!(drained.to_string(), "all that was read is through");
        Ok::<_, PipelineError>(status)
    })
    .unwrap();
    assert_eq!(tally.total()["sum"], (0..50).sum::<u64>());
    assert_eq!(status.sources["all/lines"].events, 100);
    assert_eq!(status.sinks.len(), 4, "{status:?}");
    assert_eq!(status.channels.len(), 4, "{status:?}");
    let rolled = fs::read_dir(&files).unwrap().map(|file| fs::read_to_string(file.unwrap().path()));
    assert_eq!(rolled.map(|text| text.unwrap().lines().count()).sum::<usize>(), 100);
}

/// Kills each of `victims` while lines are written.
async fn write_while_they_die(node: &Node, log: &Path, victims: &[&str]) {
    for (round, victim) in (0..).zip(victims) {
        append(log, round * 500..(round + 1) * 500);
        while node.root().inject_panic(victim).await.is_err() {
            // Real time: it has not started yet.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Real time: what was killed comes back meanwhile, and the others have something to do.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[test]
fn each_result_is_there_once_whatever_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    append(&log, 0..0);
    let mut pipeline = Pipeline::new("p");
    pipeline
        .tail("lines", [log.display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", compressed("a", 2, "zstd"));
    pipeline
        .read("a", Raw)
        .members(2)
        .flat_map("twice", |line: Bytes| [line.clone(), line])
        .key_by("by-value", |line| line.clone())
        .topic("store", compressed("b", 3, "gzip"), Raw);
    let (tally, parts) = (Tally::default(), dir.path().join("parts"));
    let one = |line: Bytes| (String::from_utf8_lossy(&line).into_owned(), 1);
    pipeline.read("b", Raw).map("digit", move |line| one(line.slice(..1))).sum("sum", &tally);
    pipeline.read("b", Raw).files("files", &parts);
    node::run(options(dir.path()), |node| async move {
        let running = pipeline.start(&node).await?;
        let victims = [
            "p/lines",
            "p/store/0",
            "p/buffer",
            "partition/b-0",
            "p/store/1",
            "coordinator/0",
            "p/publish",
            "p/sum",
            "partition/a-1",
            "p/files",
            "coordinator/1",
        ];
        write_while_they_die(&node, &log, &victims).await;
        until(&node, "b", 11_000).await;
        let drained = running.drain().await;
        assert!(drained.left.is_empty(), "{drained}");
        assert_eq!((count(&node, "a").await, count(&node, "b").await), (5_500, 11_000));
        Ok::<_, PipelineError>(())
    })
    .unwrap();
    assert_eq!(tally.total().values().sum::<u64>(), 11_000, "{:?}", tally.total());
    let mut lines: Vec<u32> = Vec::new();
    for part in fs::read_dir(&parts).unwrap().map(|part| part.unwrap()) {
        if part.file_name().to_string_lossy().starts_with("part-") {
            let text = fs::read_to_string(part.path()).unwrap();
            lines.extend(text.lines().map(|line| line.parse::<u32>().unwrap()));
        }
    }
    lines.sort_unstable();
    let wanted: Vec<u32> = (0..5_500).flat_map(|line| [line, line]).collect();
    assert_eq!(lines.len(), wanted.len());
    assert_eq!(lines, wanted);
}

#[test]
fn a_pipeline_that_is_started_again_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    append(&log, 0..10);
    for life in 1..=3 {
        let mut pipeline = Pipeline::new("p");
        pipeline
            .tail("lines", [log.display().to_string()])
            .channel("buffer", Buffer::durable())
            .topic("publish", topic("a", 1));
        let seen = seen(&mut pipeline, "a", "show");
        node::run(options(dir.path()), |node| async move {
            let running = pipeline.start(&node).await?;
            until(&node, "a", life * 10).await;
            running.drain().await;
            Ok::<_, PipelineError>(())
        })
        .unwrap();
        let wanted: Vec<String> =
            ((life - 1) * 10..life * 10).map(|line| line.to_string()).collect();
        assert_eq!(*seen.lock().unwrap(), wanted);
        append(&log, life as u32 * 10..(life as u32 + 1) * 10);
    }
}

/// Says where the node of the next test lives.
const LIFE: &str = "FLUMEN_TEST_PIPELINE_DIR";

/// Copies lines through two members into parts, until it is killed; writes `ready` when it runs.
#[test]
#[ignore = "it is the pipeline that the next test kills"]
fn pipeline_that_is_killed() {
    let Some(dir) = std::env::var_os(LIFE).map(PathBuf::from) else { return };
    let mut pipeline = Pipeline::new("p");
    pipeline
        .tail("lines", [dir.join("app.log").display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", topic("a", 2));
    pipeline.read("a", Raw).members(2).topic("copy", topic("b", 1), Raw);
    pipeline.read("b", Raw).files("files", dir.join("parts"));
    node::run(options(&dir), |node| async move {
        let _running = pipeline.start(&node).await?;
        fs::write(dir.join("ready"), "").expect("there is room");
        std::future::pending::<Result<(), PipelineError>>().await
    })
    .unwrap();
}

/// Lines in the parts, those of the one that is being written too.
fn written(parts: &Path) -> usize {
    let files = fs::read_dir(parts).into_iter().flatten().flatten();
    let texts = files.map(|file| fs::read_to_string(file.path()).unwrap_or_default());
    texts.map(|text| text.lines().count()).sum()
}

#[test]
fn a_pipeline_that_was_killed_does_not_wait_for_its_dead_members() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, parts) = (dir.path().join("ready"), dir.path().join("parts"));
    let until = |what: &str, is: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
            // Real time: another process is waited for.
            std::thread::park_timeout(Duration::from_millis(10));
        }
        began.elapsed()
    };
    for life in 1..=3 {
        append(&dir.path().join("app.log"), (life - 1) * 10..life * 10);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pipeline_that_is_killed", "--ignored"])
            .env(LIFE, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until("it runs", &|| ready.exists());
        let took = until("its lines are through", &|| written(&parts) >= life as usize * 10);
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(&ready).unwrap();
        eprintln!("life {life}: all lines were through after {took:?}");
        assert!(took < Duration::from_secs(8), "as long as a session: {took:?}");
    }
}

/// What starting `pipeline` is answered with on a node on which `first` runs.
fn refused(first: Option<Pipeline>, pipeline: Pipeline) -> PipelineError {
    let dir = tempfile::tempdir().expect("there is room");
    let refused = node::run(options(dir.path()), |node| async move {
        for name in ["a", "b"] {
            node.broker().ensure_topic(topic(name, 1)).await.map_err(NodeError::from)?;
        }
        let mut runs: Option<Running> = None;
        if let Some(first) = first {
            runs = Some(first.start(&node).await?);
        }
        let before = node.topology();
        let started = pipeline.start(&node).await;
        assert_eq!(node.topology(), before, "nothing of it is left");
        if let Some(runs) = runs {
            runs.stop().await;
        }
        assert_eq!(node.topology().stages().count(), 0);
        Ok::<_, PipelineError>(started.err())
    });
    refused.expect("the node runs").expect("it is refused")
}

fn sum(name: &str, stage: &str) -> Pipeline {
    let mut pipeline = Pipeline::new(name);
    pipeline.read("a", Raw).map("one", |_| (String::new(), 1)).sum(stage, &Tally::default());
    pipeline
}

fn copy(name: &str, from: &str, to: &str) -> Pipeline {
    let mut pipeline = Pipeline::new(name);
    pipeline.read(from, Raw).topic("copy", topic(to, 1), Raw);
    pipeline
}

#[test]
fn what_cannot_run_is_refused_before_anything_starts() {
    let mut dangling = Pipeline::new("p");
    let _ = dangling.tail("lines", ["/tmp/none"]);
    let error = refused(None, dangling).to_string();
    assert!(error.contains("source `lines` leads nowhere"), "{error}");

    let mut twice = Pipeline::new("p");
    twice.read("a", Raw).topic("x", topic("b", 1), Raw);
    twice.read("a", Raw).files("x", "/tmp/none");
    let error = refused(None, twice).to_string();
    assert!(error.contains("the name `x` is given to"), "{error}");

    let error = refused(None, copy("p", "nowhere", "b")).to_string();
    assert!(error.contains("reads the topic `nowhere`, which is not there"), "{error}");
    let error = refused(None, copy("../p", "a", "b")).to_string();
    assert!(error.contains("`../p` is no name"), "{error}");
    let error = refused(None, Pipeline::new("p")).to_string();
    assert!(error.contains("`p` is empty"), "{error}");
    let error = refused(Some(copy("p", "a", "b")), copy("p", "a", "c"));
    assert!(matches!(error, PipelineError::Topology(TopologyError::Runs(_))), "{error}");
    let error = refused(Some(copy("p", "a", "b")), copy("q", "b", "a")).to_string();
    assert!(error.contains("runs in a circle") && error.contains("q/copy"), "{error}");
    let error = refused(Some(sum("p", "q-s")), sum("p-q", "s")).to_string();
    assert!(error.contains("would both put records into `p-q-s-changelog`"), "{error}");
    let error = refused(None, sum("p", &"s".repeat(240))).to_string();
    assert!(error.contains("that is no topic's name"), "{error}");
}

#[test]
fn several_pipelines_of_one_node_meet_in_topics() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    append(&log, 0..100);
    let mut collect = Pipeline::new("collect");
    collect
        .tail("lines", [log.display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", topic("a", 2));
    let topology = node::run(options(dir.path()), |node| async move {
        let collecting = collect.start(&node).await?;
        let copying = copy("copy", "a", "b").start(&node).await?;
        until(&node, "b", 100).await;
        let topology = node.topology();
        collecting.drain().await;
        copying.drain().await;
        assert_eq!(count(&node, "b").await, 100);
        Ok::<_, PipelineError>(topology)
    })
    .unwrap();
    let text = topology.to_string();
    for stage in ["source collect/lines", "topic a", "sink copy/copy", "topic b"] {
        assert!(text.contains(stage), "{text}");
    }
    assert!(topology.to_dot().contains(r#""a" -> "copy/copy";"#), "{}", topology.to_dot());
}

#[derive(Debug, Serialize, Deserialize)]
struct Order(u32);

impl Record for Order {
    const TYPE: &'static str = "order";
    const VERSION: u16 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct Invoice(u32);

impl Record for Invoice {
    const TYPE: &'static str = "invoice";
    const VERSION: u16 = 3;
}

#[test]
fn a_stage_that_reads_another_type_ends_the_node_and_names_both() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    append(&log, 0..1);
    let mut pipeline = Pipeline::new("p");
    pipeline
        .tail("lines", [log.display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", topic("a", 1));
    pipeline.read("a", Raw).map("order", |_| Order(1)).topic(
        "store",
        topic("b", 1),
        Bincode::default(),
    );
    pipeline.read::<Invoice>("b", Bincode::default()).for_each("show", drop);
    let ended = node::run(options(dir.path()), |node| async move {
        let _running = pipeline.start(&node).await?;
        // The stage is made anew until its supervisor gives up, and the node with it.
        std::future::pending::<Result<(), PipelineError>>().await
    });
    let error = ended.unwrap_err().to_string();
    for part in ["p/show", "order@1", "invoice@3", "offset 0", "b-0"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn the_demonstration_kills_one_of_each_kind_and_its_account_is_even() {
    let dir = tempfile::tempdir().unwrap();
    let options = DemoOptions {
        dir: dir.path().to_owned(),
        duration: Duration::from_secs(6),
        rate: 500,
        is_quiet: true,
    };
    let ledger = demo::run(options).unwrap();
    let json: serde_json::Value = serde_json::from_str(&ledger.to_json()).unwrap();
    assert!(ledger.is_clean(), "{json}");
    let killed: Vec<&str> =
        json["killed"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let kinds = ["demo/tail", "demo/buffer", "demo/publish", "partition/access-0", "coordinator/"];
    assert_eq!(killed.len(), kinds.len(), "{json}");
    assert!(killed.iter().zip(kinds).all(|(name, kind)| name.starts_with(kind)), "{json}");
    let written = json["written"].as_u64().unwrap();
    assert!(written > 3_000, "a burst is among them: {json}");
    for group in ["count", "files"] {
        assert_eq!(json["groups"][group]["delivered"], written, "{json}");
        assert_eq!(json["groups"][group]["lost"], 0, "{json}");
        assert_eq!(json["groups"][group]["doubled"], 0, "{json}");
        assert!(json["latency_us"][group]["p99.9"].as_u64().unwrap() > 0, "{json}");
    }
    assert!(ledger.plot().starts_with("<svg"));
}
