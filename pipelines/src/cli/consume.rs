//! `flumen consume`: the values of a topic, one a line, up to where it ends now.

use std::{collections::BTreeMap, io::Write as _, sync::Arc};

use clap::Args;
use flumen_actors::broker::{
    consumer::{
        ConsumedTo, Consumer, ConsumerOptions, Deliveries, Delivery, Reads, Records, Start,
    },
    group_coordinator::ids::GroupId,
    names::{TopicName, TopicPartition},
    partition::{marks::Marks, messages::Condition},
};
use flumen_runtime::{
    batch::{self, BatchHeader},
    ids::Offset,
};
use futures::{
    StreamExt as _,
    future::{self, Either},
};

use super::{CliError, DataArgs, find_topic, tell, time};
use crate::{
    node::{self, Node},
    signals::Signals,
};

/// Options of `flumen consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The topic.
    topic: String,
    #[command(flatten)]
    data: DataArgs,
    /// Where to begin: `beginning`, `end`, an offset, or a time: `2026-11-25T10:30:00Z`,
    /// `2026-11-25 10:30` (local), `2h ago`, or `@MS` in milliseconds since 1970.
    #[arg(long, default_value = "beginning", value_name = "FROM")]
    from: String,
    /// Read as this group: begin after what it has committed, and commit what was printed.
    #[arg(long)]
    group: Option<String>,
    /// Only this partition.
    #[arg(long)]
    partition: Option<u32>,
}

const EXPECTED: &str = "give `beginning`, `end`, an offset such as `42`, or a time such as \
                        `2026-11-25T10:30:00Z`, `2026-11-25 10:30` (local), `2h ago` or `@1700000000000`";

fn start_of(from: &str) -> Result<Start, CliError> {
    let wrong =
        || CliError::Option { option: "--from", value: from.to_owned(), expected: EXPECTED };
    match from {
        "beginning" => Ok(Start::Earliest),
        "end" => Ok(Start::Latest),
        text => match text.parse() {
            Ok(offset) => Ok(Start::Offset(Offset(offset))),
            Err(_) => time::parse(text).map(Start::Timestamp).ok_or_else(wrong),
        },
    }
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: ConsumeArgs) -> Result<(), CliError> {
    let start = start_of(&args.from)?;
    node::run(args.data.node_that_is_there()?, |node| async move {
        let topic = find_topic(node.broker(), &TopicName::new(&args.topic)?)?;
        let group = args.group.as_deref().map(GroupId::from);
        if let Some(group) = &group {
            node.broker().coordinator(group).await?;
        }
        let mut partitions = BTreeMap::new();
        for partition in topic.partition_ids() {
            if args.partition.is_none_or(|only| only == partition.0) {
                let name = TopicPartition { topic: topic.name.clone(), partition };
                let marks = marks_of(&node, &name).await?;
                partitions.insert(name, marks);
            }
        }
        if partitions.is_empty() {
            return Err(CliError::Option {
                option: "--partition",
                value: args.partition.map_or_else(String::new, |only| only.to_string()),
                expected: "the topic has fewer partitions; see `flumen topics`",
            });
        }
        if let Start::Offset(offset) = start
            && partitions.values().all(|marks| offset > marks.high_watermark)
        {
            return Err(CliError::Option {
                option: "--from",
                value: args.from.clone(),
                expected: "the topic ends before that offset; see `flumen topics`",
            });
        }
        let starts = partitions.iter().map(|(name, marks)| (name.clone(), within(start, marks)));
        let reads = Reads::Partitions { partitions: starts.collect(), group: group.clone() };
        let lookup = Arc::new(node.broker().clone());
        let (consumer, deliveries) = Consumer::start(lookup, reads, ConsumerOptions::default());
        let ends = partitions.into_iter().map(|(name, marks)| (name, marks.high_watermark));
        let commits = group.is_some();
        let mut reader = Reader { ends: ends.collect(), consumer, commits, printed: 0 };
        reader.read(deliveries).await
    })
}

/// A partition that ends before an offset is read from its end, and one that begins after it from its
/// beginning: the offsets of partitions have nothing to do with each other.
fn within(start: Start, marks: &Marks) -> Start {
    match start {
        Start::Offset(offset) => {
            Start::Offset(offset.min(marks.high_watermark).max(marks.log_start))
        }
        start => start,
    }
}

/// Where a partition begins and ends now.
async fn marks_of(node: &Node, partition: &TopicPartition) -> Result<Marks, CliError> {
    let unreadable = |reason: &str| CliError::Unreadable(format!("`{partition}`: {reason}"));
    let status = node.status(partition).await;
    let status = status.ok_or_else(|| unreadable("its data directory was not given"))?;
    match status.condition {
        Condition::Offline { reason, remedy } => {
            Err(CliError::Unreadable(format!("`{partition}` is offline: {reason}; {remedy}")))
        }
        _ => Ok(status.marks),
    }
}

struct Reader {
    /// Partitions that are still read, and where they end.
    ends: BTreeMap<TopicPartition, Offset>,
    consumer: Consumer,
    commits: bool,
    /// Records.
    printed: u64,
}

impl Reader {
    async fn read(&mut self, mut deliveries: Deliveries) -> Result<(), CliError> {
        let mut signals = Signals::listen()?;
        let mut stop = Box::pin(signals.told_to_stop());
        while !self.ends.is_empty() {
            // What was printed is committed before the next is looked at, or the stop.
            let delivery = match future::select(deliveries.next(), &mut stop).await {
                Either::Left((delivery, _)) => delivery,
                Either::Right(((), _)) => {
                    tell(format_args!("flumen: stopped after {} records", self.printed));
                    break;
                }
            };
            match delivery {
                Some(Delivery::Assigned(all)) => {
                    for assigned in all {
                        self.is_read_to(&assigned.partition, assigned.position);
                    }
                }
                Some(Delivery::Records(records)) => {
                    let (next, count) = print(&records)?;
                    self.printed += count;
                    self.commit(&records.partition, next).await?;
                    self.is_read_to(&records.partition, next);
                }
                Some(Delivery::Unreadable { partition, offset, reason }) => {
                    return Err(CliError::Unreadable(format!(
                        "`{partition}` cannot be read at offset {offset}: {reason}"
                    )));
                }
                Some(Delivery::Failed(error)) => {
                    return Err(CliError::Unreadable(error.to_string()));
                }
                Some(Delivery::Revoking(_) | Delivery::Lost(_)) => {}
                None => return Err(CliError::Unreadable("the consumer ended".to_owned())),
            }
        }
        self.consumer.close().await;
        Ok(())
    }

    fn is_read_to(&mut self, partition: &TopicPartition, next: Offset) {
        if self.ends.get(partition).is_some_and(|end| next >= *end) {
            self.ends.remove(partition);
        }
    }

    async fn commit(&self, partition: &TopicPartition, next: Offset) -> Result<(), CliError> {
        if !self.commits {
            return Ok(());
        }
        let position = ConsumedTo::new(partition.clone(), next);
        let committed = self.consumer.commit(vec![position]).await;
        committed.map_err(|error| CliError::Unreadable(error.to_string()))
    }
}

/// Prints the values, and returns the offset after the last and how many they are.
fn print(records: &Records) -> Result<(Offset, u64), CliError> {
    let mut count = 0;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let unreadable = |error: &dyn std::fmt::Display| {
        CliError::Unreadable(format!("`{}`: {error}", records.partition))
    };
    for bytes in &records.batches {
        let mut at = 0;
        while at < bytes.len() {
            let header = BatchHeader::parse(&bytes[at..]).map_err(|error| unreadable(&error))?;
            let whole = bytes.slice(at..at + header.batch_bytes as usize);
            at += whole.len();
            if header.attributes.is_control() {
                continue;
            }
            for record in batch::records(&whole, &header).map_err(|error| unreadable(&error))? {
                let record = record.map_err(|error| unreadable(&error))?;
                if record.offset >= records.position {
                    out.write_all(record.value.as_deref().unwrap_or_default())?;
                    out.write_all(b"\n")?;
                    count += 1;
                }
            }
        }
    }
    out.flush()?;
    Ok((records.next, count))
}
