//! What tools are told of the node: what lies where, and how much room there is.

use super::*;
use crate::gateway::messages::describe_log_dirs::DescribeLogDirsRequest;

#[test]
fn a_directory_is_told_with_its_partitions_and_the_room_on_its_file_system() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        // Until the node has looked once more.
        pass(Duration::from_secs(2)).await;
        let told = client.ask(4, &DescribeLogDirsRequest::default()).await.results;
        let [dir] = &told[..] else { panic!("{told:?}") };
        assert_eq!(&*dir.log_dir, "/data");
        assert_eq!(dir.topics[0].partitions.len(), 3);
        assert_eq!(dir.total_bytes, Faults::none().capacity as i64);
        let room = &world.broker.directories()[0].room;
        assert_eq!(dir.usable_bytes, room.free() as i64);
        assert!((1..dir.total_bytes).contains(&dir.usable_bytes), "{}", dir.usable_bytes);
    });
}
