//! One partition with its supervisor, on one arbiter, without a broker around it.

use std::{path::Path, sync::Arc, time::Duration};

use actix::Addr;
use flumen_actors::broker::{
    DataDirectory,
    names::{PartitionId, TopicName, TopicPartition},
    partition::{
        self, Partition, PartitionHandle,
        messages::{At, Fetch, FindOffset},
        options::{PartitionConfig, PartitionOptions},
        probe::Probe,
    },
};
use flumen_runtime::{
    batch::{self, BatchHeader},
    disk::{Engine, RealDisks},
    ids::{LogId, Offset},
    log::LogConfig,
    placement::{Services, ThreadOptions, ThreadPlacement},
    supervision::{SupervisorRef, SupervisorSpec},
};

use super::run_beside;

/// See the module.
pub(crate) struct Lone {
    name: TopicPartition,
    partition: Addr<Partition>,
    root: SupervisorRef,
    placement: Arc<ThreadPlacement>,
}

impl Lone {
    /// A new partition below `data`, which is open when this returns; `probe` sees each of its steps.
    pub(crate) async fn start(data: &Path, log: LogConfig, probe: Arc<dyn Probe>) -> Self {
        let disks = RealDisks::choose(Engine::Auto).expect("`auto` takes what there is");
        // Whoever spins on its arbiter is not wedged.
        let wedged_after = Duration::from_secs(60);
        let options = ThreadOptions { arbiters: 1, wedged_after, ..ThreadOptions::default() };
        let services = Services::of_system(Arc::new(disks));
        let placement = ThreadPlacement::start(options, services).expect("threads are to be had");
        let topic = TopicName::new("lone").expect("it is a name");
        let name = TopicPartition { topic, partition: PartitionId(0) };
        let id = LogId { id: uuid::Uuid::from_u128(1), shard: 0 };
        let config = PartitionConfig { log: log.into(), ..PartitionConfig::default() };
        let directory = DataDirectory::new(uuid::Uuid::from_u128(1), data);
        let options = PartitionOptions {
            config: config.into(),
            probe: Some(probe),
            ..PartitionOptions::new(name.clone(), id, directory.into())
        };
        let (child, PartitionHandle { address: partition, .. }) = partition::child_spec(options);
        let root = SupervisorSpec::new("root").child(child).start(placement.clone());
        root.up().await.expect("a partition starts");
        let end = partition.send(FindOffset::new(At::Latest)).await.expect("it lives");
        end.expect("its log opens");
        Self { name, partition, root, placement }
    }

    /// Runs `program` beside the partition.
    pub(crate) async fn run<T, F>(
        &self,
        program: impl FnOnce(Addr<Partition>) -> F + Send + 'static,
    ) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let partition = self.partition.clone();
        run_beside(&self.root, &format!("partition/{}", self.name), || program(partition)).await
    }

    pub(crate) async fn stop(self) {
        self.root.stop().await;
        self.placement.stop();
    }
}

/// Reads a partition from its beginning to its end, and shows each batch, whose checksum is right.
pub(crate) async fn read_all(
    partition: &Addr<Partition>,
    mut see: impl FnMut(&BatchHeader, bytes::Bytes),
) {
    let mut next = Offset::ZERO;
    loop {
        let fetched = partition.send(Fetch::from(next)).await.expect("it lives");
        let fetched = fetched.expect("it can be read");
        if fetched.batches.is_empty() {
            return;
        }
        for bytes in fetched.batches {
            for split in batch::split(&bytes) {
                let (header, whole) = split.expect("what was appended is whole");
                batch::check(whole, &header).expect("what was appended is sound");
                see(&header, bytes.slice_ref(whole));
                next = header.next_offset();
            }
        }
    }
}
