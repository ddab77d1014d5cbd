//! A program with a broker in it, and a client that comes over the network, as Kafka's clients in any
//! language do.

use flumen::{
    client::{Acks, Client, Producer},
    node::{self, NodeOptions},
};
use flumen_actors::broker::TopicSpec;
use flumen_runtime::batch::RecordRef;

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    // Port 0 lets the system choose one; 9092 is where clients look first.
    let options = NodeOptions::new(dir.path()).listen("127.0.0.1:0");
    node::run(options, |node| async move {
        let topic = node.broker().ensure_topic(TopicSpec::new("orders", 1)?).await?;
        let address = node.addresses()[0].to_string();
        println!("clients connect to {address}, as in `kcat -b {address} -L`");

        let mut client = Client::connect(vec![address]).await?;
        let orders = client.topic("orders", false).await?.ok_or("it was made")?;
        let mut producer = Producer::new(&mut client, orders, Acks::All).await?;
        for order in ["one", "two", "three"] {
            let value = Some(order.as_bytes());
            producer.push(0, RecordRef { value, ..RecordRef::default() })?;
        }
        producer.flush(&mut client).await?;

        let ends = node.ends(&topic.name).await;
        let orders: u64 = ends.values().map(|end| end.0).sum();
        println!("{orders} orders came over the network, and are on this program's disk");
        assert_eq!(orders, 3);
        Ok::<(), Box<dyn std::error::Error>>(())
    })
}
