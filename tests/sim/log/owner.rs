//! The owner of the simulated log: drives its effects, and keeps state that replay must give again.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use flumen_runtime::{
    batch::{self, BatchHeader},
    disk::DiskHandle,
    ids::Offset,
    log::{Log, LogFailure, LogIoDone, Owner, Replay},
};
use tokio::sync::mpsc;

/// Checksums of all batches by base offset: what replaying the log gives.
#[derive(Clone, Debug, Default)]
pub(super) struct History(BTreeMap<u64, u32>);

impl History {
    pub(super) fn note(&mut self, header: &BatchHeader) {
        self.0.insert(header.base_offset.0, header.crc);
    }

    /// What is from `offset` on is gone.
    pub(super) fn cut(&mut self, offset: u64) {
        self.0.split_off(&offset);
    }

    /// Compares with the batches that there should be; older ones than `start` it may know or not,
    /// and those below `compacted_to` it may know as they were, or as compaction left them.
    pub(super) fn check<'a>(
        &self,
        batches: impl Iterator<Item = (u64, &'a [u8])>,
        start: u64,
        compacted_to: u64,
    ) {
        let start = start.max(compacted_to);
        let known: Vec<_> = self.0.range(start..).map(|(base, crc)| (*base, *crc)).collect();
        let crc = |batch: &[u8]| BatchHeader::parse(batch).expect("it was appended").crc;
        let wanted: Vec<_> = batches
            .filter(|(base, _)| *base >= start)
            .map(|(base, bytes)| (base, crc(bytes)))
            .collect();
        assert!(known == wanted, "LOG-2: replay gives {known:?}, appended were {wanted:?}");
    }
}

impl Owner for History {
    fn snapshot(&self) -> Option<Bytes> {
        let mut bytes = BytesMut::new();
        for (base, crc) in &self.0 {
            bytes.put_u64(*base);
            bytes.put_u32(*crc);
        }
        Some(bytes.freeze())
    }
}

impl Replay for History {
    fn restore(&mut self, snapshot: &[u8], at: Offset) -> bool {
        self.0.clear();
        for pair in snapshot.chunks_exact(12) {
            let (base, crc) = pair.split_at(8);
            let base = u64::from_be_bytes(base.try_into().expect("it was split there"));
            assert!(base < at.0, "LOG-2: the state kept at {at} knows of {base}");
            let crc = u32::from_be_bytes(crc.try_into().expect("it was split there"));
            self.0.insert(base, crc);
        }
        true
    }

    fn batch(&mut self, header: &BatchHeader, batch: &[u8]) {
        batch::check(batch, header).expect("LOG-2: replay shows a batch that fails its checksum");
        self.note(header);
    }
}

/// A log, its owner, and what is under way.
pub(super) struct Driver {
    pub(super) log: Log,
    pub(super) disk: DiskHandle,
    pub(super) owner: History,
    running: usize,
    done: (mpsc::UnboundedSender<LogIoDone>, mpsc::UnboundedReceiver<LogIoDone>),
}

impl Driver {
    pub(super) fn new(log: Log, disk: DiskHandle, owner: History) -> Driver {
        Driver { log, disk, owner, running: 0, done: mpsc::unbounded_channel() }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.running > 0 || !self.log.is_settled()
    }

    /// Starts all that may be started.
    pub(super) fn pump(&mut self, now_ms: i64) {
        while let Some(io) = self.log.next_io(now_ms, &self.owner) {
            self.running += 1;
            let (disk, done) = (self.disk.clone(), self.done.0.clone());
            drop(tokio::task::spawn_local(async move {
                // The driver may be gone, as with its process.
                drop(done.send(io.run(disk).await));
            }));
        }
    }

    /// Applies what has come to its end; the first failure, where there is one.
    pub(super) fn settle(&mut self) -> Result<(), LogFailure> {
        let mut first = Ok(());
        while let Ok(done) = self.done.1.try_recv() {
            self.running -= 1;
            let applied = self.log.on_io(done);
            first = first.and(applied);
        }
        first
    }
}
