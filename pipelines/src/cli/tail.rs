//! `flumen tail`: follows files into a topic until it is told to stop.

mod elsewhere;

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgGroup, Args};
use flumen_actors::broker::{Topic, TopicSpec, names::TopicName};
use futures::future;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{
    CliError,
    session::{NodeArgs, Way},
    tell,
};
use crate::{
    node::{self, Node, NodeOptions},
    pipeline::{Buffer, Pipeline},
    running::{Drained, Running},
    signals::Signals,
};

/// Options of `flumen tail`.
///
/// Each line becomes one record, whatever is killed on the way, as long as the positions and the topic
/// are kept. Over the network that rests on what the node remembers of an idempotent producer: it
/// forgets one that has been silent for `producer.id.expiration.ms` (a day, as a rule), and a line that it
/// had taken just before both were stopped for longer than that may then be in the topic twice. No
/// line is lost.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    group(ArgGroup::new("node").required(true).multiple(true).args(["bootstrap", "data"]))
)]
pub struct TailArgs {
    /// Files to follow: paths or patterns as in `glob(7)`, quoted so that the shell leaves them.
    /// Patterns are looked at again and again, as files appear.
    #[arg(required = true, value_name = "FILES")]
    files: Vec<String>,
    /// Topic that gets a record for each line; made where there is none.
    #[arg(long)]
    topic: String,
    /// Partitions of the topic; 1 where it is made and nothing is said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// Most megabytes that wait on disk before reading pauses.
    #[arg(long, default_value_t = 1024, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..))]
    buffer: u32,
    /// Where positions and waiting lines are kept when the node is reached over the network: with
    /// `--bootstrap`, and with the `--data` of a node that runs. The same each time.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
}

/// Records of all partitions of `topic` together.
async fn records(node: &Node, topic: &Topic) -> u64 {
    node.ends(&topic.name).await.values().map(|end| end.0).sum()
}

/// A directory may well be looked at before there is a file in it. One that is not there is more often
/// a slip, or a disk that is not mounted.
fn check(pattern: &str) -> Result<(), CliError> {
    if glob::Pattern::new(pattern).is_err() {
        return Err(CliError::Option {
            option: "FILES",
            value: pattern.to_owned(),
            expected: "a path or a pattern such as `/var/log/app/*.log`".into(),
        });
    }
    let plain = pattern.split(['*', '?', '[']).next().unwrap_or_default();
    let dir = plain.rsplit_once('/').map(|(dir, _)| if dir.is_empty() { "/" } else { dir });
    match dir.map(Path::new) {
        Some(dir) if !dir.is_dir() => {
            Err(CliError::NoDirectory { pattern: pattern.to_owned(), dir: dir.into() })
        }
        _ => Ok(()),
    }
}

/// A topic that is there keeps its partitions: more of them would send lines elsewhere than before.
fn check_partitions(name: &TopicName, there: usize, asked: Option<u32>) -> Result<(), CliError> {
    match asked {
        Some(asked) if asked as usize != there => {
            Err(CliError::Partitions { name: name.to_string(), asked, there })
        }
        _ => Ok(()),
    }
}

fn matches_any(pattern: &str) -> bool {
    glob::glob(pattern).is_ok_and(|mut files| files.next().is_some())
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: TailArgs) -> Result<(), CliError> {
    let name = TopicName::new(&args.topic)?;
    args.files.iter().try_for_each(|pattern| check(pattern))?;
    match args.node.clone().or_new().way()? {
        Way::Here(options) => here(args, name, *options),
        Way::Network(addresses) => elsewhere::run(args, name, addresses),
    }
}

/// Into a topic of a node that runs for as long as this takes.
fn here(args: TailArgs, name: TopicName, options: NodeOptions) -> Result<(), CliError> {
    node::run(options, |node| async move {
        let mut signals = Signals::listen()?;
        let spec = TopicSpec::new(name.as_str(), args.partitions.unwrap_or(1))?;
        let topic = node.broker().ensure_topic(spec.clone()).await?;
        check_partitions(&topic.name, topic.partitions.len(), args.partitions)?;
        tell(format_args!("flumen: {}", node.about()));
        tell_of_missing(&args.files);
        let before = records(&node, &topic).await;
        let began = Instant::now();
        let mut pipeline = Pipeline::new(&format!("tail-{name}"));
        pipeline
            .tail("follow", args.files)
            .channel("buffer", buffer(args.buffer))
            .topic("publish", spec);
        let running = pipeline.start(&node).await?;
        let count = async || records(&node, &topic).await - before;
        let watching = Box::pin(watch(&running, count));
        future::select(Box::pin(signals.told_to_stop()), watching).await;
        tell("flumen: finishing what was read; Ctrl-C again leaves the rest for the next start");
        let drained = running.drain_unless(signals.told_to_stop()).await;
        let lines = records(&node, &topic).await - before;
        report(&name, lines, began.elapsed(), &drained);
        Ok(())
    })
}

/// What lines wait in.
fn buffer(megabytes: u32) -> Buffer {
    Buffer::durable().bytes((megabytes as usize) << 20)
}

/// Says which patterns match nothing yet.
fn tell_of_missing(files: &[String]) {
    for pattern in files.iter().filter(|pattern| !matches_any(pattern)) {
        tell(format_args!("flumen: nothing matches `{pattern}` yet; it is looked for again"));
    }
}

/// Says what was done.
fn report(topic: &TopicName, lines: u64, took: Duration, drained: &Drained) {
    let seconds = took.as_secs_f64().max(0.001);
    tell(format_args!(
        "flumen: {lines} lines went into `{}` in {seconds:.1} s ({:.0} a second); {drained}; what was \
         read is on the disk, and the next start goes on behind it",
        topic,
        lines as f64 / seconds
    ));
}

/// Shows a person how it goes, for ever; where nobody looks, says only what is in the way.
async fn watch(running: &Running, count: impl AsyncFn() -> u64) {
    let is_seen = std::io::stderr().is_terminal();
    let bar = if is_seen { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template fits"));
    let (mut last, mut told) = (0, None);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let trouble = trouble(running).await;
        if trouble != told {
            if let Some(trouble) = &trouble {
                bar.suspend(|| tell(format_args!("flumen: {trouble}; it is tried again")));
            }
            told = trouble;
        }
        if is_seen {
            let now = count().await;
            bar.set_message(format!("{now} lines, {} a second; Ctrl-C stops", now - last));
            bar.tick();
            last = now;
        }
    }
}

/// What keeps the agent from going on.
async fn trouble(running: &Running) -> Option<String> {
    let status = running.status().await;
    let sources = status.sources.into_iter().filter_map(|(name, it)| Some((name, it.offline?)));
    let channels = status.channels.into_iter().filter_map(|(name, it)| Some((name, it.offline?)));
    let sinks = status.sinks.into_iter().filter_map(|(name, it)| Some((name, it.trouble?)));
    let mut all = channels.chain(sinks).chain(sources);
    all.next().map(|(name, why)| format!("`{name}` does not go on: {why}"))
}
