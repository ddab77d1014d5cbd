//! Two members of a group share the partitions of a topic; positions outlive them.

use std::{sync::Arc, time::Duration};

use flumen::node::{self, NodeError, NodeOptions};
use flumen_actors::broker::{
    TopicSpec,
    consumer::{ConsumedTo, Consumer, Deliveries, Delivery, member::MemberOptions},
    names::{PartitionId, TopicPartition},
    partition::messages::Append,
};
use flumen_runtime::batch::{BatchBuilder, RecordRef};
use futures::StreamExt as _;

/// Reads for two seconds, commits what it has read, and tells of which partitions.
async fn read(consumer: Consumer, mut deliveries: Deliveries) -> Vec<String> {
    let mut seen = Vec::new();
    let until = tokio::time::Instant::now() + Duration::from_secs(2);
    while let Ok(Some(delivery)) = tokio::time::timeout_at(until, deliveries.next()).await {
        if let Delivery::Records(records) = delivery {
            let position = ConsumedTo::new(records.partition.clone(), records.next);
            if consumer.commit(vec![position]).await.is_ok() {
                seen.push(records.partition.to_string());
            }
        }
    }
    consumer.close().await;
    seen
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    node::run(NodeOptions::new(dir.path()), |node| async move {
        let broker = node.broker().clone();
        let topic = TopicSpec::new("orders", 4).expect("a name");
        let topic = broker.ensure_topic(topic).await.map_err(NodeError::from)?;
        let member = MemberOptions::new("billing", vec![topic.name.clone()]);
        broker.coordinator(&member.group).await.map_err(NodeError::from)?;
        let lookup = Arc::new(broker.clone());
        let (one, of_one) = Consumer::subscribe(lookup.clone(), member.clone());
        let (two, of_two) = Consumer::subscribe(lookup, member);
        for number in 0..4 {
            let mut batch = BatchBuilder::new(0);
            batch.push(RecordRef { value: Some(b"an order"), ..RecordRef::default() });
            let partition =
                TopicPartition { topic: topic.name.clone(), partition: PartitionId(number) };
            let address = broker.partition(&partition).expect("it runs");
            let appended = address.send(Append::new(batch.build())).await;
            let appended = appended.expect("its actor runs").expect("it takes appends");
            println!("an order went to {partition}, offset {}", appended.base_offset);
        }
        let (one, two) = futures::join!(read(one, of_one), read(two, of_two));
        println!("the first member read {}\nthe second read {}", one.join(", "), two.join(", "));
        assert_eq!(one.len() + two.len(), 4, "every order was read once");
        Ok::<(), NodeError>(())
    })?;
    Ok(())
}
