//! `flumen topics`: what topics there are, and how each partition is.

use std::io::Write as _;

use clap::Args;
use flumen_actors::broker::{
    Topic,
    names::{TopicName, TopicPartition},
    partition::messages::Condition,
};

use super::{CliError, DataArgs, find_topic};
use crate::node::{self, Node};

/// Options of `flumen topics`.
#[derive(Debug, Args)]
pub struct TopicsArgs {
    /// Describe only this topic, with all its partitions.
    topic: Option<String>,
    /// Also the node's own topics (`__…`).
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: TopicsArgs) -> Result<(), CliError> {
    node::run(args.data.node_that_is_there()?, |node| async move {
        let mut out = std::io::stdout().lock();
        if let Some(name) = &args.topic {
            let topic = find_topic(node.broker(), &TopicName::new(name)?)?;
            return describe(&node, &topic, &mut out).await;
        }
        let topics = node.broker().topics();
        for topic in topics.values().filter(|topic| args.internal || !topic.is_internal) {
            writeln!(out, "{}\t{} partitions", topic.name, topic.partitions.len())?;
        }
        Ok(())
    })
}

async fn describe(
    node: &Node,
    topic: &Topic,
    out: &mut impl std::io::Write,
) -> Result<(), CliError> {
    writeln!(out, "{}  id {}", topic.name, topic.id)?;
    for (name, value) in topic.settings.explicit() {
        writeln!(out, "  {name}={value}")?;
    }
    let promise = if topic.settings.is_lazy() {
        "an acknowledged record may be lost in a power cut"
    } else {
        "an acknowledged record is on the disk"
    };
    writeln!(out, "  {promise}")?;
    for partition in topic.partition_ids() {
        let name = TopicPartition { topic: topic.name.clone(), partition };
        match node.status(&name).await {
            Some(status) => {
                let marks = status.marks;
                writeln!(
                    out,
                    "  {name}  {}  offsets {} to {}, {} bytes",
                    shown(&status.condition),
                    marks.log_start,
                    marks.high_watermark,
                    status.bytes
                )?;
            }
            None => writeln!(out, "  {name}  its data directory was not given")?,
        }
    }
    Ok(())
}

fn shown(condition: &Condition) -> String {
    match condition {
        Condition::Opening => "is being opened".to_owned(),
        Condition::Leading => "leads".to_owned(),
        Condition::Following => "follows".to_owned(),
        Condition::Offline { reason, remedy } => format!("is offline: {reason}; {remedy};"),
        Condition::Closing => "is being closed".to_owned(),
    }
}
