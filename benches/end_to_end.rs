//! From publish to delivery: how long one record takes, how many typed events a second get through,
//! and what a burst does to a slow reader.

#[path = "common/bench.rs"]
#[allow(dead_code, unused_imports, reason = "each bench uses a part of it")]
mod bench;
#[path = "end_to_end/burst.rs"]
mod burst;
#[path = "end_to_end/delivery.rs"]
mod delivery;
#[path = "end_to_end/typed.rs"]
mod typed;

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use bench::{Bar, Bench, Figure, median, run_beside};
use flumen::node::{self, Node, NodeError, NodeOptions};
use flumen_actors::broker::{
    Broker, TopicSpec,
    consumer::{Consumer, ConsumerOptions, Deliveries, Reads, Start},
    names::{PartitionId, TopicPartition},
};
use flumen_runtime::{log::LogConfig, placement::ThreadOptions};
use typed::Consumer::{Beside, OnTheNext};

/// Runs `program` with a node of so many arbiters, and the only partition of a topic, whose log is kept
/// as `log` says.
fn on_node<T, F>(
    data: &Path,
    arbiters: u32,
    topic: TopicSpec,
    log: LogConfig,
    program: impl FnOnce(Node, TopicPartition) -> F,
) -> T
where
    F: Future<Output = T>,
{
    // Whoever spins on its arbiter is not wedged.
    let wedged_after = Duration::from_secs(60);
    let threads = ThreadOptions { arbiters, wedged_after, ..ThreadOptions::default() };
    let options = NodeOptions { threads, log, ..NodeOptions::new(data) };
    let came = node::run(options, |node: Node| async move {
        let topic = node.broker().create_topic(topic).await.map_err(NodeError::from)?;
        let name = TopicPartition { topic: topic.name, partition: PartitionId(0) };
        node.status(&name).await.ok_or(NodeError::NoData)?;
        Ok::<_, NodeError>(program(node, name).await)
    });
    came.expect("a node starts in a directory of its own")
}

/// Runs `program` on a node of one arbiter, beside the partition.
fn on_one_arbiter<T, F>(
    data: &Path,
    topic: TopicSpec,
    program: impl FnOnce(Broker, TopicPartition) -> F + Send + 'static,
) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    on_node(data, 1, topic, LogConfig::default(), |node, name| async move {
        let (broker, beside) = (node.broker().clone(), format!("partition/{name}"));
        run_beside(node.pipelines(), &beside, move || program(broker, name)).await
    })
}

/// A consumer of `partition` from its beginning, which stands on this arbiter.
fn consume(
    broker: &Broker,
    partition: &TopicPartition,
    options: ConsumerOptions,
) -> (Consumer, Deliveries) {
    let partitions = vec![(partition.clone(), Start::Earliest)];
    Consumer::start(
        Arc::new(broker.clone()),
        Reads::Partitions { partitions, group: None },
        options,
    )
}

fn main() -> ExitCode {
    let mut bench = Bench::start(
        "end_to_end",
        "from publish to a waiting consumer on the same arbiter, unsynced, 10,000 records a second \
         in an open loop; then events of seven fields, encoded, synced, delivered and decoded, \
         against a loop that only encodes and decodes them; then a burst over a slow reader",
    );
    let data = bench.data();

    let records = bench.pick(10_000, 100_000);
    let spec = TopicSpec::new("delivery", 1).expect("it is a name");
    let lazy = spec.set("flush.messages", "9223372036854775807").expect("a setting of Kafka's");
    let dir = data.path().join("delivery");
    let run = move |broker, partition| delivery::run(broker, partition, records);
    let ran = on_one_arbiter(&dir, lazy, run);
    bench.check("records delivered, and the sum of their numbers", &ran.delivered, &ran.published);
    bench.say("from when a record was due to its delivery:");
    bench.latencies(&[("delivered", &ran.latency)]);
    let micros = |latency: Duration| latency.as_nanos() as f64 / 1e3;
    bench.figure(Figure::at_most("delivery_p50", micros(ran.latency.p50()), "µs", 15.0));
    bench.figure(Figure::at_most("delivery_p99", micros(ran.latency.p99()), "µs", 100.0));

    typed_events(&mut bench, data.path());

    let seconds = bench.pick(3, 12);
    let spec = TopicSpec::new("burst", 1).expect("it is a name");
    let run = move |broker, partition| burst::run(broker, partition, seconds);
    let ran = on_one_arbiter(&data.path().join("burst"), spec, run);
    bench.check("records through the burst, and their sum", &ran.read, &ran.published);
    bench.say(format_args!(
        "burst: at most {:.0} MiB waited on disk; memory grew by {:.1} MiB",
        ran.backlog_max, ran.memory_growth
    ));
    bench.draw("burst", &ran.svg);
    bench.finish()
}

/// `typed_events`, with the consumer on an arbiter of its own; on the publisher's beside it.
fn typed_events(bench: &mut Bench, data: &Path) {
    let (rounds, events) = bench.pick((2, 200_000), (5, 2_000_000));
    let (mut rates, mut beside, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        bare.push(typed::bare(events));
        for (consumer, rates) in [(OnTheNext, &mut rates), (Beside, &mut beside)] {
            let dir = data.join(format!("typed-{round}-{consumer:?}"));
            let spec = TopicSpec::new("events", 1).expect("it is a name");
            // Its segment was written before, with zeros: a file that grows is not what is measured.
            let zero_fill_bytes = events * 176;
            let log = LogConfig { zero_fill_bytes, ..LogConfig::default() };
            let ran = on_node(&dir, 2, spec, log, |node, partition| {
                typed::run(node, partition, events, consumer)
            });
            std::fs::remove_dir_all(&dir).expect("nobody uses it any more");
            let checked = "events decoded, and a sum over their fields";
            bench.check(checked, &ran.decoded, &ran.published);
            rates.push(ran.rate);
        }
        bench.say(format_args!(
            "{:.2} M events/s; consumer and publisher on one arbiter {:.2}; bare {:.2}",
            rates[round] / 1e6,
            beside[round] / 1e6,
            bare[round] / 1e6
        ));
    }
    let bare = median(bare);
    let against = (bare, "encode and decode alone");
    for (name, rates) in [("typed_events", rates), ("typed_events_one_arbiter", beside)] {
        let bar = Bar::RatioAtLeast(0.4);
        bench.figure(Figure::against(name, (median(rates), "events/s"), against, bar));
    }
}
