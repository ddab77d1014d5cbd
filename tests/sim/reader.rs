//! Readers: one that tails a partition while all goes wrong, and one that reads it all in the end.

use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use flumen_actors::broker::{
    names::TopicPartition,
    partition::{
        Partition,
        messages::{Fetch, FetchError, Fetched},
    },
};
use flumen_runtime::{
    batch::{self, HEADER_BYTES},
    ids::Offset,
    sim::World,
};

use crate::{book::Book, oracle::Value};

/// The records of `fetched` from `from` on, with their offsets.
pub(crate) fn records(fetched: &Fetched, from: Offset) -> Vec<(u64, Value)> {
    let mut found = Vec::new();
    for bytes in &fetched.batches {
        for part in batch::split(bytes) {
            let (header, part) = part.expect("LOG-2: only whole batches are served");
            assert!(part.len() >= HEADER_BYTES, "LOG-2: only whole batches are served");
            batch::check(part, &header).expect("LOG-2: a batch that fails its checksum was served");
            let part = Bytes::copy_from_slice(part);
            let records = batch::records(&part, &header).expect("it was built uncompressed");
            for record in records {
                let record = record.expect("its checksum was right");
                let value = record.value.as_deref().and_then(Value::parse);
                found.push((record.offset.0, value.expect("the workload wrote it")));
            }
        }
    }
    found.retain(|(offset, _)| *offset >= from.0);
    found
}

/// Tails a partition until its task ends.
pub(crate) async fn tail(partition: TopicPartition, at: Addr<Partition>, world: World, book: Book) {
    let mut next = Offset::ZERO;
    loop {
        let fetch = Fetch { bytes_max: 4096, ..Fetch::from(next) }.wait(Duration::from_secs(1));
        match at.send(fetch).await {
            Ok(Ok(fetched)) => {
                for (offset, value) in records(&fetched, next) {
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
    let (mut next, mut start, mut found) = (Offset::ZERO, Offset::ZERO, Vec::new());
    loop {
        match at.send(Fetch::from(next)).await.expect("nothing ends it any more") {
            Ok(fetched) => {
                let more = records(&fetched, next);
                let Some((last, _)) = more.last() else {
                    assert_eq!(next, fetched.marks.high_watermark, "a read ends before the end");
                    return Ok((start.0, found));
                };
                next = Offset(last + 1);
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
