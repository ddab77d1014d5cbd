//! Connections over sockets, which move to where their partition is.

use std::collections::{BTreeMap, BTreeSet};

use tokio::net::TcpStream;

use super::*;
use crate::{
    broker::{
        names::{PartitionId, TopicPartition},
        partition,
    },
    gateway::{home::LOOKS, messages::metadata::MetadataRequest},
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

/// A listener, and where it is reached.
async fn listen(world: &World) -> std::net::SocketAddr {
    let bound = Bound::bind("plain", "127.0.0.1:0", None).unwrap();
    let listener = listener::child_spec(world.shared.clone(), bound.clone());
    world.root.start_child(listener).await.unwrap();
    bound.address()
}

async fn connect(address: std::net::SocketAddr) -> Client<TcpStream> {
    Client { stream: TcpStream::connect(address).await.unwrap(), next: 0 }
}

fn home(world: &World, partition: u32) -> ArbiterId {
    let name = TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(partition) };
    world.places.get(partition::actor_name(&name).as_str()).expect("it runs")
}

#[actix_rt::test]
async fn a_connection_goes_on_where_its_partition_is_with_all_that_it_had_read() {
    let world = World::with_topic().await;
    let address = listen(&world).await;
    let mut clients = Vec::new();
    // Two for each partition, which begin on different arbiters: one of them has to move.
    for number in [0, 0, 1, 1, 2, 2] {
        let mut client = connect(address).await;
        let is_read = clients.len() % 2 == 1;
        let asked: Vec<_> =
            (0..=LOOKS).map(|_| produce(-1, vec![(number, batch(&["a"]).freeze())])).collect();
        if is_read {
            let read = client.ask(4, &fetch(&[(number, 0)])).await;
            assert_eq!(read.responses[0].partitions[0].error_code, ErrorCode::None);
        }
        // At once, so that what is behind the one that decides is read before the move.
        let mut headers = Vec::new();
        for request in &asked {
            headers.push(client.send(9, request).await);
        }
        for (place, header) in headers.iter().enumerate() {
            let answer = client.receive::<ProduceRequest>(header).await;
            let part = &answer.responses[0].partition_responses[0];
            let before = if is_read { i64::from(LOOKS) + 1 } else { 0 };
            assert_eq!(
                (part.error_code, part.base_offset),
                (ErrorCode::None, before + place as i64)
            );
        }
        assert_eq!(settled(&world, clients.len()).await, home(&world, number as u32));
        clients.push(client);
    }
    assert_eq!(world.shared.slots.taken(), clients.len(), "each has one slot, moved or not");
}

#[actix_rt::test]
async fn connections_that_write_or_read_on_several_arbiters_are_spread_over_them() {
    let world = World::with_topic().await;
    let address = listen(&world).await;
    let homes: BTreeSet<ArbiterId> = (0..3).map(|partition| home(&world, partition)).collect();
    assert_eq!(homes.len(), 2, "the topic is on both");
    for reads in [false, true] {
        let mut clients = Vec::new();
        let mut taken = BTreeMap::<ArbiterId, usize>::new();
        for _ in 0..4 {
            // Another before each, as of a client that looks for the node first: all begin on one arbiter.
            clients.push(connect(address).await);
            settled(&world, clients.len() - 1).await;
            let mut client = connect(address).await;
            if reads {
                client.ask(4, &fetch(&[(0, 0), (1, 0), (2, 0)])).await;
            } else {
                for number in (0..3).cycle().take(usize::from(LOOKS) + 1) {
                    client.ask(9, &produce(-1, vec![(number, batch(&["a"]).freeze())])).await;
                }
            }
            *taken.entry(settled(&world, clients.len()).await).or_default() += 1;
            clients.push(client);
        }
        assert_eq!(Vec::from_iter(taken.into_values()), [2, 2]);
        drop(clients);
        while world.shared.slots.taken() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[actix_rt::test]
async fn no_move_loses_a_fetch_session() {
    let world = World::with_topic().await;
    let address = listen(&world).await;
    let mut clients = Vec::new();
    // Two of each, which begin on different arbiters: one of them would have to move.
    for has_topics in [true, true, false, false] {
        let mut client = connect(address).await;
        let mut first = FetchRequest { session_epoch: 0, ..fetch(&[(0, 0)]) };
        first.max_wait_ms = 0;
        if !has_topics {
            first.topics.clear();
        }
        // It comes while something else is in work, and so must wait.
        let metadata = MetadataRequest { topics: None, ..MetadataRequest::default() };
        let asked = client.send(9, &metadata).await;
        let fetched = client.send(12, &first).await;
        client.receive::<MetadataRequest>(&asked).await;
        let session_id = client.receive::<FetchRequest>(&fetched).await.session_id;
        let mut next = FetchRequest { session_id, session_epoch: 1, ..fetch(&[(1, 0)]) };
        next.max_wait_ms = 0;
        let went_on = client.ask(12, &next).await;
        assert_eq!(went_on.error_code, ErrorCode::None);
        let at = settled(&world, clients.len()).await;
        assert!(!has_topics || at == home(&world, 0), "a request that waits says where it belongs");
        clients.push(client);
    }
}

#[test]
fn a_connection_that_an_arbiter_was_given_and_does_not_begin_is_closed() {
    paused(async {
        let world = World::with_topic().await;
        let address = listen(&world).await;
        let home = home(&world, 0);
        world.placement.wedge(home, None);
        // Some begin there, others are to move there.
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = connect(address).await;
            client.send(4, &fetch(&[(0, 0)])).await;
            clients.push(client);
        }
        for mut client in clients {
            // Closed, or answered by whoever took the partition over.
            let ended = tokio::time::timeout(Duration::from_secs(60), client.frame()).await;
            assert!(ended.is_ok(), "it hangs at an arbiter that was given up");
        }
        assert!(world.shared.slots.taken() <= 4);
    });
}
