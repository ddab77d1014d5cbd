//! Settings of nodes outlive the node, and count for what runs and for what is made later.

use super::{
    super::{
        catalogue::node_settings::{NodeValues, Nodes},
        partition::messages::AppendError,
    },
    *,
};

#[test]
fn what_was_set_of_nodes_counts_again_after_a_power_cut() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        let mut values = NodeValues::default();
        values.set("message.max.bytes", "100").unwrap();
        broker.configure_nodes(Nodes::All, values.clone()).await.unwrap();
        let mut own = NodeValues::default();
        own.set("num.partitions", "7").unwrap();
        broker.configure_nodes(Nodes::One(NodeId(1)), own.clone()).await.unwrap();
        machine.disks.crash();
        let (_, broker) = machine.start().await;
        let settings = broker.node_settings();
        assert_eq!((settings.of(Nodes::All), settings.of(Nodes::One(NodeId(1)))), (values, own));
        assert_eq!(settings.number(NodeId(1), "num.partitions"), Some(7));
        broker.create_topic(TopicSpec::new("later", 1).unwrap()).await.unwrap();
        for topic in ["t", "later"] {
            let address = broker.partition(&partition(topic, 0)).unwrap();
            let mut large = BatchBuilder::new(0);
            large.push(RecordRef { value: Some(&[0; 200]), ..RecordRef::default() });
            let refused = address.send(Append::new(large.build())).await.unwrap();
            assert!(
                matches!(refused, Err(AppendError::TooLarge { bytes_max: 100, .. })),
                "{topic}"
            );
        }
    });
}
