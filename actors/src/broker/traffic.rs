//! What goes into a topic and out of it, counted for whoever watches: two relaxed additions for each
//! batch that is appended, and two for each answer with records.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use flumen_runtime::batch::{self, BatchHeader};

/// The counters of one topic, which its partitions share.
#[derive(Debug, Default)]
pub struct Traffic {
    records_in: AtomicU64,
    bytes_in: AtomicU64,
    records_out: AtomicU64,
    bytes_out: AtomicU64,
}

/// What was counted of a topic since the node began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Records that were appended.
    pub records_in: u64,
    /// Bytes of their batches, as they are stored.
    pub bytes_in: u64,
    /// Records that consumers were given, again where they asked again.
    pub records_out: u64,
    /// Bytes of their batches.
    pub bytes_out: u64,
}

impl Traffic {
    /// A batch was appended.
    pub(crate) fn came_in(&self, header: &BatchHeader, bytes: usize) {
        self.records_in.fetch_add(header.record_count.into(), Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    /// A consumer is given these batches.
    pub(crate) fn goes_out<'a>(&self, batches: impl IntoIterator<Item = &'a Bytes>) {
        let (mut records, mut bytes) = (0, 0);
        for slice in batches {
            bytes += slice.len() as u64;
            let whole = batch::split(slice).map_while(Result::ok);
            records += whole.map(|(header, _)| u64::from(header.record_count)).sum::<u64>();
        }
        if bytes > 0 {
            self.records_out.fetch_add(records, Relaxed);
            self.bytes_out.fetch_add(bytes, Relaxed);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn moved(&self) -> Moved {
        Moved {
            records_in: self.records_in.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            records_out: self.records_out.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use flumen_runtime::batch::{BatchBuilder, RecordRef};

    use super::*;

    fn batch(records: usize) -> Bytes {
        let mut builder = BatchBuilder::new(0);
        (0..records)
            .for_each(|_| builder.push(RecordRef { value: Some(b"v"), ..RecordRef::default() }));
        builder.build().freeze()
    }

    #[test]
    fn records_and_bytes_are_counted_each_way_however_batches_are_cut() {
        let traffic = Traffic::default();
        let [one, three] = [batch(1), batch(3)];
        traffic.came_in(&BatchHeader::parse(&three).unwrap(), three.len());
        let both = Bytes::from([&one[..], &three[..]].concat());
        traffic.goes_out([&both, &three]);
        traffic.goes_out([]);
        let bytes_out = (both.len() + three.len()) as u64;
        let moved =
            Moved { records_in: 3, bytes_in: three.len() as u64, records_out: 7, bytes_out };
        assert_eq!(traffic.moved(), moved);
    }
}
