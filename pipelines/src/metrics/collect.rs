//! Asks a node for what its page of metrics shows, and writes that.

use std::sync::atomic::{AtomicI64, AtomicU64};

use flumen_actors::gateway::error_code::ErrorCode;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{
    client::{Client, ClientError, Place},
    node::Node,
};

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<i64, AtomicI64>>;
type Counters = Family<Labels, Counter<u64, AtomicU64>>;
type Seconds = Family<Labels, Counter<f64, AtomicU64>>;

/// The text of the page.
pub(super) async fn page(node: &Node) -> Result<String, ClientError> {
    let mut registry = Registry::with_prefix("flumen");
    gateway(node, &mut registry);
    let mut client = Client::within(node.gateway().clone()).await?;
    let ends = partitions(&mut client, &mut registry).await?;
    groups(&mut client, &mut registry, &ends).await?;
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

/// What the gateway counts.
fn gateway(node: &Node, registry: &mut Registry) {
    let gateway = node.gateway();
    let set = |family: Gauges, value: usize| {
        family.get_or_create(&Labels::new()).set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    set(gauges(registry, "connections", "Connections over the network"), gateway.connections());
    let room = gateway.room_taken();
    let help = "Credit that requests in work hold, of queued.max.request.bytes";
    set(gauges(registry, "request_credit_bytes", help), room.requests);
    let help = "Credit that answers hold which are not sent yet";
    set(gauges(registry, "answer_credit_bytes", help), room.answers);

    let requests = counters(registry, "requests", "Requests taken up");
    let request_bytes = counters(registry, "request_bytes", "Bytes of requests");
    let answers = counters(registry, "answers", "Requests answered");
    let answer_bytes = counters(registry, "answer_bytes", "Bytes of answers");
    let time = Seconds::default();
    let help = "Time from taking a request up to its answer; a fetch's wait for records included";
    registry.register_with_unit("request_time", help, Unit::Seconds, time.clone());
    for counts in gateway.counts() {
        let labels: Labels = vec![("api", counts.api.to_string())];
        requests.get_or_create(&labels).inc_by(counts.requests);
        request_bytes.get_or_create(&labels).inc_by(counts.request_bytes);
        answers.get_or_create(&labels).inc_by(counts.answers);
        answer_bytes.get_or_create(&labels).inc_by(counts.answer_bytes);
        time.get_or_create(&labels).inc_by(counts.micros as f64 / 1e6);
    }
}

/// Where each partition ends, by topic and number.
type Ends = std::collections::BTreeMap<(String, i32), i64>;

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
