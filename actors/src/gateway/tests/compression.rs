//! Compressed batches, and topics that demand another codec.

use flumen_runtime::{
    batch::{self, BatchHeader, Compression},
    ids::Offset,
};

use super::*;
use crate::{
    broker::{
        names::{PartitionId, TopicName, TopicPartition},
        partition::messages::Fetch,
    },
    gateway::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
};

const ALL: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn under(batch: BytesMut, compression: Compression) -> Bytes {
    let batch = batch.freeze();
    let header = BatchHeader::parse(&batch).unwrap();
    let records = batch::records(&batch, &header).unwrap();
    batch::recode(&header, &records, compression.into()).freeze()
}

/// A node with a topic `t` of one partition.
async fn with(settings: &[(&str, &str)]) -> World {
    let world = World::new().await;
    let mut spec = TopicSpec::new("t", 1).unwrap();
    for (name, value) in settings {
        spec = spec.set(name, value).unwrap();
    }
    world.broker.create_topic(spec).await.unwrap();
    world
}

/// Each batch of `t-0`: its header, and the values of its records.
async fn stored(world: &World) -> Vec<(BatchHeader, Vec<String>)> {
    let topic = TopicName::new("t").unwrap();
    let partition = TopicPartition { topic, partition: PartitionId(0) };
    let address = world.broker.partition(&partition).unwrap();
    let fetched = address.send(Fetch::from(Offset(0))).await.unwrap().unwrap();
    let all = Bytes::from(fetched.batches.concat());
    let mut stored = Vec::new();
    for split in batch::split(&all) {
        let (header, bytes) = split.unwrap();
        batch::check(bytes, &header).unwrap();
        let records = batch::expand(&all.slice_ref(bytes), &header, 1 << 20).unwrap();
        let values = records.map(|record| record.unwrap().value.unwrap());
        stored.push((header, values.map(|v| String::from_utf8(v.to_vec()).unwrap()).collect()));
    }
    stored
}

async fn outcome(client: &mut Client, records: Bytes) -> (ErrorCode, i64) {
    let response = client.ask(9, &produce(-1, vec![(0, records)])).await;
    let part = &response.responses[0].partition_responses[0];
    (part.error_code, part.base_offset)
}

/// What must be compressed anew takes its time; what comes behind it must not overtake it, or an
/// idempotent producer would be told that it is out of order.
#[test]
fn a_topic_that_demands_a_codec_has_all_its_batches_in_it_and_in_their_order() {
    paused(async {
        let world = with(&[("compression.type", "zstd")]).await;
        let mut client = world.connect().await;
        let mut sent = Vec::new();
        for (at, compression) in ALL.into_iter().chain(ALL).enumerate() {
            let values = [format!("{at} a"), format!("{at} b")];
            let batch = numbered(2 * at as i32, &[&values[0], &values[1]]);
            let request = produce(-1, vec![(0, under(batch, compression))]);
            sent.push(client.send(9, &request).await);
        }
        for (at, header) in sent.iter().enumerate() {
            let response = client.receive::<ProduceRequest>(header).await;
            let part = &response.responses[0].partition_responses[0];
            assert_eq!((part.error_code, part.base_offset), (ErrorCode::None, 2 * at as i64));
        }
        // One that is sent again is known, though its bytes were others.
        let again = under(numbered(18, &["9 a", "9 b"]), Compression::Gzip);
        assert_eq!(outcome(&mut client, again).await, (ErrorCode::None, 18));
        let stored = stored(&world).await;
        assert_eq!(stored.len(), 10);
        for (at, (header, values)) in stored.iter().enumerate() {
            assert_eq!(header.attributes.compression(), Compression::Zstd);
            assert_eq!((header.base_offset.0, header.producer_id), (2 * at as u64, 7));
            assert_eq!(*values, [format!("{at} a"), format!("{at} b")]);
        }
    });
}

#[test]
fn a_topic_may_forbid_compression_and_change_its_mind() {
    paused(async {
        let world = with(&[("compression.type", "uncompressed")]).await;
        let mut client = world.connect().await;
        let name = TopicName::new("t").unwrap();
        let mut wanted = Vec::new();
        for demanded in [("uncompressed", Some(Compression::None)), ("producer", None)] {
            let settings = broker::Settings::default().with("compression.type", demanded.0);
            world.broker.configure_topic(&name, settings.unwrap()).await.unwrap();
            for compression in ALL {
                let sent = under(batch(&["x", "y"]), compression);
                assert_eq!(outcome(&mut client, sent).await.0, ErrorCode::None);
                wanted.push(demanded.1.unwrap_or(compression));
            }
        }
        let stored = stored(&world).await;
        let codecs: Vec<_> = stored.iter().map(|(h, _)| h.attributes.compression()).collect();
        assert_eq!(codecs, wanted);
    });
}

#[test]
fn what_becomes_too_large_is_refused_before_and_after() {
    paused(async {
        let world =
            with(&[("compression.type", "uncompressed"), ("max.message.bytes", "2000")]).await;
        let mut client = world.connect().await;
        let long = "x".repeat(1_950);
        let small = under(batch(&[&long[..1_500]]), Compression::Gzip);
        assert_eq!(outcome(&mut client, small).await, (ErrorCode::None, 0));
        let large = under(batch(&[&long]), Compression::Gzip);
        assert!(large.len() < 200);
        assert_eq!(outcome(&mut client, large).await.0, ErrorCode::MessageTooLarge);
        // A bomb: what it expands to is bounded before.
        let name = TopicName::new("t").unwrap();
        let settings = broker::Settings::default()
            .with("compression.type", "zstd")
            .and_then(|settings| settings.with("max.decompressed.message.bytes", "100000"));
        world.broker.configure_topic(&name, settings.unwrap()).await.unwrap();
        let bomb = under(batch(&[&"x".repeat(1 << 20)]), Compression::Gzip);
        assert_eq!(outcome(&mut client, bomb).await.0, ErrorCode::MessageTooLarge);
        assert_eq!(stored(&world).await.len(), 1);
    });
}

#[test]
fn a_compacted_topic_refuses_keyless_records_inside_compressed_batches() {
    paused(async {
        let world = with(&[("cleanup.policy", "compact")]).await;
        let mut client = world.connect().await;
        for compression in ALL {
            let mut builder = BatchBuilder::new(1_000_000);
            for key in [Some(&b"k"[..]), None] {
                builder.push(RecordRef { timestamp: 1_000_000, key, ..RecordRef::default() });
            }
            let keyless = under(builder.build(), compression);
            let refused = (ErrorCode::InvalidRecord, -1);
            assert_eq!(outcome(&mut client, keyless).await, refused, "{compression:?}");
        }
        let mut garbage = BytesMut::from(&under(batch(&["x"]), Compression::Gzip)[..]);
        let end = garbage.len() - 12;
        garbage[end] ^= 0xFF;
        let crc = flumen_runtime::codec::crc32c(&[&garbage[21..]]);
        garbage[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(outcome(&mut client, garbage.freeze()).await.0, ErrorCode::InvalidRecord);
    });
}

#[test]
fn a_codec_that_nobody_knows_is_refused() {
    paused(async {
        let world = with(&[]).await;
        let mut client = world.connect().await;
        let mut unknown = batch(&["x"]);
        unknown[22] |= 5;
        let crc = flumen_runtime::codec::crc32c(&[&unknown[21..]]);
        unknown[17..21].copy_from_slice(&crc.to_be_bytes());
        let refused = outcome(&mut client, unknown.freeze()).await.0;
        assert_eq!(refused, ErrorCode::UnsupportedCompressionType);
    });
}

#[test]
fn a_time_is_found_at_its_record_inside_a_compressed_batch() {
    paused(async {
        let world = with(&[]).await;
        let mut client = world.connect().await;
        for compression in ALL {
            let mut builder = BatchBuilder::new(1_000_000);
            for timestamp in [1_000_000, 1_000_010, 1_000_030, 1_000_020] {
                builder.push(RecordRef { timestamp, ..RecordRef::default() });
            }
            let name = TopicName::new("t").unwrap();
            world.broker.delete_topic(&name).await.unwrap();
            world.broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
            let sent = under(builder.build(), compression);
            assert_eq!(outcome(&mut client, sent).await, (ErrorCode::None, 0));
            // The last asks for the largest.
            for (timestamp, found) in
                [(1_000_001, (1, 1_000_010)), (1_000_011, (2, 1_000_030)), (-3, (2, 1_000_030))]
            {
                let partition = ListOffsetsPartition { timestamp, ..Default::default() };
                let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
                let request = ListOffsetsRequest {
                    replica_id: -1,
                    topics: vec![topic],
                    ..Default::default()
                };
                let answer = client.ask(7, &request).await;
                let part = &answer.topics[0].partitions[0];
                assert_eq!((part.offset, part.timestamp), found, "{compression:?} {timestamp}");
            }
        }
    });
}
