//! Compacted topics on a whole broker.

use super::{
    super::{
        group_coordinator::{
            ids::GroupId,
            messages::{CommitOffsets, FetchOffsets, OffsetToCommit},
        },
        partition::messages::{AppendError, Fetched, InvalidBatch, Status},
    },
    *,
};

const MINUTE: Duration = Duration::from_secs(60);

async fn commit(broker: &Broker, group: &GroupId, of: u32, offset: u64) {
    let coordinator = broker.coordinator(group).await.unwrap();
    let offsets = vec![OffsetToCommit {
        partition: partition("t", of),
        topic_id: None,
        offset: Offset(offset),
        leader_epoch: None,
        metadata: "".into(),
    }];
    let commit = CommitOffsets {
        group: group.clone(),
        generation: None,
        member_id: None,
        instance_id: None,
        retention_ms: None,
        offsets,
    };
    // While it loads it says so.
    while coordinator.send(commit.clone()).await.unwrap().is_err() {
        pass(Duration::from_millis(50)).await;
    }
}

async fn committed(broker: &Broker, group: &GroupId) -> Vec<(TopicPartition, Option<Offset>)> {
    let coordinator = broker.coordinator(group).await.unwrap();
    loop {
        let fetch = FetchOffsets { group: group.clone(), partitions: None };
        // While it loads it says so.
        if let Ok(fetched) = coordinator.send(fetch).await.unwrap() {
            let all = fetched.partitions.into_iter();
            return all.map(|(name, found)| (name, found.map(|found| found.offset))).collect();
        }
        pass(Duration::from_millis(50)).await;
    }
}

async fn bytes(broker: &Broker, of: &TopicPartition) -> u64 {
    broker.partition(of).expect("it runs").send(Status).await.unwrap().bytes
}

#[test]
fn the_log_of_a_groups_offsets_shrinks_and_gives_the_same_offsets() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        let group = GroupId::from("readers");
        commit(&broker, &group, 0, 0).await;
        let topic = TopicName::new(OFFSETS_TOPIC).unwrap();
        let compacted = Settings::default()
            .with("cleanup.policy", "compact")
            .and_then(|settings| settings.with("segment.bytes", "4096"))
            .unwrap();
        broker.configure_topic(&topic, compacted).await.unwrap();
        let log = TopicPartition { topic, partition: PartitionId(group.partition_of(3)) };
        for offset in 1..400 {
            commit(&broker, &group, (offset % 3) as u32, offset).await;
        }
        let (before, wanted) = (bytes(&broker, &log).await, committed(&broker, &group).await);
        pass(5 * MINUTE).await;
        let after = bytes(&broker, &log).await;
        assert!(after * 5 < before, "{before} bytes are {after} now");
        assert_eq!(committed(&broker, &group).await, wanted);
        machine.disks.crash();
        let (_, broker) = machine.start().await;
        assert_eq!(committed(&broker, &group).await, wanted, "replayed");
        assert_eq!(wanted.len(), 3);
    });
}

fn keyed(key: Option<&[u8]>, value: &str) -> BytesMut {
    let mut builder = BatchBuilder::new(1_000_000);
    let (timestamp, value) = (1_000_000, Some(value.as_bytes()));
    builder.push(RecordRef { timestamp, key, value, headers: &[] });
    builder.build()
}

#[test]
fn a_compacted_topic_refuses_a_record_without_a_key_and_readers_follow_it_while_it_shrinks() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        let spec = TopicSpec::new("t", 1)
            .unwrap()
            .set("cleanup.policy", "compact")
            .and_then(|spec| spec.set("segment.bytes", "4096"))
            .unwrap();
        broker.create_topic(spec).await.unwrap();
        let address = broker.partition(&partition("t", 0)).unwrap();
        let refused = address.send(Append::new(keyed(None, "x"))).await.unwrap().unwrap_err();
        assert_eq!(refused, AppendError::Invalid(InvalidBatch::Keyless { indexes: vec![0] }));
        assert!(refused.to_string().contains("cleanup.policy"), "{refused}");
        for round in 0..100 {
            for key in 0..4_u8 {
                let append = Append::new(keyed(Some(&[key]), &format!("{round}")));
                address.send(append).await.unwrap().unwrap();
            }
        }
        // One reader reads slowly while the log is compacted.
        let (mut at, mut batches) = (Offset(0), 0);
        while at < Offset(400) {
            let fetch = Fetch { bytes_max: 1, ..Fetch::from(at) };
            let fetched: Fetched = address.send(fetch).await.unwrap().unwrap();
            let header = BatchHeader::parse(&fetched.batches[0]).unwrap();
            assert!(header.next_offset() > at, "a read goes on");
            (at, batches) = (header.next_offset(), batches + 1);
            pass(Duration::from_secs(1)).await;
        }
        assert!(batches < 400, "it was compacted on the way");
        let mut values = Vec::new();
        let mut at = Offset(0);
        while at < Offset(400) {
            let fetched = address.send(Fetch::from(at)).await.unwrap().unwrap();
            let before = values.len();
            for split in batch::split(&fetched.batches[0]) {
                let (header, batch) = split.unwrap();
                at = header.next_offset();
                let records = batch::records(&fetched.batches[0].slice_ref(batch), &header);
                values.extend(records.unwrap().map(|record| record.unwrap().value.unwrap()));
            }
            assert!(values.len() > before, "segments are passed over that have no record");
        }
        assert!(values.len() < 80, "{values:?}");
        assert_eq!(values[values.len() - 4..], [&b"99"[..]; 4]);
    });
}
