//! `flumen tail`: follows files into a topic until it is told to stop.

use std::{io::IsTerminal as _, path::Path, time::Duration};

use clap::Args;
use flumen_actors::broker::{Topic, TopicSpec, names::TopicName};
use futures::future;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{CliError, DataArgs, tell};
use crate::{
    node::{self, Node},
    pipeline::{Buffer, Pipeline},
    running::{Drained, Running},
    signals::Signals,
};

/// Options of `flumen tail`.
#[derive(Debug, Args)]
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
    #[command(flatten)]
    data: DataArgs,
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
fn check_partitions(topic: &Topic, asked: Option<u32>) -> Result<(), CliError> {
    let there = topic.partitions.len();
    match asked {
        Some(asked) if asked as usize != there => {
            Err(CliError::Partitions { name: topic.name.to_string(), asked, there })
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
    node::run(args.data.node(), |node| async move {
        let mut signals = Signals::listen()?;
        let spec = TopicSpec::new(name.as_str(), args.partitions.unwrap_or(1))?;
        let topic = node.broker().ensure_topic(spec.clone()).await?;
        check_partitions(&topic, args.partitions)?;
        tell(format_args!("flumen: {}", node.about()));
        for pattern in args.files.iter().filter(|pattern| !matches_any(pattern)) {
            tell(format_args!("flumen: nothing matches `{pattern}` yet; it is looked for again"));
        }
        let before = records(&node, &topic).await;
        let began = Instant::now();
        let mut pipeline = Pipeline::new(&format!("tail-{name}"));
        let buffer = Buffer::durable().bytes((args.buffer as usize) << 20);
        pipeline.tail("follow", args.files).channel("buffer", buffer).topic("publish", spec);
        let running = pipeline.start(&node).await?;
        let watching = Box::pin(watch(&node, &running, &topic, before));
        future::select(Box::pin(signals.told_to_stop()), watching).await;
        tell("flumen: finishing what was read; Ctrl-C again leaves the rest for the next start");
        let drained = running.drain_unless(signals.told_to_stop()).await;
        let lines = records(&node, &topic).await - before;
        report(&topic, lines, began.elapsed(), &drained);
        Ok(())
    })
}

/// Says what was done.
fn report(topic: &Topic, lines: u64, took: Duration, drained: &Drained) {
    let seconds = took.as_secs_f64().max(0.001);
    tell(format_args!(
        "flumen: {lines} lines went into `{}` in {seconds:.1} s ({:.0} a second); {drained}; what was \
         read is on the disk, and the next start goes on behind it",
        topic.name,
        lines as f64 / seconds
    ));
}

/// Shows a person how it goes, for ever; where nobody looks, says only what is in the way.
async fn watch(node: &Node, running: &Running, topic: &Topic, before: u64) {
    let is_seen = std::io::stderr().is_terminal();
    let bar = if is_seen { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template fits"));
    let (mut last, mut told) = (before, None);
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
            let now = records(node, topic).await;
            bar.set_message(format!(
                "{} lines, {} a second; Ctrl-C stops",
                now - before,
                now - last
            ));
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
