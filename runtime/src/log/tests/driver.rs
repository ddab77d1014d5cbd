//! Runs a log as its actor would: effects in tasks of their own, outcomes applied one by one.

use std::{path::Path, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::mpsc;

use super::super::*;
use crate::{
    batch::{self, BatchBuilder, RecordRef},
    disk::DiskHandle,
    era::{EraGate, Ticket, take_over},
    ids::LeaderEpoch,
    ids::LogId,
    journal::Journaled,
};

/// State that replay gives: which batches there were, by base offset and checksum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History(pub(super) Vec<(Offset, u32)>);

impl Owner for History {
    fn snapshot(&self) -> Option<Bytes> {
        let mut bytes = BytesMut::new();
        for (base, crc) in &self.0 {
            bytes.put_u64(base.0);
            bytes.put_u32(*crc);
        }
        Some(bytes.freeze())
    }
}

impl Replay for History {
    fn restore(&mut self, snapshot: &[u8], at: Offset) -> bool {
        let pairs = snapshot.chunks_exact(12).map(|pair| {
            let (base, crc) = pair.split_at(8);
            let base = u64::from_be_bytes(base.try_into().unwrap());
            (Offset(base), u32::from_be_bytes(crc.try_into().unwrap()))
        });
        self.0 = pairs.collect();
        assert!(self.0.last().is_none_or(|(base, _)| *base < at), "a snapshot of what came later");
        true
    }

    fn batch(&mut self, header: &BatchHeader, batch: &[u8]) {
        batch::check(batch, header).expect("recovery shows checked batches only");
        self.0.push((header.base_offset, header.crc));
    }
}

/// A batch of `count` records of `bytes` bytes each at `base`, told apart by `tag`.
pub(super) fn batch_of(base: Offset, count: u32, bytes: usize, ms: i64, tag: u64) -> Bytes {
    let mut builder = BatchBuilder::new(ms);
    let mut value = vec![b'.'; bytes.max(8)];
    value[..8].copy_from_slice(&tag.to_be_bytes());
    for index in 0..count {
        let timestamp = ms + i64::from(index);
        builder.push(RecordRef { timestamp, value: Some(&value), ..RecordRef::default() });
    }
    let mut batch = builder.build();
    batch::stamp(&mut batch, base, LeaderEpoch(0));
    batch.freeze()
}

/// A log with its owner.
pub(super) struct Driver {
    pub(super) log: Log,
    pub(super) disk: DiskHandle,
    pub(super) owner: History,
    pub(super) now_ms: i64,
    pub(super) running: usize,
    done: (mpsc::UnboundedSender<LogIoDone>, mpsc::UnboundedReceiver<LogIoDone>),
}

/// The place of the tests' log, in `dir`.
pub(super) async fn place(dir: impl AsRef<Path>, gate: &std::sync::Arc<EraGate>) -> LogPlace {
    let ticket: Ticket = take_over(gate, Duration::from_secs(60)).await.unwrap();
    LogPlace { dir: dir.as_ref().into(), id: LogId::default(), ticket }
}

impl Driver {
    pub(super) async fn open(
        disk: &DiskHandle,
        place: LogPlace,
        config: LogConfig,
        journaled: Vec<Journaled>,
        now_ms: i64,
    ) -> Result<(Driver, Opened), OpenError> {
        let mut owner = History::default();
        let (log, opened) =
            open(disk.clone(), place, config, journaled, &mut owner, now_ms).await?;
        Ok((Driver::new(log, disk, owner, now_ms), opened))
    }

    pub(super) fn new(log: Log, disk: &DiskHandle, owner: History, now_ms: i64) -> Driver {
        let done = mpsc::unbounded_channel();
        Driver { log, disk: disk.clone(), owner, now_ms, running: 0, done }
    }

    /// Appends a batch of `count` records at the log's end.
    pub(super) fn append(&mut self, count: u32, bytes: usize, tag: u64) -> Bytes {
        self.append_batch(batch_of(self.log.end(), count, bytes, self.now_ms, tag))
    }

    /// Appends a batch that stands at the end.
    pub(super) fn append_batch(&mut self, batch: Bytes) -> Bytes {
        let header = BatchHeader::parse(&batch).unwrap();
        self.log.append(batch.clone(), &header);
        self.owner.0.push((header.base_offset, header.crc));
        self.pump();
        batch
    }

    /// Starts all that may be started.
    pub(super) fn pump(&mut self) {
        while let Some(io) = self.log.next_io(self.now_ms, &self.owner) {
            self.running += 1;
            let (disk, done) = (self.disk.clone(), self.done.0.clone());
            drop(tokio::task::spawn_local(async move {
                drop(done.send(io.run(disk).await));
            }));
        }
    }

    /// Waits for one outcome and applies it; false where nothing is under way.
    pub(super) async fn step(&mut self) -> Result<bool, LogFailure> {
        self.pump();
        if self.running == 0 {
            return Ok(false);
        }
        let done = self.done.1.recv().await.expect("this driver holds a sender");
        self.apply(done)?;
        self.pump();
        Ok(true)
    }

    fn apply(&mut self, done: LogIoDone) -> Result<(), LogFailure> {
        self.running -= 1;
        self.log.on_io(done)?;
        // Before the log asks for it again: what was truncated is not known any more.
        let end = self.log.end();
        self.owner.0.retain(|(base, _)| *base < end);
        Ok(())
    }

    /// Applies what has come to its end by now, and goes on.
    pub(super) fn catch_up(&mut self) -> Result<(), LogFailure> {
        while let Ok(done) = self.done.1.try_recv() {
            self.apply(done)?;
        }
        self.pump();
        Ok(())
    }

    /// Goes on until nothing is under way.
    pub(super) async fn idle(&mut self) -> Result<(), LogFailure> {
        while self.step().await? {}
        Ok(())
    }

    /// Lets `ms` pass on the wall clock.
    pub(super) fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.log.tick(self.now_ms);
        self.pump();
    }

    /// Goes on until everything is durable and done.
    pub(super) async fn settle(&mut self) -> Result<(), LogFailure> {
        for _ in 0..100 {
            self.idle().await?;
            if self.log.durable_end() == self.log.end() && self.log.is_settled() {
                return Ok(());
            }
            self.pass(1000);
        }
        panic!("the log does not settle: {:?}", self.log);
    }

    /// Bytes of its active segment.
    pub(super) fn active_bytes(&self) -> u64 {
        self.log.segments().last().map_or(0, |segment| segment.size)
    }

    /// Closes it in order.
    pub(super) async fn close(mut self) -> ClosedLog {
        self.log.close();
        self.settle().await.expect("a sound disk closes");
        assert!(self.log.is_closed());
        self.log.to_closed().expect("it is closed")
    }

    /// Everything from the start to the written end, each batch in a buffer.
    pub(super) async fn read_all(&mut self, bytes_max: usize) -> Result<Vec<Bytes>, ReadFailure> {
        let (mut from, end) = (self.log.start(), self.log.written_end());
        let mut all = Vec::new();
        while from < end {
            let plan = self.log.plan_read(from, end, bytes_max).expect("inside the log");
            let done = plan.run(self.disk.clone()).await?;
            self.log.note_read(&done);
            let mut at = 0;
            for found in batch::split(&done.batches) {
                let (header, batch) = found.expect("whole batches");
                batch::check(batch, &header).expect("checked batches");
                all.push(done.batches.slice(at..at + batch.len()));
                at += batch.len();
            }
            assert!(done.next > from, "a read within the log goes on");
            from = done.next;
        }
        Ok(all)
    }
}
