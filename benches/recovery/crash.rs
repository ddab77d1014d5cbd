//! A node that is killed while it appends, and what is read of its log afterwards.

use std::{fs, path::Path, process::ExitCode};

use flumen::node::{self, NodeError, NodeOptions};
use flumen_actors::broker::partition::messages::Append;
use flumen_runtime::{
    disk::{DiskHandle, DiskMaker as _, Engine, RealDisks},
    era::Ticket,
    ids::{ArbiterId, LogId, Offset},
    log::{self, LogConfig, LogPlace, Stateless},
};
use futures::StreamExt as _;

use crate::{
    bench::{Child, tell},
    fill,
};

const BATCH_BYTES: usize = 64 << 10;
const IN_FLIGHT: usize = 32;
/// What may be written and not synced yet.
pub(crate) const IN_FLIGHT_BYTES: u64 = (BATCH_BYTES * IN_FLIGHT) as u64;

/// What the crash left, and what it took to open it.
pub(crate) struct Crash {
    pub(crate) bytes_read: u64,
    /// Bytes of whole batches beyond the recovery point.
    pub(crate) past_checkpoint: u64,
    pub(crate) has_all_acknowledged: bool,
}

/// In the child: appends to the log until it is killed, and tells which offset is acknowledged.
pub(crate) fn append_for_ever(data: &Path) -> ExitCode {
    let ended = node::run(NodeOptions::new(data), |node| async move {
        let writer = node.broker().partition(&fill::partition()).expect("the parent made it");
        let batch = fill::batch(BATCH_BYTES);
        futures::stream::repeat_with(|| writer.send(Append::new(batch.clone())))
            .buffered(IN_FLIGHT)
            .for_each(|ack| async {
                let appended = ack.expect("the partition lives").expect("the disk takes it");
                tell(appended.last_offset.0 + 1);
            })
            .await;
        Ok::<_, NodeError>(())
    });
    ended.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Has a child append some `bytes` bytes to the log below `data`, kills it, and opens the log.
pub(crate) fn run(data: &Path, engine: Engine, bytes: u64) -> Crash {
    let mut child = Child::start("append", data);
    let mut acknowledged = 0;
    for _ in 0..bytes / BATCH_BYTES as u64 {
        acknowledged = child.number();
    }
    child.kill();
    let dir = data.join(fill::partition().to_string());
    let (point_segment, point_position) = recovery_point(&dir);
    actix_rt::System::new().block_on(async {
        let disks = RealDisks::choose(engine).expect("`auto` takes what there is");
        let disk = DiskHandle::start(disks.make(ArbiterId(0), data).expect("a driver"));
        let place =
            LogPlace { ticket: Ticket::unshared(&dir), dir: dir.into(), id: LogId::default() };
        let config = LogConfig::default();
        let opened = log::open(disk, place, config, Vec::new(), &mut Stateless, 0).await;
        let (log, opened) = opened.expect("a crash damages nothing");
        let beyond = log.segments().filter(|segment| segment.base.0 >= point_segment);
        let past: u64 = beyond.map(|segment| segment.size).sum();
        Crash {
            bytes_read: opened.bytes_read,
            past_checkpoint: past - point_position,
            has_all_acknowledged: log.end() >= Offset(acknowledged),
        }
    })
}

/// Base of the segment of the newest recovery point, and the position in it.
fn recovery_point(dir: &Path) -> (u64, u64) {
    let bytes = fs::read(dir.join("recovery-point")).expect("an open log has one");
    let number = |slot: usize, at: usize| {
        let field = bytes[slot + at..slot + at + 8].try_into().expect("8 bytes");
        u64::from_be_bytes(field)
    };
    let newest = if number(0, 8) > number(512, 8) { 0 } else { 512 };
    (number(newest, 32), number(newest, 40))
}
