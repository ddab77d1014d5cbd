//! Connections over sockets, which move to where their partition is.

use tokio::net::TcpStream;

use super::*;
use crate::broker::{
    names::{PartitionId, TopicPartition},
    partition,
};

/// Where the newest connection is, once it is the only one of its client.
async fn settled(world: &World, others: usize) -> ArbiterId {
    for _ in 0..10_000 {
        let entries = world.places.entries();
        let mut connections: Vec<(u64, ArbiterId)> = entries
            .iter()
            .filter_map(|(name, at)| Some((name.strip_prefix("connection/")?.parse().ok()?, *at)))
            .collect();
        connections.sort_unstable();
        if connections.len() == others + 1 {
            return connections[others].1;
        }
        tokio::task::yield_now().await;
    }
    panic!("a connection that has moved does not end where it was");
}

#[actix_rt::test]
async fn a_connection_goes_on_where_its_partition_is_with_all_that_it_had_read() {
    let world = World::with_topic().await;
    let bound = Bound::bind("plain", "127.0.0.1:0", None).unwrap();
    let listener = listener::child_spec(world.shared.clone(), bound.clone());
    world.root.start_child(listener).await.unwrap();
    let mut clients = Vec::new();
    // Two for each partition, which begin on different arbiters: one of them has to move.
    for number in [0, 0, 1, 1, 2, 2] {
        let stream = TcpStream::connect(bound.address()).await.unwrap();
        let mut client = Client { stream, next: 0 };
        let is_read = clients.len() % 2 == 1;
        let asked: Vec<_> =
            (0..3).map(|_| produce(-1, vec![(number, batch(&["a"]).freeze())])).collect();
        if is_read {
            let read = client.ask(4, &fetch(&[(number, 0)])).await;
            assert_eq!(read.responses[0].partitions[0].error_code, ErrorCode::None);
        }
        // At once, so that what is behind the first one is read before the move.
        let mut headers = Vec::new();
        for request in &asked {
            headers.push(client.send(9, request).await);
        }
        for (place, header) in headers.iter().enumerate() {
            let answer = client.receive::<ProduceRequest>(header).await;
            let part = &answer.responses[0].partition_responses[0];
            let before = if is_read { 3 } else { 0 };
            assert_eq!(
                (part.error_code, part.base_offset),
                (ErrorCode::None, before + place as i64)
            );
        }
        let topic = "t".parse().unwrap();
        let name = TopicPartition { topic, partition: PartitionId(number as u32) };
        let home = world.places.get(partition::actor_name(&name).as_str());
        assert_eq!(Some(settled(&world, clients.len()).await), home);
        clients.push(client);
    }
    assert_eq!(world.shared.slots.taken(), clients.len(), "each has one slot, moved or not");
}
