//! Following files into a topic of a node that is reached over the network: positions and waiting lines
//! stand in a directory of this command's own, and the sink's appends go over the wire.

use std::{cell::Cell, rc::Rc};

use flumen_actors::{
    agent::sink::topic::TopicSinkOptions,
    broker::names::{ProducerId, TopicName},
};
use futures::future;
use tokio::time::Instant;

use super::{TailArgs, buffer, check_partitions, report, tell_of_missing, watch};
use crate::{
    cli::{CliError, tell},
    client::{Client, RemotePartition, Topic},
    node,
    pipeline::Pipeline,
    signals::Signals,
};

pub(super) fn run(args: TailArgs, name: TopicName, addresses: Vec<String>) -> Result<(), CliError> {
    let Some(state) = args.state.clone() else {
        return Err(CliError::NoState(addresses.join(", ")));
    };
    let options = args.node.apart(state.clone());
    node::run(options, |node| async move {
        let mut signals = Signals::listen()?;
        let mut client = Client::connect(addresses.clone()).await?;
        let topic = ensure(&mut client, &name, args.partitions).await?;
        check_partitions(&name, topic.partitions.len(), args.partitions)?;
        // It counts where the channel keeps none yet.
        let (producer, _) = client.new_producer().await?;
        let taken = Rc::new(Cell::new(0));
        let mut to = TopicSinkOptions::new(name.as_str(), &[]);
        to.producer = Some(ProducerId(producer));
        for number in topic.partitions.keys() {
            let client = Client::connect(addresses.clone()).await?;
            let partition = RemotePartition::start(client, topic.clone(), *number, taken.clone());
            to.targets.push(partition);
        }
        tell(format_args!(
            "flumen: lines go to `{name}` of the node at {}; positions and what waits in `{}`",
            addresses.join(", "),
            state.display()
        ));
        tell_of_missing(&args.files);
        let began = Instant::now();
        let mut pipeline = Pipeline::new(&format!("tail-{name}"));
        let buffer = buffer(args.buffer);
        pipeline
            .tail("follow", args.files)
            .channel("buffer", buffer)
            .topic_elsewhere("publish", to);
        let running = pipeline.start(&node).await?;
        let watching = Box::pin(watch(&running, async || taken.get()));
        future::select(Box::pin(signals.told_to_stop()), watching).await;
        tell("flumen: finishing what was read; Ctrl-C again leaves the rest for the next start");
        let drained = running.drain_unless(signals.told_to_stop()).await;
        report(&name, taken.get(), began.elapsed(), &drained);
        Ok(())
    })
}

/// The topic, made where there is none.
async fn ensure(
    client: &mut Client,
    name: &TopicName,
    partitions: Option<u32>,
) -> Result<Topic, CliError> {
    if let Some(topic) = client.topic(name.as_str(), false).await? {
        return Ok(topic);
    }
    let partitions = partitions.map(|count| i32::try_from(count).unwrap_or(i32::MAX));
    client.create_topic(name.as_str(), partitions, None, &[]).await?;
    let made = client.topic(name.as_str(), false).await?;
    let gone = || CliError::Unreadable(format!("`{name}` was deleted"));
    made.ok_or_else(gone)
}
