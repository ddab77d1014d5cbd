//! Readers: one that tails a partition while all goes wrong, and one that reads it all in the end.

use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use flumen_actors::broker::{
    names::TopicPartition,
    partition::{
        Partition,
        messages::{Fetch, FetchError},
    },
};
use flumen_runtime::{
    batch::{self, HEADER_BYTES, Record},
    ids::Offset,
    sim::World,
};

use crate::{book::Book, oracle::Value};

/// The records of `batches` from `from` on.
pub(crate) fn raw_records(batches: &[Bytes], from: Offset) -> Vec<Record> {
    let mut found = Vec::new();
    for bytes in batches {
        for part in batch::split(bytes) {
            let (header, part) = part.expect("LOG-2: only whole batches are served");
            assert!(part.len() >= HEADER_BYTES, "LOG-2: only whole batches are served");
            batch::check(part, &header).expect("LOG-2: a batch that fails its checksum was served");
            let part = bytes.slice_ref(part);
            let records = batch::records(&part, &header).expect("it was built uncompressed");
            found.extend(records.map(|record| record.expect("its checksum was right")));
        }
    }
    found.retain(|record| record.offset >= from);
    found
}

/// The values of `batches` from `from` on, with their offsets.
pub(crate) fn values(batches: &[Bytes], from: Offset) -> Vec<(u64, Value)> {
    raw_records(batches, from).iter().map(value).collect()
}

fn value(record: &Record) -> (u64, Value) {
    let value = record.value.as_deref().and_then(Value::parse);
    (record.offset.0, value.expect("the workload wrote it"))
}

/// Tails a partition until its task ends.
pub(crate) async fn tail(partition: TopicPartition, at: Addr<Partition>, world: World, book: Book) {
    let mut next = Offset::ZERO;
    loop {
        let fetch = Fetch { bytes_max: 4096, ..Fetch::from(next) }.wait(Duration::from_secs(1));
        match at.send(fetch).await {
            Ok(Ok(fetched)) => {
                for (offset, value) in values(&fetched.batches, next) {
                    book.known().reads(&partition, offset, value);
                    next = Offset(offset + 1);
                }
            }
            Ok(Err(FetchError::OutOfRange { log_start, .. })) if next < log_start => {
                next = log_start;
            }
            Ok(Err(FetchError::OutOfRange { log_end, .. })) => {
                panic!("LOG-2: {partition} gave up to {next}, and now ends at {log_end}")
            }
            Ok(Err(_)) | Err(_) => world.pass(Duration::from_millis(100)).await,
        }
    }
}

/// All that a partition holds, with its first offset.
pub(crate) async fn read_all(
    at: &Addr<Partition>,
    world: &World,
) -> Result<(u64, Vec<(u64, Value)>), FetchError> {
    let (start, records) = read_all_raw(at, world).await?;
    Ok((start, records.iter().map(value).collect()))
}

/// As [`read_all`], whatever the records are.
pub(crate) async fn read_all_raw(
    at: &Addr<Partition>,
    world: &World,
) -> Result<(u64, Vec<Record>), FetchError> {
    let (mut next, mut start, mut found) = (Offset::ZERO, Offset::ZERO, Vec::new());
    loop {
        match at.send(Fetch::from(next)).await.expect("nothing ends it any more") {
            Ok(fetched) => {
                let more = raw_records(&fetched.batches, next);
                let Some(last) = more.last() else {
                    assert_eq!(next, fetched.marks.high_watermark, "a read ends before the end");
                    return Ok((start.0, found));
                };
                next = last.offset.next();
                found.extend(more);
            }
            Err(FetchError::OutOfRange { log_start, .. })
                if found.is_empty() && next < log_start =>
            {
                (next, start) = (log_start, log_start);
            }
            Err(FetchError::Offline(offline)) if offline.is_passing => {
                world.pass(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
