//! `flumen tail`: follows files into a topic until it is told to stop.

use std::{io::IsTerminal as _, path::Path, sync::Arc, time::Duration};

use clap::Args;
use flumen_actors::{
    agent::{
        AgentSpec,
        channel::{Capacity, durable::DurableChannelOptions},
        selector::Replicating,
        sink::{
            SinkOptions,
            topic::{TopicSink, TopicSinkOptions},
        },
        source::{feed::FeedOptions, taildir::TaildirOptions},
    },
    broker::{
        Topic, TopicSpec,
        names::{TopicName, TopicPartition},
    },
};
use flumen_runtime::supervision::ChildSpec;
use futures::future;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{CliError, DataArgs, tell, told_to_stop};
use crate::node::{self, Node};

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
    /// Partitions of the topic, if it is made.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// Most megabytes that wait on disk before reading pauses.
    #[arg(long, default_value_t = 1024, value_name = "MB")]
    buffer: u64,
    #[command(flatten)]
    data: DataArgs,
}

/// An agent that follows `files` into `topic`, through a channel on the first data directory.
///
/// Its actors are called `<name>/tail`, `<name>/buffer` and `<name>/publish`.
#[must_use]
pub fn agent(
    node: &Node,
    name: &str,
    files: Vec<String>,
    topic: &Topic,
    capacity: Capacity,
    drains_channel: bool,
) -> ChildSpec {
    let mut agent = AgentSpec::new(name);
    let channel = DurableChannelOptions {
        dir: node.data().join("channels").join(name),
        ..DurableChannelOptions::new("buffer", node.data(), capacity)
    };
    let channel = agent.durable_channel(channel);
    let partitions: Vec<_> = topic
        .partition_ids()
        .filter_map(|partition| {
            node.broker().partition(&TopicPartition { topic: topic.name.clone(), partition })
        })
        .collect();
    let target = TopicSinkOptions::new(topic.name.as_str(), &partitions);
    let options = SinkOptions { drains_channel, ..SinkOptions::default() };
    agent.sink("publish", &channel, options, move || TopicSink::new(target.clone()));
    agent.taildir(TaildirOptions::new(
        files,
        FeedOptions {
            source: "tail".into(),
            selector: Replicating::to(channel),
            interceptors: Arc::new(Vec::new),
        },
    ));
    let (spec, _) = agent.build();
    ChildSpec::supervisor(spec).0
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
            expected: "a path or a pattern such as `/var/log/app/*.log`",
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
        let spec = TopicSpec::new(name.as_str(), args.partitions)?;
        let topic = node.broker().ensure_topic(spec).await?;
        tell(format_args!("flumen: {}", node.about()));
        for pattern in args.files.iter().filter(|pattern| !matches_any(pattern)) {
            tell(format_args!("flumen: nothing matches `{pattern}` yet; it is looked for again"));
        }
        let bytes = usize::try_from(args.buffer << 20).unwrap_or(usize::MAX);
        let capacity = Capacity { events: usize::MAX >> 1, bytes };
        let name = format!("tail-{name}");
        let before = records(&node, &topic).await;
        let child = agent(&node, &name, args.files.clone(), &topic, capacity, true);
        let started = node.pipelines().start_child(child).await;
        started
            .map_err(|error| CliError::Unreadable(format!("the agent did not start: {error}")))?;
        let began = Instant::now();
        let watching = Box::pin(watch(&node, &topic, before));
        match future::select(Box::pin(told_to_stop()), watching).await {
            future::Either::Left((told, _)) => told?,
            future::Either::Right(((), _)) => {}
        }
        // The source puts what it has read, the sink delivers it, the channel closes its log.
        let stopped = node.pipelines().stop_child(&name).await;
        stopped
            .map_err(|error| CliError::Unreadable(format!("the agent did not stop: {error}")))?;
        let lines = records(&node, &topic).await - before;
        let seconds = began.elapsed().as_secs_f64().max(0.001);
        tell(format_args!(
            "flumen: {lines} lines went into `{}` in {seconds:.1} s ({:.0} a second); what was read is on \
             the disk, and the next start goes on behind it",
            topic.name,
            lines as f64 / seconds
        ));
        Ok(())
    })
}

/// Shows a person how it goes, for ever; does nothing where nobody looks.
async fn watch(node: &Node, topic: &Topic, before: u64) {
    if !std::io::stderr().is_terminal() {
        return future::pending().await;
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template fits"));
    let mut last = before;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = records(node, topic).await;
        bar.set_message(format!("{} lines, {} a second; Ctrl-C stops", now - before, now - last));
        bar.tick();
        last = now;
    }
}
