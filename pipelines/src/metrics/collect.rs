//! Asks a node for what its page of metrics shows, and writes that.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, AtomicU64},
};

use flumen_actors::gateway::{Room, error_code::ErrorCode};
use flumen_runtime::meters::{BOUNDS_US, Timed};
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text::encode},
    metrics::{MetricType, TypedMetric, counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{
    client::{Client, ClientError, Place},
    node::Node,
};

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<i64, AtomicI64>>;
type Counters = Family<Labels, Counter<u64, AtomicU64>>;
type Histograms = Family<Labels, Histogram>;

/// A histogram as it was counted elsewhere.
#[derive(Debug, Default)]
struct Histogram(std::sync::OnceLock<Timed>);

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let timed = self.0.get().copied().unwrap_or_default();
        let bounds = BOUNDS_US.iter().map(|micros| *micros as f64 / 1e6);
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(timed.buckets).collect();
        let total = timed.total.as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(total, timed.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// The text of the page.
pub(super) async fn page(node: &Node) -> Result<String, ClientError> {
    let mut registry = Registry::with_prefix("flumen");
    let mut client = Client::watching(node.gateway().clone()).await?;
    let ends = partitions(&mut client, &mut registry).await?;
    groups(&mut client, &mut registry, &ends).await?;
    actors(node, &mut registry).await;
    // Last, so that what they show is not older than the offsets.
    gateway(node, &mut registry);
    credit(node, &mut registry);
    topics(node, &mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a text grows as it must");
    Ok(text)
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let family = Counters::default();
    registry.register(name, help, family.clone());
    family
}

/// Of durations, in seconds.
fn histograms(registry: &mut Registry, name: &str, help: &str) -> Histograms {
    let family = Histograms::default();
    registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    family
}

fn set(gauges: &Gauges, labels: &Labels, value: usize) {
    gauges.get_or_create(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

fn timed(histograms: &Histograms, labels: &Labels, timed: Timed) {
    histograms.get_or_create(labels).0.get_or_init(|| timed);
}

/// What the gateway counts.
fn gateway(node: &Node, registry: &mut Registry) {
    let gateway = node.gateway();
    let help = "Connections over the network";
    set(&gauges(registry, "connections", help), &Labels::new(), gateway.connections());
    let requests = counters(registry, "requests", "Requests taken up");
    let request_bytes = counters(registry, "request_bytes", "Bytes of requests");
    let answer_bytes = counters(registry, "answer_bytes", "Bytes of answers");
    let help = "Time from taking a request up to its answer; a fetch's wait for records included";
    let time = histograms(registry, "request_time", help);
    for counts in gateway.counts() {
        let labels: Labels = vec![("api", counts.api.to_string())];
        requests.get_or_create(&labels).inc_by(counts.requests);
        request_bytes.get_or_create(&labels).inc_by(counts.request_bytes);
        answer_bytes.get_or_create(&labels).inc_by(counts.answer_bytes);
        timed(&time, &labels, counts.time);
    }
}

/// How much is held of what there is room for, and all that there is room for.
fn credit(node: &Node, registry: &mut Registry) {
    let mut room = |name: &str, help: &str, rooms: Vec<(Labels, Room)>| {
        let taken = gauges(registry, name, help);
        let whole = gauges(registry, &format!("{name}_max"), &format!("{help}: the most"));
        for (labels, room) in rooms {
            set(&taken, &labels, room.taken);
            set(&whole, &labels, room.whole);
        }
    };
    let rooms = node.gateway().rooms();
    let alone = |room: Room| vec![(Labels::new(), room)];
    let help = "Credit that requests in work hold, of queued.max.request.bytes";
    room("request_credit_bytes", help, alone(rooms.requests));
    let help = "Credit, of that of requests, for what they are decoded to";
    room("decoded_credit_bytes", help, alone(rooms.decoded));
    let help = "Credit that answers hold which are not sent yet";
    room("answer_credit_bytes", help, alone(rooms.answers));
    let help = "Partitions that fetch sessions follow";
    room("session_credit_partitions", help, alone(rooms.sessions));
    let help = "Partitions that fetches wait for";
    room("waiting_credit_partitions", help, alone(rooms.waiting));
    let ahead = node.broker().directories().iter().map(|directory| {
        let (taken, whole) = (directory.read_ahead.out().bytes, directory.read_ahead.whole().bytes);
        (vec![("dir", directory.path.display().to_string())], Room { taken, whole })
    });
    let help = "Credit for what was read ahead of consumers, in each data directory";
    room("read_ahead_credit_bytes", help, ahead.collect());
}

/// What goes through each topic.
fn topics(node: &Node, registry: &mut Registry) {
    let records_in = counters(registry, "topic_records_in", "Records appended to a topic");
    let help = "Bytes of the batches appended to a topic, as they are stored";
    let bytes_in = counters(registry, "topic_bytes_in", help);
    let help = "Records that consumers were given, again where they asked again";
    let records_out = counters(registry, "topic_records_out", help);
    let help = "Bytes of the batches that consumers were given";
    let bytes_out = counters(registry, "topic_bytes_out", help);
    for (topic, moved) in node.broker().moved() {
        let labels: Labels = vec![("topic", topic.to_string())];
        records_in.get_or_create(&labels).inc_by(moved.records_in);
        bytes_in.get_or_create(&labels).inc_by(moved.bytes_in);
        records_out.get_or_create(&labels).inc_by(moved.records_out);
        bytes_out.get_or_create(&labels).inc_by(moved.bytes_out);
    }
}

/// What waits for actors, and what they wait for.
async fn actors(node: &Node, registry: &mut Registry) {
    let actors = gauges(registry, "actors", "Actors of a kind");
    let help = "Messages in the mailboxes of all actors of a kind";
    let waiting = gauges(registry, "mailbox_messages", help);
    let help = "Messages in the fullest mailbox of an actor of a kind";
    let most = gauges(registry, "mailbox_messages_max", help);
    // Of a node that stops there is nothing to be said.
    for (kind, depth) in node.root().mailboxes().await.unwrap_or_default() {
        let labels: Labels = vec![("actor", kind)];
        set(&actors, &labels, depth.actors);
        set(&waiting, &labels, depth.waiting);
        set(&most, &labels, depth.waiting_most);
    }
    let help = "Time that actors of a kind waited until what they wrote was on the disk";
    let syncs = histograms(registry, "sync_time", help);
    let help = "Time that the disk held up a thread of actors, for a write of one of this kind; only \
                what is longer than 2 ms";
    let stalls = histograms(registry, "stall_time", help);
    for (kind, metered) in node.meters() {
        let labels: Labels = vec![("actor", kind.to_owned())];
        timed(&syncs, &labels, metered.syncs);
        timed(&stalls, &labels, metered.stalls);
    }
}

/// Where each partition ends, by topic and number.
type Ends = BTreeMap<(String, i32), i64>;

async fn partitions(client: &mut Client, registry: &mut Registry) -> Result<Ends, ClientError> {
    let first = gauges(registry, "partition_first_offset", "First offset that there is");
    let end = gauges(
        registry,
        "partition_end_offset",
        "Offset after the last record that consumers may read; its rate is that of records in",
    );
    let bytes = gauges(registry, "partition_bytes", "Bytes of a partition's segments");
    let online =
        gauges(registry, "partition_online", "1 where a partition can be read, 0 where not");
    let mut ends = Ends::new();
    for topic in client.topics().await? {
        let numbers: Vec<i32> = topic.partitions.keys().copied().collect();
        let firsts = client.offsets(&topic, &numbers, Place::Earliest).await?;
        let lasts = client.offsets(&topic, &numbers, Place::Latest).await?;
        let sizes = client.sizes(&topic).await?;
        for number in numbers {
            let labels: Labels =
                vec![("topic", topic.name.clone()), ("partition", number.to_string())];
            let known = |of: Option<&Result<Option<i64>, ErrorCode>>| of?.ok().flatten();
            let last = known(lasts.get(&number));
            online.get_or_create(&labels).set(i64::from(last.is_some()));
            if let Some(offset) = known(firsts.get(&number)) {
                first.get_or_create(&labels).set(offset);
            }
            if let Some(offset) = last {
                end.get_or_create(&labels).set(offset);
                ends.insert((topic.name.clone(), number), offset);
            }
            if let Some(size) = sizes.get(&number) {
                bytes.get_or_create(&labels).set(*size);
            }
        }
    }
    Ok(ends)
}

async fn groups(
    client: &mut Client,
    registry: &mut Registry,
    ends: &Ends,
) -> Result<(), ClientError> {
    let committed = gauges(registry, "group_committed_offset", "Offset that a group goes on with");
    let help = "Records that a group has not committed yet";
    let lag = gauges(registry, "group_lag_records", help);
    for group in client.groups().await? {
        for ((topic, partition), offset) in client.committed(&group.group).await? {
            let labels: Labels = vec![
                ("group", group.group.clone()),
                ("topic", topic.clone()),
                ("partition", partition.to_string()),
            ];
            committed.get_or_create(&labels).set(offset);
            if let Some(end) = ends.get(&(topic, partition)) {
                lag.get_or_create(&labels).set((end - offset).max(0));
            }
        }
    }
    Ok(())
}
